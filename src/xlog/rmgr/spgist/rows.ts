// SP-GiST's resource manager (16), a row per major.

import type { Rmgr } from '../../rmgr.ts';

export const XLOG_SPGIST_ADD_LEAF = 0x10;
export const XLOG_SPGIST_MOVE_LEAFS = 0x20;
export const XLOG_SPGIST_ADD_NODE = 0x30;
export const XLOG_SPGIST_SPLIT_TUPLE = 0x40;
export const XLOG_SPGIST_PICKSPLIT = 0x50;
export const XLOG_SPGIST_VACUUM_LEAF = 0x60;
export const XLOG_SPGIST_VACUUM_ROOT = 0x70;
export const XLOG_SPGIST_VACUUM_REDIRECT = 0x80;

export const spgist14: Rmgr = {
  id: 16,
  name: 'SPGist',
  opMask: 0xf0,
  ops: {
    [XLOG_SPGIST_ADD_LEAF]: { name: 'ADD_LEAF' },
    [XLOG_SPGIST_MOVE_LEAFS]: { name: 'MOVE_LEAFS' },
    [XLOG_SPGIST_ADD_NODE]: { name: 'ADD_NODE' },
    [XLOG_SPGIST_SPLIT_TUPLE]: { name: 'SPLIT_TUPLE' },
    [XLOG_SPGIST_PICKSPLIT]: { name: 'PICKSPLIT' },
    [XLOG_SPGIST_VACUUM_LEAF]: { name: 'VACUUM_LEAF' },
    [XLOG_SPGIST_VACUUM_ROOT]: { name: 'VACUUM_ROOT' },
    [XLOG_SPGIST_VACUUM_REDIRECT]: { name: 'VACUUM_REDIRECT' },
  },
};
export const spgist15 = spgist14;
export const spgist16 = spgist15;
export const spgist17 = spgist16;
export const spgist18 = spgist17;
