// Resource manager Standby: standby.c.

import type { Rmgr } from '../rmgr.ts';

export const standby14: Rmgr = {
  id: 8,
  name: 'Standby',
  opMask: 0xf0,
  ops: {
    0: { name: 'LOCK' },
    16: { name: 'RUNNING_XACTS' },
    32: { name: 'INVALIDATIONS' },
  },
};
export const standby15 = standby14;
export const standby16 = standby15;
export const standby17 = standby16;
export const standby18 = standby17;
