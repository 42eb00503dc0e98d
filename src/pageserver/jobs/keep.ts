// Which values of one key must be kept, given what may still be read: everything from `cutoff` on, and the LSNs in
// `points` (branch points, leases). A read at p needs the newest base at or below p and all that lies between; a
// value that no such read needs is dropped when its layer is merged.
//
//   LSN     10    20    30    40    50    60          cutoff 45, points [25]
//   values  base  edit  base  edit  base  edit
//   kept    x     x     x     x     x     x           25 needs 10, 20;  45 needs 30, 40;  later reads 50, 60

import { isBase } from '../value.ts';

export interface Readable {
  readonly cutoff: number;
  /** Below the cutoff, ascending. */
  readonly points: readonly number[];
}

/**
 * Mark what is needed of values 0 to count - 1 (oldest first) in `keep`; answers how many are. A read that finds
 * no base among them needs all there are below it, for the base is in an older layer.
 */
export function markNeeded(
  lsn: readonly number[],
  kind: readonly number[],
  count: number,
  readable: Readable,
  keep: Uint8Array,
): number {
  keep.fill(0, 0, count);
  for (const point of readable.points) markFor(lsn, kind, count, point, keep);
  // The newest base at or below the cutoff, and everything after it.
  let from = 0;
  for (let i = 0; i < count && lsn[i]! <= readable.cutoff; i++) if (isBase(kind[i]!)) from = i;
  keep.fill(1, from, count);
  let kept = 0;
  for (let i = 0; i < count; i++) kept += keep[i]!;
  return kept;
}

function markFor(
  lsn: readonly number[],
  kind: readonly number[],
  count: number,
  point: number,
  keep: Uint8Array,
): void {
  let end = 0;
  while (end < count && lsn[end]! <= point) end++;
  for (let i = end - 1; i >= 0; i--) {
    keep[i] = 1;
    if (isBase(kind[i]!)) return;
  }
}
