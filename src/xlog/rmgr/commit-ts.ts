// Resource manager CommitTs: commit_ts.c.

import type { Rmgr } from '../rmgr.ts';

export const commitTs14: Rmgr = {
  id: 18,
  name: 'CommitTs',
  opMask: 0xf0,
  ops: {
    0: { name: 'ZEROPAGE' },
    16: { name: 'TRUNCATE' },
  },
};
export const commitTs15 = commitTs14;
export const commitTs16 = commitTs15;
export const commitTs17 = commitTs16;
export const commitTs18 = commitTs17;
