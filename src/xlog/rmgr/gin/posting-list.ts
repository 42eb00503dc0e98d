// GIN's compressed posting list: a segment of heap TIDs in ascending order, as it lies on posting tree leaves,
// in entry tuples and in WAL records.
//
//   0  first   6 bytes: block high u16, block low u16, offset u16
//   6  nbytes  u16
//   8  nbytes of varbyte deltas, seven bits a byte, low bits first, 0x80 = more follows; a zero byte pads to two
//
// A TID is taken as the number block * 2048 + offset (43 bits, exact in a double) and each delta is the distance
// to the TID before. Item arrays are Float64Array, reused: a segment never holds more items than bytes.
//
// Mirrors ginpostinglist.c and GinPostingList of ginblock.h.

import { ITEM_POINTER_SIZE, readTidBlock, writeTidBlock } from '../../index-tuple.ts';
import { BLCKSZ } from '../../page.ts';

/** The most items that one segment of at most a page can hold. */
export const POSTING_ITEMS_MAX = BLCKSZ;

/** MaxHeapTuplesPerPageBits */
const OFFSET_BITS = 11;
const OFFSETS = 1 << OFFSET_BITS;

const NBYTES = 6;
const BYTES = 8;

const shortAlign = (n: number): number => (n + 1) & ~1;

/** SizeOfGinPostingList */
export const postingListSize = (view: DataView, at: number): number =>
  BYTES + shortAlign(view.getUint16(at + NBYTES, true));

/** itemptr_to_uint64 over an ItemPointerData in place. */
export const readItemPointer = (view: DataView, at: number): number =>
  readTidBlock(view, at) * OFFSETS + view.getUint16(at + 4, true);

function writeItemPointer(view: DataView, at: number, item: number): void {
  writeTidBlock(view, at, Math.floor(item / OFFSETS));
  view.setUint16(at + 4, item % OFFSETS, true);
}

/** Read `count` ItemPointerData that follow each other. */
export function readItemPointers(view: DataView, at: number, count: number, items: Float64Array): void {
  for (let i = 0; i < count; i++) items[i] = readItemPointer(view, at + i * ITEM_POINTER_SIZE);
}

/** ginPostingListDecode: the items of the segment at `at`, whose bytes must end by `end`. */
export function decodePostingList(view: DataView, at: number, end: number, items: Float64Array): number {
  const stop = at + BYTES + view.getUint16(at + NBYTES, true);
  if (stop > end) throw new RangeError(`posting list of ${stop - at} bytes, ${end - at} are there`);
  let item = readItemPointer(view, at);
  items[0] = item;
  let count = 1;
  let from = at + BYTES;
  while (from < stop) {
    let scale = 1;
    let byte = view.getUint8(from++);
    while (byte >= 0x80) {
      item += (byte & 0x7f) * scale;
      scale *= 128;
      byte = view.getUint8(from++);
    }
    item += byte * scale;
    items[count++] = item;
  }
  return count;
}

/** ginCompressPostingList of all `count` items into `view` at `at`; the segment's whole size. */
export function encodePostingList(items: Float64Array, count: number, view: DataView, at: number): number {
  let previous = items[0]!;
  writeItemPointer(view, at, previous);
  let to = at + BYTES;
  for (let i = 1; i < count; i++) {
    const item = items[i]!;
    let delta = item - previous;
    previous = item;
    while (delta > 0x7f) {
      const rest = Math.floor(delta / 128);
      view.setUint8(to++, 0x80 | (delta - rest * 128));
      delta = rest;
    }
    view.setUint8(to++, delta);
  }
  const nbytes = to - at - BYTES;
  view.setUint16(at + NBYTES, nbytes, true);
  if ((nbytes & 1) !== 0) view.setUint8(to, 0);
  return BYTES + shortAlign(nbytes);
}

/** ginMergeItemPointers: two ascending arrays into `merged`, one copy of what both have. */
export function mergeItems(
  a: Float64Array,
  aCount: number,
  b: Float64Array,
  bCount: number,
  merged: Float64Array,
): number {
  if (aCount + bCount > merged.length)
    throw new RangeError(`${aCount} + ${bCount} items in one posting list`);
  let i = 0;
  let j = 0;
  let count = 0;
  while (i < aCount && j < bCount) {
    const left = a[i]!;
    const right = b[j]!;
    merged[count++] = Math.min(left, right);
    if (left <= right) i++;
    if (right <= left) j++;
  }
  while (i < aCount) merged[count++] = a[i++]!;
  while (j < bCount) merged[count++] = b[j++]!;
  return count;
}
