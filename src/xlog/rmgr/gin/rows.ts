// GIN's resource manager (13), a row per major. GIN's records did not change between 14 and 18.
//
// SPLIT and VACUUM_PAGE carry an image of every page they change but a finished split's left child, so those
// blocks have no redo of their own.
//
// Mirrors gin_redo and gin_mask of ginxlog.c, gin_identify of gindesc.c.

import { maskPageContent, maskPageHintBits, maskPageLsnAndChecksum, maskUnusedSpace } from '../../bufmask.ts';
import { PAGE_HEADER_SIZE, type Page, pdLower } from '../../page.ts';
import type { Rmgr } from '../../rmgr.ts';
import {
  describeDeleteListPages,
  describeInsert,
  describeNothing,
  describeSplit,
  describeVacuumDataLeaf,
} from './describe.ts';
import { GIN_DELETED, ginFlags } from './page.ts';
import {
  clearIncompleteSplit,
  createPostingTree,
  deleteDownlink,
  deleteListMetapage,
  deleteListPage,
  deletePage,
  insert,
  insertListPage,
  recompressLeaf,
  relinkLeftSibling,
  updateListTail,
  updateMetapage,
} from './redo.ts';

export const XLOG_GIN_CREATE_PTREE = 0x10;
export const XLOG_GIN_INSERT = 0x20;
export const XLOG_GIN_SPLIT = 0x30;
export const XLOG_GIN_VACUUM_PAGE = 0x40;
export const XLOG_GIN_DELETE_PAGE = 0x50;
export const XLOG_GIN_UPDATE_META_PAGE = 0x60;
export const XLOG_GIN_INSERT_LISTPAGE = 0x70;
export const XLOG_GIN_DELETE_LISTPAGE = 0x80;
export const XLOG_GIN_VACUUM_DATA_LEAF_PAGE = 0x90;

/** gin_mask */
function mask(page: Page): void {
  maskPageLsnAndChecksum(page);
  const flags = ginFlags(page);
  maskPageHintBits(page);
  if ((flags & GIN_DELETED) !== 0) maskPageContent(page);
  else if (pdLower(page) > PAGE_HEADER_SIZE) maskUnusedSpace(page);
}

export const gin14: Rmgr = {
  id: 13,
  name: 'Gin',
  opMask: 0xf0,
  mask,
  ops: {
    [XLOG_GIN_CREATE_PTREE]: {
      name: 'CREATE_PTREE',
      redo: { 0: createPostingTree },
      describe: describeNothing,
    },
    [XLOG_GIN_INSERT]: {
      name: 'INSERT',
      redo: { 0: insert, 1: clearIncompleteSplit },
      describe: describeInsert,
    },
    [XLOG_GIN_SPLIT]: { name: 'SPLIT', redo: { 3: clearIncompleteSplit }, describe: describeSplit },
    [XLOG_GIN_VACUUM_PAGE]: { name: 'VACUUM_PAGE', describe: describeNothing },
    [XLOG_GIN_DELETE_PAGE]: {
      name: 'DELETE_PAGE',
      redo: { 0: deletePage, 1: deleteDownlink, 2: relinkLeftSibling },
      describe: describeNothing,
    },
    [XLOG_GIN_UPDATE_META_PAGE]: {
      name: 'UPDATE_META_PAGE',
      redo: { 0: updateMetapage, 1: updateListTail },
      describe: describeNothing,
    },
    [XLOG_GIN_INSERT_LISTPAGE]: {
      name: 'INSERT_LISTPAGE',
      redo: { 0: insertListPage },
      describe: describeNothing,
    },
    [XLOG_GIN_DELETE_LISTPAGE]: {
      name: 'DELETE_LISTPAGE',
      redo: { 0: deleteListMetapage },
      redoEvery: deleteListPage,
      describe: describeDeleteListPages,
    },
    [XLOG_GIN_VACUUM_DATA_LEAF_PAGE]: {
      name: 'VACUUM_DATA_LEAF_PAGE',
      redo: { 0: recompressLeaf },
      describe: describeVacuumDataLeaf,
    },
  },
};
export const gin15 = gin14;
export const gin16 = gin15;
export const gin17 = gin16;
export const gin18 = gin17;
