// The heap resource managers, 10 Heap and 9 Heap2: which operations they have in each major.
//
// Mirrors src/include/access/heapam_xlog.h.

import { type Op, type Rmgr, replaceOps } from '../../rmgr.ts';

export const RM_HEAP2_ID = 9;
export const RM_HEAP_ID = 10;

const XLOG_HEAP_OPMASK = 0x70;
const XLOG_HEAP_INIT_PAGE = 0x80;

const named = (name: string): Op => ({ name });

export const heap14: Rmgr = {
  id: RM_HEAP_ID,
  name: 'Heap',
  opMask: XLOG_HEAP_OPMASK,
  initFlag: XLOG_HEAP_INIT_PAGE,
  ops: {
    0: named('INSERT'),
    16: named('DELETE'),
    32: named('UPDATE'),
    48: named('TRUNCATE'),
    64: named('HOT_UPDATE'),
    80: named('HEAP_CONFIRM'),
    96: named('LOCK'),
    112: named('INPLACE'),
  },
};
export const heap15: Rmgr = heap14;
export const heap16: Rmgr = heap15;
export const heap17: Rmgr = heap16;
export const heap18: Rmgr = heap17;

/** Neon's 14 and 15 carry t_cid in Heap's own records; from 16 on manager 134 does (rmgr/neon.ts). */
export const heapNeon14: Rmgr = heap14;
export const heapNeon15: Rmgr = heap15;
export const heapNeon16: Rmgr = heap16;
export const heapNeon17: Rmgr = heap17;

export const heap2_14: Rmgr = {
  id: RM_HEAP2_ID,
  name: 'Heap2',
  opMask: XLOG_HEAP_OPMASK,
  initFlag: XLOG_HEAP_INIT_PAGE,
  ops: {
    0: named('REWRITE'),
    16: named('PRUNE'),
    32: named('VACUUM'),
    48: named('FREEZE_PAGE'),
    64: named('VISIBLE'),
    80: named('MULTI_INSERT'),
    96: named('LOCK_UPDATED'),
    112: named('NEW_CID'),
  },
};
export const heap2_15: Rmgr = heap2_14;
export const heap2_16: Rmgr = heap2_15;
export const heap2_17: Rmgr = replaceOps(heap2_16, {
  16: named('PRUNE_ON_ACCESS'),
  32: named('PRUNE_VACUUM_SCAN'),
  48: named('PRUNE_VACUUM_CLEANUP'),
});
export const heap2_18: Rmgr = heap2_17;

export const heap2Neon14: Rmgr = heap2_14;
export const heap2Neon15: Rmgr = heap2_15;
export const heap2Neon16: Rmgr = heap2_16;
export const heap2Neon17: Rmgr = heap2_17;
