// CRC-32C (Castagnoli), as Postgres uses it for WAL records, pg_control, relmap and two-phase files.
//
// Sixteen tables, sixteen bytes a step ("slice by 16"): four 32-bit reads through a DataView and sixteen look-ups,
// about 3 GB/s on one core. From half a kilobyte on the processor's own instruction, behind @node-rs/crc32, is
// faster by more than the 100 ns that a call out of JavaScript takes. The state between calls is the inverted
// register, as INIT/COMP/FIN_CRC32C have it, so a checksum may be fed in pieces: `crc32c(b, 0, n)` is
// FIN(COMP(INIT, b)).
//
// Mirrors src/port/pg_crc32c_sb8.c in effect.

import { crc32c as nativeCrc32c } from '@node-rs/crc32';

/** From this length on a call out of JavaScript pays. */
const NATIVE_LENGTH_MIN = 512;

const POLYNOMIAL = 0x82f63b78;

const SLICES = 16;
/** Table t, from 256 * t on: what a byte does to the register when t more bytes follow it in the step. */
const T: Int32Array = (() => {
  const table = new Int32Array(SLICES * 256);
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ POLYNOMIAL : c >>> 1;
    table[n] = c;
  }
  for (let n = 256; n < table.length; n++) {
    const previous = table[n - 256]!;
    table[n] = (previous >>> 8) ^ table[previous & 0xff]!;
  }
  return table;
})();

/** INIT_CRC32C */
export const CRC32C_INIT = -1;

/** COMP_CRC32C over `view[start, end)`. */
export function crc32cUpdate(state: number, view: DataView, start: number, end: number): number {
  let crc = state;
  let at = start;
  for (const last = end - 16; at <= last; at += 16) {
    const a = view.getInt32(at, true) ^ crc;
    const b = view.getInt32(at + 4, true);
    const c = view.getInt32(at + 8, true);
    const d = view.getInt32(at + 12, true);
    crc =
      T[0xf00 + (a & 0xff)]! ^
      T[0xe00 + ((a >>> 8) & 0xff)]! ^
      T[0xd00 + ((a >>> 16) & 0xff)]! ^
      T[0xc00 + (a >>> 24)]! ^
      T[0xb00 + (b & 0xff)]! ^
      T[0xa00 + ((b >>> 8) & 0xff)]! ^
      T[0x900 + ((b >>> 16) & 0xff)]! ^
      T[0x800 + (b >>> 24)]! ^
      T[0x700 + (c & 0xff)]! ^
      T[0x600 + ((c >>> 8) & 0xff)]! ^
      T[0x500 + ((c >>> 16) & 0xff)]! ^
      T[0x400 + (c >>> 24)]! ^
      T[0x300 + (d & 0xff)]! ^
      T[0x200 + ((d >>> 8) & 0xff)]! ^
      T[0x100 + ((d >>> 16) & 0xff)]! ^
      T[d >>> 24]!;
  }
  // What is left, fifteen bytes at most.
  if (at <= end - 8) {
    const a = view.getInt32(at, true) ^ crc;
    const b = view.getInt32(at + 4, true);
    crc =
      T[0x700 + (a & 0xff)]! ^
      T[0x600 + ((a >>> 8) & 0xff)]! ^
      T[0x500 + ((a >>> 16) & 0xff)]! ^
      T[0x400 + (a >>> 24)]! ^
      T[0x300 + (b & 0xff)]! ^
      T[0x200 + ((b >>> 8) & 0xff)]! ^
      T[0x100 + ((b >>> 16) & 0xff)]! ^
      T[b >>> 24]!;
    at += 8;
  }
  if (at <= end - 4) {
    const a = view.getInt32(at, true) ^ crc;
    crc =
      T[0x300 + (a & 0xff)]! ^
      T[0x200 + ((a >>> 8) & 0xff)]! ^
      T[0x100 + ((a >>> 16) & 0xff)]! ^
      T[a >>> 24]!;
    at += 4;
  }
  for (; at < end; at++) crc = T[(crc ^ view.getUint8(at)) & 0xff]! ^ (crc >>> 8);
  return crc;
}

/** FIN_CRC32C */
export const crc32cFinish = (state: number): number => (state ^ -1) >>> 0;

/** The checksum of one range of bytes. */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length): number {
  if (end - start >= NATIVE_LENGTH_MIN) return nativeCrc32c(bytes.subarray(start, end));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return crc32cFinish(crc32cUpdate(CRC32C_INIT, view, start, end));
}

/** A record's checksum: everything after its header first, then the header up to xl_crc. */
export function recordCrc(bytes: Uint8Array, view: DataView, offset: number, totalLength: number): number {
  const end = offset + totalLength;
  const body =
    totalLength >= NATIVE_LENGTH_MIN
      ? nativeCrc32c(bytes.subarray(offset + 24, end)) ^ -1
      : crc32cUpdate(CRC32C_INIT, view, offset + 24, end);
  return crc32cFinish(crc32cUpdate(body, view, offset, offset + 20));
}
