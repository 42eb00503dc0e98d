// A B-tree page: the special space at its end, the metapage, and the small edits that many operations share.
//
//   BTPageOpaqueData, at pd_special:   0 btpo_prev u32 | 4 btpo_next u32 | 8 btpo_level u32
//                                     12 btpo_flags u16 | 14 btpo_cycleid u16        (block 0 stands for "none")
//   BTMetaPageData, at 24 of block 0:  0 magic u32 | 4 version u32 | 8 root u32 | 12 level u32 | 16 fastroot u32
//                                     20 fastlevel u32 | 24 last_cleanup_num_delpages u32
//                                     32 last_cleanup_num_heap_tuples f64 | 40 allequalimage u8       (48 bytes)
//   xl_btree_metadata, block data:     0 version u32 | 4 root | 8 level | 12 fastroot | 16 fastlevel
//                                     20 last_cleanup_num_delpages u32 | 24 allequalimage u8
//
// On a page that has a right neighbour item 1 is the high key and data begin at item 2; else data begin at 1.
//
// Mirrors nbtree.h, nbtxlog.h and _bt_restore_page, _bt_restore_meta, _bt_clear_incomplete_split and btree_mask
// of nbtxlog.c.

import { maskLpFlags, maskPageHintBits, maskPageLsnAndChecksum, maskUnusedSpace } from '../../bufmask.ts';
import {
  INDEX_ALT_TID_MASK,
  INDEX_TUPLE_HEADER_SIZE,
  indexTupleAlignedSize,
  T_INFO,
  writeTidBlock,
} from '../../index-tuple.ts';
import {
  BLCKSZ,
  newPage,
  PAGE_HEADER_SIZE,
  type Page,
  pageInit,
  pdSpecial,
  pdUpper,
  setPdLower,
  setPdUpper,
} from '../../page.ts';
import { copyBytes, ITEM_ID_SIZE, LP_NORMAL, pageAddItemSpace, setItemId } from '../../page-items.ts';
import type { BlockRef, WalRecord } from '../../record.ts';
import { blockDataAt } from '../main-data.ts';

export const BTPO_PREV = 0;
export const BTPO_NEXT = 4;
export const BTPO_LEVEL = 8;
export const BTPO_FLAGS = 12;
export const BTPO_CYCLEID = 14;
export const SIZE_OF_BT_PAGE_OPAQUE = 16;

export const BTP_LEAF = 0x0001;
export const BTP_ROOT = 0x0002;
export const BTP_DELETED = 0x0004;
export const BTP_META = 0x0008;
export const BTP_HALF_DEAD = 0x0010;
export const BTP_SPLIT_END = 0x0020;
export const BTP_HAS_GARBAGE = 0x0040;
export const BTP_INCOMPLETE_SPLIT = 0x0080;
export const BTP_HAS_FULLXID = 0x0100;

export const P_NONE = 0;
export const P_HIKEY = 1;
export const P_FIRSTKEY = 2;

const BTREE_MAGIC = 0x053162;
const SIZE_OF_BT_META_PAGE = 48;
/** Up to its last field; the struct is padded to 28. */
const SIZE_OF_XL_BTREE_METADATA = 25;

export const btpoNext = (page: Page): number => page.view.getUint32(pdSpecial(page) + BTPO_NEXT, true);
export const btpoFlags = (page: Page): number => page.view.getUint16(pdSpecial(page) + BTPO_FLAGS, true);

export function setBtpoPrev(page: Page, blkno: number): void {
  page.view.setUint32(pdSpecial(page) + BTPO_PREV, blkno, true);
}

export function setBtpoNext(page: Page, blkno: number): void {
  page.view.setUint32(pdSpecial(page) + BTPO_NEXT, blkno, true);
}

export function setBtpoLevel(page: Page, level: number): void {
  page.view.setUint32(pdSpecial(page) + BTPO_LEVEL, level, true);
}

export function setBtpoFlags(page: Page, flags: number): void {
  page.view.setUint16(pdSpecial(page) + BTPO_FLAGS, flags, true);
}

export function setBtpoCycleid(page: Page, cycleid: number): void {
  page.view.setUint16(pdSpecial(page) + BTPO_CYCLEID, cycleid, true);
}

/** P_FIRSTDATAKEY */
export const firstDataKey = (page: Page): number => (btpoNext(page) === P_NONE ? P_HIKEY : P_FIRSTKEY);

/** _bt_pageinit: an empty page; siblings, level, flags and cycle id are 0. */
export function btPageInit(page: Page): void {
  pageInit(page, SIZE_OF_BT_PAGE_OPAQUE);
}

/**
 * The tuples of a page that was just initialised, from what was its space between pd_upper and pd_special: the
 * one with the highest item number comes first. The bytes are laid down as they came; line pointers follow.
 */
export function restorePage(page: Page, record: WalRecord, block: BlockRef): void {
  const { dataOffset, dataLength } = block;
  const upper = pdUpper(page) - dataLength;
  const end = dataOffset + dataLength;
  let count = 0;
  let at = dataOffset;
  for (; at < end; at += indexTupleAlignedSize(record.view, at)) count++;
  if (at !== end || PAGE_HEADER_SIZE + ITEM_ID_SIZE * count > upper) {
    throw new RangeError(`${count} tuples do not fit their ${dataLength} bytes or the page`);
  }
  copyBytes(page.bytes, upper, record.bytes, dataOffset, dataLength);
  at = upper;
  for (let offnum = count; offnum >= P_HIKEY; offnum--) {
    const size = indexTupleAlignedSize(page.view, at);
    setItemId(page, offnum, at, LP_NORMAL, size);
    at += size;
  }
  setPdUpper(page, upper);
  setPdLower(page, PAGE_HEADER_SIZE + ITEM_ID_SIZE * count);
}

/** The metapage, made anew from xl_btree_metadata. */
export function restoreMeta(page: Page, record: WalRecord, block: BlockRef): void {
  btPageInit(page);
  const { view } = page;
  const meta = PAGE_HEADER_SIZE;
  const data = blockDataAt(record, block, SIZE_OF_XL_BTREE_METADATA, 'xl_btree_metadata');
  view.setUint32(meta, BTREE_MAGIC, true);
  view.setUint32(meta + 4, record.view.getUint32(data, true), true);
  view.setUint32(meta + 8, record.view.getUint32(data + 4, true), true);
  view.setUint32(meta + 12, record.view.getUint32(data + 8, true), true);
  view.setUint32(meta + 16, record.view.getUint32(data + 12, true), true);
  view.setUint32(meta + 20, record.view.getUint32(data + 16, true), true);
  view.setUint32(meta + 24, record.view.getUint32(data + 20, true), true);
  view.setFloat64(meta + 32, -1, true);
  view.setUint8(meta + 40, record.view.getUint8(data + 24));
  setBtpoFlags(page, BTP_META);
  setPdLower(page, meta + SIZE_OF_BT_META_PAGE);
}

/** The downlink of this page's right half has been inserted: the split that made it is complete. */
export function clearIncompleteSplit(page: Page): void {
  setBtpoFlags(page, btpoFlags(page) & ~BTP_INCOMPLETE_SPLIT);
}

/** A leaf on its way out: no data, and a high key that says where the deletion goes on. */
export function initHalfDead(page: Page, left: number, right: number, topParent: number): void {
  btPageInit(page);
  setBtpoPrev(page, left);
  setBtpoNext(page, right);
  setBtpoFlags(page, BTP_HALF_DEAD | BTP_LEAF);
  pageAddItemSpace(page, INDEX_TUPLE_HEADER_SIZE, P_HIKEY, false, false);
  const at = pdUpper(page);
  writeTidBlock(page.view, at, topParent);
  page.view.setUint16(at + T_INFO, INDEX_ALT_TID_MASK | INDEX_TUPLE_HEADER_SIZE, true);
}

const aside = newPage();

/**
 * Set a page's content aside and leave it empty with its special space as it was: a page is about to be built
 * anew from its own items. The answer is good until the next call.
 */
export function setAside(page: Page): Page {
  copyBytes(aside.bytes, 0, page.bytes, 0, BLCKSZ);
  const special = pdSpecial(page);
  if (special < PAGE_HEADER_SIZE || special > BLCKSZ - SIZE_OF_BT_PAGE_OPAQUE) {
    throw new RangeError(`pd_special ${special} leaves no room for a B-tree page's`);
  }
  pageInit(page, BLCKSZ - special);
  copyBytes(page.bytes, special, aside.bytes, special, BLCKSZ - special);
  return aside;
}

/** btree_mask */
export function btreeMask(page: Page): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  maskUnusedSpace(page);
  const flags = btpoFlags(page);
  if ((flags & BTP_LEAF) !== 0) maskLpFlags(page);
  setBtpoFlags(page, flags & ~(BTP_HAS_GARBAGE | BTP_SPLIT_END));
  setBtpoCycleid(page, 0);
}
