// Redo of the operations that change one tuple in its place: DELETE, CONFIRM, LOCK, LOCK_UPDATED, INPLACE.
//
// Mirrors heap_xlog_delete, _confirm, _lock, _lock_updated and _inplace of heapam_xlog.c (heapam.c until 17), and
// Neon's copies of them.

import { copyBytes, itemIdLength, pageClearAllVisible, pageSetPrunable } from '../../page-items.ts';
import { type PageRedo, redoFault } from '../../rmgr.ts';
import {
  HEAP_COMBOCID,
  HEAP_MOVED,
  HEAP_XMAX_BITS,
  heapTupleAt,
  INVALID_BLOCK_NUMBER,
  infomask2FromInfobits,
  infomaskFromInfobits,
  MOVED_PARTITIONS_OFFSET_NUMBER,
  setCtid,
  T_HOFF,
  T_INFOMASK,
  T_INFOMASK2,
  T_XMAX,
  T_XMIN,
  XLHL_COMBOCID,
  xmaxIsLockedOnly,
} from '../../tuple.ts';
import {
  ABSENT,
  type HeapLayout,
  mainData,
  XLH_DELETE_ALL_VISIBLE_CLEARED,
  XLH_DELETE_IS_PARTITION_MOVE,
  XLH_DELETE_IS_SUPER,
} from './structs.ts';
import { setTupleXmax } from './update.ts';

export function deleteRedo({ delete: layout }: HeapLayout): PageRedo {
  return (page, record, block) => {
    const { view } = record;
    const main = mainData(record, layout.size);
    const offnum = view.getUint16(main + layout.offnum, true);
    const flags = view.getUint8(main + layout.flags);
    const tuple = heapTupleAt(page, offnum);
    // A speculative insertion withdrawn loses its xmin and keeps its xmax.
    const isSuper = (flags & XLH_DELETE_IS_SUPER) !== 0;
    const xmax = isSuper
      ? page.view.getUint32(tuple + T_XMAX, true)
      : view.getUint32(main + layout.xmax, true);
    setTupleXmax(
      page.view,
      tuple,
      xmax,
      view.getUint8(main + layout.infobits),
      layout.cid === ABSENT ? ABSENT : view.getUint32(main + layout.cid, true),
      'clear',
    );
    if (isSuper) page.view.setUint32(tuple + T_XMIN, 0, true);
    pageSetPrunable(page, record.xid);
    if ((flags & XLH_DELETE_ALL_VISIBLE_CLEARED) !== 0) pageClearAllVisible(page);
    if ((flags & XLH_DELETE_IS_PARTITION_MOVE) !== 0) {
      setCtid(page.view, tuple, INVALID_BLOCK_NUMBER, MOVED_PARTITIONS_OFFSET_NUMBER);
    } else {
      setCtid(page.view, tuple, block.blkno, offnum);
    }
  };
}

/** A speculative insertion stays: t_ctid becomes the tuple itself. */
export const confirmRedo: PageRedo = (page, record, block) => {
  const offnum = record.view.getUint16(mainData(record, 2), true);
  setCtid(page.view, heapTupleAt(page, offnum), block.blkno, offnum);
};

export function lockRedo({ lock: layout }: HeapLayout): PageRedo {
  return (page, record, block) => {
    const { view } = record;
    const main = mainData(record, layout.size);
    const offnum = view.getUint16(main + layout.offnum, true);
    const tuple = heapTupleAt(page, offnum);
    const infobits = view.getUint8(main + layout.infobits);
    // Without an update in xmax there is no newer version to lead to.
    const lockedOnly = xmaxIsLockedOnly(infomaskFromInfobits(0, infobits));
    setTupleXmax(
      page.view,
      tuple,
      view.getUint32(main + layout.xmax, true),
      infobits,
      layout.cid === ABSENT ? ABSENT : view.getUint32(main + layout.cid, true),
      lockedOnly ? 'clear' : 'keep',
    );
    if (lockedOnly) setCtid(page.view, tuple, block.blkno, offnum);
  };
}

/**
 * LOCK_UPDATED, the lock of a tuple's later version: t_cid stays. Postgres leaves HEAP_COMBOCID alone too; with
 * `comboCid` (every Neon build) it comes from the record.
 */
export function lockUpdatedRedo(comboCid: boolean): PageRedo {
  return (page, record) => {
    const { view } = record;
    const main = mainData(record, 8);
    const tuple = heapTupleAt(page, view.getUint16(main + 4, true));
    const infobits = view.getUint8(main + 6);
    const tv = page.view;
    let infomask = tv.getUint16(tuple + T_INFOMASK, true) & ~(HEAP_XMAX_BITS | HEAP_MOVED);
    infomask = infomaskFromInfobits(infomask, infobits);
    if (comboCid) {
      infomask &= ~HEAP_COMBOCID;
      if ((infobits & XLHL_COMBOCID) !== 0) infomask |= HEAP_COMBOCID;
    }
    tv.setUint16(tuple + T_INFOMASK, infomask, true);
    tv.setUint16(
      tuple + T_INFOMASK2,
      infomask2FromInfobits(tv.getUint16(tuple + T_INFOMASK2, true), infobits),
      true,
    );
    tv.setUint32(tuple + T_XMAX, view.getUint32(main, true), true);
  };
}

/** The user data of a catalog tuple is replaced by as much. */
export const inplaceRedo: PageRedo = (page, record, block) => {
  const offnum = record.view.getUint16(mainData(record, 2), true);
  const tuple = heapTupleAt(page, offnum);
  const hoff = page.view.getUint8(tuple + T_HOFF);
  const length = itemIdLength(page, offnum) - hoff;
  if (length !== block.dataLength) {
    throw redoFault(record, block, `wrong tuple length: ${block.dataLength} bytes for ${length}`);
  }
  copyBytes(page.bytes, tuple + hoff, record.bytes, block.dataOffset, length);
};
