// Redo of one block of one record: the rules that are the same for every manager, then the manager's own edit.
//
//   image to apply  -> the page becomes the image; pd_lsn stamped unless the page is new      'restored'
//                      (few operations edit on top of the image: Op.afterImage)
//   will-init       -> the page is zeroed, then edited                                        'applied'
//   pd_lsn >= record's end -> the page has this change already                                'skipped'
//   page is new     -> there is nothing to edit: the relation was cut or dropped later        'missing'
//                      (unless the operation begins such pages itself: Op.mayBeNew)
//   otherwise       -> edited                                                                 'applied'
//                      (or named without a change: UNCHANGED, pd_lsn stays)                   'unchanged'
//
// After an edit pd_lsn is the record's end. Mirrors XLogReadBufferForRedoExtended of xlogutils.c and the
// PageSetLSN calls of the managers' redo functions.

import type { Dialect } from './dialect.ts';
import { restoreImage } from './image.ts';
import { type Page, pageIsNew, pageLsn, setPageLsn } from './page.ts';
import { type BlockRef, badRecord, type WalRecord } from './record.ts';
import { findOp, type Op, type PageRedo, redoFault, redoOf, UNCHANGED } from './rmgr.ts';

export type RedoOutcome = 'applied' | 'restored' | 'skipped' | 'missing' | 'unchanged';

export function redoBlock(dialect: Dialect, page: Page, record: WalRecord, block: BlockRef): RedoOutcome {
  const rmgr = dialect.rmgrs[record.rmid];
  return redoBlockOf(rmgr && findOp(rmgr, record.info), page, record, block);
}

/** The same for who has looked up the record's operation, and found it or not. */
export function redoBlockOf(op: Op | undefined, page: Page, record: WalRecord, block: BlockRef): RedoOutcome {
  if (block.hasImage && block.applyImage) {
    restoreImage(page.bytes, record, block);
    const after = op?.afterImage?.[block.id];
    if (after !== undefined) runEdit(after, page, record, block);
    if (!pageIsNew(page)) setPageLsn(page, record.endLsn);
    return 'restored';
  }
  if (block.willInit) {
    page.bytes.fill(0);
  } else {
    if (pageIsNew(page) && !mayBeNew(op, block)) return 'missing';
    if (pageLsn(page) >= record.endLsn) return 'skipped';
  }
  if (editBlock(op, page, record, block) === UNCHANGED) return 'unchanged';
  setPageLsn(page, record.endLsn);
  return 'applied';
}

/** A page that the record may begin although it is not marked will-init; see Op.mayBeNew. */
export function mayBeNew(op: Op | undefined, block: BlockRef): boolean {
  return op?.mayBeNew?.includes(block.id) ?? false;
}

function editBlock(op: Op | undefined, page: Page, record: WalRecord, block: BlockRef): unknown {
  if (op === undefined) {
    const info = record.info.toString(16);
    throw badRecord(record, `resource manager ${record.rmid} has no operation 0x${info}`);
  }
  const edit = redoOf(op, block.id);
  if (edit === undefined) {
    throw redoFault(record, block, op.unsupported ?? `${op.name} has no redo for block ${block.id}`);
  }
  return runEdit(edit, page, record, block);
}

function runEdit(edit: PageRedo, page: Page, record: WalRecord, block: BlockRef): unknown {
  try {
    return edit(page, record, block);
  } catch (error) {
    // A page or record that does not add up shows as an offset out of range.
    if (error instanceof RangeError) throw redoFault(record, block, error.message, error);
    throw error;
  }
}
