// Decompression of Postgres's own LZ format (pg_lzcompress.c), as found in full-page images.
//
//   a control byte, then eight items, its bits from the lowest up:
//     0  one literal byte
//     1  a match: [offset high 4 bits | length-3 low 4 bits] [offset low 8 bits] [length-18 if length-3 was 15]
//
// A match may overlap what it writes. Every read and write is bounded; bytes that do not add up return -1.

/** Decompress into `target[0, targetLength)`; the number of bytes written, or -1 for bytes that are not pglz. */
export function pglzDecompress(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  targetLength: number,
): number {
  let at = start;
  let to = 0;
  while (at < end && to < targetLength) {
    let control = source[at++]!;
    for (let item = 0; item < 8 && at < end && to < targetLength; item++, control >>= 1) {
      if ((control & 1) === 0) {
        target[to++] = source[at++]!;
        continue;
      }
      if (at + 2 > end) return -1;
      const first = source[at]!;
      let length = (first & 0x0f) + 3;
      const back = ((first & 0xf0) << 4) | source[at + 1]!;
      at += 2;
      if (length === 18) {
        if (at >= end) return -1;
        length += source[at++]!;
      }
      if (back === 0 || back > to) return -1;
      if (length > targetLength - to) length = targetLength - to;
      const from = to - back;
      if (back >= length) target.copyWithin(to, from, from + length);
      else for (let i = 0; i < length; i++) target[to + i] = target[from + i]!;
      to += length;
    }
  }
  return at === end ? to : -1;
}
