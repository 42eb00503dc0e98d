// GIN's pages: the special space that all kinds share, the metapage, and posting tree ("data") pages.
//
//   special space, 8 bytes:   0 rightlink u32 | 4 maxoff u16 | 6 flags u16
//   metapage, at 24:          GinMetaPageData, 56 bytes, ends at pd_lower
//   data page:  24 right bound (a TID in 8 bytes) | 32 posting lists on a leaf, PostingItems on others | pd_lower
//   PostingItem, 10 bytes:    child block high u16, low u16 | key TID, 6 bytes
//
// maxoff counts the PostingItems of an inner data page, and the heap tuples of a pending list page. A deleted data
// page keeps its deleteXid in pd_prune_xid.
//
// Mirrors ginblock.h, GinInitPage and GinInitMetabuffer of ginutil.c, and gindatapage.c.

import { BLCKSZ, type Page, PD_PRUNE_XID, pageInit, pdSpecial, setPdLower } from '../../page.ts';
import { copyBytes } from '../../page-items.ts';

export const GIN_DATA = 1 << 0;
export const GIN_LEAF = 1 << 1;
export const GIN_DELETED = 1 << 2;
export const GIN_META = 1 << 3;
export const GIN_LIST = 1 << 4;
export const GIN_LIST_FULLROW = 1 << 5;
export const GIN_INCOMPLETE_SPLIT = 1 << 6;
export const GIN_COMPRESSED = 1 << 7;

export const INVALID_BLOCK_NUMBER = 0xffffffff;

const OPAQUE_SIZE = 8;
const MAXOFF = 4;
const FLAGS = 6;

const PAGE_CONTENTS = 24;
export const GIN_META_SIZE = 56;

/** GinDataPageGetData: where posting lists and PostingItems begin. */
export const GIN_DATA_START = 32;
const GIN_DATA_END = BLCKSZ - OPAQUE_SIZE;
export const POSTING_ITEM_SIZE = 10;

export const ginFlags = (p: Page): number => p.view.getUint16(pdSpecial(p) + FLAGS, true);
export const setGinFlags = (p: Page, v: number): void => p.view.setUint16(pdSpecial(p) + FLAGS, v, true);
export const ginMaxoff = (p: Page): number => p.view.getUint16(pdSpecial(p) + MAXOFF, true);
export const setGinMaxoff = (p: Page, v: number): void => p.view.setUint16(pdSpecial(p) + MAXOFF, v, true);
export const setGinRightlink = (p: Page, v: number): void => p.view.setUint32(pdSpecial(p), v, true);
export const setGinDeleteXid = (p: Page, xid: number): void => p.view.setUint32(PD_PRUNE_XID, xid, true);

/** GinInitPage */
export function ginInitPage(p: Page, flags: number): void {
  pageInit(p, OPAQUE_SIZE);
  setGinFlags(p, flags);
  setGinRightlink(p, INVALID_BLOCK_NUMBER);
}

/** GinInitMetabuffer with a GinMetaPageData that a record holds. */
export function ginInitMetapage(p: Page, bytes: Uint8Array, metadata: number): void {
  ginInitPage(p, GIN_META);
  copyBytes(p.bytes, PAGE_CONTENTS, bytes, metadata, GIN_META_SIZE);
  setPdLower(p, PAGE_CONTENTS + GIN_META_SIZE);
}

/** GinDataPageSetDataSize */
export function setGinDataSize(p: Page, size: number): void {
  if (size > GIN_DATA_END - GIN_DATA_START) throw new RangeError(`${size} bytes on a posting tree page`);
  setPdLower(p, GIN_DATA_START + size);
}

/** GinDataPageGetPostingItem of an item that is there, or one past the last if `limit` says so. */
export function postingItemAt(offset: number, limit: number): number {
  if (offset < 1 || offset > limit) throw new RangeError(`no posting item ${offset}, there are ${limit}`);
  return GIN_DATA_START + (offset - 1) * POSTING_ITEM_SIZE;
}

/** GinDataPageAddPostingItem: put the item that lies at `from` of `bytes` at `offset`, later ones move up. */
export function ginAddPostingItem(p: Page, bytes: Uint8Array, from: number, offset: number): void {
  const maxoff = ginMaxoff(p);
  const at = offset === 0 ? postingItemAt(maxoff + 1, maxoff + 1) : postingItemAt(offset, maxoff + 1);
  const end = GIN_DATA_START + maxoff * POSTING_ITEM_SIZE;
  setGinDataSize(p, (maxoff + 1) * POSTING_ITEM_SIZE);
  p.bytes.copyWithin(at + POSTING_ITEM_SIZE, at, end);
  copyBytes(p.bytes, at, bytes, from, POSTING_ITEM_SIZE);
  setGinMaxoff(p, maxoff + 1);
}

/** GinPageDeletePostingItem */
export function ginDeletePostingItem(p: Page, offset: number): void {
  const maxoff = ginMaxoff(p);
  const at = postingItemAt(offset, maxoff);
  const end = GIN_DATA_START + maxoff * POSTING_ITEM_SIZE;
  p.bytes.copyWithin(at, at + POSTING_ITEM_SIZE, end);
  setGinMaxoff(p, maxoff - 1);
  setGinDataSize(p, (maxoff - 1) * POSTING_ITEM_SIZE);
}
