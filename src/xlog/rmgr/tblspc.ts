// Resource manager Tablespace: tablespace.c.

import type { Rmgr } from '../rmgr.ts';

export const tblspc14: Rmgr = {
  id: 5,
  name: 'Tablespace',
  opMask: 0xf0,
  ops: {
    0: { name: 'CREATE' },
    16: { name: 'DROP' },
  },
};
export const tblspc15 = tblspc14;
export const tblspc16 = tblspc15;
export const tblspc17 = tblspc16;
export const tblspc18 = tblspc17;
