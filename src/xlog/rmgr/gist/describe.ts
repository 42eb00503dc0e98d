// GiST's records in words, as pg_waldump of each major prints them. Mirrors gistdesc.c.
//
// 16 renamed latestRemovedXid to snapshotConflictHorizon; 17 prints isCatalogRel, which 16 already logs.

import type { WalRecord } from '../../record.ts';
import { DELETE_DOWNLINK_OFFSET, DELETE_NTODELETE, SPLIT_NPAGE } from './redo.ts';

const DELETE_IS_CATALOG_REL = 6;
const REUSE_BLOCK = 12;
const REUSE_XID = 16;
const REUSE_IS_CATALOG_REL = 24;

export const describeNothing = (): string => '';

/** A FullTransactionId as epoch:xid. */
function fullXid(record: WalRecord, at: number): string {
  return `${record.view.getUint32(at + 4, true)}:${record.view.getUint32(at, true)}`;
}

const yes = (record: WalRecord, at: number): string =>
  record.view.getUint8(record.mainOffset + at) !== 0 ? 'T' : 'F';

function deleteText(record: WalRecord, xidName: string): string {
  const { view, mainOffset } = record;
  const count = view.getUint16(mainOffset + DELETE_NTODELETE, true);
  return `delete: ${xidName} ${view.getUint32(mainOffset, true)}, nitems: ${count}`;
}

export const describeDelete14 = (record: WalRecord): string => deleteText(record, 'latestRemovedXid');
export const describeDelete16 = (record: WalRecord): string => deleteText(record, 'snapshotConflictHorizon');
export const describeDelete17 = (record: WalRecord): string =>
  `${describeDelete16(record)}, isCatalogRel ${yes(record, DELETE_IS_CATALOG_REL)}`;

function reuseText(record: WalRecord, xidName: string): string {
  const { view, mainOffset } = record;
  const rel = [0, 4, 8].map(at => view.getUint32(mainOffset + at, true)).join('/');
  const block = view.getUint32(mainOffset + REUSE_BLOCK, true);
  return `rel ${rel}; blk ${block}; ${xidName} ${fullXid(record, mainOffset + REUSE_XID)}`;
}

export const describeReuse14 = (record: WalRecord): string => reuseText(record, 'latestRemovedXid');
export const describeReuse16 = (record: WalRecord): string => reuseText(record, 'snapshotConflictHorizon');
export const describeReuse17 = (record: WalRecord): string =>
  `${describeReuse16(record)}, isCatalogRel ${yes(record, REUSE_IS_CATALOG_REL)}`;

export const describeSplit = (record: WalRecord): string =>
  `page_split: splits to ${record.view.getUint16(record.mainOffset + SPLIT_NPAGE, true)} pages`;

export function describePageDelete(record: WalRecord): string {
  const downlink = record.view.getUint16(record.mainOffset + DELETE_DOWNLINK_OFFSET, true);
  return `deleteXid ${fullXid(record, record.mainOffset)}; downlink ${downlink}`;
}
