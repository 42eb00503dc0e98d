// GIN's page edits: what each operation does to each block it names.
//
//   CREATE_PTREE            main: size u32, posting lists            0 new leaf
//   INSERT                  main: flags u16, [left, right child]     0 target, 1 left child
//     entry tree            data 0: offset u16, isDelete u8, pad, index tuple
//     data leaf             data 0: segment actions (recompress.ts)
//     data inner            data 0: offset u16, PostingItem
//   SPLIT                   images of 0 left, 1 right, 2 root        3 left child
//   VACUUM_PAGE             an image of 0
//   VACUUM_DATA_LEAF_PAGE   data 0: segment actions                  0 leaf
//   DELETE_PAGE             main: parentOffset u16, rightLink u32 at 4, deleteXid u32 at 8
//                                                                    0 deleted, 1 parent, 2 left sibling
//   UPDATE_META_PAGE        main: rel 12, metadata at 16, prevTail u32 at 72, newRightlink u32, ntuples i32
//                           data 1: index tuples                     0 metapage, 1 tail of the pending list
//   INSERT_LISTPAGE         main: rightlink u32, ntuples i32         0 list page, data: index tuples
//   DELETE_LISTPAGE         main: metadata, ndeleted i32 at 56       0 metapage, 1.. deleted list pages
//
// Mirrors ginxlog.c and ginxlog.h.

import { indexTupleSize, readTidBlock } from '../../index-tuple.ts';
import type { Page } from '../../page.ts';
import {
  copyBytes,
  pageAddItem,
  pageGetItemOffset,
  pageGetMaxOffsetNumber,
  pageIndexTupleDelete,
} from '../../page-items.ts';
import type { BlockRef, WalRecord } from '../../record.ts';
import type { PageRedo } from '../../rmgr.ts';
import {
  GIN_COMPRESSED,
  GIN_DATA,
  GIN_DATA_START,
  GIN_DELETED,
  GIN_INCOMPLETE_SPLIT,
  GIN_LEAF,
  GIN_LIST,
  GIN_LIST_FULLROW,
  ginAddPostingItem,
  ginDeletePostingItem,
  ginFlags,
  ginInitMetapage,
  ginInitPage,
  ginMaxoff,
  INVALID_BLOCK_NUMBER,
  postingItemAt,
  setGinDataSize,
  setGinDeleteXid,
  setGinFlags,
  setGinMaxoff,
  setGinRightlink,
} from './page.ts';
import { ginRecompress } from './recompress.ts';

export const GIN_INSERT_ISDATA = 0x01;
export const GIN_INSERT_ISLEAF = 0x02;
export const GIN_SPLIT_ROOT = 0x04;

/** Offsets in ginxlogInsert's main data: BlockIds of the two children of an insertion above the leaves. */
export const INSERT_LEFT_CHILD = 2;
export const INSERT_RIGHT_CHILD = 6;

const UPDATE_META_METADATA = 16;
const UPDATE_META_PREV_TAIL = 72;
const UPDATE_META_NEW_RIGHTLINK = 76;
const UPDATE_META_NTUPLES = 80;

/** ginRedoClearIncompleteSplit */
export const clearIncompleteSplit: PageRedo = page => {
  setGinFlags(page, ginFlags(page) & ~GIN_INCOMPLETE_SPLIT);
};

/** ginRedoCreatePTree */
export const createPostingTree: PageRedo = (page, record) => {
  const size = record.view.getUint32(record.mainOffset, true);
  ginInitPage(page, GIN_DATA | GIN_LEAF | GIN_COMPRESSED);
  setGinDataSize(page, size);
  copyBytes(page.bytes, GIN_DATA_START, record.bytes, record.mainOffset + 4, size);
};

/** ginRedoInsert */
export const insert: PageRedo = (page, record, block) => {
  const flags = record.view.getUint16(record.mainOffset, true);
  const isLeaf = (flags & GIN_INSERT_ISLEAF) !== 0;
  if ((flags & GIN_INSERT_ISDATA) === 0) insertEntry(page, record, block, isLeaf);
  else if (isLeaf) recompressLeaf(page, record, block);
  else insertPostingItem(page, record, block);
};

/** ginRedoInsertEntry: a tuple of the entry tree; above the leaves the one in its place points right then. */
function insertEntry(page: Page, record: WalRecord, block: BlockRef, isLeaf: boolean): void {
  const view = record.view;
  const offset = view.getUint16(block.dataOffset, true);
  const isDelete = view.getUint8(block.dataOffset + 2) !== 0;
  const tuple = block.dataOffset + 4;
  const rightChild = record.mainOffset + INSERT_RIGHT_CHILD;
  if (!isLeaf && readTidBlock(view, rightChild) !== INVALID_BLOCK_NUMBER) {
    // GinSetDownlink: the block, and no offset number.
    const downlink = pageGetItemOffset(page, offset);
    copyBytes(page.bytes, downlink, record.bytes, rightChild, 4);
    page.view.setUint16(downlink + 4, 0, true);
  }
  if (isDelete) pageIndexTupleDelete(page, offset);
  addTuple(page, record, tuple, offset);
}

function insertPostingItem(page: Page, record: WalRecord, block: BlockRef): void {
  const offset = record.view.getUint16(block.dataOffset, true);
  const old = postingItemAt(offset, ginMaxoff(page));
  copyBytes(page.bytes, old, record.bytes, record.mainOffset + INSERT_RIGHT_CHILD, 4);
  ginAddPostingItem(page, record.bytes, block.dataOffset + 2, offset);
}

/** ginRedoRecompress over the block's data: an insertion into a posting tree leaf, or its vacuum. */
export const recompressLeaf: PageRedo = (page, record, block) => {
  const start = block.dataOffset;
  ginRecompress(page, record.bytes, record.view, start, start + block.dataLength);
};

/** ginRedoDeletePage, the deleted page. */
export const deletePage: PageRedo = (page, record) => {
  setGinFlags(page, ginFlags(page) | GIN_DELETED);
  setGinDeleteXid(page, record.view.getUint32(record.mainOffset + 8, true));
};

/** ginRedoDeletePage, the parent. */
export const deleteDownlink: PageRedo = (page, record) => {
  ginDeletePostingItem(page, record.view.getUint16(record.mainOffset, true));
};

/** ginRedoDeletePage, the left sibling. */
export const relinkLeftSibling: PageRedo = (page, record) => {
  setGinRightlink(page, record.view.getUint32(record.mainOffset + 4, true));
};

/** ginRedoUpdateMetapage, the metapage. */
export const updateMetapage: PageRedo = (page, record) => {
  ginInitMetapage(page, record.bytes, record.mainOffset + UPDATE_META_METADATA);
};

/** ginRedoUpdateMetapage, the tail of the pending list: it takes tuples, or a new tail behind it. */
export const updateListTail: PageRedo = (page, record, block) => {
  const main = record.mainOffset;
  const count = record.view.getInt32(main + UPDATE_META_NTUPLES, true);
  if (count > 0) {
    addTuples(page, record, block, count, pageGetMaxOffsetNumber(page) + 1);
    setGinMaxoff(page, ginMaxoff(page) + 1);
  } else if (record.view.getUint32(main + UPDATE_META_PREV_TAIL, true) !== INVALID_BLOCK_NUMBER) {
    setGinRightlink(page, record.view.getUint32(main + UPDATE_META_NEW_RIGHTLINK, true));
  }
};

/** ginRedoInsertListPage */
export const insertListPage: PageRedo = (page, record, block) => {
  const rightlink = record.view.getUint32(record.mainOffset, true);
  const count = record.view.getInt32(record.mainOffset + 4, true);
  const isTail = rightlink === INVALID_BLOCK_NUMBER;
  ginInitPage(page, isTail ? GIN_LIST | GIN_LIST_FULLROW : GIN_LIST);
  setGinRightlink(page, rightlink);
  setGinMaxoff(page, isTail ? 1 : 0);
  addTuples(page, record, block, count, 1);
};

/** ginRedoDeleteListPages, the metapage. */
export const deleteListMetapage: PageRedo = (page, record) => {
  ginInitMetapage(page, record.bytes, record.mainOffset);
};

/** ginRedoDeleteListPages, a page of the list. */
export const deleteListPage: PageRedo = page => ginInitPage(page, GIN_DELETED);

/** Add the `count` tuples of the block's data, from `offnum` on. */
function addTuples(page: Page, record: WalRecord, block: BlockRef, count: number, offnum: number): void {
  let at = block.dataOffset;
  const end = at + block.dataLength;
  for (let i = 0; i < count; i++) at += addTuple(page, record, at, offnum + i);
  if (at !== end)
    throw new RangeError(`${count} tuples take ${at - block.dataOffset} of ${end - block.dataOffset} bytes`);
}

/** Add the index tuple that lies at `at` of the record; its size. */
function addTuple(page: Page, record: WalRecord, at: number, offnum: number): number {
  const size = indexTupleSize(record.view, at);
  if (pageAddItem(page, record.bytes, at, size, offnum, false, false) === 0) {
    throw new RangeError(`failed to add a tuple of ${size} bytes at ${offnum}`);
  }
  return size;
}
