// Redo of pruning, vacuum's second pass, and freezing.
//
//   14-16 PRUNE        main: horizon u32, nredirected u16, ndead u16 [16: isCatalogRel u8]
//                      block 0: redirected u16[2 * nredirected], dead u16[ndead], unused u16[the rest]
//   14-16 VACUUM       main: nunused u16; block 0: unused u16[nunused]
//   14-15 FREEZE_PAGE  main: cutoff u32, ntuples u16; block 0: ntuples times
//                        xmax u32, offset u16, t_infomask2 u16, t_infomask u16, frzflags u8, pad   (12)
//   16 FREEZE_PAGE     main: horizon u32, nplans u16, isCatalogRel u8; block 0: nplans plans, then offsets u16[]
//   17- PRUNE_*        main: reason u8, flags u8 [, horizon u32]; block 0, each part if its flag is set:
//                        0x10 nplans u16, pad u16, plans | 0x20 n u16, redirected u16[2n] |
//                        0x40 n u16, dead u16[n] | 0x80 n u16, unused u16[n] | offsets u16[] of the plans
//   a plan: xmax u32, t_infomask2 u16, t_infomask u16, frzflags u8, pad u8, ntuples u16              (12)
//
// Mirrors heap_xlog_prune, _vacuum, _freeze_page, _prune_freeze, heap_page_prune_execute of pruneheap.c,
// heap_execute_freeze_tuple, and heap_xlog_deserialize_prune_and_freeze of heapdesc.c.

import type { Page } from '../../page.ts';
import { pageRepairFragmentation, pageTruncateLinePointerArray } from '../../page-compact.ts';
import {
  itemIdSetDead,
  itemIdSetRedirect,
  itemIdSetUnused,
  pageGetMaxOffsetNumber,
} from '../../page-items.ts';
import { type BlockRef, badRecord, type WalRecord } from '../../record.ts';
import type { PageRedo } from '../../rmgr.ts';
import { heapTupleAt, T_CID, T_INFOMASK, T_INFOMASK2, T_XMAX } from '../../tuple.ts';
import { mainData } from './structs.ts';

export const XLHP_IS_CATALOG_REL = 0x02;
export const XLHP_CLEANUP_LOCK = 0x04;
export const XLHP_HAS_CONFLICT_HORIZON = 0x08;
export const XLHP_HAS_FREEZE_PLANS = 0x10;
export const XLHP_HAS_REDIRECTIONS = 0x20;
export const XLHP_HAS_DEAD_ITEMS = 0x40;
export const XLHP_HAS_NOW_UNUSED_ITEMS = 0x80;

const XLH_FREEZE_XVAC = 0x02;
const XLH_INVALID_XVAC = 0x04;
const FROZEN_TRANSACTION_ID = 2;

export const FREEZE_PLAN_SIZE = 12;
const FREEZE_TUPLE_SIZE = 12;

function noLinePointer(offnum: number, max: number): RangeError {
  return new RangeError(`no line pointer ${offnum}, the page has ${max}`);
}

/** The line pointers of heap_page_prune_execute: pairs, then two plain lists, as u16 in the record. */
function setRedirected(page: Page, view: DataView, offset: number, count: number): void {
  const max = pageGetMaxOffsetNumber(page);
  for (let at = offset; at < offset + 4 * count; at += 4) {
    const offnum = view.getUint16(at, true);
    if (offnum === 0 || offnum > max) throw noLinePointer(offnum, max);
    itemIdSetRedirect(page, offnum, view.getUint16(at + 2, true));
  }
}

function setDead(page: Page, view: DataView, offset: number, count: number): void {
  const max = pageGetMaxOffsetNumber(page);
  for (let at = offset; at < offset + 2 * count; at += 2) {
    const offnum = view.getUint16(at, true);
    if (offnum === 0 || offnum > max) throw noLinePointer(offnum, max);
    itemIdSetDead(page, offnum);
  }
}

function setUnused(page: Page, view: DataView, offset: number, count: number): void {
  const max = pageGetMaxOffsetNumber(page);
  for (let at = offset; at < offset + 2 * count; at += 2) {
    const offnum = view.getUint16(at, true);
    if (offnum === 0 || offnum > max) throw noLinePointer(offnum, max);
    itemIdSetUnused(page, offnum);
  }
}

function checkData(record: WalRecord, block: BlockRef, end: number): void {
  if (end > block.dataOffset + block.dataLength) {
    throw badRecord(record, `block data of ${block.dataLength} bytes is too short`);
  }
}

/** PRUNE of 14 to 16; `truncate` as in pageRepairFragmentation. */
export function pruneRedo(truncate: boolean): PageRedo {
  return (page, record, block) => {
    const { view } = record;
    const main = mainData(record, 8);
    const nredirected = view.getUint16(main + 4, true);
    const ndead = view.getUint16(main + 6, true);
    const dead = block.dataOffset + 4 * nredirected;
    const unused = dead + 2 * ndead;
    checkData(record, block, unused);
    setRedirected(page, view, block.dataOffset, nredirected);
    setDead(page, view, dead, ndead);
    setUnused(page, view, unused, (block.dataOffset + block.dataLength - unused) >> 1);
    pageRepairFragmentation(page, truncate);
  };
}

/** VACUUM of 14 to 16. */
export const vacuumRedo: PageRedo = (page, record, block) => {
  const nunused = record.view.getUint16(mainData(record, 2), true);
  checkData(record, block, block.dataOffset + 2 * nunused);
  setUnused(page, record.view, block.dataOffset, nunused);
  pageTruncateLinePointerArray(page);
};

/** heap_execute_freeze_tuple */
function freezeTuple(
  page: Page,
  offnum: number,
  xmax: number,
  infomask2: number,
  infomask: number,
  frzflags: number,
): void {
  const tuple = heapTupleAt(page, offnum);
  page.view.setUint32(tuple + T_XMAX, xmax, true);
  if ((frzflags & XLH_FREEZE_XVAC) !== 0) page.view.setUint32(tuple + T_CID, FROZEN_TRANSACTION_ID, true);
  if ((frzflags & XLH_INVALID_XVAC) !== 0) page.view.setUint32(tuple + T_CID, 0, true);
  page.view.setUint16(tuple + T_INFOMASK, infomask, true);
  page.view.setUint16(tuple + T_INFOMASK2, infomask2, true);
}

/** FREEZE_PAGE of 14 and 15: one entry per tuple. */
export const freezeTuplesRedo: PageRedo = (page, record, block) => {
  const { view } = record;
  const ntuples = view.getUint16(mainData(record, 6) + 4, true);
  const end = block.dataOffset + FREEZE_TUPLE_SIZE * ntuples;
  checkData(record, block, end);
  for (let at = block.dataOffset; at < end; at += FREEZE_TUPLE_SIZE) {
    freezeTuple(
      page,
      view.getUint16(at + 4, true),
      view.getUint32(at, true),
      view.getUint16(at + 6, true),
      view.getUint16(at + 8, true),
      view.getUint8(at + 10),
    );
  }
};

function executePlans(
  page: Page,
  record: WalRecord,
  block: BlockRef,
  plans: number,
  nplans: number,
  offsets: number,
) {
  const { view } = record;
  let next = offsets;
  for (let plan = plans; plan < plans + FREEZE_PLAN_SIZE * nplans; plan += FREEZE_PLAN_SIZE) {
    const ntuples = view.getUint16(plan + 10, true);
    checkData(record, block, next + 2 * ntuples);
    for (let i = 0; i < ntuples; i++, next += 2) {
      freezeTuple(
        page,
        view.getUint16(next, true),
        view.getUint32(plan, true),
        view.getUint16(plan + 4, true),
        view.getUint16(plan + 6, true),
        view.getUint8(plan + 8),
      );
    }
  }
}

/** FREEZE_PAGE of 16: tuples that freeze alike share a plan. */
export const freezePlansRedo: PageRedo = (page, record, block) => {
  const nplans = record.view.getUint16(mainData(record, 7) + 4, true);
  const offsets = block.dataOffset + FREEZE_PLAN_SIZE * nplans;
  checkData(record, block, offsets);
  executePlans(page, record, block, block.dataOffset, nplans, offsets);
};

const countAt = (view: DataView, flags: number, flag: number, at: number, end: number): number =>
  (flags & flag) !== 0 && at + 2 <= end ? view.getUint16(at, true) : 0;

/** The parts of a PRUNE_* record's block data: how many, and where each begins. One at a time, reused. */
export class PruneParts {
  flags = 0;
  nplans = 0;
  plans = 0;
  nredirected = 0;
  redirected = 0;
  ndead = 0;
  dead = 0;
  nunused = 0;
  unused = 0;
  freezeOffsets = 0;

  read(record: WalRecord, block: BlockRef): this {
    const { view } = record;
    const flags = view.getUint8(mainData(record, 2) + 1);
    const end = block.dataOffset + block.dataLength;
    let at = block.dataOffset;
    this.flags = flags;
    this.nplans = countAt(view, flags, XLHP_HAS_FREEZE_PLANS, at, end);
    this.plans = at + 4;
    if ((flags & XLHP_HAS_FREEZE_PLANS) !== 0) at = this.plans + FREEZE_PLAN_SIZE * this.nplans;
    this.nredirected = countAt(view, flags, XLHP_HAS_REDIRECTIONS, at, end);
    this.redirected = at + 2;
    if ((flags & XLHP_HAS_REDIRECTIONS) !== 0) at = this.redirected + 4 * this.nredirected;
    this.ndead = countAt(view, flags, XLHP_HAS_DEAD_ITEMS, at, end);
    this.dead = at + 2;
    if ((flags & XLHP_HAS_DEAD_ITEMS) !== 0) at = this.dead + 2 * this.ndead;
    this.nunused = countAt(view, flags, XLHP_HAS_NOW_UNUSED_ITEMS, at, end);
    this.unused = at + 2;
    if ((flags & XLHP_HAS_NOW_UNUSED_ITEMS) !== 0) at = this.unused + 2 * this.nunused;
    this.freezeOffsets = at;
    checkData(record, block, at);
    return this;
  }
}

const parts = new PruneParts();

/** PRUNE_ON_ACCESS, PRUNE_VACUUM_SCAN and PRUNE_VACUUM_CLEANUP of 17 and later. */
export const pruneFreezeRedo: PageRedo = (page, record, block) => {
  const { view } = record;
  const { flags, nredirected, ndead, nunused, nplans } = parts.read(record, block);
  if (nredirected > 0 || ndead > 0 || nunused > 0) {
    setRedirected(page, view, parts.redirected, nredirected);
    setDead(page, view, parts.dead, ndead);
    setUnused(page, view, parts.unused, nunused);
    if ((flags & XLHP_CLEANUP_LOCK) === 0) pageTruncateLinePointerArray(page);
    else pageRepairFragmentation(page, true);
  }
  executePlans(page, record, block, parts.plans, nplans, parts.freezeOffsets);
};
