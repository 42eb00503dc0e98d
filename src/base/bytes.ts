// Bytes read and written in order: Cursor over bytes that are there, Builder for bytes that are being made.
// Endianness is said at each call (`u32` is big-endian as on the wire, `u32le` as in Postgres's structs). A read
// past the end is a Fault `bytes-short`. Hot paths use a DataView with offsets instead.

import { Fault } from './fault.ts';
import { type Lsn, readLsnBE, readLsnLE, writeLsnBE, writeLsnLE } from './lsn.ts';

export const EMPTY_BYTES = new Uint8Array(0);

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const decoder = new TextDecoder();
const encoder = new TextEncoder();
export const utf8 = (text: string): Uint8Array => encoder.encode(text);
export const fromUtf8 = (bytes: Uint8Array): string => decoder.decode(bytes);

export function concatBytes(pieces: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Less is not worth the call: the collector finds it when it comes by. */
const GIVEN_BACK_BYTES_MIN = 4096;

/**
 * Frees bytes that nobody looks at any more, at once: a stream of large buffers left to the collector has it search the
 * whole heap every 64 MB of them. For whoever made them or was handed them for good; bytes that are a part of a
 * larger buffer are left alone, for the rest of it may be another's.
 */
export function giveBack(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (bytes.byteLength >= GIVEN_BACK_BYTES_MIN && buffer.byteLength === bytes.byteLength)
    giveBackBuffer(bytes);
}

/** As `giveBack`, with all of the buffer that the bytes are a part of. */
export function giveBackBuffer({ buffer }: ArrayBufferView): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength > 0) buffer.transfer(0);
}

export const toHex = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
export const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));

export class Cursor {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  at: number;
  readonly end: number;

  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.bytes = bytes;
    this.view = viewOf(bytes);
    this.at = at;
    this.end = end;
  }

  get left(): number {
    return this.end - this.at;
  }

  private take(count: number): number {
    const at = this.at;
    if (count < 0 || at + count > this.end) {
      throw new Fault('bytes-short', `${count} bytes wanted at ${at}, ${this.end - at} are left`);
    }
    this.at = at + count;
    return at;
  }

  u8 = (): number => this.view.getUint8(this.take(1));
  u16 = (): number => this.view.getUint16(this.take(2));
  u32 = (): number => this.view.getUint32(this.take(4));
  i16 = (): number => this.view.getInt16(this.take(2));
  i32 = (): number => this.view.getInt32(this.take(4));
  u64 = (): bigint => this.view.getBigUint64(this.take(8));
  i64 = (): bigint => this.view.getBigInt64(this.take(8));
  lsn = (): Lsn => readLsnBE(this.view, this.take(8));
  u16le = (): number => this.view.getUint16(this.take(2), true);
  u32le = (): number => this.view.getUint32(this.take(4), true);
  i32le = (): number => this.view.getInt32(this.take(4), true);
  u64le = (): bigint => this.view.getBigUint64(this.take(8), true);
  i64le = (): bigint => this.view.getBigInt64(this.take(8), true);
  lsnle = (): Lsn => readLsnLE(this.view, this.take(8));

  /** A view of the next bytes, not a copy. */
  raw(count: number): Uint8Array {
    const at = this.take(count);
    return this.bytes.subarray(at, at + count);
  }

  skip(count: number): void {
    this.take(count);
  }

  /** Text up to a zero byte. */
  cstr(): string {
    const zero = this.bytes.indexOf(0, this.at);
    if (zero < 0 || zero >= this.end) throw new Fault('bytes-short', `text at ${this.at} has no end`);
    const text = fromUtf8(this.bytes.subarray(this.at, zero));
    this.at = zero + 1;
    return text;
  }
}

export class Builder {
  private buffer: Uint8Array;
  private view: DataView;
  length = 0;

  constructor(capacity = 256) {
    this.buffer = new Uint8Array(capacity);
    this.view = viewOf(this.buffer);
  }

  private room(count: number): number {
    const at = this.length;
    const wanted = at + count;
    if (wanted > this.buffer.length) {
      const grown = new Uint8Array(Math.max(wanted, this.buffer.length * 2));
      grown.set(this.buffer.subarray(0, at));
      this.buffer = grown;
      this.view = viewOf(grown);
    }
    this.length = wanted;
    return at;
  }

  u8(v: number): this {
    const at = this.room(1);
    this.view.setUint8(at, v);
    return this;
  }
  u16(v: number): this {
    const at = this.room(2);
    this.view.setUint16(at, v);
    return this;
  }
  u32(v: number): this {
    const at = this.room(4);
    this.view.setUint32(at, v);
    return this;
  }
  i32(v: number): this {
    const at = this.room(4);
    this.view.setInt32(at, v);
    return this;
  }
  u64(v: bigint): this {
    const at = this.room(8);
    this.view.setBigUint64(at, v);
    return this;
  }
  i64(v: bigint): this {
    const at = this.room(8);
    this.view.setBigInt64(at, v);
    return this;
  }
  lsn(v: number): this {
    const at = this.room(8);
    writeLsnBE(this.view, at, v);
    return this;
  }
  u16le(v: number): this {
    const at = this.room(2);
    this.view.setUint16(at, v, true);
    return this;
  }
  u32le(v: number): this {
    const at = this.room(4);
    this.view.setUint32(at, v, true);
    return this;
  }
  i32le(v: number): this {
    const at = this.room(4);
    this.view.setInt32(at, v, true);
    return this;
  }
  u64le(v: bigint): this {
    const at = this.room(8);
    this.view.setBigUint64(at, v, true);
    return this;
  }
  lsnle(v: number): this {
    const at = this.room(8);
    writeLsnLE(this.view, at, v);
    return this;
  }
  raw(bytes: Uint8Array): this {
    const at = this.room(bytes.length);
    this.buffer.set(bytes, at);
    return this;
  }
  zeros(count: number): this {
    const at = this.room(count);
    this.buffer.fill(0, at, at + count);
    return this;
  }
  cstr(text: string): this {
    return this.raw(utf8(text)).u8(0);
  }
  text(text: string): this {
    return this.raw(utf8(text));
  }
  /** Write a u32 at a place left free earlier. */
  patchU32(at: number, v: number): this {
    this.view.setUint32(at, v);
    return this;
  }
  /** The bytes so far, as a copy of just their length. */
  finish(): Uint8Array {
    return this.buffer.slice(0, this.length);
  }
}
