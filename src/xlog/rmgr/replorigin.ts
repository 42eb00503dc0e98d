// Resource manager ReplicationOrigin: origin.c.

import type { Rmgr } from '../rmgr.ts';

export const replorigin14: Rmgr = {
  id: 19,
  name: 'ReplicationOrigin',
  opMask: 0xf0,
  ops: {
    0: { name: 'SET' },
    16: { name: 'DROP' },
  },
};
export const replorigin15 = replorigin14;
export const replorigin16 = replorigin15;
export const replorigin17 = replorigin16;
export const replorigin18 = replorigin17;
