// What kind of page is this? Told by its special space alone, as pg_filedump and pageinspect do it: access
// methods leave an id in the last two bytes, or a size that no other has.
//
//   special  0  heap, and maps      16  B-tree (last u16: cycle id <= 0xFF7F), GiST 0xFF81, hash 0xFF80
//            8  GIN; sequence (magic 0x1717, block 0); SP-GiST 0xFF82; bloom 0xFF83; BRIN 0xF091..0xF093
//
// Mirrors the comments at GIST_PAGE_ID, HASHO_PAGE_ID, SPGIST_PAGE_ID, MAX_BT_CYCLE_ID and BRIN_PAGETYPE_META.

import { BLCKSZ, type Page, pageIsNew, pdSpecial } from './page.ts';

export type PageKind =
  | 'new'
  | 'heap'
  | 'btree'
  | 'hash'
  | 'gin'
  | 'gist'
  | 'spgist'
  | 'brin'
  | 'sequence'
  | 'generic';

const SEQ_MAGIC = 0x1717;
const BY_PAGE_ID: Readonly<Record<number, PageKind>> = {
  65408: 'hash',
  65409: 'gist',
  65410: 'spgist',
  65411: 'generic',
  61585: 'brin',
  61586: 'brin',
  61587: 'brin',
};

export function pageKind(page: Page, blkno: number): PageKind {
  if (pageIsNew(page)) return 'new';
  const special = pdSpecial(page);
  const size = BLCKSZ - special;
  if (size === 0) return 'heap';
  if (size < 2 || size > BLCKSZ - 24) return 'generic';
  const byId = BY_PAGE_ID[page.view.getUint16(BLCKSZ - 2, true)];
  if (byId !== undefined && (size === 8 || size === 16)) return byId;
  if (size === 16) return 'btree';
  if (size !== 8) return 'generic';
  return blkno === 0 && page.view.getUint32(special, true) === SEQ_MAGIC ? 'sequence' : 'gin';
}

/** The resource manager whose mask fits a page of a kind: its xl_rmid. */
export const RMID_OF_KIND: Readonly<Record<Exclude<PageKind, 'new'>, number>> = {
  heap: 10,
  btree: 11,
  hash: 12,
  gin: 13,
  gist: 14,
  sequence: 15,
  spgist: 16,
  brin: 17,
  generic: 20,
};
