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
  itemIdSetUnused,
  LP_UNUSED,
  pageClearHasFreeLinePointers,
  pageGetMaxOffsetNumber,
  pageIndexTupleDelete,
  pageSetHasFreeLinePointers,
} from './page-items.ts';

/** More line pointers than a page can hold. */
const COMPACT_MAX = BLCKSZ / ITEM_ID_SIZE;
const compactIndex = new Uint16Array(COMPACT_MAX);
const compactOffset = new Uint16Array(COMPACT_MAX);
const compactLength = new Uint16Array(COMPACT_MAX);
const newItemIds = new Uint32Array(COMPACT_MAX);
const scratch = new Uint8Array(BLCKSZ);

/**
 * compactify_tuples: lay the `count` listed tuples against pd_special in the list's order. Presorted tuples lie in
 * descending order already and only move up; others are copied aside first. Neighbours move in one piece.
 */
function compactifyTuples(p: Page, count: number, presorted: boolean): void {
  const { bytes, view } = p;
  let upper = pdSpecial(p);
  let i = 0;
  // Tuples already in their place are skipped; where few are left Postgres does not look for them.
  if (presorted || count >= pageGetMaxOffsetNumber(p) >>> 2) {
    while (i < count && upper === compactOffset[i]! + compactLength[i]!) upper -= compactLength[i++]!;
  }
  if (!presorted) copyBytes(scratch, pdUpper(p), bytes, pdUpper(p), upper - pdUpper(p));
  const from = presorted ? bytes : scratch;

  let tail = 0;
  let head = 0;
  for (; i < count; i++) {
    const offset = compactOffset[i]!;
    const length = compactLength[i]!;
    if (head !== offset + length) {
      if (tail > head) moveBytes(bytes, upper, from, head, tail - head);
      tail = offset + length;
    }
    upper -= length;
    head = offset;
    const at = PAGE_HEADER_SIZE + ITEM_ID_SIZE * compactIndex[i]!;
    view.setUint32(at, ((view.getUint32(at, true) & ~0x7fff) | upper) >>> 0, true);
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
  const upper = pdUpper(p);
  const special = pdSpecial(p);
  const lower = pdLower(p);
  const lineCount = pageGetMaxOffsetNumber(p);
  let stored = 0;
  let unused = 0;
  let total = 0;
  let lastUsed = 0;
  let lastOffset = special;
  let presorted = true;
  for (let offnum = FIRST_OFFSET_NUMBER; offnum <= lineCount; offnum++) {
    const itemId = getItemId(p, offnum);
    if (((itemId >>> 15) & 3) === LP_UNUSED) {
      itemIdSetUnused(p, offnum);
      unused++;
      continue;
    }
    lastUsed = offnum;
    if (itemId >>> 17 === 0) continue;
    const offset = itemId & 0x7fff;
    if (lastOffset > offset) lastOffset = offset;
    else presorted = false;
    if (offset < upper || offset >= special) throw new RangeError(`corrupted line pointer: ${offset}`);
    compactIndex[stored] = offnum - 1;
    compactOffset[stored] = offset;
    const aligned = ((itemId >>> 17) + 7) & ~7;
    compactLength[stored++] = aligned;
    total += aligned;
  }
  if (total > special - lower) throw corruptedLengths(total, special - lower);
  if (stored === 0) setPdUpper(p, special);
  else compactifyTuples(p, stored, presorted);

  if (truncate && lastUsed !== lineCount) {
    unused -= lineCount - lastUsed;
    setPdLower(p, lower - ITEM_ID_SIZE * (lineCount - lastUsed));
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
    compactIndex[kept] = kept;
    compactOffset[kept] = itemOffset;
    compactLength[kept] = aligned;
    newItemIds[kept++] = itemId;
  }
  if (next !== count) throw new RangeError('incorrect index offsets supplied');
  if (total > special - lower) throw corruptedLengths(total, special - lower);
  for (let i = 0; i < kept; i++) p.view.setUint32(PAGE_HEADER_SIZE + ITEM_ID_SIZE * i, newItemIds[i]!, true);
  setPdLower(p, PAGE_HEADER_SIZE + ITEM_ID_SIZE * kept);
  if (kept > 0) compactifyTuples(p, kept, presorted);
  else setPdUpper(p, special);
}
