// Decompression of a raw LZ4 block (LZ4_decompress_safe), as found in full-page images.
//
//   sequences: a token [literal count 4 bits | match length-4 4 bits], more count bytes while they are 255,
//   the literals, offset u16 little-endian, more length bytes while they are 255. The last sequence has
//   literals only.
//
// A match may overlap what it writes. Every read and write is bounded; bytes that do not add up return -1.

/** Decompress into `target[0, targetLength)`; the number of bytes written, or -1 for bytes that are not LZ4. */
export function lz4Decompress(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  targetLength: number,
): number {
  let at = start;
  let to = 0;
  while (at < end) {
    const token = source[at++]!;
    let literals = token >>> 4;
    if (literals === 15) {
      let more = 255;
      while (more === 255) {
        if (at >= end) return -1;
        more = source[at++]!;
        literals += more;
      }
    }
    if (at + literals > end || to + literals > targetLength) return -1;
    if (literals > 24) target.set(source.subarray(at, at + literals), to);
    else for (let i = 0; i < literals; i++) target[to + i] = source[at + i]!;
    at += literals;
    to += literals;
    if (at === end) return to;

    if (at + 2 > end) return -1;
    const back = source[at]! | (source[at + 1]! << 8);
    at += 2;
    let length = token & 0x0f;
    if (length === 15) {
      let more = 255;
      while (more === 255) {
        if (at >= end) return -1;
        more = source[at++]!;
        length += more;
      }
    }
    length += 4;
    if (back === 0 || back > to || to + length > targetLength) return -1;
    const from = to - back;
    if (back >= length && length > 16) target.copyWithin(to, from, from + length);
    else for (let i = 0; i < length; i++) target[to + i] = target[from + i]!;
    to += length;
  }
  return -1;
}
