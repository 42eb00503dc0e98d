// Items on a page: line pointers and the tuples they point to, added, removed and replaced so that every byte lands
// where Postgres would put it. Packing many at once is in page-compact.ts.
//
//   ItemIdData, u32:   lp_off bits 0-14 | lp_flags bits 15-16 | lp_len bits 17-31
//   line pointer of offset number n (from 1) at 24 + 4 * (n - 1); the array ends at pd_lower
//   tuples lie from pd_upper to pd_special, each starting at a multiple of 8, the newest lowest
//
// Rules. Bytes come as (bytes, offset, length), never as a subarray. A function that Postgres lets refuse answers
// like Postgres (0, InvalidOffsetNumber, or false) and its caller decides; a page whose own numbers do not add up
// throws RangeError, which redo.ts turns into a Fault that names record and block. Nothing is allocated but in
// `copyBytes`' one subarray for long copies.
//
// Mirrors src/backend/storage/page/bufpage.c, itemid.h, and the page macros of bufpage.h.

import {
  BLCKSZ,
  PAGE_HEADER_SIZE,
  type Page,
  PD_ALL_VISIBLE,
  PD_HAS_FREE_LINES,
  PD_PRUNE_XID,
  pdFlags,
  pdLower,
  pdSpecial,
  pdUpper,
  setPdFlags,
  setPdLower,
  setPdUpper,
} from './page.ts';

export const LP_UNUSED = 0;
export const LP_NORMAL = 1;
export const LP_REDIRECT = 2;
export const LP_DEAD = 3;

export const ITEM_ID_SIZE = 4;
export const INVALID_OFFSET_NUMBER = 0;
export const FIRST_OFFSET_NUMBER = 1;

/** MaxHeapTuplesPerPage: a line pointer and an empty tuple each. */
export const MAX_HEAP_TUPLES_PER_PAGE = 291;

// ---- copying ------------------------------------------------------------------------------------------------

/** Below this a plain loop beats making a subarray. */
const LOOP_COPY_MAX = 32;

/** memcpy between two buffers; a range that is not there is a RangeError, never a short copy. */
export function copyBytes(
  to: Uint8Array,
  at: number,
  from: Uint8Array,
  offset: number,
  length: number,
): void {
  if (offset < 0 || length < 0 || offset + length > from.length || at + length > to.length) {
    throw new RangeError(`cannot copy ${length} bytes from ${offset} to ${at}`);
  }
  if (length <= LOOP_COPY_MAX) {
    for (let i = 0; i < length; i++) to[at + i] = from[offset + i]!;
  } else {
    to.set(from.subarray(offset, offset + length), at);
  }
}

/** Below this eight bytes at a time beat making a subarray. */
const VIEW_COPY_MAX = 64;

/**
 * copyBytes for who holds views too, the fastest for a tuple's few dozen bytes. The one bigint of hot code: it
 * goes from load to store without being made.
 */
export function copyBytesByView(
  toView: DataView,
  to: Uint8Array,
  at: number,
  fromView: DataView,
  from: Uint8Array,
  offset: number,
  length: number,
): void {
  if (length > VIEW_COPY_MAX) {
    copyBytes(to, at, from, offset, length);
    return;
  }
  let i = 0;
  for (; i + 8 <= length; i += 8) {
    toView.setBigUint64(at + i, fromView.getBigUint64(offset + i, true), true);
  }
  for (; i < length; i++) toView.setUint8(at + i, fromView.getUint8(offset + i));
}

/** Bytes of a page copied to another place on it that they do not reach into. */
export function copyOnPage(p: Page, to: number, from: number, length: number): void {
  if (length > VIEW_COPY_MAX) p.bytes.copyWithin(to, from, from + length);
  else copyBytesByView(p.view, p.bytes, to, p.view, p.bytes, from, length);
}

// ---- line pointers ------------------------------------------------------------------------------------------

/** Where the line pointer of an offset number lies: PageGetItemId. */
export const itemIdAt = (offnum: number): number => PAGE_HEADER_SIZE + ITEM_ID_SIZE * (offnum - 1);

export const packItemId = (offset: number, flags: number, length: number): number =>
  (offset | (flags << 15) | (length << 17)) >>> 0;

export const getItemId = (p: Page, offnum: number): number => p.view.getUint32(itemIdAt(offnum), true);

export const itemIdOffset = (p: Page, offnum: number): number => getItemId(p, offnum) & 0x7fff;
export const itemIdFlags = (p: Page, offnum: number): number => (getItemId(p, offnum) >>> 15) & 3;
export const itemIdLength = (p: Page, offnum: number): number => getItemId(p, offnum) >>> 17;

export const itemIdIsUsed = (p: Page, offnum: number): boolean => itemIdFlags(p, offnum) !== LP_UNUSED;
export const itemIdIsNormal = (p: Page, offnum: number): boolean => itemIdFlags(p, offnum) === LP_NORMAL;
export const itemIdIsRedirected = (p: Page, offnum: number): boolean =>
  itemIdFlags(p, offnum) === LP_REDIRECT;
export const itemIdIsDead = (p: Page, offnum: number): boolean => itemIdFlags(p, offnum) === LP_DEAD;
export const itemIdHasStorage = (p: Page, offnum: number): boolean => itemIdLength(p, offnum) !== 0;

export function setItemId(p: Page, offnum: number, offset: number, flags: number, length: number): void {
  p.view.setUint32(itemIdAt(offnum), packItemId(offset, flags, length), true);
}

export const itemIdSetUnused = (p: Page, offnum: number): void => p.view.setUint32(itemIdAt(offnum), 0, true);
export const itemIdSetDead = (p: Page, offnum: number): void => setItemId(p, offnum, 0, LP_DEAD, 0);
/** A redirect keeps the offset number it leads to in lp_off. */
export const itemIdSetRedirect = (p: Page, offnum: number, to: number): void =>
  setItemId(p, offnum, to, LP_REDIRECT, 0);
/** ItemIdMarkDead: the flag alone; an index tuple keeps its storage. */
export const itemIdMarkDead = (p: Page, offnum: number): void =>
  p.view.setUint32(itemIdAt(offnum), (getItemId(p, offnum) | (LP_DEAD << 15)) >>> 0, true);

/** PageGetMaxOffsetNumber: how many line pointers there are. */
export function pageGetMaxOffsetNumber(p: Page): number {
  const lower = pdLower(p);
  return lower <= PAGE_HEADER_SIZE ? 0 : (lower - PAGE_HEADER_SIZE) >>> 2;
}

/** PageIsEmpty: no line pointers. */
export const pageIsEmpty = (p: Page): boolean => pdLower(p) <= PAGE_HEADER_SIZE;

/** Where the tuple of an offset number begins: PageGetItem. The line pointer must exist and have storage. */
export function pageGetItemOffset(p: Page, offnum: number): number {
  if (offnum < FIRST_OFFSET_NUMBER || offnum > pageGetMaxOffsetNumber(p)) {
    throw new RangeError(`no line pointer ${offnum}, the page has ${pageGetMaxOffsetNumber(p)}`);
  }
  const itemId = getItemId(p, offnum);
  const offset = itemId & 0x7fff;
  if (itemId >>> 17 === 0 || offset < PAGE_HEADER_SIZE || offset + (itemId >>> 17) > BLCKSZ) {
    throw new RangeError(`line pointer ${offnum} has no tuple: offset ${offset} length ${itemId >>> 17}`);
  }
  return offset;
}

// ---- hints in the page header -------------------------------------------------------------------------------

export const pageHasFreeLinePointers = (p: Page): boolean => (pdFlags(p) & PD_HAS_FREE_LINES) !== 0;
export const pageSetHasFreeLinePointers = (p: Page): void => setPdFlags(p, pdFlags(p) | PD_HAS_FREE_LINES);
export const pageClearHasFreeLinePointers = (p: Page): void => setPdFlags(p, pdFlags(p) & ~PD_HAS_FREE_LINES);
export const pageIsAllVisible = (p: Page): boolean => (pdFlags(p) & PD_ALL_VISIBLE) !== 0;
export const pageSetAllVisible = (p: Page): void => setPdFlags(p, pdFlags(p) | PD_ALL_VISIBLE);
export const pageClearAllVisible = (p: Page): void => setPdFlags(p, pdFlags(p) & ~PD_ALL_VISIBLE);

const FIRST_NORMAL_XID = 3;

/** TransactionIdPrecedes: modulo 2^32 among normal xids, as plain numbers when one is permanent. */
export function transactionIdPrecedes(a: number, b: number): boolean {
  if (a < FIRST_NORMAL_XID || b < FIRST_NORMAL_XID) return a < b;
  return ((a - b) | 0) < 0;
}

/** PageSetPrunable: the oldest xid that may leave something to prune. */
export function pageSetPrunable(p: Page, xid: number): void {
  const current = p.view.getUint32(PD_PRUNE_XID, true);
  if (current === 0 || transactionIdPrecedes(xid, current)) p.view.setUint32(PD_PRUNE_XID, xid, true);
}

// ---- free space ---------------------------------------------------------------------------------------------

/** PageGetExactFreeSpace: what lies between the line pointers and the tuples. */
export const pageGetExactFreeSpace = (p: Page): number => Math.max(0, pdUpper(p) - pdLower(p));

/** PageGetFreeSpace: the same less one line pointer. */
export const pageGetFreeSpace = (p: Page): number => Math.max(0, pdUpper(p) - pdLower(p) - ITEM_ID_SIZE);

// ---- adding -------------------------------------------------------------------------------------------------

function checkPage(special: number, upper: number, lower: number): void {
  if (lower < PAGE_HEADER_SIZE || lower > upper || upper > special || special > BLCKSZ) {
    throw new RangeError(`corrupted page pointers: lower = ${lower}, upper = ${upper}, special = ${special}`);
  }
}

export function checkPageAligned(p: Page): void {
  const special = pdSpecial(p);
  checkPage(special, pdUpper(p), pdLower(p));
  if ((special & 7) !== 0) throw new RangeError(`corrupted page pointers: special = ${special}`);
}

/** The first line pointer that is unused, or `limit`; a hint that promised one in vain is taken back. */
function findFreeLinePointer(p: Page, limit: number): number {
  if (!pageHasFreeLinePointers(p)) return limit;
  for (let offnum = FIRST_OFFSET_NUMBER; offnum < limit; offnum++) {
    const itemId = getItemId(p, offnum);
    if (((itemId >>> 15) & 3) === LP_UNUSED && itemId >>> 17 === 0) return offnum;
  }
  pageClearHasFreeLinePointers(p);
  return limit;
}

/**
 * PageAddItemExtended: copy an item onto the page and point a line pointer at it. Answers its offset number, or 0
 * if it does not fit or may not lie there.
 *
 * `offnum` 0: the first unused line pointer, else a new one at the end. `offnum` given with `overwrite`: exactly
 * that one, which must be unused or one past the last. `offnum` given without: that one, later ones move up.
 * `isHeap` holds the number of line pointers to MaxHeapTuplesPerPage.
 */
export function pageAddItem(
  p: Page,
  bytes: Uint8Array,
  offset: number,
  length: number,
  offnum: number,
  overwrite: boolean,
  isHeap: boolean,
): number {
  const at = pageAddItemSpace(p, length, offnum, overwrite, isHeap);
  if (at === INVALID_OFFSET_NUMBER) return INVALID_OFFSET_NUMBER;
  copyBytes(p.bytes, pdUpper(p), bytes, offset, length);
  return at;
}

/**
 * The same without the bytes: the caller writes the item's `length` bytes at pd_upper. For tuples that are put
 * together on the page itself.
 */
export function pageAddItemSpace(
  p: Page,
  length: number,
  offnum: number,
  overwrite: boolean,
  isHeap: boolean,
): number {
  const oldLower = pdLower(p);
  const oldUpper = pdUpper(p);
  checkPage(pdSpecial(p), oldUpper, oldLower);
  const limit = ((oldLower - PAGE_HEADER_SIZE) >>> 2) + 1;
  let needShuffle = false;
  let target = offnum;
  if (offnum === INVALID_OFFSET_NUMBER) {
    target = findFreeLinePointer(p, limit);
  } else if (offnum < limit) {
    if (overwrite) {
      const itemId = getItemId(p, offnum);
      if (((itemId >>> 15) & 3) !== LP_UNUSED || itemId >>> 17 !== 0) return INVALID_OFFSET_NUMBER;
    } else {
      needShuffle = true;
    }
  }
  if (target > limit || (isHeap && target > MAX_HEAP_TUPLES_PER_PAGE)) return INVALID_OFFSET_NUMBER;

  const lower = target === limit || needShuffle ? oldLower + ITEM_ID_SIZE : oldLower;
  const upper = oldUpper - ((length + 7) & ~7);
  if (lower > upper) return INVALID_OFFSET_NUMBER;

  const at = itemIdAt(target);
  if (needShuffle) p.bytes.copyWithin(at + ITEM_ID_SIZE, at, oldLower);
  p.view.setUint32(at, packItemId(upper, LP_NORMAL, length), true);
  setPdLower(p, lower);
  setPdUpper(p, upper);
  return target;
}

// ---- removing and replacing one -----------------------------------------------------------------------------

/** The line pointer of an index tuple that must be sound. */
function checkedItemId(p: Page, offnum: number): number {
  checkPageAligned(p);
  const max = pageGetMaxOffsetNumber(p);
  if (offnum < FIRST_OFFSET_NUMBER || offnum > max) {
    throw new RangeError(`invalid index offnum: ${offnum}, the page has ${max}`);
  }
  const itemId = getItemId(p, offnum);
  checkIndexItem(p, itemId);
  return itemId;
}

export function checkIndexItem(p: Page, itemId: number): void {
  const offset = itemId & 0x7fff;
  const length = itemId >>> 17;
  if (length === 0 || offset < pdUpper(p) || offset + length > pdSpecial(p) || (offset & 7) !== 0) {
    throw new RangeError(`corrupted line pointer: offset = ${offset}, size = ${length}`);
  }
}

/** Move the tuples below `offset` up by `size` bytes (down if negative) and let their line pointers follow. */
function shiftTuples(p: Page, offset: number, size: number): void {
  const upper = pdUpper(p);
  if (offset > upper) p.bytes.copyWithin(upper + size, upper, offset);
  setPdUpper(p, upper + size);
  const end = pdLower(p);
  for (let at = PAGE_HEADER_SIZE; at < end; at += ITEM_ID_SIZE) {
    const itemId = p.view.getUint32(at, true);
    if (itemId >>> 17 !== 0 && (itemId & 0x7fff) <= offset) p.view.setUint32(at, itemId + size, true);
  }
}

/** PageIndexTupleDelete: tuple and line pointer both go, and what follows closes up. */
export function pageIndexTupleDelete(p: Page, offnum: number): void {
  const itemId = checkedItemId(p, offnum);
  const lower = pdLower(p);
  const at = itemIdAt(offnum);
  p.bytes.copyWithin(at, at + ITEM_ID_SIZE, lower);
  setPdLower(p, lower - ITEM_ID_SIZE);
  shiftTuples(p, itemId & 0x7fff, ((itemId >>> 17) + 7) & ~7);
}

/** PageIndexTupleDeleteNoCompact: the line pointer stays behind as unused, unless it was the last. */
export function pageIndexTupleDeleteNoCompact(p: Page, offnum: number): void {
  const itemId = checkedItemId(p, offnum);
  if (offnum < pageGetMaxOffsetNumber(p)) itemIdSetUnused(p, offnum);
  else setPdLower(p, pdLower(p) - ITEM_ID_SIZE);
  shiftTuples(p, itemId & 0x7fff, ((itemId >>> 17) + 7) & ~7);
}

/** PageIndexTupleOverwrite: another tuple in the place of one, flags kept; false if there is no room. */
export function pageIndexTupleOverwrite(
  p: Page,
  offnum: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
): boolean {
  const itemId = checkedItemId(p, offnum);
  const oldOffset = itemId & 0x7fff;
  const oldSize = ((itemId >>> 17) + 7) & ~7;
  const newSize = (length + 7) & ~7;
  if (newSize > oldSize + (pdUpper(p) - pdLower(p))) return false;
  const difference = oldSize - newSize;
  if (difference !== 0) shiftTuples(p, oldOffset, difference);
  setItemId(p, offnum, oldOffset + difference, (itemId >>> 15) & 3, length);
  copyBytes(p.bytes, oldOffset + difference, bytes, offset, length);
  return true;
}
