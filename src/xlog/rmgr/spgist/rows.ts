// SP-GiST's resource manager (16), a row per major.
//
// 16 put isCatalogRel into VACUUM_REDIRECT, which moves its offset numbers by two bytes; 17 prints it.
//
// Mirrors spg_redo and spg_mask of spgxlog.c, spg_identify of spgdesc.c.

import { maskPageHintBits, maskPageLsnAndChecksum, maskUnusedSpace } from '../../bufmask.ts';
import { PAGE_HEADER_SIZE, type Page, pdLower } from '../../page.ts';
import { type Rmgr, replaceOps } from '../../rmgr.ts';
import {
  describeAddLeaf,
  describeAddNode,
  describeMoveLeafs,
  describePickSplit,
  describeSplitTuple,
  describeVacuumLeaf,
  describeVacuumRedirect14,
  describeVacuumRedirect16,
  describeVacuumRedirect17,
  describeVacuumRoot,
} from './describe.ts';
import {
  addLeaf,
  addLeafParent,
  addNodeNew,
  addNodeOld,
  addNodeParent,
  moveLeafsParent,
  moveLeafsSource,
  moveLeafsTarget,
  pickSplitInner,
  pickSplitParent,
  pickSplitSource,
  pickSplitTarget,
  splitTuplePostfix,
  splitTuplePrefix,
} from './redo.ts';
import { vacuumLeaf, vacuumRedirect14, vacuumRedirect16, vacuumRoot } from './vacuum.ts';

export const XLOG_SPGIST_ADD_LEAF = 0x10;
export const XLOG_SPGIST_MOVE_LEAFS = 0x20;
export const XLOG_SPGIST_ADD_NODE = 0x30;
export const XLOG_SPGIST_SPLIT_TUPLE = 0x40;
export const XLOG_SPGIST_PICKSPLIT = 0x50;
export const XLOG_SPGIST_VACUUM_LEAF = 0x60;
export const XLOG_SPGIST_VACUUM_ROOT = 0x70;
export const XLOG_SPGIST_VACUUM_REDIRECT = 0x80;

/** spg_mask */
function mask(page: Page): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  if (pdLower(page) >= PAGE_HEADER_SIZE) maskUnusedSpace(page);
}

export const spgist14: Rmgr = {
  id: 16,
  name: 'SPGist',
  opMask: 0xf0,
  mask,
  ops: {
    [XLOG_SPGIST_ADD_LEAF]: {
      name: 'ADD_LEAF',
      redo: { 0: addLeaf, 1: addLeafParent },
      describe: describeAddLeaf,
    },
    [XLOG_SPGIST_MOVE_LEAFS]: {
      name: 'MOVE_LEAFS',
      redo: { 0: moveLeafsSource, 1: moveLeafsTarget, 2: moveLeafsParent },
      describe: describeMoveLeafs,
    },
    [XLOG_SPGIST_ADD_NODE]: {
      name: 'ADD_NODE',
      redo: { 0: addNodeOld, 1: addNodeNew, 2: addNodeParent },
      describe: describeAddNode,
    },
    [XLOG_SPGIST_SPLIT_TUPLE]: {
      name: 'SPLIT_TUPLE',
      redo: { 0: splitTuplePrefix, 1: splitTuplePostfix },
      describe: describeSplitTuple,
    },
    [XLOG_SPGIST_PICKSPLIT]: {
      name: 'PICKSPLIT',
      redo: { 0: pickSplitSource, 1: pickSplitTarget, 2: pickSplitInner, 3: pickSplitParent },
      describe: describePickSplit,
    },
    [XLOG_SPGIST_VACUUM_LEAF]: {
      name: 'VACUUM_LEAF',
      redo: { 0: vacuumLeaf },
      describe: describeVacuumLeaf,
    },
    [XLOG_SPGIST_VACUUM_ROOT]: {
      name: 'VACUUM_ROOT',
      redo: { 0: vacuumRoot },
      describe: describeVacuumRoot,
    },
    [XLOG_SPGIST_VACUUM_REDIRECT]: {
      name: 'VACUUM_REDIRECT',
      redo: { 0: vacuumRedirect14 },
      describe: describeVacuumRedirect14,
    },
  },
};

export const spgist15 = spgist14;

export const spgist16 = replaceOps(spgist15, {
  [XLOG_SPGIST_VACUUM_REDIRECT]: {
    name: 'VACUUM_REDIRECT',
    redo: { 0: vacuumRedirect16 },
    describe: describeVacuumRedirect16,
  },
});

export const spgist17 = replaceOps(spgist16, {
  [XLOG_SPGIST_VACUUM_REDIRECT]: {
    name: 'VACUUM_REDIRECT',
    redo: { 0: vacuumRedirect16 },
    describe: describeVacuumRedirect17,
  },
});

export const spgist18 = spgist17;
