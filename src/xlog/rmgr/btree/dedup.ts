// Deduplication of a B-tree leaf: neighbours with equal keys become one tuple with a posting list.
//
//   xl_btree_dedup   0 nintervals u16
//     block 0        BTDedupInterval[nintervals]: 0 baseoff u16 | 2 nitems u16, ascending
//
// The page is built anew: high key first, then item by item, the `nitems` from `baseoff` on as one.
//
// Mirrors btree_xlog_dedup of nbtxlog.c and the _bt_dedup_* functions of nbtdedup.c.

import { addIndexTuple, formPosting, indexTupleSize } from '../../index-tuple.ts';
import type { Page } from '../../page.ts';
import { itemIdLength, pageGetItemOffset, pageGetMaxOffsetNumber } from '../../page-items.ts';
import type { BlockRef, WalRecord } from '../../record.ts';
import { mainAt } from '../main-data.ts';
import {
  BTP_HAS_GARBAGE,
  btpoFlags,
  firstDataKey,
  P_FIRSTKEY,
  P_HIKEY,
  setAside,
  setBtpoFlags,
} from './page.ts';

const SIZE_OF_INTERVAL = 4;

export function dedup(page: Page, record: WalRecord, block: BlockRef): void {
  const { view } = record;
  const nintervals = view.getUint16(mainAt(record, 2, 'xl_btree_dedup'), true);
  if (nintervals * SIZE_OF_INTERVAL !== block.dataLength) {
    throw new RangeError(`${nintervals} intervals in ${block.dataLength} bytes`);
  }
  const orig = setAside(page);
  const minoff = firstDataKey(orig);
  const maxoff = pageGetMaxOffsetNumber(orig);
  if (minoff === P_FIRSTKEY) {
    addIndexTuple(page, orig.bytes, pageGetItemOffset(orig, P_HIKEY), itemIdLength(orig, P_HIKEY), P_HIKEY);
  }

  let interval = block.dataOffset;
  const end = interval + block.dataLength;
  let newoff = minoff;
  for (let off = minoff; off <= maxoff; newoff++) {
    if (interval < end && view.getUint16(interval, true) === off) {
      const nitems = view.getUint16(interval + 2, true);
      const posting = formPosting(orig, off, nitems);
      addIndexTuple(page, posting.bytes, 0, posting.size, newoff);
      interval += SIZE_OF_INTERVAL;
      off += nitems;
    } else {
      const at = pageGetItemOffset(orig, off);
      addIndexTuple(page, orig.bytes, at, indexTupleSize(orig.view, at), newoff);
      off++;
    }
  }
  if (interval !== end) throw new RangeError('deduplication intervals that the page does not have');
  setBtpoFlags(page, btpoFlags(page) & ~BTP_HAS_GARBAGE);
}
