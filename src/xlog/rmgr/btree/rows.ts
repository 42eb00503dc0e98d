// The B-tree resource manager (11), one row per major: every operation by opcode, with its edits by block id.
// Record layouts are drawn in the files that read them.
//
// Mirrors btree_redo of src/backend/access/nbtree/nbtxlog.c, btree_identify of nbtdesc.c and nbtxlog.h. None of
// the operations reaches beyond the blocks it names: REUSE_PAGE is for conflicts on a hot standby only.

import { type Op, type Rmgr, replaceOps } from '../../rmgr.ts';
import { dedup } from './dedup.ts';
import { deleteTuples, vacuumTuples, vacuumTuples18 } from './delete.ts';
import { type Descriptions, describe14, describe16, describe17 } from './describe.ts';
import { insertPosting, insertTuple, newRoot } from './insert.ts';
import { btreeMask, clearIncompleteSplit, restoreMeta } from './page.ts';
import { splitLeftNewLeft, splitLeftNewRight, splitNeighbour, splitRight, splitRightNeon } from './split.ts';
import {
  markLeafHalfDead,
  removeDownlink,
  unlinkLeaf,
  unlinkLeftSibling,
  unlinkRightSibling,
  unlinkTarget,
} from './unlink.ts';

export const RM_BTREE_ID = 11;

export const XLOG_BTREE_INSERT_LEAF = 0x00;
export const XLOG_BTREE_INSERT_UPPER = 0x10;
export const XLOG_BTREE_INSERT_META = 0x20;
export const XLOG_BTREE_SPLIT_L = 0x30;
export const XLOG_BTREE_SPLIT_R = 0x40;
export const XLOG_BTREE_INSERT_POST = 0x50;
export const XLOG_BTREE_DEDUP = 0x60;
export const XLOG_BTREE_DELETE = 0x70;
export const XLOG_BTREE_UNLINK_PAGE = 0x80;
export const XLOG_BTREE_UNLINK_PAGE_META = 0x90;
export const XLOG_BTREE_NEWROOT = 0xa0;
export const XLOG_BTREE_MARK_PAGE_HALFDEAD = 0xb0;
export const XLOG_BTREE_VACUUM = 0xc0;
export const XLOG_BTREE_REUSE_PAGE = 0xd0;
export const XLOG_BTREE_META_CLEANUP = 0xe0;

const unlinkBlocks = { 0: unlinkTarget, 1: unlinkLeftSibling, 2: unlinkRightSibling, 3: unlinkLeaf };
const splitBlocks = { 1: splitRight, 2: splitNeighbour, 3: clearIncompleteSplit };

function operations(d: Descriptions): Readonly<Record<number, Op>> {
  return {
    [XLOG_BTREE_INSERT_LEAF]: { name: 'INSERT_LEAF', redo: { 0: insertTuple }, describe: d.insert },
    [XLOG_BTREE_INSERT_UPPER]: {
      name: 'INSERT_UPPER',
      redo: { 0: insertTuple, 1: clearIncompleteSplit },
      describe: d.insert,
    },
    [XLOG_BTREE_INSERT_META]: {
      name: 'INSERT_META',
      redo: { 0: insertTuple, 1: clearIncompleteSplit, 2: restoreMeta },
      describe: d.insert,
    },
    [XLOG_BTREE_SPLIT_L]: {
      name: 'SPLIT_L',
      redo: { 0: splitLeftNewLeft, ...splitBlocks },
      describe: d.split,
    },
    [XLOG_BTREE_SPLIT_R]: {
      name: 'SPLIT_R',
      redo: { 0: splitLeftNewRight, ...splitBlocks },
      describe: d.split,
    },
    [XLOG_BTREE_INSERT_POST]: { name: 'INSERT_POST', redo: { 0: insertPosting }, describe: d.insert },
    [XLOG_BTREE_DEDUP]: { name: 'DEDUP', redo: { 0: dedup }, describe: d.dedup },
    [XLOG_BTREE_DELETE]: { name: 'DELETE', redo: { 0: deleteTuples }, describe: d.delete },
    [XLOG_BTREE_UNLINK_PAGE]: { name: 'UNLINK_PAGE', redo: unlinkBlocks, describe: d.unlink },
    [XLOG_BTREE_UNLINK_PAGE_META]: {
      name: 'UNLINK_PAGE_META',
      redo: { ...unlinkBlocks, 4: restoreMeta },
      describe: d.unlink,
    },
    [XLOG_BTREE_NEWROOT]: {
      name: 'NEWROOT',
      redo: { 0: newRoot, 1: clearIncompleteSplit, 2: restoreMeta },
      describe: d.newRoot,
    },
    [XLOG_BTREE_MARK_PAGE_HALFDEAD]: {
      name: 'MARK_PAGE_HALFDEAD',
      redo: { 0: markLeafHalfDead, 1: removeDownlink },
      describe: d.halfDead,
    },
    [XLOG_BTREE_VACUUM]: { name: 'VACUUM', redo: { 0: vacuumTuples }, describe: d.vacuum },
    [XLOG_BTREE_REUSE_PAGE]: { name: 'REUSE_PAGE', describe: d.reusePage },
    [XLOG_BTREE_META_CLEANUP]: { name: 'META_CLEANUP', redo: { 0: restoreMeta }, describe: d.metaCleanup },
  };
}

export const btree14: Rmgr = {
  id: RM_BTREE_ID,
  name: 'Btree',
  opMask: 0xf0,
  ops: operations(describe14),
  mask: btreeMask,
};

export const btree15: Rmgr = btree14;
export const btree16: Rmgr = { ...btree15, ops: operations(describe16) };
export const btree17: Rmgr = { ...btree16, ops: operations(describe17) };
export const btree18: Rmgr = replaceOps(btree17, {
  [XLOG_BTREE_VACUUM]: { name: 'VACUUM', redo: { 0: vacuumTuples18 }, describe: describe17.vacuum },
});

/** As Neon's computes write and replay it: the vacuum cycle id of a split travels in a forced image. */
function withNeonSplit(rmgr: Rmgr): Rmgr {
  const splits = [XLOG_BTREE_SPLIT_L, XLOG_BTREE_SPLIT_R].map((code): [number, Op] => {
    const op = rmgr.ops[code]!;
    return [code, { ...op, redo: { ...op.redo, 1: splitRightNeon } }];
  });
  return replaceOps(rmgr, Object.fromEntries(splits));
}

export const btree14Neon: Rmgr = withNeonSplit(btree14);
export const btree15Neon: Rmgr = withNeonSplit(btree15);
export const btree16Neon: Rmgr = withNeonSplit(btree16);
export const btree17Neon: Rmgr = withNeonSplit(btree17);
