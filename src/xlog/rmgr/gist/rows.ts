// GiST's resource manager (14), a row per major.
//
// 16 put isCatalogRel into DELETE and PAGE_REUSE, which moves DELETE's offset numbers by two bytes; 17 prints it.
// PAGE_REUSE and ASSIGN_LSN name no block: the one is for standby queries, the other for its own position.
//
// Mirrors gist_redo and gist_mask of gistxlog.c, gist_identify of gistdesc.c.

import { maskLpFlags, maskPageHintBits, maskPageLsnAndChecksum, maskUnusedSpace } from '../../bufmask.ts';
import type { Page } from '../../page.ts';
import { type Rmgr, replaceOps } from '../../rmgr.ts';
import {
  describeDelete14,
  describeDelete16,
  describeDelete17,
  describeNothing,
  describePageDelete,
  describeReuse14,
  describeReuse16,
  describeReuse17,
  describeSplit,
} from './describe.ts';
import { F_FOLLOW_RIGHT, F_HAS_GARBAGE, F_LEAF, gistFlags, setGistFlags, setGistNsn } from './page.ts';
import {
  clearFollowRight,
  deleteDownlink,
  deletePage,
  deleteTuples14,
  deleteTuples16,
  pageUpdate,
  splitPage,
} from './redo.ts';

export const XLOG_GIST_PAGE_UPDATE = 0x00;
export const XLOG_GIST_DELETE = 0x10;
export const XLOG_GIST_PAGE_REUSE = 0x20;
export const XLOG_GIST_PAGE_SPLIT = 0x30;
export const XLOG_GIST_PAGE_DELETE = 0x60;
export const XLOG_GIST_ASSIGN_LSN = 0x70;

/**
 * gist_mask: the NSN is an LSN; a writer changes F_FOLLOW_RIGHT after logging, garbage hints and the flags of leaf
 * line pointers without logging.
 */
function mask(page: Page): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  maskUnusedSpace(page);
  setGistNsn(page, 0);
  const flags = gistFlags(page);
  setGistFlags(page, (flags | F_FOLLOW_RIGHT) & ~F_HAS_GARBAGE);
  if ((flags & F_LEAF) !== 0) maskLpFlags(page);
}

export const gist14: Rmgr = {
  id: 14,
  name: 'Gist',
  opMask: 0xf0,
  mask,
  ops: {
    [XLOG_GIST_PAGE_UPDATE]: {
      name: 'PAGE_UPDATE',
      redo: { 0: pageUpdate, 1: clearFollowRight },
      afterImage: { 1: clearFollowRight },
      describe: describeNothing,
    },
    [XLOG_GIST_DELETE]: { name: 'DELETE', redo: { 0: deleteTuples14 }, describe: describeDelete14 },
    [XLOG_GIST_PAGE_REUSE]: { name: 'PAGE_REUSE', describe: describeReuse14 },
    [XLOG_GIST_PAGE_SPLIT]: {
      name: 'PAGE_SPLIT',
      redo: { 0: clearFollowRight },
      redoEvery: splitPage,
      afterImage: { 0: clearFollowRight },
      describe: describeSplit,
    },
    [XLOG_GIST_PAGE_DELETE]: {
      name: 'PAGE_DELETE',
      redo: { 0: deletePage, 1: deleteDownlink },
      describe: describePageDelete,
    },
    [XLOG_GIST_ASSIGN_LSN]: { name: 'ASSIGN_LSN', describe: describeNothing },
  },
};

export const gist15 = gist14;

export const gist16 = replaceOps(gist15, {
  [XLOG_GIST_DELETE]: { name: 'DELETE', redo: { 0: deleteTuples16 }, describe: describeDelete16 },
  [XLOG_GIST_PAGE_REUSE]: { name: 'PAGE_REUSE', describe: describeReuse16 },
});

export const gist17 = replaceOps(gist16, {
  [XLOG_GIST_DELETE]: { name: 'DELETE', redo: { 0: deleteTuples16 }, describe: describeDelete17 },
  [XLOG_GIST_PAGE_REUSE]: { name: 'PAGE_REUSE', describe: describeReuse17 },
});

export const gist18 = gist17;
