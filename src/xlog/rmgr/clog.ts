// Resource manager CLOG: pages of transaction status; clog.c.

import type { Rmgr } from '../rmgr.ts';

export const clog14: Rmgr = {
  id: 3,
  name: 'CLOG',
  opMask: 0xf0,
  ops: {
    0: { name: 'ZEROPAGE' },
    16: { name: 'TRUNCATE' },
  },
};
export const clog15 = clog14;
export const clog16 = clog15;
export const clog17 = clog16;
export const clog18 = clog17;
