// Sequence (15): a sequence is a relation of one page with one tuple on it; every record carries the tuple
// whole and makes the page anew.
//
//   xl_seq_rec:  0 locator spcOid, dbOid, relNumber (u32 each) | 12 the tuple, header and all
//   page:        one item; special space u32 magic 0x1717
//
// Mirrors seq_redo and seq_mask of sequence.c, and seqdesc.c. Alike in 14 to 18.

import { maskPageLsnAndChecksum, maskUnusedSpace } from '../bufmask.ts';
import { type Page, pageInit, pdSpecial } from '../page.ts';
import { pageAddItem } from '../page-items.ts';
import { type BlockRef, badRecord, type WalRecord } from '../record.ts';
import { type Rmgr, redoFault } from '../rmgr.ts';

export const RM_SEQ_ID = 15;
export const XLOG_SEQ_LOG = 0x00;

const SEQ_MAGIC = 0x1717;
const SIZE_OF_SEQUENCE_MAGIC = 4;
const SIZE_OF_XL_SEQ_REC = 12;

/** seq_redo */
function redoSequence(page: Page, record: WalRecord, block: BlockRef): void {
  const length = tupleLength(record);
  pageInit(page, SIZE_OF_SEQUENCE_MAGIC);
  page.view.setUint32(pdSpecial(page), SEQ_MAGIC, true);
  if (
    pageAddItem(page, record.bytes, record.mainOffset + SIZE_OF_XL_SEQ_REC, length, 1, false, false) === 0
  ) {
    throw redoFault(record, block, 'failed to add item to page');
  }
}

function tupleLength(record: WalRecord): number {
  const length = record.mainLength - SIZE_OF_XL_SEQ_REC;
  if (length <= 0) throw badRecord(record, `main data of ${record.mainLength} bytes holds no sequence tuple`);
  return length;
}

/** seq_mask */
export function seqMask(page: Page): void {
  maskPageLsnAndChecksum(page);
  maskUnusedSpace(page);
}

function describeSequence(record: WalRecord): string {
  tupleLength(record);
  const { view, mainOffset: at } = record;
  return `rel ${view.getUint32(at, true)}/${view.getUint32(at + 4, true)}/${view.getUint32(at + 8, true)}`;
}

export const sequence14: Rmgr = {
  id: RM_SEQ_ID,
  name: 'Sequence',
  opMask: 0xf0,
  mask: seqMask,
  ops: { [XLOG_SEQ_LOG]: { name: 'LOG', redo: { 0: redoSequence }, describe: describeSequence } },
};

export const sequence15 = sequence14;
export const sequence16 = sequence15;
export const sequence17 = sequence16;
export const sequence18 = sequence17;
