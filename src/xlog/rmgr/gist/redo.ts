// GiST's page edits: what each operation does to each block it names.
//
//   PAGE_UPDATE   main: ntodelete u16, ntoinsert u16     0 target, 1 left half of the split that this completes
//                 data 0: ntodelete offset numbers u16, then index tuples
//   DELETE        main: xid u32, ntodelete u16; offset numbers from 6 (14, 15), or
//                       isCatalogRel u8 at 6 and offset numbers from 8 (16 and later)       0 leaf
//   PAGE_SPLIT    main: origrlink u32, orignsn u64 at 8, origleaf u8 at 16, npage u16 at 18,
//                       markfollowright u8 at 20         0 left half of an earlier split, 1.. pages, in order
//                 data 1..: count i32, index tuples
//   PAGE_DELETE   main: deleteXid u64, downlinkOffset u16     0 deleted page, 1 parent
//
// Each page of a split is made anew; its rightlink is the next block of the record.
//
// Mirrors gistxlog.c and gistxlog.h.

import { readLsnLE } from '../../../base/lsn.ts';
import { indexTupleSize } from '../../index-tuple.ts';
import type { Page } from '../../page.ts';
import { pageIndexMultiDelete } from '../../page-compact.ts';
import {
  pageAddItem,
  pageGetMaxOffsetNumber,
  pageIndexTupleDelete,
  pageIndexTupleOverwrite,
} from '../../page-items.ts';
import type { WalRecord } from '../../record.ts';
import type { PageRedo } from '../../rmgr.ts';
import {
  F_FOLLOW_RIGHT,
  F_HAS_GARBAGE,
  F_LEAF,
  F_TUPLES_DELETED,
  GIST_ROOT_BLKNO,
  gistFlags,
  gistInitPage,
  gistSetDeleted,
  INVALID_BLOCK_NUMBER,
  setGistFlags,
  setGistNsn,
  setGistRightlink,
} from './page.ts';

export const DELETE_NTODELETE = 4;
const DELETE_OFFSETS_14 = 6;
const DELETE_OFFSETS_16 = 8;

const SPLIT_ORIGNSN = 8;
const SPLIT_ORIGLEAF = 16;
export const SPLIT_NPAGE = 18;
const SPLIT_MARKFOLLOWRIGHT = 20;

export const DELETE_DOWNLINK_OFFSET = 8;

/** gistRedoClearFollowRight: also on top of an image, which was taken before this was done. */
export const clearFollowRight: PageRedo = (page, record) => {
  setGistNsn(page, record.endLsn);
  setGistFlags(page, gistFlags(page) & ~F_FOLLOW_RIGHT);
};

/** gistRedoPageUpdateRecord */
export const pageUpdate: PageRedo = (page, record, block) => {
  const { bytes, view, mainOffset } = record;
  const deleted = view.getUint16(mainOffset, true);
  const inserted = view.getUint16(mainOffset + 2, true);
  const end = block.dataOffset + block.dataLength;
  let at = block.dataOffset;
  if (deleted === 1 && inserted === 1) {
    const offnum = view.getUint16(at, true);
    at += 2;
    const size = indexTupleSize(view, at);
    if (!pageIndexTupleOverwrite(page, offnum, bytes, at, size)) {
      throw new RangeError(`failed to overwrite tuple ${offnum} with ${size} bytes`);
    }
    at += size;
  } else if (deleted > 0) {
    pageIndexMultiDelete(page, view, at, deleted);
    at += 2 * deleted;
    const flags = gistFlags(page);
    if ((flags & F_LEAF) !== 0) setGistFlags(page, flags | F_TUPLES_DELETED);
  }
  addTuples(page, record, at, end);
};

/**
 * gistRedoDeleteRecord, with the offset numbers where a major has them. The page becomes what gistprunepage made of
 * it: Postgres's redo would set F_TUPLES_DELETED besides, which the writer does not, so that Postgres's own
 * consistency check stops at these records. Nothing reads that flag.
 */
const deleteTuples =
  (offsets: number): PageRedo =>
  (page, record) => {
    const main = record.mainOffset;
    const count = record.view.getUint16(main + DELETE_NTODELETE, true);
    pageIndexMultiDelete(page, record.view, main + offsets, count);
    setGistFlags(page, gistFlags(page) & ~F_HAS_GARBAGE);
  };

export const deleteTuples14 = deleteTuples(DELETE_OFFSETS_14);
export const deleteTuples16 = deleteTuples(DELETE_OFFSETS_16);

/** gistRedoPageSplitRecord, one of the pages. */
export const splitPage: PageRedo = (page, record, block) => {
  const { view, mainOffset } = record;
  const isRoot = block.blkno === GIST_ROOT_BLKNO;
  const isLast = block.id === view.getUint16(mainOffset + SPLIT_NPAGE, true);
  const isLeaf = view.getUint8(mainOffset + SPLIT_ORIGLEAF) !== 0 && !isRoot;
  const markFollowRight =
    view.getUint8(mainOffset + SPLIT_MARKFOLLOWRIGHT) !== 0 &&
    !isLast &&
    record.block(1).blkno !== GIST_ROOT_BLKNO;

  gistInitPage(page, (isLeaf ? F_LEAF : 0) | (markFollowRight ? F_FOLLOW_RIGHT : 0));
  const count = view.getInt32(block.dataOffset, true);
  const added = addTuples(page, record, block.dataOffset + 4, block.dataOffset + block.dataLength);
  if (added !== count) throw new RangeError(`${added} tuples, ${count} announced`);

  if (isRoot) setGistRightlink(page, INVALID_BLOCK_NUMBER);
  else if (isLast) setGistRightlink(page, view.getUint32(mainOffset, true));
  else setGistRightlink(page, record.block(block.id + 1).blkno);
  setGistNsn(page, readLsnLE(view, mainOffset + SPLIT_ORIGNSN));
};

/** gistRedoPageDelete, the page. */
export const deletePage: PageRedo = (page, record) => {
  gistSetDeleted(page, record.bytes, record.mainOffset);
};

/** gistRedoPageDelete, the parent. */
export const deleteDownlink: PageRedo = (page, record) => {
  pageIndexTupleDelete(page, record.view.getUint16(record.mainOffset + DELETE_DOWNLINK_OFFSET, true));
};

/** Append the index tuples that fill `start` to `end` of the record; how many there were. */
function addTuples(page: Page, record: WalRecord, start: number, end: number): number {
  let offnum = pageGetMaxOffsetNumber(page) + 1;
  let count = 0;
  let at = start;
  for (; at < end; count++) {
    const size = indexTupleSize(record.view, at);
    if (size === 0 || pageAddItem(page, record.bytes, at, size, offnum++, false, false) === 0) {
      throw new RangeError(`failed to add a tuple of ${size} bytes`);
    }
    at += size;
  }
  if (at !== end) throw new RangeError(`tuples end at ${at}, the data at ${end}`);
  return count;
}
