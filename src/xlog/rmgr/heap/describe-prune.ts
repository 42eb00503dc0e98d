// Pruning, vacuum and freezing in the words of pg_waldump, which changed in 16 and 17; and the invalidations that
// 18 adds to INPLACE. Layouts are drawn in prune.ts.
//
// Mirrors heap_desc and heap2_desc of heapdesc.c by major, and standby_desc_invalidations of standbydesc.c.

import { badRecord, type WalRecord } from '../../record.ts';
import { type Describe, offsetList, redirectList } from './describe.ts';
import { FREEZE_PLAN_SIZE, PruneParts, XLHP_HAS_CONFLICT_HORIZON, XLHP_IS_CATALOG_REL } from './prune.ts';
import { mainData } from './structs.ts';

const u16 = (record: WalRecord, at: number): number => record.view.getUint16(at, true);
const u32 = (record: WalRecord, at: number): number => record.view.getUint32(at, true);

const hasBlockData = (record: WalRecord): boolean => record.hasBlock(0) && record.block(0).hasData;

function checkEnd(record: WalRecord, end: number): void {
  const block = record.block(0);
  if (end > block.dataOffset + block.dataLength) throw badRecord(record, 'block data is too short');
}

// ---- 14 and 15

export const describePrune14: Describe = record => {
  const main = mainData(record, 8);
  const [nredirected, ndead] = [u16(record, main + 4), u16(record, main + 6)];
  return `latestRemovedXid ${u32(record, main)} nredirected ${nredirected} ndead ${ndead}`;
};

export const describeVacuum14: Describe = record => `nunused ${u16(record, mainData(record, 2))}`;

export const describeFreeze14: Describe = record => {
  const main = mainData(record, 6);
  return `cutoff xid ${u32(record, main)} ntuples ${u16(record, main + 4)}`;
};

// ---- 16

export const describePrune16: Describe = record => {
  const main = mainData(record, 8);
  const [nredirected, ndead] = [u16(record, main + 4), u16(record, main + 6)];
  const head = `snapshotConflictHorizon: ${u32(record, main)}, nredirected: ${nredirected}, ndead: ${ndead}`;
  if (!hasBlockData(record)) return head;
  const block = record.block(0);
  const dead = block.dataOffset + 4 * nredirected;
  const unused = dead + 2 * ndead;
  checkEnd(record, unused);
  const nunused = (block.dataOffset + block.dataLength - unused) >> 1;
  return [
    `${head}, nunused: ${nunused}`,
    `redirected: ${redirectList(record, block.dataOffset, nredirected)}`,
    `dead: ${offsetList(record, dead, ndead)}`,
    `unused: ${offsetList(record, unused, nunused)}`,
  ].join(', ');
};

export const describeVacuum16: Describe = record => {
  const nunused = u16(record, mainData(record, 2));
  if (!hasBlockData(record)) return `nunused: ${nunused}`;
  checkEnd(record, record.block(0).dataOffset + 2 * nunused);
  return `nunused: ${nunused}, unused: ${offsetList(record, record.block(0).dataOffset, nunused)}`;
};

function planList(record: WalRecord, plans: number, nplans: number, freezeOffsets: number): string {
  const texts: string[] = [];
  let offsets = freezeOffsets;
  for (let i = 0; i < nplans; i++) {
    const plan = plans + FREEZE_PLAN_SIZE * i;
    const ntuples = u16(record, plan + 10);
    checkEnd(record, offsets + 2 * ntuples);
    const bits = `infomask: ${u16(record, plan + 6)}, infomask2: ${u16(record, plan + 4)}`;
    const list = offsetList(record, offsets, ntuples);
    texts.push(`{ xmax: ${u32(record, plan)}, ${bits}, ntuples: ${ntuples}, offsets: ${list} }`);
    offsets += 2 * ntuples;
  }
  return `[${texts.join(', ')}]`;
}

export const describeFreeze16: Describe = record => {
  const main = mainData(record, 7);
  const nplans = u16(record, main + 4);
  const head = `snapshotConflictHorizon: ${u32(record, main)}, nplans: ${nplans}`;
  if (!hasBlockData(record)) return head;
  const plans = record.block(0).dataOffset;
  checkEnd(record, plans + FREEZE_PLAN_SIZE * nplans);
  return `${head}, plans: ${planList(record, plans, nplans, plans + FREEZE_PLAN_SIZE * nplans)}`;
};

// ---- 17 and later

export const describePruneFreeze: Describe = record => {
  const main = mainData(record, 2);
  const flags = record.view.getUint8(main + 1);
  let text = '';
  if ((flags & XLHP_HAS_CONFLICT_HORIZON) !== 0) {
    text += `snapshotConflictHorizon: ${u32(record, mainData(record, 6) + 2)}`;
  }
  text += `, isCatalogRel: ${(flags & XLHP_IS_CATALOG_REL) !== 0 ? 'T' : 'F'}`;
  if (!hasBlockData(record)) return text;
  const parts = new PruneParts().read(record, record.block(0));
  const { nplans, nredirected, ndead, nunused } = parts;
  text += `, nplans: ${nplans}, nredirected: ${nredirected}, ndead: ${ndead}, nunused: ${nunused}`;
  if (nplans > 0) text += `, plans: ${planList(record, parts.plans, nplans, parts.freezeOffsets)}`;
  if (nredirected > 0) text += `, redirected: ${redirectList(record, parts.redirected, nredirected)}`;
  if (ndead > 0) text += `, dead: ${offsetList(record, parts.dead, ndead)}`;
  if (nunused > 0) text += `, unused: ${offsetList(record, parts.unused, nunused)}`;
  return text;
};

// ---- 18

const SHARED_INVALIDATION_MESSAGE_SIZE = 16;

/** SharedInvalidationMessage: id i8, then by id dbId u32 at 4 and a u32 at 8. */
function invalidation(record: WalRecord, at: number): string {
  const id = record.view.getInt8(at);
  if (id >= 0) return `catcache ${id}`;
  switch (id) {
    case -1:
      return `catalog ${u32(record, at + 8)}`;
    case -2:
      return `relcache ${u32(record, at + 8)}`;
    case -3:
      return 'smgr';
    case -4:
      return `relmap db ${u32(record, at + 4)}`;
    case -5:
      return `snapshot ${u32(record, at + 8)}`;
    case -6:
      return `relsync ${u32(record, at + 8)}`;
    default:
      return `unrecognized id ${id}`;
  }
}

/** xl_heap_inplace of 18: offnum u16, dbId u32, tsId u32, relcacheInitFileInval u8, nmsgs i32, messages. */
export const describeInplace18: Describe = record => {
  const main = mainData(record, 20);
  const off = `off: ${u16(record, main)}`;
  const nmsgs = record.view.getInt32(main + 16, true);
  if (nmsgs <= 0) return off;
  mainData(record, 20 + SHARED_INVALIDATION_MESSAGE_SIZE * nmsgs);
  const initFile =
    record.view.getUint8(main + 12) !== 0
      ? `; relcache init file inval dbid ${u32(record, main + 4)} tsid ${u32(record, main + 8)}`
      : '';
  const messages = Array.from({ length: nmsgs }, (_, i) =>
    invalidation(record, main + 20 + SHARED_INVALIDATION_MESSAGE_SIZE * i),
  );
  return `${off}${initFile}; inval msgs: ${messages.join(' ')}`;
};
