// The heap resource managers, 10 Heap and 9 Heap2, by major and flavour. Redo hardly changed from 14 to 18; what
// did is here to see:
//
//   15  pruning gives up unused line pointers at the end of the page
//   16  freezing says what to do once per group of tuples; pg_waldump's wording
//   17  Heap2 0x10, 0x20 and 0x30 keep their codes and become one record that prunes, vacuums and freezes
//   18  INPLACE carries cache invalidations
//   Neon 14, 15  t_cid in Heap's and Heap2's own structs (16, 17: in manager 134, neon.ts)
//   Neon, all    LOCK_UPDATED takes HEAP_COMBOCID from the record
//
// TRUNCATE, NEW_CID and REWRITE exist for logical decoding and edit no page. The effects that Postgres's REWRITE
// has on pg_logical/mappings are no matter of storage: computes write those files as logical messages.
//
// Mirrors src/include/access/heapam_xlog.h, heap_redo and heap2_redo.

import { type Op, type Rmgr, replaceOps } from '../../rmgr.ts';
import { confirmRedo, deleteRedo, inplaceRedo, lockRedo, lockUpdatedRedo } from './change.ts';
import { describeNothing, type HeapWording, wording14, wording16 } from './describe.ts';
import {
  describeFreeze14,
  describeFreeze16,
  describeInplace18,
  describePrune14,
  describePrune16,
  describePruneFreeze,
  describeVacuum14,
  describeVacuum16,
} from './describe-prune.ts';
import {
  deleteEffects,
  insertEffects,
  lockEffects,
  lockUpdatedEffects,
  multiInsertEffects,
  updateEffects,
} from './effects.ts';
import { insertRedo, multiInsertRedo } from './insert.ts';
import { heapMask } from './mask.ts';
import { freezePlansRedo, freezeTuplesRedo, pruneFreezeRedo, pruneRedo, vacuumRedo } from './prune.ts';
import { type HeapLayout, neon15Layout, stockLayout, XLOG_HEAP_INIT_PAGE } from './structs.ts';
import { updateNewPage, updateOldPage } from './update.ts';
import { visibleHeapRedo, visibleMapRedo } from './visible.ts';

export const RM_HEAP2_ID = 9;
export const RM_HEAP_ID = 10;

const XLOG_HEAP_OPMASK = 0x70;

/** The operations whose structs have a layout, shared with Neon's manager. */
export function tupleOps(layout: HeapLayout, wording: HeapWording) {
  const update = (name: string, hot: boolean): Op => ({
    name,
    redo: { 0: updateNewPage(layout, hot), 1: updateOldPage(layout) },
    effects: updateEffects(layout),
    describe: wording.update(layout),
  });
  return {
    insert: {
      name: 'INSERT',
      redo: { 0: insertRedo(layout) },
      effects: insertEffects,
      describe: wording.insert,
    },
    delete: {
      name: 'DELETE',
      redo: { 0: deleteRedo(layout) },
      effects: deleteEffects(layout),
      describe: wording.delete(layout),
    },
    update: update('UPDATE', false),
    hotUpdate: update('HOT_UPDATE', true),
    lock: {
      name: 'LOCK',
      redo: { 0: lockRedo(layout) },
      effects: lockEffects(layout),
      describe: wording.lock(layout),
    },
    multiInsert: {
      name: 'MULTI_INSERT',
      redo: { 0: multiInsertRedo(layout) },
      effects: multiInsertEffects,
      describe: wording.multiInsert(layout),
    },
  } satisfies Record<string, Op>;
}

function heap(layout: HeapLayout, wording: HeapWording): Rmgr {
  const ops = tupleOps(layout, wording);
  return {
    id: RM_HEAP_ID,
    name: 'Heap',
    opMask: XLOG_HEAP_OPMASK,
    initFlag: XLOG_HEAP_INIT_PAGE,
    mask: heapMask,
    ops: {
      0: ops.insert,
      16: ops.delete,
      32: ops.update,
      48: { name: 'TRUNCATE', describe: wording.truncate },
      64: ops.hotUpdate,
      80: { name: 'HEAP_CONFIRM', redo: { 0: confirmRedo }, describe: wording.confirm },
      96: ops.lock,
      112: { name: 'INPLACE', redo: { 0: inplaceRedo }, describe: wording.inplace },
    },
  };
}

export const heap14: Rmgr = heap(stockLayout, wording14);
export const heap15: Rmgr = heap14;
export const heap16: Rmgr = heap(stockLayout, wording16);
export const heap17: Rmgr = heap16;
export const heap18: Rmgr = replaceOps(heap17, {
  112: { name: 'INPLACE', redo: { 0: inplaceRedo }, describe: describeInplace18 },
});

export const heapNeon14: Rmgr = heap(neon15Layout, wording14);
export const heapNeon15: Rmgr = heapNeon14;
export const heapNeon16: Rmgr = heap16;
export const heapNeon17: Rmgr = heap17;

const lockUpdated = (wording: HeapWording, comboCid: boolean): Op => ({
  name: 'LOCK_UPDATED',
  redo: { 0: lockUpdatedRedo(comboCid) },
  effects: lockUpdatedEffects,
  describe: wording.lockUpdated,
});

const prune = (truncate: boolean, describe: NonNullable<Op['describe']>): Op => ({
  name: 'PRUNE',
  redo: { 0: pruneRedo(truncate) },
  describe,
});

export const heap2_14: Rmgr = {
  id: RM_HEAP2_ID,
  name: 'Heap2',
  opMask: XLOG_HEAP_OPMASK,
  initFlag: XLOG_HEAP_INIT_PAGE,
  mask: heapMask,
  ops: {
    0: { name: 'REWRITE', describe: describeNothing },
    16: prune(false, describePrune14),
    32: { name: 'VACUUM', redo: { 0: vacuumRedo }, describe: describeVacuum14 },
    48: { name: 'FREEZE_PAGE', redo: { 0: freezeTuplesRedo }, describe: describeFreeze14 },
    64: {
      name: 'VISIBLE',
      redo: { 0: visibleMapRedo, 1: visibleHeapRedo },
      mayBeNew: [0],
      describe: wording14.visible,
    },
    80: tupleOps(stockLayout, wording14).multiInsert,
    96: lockUpdated(wording14, false),
    112: { name: 'NEW_CID', describe: wording14.newCid },
  },
};

export const heap2_15: Rmgr = replaceOps(heap2_14, { 16: prune(true, describePrune14) });

export const heap2_16: Rmgr = replaceOps(heap2_15, {
  16: prune(true, describePrune16),
  32: { name: 'VACUUM', redo: { 0: vacuumRedo }, describe: describeVacuum16 },
  48: { name: 'FREEZE_PAGE', redo: { 0: freezePlansRedo }, describe: describeFreeze16 },
  64: {
    name: 'VISIBLE',
    redo: { 0: visibleMapRedo, 1: visibleHeapRedo },
    mayBeNew: [0],
    describe: wording16.visible,
  },
  80: tupleOps(stockLayout, wording16).multiInsert,
  96: lockUpdated(wording16, false),
  112: { name: 'NEW_CID', describe: wording16.newCid },
});

const pruneFreeze = (name: string): Op => ({
  name,
  redo: { 0: pruneFreezeRedo },
  describe: describePruneFreeze,
});

export const heap2_17: Rmgr = replaceOps(heap2_16, {
  16: pruneFreeze('PRUNE_ON_ACCESS'),
  32: pruneFreeze('PRUNE_VACUUM_SCAN'),
  48: pruneFreeze('PRUNE_VACUUM_CLEANUP'),
});
export const heap2_18: Rmgr = heap2_17;

const neonMultiInsert: Op = tupleOps(neon15Layout, wording14).multiInsert;

export const heap2Neon14: Rmgr = replaceOps(heap2_14, {
  80: neonMultiInsert,
  96: lockUpdated(wording14, true),
});
export const heap2Neon15: Rmgr = replaceOps(heap2_15, {
  80: neonMultiInsert,
  96: lockUpdated(wording14, true),
});
export const heap2Neon16: Rmgr = replaceOps(heap2_16, { 96: lockUpdated(wording16, true) });
export const heap2Neon17: Rmgr = replaceOps(heap2_17, { 96: lockUpdated(wording16, true) });
