// Redo of INSERT and MULTI_INSERT: tuples put together on the page from the record.
//
//   block data of INSERT:        xl_heap_header | null bitmap, padding, user data
//   block data of MULTI_INSERT:  per tuple, at even offsets: xl_multi_insert_tuple | the same
//
// What the record does not carry is known: xmin is the record's xid, xmax 0, t_ctid the tuple itself.
//
// Mirrors heap_xlog_insert and heap_xlog_multi_insert of heapam_xlog.c (heapam.c until 17), and their copies in
// Neon's neon_rmgr.c.

import { type Page, pageInit, pdUpper } from '../../page.ts';
import {
  copyBytesByView,
  FIRST_OFFSET_NUMBER,
  pageAddItemSpace,
  pageClearAllVisible,
  pageGetMaxOffsetNumber,
  pageSetAllVisible,
} from '../../page-items.ts';
import { type BlockRef, badRecord, type WalRecord } from '../../record.ts';
import { type PageRedo, redoFault } from '../../rmgr.ts';
import {
  HEAP_COMBOCID,
  HEAP_TUPLE_HEADER_SIZE,
  setCtid,
  T_CID,
  T_HOFF,
  T_INFOMASK,
  T_INFOMASK2,
  T_XMAX,
  T_XMIN,
} from '../../tuple.ts';
import {
  ABSENT,
  type HeapLayout,
  INSERT_FLAGS,
  INSERT_OFFNUM,
  INSERT_SIZE,
  MULTI_INSERT_FLAGS,
  mainData,
  XLH_INSERT_ALL_FROZEN_SET,
  XLH_INSERT_ALL_VISIBLE_CLEARED,
  XLOG_HEAP_INIT_PAGE,
} from './structs.ts';

/** Room for a tuple of `length` bytes behind its header, under the given offset number: where it begins. */
export function addHeapTuple(
  page: Page,
  record: WalRecord,
  block: BlockRef,
  offnum: number,
  length: number,
): number {
  const max = pageGetMaxOffsetNumber(page);
  if (max + 1 < offnum)
    throw redoFault(record, block, `invalid max offset number ${max} for tuple ${offnum}`);
  if (pageAddItemSpace(page, HEAP_TUPLE_HEADER_SIZE + length, offnum, true, true) === 0) {
    throw redoFault(record, block, `failed to add tuple ${offnum} of ${length} bytes`);
  }
  return pdUpper(page);
}

/** The fixed part of a new tuple; a cid that the record lacks is FirstCommandId and no combo cid. */
export function writeTupleHeader(
  view: DataView,
  tuple: number,
  xmin: number,
  xmax: number,
  cid: number,
  infomask2: number,
  infomask: number,
  hoff: number,
): void {
  view.setUint32(tuple + T_XMIN, xmin, true);
  view.setUint32(tuple + T_XMAX, xmax, true);
  view.setUint32(tuple + T_CID, cid === ABSENT ? 0 : cid, true);
  view.setUint16(tuple + T_INFOMASK2, infomask2, true);
  view.setUint16(tuple + T_INFOMASK, cid === ABSENT ? infomask & ~HEAP_COMBOCID : infomask, true);
  view.setUint8(tuple + T_HOFF, hoff);
}

const cidAt = (view: DataView, base: number, field: number): number =>
  field === ABSENT ? ABSENT : view.getUint32(base + field, true);

export function insertRedo({ header }: HeapLayout): PageRedo {
  return (page, record, block) => {
    const { view } = record;
    const main = mainData(record, INSERT_SIZE);
    const offnum = view.getUint16(main + INSERT_OFFNUM, true);
    const flags = view.getUint8(main + INSERT_FLAGS);
    if ((record.info & XLOG_HEAP_INIT_PAGE) !== 0) pageInit(page, 0);
    const data = block.dataOffset;
    const length = block.dataLength - header.size;
    if (length <= 0) throw badRecord(record, `a tuple of ${block.dataLength} bytes`);

    const tuple = addHeapTuple(page, record, block, offnum, length);
    writeTupleHeader(
      page.view,
      tuple,
      record.xid,
      0,
      cidAt(view, data, header.cid),
      view.getUint16(data + header.infomask2, true),
      view.getUint16(data + header.infomask, true),
      view.getUint8(data + header.hoff),
    );
    setCtid(page.view, tuple, block.blkno, offnum);
    copyBytesByView(
      page.view,
      page.bytes,
      tuple + HEAP_TUPLE_HEADER_SIZE,
      view,
      record.bytes,
      data + header.size,
      length,
    );
    if ((flags & XLH_INSERT_ALL_VISIBLE_CLEARED) !== 0) pageClearAllVisible(page);
    if ((flags & XLH_INSERT_ALL_FROZEN_SET) !== 0) pageSetAllVisible(page);
  };
}

export function multiInsertRedo({ multiInsert, multiTuple }: HeapLayout): PageRedo {
  return (page, record, block) => {
    const { view } = record;
    const main = mainData(record, multiInsert.offsets);
    const flags = view.getUint8(main + MULTI_INSERT_FLAGS);
    const ntuples = view.getUint16(main + multiInsert.ntuples, true);
    const cid = cidAt(view, main, multiInsert.cid);
    const isInit = (record.info & XLOG_HEAP_INIT_PAGE) !== 0;
    if (isInit) pageInit(page, 0);
    else mainData(record, multiInsert.offsets + 2 * ntuples);

    const start = block.dataOffset;
    const end = start + block.dataLength;
    let at = start;
    for (let i = 0; i < ntuples; i++) {
      const offnum = isInit
        ? FIRST_OFFSET_NUMBER + i
        : view.getUint16(main + multiInsert.offsets + 2 * i, true);
      at += (at - start) & 1;
      const data = at + multiTuple.size;
      const length = data <= end ? view.getUint16(at + multiTuple.datalen, true) : 0;
      if (data + length > end) throw badRecord(record, `tuple ${i} runs past the block's data`);
      const tuple = addHeapTuple(page, record, block, offnum, length);
      writeTupleHeader(
        page.view,
        tuple,
        record.xid,
        0,
        multiTuple.cid === ABSENT ? cid : view.getUint32(at + multiTuple.cid, true),
        view.getUint16(at + multiTuple.infomask2, true),
        view.getUint16(at + multiTuple.infomask, true),
        view.getUint8(at + multiTuple.hoff),
      );
      setCtid(page.view, tuple, block.blkno, offnum);
      copyBytesByView(
        page.view,
        page.bytes,
        tuple + HEAP_TUPLE_HEADER_SIZE,
        view,
        record.bytes,
        data,
        length,
      );
      at = data + length;
    }
    if (at !== end) throw badRecord(record, `total tuple length mismatch: ${end - at} bytes are left`);
    if ((flags & XLH_INSERT_ALL_VISIBLE_CLEARED) !== 0) pageClearAllVisible(page);
    if ((flags & XLH_INSERT_ALL_FROZEN_SET) !== 0) pageSetAllVisible(page);
  };
}
