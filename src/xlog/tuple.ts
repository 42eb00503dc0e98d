// The header of a heap tuple: where its fields lie, what its bits mean, and the few edits redo makes to it.
//
//    0  t_xmin       u32
//    4  t_xmax       u32
//    8  t_cid        u32   (t_xvac in tuples moved by VACUUM FULL before 9.0)
//   12  t_ctid       u16 block number's high half, u16 low half, u16 offset number
//   18  t_infomask2  u16   attributes in 11 bits; 0x2000 keys updated, 0x4000 HOT updated, 0x8000 heap only
//   20  t_infomask   u16
//   22  t_hoff       u8    where the user data begins
//   23  t_bits             null bitmap, padding, user data
//
// Functions take the page's view and the tuple's offset on it. Mirrors src/include/access/htup_details.h and
// fix_infomask_from_infobits of heapam_xlog.c.

import type { Page } from './page.ts';
import { getItemId, LP_NORMAL, pageGetMaxOffsetNumber } from './page-items.ts';

export const T_XMIN = 0;
export const T_XMAX = 4;
export const T_CID = 8;
export const T_CTID = 12;
export const T_INFOMASK2 = 18;
export const T_INFOMASK = 20;
export const T_HOFF = 22;
/** SizeofHeapTupleHeader */
export const HEAP_TUPLE_HEADER_SIZE = 23;

// t_infomask
export const HEAP_XMAX_KEYSHR_LOCK = 0x0010;
export const HEAP_COMBOCID = 0x0020;
export const HEAP_XMAX_EXCL_LOCK = 0x0040;
export const HEAP_XMAX_LOCK_ONLY = 0x0080;
export const HEAP_XMIN_FROZEN = 0x0300;
export const HEAP_XMAX_COMMITTED = 0x0400;
export const HEAP_XMAX_INVALID = 0x0800;
export const HEAP_XMAX_IS_MULTI = 0x1000;
export const HEAP_MOVED = 0xc000;
export const HEAP_XACT_MASK = 0xfff0;
export const HEAP_LOCK_MASK = HEAP_XMAX_EXCL_LOCK | HEAP_XMAX_KEYSHR_LOCK;
export const HEAP_XMAX_BITS =
  HEAP_XMAX_COMMITTED | HEAP_XMAX_INVALID | HEAP_XMAX_IS_MULTI | HEAP_LOCK_MASK | HEAP_XMAX_LOCK_ONLY;

// t_infomask2
export const HEAP_KEYS_UPDATED = 0x2000;
export const HEAP_HOT_UPDATED = 0x4000;

/** In t_ctid of a tuple that another backend may yet withdraw (INSERT ... ON CONFLICT). */
export const SPEC_TOKEN_OFFSET_NUMBER = 0xfffe;
/** In t_ctid of a tuple whose new version lives in another partition. */
export const MOVED_PARTITIONS_OFFSET_NUMBER = 0xfffd;
export const INVALID_BLOCK_NUMBER = 0xffffffff;

// infobits of records
export const XLHL_XMAX_IS_MULTI = 0x01;
export const XLHL_XMAX_LOCK_ONLY = 0x02;
export const XLHL_XMAX_EXCL_LOCK = 0x04;
export const XLHL_XMAX_KEYSHR_LOCK = 0x08;
export const XLHL_KEYS_UPDATED = 0x10;
/** Neon's. */
export const XLHL_COMBOCID = 0x20;

/** t_infomask after fix_infomask_from_infobits on one whose xmax bits were taken away. */
export function infomaskFromInfobits(infomask: number, infobits: number): number {
  return (
    (infomask & ~(HEAP_XMAX_IS_MULTI | HEAP_XMAX_LOCK_ONLY | HEAP_LOCK_MASK)) |
    ((infobits & XLHL_XMAX_IS_MULTI) !== 0 ? HEAP_XMAX_IS_MULTI : 0) |
    ((infobits & XLHL_XMAX_LOCK_ONLY) !== 0 ? HEAP_XMAX_LOCK_ONLY : 0) |
    ((infobits & XLHL_XMAX_EXCL_LOCK) !== 0 ? HEAP_XMAX_EXCL_LOCK : 0) |
    ((infobits & XLHL_XMAX_KEYSHR_LOCK) !== 0 ? HEAP_XMAX_KEYSHR_LOCK : 0)
  );
}

/** t_infomask2 after the same. */
export function infomask2FromInfobits(infomask2: number, infobits: number): number {
  return (infomask2 & ~HEAP_KEYS_UPDATED) | ((infobits & XLHL_KEYS_UPDATED) !== 0 ? HEAP_KEYS_UPDATED : 0);
}

/** HEAP_XMAX_IS_LOCKED_ONLY */
export function xmaxIsLockedOnly(infomask: number): boolean {
  return (
    (infomask & HEAP_XMAX_LOCK_ONLY) !== 0 ||
    (infomask & (HEAP_XMAX_IS_MULTI | HEAP_LOCK_MASK)) === HEAP_XMAX_EXCL_LOCK
  );
}

/** ItemPointerSet on the tuple's t_ctid. */
export function setCtid(view: DataView, tuple: number, blkno: number, offnum: number): void {
  view.setUint16(tuple + T_CTID, blkno >>> 16, true);
  view.setUint16(tuple + T_CTID + 2, blkno & 0xffff, true);
  view.setUint16(tuple + T_CTID + 4, offnum, true);
}

/** Where the normal tuple of an offset number begins; RangeError ("invalid lp" in Postgres) if there is none. */
export function heapTupleAt(page: Page, offnum: number): number {
  if (offnum === 0 || offnum > pageGetMaxOffsetNumber(page)) {
    throw new RangeError(`invalid lp ${offnum}, the page has ${pageGetMaxOffsetNumber(page)}`);
  }
  const itemId = getItemId(page, offnum);
  if (((itemId >>> 15) & 3) !== LP_NORMAL) throw new RangeError(`invalid lp ${offnum}: not a normal tuple`);
  const tuple = itemId & 0x7fff;
  if (itemId >>> 17 < HEAP_TUPLE_HEADER_SIZE || tuple + (itemId >>> 17) > page.bytes.length) {
    throw new RangeError(`invalid lp ${offnum}: offset ${tuple} length ${itemId >>> 17}`);
  }
  return tuple;
}
