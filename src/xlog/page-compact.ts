// Packing a page: the gaps that removed tuples left are closed, and unused line pointers at the end given up.
//
// What packing leaves behind between pd_lower and pd_upper is part of "as Postgres": pieces move as Postgres moves
// them, so even the unused bytes agree. Where majors differ the caller says so (`truncate`: from 15 on).
// The scratch space is the module's, used within one call.
//
// Mirrors compactify_tuples, PageRepairFragmentation, PageTruncateLinePointerArray and PageIndexMultiDelete of
// src/backend/storage/page/bufpage.c.

import {
  BLCKSZ,
  PAGE_HEADER_SIZE,
  type Page,
  pdLower,
  pdSpecial,
  pdUpper,
  setPdLower,
  setPdUpper,
} from './page.ts';
import {
  checkIndexItem,
  checkPageAligned,
  copyBytes,
  FIRST_OFFSET_NUMBER,
  getItemId,
  ITEM_ID_SIZE,
  itemIdIsUsed,
  LP_UNUSED,
  pageClearHasFreeLinePointers,
  pageGetMaxOffsetNumber,
  pageIndexTupleDelete,
  pageSetHasFreeLinePointers,
} from './page-items.ts';

/** More line pointers than a page can hold. */
const newItemIds = new Int32Array(BLCKSZ / ITEM_ID_SIZE);
const scratch = new Uint8Array(BLCKSZ);

/**
 * compactify_tuples: lay the `count` tuples against pd_special, in the order of their line pointers. Presorted
 * tuples lie in descending order already and only move up; others are copied aside first. Neighbours move in one
 * piece. The line pointers are read where they stand: those without storage are passed over.
 */
function compactifyTuples(p: Page, count: number, presorted: boolean): void {
  const { bytes, view } = p;
  const end = pdLower(p);
  let upper = pdSpecial(p);
  let at = PAGE_HEADER_SIZE;
  // Tuples already in their place are skipped; where few are left Postgres does not look for them.
  if (presorted || count >= pageGetMaxOffsetNumber(p) >>> 2) {
    for (; at < end; at += ITEM_ID_SIZE) {
      const itemId = view.getInt32(at, true);
      const length = ((itemId >>> 17) + 7) & ~7;
      if (length === 0) continue;
      if (upper !== (itemId & 0x7fff) + length) break;
      upper -= length;
    }
  }
  if (!presorted) copyBytes(scratch, pdUpper(p), bytes, pdUpper(p), upper - pdUpper(p));
  const from = presorted ? bytes : scratch;

  let tail = 0;
  let head = 0;
  for (; at < end; at += ITEM_ID_SIZE) {
    const itemId = view.getInt32(at, true);
    const length = ((itemId >>> 17) + 7) & ~7;
    if (length === 0) continue;
    const offset = itemId & 0x7fff;
    if (head !== offset + length) {
      if (tail > head) moveBytes(bytes, upper, from, head, tail - head);
      tail = offset + length;
    }
    upper -= length;
    head = offset;
    view.setInt32(at, (itemId & ~0x7fff) | upper, true);
  }
  if (tail > head) moveBytes(bytes, upper, from, head, tail - head);
  setPdUpper(p, upper);
}

function moveBytes(to: Uint8Array, at: number, from: Uint8Array, offset: number, length: number): void {
  if (to === from) to.copyWithin(at, offset, offset + length);
  else copyBytes(to, at, from, offset, length);
}

function corruptedLengths(total: number, space: number): RangeError {
  return new RangeError(`corrupted item lengths: total ${total}, available space ${space}`);
}

/**
 * PageRepairFragmentation: after pruning, close the gaps between tuples. With `truncate` (15 and later) unused
 * line pointers at the end of the array go; 14 keeps them for vacuum's second pass.
 */
export function pageRepairFragmentation(p: Page, truncate: boolean): void {
  checkPageAligned(p);
  const { view } = p;
  const upper = pdUpper(p);
  const special = pdSpecial(p);
  const lower = pdLower(p);
  const lineCount = pageGetMaxOffsetNumber(p);
  const end = PAGE_HEADER_SIZE + ITEM_ID_SIZE * lineCount;
  let stored = 0;
  let unused = 0;
  let total = 0;
  let usedEnd = PAGE_HEADER_SIZE;
  let lastOffset = special;
  let presorted = true;
  for (let at = PAGE_HEADER_SIZE; at < end; at += ITEM_ID_SIZE) {
    const itemId = view.getInt32(at, true);
    if (((itemId >>> 15) & 3) === LP_UNUSED) {
      if (itemId !== 0) view.setInt32(at, 0, true);
      unused++;
      continue;
    }
    usedEnd = at + ITEM_ID_SIZE;
    const aligned = ((itemId >>> 17) + 7) & ~7;
    if (aligned === 0) continue;
    const offset = itemId & 0x7fff;
    if (lastOffset > offset) lastOffset = offset;
    else presorted = false;
    if (offset < upper || offset >= special) throw new RangeError(`corrupted line pointer: ${offset}`);
    stored++;
    total += aligned;
  }
  if (total > special - lower) throw corruptedLengths(total, special - lower);
  if (stored === 0) setPdUpper(p, special);
  else compactifyTuples(p, stored, presorted);

  if (truncate && usedEnd !== end) {
    unused -= (end - usedEnd) / ITEM_ID_SIZE;
    setPdLower(p, lower - (end - usedEnd));
  }
  if (unused > 0) pageSetHasFreeLinePointers(p);
  else pageClearHasFreeLinePointers(p);
}

/** PageTruncateLinePointerArray: unused line pointers at the end go, but for the first of the page. */
export function pageTruncateLinePointerArray(p: Page): void {
  let last = pageGetMaxOffsetNumber(p);
  const all = last;
  while (last > FIRST_OFFSET_NUMBER && !itemIdIsUsed(p, last)) last--;
  let hint = false;
  for (let offnum = last; offnum >= FIRST_OFFSET_NUMBER && !hint; offnum--) hint = !itemIdIsUsed(p, offnum);
  setPdLower(p, pdLower(p) - ITEM_ID_SIZE * (all - last));
  if (hint) pageSetHasFreeLinePointers(p);
  else pageClearHasFreeLinePointers(p);
}

/**
 * PageIndexMultiDelete: remove several tuples with their line pointers. The `count` offset numbers, ascending,
 * are u16 little-endian at `offset` of `view`, as records hold them.
 */
export function pageIndexMultiDelete(p: Page, view: DataView, offset: number, count: number): void {
  if (count <= 2) {
    for (let i = count - 1; i >= 0; i--) pageIndexTupleDelete(p, view.getUint16(offset + 2 * i, true));
    return;
  }
  checkPageAligned(p);
  const special = pdSpecial(p);
  const lower = pdLower(p);
  const lineCount = pageGetMaxOffsetNumber(p);
  let kept = 0;
  let next = 0;
  let total = 0;
  let lastOffset = special;
  let presorted = true;
  for (let offnum = FIRST_OFFSET_NUMBER; offnum <= lineCount; offnum++) {
    const itemId = getItemId(p, offnum);
    checkIndexItem(p, itemId);
    if (next < count && offnum === view.getUint16(offset + 2 * next, true)) {
      next++;
      continue;
    }
    const itemOffset = itemId & 0x7fff;
    if (lastOffset > itemOffset) lastOffset = itemOffset;
    else presorted = false;
    const aligned = ((itemId >>> 17) + 7) & ~7;
    total += aligned;
    newItemIds[kept++] = itemId;
  }
  if (next !== count) throw new RangeError('incorrect index offsets supplied');
  if (total > special - lower) throw corruptedLengths(total, special - lower);
  for (let i = 0; i < kept; i++) p.view.setInt32(PAGE_HEADER_SIZE + ITEM_ID_SIZE * i, newItemIds[i]!, true);
  setPdLower(p, PAGE_HEADER_SIZE + ITEM_ID_SIZE * kept);
  if (kept > 0) compactifyTuples(p, kept, presorted);
  else setPdUpper(p, special);
}
