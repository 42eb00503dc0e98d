// The hash index resource manager (12), one row per major: every operation by opcode, with its edits by block id.
// Record layouts are drawn in the files that read them.
//
// The flags of a split's buckets are also set on top of restored images, as Postgres does.
//
// Mirrors hash_redo of src/backend/access/hash/hash_xlog.c, hash_identify of hashdesc.c and hash_xlog.h. None of
// the operations reaches beyond the blocks it names.

import { leaveUnchanged, type Rmgr, replaceOps } from '../../rmgr.ts';
import {
  initBitmapMeta,
  initBitmapPage,
  initMetaPage,
  splitAllocateMeta,
  splitAllocateNew,
  splitAllocateOld,
  splitCompleteNew,
  splitCompleteOld,
  splitPage,
} from './build.ts';
import {
  describeAddOvflPage,
  describeDelete,
  describeInitBitmapPage,
  describeInitMetaPage,
  describeInsert,
  describeMovePageContents,
  describeSplitAllocatePage,
  describeSplitComplete,
  describeSqueezePage,
  describeUpdateMetaPage,
  describeVacuumOnePage14,
  describeVacuumOnePage16,
  describeVacuumOnePage17,
} from './describe.ts';
import {
  addOvflBitmap,
  addOvflLeft,
  addOvflMeta,
  addOvflNewBitmap,
  addOvflPage,
  deleteListed,
  moveWrite,
  squeezeBitmap,
  squeezeFreed,
  squeezeMeta,
  squeezeNextPage,
  squeezePrev,
  squeezeWrite,
  squeezeWrite17,
} from './overflow.ts';
import { hashMask } from './page.ts';
import {
  deleteTuples,
  insertMeta,
  insertTuple,
  splitCleanup,
  updateMetaPage,
  vacuumMeta14,
  vacuumMeta16,
  vacuumOnePage14,
  vacuumOnePage16,
} from './tuples.ts';

export const RM_HASH_ID = 12;

export const XLOG_HASH_INIT_META_PAGE = 0x00;
export const XLOG_HASH_INIT_BITMAP_PAGE = 0x10;
export const XLOG_HASH_INSERT = 0x20;
export const XLOG_HASH_ADD_OVFL_PAGE = 0x30;
export const XLOG_HASH_SPLIT_ALLOCATE_PAGE = 0x40;
export const XLOG_HASH_SPLIT_PAGE = 0x50;
export const XLOG_HASH_SPLIT_COMPLETE = 0x60;
export const XLOG_HASH_MOVE_PAGE_CONTENTS = 0x70;
export const XLOG_HASH_SQUEEZE_PAGE = 0x80;
export const XLOG_HASH_DELETE = 0x90;
export const XLOG_HASH_SPLIT_CLEANUP = 0xa0;
export const XLOG_HASH_UPDATE_META_PAGE = 0xb0;
export const XLOG_HASH_VACUUM_ONE_PAGE = 0xc0;

const squeezeBlocks = {
  0: leaveUnchanged,
  1: squeezeWrite,
  2: squeezeFreed,
  3: squeezePrev,
  4: squeezeNextPage,
  5: squeezeBitmap,
  6: squeezeMeta,
};

export const hash14: Rmgr = {
  id: RM_HASH_ID,
  name: 'Hash',
  opMask: 0xf0,
  ops: {
    [XLOG_HASH_INIT_META_PAGE]: {
      name: 'INIT_META_PAGE',
      redo: { 0: initMetaPage },
      describe: describeInitMetaPage,
    },
    [XLOG_HASH_INIT_BITMAP_PAGE]: {
      name: 'INIT_BITMAP_PAGE',
      redo: { 0: initBitmapPage, 1: initBitmapMeta },
      describe: describeInitBitmapPage,
    },
    [XLOG_HASH_INSERT]: {
      name: 'INSERT',
      redo: { 0: insertTuple, 1: insertMeta },
      describe: describeInsert,
    },
    [XLOG_HASH_ADD_OVFL_PAGE]: {
      name: 'ADD_OVFL_PAGE',
      redo: { 0: addOvflPage, 1: addOvflLeft, 2: addOvflBitmap, 3: addOvflNewBitmap, 4: addOvflMeta },
      describe: describeAddOvflPage,
    },
    [XLOG_HASH_SPLIT_ALLOCATE_PAGE]: {
      name: 'SPLIT_ALLOCATE_PAGE',
      redo: { 0: splitAllocateOld, 1: splitAllocateNew, 2: splitAllocateMeta },
      afterImage: { 0: splitAllocateOld },
      describe: describeSplitAllocatePage,
    },
    [XLOG_HASH_SPLIT_PAGE]: { name: 'SPLIT_PAGE', redo: { 0: splitPage } },
    [XLOG_HASH_SPLIT_COMPLETE]: {
      name: 'SPLIT_COMPLETE',
      redo: { 0: splitCompleteOld, 1: splitCompleteNew },
      afterImage: { 0: splitCompleteOld, 1: splitCompleteNew },
      describe: describeSplitComplete,
    },
    [XLOG_HASH_MOVE_PAGE_CONTENTS]: {
      name: 'MOVE_PAGE_CONTENTS',
      redo: { 0: leaveUnchanged, 1: moveWrite, 2: deleteListed },
      describe: describeMovePageContents,
    },
    [XLOG_HASH_SQUEEZE_PAGE]: { name: 'SQUEEZE_PAGE', redo: squeezeBlocks, describe: describeSqueezePage },
    [XLOG_HASH_DELETE]: {
      name: 'DELETE',
      redo: { 0: leaveUnchanged, 1: deleteTuples },
      describe: describeDelete,
    },
    [XLOG_HASH_SPLIT_CLEANUP]: { name: 'SPLIT_CLEANUP', redo: { 0: splitCleanup } },
    [XLOG_HASH_UPDATE_META_PAGE]: {
      name: 'UPDATE_META_PAGE',
      redo: { 0: updateMetaPage },
      describe: describeUpdateMetaPage,
    },
    [XLOG_HASH_VACUUM_ONE_PAGE]: {
      name: 'VACUUM_ONE_PAGE',
      redo: { 0: vacuumOnePage14, 1: vacuumMeta14 },
      describe: describeVacuumOnePage14,
    },
  },
  mask: hashMask,
};

export const hash15: Rmgr = hash14;

const vacuumBlocks16 = { 0: vacuumOnePage16, 1: vacuumMeta16 };
export const hash16: Rmgr = replaceOps(hash15, {
  [XLOG_HASH_VACUUM_ONE_PAGE]: {
    name: 'VACUUM_ONE_PAGE',
    redo: vacuumBlocks16,
    describe: describeVacuumOnePage16,
  },
});

export const hash17: Rmgr = replaceOps(hash16, {
  [XLOG_HASH_SQUEEZE_PAGE]: {
    name: 'SQUEEZE_PAGE',
    redo: { ...squeezeBlocks, 1: squeezeWrite17 },
    describe: describeSqueezePage,
  },
  [XLOG_HASH_VACUUM_ONE_PAGE]: {
    name: 'VACUUM_ONE_PAGE',
    redo: vacuumBlocks16,
    describe: describeVacuumOnePage17,
  },
});

export const hash18: Rmgr = hash17;
