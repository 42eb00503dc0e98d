// GiST's resource manager (14), a row per major.

import type { Rmgr } from '../../rmgr.ts';

export const XLOG_GIST_PAGE_UPDATE = 0x00;
export const XLOG_GIST_DELETE = 0x10;
export const XLOG_GIST_PAGE_REUSE = 0x20;
export const XLOG_GIST_PAGE_SPLIT = 0x30;
export const XLOG_GIST_PAGE_DELETE = 0x60;
export const XLOG_GIST_ASSIGN_LSN = 0x70;

export const gist14: Rmgr = {
  id: 14,
  name: 'Gist',
  opMask: 0xf0,
  ops: {
    [XLOG_GIST_PAGE_UPDATE]: { name: 'PAGE_UPDATE' },
    [XLOG_GIST_DELETE]: { name: 'DELETE' },
    [XLOG_GIST_PAGE_REUSE]: { name: 'PAGE_REUSE' },
    [XLOG_GIST_PAGE_SPLIT]: { name: 'PAGE_SPLIT' },
    [XLOG_GIST_PAGE_DELETE]: { name: 'PAGE_DELETE' },
    [XLOG_GIST_ASSIGN_LSN]: { name: 'ASSIGN_LSN' },
  },
};
export const gist15 = gist14;
export const gist16 = gist15;
export const gist17 = gist16;
export const gist18 = gist17;
