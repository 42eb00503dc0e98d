// Overflow pages of a hash bucket: added at the chain's end, emptied into earlier pages, freed.
//
//   xl_hash_add_ovfl_page        0 bmsize u16 | 2 bmpage_found u8
//     block 0  the new page: its bucket u32          block 1  the page that was last in the chain
//     block 2  a bitmap page: bit u32, if a freed page is taken again or there is a bit for the new one
//     block 3  a new bitmap page, if one was needed  block 4  the metapage: firstfree u32
//   xl_hash_move_page_contents   0 ntups u16 | 2 is_prim_bucket_same_wrt u8
//     block 0  the primary bucket page, only to be locked, unless it is block 1
//     block 1  where tuples arrive: offset numbers u16[ntups], the tuples, each padded to 8
//     block 2  where they leave: offset numbers u16[]
//   xl_hash_squeeze_page         0 prevblkno u32 | 4 nextblkno u32 | 8 ntups u16 | 10 is_prim_bucket_same_wrt u8
//                               11 is_prev_bucket_same_wrt u8
//     block 0, 1  as above           block 2  the freed page
//     block 3  the page before it, unless that is block 1          block 4  the page after it, if any
//     block 5  its bitmap page: bit u32                            block 6  the metapage: firstfree u32, if changed
//
// Mirrors hash_xlog_add_ovfl_page, hash_xlog_move_page_contents and hash_xlog_squeeze_page of hash_xlog.c.

import { addIndexTuple, indexTupleAlignedSize } from '../../index-tuple.ts';
import type { Page } from '../../page.ts';
import { pageIndexMultiDelete } from '../../page-compact.ts';
import type { BlockRef, WalRecord } from '../../record.ts';
import { UNCHANGED } from '../../rmgr.ts';
import { blockDataAt, mainAt } from '../main-data.ts';
import {
  addBitmapPage,
  clearBitmapBit,
  HASHM_FIRSTFREE,
  hashInitBitmap,
  hashInitPage,
  INVALID_BLOCK_NUMBER,
  INVALID_BUCKET,
  incrementSpares,
  LH_OVERFLOW_PAGE,
  LH_UNUSED_PAGE,
  setBitmapBit,
  setHashoNextblkno,
  setHashoPrevblkno,
  setMetaU32,
} from './page.ts';

const addOvfl = (record: WalRecord): number => mainAt(record, 3, 'xl_hash_add_ovfl_page');
const movePage = (record: WalRecord): number => mainAt(record, 3, 'xl_hash_move_page_contents');
const squeeze = (record: WalRecord): number => mainAt(record, 12, 'xl_hash_squeeze_page');
const blockU32 = (record: WalRecord, block: BlockRef): number =>
  record.view.getUint32(blockDataAt(record, block, 4, 'a number'), true);

// ---- ADD_OVFL_PAGE ------------------------------------------------------------------------------------------

export function addOvflPage(page: Page, record: WalRecord, block: BlockRef): void {
  hashInitPage(page, record.block(1).blkno, blockU32(record, block), LH_OVERFLOW_PAGE);
}

export function addOvflLeft(page: Page, record: WalRecord): void {
  setHashoNextblkno(page, record.block(0).blkno);
}

export function addOvflBitmap(page: Page, record: WalRecord, block: BlockRef): void {
  setBitmapBit(page, blockU32(record, block));
}

export function addOvflNewBitmap(page: Page, record: WalRecord): void {
  hashInitBitmap(page, record.view.getUint16(addOvfl(record), true));
}

export function addOvflMeta(page: Page, record: WalRecord, block: BlockRef): void {
  setMetaU32(page, HASHM_FIRSTFREE, blockU32(record, block));
  const bmpageFound = record.view.getUint8(addOvfl(record) + 2) !== 0;
  if (bmpageFound) return;
  incrementSpares(page);
  if (record.hasBlock(3)) {
    addBitmapPage(page, record.block(3).blkno);
    incrementSpares(page);
  }
}

// ---- tuples that move ---------------------------------------------------------------------------------------

function addTuples(page: Page, record: WalRecord, block: BlockRef, ntups: number): void {
  if (ntups === 0) return;
  const { view } = record;
  const end = block.dataOffset + block.dataLength;
  let at = block.dataOffset + 2 * ntups;
  let inserted = 0;
  for (; at < end; inserted++) {
    const size = indexTupleAlignedSize(view, at);
    const offnum = view.getUint16(block.dataOffset + 2 * inserted, true);
    addIndexTuple(page, record.bytes, at, size, offnum);
    at += size;
  }
  if (at !== end || inserted !== ntups) throw new RangeError(`${inserted} tuples, not ${ntups}`);
}

/** Delete the offset numbers that are the block's data, if any. */
export function deleteListed(page: Page, record: WalRecord, block: BlockRef): void {
  if (block.dataLength > 0) {
    pageIndexMultiDelete(page, record.view, block.dataOffset, block.dataLength >>> 1);
  }
}

export function moveWrite(page: Page, record: WalRecord, block: BlockRef): void {
  addTuples(page, record, block, record.view.getUint16(movePage(record), true));
}

// ---- SQUEEZE_PAGE -------------------------------------------------------------------------------------------

const NEXTBLKNO = 4;
const NTUPS = 8;
const IS_PREV_BUCKET_SAME_WRT = 11;

const squeezeNext = (record: WalRecord): number => record.view.getUint32(squeeze(record) + NEXTBLKNO, true);

export function squeezeWrite(page: Page, record: WalRecord, block: BlockRef): void {
  addTuples(page, record, block, record.view.getUint16(squeeze(record) + NTUPS, true));
  if (record.view.getUint8(squeeze(record) + IS_PREV_BUCKET_SAME_WRT) !== 0) {
    setHashoNextblkno(page, squeezeNext(record));
  }
}

/** From 17 on a page that is named only to be locked keeps its LSN. */
export function squeezeWrite17(page: Page, record: WalRecord, block: BlockRef): string | undefined {
  squeezeWrite(page, record, block);
  const main = squeeze(record);
  const { view } = record;
  const changed =
    view.getUint16(main + NTUPS, true) > 0 || view.getUint8(main + IS_PREV_BUCKET_SAME_WRT) !== 0;
  return changed ? undefined : UNCHANGED;
}

export function squeezeFreed(page: Page): void {
  hashInitPage(page, INVALID_BLOCK_NUMBER, INVALID_BUCKET, LH_UNUSED_PAGE);
}

export function squeezePrev(page: Page, record: WalRecord): void {
  setHashoNextblkno(page, squeezeNext(record));
}

export function squeezeNextPage(page: Page, record: WalRecord): void {
  setHashoPrevblkno(page, record.view.getUint32(squeeze(record), true));
}

export function squeezeBitmap(page: Page, record: WalRecord, block: BlockRef): void {
  clearBitmapBit(page, blockU32(record, block));
}

export function squeezeMeta(page: Page, record: WalRecord, block: BlockRef): void {
  setMetaU32(page, HASHM_FIRSTFREE, blockU32(record, block));
}
