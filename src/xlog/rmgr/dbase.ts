// Resource manager Database: directories of databases; dbcommands.c.

import type { Rmgr } from '../rmgr.ts';

export const dbase14: Rmgr = {
  id: 4,
  name: 'Database',
  opMask: 0xf0,
  ops: {
    0: { name: 'CREATE' },
    16: { name: 'DROP' },
  },
};

export const dbase15: Rmgr = {
  id: 4,
  name: 'Database',
  opMask: 0xf0,
  ops: {
    0: { name: 'CREATE_FILE_COPY' },
    16: { name: 'CREATE_WAL_LOG' },
    32: { name: 'DROP' },
  },
};
export const dbase16 = dbase15;
export const dbase17 = dbase16;
export const dbase18 = dbase17;
