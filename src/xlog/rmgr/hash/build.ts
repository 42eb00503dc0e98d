// A hash index begun and its buckets split.
//
//   xl_hash_init_meta_page        0 num_tuples f64 | 8 procid u32 | 12 ffactor u16
//     block 0  the metapage
//   xl_hash_init_bitmap_page      0 bmsize u16
//     block 0  the bitmap page      block 1  the metapage
//   xl_hash_split_allocate_page   0 new_bucket u32 | 4 old_bucket_flag u16 | 6 new_bucket_flag u16 | 8 flags u8
//     block 0  the old bucket       block 1  the new one
//     block 2  the metapage: [lowmask u32, highmask u32] with flag 1, [ovflpoint u32, its spares u32] with flag 2
//   SPLIT_PAGE                    no data
//     block 0  a page that the split filled: always a full image
//   xl_hash_split_complete        0 old_bucket_flag u16 | 2 new_bucket_flag u16
//     block 0  the old bucket       block 1  the new one
//
// Mirrors hash_xlog_init_meta_page, hash_xlog_init_bitmap_page, hash_xlog_split_allocate_page,
// hash_xlog_split_page and hash_xlog_split_complete of hash_xlog.c.

import type { Page } from '../../page.ts';
import type { BlockRef, WalRecord } from '../../record.ts';
import { redoFault } from '../../rmgr.ts';
import { blockDataAt, mainAt } from '../main-data.ts';
import {
  addBitmapPage,
  HASHM_HIGHMASK,
  HASHM_LOWMASK,
  HASHM_MAXBUCKET,
  HASHM_OVFLPOINT,
  hashInitBitmap,
  hashInitMeta,
  hashInitPage,
  metaU32,
  setHashoFlag,
  setHashoPrevblkno,
  setMetaU32,
  setSpares,
} from './page.ts';

export const XLH_SPLIT_META_UPDATE_MASKS = 1;
export const XLH_SPLIT_META_UPDATE_SPLITPOINT = 2;

const splitAllocate = (record: WalRecord): number => mainAt(record, 9, 'xl_hash_split_allocate_page');
const splitComplete = (record: WalRecord): number => mainAt(record, 4, 'xl_hash_split_complete');

export function initMetaPage(page: Page, record: WalRecord): void {
  const { view } = record;
  const main = mainAt(record, 14, 'xl_hash_init_meta_page');
  const numTuples = view.getFloat64(main, true);
  hashInitMeta(page, numTuples, view.getUint32(main + 8, true), view.getUint16(main + 12, true));
}

export function initBitmapPage(page: Page, record: WalRecord): void {
  hashInitBitmap(page, record.view.getUint16(mainAt(record, 2, 'xl_hash_init_bitmap_page'), true));
}

/** The first bitmap page follows the buckets, which follow the metapage. */
export function initBitmapMeta(page: Page): void {
  addBitmapPage(page, metaU32(page, HASHM_MAXBUCKET) + 2);
}

export function splitAllocateOld(page: Page, record: WalRecord): void {
  const main = splitAllocate(record);
  setHashoFlag(page, record.view.getUint16(main + 4, true));
  setHashoPrevblkno(page, record.view.getUint32(main, true));
}

export function splitAllocateNew(page: Page, record: WalRecord): void {
  const main = splitAllocate(record);
  const bucket = record.view.getUint32(main, true);
  hashInitPage(page, bucket, bucket, record.view.getUint16(main + 6, true));
}

export function splitAllocateMeta(page: Page, record: WalRecord, block: BlockRef): void {
  const { view } = record;
  const main = splitAllocate(record);
  const flags = view.getUint8(main + 8);
  const masks = (flags & XLH_SPLIT_META_UPDATE_MASKS) !== 0;
  const splitpoint = (flags & XLH_SPLIT_META_UPDATE_SPLITPOINT) !== 0;
  let data = blockDataAt(record, block, (masks ? 8 : 0) + (splitpoint ? 8 : 0), 'what a split changes');
  setMetaU32(page, HASHM_MAXBUCKET, view.getUint32(main, true));
  if (masks) {
    setMetaU32(page, HASHM_LOWMASK, view.getUint32(data, true));
    setMetaU32(page, HASHM_HIGHMASK, view.getUint32(data + 4, true));
    data += 8;
  }
  if (splitpoint) {
    const ovflpoint = view.getUint32(data, true);
    setSpares(page, ovflpoint, view.getUint32(data + 4, true));
    setMetaU32(page, HASHM_OVFLPOINT, ovflpoint);
  }
}

export function splitPage(_page: Page, record: WalRecord, block: BlockRef): void {
  throw redoFault(record, block, 'hash split record did not contain a full-page image');
}

export function splitCompleteOld(page: Page, record: WalRecord): void {
  setHashoFlag(page, record.view.getUint16(splitComplete(record), true));
}

export function splitCompleteNew(page: Page, record: WalRecord): void {
  setHashoFlag(page, record.view.getUint16(splitComplete(record) + 2, true));
}
