// What a job is handed and hands back: one buffer, transferred and not shared, with a small description in front.
//
//   0  header length u32 | pieces u32
//   8  pieces x length f64
//   .  header: JSON, UTF-8
//   .  the pieces, each at a multiple of eight, so that typed arrays can lie over them
//
// A Parcel may be filled piece by piece: large ones are, with turns of the event loop in between.

import { assert } from '../../base/assert.ts';
import { fromUtf8, utf8 } from '../../base/bytes.ts';

const align = (n: number): number => Math.ceil(n / 8) * 8;

export class Parcel {
  readonly bytes: Uint8Array;
  private readonly places: number[] = [];

  /** Over a buffer that `take` gives, of so many bytes at least; or over its own. */
  constructor(
    header: unknown,
    lengths: readonly number[],
    take = (bytes: number): ArrayBuffer => new ArrayBuffer(bytes),
  ) {
    const text = utf8(JSON.stringify(header));
    let at = align(8 + lengths.length * 8 + text.length);
    for (const length of lengths) {
      this.places.push(at);
      at = align(at + length);
    }
    this.bytes = new Uint8Array(take(at));
    const view = new DataView(this.bytes.buffer);
    view.setUint32(0, text.length, true);
    view.setUint32(4, lengths.length, true);
    lengths.forEach((length, i) => {
      view.setFloat64(8 + i * 8, length, true);
    });
    this.bytes.set(text, 8 + lengths.length * 8);
  }

  /** Write part of a piece. */
  fill(piece: number, bytes: Uint8Array, at = 0): void {
    this.bytes.set(bytes, this.places[piece]! + at);
  }

  static of(header: unknown, pieces: readonly ArrayBufferView[]): Uint8Array {
    const parcel = new Parcel(
      header,
      pieces.map(piece => piece.byteLength),
    );
    pieces.forEach((piece, i) => {
      parcel.fill(i, bytesOf(piece));
    });
    return parcel.bytes;
  }
}

const bytesOf = (view: ArrayBufferView): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

export interface OpenParcel<H> {
  readonly header: H;
  /** Views of the parcel, each at a multiple of eight. */
  readonly pieces: readonly Uint8Array[];
}

export function openParcel<H>(bytes: Uint8Array): OpenParcel<H> {
  assert(bytes.byteOffset % 8 === 0, 'a parcel lies at a multiple of eight');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = view.getUint32(0, true);
  const count = view.getUint32(4, true);
  const from = 8 + count * 8;
  const header = JSON.parse(fromUtf8(bytes.subarray(from, from + headerLength))) as H;
  const pieces: Uint8Array[] = [];
  let at = align(from + headerLength);
  for (let i = 0; i < count; i++) {
    const length = view.getFloat64(8 + i * 8, true);
    pieces.push(bytes.subarray(at, at + length));
    at = align(at + length);
  }
  return { header, pieces };
}

const over = <T>(
  make: new (buffer: ArrayBufferLike, offset: number, length: number) => T,
  bytes: Uint8Array,
  size: number,
): T => new make(bytes.buffer, bytes.byteOffset, bytes.length / size);

export const asUint16 = (bytes: Uint8Array): Uint16Array => over(Uint16Array, bytes, 2);
export const asUint32 = (bytes: Uint8Array): Uint32Array => over(Uint32Array, bytes, 4);
export const asInt32 = (bytes: Uint8Array): Int32Array => over(Int32Array, bytes, 4);
export const asFloat64 = (bytes: Uint8Array): Float64Array => over(Float64Array, bytes, 8);
