// SP-GiST's pages and tuples.
//
//   special space, 8 bytes:  0 flags u16 | 2 nRedirection u16 | 4 nPlaceholder u16 | 6 page id u16, 0xFF82
//   leaf tuple:   0 tupstate bits 0-1, size bits 2-31 | 4 t_info u16: nextOffset bits 0-13, 15 has nulls
//                 6 heap TID | 12 datum, aligned to 8
//   dead tuple:   the same header | 6 pointer, a TID within the index | 12 xid u32; 16 bytes
//   inner tuple:  0 tupstate 2 bits, allTheSame 1, nNodes 13, prefixSize 16 | 4 size u16 | 8 prefix | nodes
//   node:         an index tuple whose t_tid is the downlink
//
// A tuple that goes leaves a dead one behind where others know its offset number: REDIRECT for scans under way,
// DEAD at the head of a chain, PLACEHOLDER that only keeps the number. Redo needs nothing but the xid of redirects
// and whether an index is being built, which each record brings along (spgxlogState: xid u32, isBuild u8).
//
// Mirrors spgist_private.h; SpGistInitPage and spgFormDeadTuple of spgutils.c; spgUpdateNodeLink and
// spgPageIndexMultiDelete of spgdoinsert.c; addOrReplaceTuple of spgxlog.c.

import { indexTupleSize, writeTidBlock } from '../../index-tuple.ts';
import { BLCKSZ, type Page, pageInit, pdSpecial } from '../../page.ts';
import { pageIndexMultiDelete } from '../../page-compact.ts';
import {
  INVALID_OFFSET_NUMBER,
  pageAddItem,
  pageGetItemOffset,
  pageGetMaxOffsetNumber,
  pageIndexTupleDelete,
} from '../../page-items.ts';

export const SPGIST_LEAF = 1 << 2;
export const SPGIST_NULLS = 1 << 3;

export const SPGIST_LIVE = 0;
export const SPGIST_REDIRECT = 1;
export const SPGIST_DEAD = 2;
export const SPGIST_PLACEHOLDER = 3;

export const INVALID_BLOCK_NUMBER = 0xffffffff;

const OPAQUE_SIZE = 8;
const N_REDIRECTION = 2;
const N_PLACEHOLDER = 4;
const PAGE_ID = 6;
const SPGIST_PAGE_ID = 0xff82;

const INNER_HEADER_SIZE = 8;
const LEAF_T_INFO = 4;
const NEXT_OFFSET_MASK = 0x3fff;
const DEAD_POINTER = 6;
const DEAD_XID = 12;
const DEAD_SIZE = 16;

/** SpGistInitPage */
export function spgInitPage(p: Page, flags: number): void {
  pageInit(p, OPAQUE_SIZE);
  p.view.setUint16(pdSpecial(p), flags, true);
  p.view.setUint16(pdSpecial(p) + PAGE_ID, SPGIST_PAGE_ID, true);
}

function addTo(p: Page, field: number, count: number): void {
  const at = pdSpecial(p) + field;
  p.view.setUint16(at, p.view.getUint16(at, true) + count, true);
}

export const addRedirections = (p: Page, count: number): void => addTo(p, N_REDIRECTION, count);
export const addPlaceholders = (p: Page, count: number): void => addTo(p, N_PLACEHOLDER, count);

export const tupleState = (p: Page, at: number): number => p.view.getUint32(at, true) & 3;
/** The size of a leaf or dead tuple. */
export const leafTupleSize = (view: DataView, at: number): number => view.getUint32(at, true) >>> 2;
export const innerTupleSize = (view: DataView, at: number): number => view.getUint16(at + 4, true);

/** SGLT_SET_NEXTOFFSET of the leaf tuple at an offset number. */
export function setNextOffset(p: Page, offnum: number, next: number): void {
  const at = pageGetItemOffset(p, offnum) + LEAF_T_INFO;
  p.view.setUint16(at, (p.view.getUint16(at, true) & ~NEXT_OFFSET_MASK) | (next & NEXT_OFFSET_MASK), true);
}

/** A redirect whose time has passed becomes a placeholder; its xid stays. */
export function redirectToPlaceholder(p: Page, offnum: number): void {
  const at = pageGetItemOffset(p, offnum);
  const header = p.view.getUint32(at, true);
  if ((header & 3) !== SPGIST_REDIRECT) throw new RangeError(`tuple ${offnum} is not a redirect`);
  p.view.setUint32(at, (header | SPGIST_PLACEHOLDER) >>> 0, true);
  writePointer(p.view, at + DEAD_POINTER, INVALID_BLOCK_NUMBER, INVALID_OFFSET_NUMBER);
}

function writePointer(view: DataView, at: number, blkno: number, offnum: number): void {
  writeTidBlock(view, at, blkno);
  view.setUint16(at + 4, offnum, true);
}

/** spgUpdateNodeLink: the downlink of node `nodeI` of the inner tuple at `offnum`. */
export function updateNodeLink(p: Page, offnum: number, nodeI: number, blkno: number, target: number): void {
  const tuple = pageGetItemOffset(p, offnum);
  const header = p.view.getUint32(tuple, true);
  const nodes = (header >>> 3) & 0x1fff;
  if (nodeI >= nodes) throw new RangeError(`no node ${nodeI} in an inner tuple of ${nodes}`);
  let at = tuple + INNER_HEADER_SIZE + (header >>> 16);
  for (let i = 0; i < nodeI; i++) at += indexTupleSize(p.view, at);
  writePointer(p.view, at, blkno, target);
}

/** Put a tuple at exactly this offset number, moving later ones up. */
export function addTuple(p: Page, bytes: Uint8Array, at: number, size: number, offnum: number): void {
  if (pageAddItem(p, bytes, at, size, offnum, false, false) !== offnum || offnum === INVALID_OFFSET_NUMBER) {
    throw new RangeError(`failed to add a tuple of ${size} bytes at ${offnum}`);
  }
}

/** addOrReplaceTuple: at the end of the line pointers, or in the place of a placeholder. */
export function addOrReplaceTuple(
  p: Page,
  bytes: Uint8Array,
  at: number,
  size: number,
  offnum: number,
): void {
  if (offnum <= pageGetMaxOffsetNumber(p)) {
    if (tupleState(p, pageGetItemOffset(p, offnum)) !== SPGIST_PLACEHOLDER) {
      throw new RangeError(`tuple ${offnum} to be replaced is not a placeholder`);
    }
    addPlaceholders(p, -1);
    pageIndexTupleDelete(p, offnum);
  }
  addTuple(p, bytes, at, size, offnum);
}

// ---- dead tuples --------------------------------------------------------------------------------------------

const dead = new Uint8Array(DEAD_SIZE);
const deadView = new DataView(dead.buffer);

/** spgFormDeadTuple, put at this offset number; blkno, target and xid are those of a redirect. */
export function addDeadTuple(
  p: Page,
  offnum: number,
  state: number,
  xid: number,
  blkno: number,
  target: number,
): void {
  const redirect = state === SPGIST_REDIRECT;
  deadView.setUint32(0, (DEAD_SIZE << 2) | state, true);
  writePointer(
    deadView,
    DEAD_POINTER,
    redirect ? blkno : INVALID_BLOCK_NUMBER,
    redirect ? target : INVALID_OFFSET_NUMBER,
  );
  deadView.setUint32(DEAD_XID, redirect ? xid : 0, true);
  addTuple(p, dead, 0, DEAD_SIZE, offnum);
  if (redirect) addRedirections(p, 1);
  else if (state === SPGIST_PLACEHOLDER) addPlaceholders(p, 1);
}

// By offset number: is it among those to delete. All zero between calls.
const marked = new Uint8Array(BLCKSZ);
const sorted = new DataView(new ArrayBuffer(BLCKSZ));

/**
 * spgPageIndexMultiDelete: the `count` tuples whose offset numbers are u16 at `at` of `view`, in any order, become
 * dead tuples; the first listed is of `firstState`, the others of `restState`.
 */
export function deleteTuples(
  p: Page,
  view: DataView,
  at: number,
  count: number,
  firstState: number,
  restState: number,
  xid: number,
  blkno: number,
  target: number,
): void {
  if (count === 0) return;
  const max = pageGetMaxOffsetNumber(p);
  sortOffsets(view, at, count, max);
  pageIndexMultiDelete(p, sorted, 0, count);
  const first = view.getUint16(at, true);
  for (let i = 0; i < count; i++) {
    const offnum = sorted.getUint16(2 * i, true);
    addDeadTuple(p, offnum, offnum === first ? firstState : restState, xid, blkno, target);
  }
}

/** The offset numbers in ascending order, in `sorted`. */
function sortOffsets(view: DataView, at: number, count: number, max: number): void {
  let found = 0;
  for (let i = 0; i < count; i++) {
    const offnum = view.getUint16(at + 2 * i, true);
    if (offnum > 0 && offnum <= max) marked[offnum] = 1;
  }
  for (let offnum = 1; offnum <= max; offnum++) {
    if (marked[offnum] === 0) continue;
    marked[offnum] = 0;
    sorted.setUint16(2 * found++, offnum, true);
  }
  if (found !== count) throw new RangeError(`${count} offset numbers, ${found} of them on the page`);
}
