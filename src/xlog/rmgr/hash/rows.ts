// The hash index resource manager (12), one row per major: every operation by opcode.
//
// Mirrors hash_redo of src/backend/access/hash/hash_xlog.c, hash_identify of hashdesc.c and hash_xlog.h.

import type { Rmgr } from '../../rmgr.ts';

export const RM_HASH_ID = 12;

export const hash14: Rmgr = {
  id: RM_HASH_ID,
  name: 'Hash',
  opMask: 0xf0,
  ops: {
    0x00: { name: 'INIT_META_PAGE' },
    0x10: { name: 'INIT_BITMAP_PAGE' },
    0x20: { name: 'INSERT' },
    0x30: { name: 'ADD_OVFL_PAGE' },
    0x40: { name: 'SPLIT_ALLOCATE_PAGE' },
    0x50: { name: 'SPLIT_PAGE' },
    0x60: { name: 'SPLIT_COMPLETE' },
    0x70: { name: 'MOVE_PAGE_CONTENTS' },
    0x80: { name: 'SQUEEZE_PAGE' },
    0x90: { name: 'DELETE' },
    0xa0: { name: 'SPLIT_CLEANUP' },
    0xb0: { name: 'UPDATE_META_PAGE' },
    0xc0: { name: 'VACUUM_ONE_PAGE' },
  },
};

export const hash15: Rmgr = hash14;
export const hash16: Rmgr = hash15;
export const hash17: Rmgr = hash16;
export const hash18: Rmgr = hash17;
