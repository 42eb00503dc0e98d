// Neon's own resource manager, 134: Heap's records once more, with the command id (t_cid) that pages need when a
// compute reads them back within the transaction that wrote them. In 16 and 17; 14 and 15 changed Heap's records
// instead (heap/rows.ts). Opcodes are its own: HOT_UPDATE is 0x30 and LOCK 0x40.
//
// Computes still write the operations not named here as plain Heap and Heap2. pg_waldump does not know this manager
// ("custom134", "UNKNOWN"); names and descriptions are those of neon_rmgr_desc.c.
//
// Mirrors pgxn/neon_rmgr/neon_rmgr.c and access/neon_xlog.h of Neon's Postgres.

import type { Rmgr } from '../rmgr.ts';
import { wording16 } from './heap/describe.ts';
import { heapMask } from './heap/mask.ts';
import { tupleOps } from './heap/rows.ts';
import { neonRmgrLayout } from './heap/structs.ts';

export const RM_NEON_ID = 134;

const XLOG_NEON_OPMASK = 0x70;
const XLOG_NEON_INIT_PAGE = 0x80;

const ops = tupleOps(neonRmgrLayout, wording16);

export const neonRmgr16: Rmgr = {
  id: RM_NEON_ID,
  name: 'neon',
  opMask: XLOG_NEON_OPMASK,
  initFlag: XLOG_NEON_INIT_PAGE,
  mask: heapMask,
  ops: {
    0: ops.insert,
    16: ops.delete,
    32: ops.update,
    48: ops.hotUpdate,
    64: ops.lock,
    80: ops.multiInsert,
  },
};
export const neonRmgr17: Rmgr = neonRmgr16;
