// B-tree records in words, exactly as pg_waldump of each major prints them. Three wordings: 14 and 15; 16, with
// colons, commas and the offset numbers of deletions; 17 and 18, with isCatalogRel.
//
// Record layouts stand in insert.ts, split.ts, dedup.ts, delete.ts and unlink.ts; here also
//   xl_btree_reuse_page   0 locator: spcOid u32, dbOid u32, relNumber u32 | 12 block u32
//                        16 snapshotConflictHorizon u64 | 24 isCatalogRel u8 (from 16 on)
//
// Mirrors btree_desc of src/backend/access/rmgrdesc/nbtdesc.c.

import { badRecord, type WalRecord } from '../../record.ts';
import { blockDataAt, mainAt } from '../main-data.ts';

const field = (r: WalRecord, at: number, size: number): number =>
  mainAt(r, at + size, 'a B-tree record of its kind') + at;
const u16 = (r: WalRecord, at: number): number => r.view.getUint16(field(r, at, 2), true);
const u32 = (r: WalRecord, at: number): number => r.view.getUint32(field(r, at, 4), true);
/** Epoch and xid of a full transaction id. */
const fullXid = (r: WalRecord, at: number): string => `${u32(r, at + 4)}:${u32(r, at)}`;
const locator = (r: WalRecord): string => `${u32(r, 0)}/${u32(r, 4)}/${u32(r, 8)}`;
const isCatalogRel = (r: WalRecord, at: number): string =>
  `, isCatalogRel: ${r.view.getUint8(field(r, at, 1)) !== 0 ? 'T' : 'F'}`;
const lastCleanup = (r: WalRecord): number =>
  r.view.getUint32(blockDataAt(r, r.block(0), 24, 'xl_btree_metadata') + 20, true);

type Describe = (record: WalRecord) => string;

/** What describes the operations of a major. */
export interface Descriptions {
  readonly insert: Describe;
  readonly split: Describe;
  readonly dedup: Describe;
  readonly vacuum: Describe;
  readonly delete: Describe;
  readonly halfDead: Describe;
  readonly unlink: Describe;
  readonly newRoot: Describe;
  readonly reusePage: Describe;
  readonly metaCleanup: Describe;
}

export const describe14: Descriptions = {
  insert: r => `off ${u16(r, 0)}`,
  split: r =>
    `level ${u32(r, 0)}, firstrightoff ${u16(r, 4)}, newitemoff ${u16(r, 6)}, postingoff ${u16(r, 8)}`,
  dedup: r => `nintervals ${u16(r, 0)}`,
  vacuum: r => `ndeleted ${u16(r, 0)}; nupdated ${u16(r, 2)}`,
  delete: r => `latestRemovedXid ${u32(r, 0)}; ndeleted ${u16(r, 4)}; nupdated ${u16(r, 6)}`,
  halfDead: r => `topparent ${u32(r, 16)}; leaf ${u32(r, 4)}; left ${u32(r, 8)}; right ${u32(r, 12)}`,
  unlink: r =>
    `left ${u32(r, 0)}; right ${u32(r, 4)}; level ${u32(r, 8)}; safexid ${fullXid(r, 16)}; ` +
    `leafleft ${u32(r, 24)}; leafright ${u32(r, 28)}; leaftopparent ${u32(r, 32)}`,
  newRoot: r => `lev ${u32(r, 4)}`,
  reusePage: r => `rel ${locator(r)}; latestRemovedXid ${fullXid(r, 16)}`,
  metaCleanup: r => `last_cleanup_num_delpages ${lastCleanup(r)}`,
};

export const describe16: Descriptions = {
  insert: r => `off: ${u16(r, 0)}`,
  split: r =>
    `level: ${u32(r, 0)}, firstrightoff: ${u16(r, 4)}, newitemoff: ${u16(r, 6)}, postingoff: ${u16(r, 8)}`,
  dedup: r => `nintervals: ${u16(r, 0)}`,
  vacuum: r => `ndeleted: ${u16(r, 0)}, nupdated: ${u16(r, 2)}${delvacuum(r, u16(r, 0), u16(r, 2))}`,
  delete: r => deletion(r) + delvacuum(r, u16(r, 4), u16(r, 6)),
  halfDead: r => `topparent: ${u32(r, 16)}, leaf: ${u32(r, 4)}, left: ${u32(r, 8)}, right: ${u32(r, 12)}`,
  unlink: r =>
    `left: ${u32(r, 0)}, right: ${u32(r, 4)}, level: ${u32(r, 8)}, safexid: ${fullXid(r, 16)}, ` +
    `leafleft: ${u32(r, 24)}, leafright: ${u32(r, 28)}, leaftopparent: ${u32(r, 32)}`,
  newRoot: r => `level: ${u32(r, 4)}`,
  reusePage: r => `rel: ${locator(r)}, snapshotConflictHorizon: ${fullXid(r, 16)}`,
  metaCleanup: r => `last_cleanup_num_delpages: ${lastCleanup(r)}`,
};

export const describe17: Descriptions = {
  ...describe16,
  delete: r => deletion(r) + isCatalogRel(r, 8) + delvacuum(r, u16(r, 4), u16(r, 6)),
  reusePage: r => describe16.reusePage(r) + isCatalogRel(r, 24),
};

const deletion: Describe = r =>
  `snapshotConflictHorizon: ${u32(r, 0)}, ndeleted: ${u16(r, 4)}, nupdated: ${u16(r, 6)}`;

/** delvacuum_desc: the offset numbers, where block 0 has its data (an image to apply stands without). */
function delvacuum(record: WalRecord, ndeleted: number, nupdated: number): string {
  if (!record.hasBlock(0) || !record.block(0).hasData) return '';
  const { view } = record;
  const deleted = record.block(0).dataOffset;
  const end = deleted + record.block(0).dataLength;
  const updated = deleted + 2 * ndeleted;
  const updates: string[] = [];
  let update = updated + 2 * nupdated;
  if (update > end) throw badRecord(record, `${ndeleted} deletions and ${nupdated} updates are not there`);
  for (let i = 0; i < nupdated; i++) {
    const nptids = update < end ? view.getUint16(update, true) : 0;
    if (update + 2 + 2 * nptids > end) throw badRecord(record, `update ${i} of ${nupdated} is not there`);
    const ptids = numbers(view, update + 2, nptids);
    updates.push(`{ off: ${view.getUint16(updated + 2 * i, true)}, nptids: ${nptids}, ptids: [${ptids}] }`);
    update += 2 + 2 * nptids;
  }
  return `, deleted: [${numbers(view, deleted, ndeleted)}], updated: [${updates.join(', ')}]`;
}

function numbers(view: DataView, at: number, count: number): string {
  return Array.from({ length: count }, (_, i) => view.getUint16(at + 2 * i, true)).join(', ');
}
