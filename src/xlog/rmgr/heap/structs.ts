// Where the fields of heap records lie: one layout for Postgres, two for Neon, who adds t_cid.
//
//   xl_heap_insert         offnum u16, flags u8
//   xl_heap_delete         xmax u32, offnum u16, infobits u8, flags u8
//   xl_heap_update         old_xmax u32, old_offnum u16, old_infobits u8, flags u8, new_xmax u32, new_offnum u16
//   xl_heap_lock           xmax u32, offnum u16, infobits u8, flags u8       (xl_heap_lock_updated is the same)
//   xl_heap_header         t_infomask2 u16, t_infomask u16, t_hoff u8        (before a tuple's data)
//   xl_heap_multi_insert   flags u8, pad, ntuples u16, offsets u16[]         (no offsets with INIT_PAGE)
//   xl_multi_insert_tuple  datalen u16, t_infomask2 u16, t_infomask u16, t_hoff u8   (each at an even offset)
//
// Neon 14 and 15 widen these structs; Neon 16 and 17 have wider ones in manager 134 and leave Heap's alone. Both
// keep HEAP_COMBOCID in bit 0x20 of the infobits, where Postgres sets t_cid to 0 and the bit off.
//
// Mirrors access/heapam_xlog.h (Postgres 14-18 and Neon 14, 15) and access/neon_xlog.h.

import { badRecord, type WalRecord } from '../../record.ts';

/** No such field: t_cid is FirstCommandId. */
export const ABSENT = -1;

export interface HeapLayout {
  readonly delete: {
    readonly xmax: number;
    readonly offnum: number;
    readonly infobits: number;
    readonly flags: number;
    readonly cid: number;
    readonly size: number;
  };
  readonly update: {
    readonly oldXmax: number;
    readonly oldOffnum: number;
    readonly infobits: number;
    readonly flags: number;
    readonly cid: number;
    readonly newXmax: number;
    readonly newOffnum: number;
    readonly size: number;
  };
  readonly lock: {
    readonly xmax: number;
    readonly offnum: number;
    readonly infobits: number;
    readonly flags: number;
    readonly cid: number;
    readonly size: number;
  };
  readonly header: {
    readonly infomask2: number;
    readonly infomask: number;
    readonly cid: number;
    readonly hoff: number;
    readonly size: number;
  };
  readonly multiInsert: { readonly ntuples: number; readonly cid: number; readonly offsets: number };
  readonly multiTuple: {
    readonly datalen: number;
    readonly infomask2: number;
    readonly infomask: number;
    readonly cid: number;
    readonly hoff: number;
    readonly size: number;
  };
}

export const INSERT_OFFNUM = 0;
export const INSERT_FLAGS = 2;
export const INSERT_SIZE = 3;
export const MULTI_INSERT_FLAGS = 0;

export const stockLayout: HeapLayout = {
  delete: { xmax: 0, offnum: 4, infobits: 6, flags: 7, cid: ABSENT, size: 8 },
  update: {
    oldXmax: 0,
    oldOffnum: 4,
    infobits: 6,
    flags: 7,
    cid: ABSENT,
    newXmax: 8,
    newOffnum: 12,
    size: 14,
  },
  lock: { xmax: 0, offnum: 4, infobits: 6, flags: 7, cid: ABSENT, size: 8 },
  header: { infomask2: 0, infomask: 2, cid: ABSENT, hoff: 4, size: 5 },
  multiInsert: { ntuples: 2, cid: ABSENT, offsets: 4 },
  multiTuple: { datalen: 0, infomask2: 2, infomask: 4, cid: ABSENT, hoff: 6, size: 7 },
};

/** Heap and Heap2 of Neon 14 and 15. */
export const neon15Layout: HeapLayout = {
  delete: { xmax: 0, offnum: 4, cid: 8, infobits: 12, flags: 13, size: 14 },
  update: { oldXmax: 0, oldOffnum: 4, infobits: 6, flags: 7, cid: 8, newXmax: 12, newOffnum: 16, size: 18 },
  lock: { xmax: 0, offnum: 4, cid: 8, infobits: 12, flags: 13, size: 14 },
  header: { infomask2: 0, infomask: 2, cid: 4, hoff: 8, size: 9 },
  multiInsert: { ntuples: 2, cid: ABSENT, offsets: 4 },
  multiTuple: { datalen: 0, infomask2: 2, infomask: 4, cid: 8, hoff: 12, size: 13 },
};

/** Manager 134 of Neon 16 and 17. */
export const neonRmgrLayout: HeapLayout = {
  delete: { xmax: 0, offnum: 4, infobits: 6, flags: 7, cid: 8, size: 12 },
  update: { oldXmax: 0, oldOffnum: 4, infobits: 6, flags: 7, cid: 8, newXmax: 12, newOffnum: 16, size: 18 },
  lock: { xmax: 0, cid: 4, offnum: 8, infobits: 10, flags: 11, size: 12 },
  header: { infomask2: 0, infomask: 2, cid: 4, hoff: 8, size: 9 },
  multiInsert: { ntuples: 2, cid: 4, offsets: 8 },
  multiTuple: { datalen: 0, infomask2: 2, infomask: 4, cid: ABSENT, hoff: 6, size: 7 },
};

// flags
export const XLH_INSERT_ALL_VISIBLE_CLEARED = 0x01;
export const XLH_INSERT_ALL_FROZEN_SET = 0x20;
export const XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED = 0x01;
export const XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED = 0x02;
export const XLH_UPDATE_PREFIX_FROM_OLD = 0x20;
export const XLH_UPDATE_SUFFIX_FROM_OLD = 0x40;
export const XLH_DELETE_ALL_VISIBLE_CLEARED = 0x01;
export const XLH_DELETE_IS_SUPER = 0x08;
export const XLH_DELETE_IS_PARTITION_MOVE = 0x10;
export const XLH_LOCK_ALL_FROZEN_CLEARED = 0x01;

export const XLOG_HEAP_INIT_PAGE = 0x80;

/** Where the record's main data begins; it must have at least `size` bytes. */
export function mainData(record: WalRecord, size: number): number {
  if (record.mainLength < size)
    throw badRecord(record, `main data of ${record.mainLength} bytes, not ${size}`);
  return record.mainOffset;
}
