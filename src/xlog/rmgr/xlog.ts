// Resource manager XLOG: checkpoints, parameters and full-page images; xlog.c.

import { type Rmgr, replaceOps } from '../rmgr.ts';

export const xlog14: Rmgr = {
  id: 0,
  name: 'XLOG',
  opMask: 0xf0,
  ops: {
    0: { name: 'CHECKPOINT_SHUTDOWN' },
    16: { name: 'CHECKPOINT_ONLINE' },
    32: { name: 'NOOP' },
    48: { name: 'NEXTOID' },
    64: { name: 'SWITCH' },
    80: { name: 'BACKUP_END' },
    96: { name: 'PARAMETER_CHANGE' },
    112: { name: 'RESTORE_POINT' },
    128: { name: 'FPW_CHANGE' },
    144: { name: 'END_OF_RECOVERY' },
    160: { name: 'FPI_FOR_HINT' },
    176: { name: 'FPI' },
    208: { name: 'OVERWRITE_CONTRECORD' },
  },
};
export const xlog15 = xlog14;
export const xlog16 = xlog15;
export const xlog17: Rmgr = replaceOps(xlog16, { 224: { name: 'CHECKPOINT_REDO' } });
export const xlog18 = xlog17;
