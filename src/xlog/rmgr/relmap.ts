// Resource manager RelMap: relmapper.c.

import type { Rmgr } from '../rmgr.ts';

export const relmap14: Rmgr = {
  id: 7,
  name: 'RelMap',
  opMask: 0xf0,
  ops: {
    0: { name: 'UPDATE' },
  },
};
export const relmap15 = relmap14;
export const relmap16 = relmap15;
export const relmap17 = relmap16;
export const relmap18 = relmap17;
