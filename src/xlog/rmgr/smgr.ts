// Resource manager Storage: relation files made and cut; storage.c.

import type { Rmgr } from '../rmgr.ts';

export const smgr14: Rmgr = {
  id: 2,
  name: 'Storage',
  opMask: 0xf0,
  ops: {
    16: { name: 'CREATE' },
    32: { name: 'TRUNCATE' },
  },
};
export const smgr15 = smgr14;
export const smgr16 = smgr15;
export const smgr17 = smgr16;
export const smgr18 = smgr17;
