// GIN's resource manager (13), a row per major. GIN's records did not change between 14 and 18.

import type { Rmgr } from '../../rmgr.ts';

export const XLOG_GIN_CREATE_PTREE = 0x10;
export const XLOG_GIN_INSERT = 0x20;
export const XLOG_GIN_SPLIT = 0x30;
export const XLOG_GIN_VACUUM_PAGE = 0x40;
export const XLOG_GIN_DELETE_PAGE = 0x50;
export const XLOG_GIN_UPDATE_META_PAGE = 0x60;
export const XLOG_GIN_INSERT_LISTPAGE = 0x70;
export const XLOG_GIN_DELETE_LISTPAGE = 0x80;
export const XLOG_GIN_VACUUM_DATA_LEAF_PAGE = 0x90;

export const gin14: Rmgr = {
  id: 13,
  name: 'Gin',
  opMask: 0xf0,
  ops: {
    [XLOG_GIN_CREATE_PTREE]: { name: 'CREATE_PTREE' },
    [XLOG_GIN_INSERT]: { name: 'INSERT' },
    [XLOG_GIN_SPLIT]: { name: 'SPLIT' },
    [XLOG_GIN_VACUUM_PAGE]: { name: 'VACUUM_PAGE' },
    [XLOG_GIN_DELETE_PAGE]: { name: 'DELETE_PAGE' },
    [XLOG_GIN_UPDATE_META_PAGE]: { name: 'UPDATE_META_PAGE' },
    [XLOG_GIN_INSERT_LISTPAGE]: { name: 'INSERT_LISTPAGE' },
    [XLOG_GIN_DELETE_LISTPAGE]: { name: 'DELETE_LISTPAGE' },
    [XLOG_GIN_VACUUM_DATA_LEAF_PAGE]: { name: 'VACUUM_DATA_LEAF_PAGE' },
  },
};
export const gin15 = gin14;
export const gin16 = gin15;
export const gin17 = gin16;
export const gin18 = gin17;
