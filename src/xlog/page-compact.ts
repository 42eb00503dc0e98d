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
  newPage,
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

/** More line pointers than a page can hold: those that stay, and where on the page they stand. */
const itemIds = new Int32Array(BLCKSZ / ITEM_ID_SIZE);
const itemIdPlaces = new Int32Array(BLCKSZ / ITEM_ID_SIZE);
const scratch = newPage();
/** Up to this many bytes, eight at a time beat a call out of compiled code. */
const WORD_COPY_MAX = 512;

/**
 * compactify_tuples: lay the `count` tuples of `itemIds` against pd_special, in the order of their line pointers.
 * Presorted tuples lie in descending order already and only move up; others are copied aside first. Neighbours
 * move in one piece.
 */
function compactifyTuples(p: Page, count: number, presorted: boolean): void {
  const { view } = p;
  let upper = pdSpecial(p);
  let i = 0;
  // Tuples already in their place are skipped; where few are left Postgres does not look for them.
  if (presorted || count >= pageGetMaxOffsetNumber(p) >>> 2) {
    for (; i < count; i++) {
      const itemId = itemIds[i]!;
      const length = ((itemId >>> 17) + 7) & ~7;
      if (upper !== (itemId & 0x7fff) + length) break;
      upper -= length;
    }
  }
  if (!presorted) copyBytes(scratch.bytes, pdUpper(p), p.bytes, pdUpper(p), upper - pdUpper(p));
  const from = presorted ? p : scratch;

  let tail = 0;
  let head = 0;
  for (; i < count; i++) {
    const itemId = itemIds[i]!;
    const length = ((itemId >>> 17) + 7) & ~7;
    const offset = itemId & 0x7fff;
    if (head !== offset + length) {
      if (tail > head) moveBytes(p, upper, from, head, tail - head);
      tail = offset + length;
    }
    upper -= length;
    head = offset;
    view.setInt32(itemIdPlaces[i]!, (itemId & ~0x7fff) | upper, true);
  }
  if (tail > head) moveBytes(p, upper, from, head, tail - head);
  setPdUpper(p, upper);
}

/** Up the page, or from one page to another: from the end backward, so that a piece may overlap its new place. */
function moveBytes(to: Page, at: number, from: Page, offset: number, length: number): void {
  if (length > WORD_COPY_MAX) {
    if (to === from) to.bytes.copyWithin(at, offset, offset + length);
    else copyBytes(to.bytes, at, from.bytes, offset, length);
    return;
  }
  const target = to.view;
  const source = from.view;
  for (let i = length - 8; i >= 0; i -= 8) {
    target.setBigUint64(at + i, source.getBigUint64(offset + i, true), true);
  }
}

function corruptedLengths(total: number, space: number): RangeError {
  return new RangeError(`corrupted item lengths: total ${total}, available space ${space}`);
}

/** ItemIdSetUnused for all that are: whatever else they hold goes. */
function clearUnused(view: DataView, end: number): void {
  for (let at = PAGE_HEADER_SIZE; at < end; at += ITEM_ID_SIZE) {
    if (((view.getInt32(at, true) >>> 15) & 3) === LP_UNUSED) view.setInt32(at, 0, true);
  }
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
  // Which line pointers are used and have storage is as good as random: counted without a branch to mispredict.
  let stored = 0;
  let used = 0;
  let stale = 0;
  for (let at = PAGE_HEADER_SIZE; at < end; at += ITEM_ID_SIZE) {
    const itemId = view.getInt32(at, true);
    const isUsed = (0 - ((itemId >>> 15) & 3)) >>> 31;
    itemIds[stored] = itemId;
    itemIdPlaces[stored] = at;
    stored += isUsed & ((0 - (itemId >>> 17)) >>> 31);
    used += isUsed;
    stale |= itemId & (isUsed - 1);
  }
  if (stale !== 0) clearUnused(view, end);
  let total = 0;
  let lastOffset = special;
  let presorted = true;
  for (let i = 0; i < stored; i++) {
    const itemId = itemIds[i]!;
    const offset = itemId & 0x7fff;
    if (lastOffset > offset) lastOffset = offset;
    else presorted = false;
    if (offset < upper || offset >= special) throw new RangeError(`corrupted line pointer: ${offset}`);
    total += ((itemId >>> 17) + 7) & ~7;
  }
  if (total > special - lower) throw corruptedLengths(total, special - lower);
  if (stored === 0) setPdUpper(p, special);
  else compactifyTuples(p, stored, presorted);

  let unused = lineCount - used;
  if (truncate && unused > 0) {
    let usedEnd = end;
    while (usedEnd > PAGE_HEADER_SIZE && view.getInt32(usedEnd - ITEM_ID_SIZE, true) === 0)
      usedEnd -= ITEM_ID_SIZE;
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
    const place = PAGE_HEADER_SIZE + ITEM_ID_SIZE * kept;
    itemIds[kept] = itemId;
    itemIdPlaces[kept] = place;
    kept++;
  }
  if (next !== count) throw new RangeError('incorrect index offsets supplied');
  if (total > special - lower) throw corruptedLengths(total, special - lower);
  for (let i = 0; i < kept; i++) p.view.setInt32(itemIdPlaces[i]!, itemIds[i]!, true);
  setPdLower(p, PAGE_HEADER_SIZE + ITEM_ID_SIZE * kept);
  if (kept > 0) compactifyTuples(p, kept, presorted);
  else setPdUpper(p, special);
}
