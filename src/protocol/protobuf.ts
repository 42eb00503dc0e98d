// Protocol buffers, as much as our messages use: fields written one by one, fields read one by one. A message's
// codec is a few lines that name its fields by number, beside its type; nothing is generated.
//
//   field   key varint (number << 3 | wire type) | value
//   wire    0 varint   1 eight bytes   2 length varint and bytes   5 four bytes
//
// Zero, false, empty text and empty bytes are left out, as proto3 does, unless written by an `always` form (an
// `optional` field that is there). Unknown fields are skipped. A u64 is read as a number when it is below 2^53,
// which LSNs, terms and node ids are; `bigint()` reads any.

import { fromUtf8, toHex, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { type Lsn, MAX_LSN } from '../base/lsn.ts';

const broken = (why: string): Fault => new Fault('protocol-violation', `protobuf: ${why}`);

export class ProtoWriter {
  private bytes: Uint8Array;
  private length = 0;

  constructor(capacity = 128) {
    this.bytes = new Uint8Array(capacity);
  }

  private room(count: number): void {
    if (this.length + count <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(this.length + count, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  private varint(value: number): void {
    this.room(10);
    let v = value;
    while (v >= 0x80) {
      this.bytes[this.length++] = (v % 0x80) | 0x80;
      v = Math.floor(v / 0x80);
    }
    this.bytes[this.length++] = v;
  }

  private bigVarint(value: bigint): void {
    this.room(10);
    let v = BigInt.asUintN(64, value);
    while (v >= 0x80n) {
      this.bytes[this.length++] = Number(v & 0x7fn) | 0x80;
      v >>= 7n;
    }
    this.bytes[this.length++] = Number(v);
  }

  /** A whole number from 0 to 2^53; a field of any unsigned kind, an enum, a bool. */
  alwaysUint(field: number, value: number): this {
    this.varint(field * 8);
    if (value === MAX_LSN) this.bigVarint(-1n);
    else this.varint(value);
    return this;
  }

  uint(field: number, value: number): this {
    return value === 0 ? this : this.alwaysUint(field, value);
  }

  bool(field: number, value: boolean): this {
    return value ? this.alwaysUint(field, 1) : this;
  }

  /** int64 or uint64 of any size. */
  alwaysBigint(field: number, value: bigint): this {
    this.varint(field * 8);
    this.bigVarint(value);
    return this;
  }

  bigint(field: number, value: bigint): this {
    return value === 0n ? this : this.alwaysBigint(field, value);
  }

  alwaysBytes(field: number, value: Uint8Array): this {
    this.varint(field * 8 + 2);
    this.varint(value.length);
    this.room(value.length);
    this.bytes.set(value, this.length);
    this.length += value.length;
    return this;
  }

  bytesField(field: number, value: Uint8Array): this {
    return value.length === 0 ? this : this.alwaysBytes(field, value);
  }

  alwaysText(field: number, value: string): this {
    return this.alwaysBytes(field, utf8(value));
  }

  text(field: number, value: string): this {
    return value === '' ? this : this.alwaysText(field, value);
  }

  /** A message inside; written whole, also when it is empty. */
  message(field: number, write: (w: ProtoWriter) => void): this {
    const inner = new ProtoWriter(64);
    write(inner);
    return this.alwaysBytes(field, inner.bytes.subarray(0, inner.length));
  }

  finish(): Uint8Array {
    return this.bytes.slice(0, this.length);
  }
}

export class ProtoReader {
  private readonly data: Uint8Array;
  private at = 0;
  private readonly end: number;
  /** The field that `next` came to. */
  field = 0;
  private wire = 0;

  constructor(bytes: Uint8Array) {
    this.data = bytes;
    this.end = bytes.length;
  }

  /** Goes to the next field; false at the end. Its value must then be read, or skipped. */
  next(): boolean {
    if (this.at >= this.end) return false;
    const key = this.varint();
    this.field = Math.floor(key / 8);
    this.wire = key % 8;
    if (this.field === 0) throw broken('field 0');
    return true;
  }

  private byte(): number {
    if (this.at >= this.end) throw broken('it ends inside a field');
    return this.data[this.at++]!;
  }

  private varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; i++) {
      const b = this.byte();
      value += (b & 0x7f) * scale;
      if (b < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) throw broken('a number past 2^53');
        return value;
      }
      scale *= 0x80;
    }
    throw broken('a number of more than ten bytes');
  }

  private expect(wire: number): void {
    if (this.wire !== wire) throw broken(`field ${this.field} has wire type ${this.wire}, not ${wire}`);
  }

  uint(): number {
    this.expect(0);
    return this.varint();
  }

  bool(): boolean {
    return this.uint() !== 0;
  }

  lsn(): Lsn {
    const value = this.bigint();
    if (value === 0xffff_ffff_ffff_ffffn) return MAX_LSN;
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw broken('an LSN past 2^53');
    return Number(value) as Lsn;
  }

  /** A uint64 of any size; `BigInt.asIntN(64, x)` makes it an int64. */
  bigint(): bigint {
    this.expect(0);
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const b = this.byte();
      value |= BigInt(b & 0x7f) << shift;
      if (b < 0x80) return BigInt.asUintN(64, value);
    }
    throw broken('a number of more than ten bytes');
  }

  /** A view of the bytes of a field. */
  bytes(): Uint8Array {
    this.expect(2);
    const length = this.varint();
    if (length > this.end - this.at) throw broken(`field ${this.field} claims ${length} bytes`);
    const bytes = this.data.subarray(this.at, this.at + length);
    this.at += length;
    return bytes;
  }

  text(): string {
    return fromUtf8(this.bytes());
  }

  /** An id of 16 bytes as hex. */
  id(): string {
    const bytes = this.bytes();
    if (bytes.length !== 16) throw broken(`an id of ${bytes.length} bytes`);
    return toHex(bytes);
  }

  message(): ProtoReader {
    return new ProtoReader(this.bytes());
  }

  skip(): void {
    switch (this.wire) {
      case 0:
        for (let i = 0; i < 10; i++) if (this.byte() < 0x80) return;
        throw broken('a number of more than ten bytes');
      case 1:
        this.advance(8);
        break;
      case 2:
        this.bytes();
        break;
      case 5:
        this.advance(4);
        break;
      default:
        throw broken(`wire type ${this.wire}`);
    }
  }

  private advance(count: number): void {
    if (count > this.end - this.at) throw broken('it ends inside a field');
    this.at += count;
  }
}
