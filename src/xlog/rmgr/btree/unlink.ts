// Deletion of B-tree pages, in two steps: an empty leaf becomes half-dead and loses its downlink, then it (or first
// the pages of the subtree above it) is unlinked from its siblings and becomes a tombstone.
//
//   xl_btree_mark_page_halfdead   0 poffset u16 | 4 leafblk u32 | 8 leftblk u32 | 12 rightblk u32 | 16 topparent u32
//     block 0  the leaf           block 1  the parent that loses the downlink at poffset
//   xl_btree_unlink_page          0 leftsib u32 | 4 rightsib u32 | 8 level u32 | 16 safexid u64
//                                24 leafleftsib u32 | 28 leafrightsib u32 | 32 leaftopparent u32
//     block 0  the target         block 1  its left sibling, if any      block 2  its right sibling
//     block 3  the half-dead leaf, if it is not the target               block 4  UNLINK_PAGE_META: the metapage
//
//   A tombstone: BTDeletedPageData at 24 (0 safexid u64), pd_lower 32.
//
// Mirrors btree_xlog_mark_page_halfdead and btree_xlog_unlink_page of nbtxlog.c, BTPageSetDeleted of nbtree.h.

import { readTidBlock, writeTidBlock } from '../../index-tuple.ts';
import { PAGE_HEADER_SIZE, type Page, setPdLower } from '../../page.ts';
import { copyBytes, pageGetItemOffset, pageIndexTupleDelete } from '../../page-items.ts';
import type { WalRecord } from '../../record.ts';
import { mainAt } from '../main-data.ts';
import {
  BTP_DELETED,
  BTP_HAS_FULLXID,
  BTP_LEAF,
  btPageInit,
  initHalfDead,
  setBtpoFlags,
  setBtpoLevel,
  setBtpoNext,
  setBtpoPrev,
} from './page.ts';

const SIZE_OF_FULL_XID = 8;

const halfDead = (record: WalRecord): number => mainAt(record, 20, 'xl_btree_mark_page_halfdead');
const unlinkPage = (record: WalRecord): number => mainAt(record, 36, 'xl_btree_unlink_page');
const u32 = (record: WalRecord, at: number): number => record.view.getUint32(at, true);

export function markLeafHalfDead(page: Page, record: WalRecord): void {
  const main = halfDead(record);
  initHalfDead(page, u32(record, main + 8), u32(record, main + 12), u32(record, main + 16));
}

/** The parent's downlink to the leaf takes over its right neighbour's, and that one goes. */
export function removeDownlink(page: Page, record: WalRecord): void {
  const poffset = record.view.getUint16(halfDead(record), true);
  const rightsib = readTidBlock(page.view, pageGetItemOffset(page, poffset + 1));
  writeTidBlock(page.view, pageGetItemOffset(page, poffset), rightsib);
  pageIndexTupleDelete(page, poffset + 1);
}

export function unlinkTarget(page: Page, record: WalRecord): void {
  const main = unlinkPage(record);
  const level = u32(record, main + 8);
  btPageInit(page);
  setBtpoPrev(page, u32(record, main));
  setBtpoNext(page, u32(record, main + 4));
  setBtpoLevel(page, level);
  setBtpoFlags(page, BTP_DELETED | BTP_HAS_FULLXID | (level === 0 ? BTP_LEAF : 0));
  copyBytes(page.bytes, PAGE_HEADER_SIZE, record.bytes, main + 16, SIZE_OF_FULL_XID);
  setPdLower(page, PAGE_HEADER_SIZE + SIZE_OF_FULL_XID);
}

export function unlinkLeftSibling(page: Page, record: WalRecord): void {
  setBtpoNext(page, u32(record, unlinkPage(record) + 4));
}

export function unlinkRightSibling(page: Page, record: WalRecord): void {
  setBtpoPrev(page, u32(record, unlinkPage(record)));
}

/** The leaf at the bottom is written anew, pointing at the next page of the subtree to go. */
export function unlinkLeaf(page: Page, record: WalRecord): void {
  const main = unlinkPage(record);
  initHalfDead(page, u32(record, main + 24), u32(record, main + 28), u32(record, main + 32));
}
