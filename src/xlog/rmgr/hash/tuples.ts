// Tuples put into a hash bucket's page and taken out of it, and the count of them on the metapage.
//
//   xl_hash_insert            0 offnum u16
//     block 0  the page: the tuple                block 1  the metapage
//   xl_hash_delete            0 clear_dead_marking u8 | 1 is_primary_bucket_page u8
//     block 0  the primary bucket page, only to be locked, unless it is block 1
//     block 1  the page: offset numbers u16[]
//   SPLIT_CLEANUP             no data
//     block 0  the primary bucket page
//   xl_hash_update_meta_page  0 ntuples f64
//     block 0  the metapage
//   xl_hash_vacuum_one_page   until 15: 0 latestRemovedXid u32 | 4 ntuples i32 | 8 offset numbers u16[ntuples]
//                             from 16:  0 snapshotConflictHorizon u32 | 4 ntuples u16 | 6 isCatalogRel u8
//                                       8 offset numbers u16[ntuples]
//     block 0  the page                           block 1  the metapage
//
// Mirrors hash_xlog_insert, hash_xlog_delete, hash_xlog_split_cleanup, hash_xlog_update_meta_page and
// hash_xlog_vacuum_one_page of hash_xlog.c.

import { addIndexTuple } from '../../index-tuple.ts';
import type { Page } from '../../page.ts';
import { pageIndexMultiDelete } from '../../page-compact.ts';
import type { BlockRef, WalRecord } from '../../record.ts';
import { arrayEnd, mainAt } from '../main-data.ts';
import { deleteListed } from './overflow.ts';
import {
  addNtuples,
  HASHM_NTUPLES,
  hashoFlag,
  LH_BUCKET_NEEDS_SPLIT_CLEANUP,
  LH_PAGE_HAS_DEAD_TUPLES,
  setHashoFlag,
} from './page.ts';

const NTUPLES = 4;
const OFFSETS = 8;

export function insertTuple(page: Page, record: WalRecord, block: BlockRef): void {
  const offnum = record.view.getUint16(mainAt(record, 2, 'xl_hash_insert'), true);
  addIndexTuple(page, record.bytes, block.dataOffset, block.dataLength, offnum);
}

export function insertMeta(page: Page): void {
  addNtuples(page, 1);
}

export function deleteTuples(page: Page, record: WalRecord, block: BlockRef): void {
  deleteListed(page, record, block);
  const clearDeadMarking = record.view.getUint8(mainAt(record, 2, 'xl_hash_delete')) !== 0;
  if (clearDeadMarking) setHashoFlag(page, hashoFlag(page) & ~LH_PAGE_HAS_DEAD_TUPLES);
}

export function splitCleanup(page: Page): void {
  setHashoFlag(page, hashoFlag(page) & ~LH_BUCKET_NEEDS_SPLIT_CLEANUP);
}

export function updateMetaPage(page: Page, record: WalRecord): void {
  page.view.setFloat64(
    HASHM_NTUPLES,
    record.view.getFloat64(mainAt(record, 8, 'xl_hash_update_meta_page'), true),
    true,
  );
}

const vacuumOne = (record: WalRecord): number => mainAt(record, OFFSETS, 'xl_hash_vacuum_one_page');

/** xl_hash_vacuum_one_page.ntuples: an int until 15, a uint16 from 16 on. */
export const vacuumNtuples14 = (record: WalRecord): number =>
  record.view.getInt32(vacuumOne(record) + NTUPLES, true);
export const vacuumNtuples16 = (record: WalRecord): number =>
  record.view.getUint16(vacuumOne(record) + NTUPLES, true);

export function vacuumOnePage14(page: Page, record: WalRecord): void {
  removeDead(page, record, record.mainLength > OFFSETS ? vacuumNtuples14(record) : 0);
}

export function vacuumOnePage16(page: Page, record: WalRecord): void {
  removeDead(page, record, vacuumNtuples16(record));
}

function removeDead(page: Page, record: WalRecord, ntuples: number): void {
  const offsets = vacuumOne(record) + OFFSETS;
  arrayEnd(record, offsets, ntuples, 2, 'offset numbers');
  pageIndexMultiDelete(page, record.view, offsets, ntuples);
  setHashoFlag(page, hashoFlag(page) & ~LH_PAGE_HAS_DEAD_TUPLES);
}

export function vacuumMeta14(page: Page, record: WalRecord): void {
  addNtuples(page, -vacuumNtuples14(record));
}

export function vacuumMeta16(page: Page, record: WalRecord): void {
  addNtuples(page, -vacuumNtuples16(record));
}
