// Resource manager LogicalMessage: message.c.

import type { Rmgr } from '../rmgr.ts';

export const logicalmsg14: Rmgr = {
  id: 21,
  name: 'LogicalMessage',
  opMask: 0xf0,
  ops: {
    0: { name: 'MESSAGE' },
  },
};
export const logicalmsg15 = logicalmsg14;
export const logicalmsg16 = logicalmsg15;
export const logicalmsg17 = logicalmsg16;
export const logicalmsg18 = logicalmsg17;
