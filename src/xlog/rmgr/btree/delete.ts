// Deletion of tuples from a B-tree leaf: by VACUUM, and by inserts that look for room.
//
//   xl_btree_vacuum   0 ndeleted u16 | 2 nupdated u16
//   xl_btree_delete   0 snapshotConflictHorizon u32 (latestRemovedXid until 15) | 4 ndeleted u16 | 6 nupdated u16
//                     8 isCatalogRel u8 (from 16 on)
//     block 0         deleted offset numbers u16[ndeleted], updated offset numbers u16[nupdated],
//                     nupdated times xl_btree_update: 0 ndeletedtids u16 | 2 u16[ndeletedtids], places in the
//                     posting list of TIDs that go
//
// Mirrors btree_xlog_vacuum, btree_xlog_delete and btree_xlog_updates of nbtxlog.c.

import { updatePosting } from '../../index-tuple.ts';
import { maxAlign, type Page } from '../../page.ts';
import { pageIndexMultiDelete } from '../../page-compact.ts';
import { pageGetItemOffset, pageIndexTupleOverwrite } from '../../page-items.ts';
import type { BlockRef, WalRecord } from '../../record.ts';
import { mainAt } from '../main-data.ts';
import { BTP_HAS_GARBAGE, btpoFlags, setBtpoCycleid, setBtpoFlags } from './page.ts';

export function vacuumTuples(page: Page, record: WalRecord, block: BlockRef): void {
  removeTuples(page, record, block, mainAt(record, 4, 'xl_btree_vacuum'));
}

/** From 18 on vacuum also clears the cycle id. */
export function vacuumTuples18(page: Page, record: WalRecord, block: BlockRef): void {
  removeTuples(page, record, block, mainAt(record, 4, 'xl_btree_vacuum'));
  setBtpoCycleid(page, 0);
}

export function deleteTuples(page: Page, record: WalRecord, block: BlockRef): void {
  removeTuples(page, record, block, mainAt(record, 8, 'xl_btree_delete') + 4);
}

/** Updates come first: they keep line pointers where the deletion's offset numbers expect them. */
function removeTuples(page: Page, record: WalRecord, block: BlockRef, counts: number): void {
  const { view } = record;
  const ndeleted = view.getUint16(counts, true);
  const nupdated = view.getUint16(counts + 2, true);
  const updated = block.dataOffset + 2 * ndeleted;
  let update = updated + 2 * nupdated;
  for (let i = 0; i < nupdated; i++) {
    const offnum = view.getUint16(updated + 2 * i, true);
    const ndeletedtids = view.getUint16(update, true);
    const at = pageGetItemOffset(page, offnum);
    const tuple = updatePosting(page.bytes, page.view, at, view, update + 2, ndeletedtids);
    if (!pageIndexTupleOverwrite(page, offnum, tuple.bytes, 0, maxAlign(tuple.size))) {
      throw new RangeError(`no room for updated item ${offnum}`);
    }
    update += 2 + 2 * ndeletedtids;
  }
  if (update !== block.dataOffset + block.dataLength) {
    throw new RangeError(`${ndeleted} deletions and ${nupdated} updates in ${block.dataLength} bytes`);
  }
  if (ndeleted > 0) pageIndexMultiDelete(page, view, block.dataOffset, ndeleted);
  setBtpoFlags(page, btpoFlags(page) & ~BTP_HAS_GARBAGE);
}
