// B-tree insertions that need no split: a tuple on a leaf or on an upper page, and one that lands inside a posting
// list. Also the new root that grows above a split.
//
//   xl_btree_insert    0 offnum u16
//     INSERT_LEAF      block 0: the tuple
//     INSERT_UPPER     block 0: the tuple (a downlink); block 1: the child whose split is now complete
//     INSERT_META      as INSERT_UPPER; block 2: xl_btree_metadata for the metapage
//     INSERT_POST      block 0: postingoff u16, the tuple as it was before the posting list was split
//   xl_btree_newroot   0 rootblk u32 | 4 level u32
//     NEWROOT          block 0: its tuples as restorePage takes them, above level 0; block 1: the left child;
//                      block 2: xl_btree_metadata
//
// A tuple inside a posting list swaps TIDs with it: the list takes the new TID in its order, the greatest falls out
// and becomes the TID of the tuple that is inserted after the list.
//
// Mirrors btree_xlog_insert and btree_xlog_newroot of nbtxlog.c.

import { addIndexTuple, INDEX_TUPLE_HEADER_SIZE, readTid, swapPosting, writeTid } from '../../index-tuple.ts';
import { type Page, pdUpper } from '../../page.ts';
import { pageGetItemOffset } from '../../page-items.ts';
import type { BlockRef, WalRecord } from '../../record.ts';
import { blockDataAt, mainAt } from '../main-data.ts';
import { BTP_LEAF, BTP_ROOT, btPageInit, restorePage, setBtpoFlags, setBtpoLevel } from './page.ts';

export function insertTuple(page: Page, record: WalRecord, block: BlockRef): void {
  const offnum = record.view.getUint16(mainAt(record, 2, 'xl_btree_insert'), true);
  addIndexTuple(page, record.bytes, block.dataOffset, block.dataLength, offnum);
}

export function insertPosting(page: Page, record: WalRecord, block: BlockRef): void {
  const offnum = record.view.getUint16(mainAt(record, 2, 'xl_btree_insert'), true);
  const data = blockDataAt(record, block, 2 + INDEX_TUPLE_HEADER_SIZE, 'a split posting list');
  const postingoff = record.view.getUint16(data, true);
  const newitem = data + 2;
  const oposting = pageGetItemOffset(page, offnum - 1);
  const tid = swapPosting(page.bytes, page.view, oposting, postingoff, readTid(record.view, newitem));
  addIndexTuple(page, record.bytes, newitem, block.dataLength - 2, offnum);
  writeTid(page.view, pdUpper(page), tid);
}

export function newRoot(page: Page, record: WalRecord, block: BlockRef): void {
  const level = record.view.getUint32(mainAt(record, 8, 'xl_btree_newroot') + 4, true);
  btPageInit(page);
  setBtpoFlags(page, level === 0 ? BTP_ROOT | BTP_LEAF : BTP_ROOT);
  setBtpoLevel(page, level);
  if (level > 0) restorePage(page, record, block);
}
