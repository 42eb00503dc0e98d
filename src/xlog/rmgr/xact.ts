// Resource manager Transaction: commit, abort and two-phase records; xact.c.

import type { Rmgr } from '../rmgr.ts';

export const xact14: Rmgr = {
  id: 1,
  name: 'Transaction',
  opMask: 0x70,
  ops: {
    0: { name: 'COMMIT' },
    16: { name: 'PREPARE' },
    32: { name: 'ABORT' },
    48: { name: 'COMMIT_PREPARED' },
    64: { name: 'ABORT_PREPARED' },
    80: { name: 'ASSIGNMENT' },
    96: { name: 'INVALIDATION' },
  },
};
export const xact15 = xact14;
export const xact16 = xact15;
export const xact17 = xact16;
export const xact18 = xact17;
