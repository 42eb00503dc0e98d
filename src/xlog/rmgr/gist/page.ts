// GiST's pages: the special space, and what a deleted page holds.
//
//   special space, 16 bytes:  0 nsn, u32 high then u32 low as pd_lsn has them | 8 rightlink u32 | 12 flags u16
//                             14 page id u16, 0xFF81
//   deleted page, at 24:      deleteXid u64, ends at pd_lower
//
// The NSN is the end of the record that completed a split: a scan that came by an older parent follows the
// rightlink.
//
// Mirrors gist.h and gistinitpage of gistutil.c.

import { lsnHigh, lsnLow } from '../../../base/lsn.ts';
import { type Page, pageInit, pdSpecial, setPdLower } from '../../page.ts';
import { copyBytes } from '../../page-items.ts';

export const F_LEAF = 1 << 0;
export const F_DELETED = 1 << 1;
export const F_TUPLES_DELETED = 1 << 2;
export const F_FOLLOW_RIGHT = 1 << 3;
export const F_HAS_GARBAGE = 1 << 4;

export const GIST_ROOT_BLKNO = 0;
export const INVALID_BLOCK_NUMBER = 0xffffffff;

const OPAQUE_SIZE = 16;
const RIGHTLINK = 8;
const FLAGS = 12;
const PAGE_ID = 14;
const GIST_PAGE_ID = 0xff81;

const PAGE_CONTENTS = 24;
const DELETED_PAGE_CONTENTS_SIZE = 8;

export const gistFlags = (p: Page): number => p.view.getUint16(pdSpecial(p) + FLAGS, true);
export const setGistFlags = (p: Page, v: number): void => p.view.setUint16(pdSpecial(p) + FLAGS, v, true);
export const setGistRightlink = (p: Page, v: number): void =>
  p.view.setUint32(pdSpecial(p) + RIGHTLINK, v, true);

/** GistPageSetNSN */
export function setGistNsn(p: Page, nsn: number): void {
  p.view.setUint32(pdSpecial(p), lsnHigh(nsn), true);
  p.view.setUint32(pdSpecial(p) + 4, lsnLow(nsn), true);
}

/** gistinitpage */
export function gistInitPage(p: Page, flags: number): void {
  pageInit(p, OPAQUE_SIZE);
  setGistRightlink(p, INVALID_BLOCK_NUMBER);
  setGistFlags(p, flags);
  p.view.setUint16(pdSpecial(p) + PAGE_ID, GIST_PAGE_ID, true);
}

/** GistPageSetDeleted with the FullTransactionId that lies at `xid` of `bytes`. */
export function gistSetDeleted(p: Page, bytes: Uint8Array, xid: number): void {
  setGistFlags(p, gistFlags(p) | F_DELETED);
  setPdLower(p, PAGE_CONTENTS + DELETED_PAGE_CONTENTS_SIZE);
  copyBytes(p.bytes, PAGE_CONTENTS, bytes, xid, DELETED_PAGE_CONTENTS_SIZE);
}
