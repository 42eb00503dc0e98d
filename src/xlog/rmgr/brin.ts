// BRIN (17): a metapage, then revmap pages (where the summary of a block range lies), then regular pages (the
// summaries). Six operations; XLOG_BRIN_INIT_PAGE in xl_info begins the regular page of block 0 anew.
//
//   metapage, at 24:  brinMagic u32 | brinVersion u32 | pagesPerRange u32 | lastRevmapPage u32
//   revmap, at 24:    1360 item pointers of 6 bytes: block number high u16, low u16, offset number u16
//   special, 8 bytes: ..., flags u16 at 4, page type u16 at 6
//
//   xl_brin_createidx        0 pagesPerRange u32 | 4 version u16                            block 0 metapage
//   xl_brin_insert           0 heapBlk u32 | 4 pagesPerRange u32 | 8 offnum u16             0 regular, 1 revmap
//   xl_brin_update           0 oldOffnum u16 | 4 xl_brin_insert                             and 2 old page
//   xl_brin_samepage_update  0 offnum u16                                                   0 regular
//   xl_brin_revmap_extend    0 targetBlk u32                                                0 metapage, 1 revmap
//   xl_brin_desummarize      0 pagesPerRange u32 | 4 heapBlk u32 | 8 regOffset u16          0 revmap, 1 regular
//
// Block 0's data, where there is any, is the BrinTuple. Mirrors brin_xlog.c, brin_pageops.c (page init),
// brin_revmap.c and brindesc.c. Alike in 14 to 18; the mask hides BRIN_EVACUATE_PAGE in every current minor.

import { maskPageHintBits, maskPageLsnAndChecksum, maskUnusedSpace } from '../bufmask.ts';
import { BLCKSZ, PAGE_HEADER_SIZE, type Page, pageInit, pdLower, pdSpecial, setPdLower } from '../page.ts';
import {
  pageAddItem,
  pageGetMaxOffsetNumber,
  pageIndexTupleDeleteNoCompact,
  pageIndexTupleOverwrite,
} from '../page-items.ts';
import { type BlockRef, badRecord, type WalRecord } from '../record.ts';
import { type Rmgr, redoFault } from '../rmgr.ts';

export const RM_BRIN_ID = 17;

export const XLOG_BRIN_CREATE_INDEX = 0x00;
export const XLOG_BRIN_INSERT = 0x10;
export const XLOG_BRIN_UPDATE = 0x20;
export const XLOG_BRIN_SAMEPAGE_UPDATE = 0x30;
export const XLOG_BRIN_REVMAP_EXTEND = 0x40;
export const XLOG_BRIN_DESUMMARIZE = 0x50;
const XLOG_BRIN_OPMASK = 0x70;
const XLOG_BRIN_INIT_PAGE = 0x80;

const BRIN_PAGETYPE_META = 0xf091;
const BRIN_PAGETYPE_REVMAP = 0xf092;
const BRIN_PAGETYPE_REGULAR = 0xf093;
const BRIN_META_MAGIC = 0xa8109cfa;
const BRIN_EVACUATE_PAGE = 1;
const SIZE_OF_BRIN_SPECIAL = 8;
const SIZE_OF_BRIN_METADATA = 16;
const LAST_REVMAP_PAGE = PAGE_HEADER_SIZE + 12;
const SIZE_OF_ITEM_POINTER = 6;
const REVMAP_PAGE_MAXITEMS = Math.floor(
  (BLCKSZ - PAGE_HEADER_SIZE - SIZE_OF_BRIN_SPECIAL) / SIZE_OF_ITEM_POINTER,
);
const INVALID_BLOCK_HALF = 0xffff;

/** Where the main data begins, when it is as long as its struct. */
function mainData(record: WalRecord, size: number): number {
  if (record.mainLength < size)
    throw badRecord(record, `BRIN main data is ${record.mainLength} bytes, not ${size}`);
  return record.mainOffset;
}

/** Where the xl_brin_insert of an insert or update begins. */
const insertPart = (record: WalRecord): number =>
  (record.info & XLOG_BRIN_OPMASK) === XLOG_BRIN_UPDATE ? mainData(record, 14) + 4 : mainData(record, 10);

// ---- page edits ---------------------------------------------------------------------------------------------

/** brin_page_init */
function brinPageInit(page: Page, type: number): void {
  pageInit(page, SIZE_OF_BRIN_SPECIAL);
  page.view.setUint16(BLCKSZ - 2, type, true);
}

/** brinSetHeapBlockItemptr: offset number 0 makes the pointer invalid. */
function setHeapBlockItemptr(
  page: Page,
  pagesPerRange: number,
  heapBlk: number,
  blkno: number,
  offnum: number,
): void {
  const index = Math.floor(heapBlk / pagesPerRange) % REVMAP_PAGE_MAXITEMS;
  const at = PAGE_HEADER_SIZE + index * SIZE_OF_ITEM_POINTER;
  page.view.setUint16(at, offnum === 0 ? INVALID_BLOCK_HALF : blkno >>> 16, true);
  page.view.setUint16(at + 2, offnum === 0 ? INVALID_BLOCK_HALF : blkno & 0xffff, true);
  page.view.setUint16(at + 4, offnum, true);
}

/** brin_xlog_createidx, with brin_metapage_init */
function createIndex(page: Page, record: WalRecord): void {
  const at = mainData(record, 6);
  brinPageInit(page, BRIN_PAGETYPE_META);
  page.view.setUint32(PAGE_HEADER_SIZE, BRIN_META_MAGIC, true);
  page.view.setUint32(PAGE_HEADER_SIZE + 4, record.view.getUint16(at + 4, true), true);
  page.view.setUint32(PAGE_HEADER_SIZE + 8, record.view.getUint32(at, true), true);
  page.view.setUint32(LAST_REVMAP_PAGE, 0, true);
  setPdLower(page, PAGE_HEADER_SIZE + SIZE_OF_BRIN_METADATA);
}

/** brin_xlog_insert_update, the regular page */
function insertTuple(page: Page, record: WalRecord, block: BlockRef): void {
  const offnum = record.view.getUint16(insertPart(record) + 8, true);
  if ((record.info & XLOG_BRIN_INIT_PAGE) !== 0) brinPageInit(page, BRIN_PAGETYPE_REGULAR);
  if (pageGetMaxOffsetNumber(page) + 1 < offnum) throw redoFault(record, block, 'invalid max offset number');
  if (pageAddItem(page, record.bytes, block.dataOffset, block.dataLength, offnum, true, false) === 0) {
    throw redoFault(record, block, 'failed to add tuple');
  }
}

/** brin_xlog_insert_update, the revmap */
function pointRevmap(page: Page, record: WalRecord): void {
  const at = insertPart(record);
  setHeapBlockItemptr(
    page,
    record.view.getUint32(at + 4, true),
    record.view.getUint32(at, true),
    record.block(0).blkno,
    record.view.getUint16(at + 8, true),
  );
}

/** brin_xlog_update, the old page */
function deleteOld(page: Page, record: WalRecord): void {
  pageIndexTupleDeleteNoCompact(page, record.view.getUint16(mainData(record, 14), true));
}

/** brin_xlog_samepage_update */
function samepageUpdate(page: Page, record: WalRecord, block: BlockRef): void {
  const offnum = record.view.getUint16(mainData(record, 2), true);
  if (!pageIndexTupleOverwrite(page, offnum, record.bytes, block.dataOffset, block.dataLength)) {
    throw redoFault(record, block, 'failed to replace tuple');
  }
}

/** brin_xlog_revmap_extend, the metapage */
function extendMetapage(page: Page, record: WalRecord): void {
  page.view.setUint32(LAST_REVMAP_PAGE, record.view.getUint32(mainData(record, 4), true), true);
  setPdLower(page, PAGE_HEADER_SIZE + SIZE_OF_BRIN_METADATA);
}

/** brin_xlog_revmap_extend, the new revmap page */
function initRevmap(page: Page): void {
  brinPageInit(page, BRIN_PAGETYPE_REVMAP);
}

/** brin_xlog_desummarize_page, the revmap */
function unpointRevmap(page: Page, record: WalRecord): void {
  const at = mainData(record, 10);
  setHeapBlockItemptr(page, record.view.getUint32(at, true), record.view.getUint32(at + 4, true), 0, 0);
}

/** brin_xlog_desummarize_page, the regular page */
function desummarize(page: Page, record: WalRecord): void {
  pageIndexTupleDeleteNoCompact(page, record.view.getUint16(mainData(record, 10) + 8, true));
}

// ---- mask and description -----------------------------------------------------------------------------------

/** brin_mask */
export function brinMask(page: Page): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  const special = pdSpecial(page);
  const type = page.view.getUint16(special + 6, true);
  if (type === BRIN_PAGETYPE_REGULAR || (type === BRIN_PAGETYPE_META && pdLower(page) > PAGE_HEADER_SIZE)) {
    maskUnusedSpace(page);
  }
  page.view.setUint16(special + 4, page.view.getUint16(special + 4, true) & ~BRIN_EVACUATE_PAGE, true);
}

const u16 = (record: WalRecord, at: number): number => record.view.getUint16(at, true);
const u32 = (record: WalRecord, at: number): number => record.view.getUint32(at, true);

function describeCreate(record: WalRecord): string {
  const at = mainData(record, 6);
  return `v${u16(record, at + 4)} pagesPerRange ${u32(record, at)}`;
}

function describeInsert(record: WalRecord): string {
  const at = mainData(record, 10);
  return `heapBlk ${u32(record, at)} pagesPerRange ${u32(record, at + 4)} offnum ${u16(record, at + 8)}`;
}

function describeUpdate(record: WalRecord): string {
  const at = mainData(record, 14);
  return (
    `heapBlk ${u32(record, at + 4)} pagesPerRange ${u32(record, at + 8)} ` +
    `old offnum ${u16(record, at)}, new offnum ${u16(record, at + 12)}`
  );
}

function describeDesummarize(record: WalRecord): string {
  const at = mainData(record, 10);
  return `pagesPerRange ${u32(record, at)}, heapBlk ${u32(record, at + 4)}, page offset ${u16(record, at + 8)}`;
}

export const brin14: Rmgr = {
  id: RM_BRIN_ID,
  name: 'BRIN',
  opMask: XLOG_BRIN_OPMASK,
  initFlag: XLOG_BRIN_INIT_PAGE,
  mask: brinMask,
  ops: {
    [XLOG_BRIN_CREATE_INDEX]: { name: 'CREATE_INDEX', redo: { 0: createIndex }, describe: describeCreate },
    [XLOG_BRIN_INSERT]: {
      name: 'INSERT',
      redo: { 0: insertTuple, 1: pointRevmap },
      describe: describeInsert,
    },
    [XLOG_BRIN_UPDATE]: {
      name: 'UPDATE',
      redo: { 0: insertTuple, 1: pointRevmap, 2: deleteOld },
      describe: describeUpdate,
    },
    [XLOG_BRIN_SAMEPAGE_UPDATE]: {
      name: 'SAMEPAGE_UPDATE',
      redo: { 0: samepageUpdate },
      describe: record => `offnum ${u16(record, mainData(record, 2))}`,
    },
    [XLOG_BRIN_REVMAP_EXTEND]: {
      name: 'REVMAP_EXTEND',
      redo: { 0: extendMetapage, 1: initRevmap },
      describe: record => `targetBlk ${u32(record, mainData(record, 4))}`,
    },
    [XLOG_BRIN_DESUMMARIZE]: {
      name: 'DESUMMARIZE',
      redo: { 0: unpointRevmap, 1: desummarize },
      describe: describeDesummarize,
    },
  },
};

export const brin15 = brin14;
export const brin16 = brin15;
export const brin17 = brin16;
export const brin18 = brin17;
