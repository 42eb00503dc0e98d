// Index tuples: the header that every index shares, and the posting lists of B-trees.
//
//   IndexTupleData   0  t_tid   6 bytes: block high half u16, block low half u16, offset number u16
//                    6  t_info  u16: bit 15 has nulls, 14 has var-width, 13 the access method's own, 12-0 size
//                    8  key values, from a multiple of 8 on; with nulls the bitmap lies in between
//
//   A B-tree tuple whose bit 13 (INDEX_ALT_TID_MASK) is set has no heap TID in t_tid. Four status bits of the
//   offset number say what it is:
//     pivot tuple     t_tid block = downlink, offset number = count of key columns; 0x1000: a heap TID at the end
//     posting list    0x2000 (BT_IS_POSTING) | count of TIDs, t_tid block = where in the tuple the list begins
//
//   header | key values, padded to 8 | TID, TID, TID ... ascending | zeros up to a multiple of 8
//
// A TID is handled as one number, block * 65536 + offset number, exact at 48 bits and ordered as
// ItemPointerCompare orders. Tuples are (bytes, view, offset); nothing is allocated, the tuples that have to be
// formed aside are formed in the module's scratch, good until the next call. What does not add up is a RangeError.
//
// Mirrors itup.h, itemptr.h, the tuple notes of nbtree.h, and _bt_form_posting, _bt_update_posting and
// _bt_swap_posting of nbtdedup.c.

import { BLCKSZ, maxAlign, type Page } from './page.ts';
import { copyBytes, pageAddItem, pageGetItemOffset } from './page-items.ts';

export const INDEX_TUPLE_HEADER_SIZE = 8;
export const T_INFO = 6;
export const INDEX_SIZE_MASK = 0x1fff;
export const INDEX_AM_RESERVED_BIT = 0x2000;
export const INDEX_VAR_MASK = 0x4000;
export const INDEX_NULL_MASK = 0x8000;

export const INDEX_ALT_TID_MASK = INDEX_AM_RESERVED_BIT;
export const BT_OFFSET_MASK = 0x0fff;
export const BT_PIVOT_HEAP_TID_ATTR = 0x1000;
export const BT_IS_POSTING = 0x2000;

export const ITEM_POINTER_SIZE = 6;
const TID_BLOCK = 0x1_0000;

// ---- the header ---------------------------------------------------------------------------------------------

/** IndexTupleSize of the tuple at `at`. */
export const indexTupleSize = (view: DataView, at: number): number =>
  view.getUint16(at + T_INFO, true) & INDEX_SIZE_MASK;

/** The size that a tuple takes on a page: a multiple of 8. A tuple shorter than its header is refused. */
export function indexTupleAlignedSize(view: DataView, at: number): number {
  const size = indexTupleSize(view, at);
  if (size < INDEX_TUPLE_HEADER_SIZE) throw new RangeError(`index tuple of ${size} bytes`);
  return maxAlign(size);
}

/** A TID as one number; its block and offset number come back by division. */
export const readTid = (view: DataView, at: number): number =>
  readTidBlock(view, at) * TID_BLOCK + view.getUint16(at + 4, true);

export function writeTid(view: DataView, at: number, tid: number): void {
  writeTidBlock(view, at, Math.floor(tid / TID_BLOCK));
  view.setUint16(at + 4, tid % TID_BLOCK, true);
}

/** ItemPointerGetBlockNumberNoCheck; of a pivot tuple this is BTreeTupleGetDownLink. */
export const readTidBlock = (view: DataView, at: number): number =>
  ((view.getUint16(at, true) << 16) | view.getUint16(at + 2, true)) >>> 0;

export function writeTidBlock(view: DataView, at: number, block: number): void {
  view.setUint16(at, block >>> 16, true);
  view.setUint16(at + 2, block & 0xffff, true);
}

/** Put an index tuple on a page where it must fit, as item `offnum`; later items move up. */
export function addIndexTuple(
  page: Page,
  bytes: Uint8Array,
  offset: number,
  length: number,
  offnum: number,
): void {
  if (
    length < INDEX_TUPLE_HEADER_SIZE ||
    pageAddItem(page, bytes, offset, length, offnum, false, false) === 0
  ) {
    throw new RangeError(`no room for item ${offnum} of ${length} bytes`);
  }
}

// ---- posting lists ------------------------------------------------------------------------------------------

export const btreeTupleIsPosting = (view: DataView, at: number): boolean =>
  (view.getUint16(at + T_INFO, true) & INDEX_ALT_TID_MASK) !== 0 &&
  (view.getUint16(at + 4, true) & BT_IS_POSTING) !== 0;

/** How many heap TIDs a leaf tuple has: BTreeTupleGetNPosting, or 1. */
export const heapTidCount = (view: DataView, at: number): number =>
  btreeTupleIsPosting(view, at) ? view.getUint16(at + 4, true) & BT_OFFSET_MASK : 1;

/** Where a leaf tuple's heap TIDs lie: its posting list, or t_tid. */
export const heapTidsAt = (view: DataView, at: number): number =>
  btreeTupleIsPosting(view, at) ? at + readTidBlock(view, at) : at;

/** The size of a leaf tuple without its posting list. */
export const keySize = (view: DataView, at: number): number =>
  btreeTupleIsPosting(view, at) ? readTidBlock(view, at) : indexTupleSize(view, at);

/** The count of TIDs of a tuple that must be a posting list with its list inside of it. */
function checkedPosting(view: DataView, at: number): number {
  const count = view.getUint16(at + 4, true) & BT_OFFSET_MASK;
  const list = readTidBlock(view, at);
  if (!btreeTupleIsPosting(view, at) || count < 2) throw new RangeError('not a posting list tuple');
  if (list < INDEX_TUPLE_HEADER_SIZE || list + count * ITEM_POINTER_SIZE > indexTupleSize(view, at)) {
    throw new RangeError(`posting list of ${count} at ${list} does not fit its tuple`);
  }
  return count;
}

/**
 * Put the TID `newTid` into the posting list at its place `postingoff`: later ones move right and the greatest
 * falls out; it is returned, for the new tuple to carry. The tuple keeps its size and is edited in place.
 */
export function swapPosting(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  postingoff: number,
  newTid: number,
): number {
  const count = checkedPosting(view, at);
  if (postingoff <= 0 || postingoff >= count) {
    throw new RangeError(`posting list tuple with ${count} items cannot be split at offset ${postingoff}`);
  }
  const list = heapTidsAt(view, at);
  const last = list + (count - 1) * ITEM_POINTER_SIZE;
  const place = list + postingoff * ITEM_POINTER_SIZE;
  const maxTid = readTid(view, last);
  bytes.copyWithin(place + ITEM_POINTER_SIZE, place, last);
  writeTid(view, place, newTid);
  return maxTid;
}

/** A tuple formed aside, `size` bytes from offset 0. */
export interface ScratchTuple {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  size: number;
}

// A tuple's size has 13 bits: it cannot outgrow this.
const formed = new Uint8Array(BLCKSZ);
const scratch: ScratchTuple = { bytes: formed, view: new DataView(formed.buffer), size: 0 };

/**
 * Begin a tuple with the key of the leaf tuple at `at` and room for `count` heap TIDs; answers where in
 * `scratch` they go: as a posting list, or as t_tid where there is but one.
 */
function startTuple(from: Uint8Array, view: DataView, at: number, count: number): number {
  const key = keySize(view, at);
  const size = count > 1 ? maxAlign(key + count * ITEM_POINTER_SIZE) : key;
  if (key < INDEX_TUPLE_HEADER_SIZE || count < 1 || count > BT_OFFSET_MASK || size > INDEX_SIZE_MASK) {
    throw new RangeError(`no tuple of ${size} bytes with ${count} TIDs`);
  }
  copyBytes(scratch.bytes, 0, from, at, key);
  scratch.size = size;
  const info = scratch.view.getUint16(T_INFO, true) & ~INDEX_SIZE_MASK & ~INDEX_ALT_TID_MASK;
  if (count === 1) {
    scratch.view.setUint16(T_INFO, info | size, true);
    return 0;
  }
  scratch.view.setUint16(T_INFO, info | INDEX_ALT_TID_MASK | size, true);
  scratch.view.setUint16(4, count | BT_IS_POSTING, true);
  writeTidBlock(scratch.view, 0, key);
  scratch.bytes.fill(0, key, size);
  return key;
}

/** The posting list tuple that `count` neighbours on a page make from `offnum` on; the first gives the key. */
export function formPosting(page: Page, offnum: number, count: number): ScratchTuple {
  const { bytes, view } = page;
  let total = 0;
  for (let i = 0; i < count; i++) total += heapTidCount(view, pageGetItemOffset(page, offnum + i));
  let to = startTuple(bytes, view, pageGetItemOffset(page, offnum), total);
  for (let i = 0; i < count; i++) {
    const at = pageGetItemOffset(page, offnum + i);
    const length = heapTidCount(view, at) * ITEM_POINTER_SIZE;
    copyBytes(scratch.bytes, to, bytes, heapTidsAt(view, at), length);
    to += length;
  }
  return scratch;
}

/**
 * The posting list tuple at `at` without some of its TIDs: `deletedCount` indexes into its list, ascending u16 at
 * `deletedAt` of `deleted`. With one TID left it is a plain tuple again.
 */
export function updatePosting(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  deleted: DataView,
  deletedAt: number,
  deletedCount: number,
): ScratchTuple {
  const count = checkedPosting(view, at);
  if (deletedCount < 1 || deletedCount >= count) {
    throw new RangeError(`cannot take ${deletedCount} of ${count} TIDs out of a posting list`);
  }
  const list = heapTidsAt(view, at);
  let to = startTuple(bytes, view, at, count - deletedCount);
  let next = 0;
  for (let i = 0; i < count; i++) {
    if (next < deletedCount && deleted.getUint16(deletedAt + 2 * next, true) === i) {
      next++;
      continue;
    }
    writeTid(scratch.view, to, readTid(view, list + i * ITEM_POINTER_SIZE));
    to += ITEM_POINTER_SIZE;
  }
  if (next !== deletedCount) throw new RangeError('deleted TIDs are not all in the posting list');
  return scratch;
}
