// The B-tree resource manager (11), one row per major: every operation by opcode.
//
// Mirrors btree_redo of src/backend/access/nbtree/nbtxlog.c, btree_identify of nbtdesc.c and nbtxlog.h.

import type { Rmgr } from '../../rmgr.ts';

export const RM_BTREE_ID = 11;

export const btree14: Rmgr = {
  id: RM_BTREE_ID,
  name: 'Btree',
  opMask: 0xf0,
  ops: {
    0x00: { name: 'INSERT_LEAF' },
    0x10: { name: 'INSERT_UPPER' },
    0x20: { name: 'INSERT_META' },
    0x30: { name: 'SPLIT_L' },
    0x40: { name: 'SPLIT_R' },
    0x50: { name: 'INSERT_POST' },
    0x60: { name: 'DEDUP' },
    0x70: { name: 'DELETE' },
    0x80: { name: 'UNLINK_PAGE' },
    0x90: { name: 'UNLINK_PAGE_META' },
    0xa0: { name: 'NEWROOT' },
    0xb0: { name: 'MARK_PAGE_HALFDEAD' },
    0xc0: { name: 'VACUUM' },
    0xd0: { name: 'REUSE_PAGE' },
    0xe0: { name: 'META_CLEANUP' },
  },
};

export const btree15: Rmgr = btree14;
export const btree16: Rmgr = btree15;
export const btree17: Rmgr = btree16;
export const btree18: Rmgr = btree17;
