// A Postgres page: 8192 bytes with a DataView made once, edited in place.
//
//   0  pd_lsn               u32 high half, u32 low half (the one place where the high half comes first)
//   8  pd_checksum          u16
//  10  pd_flags             u16   1 free line pointers, 2 page full, 4 all visible
//  12  pd_lower             u16   end of the line pointer array
//  14  pd_upper             u16   start of tuple space; 0 on a page never initialised ("new")
//  16  pd_special           u16   start of the access method's own space
//  18  pd_pagesize_version  u16   8192 | 4
//  20  pd_prune_xid         u32
//  24  line pointers, 4 bytes each: lp_off 15 bits, lp_flags 2, lp_len 15
//
// Mirrors src/include/storage/bufpage.h and PageInit of bufpage.c. Edits of items are in page-items.ts.

import { assert } from '../base/assert.ts';
import { type Lsn, lsnFromHalves, lsnHigh, lsnLow } from '../base/lsn.ts';

export const BLCKSZ = 8192;
export const PAGE_HEADER_SIZE = 24;
export const PG_PAGE_LAYOUT_VERSION = 4;

export const PD_LSN = 0;
export const PD_CHECKSUM = 8;
export const PD_FLAGS = 10;
export const PD_LOWER = 12;
export const PD_UPPER = 14;
export const PD_SPECIAL = 16;
export const PD_PAGESIZE_VERSION = 18;
export const PD_PRUNE_XID = 20;

export const PD_HAS_FREE_LINES = 0x0001;
export const PD_PAGE_FULL = 0x0002;
export const PD_ALL_VISIBLE = 0x0004;

export interface Page {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

export function newPage(): Page {
  return pageOver(new Uint8Array(BLCKSZ));
}

/** A page over bytes that exist already; they are edited in place. */
export function pageOver(bytes: Uint8Array): Page {
  assert(bytes.length === BLCKSZ, `a page is ${BLCKSZ} bytes, not ${bytes.length}`);
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, BLCKSZ) };
}

export const maxAlign = (n: number): number => (n + 7) & ~7;

export const pdFlags = (p: Page): number => p.view.getUint16(PD_FLAGS, true);
export const pdLower = (p: Page): number => p.view.getUint16(PD_LOWER, true);
export const pdUpper = (p: Page): number => p.view.getUint16(PD_UPPER, true);
export const pdSpecial = (p: Page): number => p.view.getUint16(PD_SPECIAL, true);
export const setPdFlags = (p: Page, v: number): void => p.view.setUint16(PD_FLAGS, v, true);
export const setPdLower = (p: Page, v: number): void => p.view.setUint16(PD_LOWER, v, true);
export const setPdUpper = (p: Page, v: number): void => p.view.setUint16(PD_UPPER, v, true);

/** Never initialised: PageIsNew. */
export const pageIsNew = (p: Page): boolean => p.view.getUint16(PD_UPPER, true) === 0;

export function pageLsn(p: Page): Lsn {
  return lsnFromHalves(p.view.getUint32(0, true), p.view.getUint32(4, true));
}

export function setPageLsn(p: Page, lsn: number): void {
  p.view.setUint32(0, lsnHigh(lsn), true);
  p.view.setUint32(4, lsnLow(lsn), true);
}

/** PageInit: zero the page and write an empty header, with `specialSize` bytes kept at the end. */
export function pageInit(p: Page, specialSize: number): void {
  const special = BLCKSZ - maxAlign(specialSize);
  p.bytes.fill(0);
  p.view.setUint16(PD_LOWER, PAGE_HEADER_SIZE, true);
  p.view.setUint16(PD_UPPER, special, true);
  p.view.setUint16(PD_SPECIAL, special, true);
  p.view.setUint16(PD_PAGESIZE_VERSION, BLCKSZ | PG_PAGE_LAYOUT_VERSION, true);
}
