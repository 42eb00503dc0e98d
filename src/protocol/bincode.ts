// Bincode as Neon's services write it between themselves: big-endian, fixed widths, nothing left out.
//
//   number    its bytes                      enum      variant u32, then its fields
//   option    u8 0, or u8 1 and the value    struct    its fields in order
//   bytes, text, list    length u64, then the items
//
// Answers to BeSer of libs/utils/src/bin_ser.rs.

import { Builder, Cursor, fromUtf8, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import type { Lsn } from '../base/lsn.ts';

const HIGH = 0x1_0000_0000;

export class BincodeWriter {
  private readonly b: Builder;

  constructor(capacity = 128) {
    this.b = new Builder(capacity);
  }

  get length(): number {
    return this.b.length;
  }

  u8(v: number): this {
    this.b.u8(v);
    return this;
  }
  u16(v: number): this {
    this.b.u16(v);
    return this;
  }
  u32(v: number): this {
    this.b.u32(v);
    return this;
  }
  bool(v: boolean): this {
    return this.u8(v ? 1 : 0);
  }
  /** Of a number below 2^53. */
  u64(v: number): this {
    this.b.u32(Math.floor(v / HIGH)).u32(v % HIGH);
    return this;
  }
  u64big(v: bigint): this {
    this.b.u64(BigInt.asUintN(64, v));
    return this;
  }
  i64(v: bigint): this {
    this.b.i64(v);
    return this;
  }
  lsn(v: number): this {
    this.b.lsn(v);
    return this;
  }
  variant(index: number): this {
    return this.u32(index);
  }
  bytes(v: Uint8Array): this {
    this.u64(v.length);
    this.b.raw(v);
    return this;
  }
  text(v: string): this {
    return this.bytes(utf8(v));
  }
  option<T>(v: T | undefined, write: (v: T) => unknown): this {
    this.bool(v !== undefined);
    if (v !== undefined) write(v);
    return this;
  }
  list<T>(items: readonly T[], write: (v: T) => unknown): this {
    this.u64(items.length);
    for (const item of items) write(item);
    return this;
  }
  finish(): Uint8Array {
    return this.b.finish();
  }
}

export class BincodeReader {
  private readonly c: Cursor;

  constructor(bytes: Uint8Array) {
    this.c = new Cursor(bytes);
  }

  get left(): number {
    return this.c.left;
  }

  u8 = (): number => this.c.u8();
  u16 = (): number => this.c.u16();
  u32 = (): number => this.c.u32();
  bool = (): boolean => this.c.u8() !== 0;
  u64big = (): bigint => this.c.u64();
  i64 = (): bigint => this.c.i64();
  lsn = (): Lsn => this.c.lsn();
  u64 = (): number => {
    const value = this.c.u64();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw broken('a number past 2^53');
    return Number(value);
  };
  /** A view. */
  bytes = (): Uint8Array => this.c.raw(this.u64());
  text = (): string => fromUtf8(this.bytes());

  option<T>(read: () => T): T | undefined {
    return this.bool() ? read() : undefined;
  }

  list<T>(read: () => T): T[] {
    const count = this.u64();
    if (count > this.c.left) throw broken(`${count} items in ${this.c.left} bytes`);
    return Array.from({ length: count }, read);
  }

  /** Nothing may be left. */
  finish(): void {
    if (this.c.left > 0) throw broken(`${this.c.left} bytes are left over`);
  }
}

const broken = (why: string): Fault => new Fault('protocol-violation', `bincode: ${why}`);
