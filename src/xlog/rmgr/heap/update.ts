// Redo of UPDATE and HOT_UPDATE.
//
//   block 0: the page of the new tuple; block 1: the page of the old one, if another
//   block 0's data: [prefix length u16] [suffix length u16] | xl_heap_header | null bitmap, padding | user data
//
// With one block only, both tuples share the page, and then (only then) the new one may borrow the beginning and
// the end of its user data from the old one. With two blocks each edit needs its page and the record alone.
//
// Mirrors heap_xlog_update of heapam_xlog.c (heapam.c until 17) and redo_neon_heap_update.

import { type Page, pageInit } from '../../page.ts';
import {
  copyBytesByView,
  copyOnPage,
  itemIdLength,
  pageClearAllVisible,
  pageSetPrunable,
} from '../../page-items.ts';
import { type BlockRef, badRecord, type WalRecord } from '../../record.ts';
import { type PageRedo, redoFault } from '../../rmgr.ts';
import {
  HEAP_COMBOCID,
  HEAP_HOT_UPDATED,
  HEAP_MOVED,
  HEAP_TUPLE_HEADER_SIZE,
  HEAP_XMAX_BITS,
  heapTupleAt,
  infomask2FromInfobits,
  infomaskFromInfobits,
  setCtid,
  T_CID,
  T_HOFF,
  T_INFOMASK,
  T_INFOMASK2,
  T_XMAX,
  XLHL_COMBOCID,
} from '../../tuple.ts';
import { addHeapTuple, writeTupleHeader } from './insert.ts';
import {
  ABSENT,
  type HeapLayout,
  mainData,
  XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED,
  XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED,
  XLH_UPDATE_PREFIX_FROM_OLD,
  XLH_UPDATE_SUFFIX_FROM_OLD,
  XLOG_HEAP_INIT_PAGE,
} from './structs.ts';

/**
 * What deleting, updating and locking do alike: a new xmax with its bits, and t_cid. `hot` says what becomes of
 * HEAP_HOT_UPDATED.
 */
export function setTupleXmax(
  view: DataView,
  tuple: number,
  xmax: number,
  infobits: number,
  cid: number,
  hot: 'set' | 'clear' | 'keep',
): void {
  let infomask = view.getUint16(tuple + T_INFOMASK, true) & ~(HEAP_XMAX_BITS | HEAP_MOVED | HEAP_COMBOCID);
  infomask = infomaskFromInfobits(infomask, infobits);
  if (cid !== ABSENT && (infobits & XLHL_COMBOCID) !== 0) infomask |= HEAP_COMBOCID;
  let infomask2 = infomask2FromInfobits(view.getUint16(tuple + T_INFOMASK2, true), infobits);
  if (hot === 'set') infomask2 |= HEAP_HOT_UPDATED;
  else if (hot === 'clear') infomask2 &= ~HEAP_HOT_UPDATED;
  view.setUint32(tuple + T_XMAX, xmax, true);
  view.setUint32(tuple + T_CID, cid === ABSENT ? 0 : cid, true);
  view.setUint16(tuple + T_INFOMASK2, infomask2, true);
  view.setUint16(tuple + T_INFOMASK, infomask, true);
}

type UpdateLayout = HeapLayout['update'];

/** The old tuple gets its xmax and a link to the new one; answers where it begins. */
function markOldTuple(
  page: Page,
  record: WalRecord,
  layout: UpdateLayout,
  main: number,
  hot: boolean,
): number {
  const { view } = record;
  const tuple = heapTupleAt(page, view.getUint16(main + layout.oldOffnum, true));
  setTupleXmax(
    page.view,
    tuple,
    view.getUint32(main + layout.oldXmax, true),
    view.getUint8(main + layout.infobits),
    layout.cid === ABSENT ? ABSENT : view.getUint32(main + layout.cid, true),
    hot ? 'set' : 'clear',
  );
  setCtid(page.view, tuple, record.block(0).blkno, view.getUint16(main + layout.newOffnum, true));
  pageSetPrunable(page, record.xid);
  if ((view.getUint8(main + layout.flags) & XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED) !== 0) {
    pageClearAllVisible(page);
  }
  return tuple;
}

/**
 * The new tuple is put together on the page. `old` is where the old one lies on the same page and `oldLength` how
 * long it is, or 0 and 0 if it lies elsewhere.
 */
function addNewTuple(
  page: Page,
  record: WalRecord,
  block: BlockRef,
  { update, header }: HeapLayout,
  old: number,
  oldLength: number,
): void {
  const { view } = record;
  const main = record.mainOffset;
  const flags = view.getUint8(main + update.flags);
  const newOffnum = view.getUint16(main + update.newOffnum, true);
  const end = block.dataOffset + block.dataLength;
  let at = block.dataOffset;
  let prefix = 0;
  let suffix = 0;
  if ((flags & XLH_UPDATE_PREFIX_FROM_OLD) !== 0) {
    prefix = view.getUint16(at, true);
    at += 2;
  }
  if ((flags & XLH_UPDATE_SUFFIX_FROM_OLD) !== 0) {
    suffix = view.getUint16(at, true);
    at += 2;
  }
  const head = at;
  at += header.size;
  if (at > end) throw badRecord(record, `a new tuple of ${block.dataLength} bytes`);
  const hoff = view.getUint8(head + header.hoff);
  const stored = end - at;
  const bitmap = prefix > 0 ? hoff - HEAP_TUPLE_HEADER_SIZE : stored;
  if (bitmap < 0 || bitmap > stored) throw badRecord(record, `t_hoff ${hoff} in a tuple of ${stored} bytes`);
  if (prefix + suffix > 0) {
    const oldHoff = page.view.getUint8(old + T_HOFF);
    if (old === 0 || oldHoff + prefix > oldLength || suffix > oldLength) {
      throw redoFault(
        record,
        block,
        `no ${prefix} + ${suffix} bytes to borrow from an old tuple of ${oldLength}`,
      );
    }
  }

  const tuple = addHeapTuple(page, record, block, newOffnum, prefix + stored + suffix);
  writeTupleHeader(
    page.view,
    tuple,
    record.xid,
    view.getUint32(main + update.newXmax, true),
    header.cid === ABSENT ? ABSENT : view.getUint32(head + header.cid, true),
    view.getUint16(head + header.infomask2, true),
    view.getUint16(head + header.infomask, true),
    hoff,
  );
  setCtid(page.view, tuple, block.blkno, newOffnum);

  const { bytes } = page;
  let to = tuple + HEAP_TUPLE_HEADER_SIZE;
  copyBytesByView(page.view, bytes, to, view, record.bytes, at, bitmap);
  to += bitmap;
  if (prefix > 0) {
    const from = old + page.view.getUint8(old + T_HOFF);
    copyOnPage(page, to, from, prefix);
    copyBytesByView(page.view, bytes, to + prefix, view, record.bytes, at + bitmap, stored - bitmap);
    to += prefix + stored - bitmap;
  }
  if (suffix > 0) copyOnPage(page, to, old + oldLength - suffix, suffix);
  if ((flags & XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED) !== 0) pageClearAllVisible(page);
}

/** Block 0: the new tuple, and the old one as well when the record names no other page. */
export function updateNewPage(layout: HeapLayout, hot: boolean): PageRedo {
  const { update } = layout;
  return (page, record, block) => {
    const main = mainData(record, update.size);
    if (record.hasBlock(1)) {
      if ((record.info & XLOG_HEAP_INIT_PAGE) !== 0) pageInit(page, 0);
      addNewTuple(page, record, block, layout, 0, 0);
      return;
    }
    const old = markOldTuple(page, record, update, main, hot);
    const oldLength = itemIdLength(page, record.view.getUint16(main + update.oldOffnum, true));
    addNewTuple(page, record, block, layout, old, oldLength);
  };
}

/** Block 1: the old tuple. */
export function updateOldPage({ update }: HeapLayout): PageRedo {
  return (page, record) => {
    markOldTuple(page, record, update, mainData(record, update.size), false);
  };
}
