// Neon's own resource manager, 134: Heap's records once more, with the command id (t_cid) that pages need when a
// compute reads them back within the transaction that wrote them. In 16 and 17; 14 and 15 changed Heap's records
// instead (heap/rows.ts).
//
// Mirrors pgxn/neon_rmgr/neon_rmgr.c and access/neon_xlog.h of Neon's Postgres.

import type { Op, Rmgr } from '../rmgr.ts';

export const RM_NEON_ID = 134;

const XLOG_NEON_OPMASK = 0x70;
const XLOG_NEON_INIT_PAGE = 0x80;

const named = (name: string): Op => ({ name });

export const neonRmgr16: Rmgr = {
  id: RM_NEON_ID,
  name: 'neon',
  opMask: XLOG_NEON_OPMASK,
  initFlag: XLOG_NEON_INIT_PAGE,
  ops: {
    0: named('INSERT'),
    16: named('DELETE'),
    32: named('UPDATE'),
    48: named('HOT_UPDATE'),
    64: named('LOCK'),
    80: named('MULTI_INSERT'),
  },
};
export const neonRmgr17: Rmgr = neonRmgr16;
