// SP-GiST's page edits, but for vacuum's (vacuum.ts): what each operation does to each block it names.
//
//   ADD_LEAF      main: newPage u8, storesNulls u8, offnumLeaf u16, offnumHeadLeaf u16, offnumParent u16, nodeI u16,
//                       leaf tuple                                                   0 leaf, 1 parent
//   MOVE_LEAFS    main: nMoves u16, newPage u8, replaceDead u8, storesNulls u8, offnumParent u16 at 6, nodeI u16,
//                       state at 12, from 20 nMoves offset numbers deleted, nInsert inserted, nInsert leaf tuples
//                                                                                    0 source, 1 target, 2 parent
//   ADD_NODE      main: offnum u16, offnumNew u16, newPage u8, parentBlk i8, offnumParent u16, nodeI u16,
//                       state at 12, inner tuple at 20                               0 old, 1 new, 2 parent
//   SPLIT_TUPLE   main: offnumPrefix u16, offnumPostfix u16, newPage u8, postfixBlkSame u8, prefix, postfix tuple
//                                                                                    0 prefix, 1 postfix
//   PICKSPLIT     main: isRootSplit u8, nDelete u16 at 2, nInsert u16, initSrc u8, initDest u8, offnumInner u16,
//                       initInner u8, storesNulls u8, innerIsParent u8, offnumParent u16 at 14, nodeI u16,
//                       state at 20, from 28 nDelete offset numbers, nInsert offset numbers, nInsert page
//                       selectors u8, inner tuple, nInsert leaf tuples    0 source, 1 target, 2 inner, 3 parent
//
// Where two of these roles fall on one page, the record names the page once and says so: parentBlk, postfixBlkSame,
// innerIsParent. Tuples lie unaligned in records.
//
// Mirrors spgxlog.c and spgxlog.h.

import type { Page } from '../../page.ts';
import { INVALID_OFFSET_NUMBER, pageIndexTupleDelete } from '../../page-items.ts';
import type { WalRecord } from '../../record.ts';
import type { PageRedo } from '../../rmgr.ts';
import {
  addDeadTuple,
  addOrReplaceTuple,
  addTuple,
  deleteTuples,
  innerTupleSize,
  leafTupleSize,
  SPGIST_LEAF,
  SPGIST_NULLS,
  SPGIST_PLACEHOLDER,
  SPGIST_REDIRECT,
  setNextOffset,
  spgInitPage,
  updateNodeLink,
} from './page.ts';

const STATE_IS_BUILD = 4;

const u16 = (record: WalRecord, at: number): number => record.view.getUint16(record.mainOffset + at, true);
const flag = (record: WalRecord, at: number): boolean => record.view.getUint8(record.mainOffset + at) !== 0;
const stateXid = (record: WalRecord, state: number): number =>
  record.view.getUint32(record.mainOffset + state, true);
/** What takes the place of a tuple that moved: nobody scans an index that is being built. */
const movedState = (record: WalRecord, state: number): number =>
  flag(record, state + STATE_IS_BUILD) ? SPGIST_PLACEHOLDER : SPGIST_REDIRECT;

const initLeafPage = (page: Page, storesNulls: boolean): void =>
  spgInitPage(page, SPGIST_LEAF | (storesNulls ? SPGIST_NULLS : 0));

/** A tuple that lies at `at` of the record, in the place of the one at `offnum`. */
function replaceTuple(page: Page, record: WalRecord, at: number, size: number, offnum: number): void {
  pageIndexTupleDelete(page, offnum);
  addTuple(page, record.bytes, at, size, offnum);
}

// ---- ADD_LEAF -----------------------------------------------------------------------------------------------

const ADD_LEAF_SIZE = 10;

/** spgRedoAddLeaf, the leaf page. */
export const addLeaf: PageRedo = (page, record) => {
  const offnum = u16(record, 2);
  const head = u16(record, 4);
  const tuple = record.mainOffset + ADD_LEAF_SIZE;
  const size = leafTupleSize(record.view, tuple);
  if (flag(record, 0)) initLeafPage(page, flag(record, 1));
  if (offnum !== head) {
    addOrReplaceTuple(page, record.bytes, tuple, size, offnum);
    if (head !== INVALID_OFFSET_NUMBER) setNextOffset(page, head, offnum);
  } else {
    replaceTuple(page, record, tuple, size, offnum);
  }
};

/** spgRedoAddLeaf, the parent. */
export const addLeafParent: PageRedo = (page, record) => {
  const offnumParent = u16(record, 6);
  if (offnumParent === INVALID_OFFSET_NUMBER) return;
  updateNodeLink(page, offnumParent, u16(record, 8), record.block(0).blkno, u16(record, 2));
};

// ---- MOVE_LEAFS ---------------------------------------------------------------------------------------------

const MOVE_STATE = 12;
const MOVE_OFFSETS = 20;

/** A dead tuple at the source's head of chain is not taken along. */
const moveInsertCount = (record: WalRecord): number => (flag(record, 3) ? 1 : u16(record, 0) + 1);
const moveInsertOffset = (record: WalRecord, i: number): number =>
  u16(record, MOVE_OFFSETS + 2 * (u16(record, 0) + i));

/** spgRedoMoveLeafs, the target: the moved tuples and the new one. */
export const moveLeafsTarget: PageRedo = (page, record) => {
  const count = moveInsertCount(record);
  if (flag(record, 2)) initLeafPage(page, flag(record, 4));
  let tuple = record.mainOffset + MOVE_OFFSETS + 2 * (u16(record, 0) + count);
  for (let i = 0; i < count; i++) {
    const size = leafTupleSize(record.view, tuple);
    addOrReplaceTuple(page, record.bytes, tuple, size, moveInsertOffset(record, i));
    tuple += size;
  }
};

/** spgRedoMoveLeafs, the source: a redirect at the head of the chain, placeholders for the rest. */
export const moveLeafsSource: PageRedo = (page, record) => {
  deleteTuples(
    page,
    record.view,
    record.mainOffset + MOVE_OFFSETS,
    u16(record, 0),
    movedState(record, MOVE_STATE),
    SPGIST_PLACEHOLDER,
    stateXid(record, MOVE_STATE),
    record.block(1).blkno,
    moveInsertOffset(record, moveInsertCount(record) - 1),
  );
};

/** spgRedoMoveLeafs, the parent. */
export const moveLeafsParent: PageRedo = (page, record) => {
  const head = moveInsertOffset(record, moveInsertCount(record) - 1);
  updateNodeLink(page, u16(record, 6), u16(record, 8), record.block(1).blkno, head);
};

// ---- ADD_NODE -----------------------------------------------------------------------------------------------

const ADD_NODE_STATE = 12;
const ADD_NODE_TUPLE = 20;

/** spgRedoAddNode, the parent, which is this page if `parentBlk` says so. */
function linkAddedNode(page: Page, record: WalRecord, blockId: number): void {
  if (record.view.getInt8(record.mainOffset + 5) !== blockId) return;
  updateNodeLink(page, u16(record, 6), u16(record, 8), record.block(1).blkno, u16(record, 2));
}

/** spgRedoAddNode, the page of the old tuple: the new one takes its place, or a redirect to where it went. */
export const addNodeOld: PageRedo = (page, record) => {
  const offnum = u16(record, 0);
  if (!record.hasBlock(1)) {
    const tuple = record.mainOffset + ADD_NODE_TUPLE;
    replaceTuple(page, record, tuple, innerTupleSize(record.view, tuple), offnum);
    return;
  }
  pageIndexTupleDelete(page, offnum);
  const state = movedState(record, ADD_NODE_STATE);
  addDeadTuple(page, offnum, state, stateXid(record, ADD_NODE_STATE), record.block(1).blkno, u16(record, 2));
  linkAddedNode(page, record, 0);
};

/** spgRedoAddNode, the page where the new tuple goes. */
export const addNodeNew: PageRedo = (page, record) => {
  const tuple = record.mainOffset + ADD_NODE_TUPLE;
  if (flag(record, 4)) spgInitPage(page, 0);
  addOrReplaceTuple(page, record.bytes, tuple, innerTupleSize(record.view, tuple), u16(record, 2));
  linkAddedNode(page, record, 1);
};

/** spgRedoAddNode, a parent on a page of its own. */
export const addNodeParent: PageRedo = (page, record) => linkAddedNode(page, record, 2);

// ---- SPLIT_TUPLE --------------------------------------------------------------------------------------------

const SPLIT_TUPLE_SIZE = 6;

function addPostfix(page: Page, record: WalRecord): void {
  const prefix = record.mainOffset + SPLIT_TUPLE_SIZE;
  const postfix = prefix + innerTupleSize(record.view, prefix);
  addOrReplaceTuple(page, record.bytes, postfix, innerTupleSize(record.view, postfix), u16(record, 2));
}

/** spgRedoSplitTuple, the original page: the prefix in the tuple's place, the postfix too if it fits. */
export const splitTuplePrefix: PageRedo = (page, record) => {
  const prefix = record.mainOffset + SPLIT_TUPLE_SIZE;
  replaceTuple(page, record, prefix, innerTupleSize(record.view, prefix), u16(record, 0));
  if (flag(record, 5)) addPostfix(page, record);
};

/** spgRedoSplitTuple, the postfix's own page. */
export const splitTuplePostfix: PageRedo = (page, record) => {
  if (flag(record, 4)) spgInitPage(page, 0);
  addPostfix(page, record);
};

// ---- PICKSPLIT ----------------------------------------------------------------------------------------------

const PICK_OFFNUM_INNER = 8;
const PICK_STORES_NULLS = 11;
const PICK_STATE = 20;
const PICK_OFFSETS = 28;

/** Where the page selectors begin: after the deleted and the inserted offset numbers. */
const pickSelectors = (record: WalRecord): number =>
  record.mainOffset + PICK_OFFSETS + 2 * (u16(record, 2) + u16(record, 4));

const pickInner = (record: WalRecord): number => pickSelectors(record) + u16(record, 4);

/** The leaf tuples that go to the source (0) or the target (1). */
function addPickedLeafs(page: Page, record: WalRecord, selector: 0 | 1): void {
  const { bytes, view } = record;
  const count = u16(record, 4);
  const offsets = record.mainOffset + PICK_OFFSETS + 2 * u16(record, 2);
  const selectors = pickSelectors(record);
  const inner = pickInner(record);
  let tuple = inner + innerTupleSize(view, inner);
  for (let i = 0; i < count; i++) {
    const size = leafTupleSize(view, tuple);
    const toTarget = view.getUint8(selectors + i) !== 0 ? 1 : 0;
    if (toTarget === selector) {
      addOrReplaceTuple(page, bytes, tuple, size, view.getUint16(offsets + 2 * i, true));
    }
    tuple += size;
  }
}

/** spgRedoPickSplit, the leaf page that is split. */
export const pickSplitSource: PageRedo = (page, record) => {
  if (flag(record, 6)) {
    initLeafPage(page, flag(record, PICK_STORES_NULLS));
  } else {
    deleteTuples(
      page,
      record.view,
      record.mainOffset + PICK_OFFSETS,
      u16(record, 2),
      movedState(record, PICK_STATE),
      SPGIST_PLACEHOLDER,
      stateXid(record, PICK_STATE),
      record.block(2).blkno,
      u16(record, PICK_OFFNUM_INNER),
    );
  }
  addPickedLeafs(page, record, 0);
};

/** spgRedoPickSplit, the leaf page that takes what the source does not. */
export const pickSplitTarget: PageRedo = (page, record) => {
  if (flag(record, 7)) initLeafPage(page, flag(record, PICK_STORES_NULLS));
  addPickedLeafs(page, record, 1);
};

/** spgRedoPickSplit, the page of the new inner tuple, which may hold the parent as well. */
export const pickSplitInner: PageRedo = (page, record, block) => {
  const inner = pickInner(record);
  if (flag(record, 10)) spgInitPage(page, flag(record, PICK_STORES_NULLS) ? SPGIST_NULLS : 0);
  addOrReplaceTuple(
    page,
    record.bytes,
    inner,
    innerTupleSize(record.view, inner),
    u16(record, PICK_OFFNUM_INNER),
  );
  if (flag(record, 12)) linkPickedInner(page, record, block.blkno);
};

/** spgRedoPickSplit, a parent on a page of its own. */
export const pickSplitParent: PageRedo = (page, record) =>
  linkPickedInner(page, record, record.block(2).blkno);

const linkPickedInner = (page: Page, record: WalRecord, blkno: number): void =>
  updateNodeLink(page, u16(record, 14), u16(record, 16), blkno, u16(record, PICK_OFFNUM_INNER));
