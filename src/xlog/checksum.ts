// The checksum of a data page: FNV-1a in 32 lanes over the page as 64 rows of 32 little-endian words, with
// pd_checksum itself taken as zero, then two rounds of zeroes, the lanes folded, the block number mixed in (a
// page in the wrong place fails), and the result brought to 1..65535.
//
//   lane = (lane ^ word) * 16777619 ^ ((lane ^ word) >>> 17)
//
// A page that was never initialised has no checksum and must be all zeroes.
//
// It is computed for every page that is served to a cluster with checksums on, so four lanes run together in
// local variables: the multiplications of one hide the latency of another.
//
// Mirrors pg_checksum_page of checksum_impl.h and PageIsVerifiedExtended of bufpage.c.

import { BLCKSZ, type Page, PD_CHECKSUM, PD_UPPER } from './page.ts';

const N_SUMS = 32;
const ROW_BYTES = N_SUMS * 4;
const FNV_PRIME = 16777619;

const BASE_OFFSETS = new Int32Array([
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
]);

/** What pd_checksum of the page at `offset` ought to be, as block `blkno` of its fork. */
export function pageChecksum(view: DataView, offset: number, blkno: number): number {
  const end = offset + BLCKSZ;
  const stored = view.getUint16(offset + PD_CHECKSUM, true);
  let folded = 0;
  for (let lane = 0; lane < N_SUMS; lane += 4) {
    let a = BASE_OFFSETS[lane]!;
    let b = BASE_OFFSETS[lane + 1]!;
    let c = BASE_OFFSETS[lane + 2]!;
    let d = BASE_OFFSETS[lane + 3]!;
    let at = offset + lane * 4;
    // pd_checksum counts as zero: taken out of the running value before its word goes in.
    if (lane === 0) c ^= stored;
    for (; at < end; at += ROW_BYTES) {
      a ^= view.getInt32(at, true);
      b ^= view.getInt32(at + 4, true);
      c ^= view.getInt32(at + 8, true);
      d ^= view.getInt32(at + 12, true);
      a = Math.imul(a, FNV_PRIME) ^ (a >>> 17);
      b = Math.imul(b, FNV_PRIME) ^ (b >>> 17);
      c = Math.imul(c, FNV_PRIME) ^ (c >>> 17);
      d = Math.imul(d, FNV_PRIME) ^ (d >>> 17);
    }
    folded ^= mixZeroes(a) ^ mixZeroes(b) ^ mixZeroes(c) ^ mixZeroes(d);
  }
  return (((folded ^ blkno) >>> 0) % 65535) + 1;
}

/** Two rounds of zeroes: words that leave a lane to its own mixing. */
function mixZeroes(lane: number): number {
  const once = Math.imul(lane, FNV_PRIME) ^ (lane >>> 17);
  return Math.imul(once, FNV_PRIME) ^ (once >>> 17);
}

/** PageSetChecksumInplace: a page never initialised gets none. */
export function setPageChecksum(page: Page, blkno: number): void {
  const view = page.view;
  if (view.getUint16(PD_UPPER, true) === 0) return;
  view.setUint16(PD_CHECKSUM, pageChecksum(view, 0, blkno), true);
}

/** Whether the page holds the checksum it should; a page never initialised, whether it is zero throughout. */
export function pageChecksumHolds(page: Page, blkno: number): boolean {
  const view = page.view;
  if (view.getUint16(PD_UPPER, true) !== 0) {
    return view.getUint16(PD_CHECKSUM, true) === pageChecksum(view, 0, blkno);
  }
  for (let at = 0; at < BLCKSZ; at += 4) if (view.getInt32(at, true) !== 0) return false;
  return true;
}
