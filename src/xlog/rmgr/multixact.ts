// Resource manager MultiXact: multixact.c.

import type { Rmgr } from '../rmgr.ts';

export const multixact14: Rmgr = {
  id: 6,
  name: 'MultiXact',
  opMask: 0xf0,
  ops: {
    0: { name: 'ZERO_OFF_PAGE' },
    16: { name: 'ZERO_MEM_PAGE' },
    32: { name: 'CREATE_ID' },
    48: { name: 'TRUNCATE_ID' },
  },
};
export const multixact15 = multixact14;
export const multixact16 = multixact15;
export const multixact17 = multixact16;
export const multixact18 = multixact17;
