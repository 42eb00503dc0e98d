// A B-tree page split: the left half is built anew from its own items, the right half from the record.
//
//   xl_btree_split   0 level u32 | 4 firstrightoff u16 | 6 newitemoff u16 | 8 postingoff u16
//     block 0        the page that splits, to be the left half: [the new tuple], the new high key
//                    (the tuple is there in SPLIT_L, and wherever postingoff is not 0)
//     block 1        the right half: its tuples as restorePage takes them, high key and new tuple among them
//     block 2        the right neighbour, if there is one
//     block 3        the child whose own split is now complete, above level 0
//
// Items before firstrightoff stay left. With postingoff the new tuple fell into the posting list before it: the
// two swap TIDs (see insert.ts), and the list stays left.
//
// Each half is computable alone: what the right half takes from elsewhere are block numbers of the record. Neon
// adds one thing: while VACUUM runs, its computes force an image of the left half to carry the vacuum cycle id, and
// the right half takes the id from that image. Stock Postgres leaves it 0 at replay.
//
// Mirrors btree_xlog_split of nbtxlog.c.

import { restoreImage } from '../../image.ts';
import { addIndexTuple, indexTupleAlignedSize, readTid, swapPosting, writeTid } from '../../index-tuple.ts';
import { BLCKSZ, newPage, type Page, pdUpper } from '../../page.ts';
import { itemIdLength, pageGetItemOffset } from '../../page-items.ts';
import type { BlockRef, WalRecord } from '../../record.ts';
import { mainAt } from '../main-data.ts';
import {
  BTP_INCOMPLETE_SPLIT,
  BTP_LEAF,
  BTPO_CYCLEID,
  btPageInit,
  firstDataKey,
  P_HIKEY,
  P_NONE,
  restorePage,
  SIZE_OF_BT_PAGE_OPAQUE,
  setAside,
  setBtpoCycleid,
  setBtpoFlags,
  setBtpoLevel,
  setBtpoNext,
  setBtpoPrev,
} from './page.ts';

const LEVEL = 0;
const FIRSTRIGHTOFF = 4;
const NEWITEMOFF = 6;
const POSTINGOFF = 8;
const SIZE_OF_BTREE_SPLIT = 10;

export function splitLeftNewLeft(page: Page, record: WalRecord, block: BlockRef): void {
  splitLeft(page, record, block, true);
}

export function splitLeftNewRight(page: Page, record: WalRecord, block: BlockRef): void {
  splitLeft(page, record, block, false);
}

function splitLeft(page: Page, record: WalRecord, block: BlockRef, newitemOnLeft: boolean): void {
  const { view } = record;
  const main = mainAt(record, SIZE_OF_BTREE_SPLIT, 'xl_btree_split');
  const firstright = view.getUint16(main + FIRSTRIGHTOFF, true);
  const newitemoff = view.getUint16(main + NEWITEMOFF, true);
  const postingoff = view.getUint16(main + POSTINGOFF, true);
  const newitem = block.dataOffset;
  const newitemSize = newitemOnLeft || postingoff !== 0 ? indexTupleAlignedSize(view, newitem) : 0;
  const hikey = newitem + newitemSize;
  const hikeySize = indexTupleAlignedSize(view, hikey);
  if (newitemSize + hikeySize !== block.dataLength) {
    throw new RangeError(`tuples of ${newitemSize} and ${hikeySize} bytes in ${block.dataLength}`);
  }

  const orig = setAside(page);
  let tid = newitemSize === 0 ? 0 : readTid(view, newitem);
  if (postingoff !== 0) {
    const oposting = pageGetItemOffset(orig, newitemoff - 1);
    tid = swapPosting(orig.bytes, orig.view, oposting, postingoff, tid);
  }
  addIndexTuple(page, record.bytes, hikey, hikeySize, P_HIKEY);
  let leftoff = P_HIKEY + 1;
  for (let off = firstDataKey(orig); off <= firstright; off++) {
    if (newitemOnLeft && off === newitemoff) {
      addIndexTuple(page, record.bytes, newitem, newitemSize, leftoff++);
      writeTid(page.view, pdUpper(page), tid);
    }
    if (off === firstright) break;
    addIndexTuple(page, orig.bytes, pageGetItemOffset(orig, off), itemIdLength(orig, off), leftoff++);
  }

  const leaf = view.getUint32(main + LEVEL, true) === 0;
  setBtpoFlags(page, leaf ? BTP_INCOMPLETE_SPLIT | BTP_LEAF : BTP_INCOMPLETE_SPLIT);
  setBtpoNext(page, record.block(1).blkno);
  setBtpoCycleid(page, 0);
}

export function splitRight(page: Page, record: WalRecord, block: BlockRef): void {
  const level = record.view.getUint32(mainAt(record, SIZE_OF_BTREE_SPLIT, 'xl_btree_split') + LEVEL, true);
  btPageInit(page);
  setBtpoPrev(page, record.block(0).blkno);
  setBtpoNext(page, record.hasBlock(2) ? record.block(2).blkno : P_NONE);
  setBtpoLevel(page, level);
  setBtpoFlags(page, level === 0 ? BTP_LEAF : 0);
  restorePage(page, record, block);
}

export function splitRightNeon(page: Page, record: WalRecord, block: BlockRef): void {
  splitRight(page, record, block);
  const left = record.block(0);
  if (left.hasImage) setBtpoCycleid(page, imageCycleid(record, left));
}

const imaged = newPage();

/** btpo_cycleid is the last thing on a page, behind any hole: of a plain image, its last two bytes. */
function imageCycleid(record: WalRecord, left: BlockRef): number {
  if (left.compression === 'none' && left.imageLength >= 2) {
    return record.view.getUint16(left.imageOffset + left.imageLength - 2, true);
  }
  restoreImage(imaged.bytes, record, left);
  return imaged.view.getUint16(BLCKSZ - SIZE_OF_BT_PAGE_OPAQUE + BTPO_CYCLEID, true);
}

/** Block 2: the neighbour to the right looks back to the new page. */
export function splitNeighbour(page: Page, record: WalRecord): void {
  setBtpoPrev(page, record.block(1).blkno);
}
