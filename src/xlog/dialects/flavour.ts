// Whose log is it? Stock and Neon builds of one major share the page magic, but in 14 and 15 Neon's heap records
// are laid out otherwise (t_cid in them), and from 16 on Neon's have a manager of their own, 134.
//
//   record                stock                         Neon 14, 15
//   Heap DELETE           main data 8 (+ old tuple)     14 (+ old tuple)
//   Heap UPDATE, HOT      main data 14 (+ old tuple)    18 (+ old tuple)
//   Heap LOCK             main data 8                   14
//   Heap INSERT, block 0  t_hoff u8 at 4 of 5           t_hoff u8 at 8 of 9
//
// One record may not tell (undefined); a few do. Pure, and harmless on records of any other manager.

import type { Flavour } from '../dialect.ts';
import { maxAlign } from '../page.ts';
import type { WalRecord } from '../record.ts';

const RM_HEAP_ID = 10;
const RM_NEON_ID = 134;
const HEAP_OPMASK = 0x70;
const XLOG_HEAP_INSERT = 0x00;
const XLOG_HEAP_DELETE = 0x10;
const XLOG_HEAP_UPDATE = 0x20;
const XLOG_HEAP_HOT_UPDATE = 0x40;
const XLOG_HEAP_LOCK = 0x60;

/** XLH_DELETE_CONTAINS_OLD_TUPLE, XLH_DELETE_CONTAINS_OLD_KEY */
const XLH_DELETE_CONTAINS_OLD = 0x06;
const HEAP_HASNULL = 0x0001;
const HEAP_NATTS_MASK = 0x07ff;
const SIZE_OF_HEAP_TUPLE_HEADER = 23;
const SIZE_OF_NEON_HEAP_HEADER = 9;

/** What one record says; undefined where it does not tell. */
export function flavourOf(major: number, record: WalRecord): Flavour | undefined {
  if (record.rmid === RM_NEON_ID) return 'neon';
  if (record.rmid !== RM_HEAP_ID || major >= 16) return undefined;
  const length = record.mainLength;
  switch (record.info & HEAP_OPMASK) {
    case XLOG_HEAP_INSERT:
      return flavourOfInsert(record);
    case XLOG_HEAP_DELETE:
      return length === 8 ? 'stock' : length === 14 ? flavourOfDelete(record) : undefined;
    case XLOG_HEAP_UPDATE:
    case XLOG_HEAP_HOT_UPDATE:
      return length === 14 ? 'stock' : length === 18 ? 'neon' : undefined;
    case XLOG_HEAP_LOCK:
      return length === 8 ? 'stock' : length === 14 ? 'neon' : undefined;
    default:
      return undefined;
  }
}

/** Fourteen bytes may be a stock record with an old tuple of one byte; its flags would say so. */
function flavourOfDelete(record: WalRecord): Flavour | undefined {
  const flags = record.view.getUint8(record.mainOffset + 7);
  return (flags & XLH_DELETE_CONTAINS_OLD) === 0 ? 'neon' : undefined;
}

/** t_hoff follows from the tuple's attributes, so only one place can hold it, save by accident. */
function flavourOfInsert(record: WalRecord): Flavour | undefined {
  if (!record.hasBlock(0)) return undefined;
  const { dataOffset: at, dataLength: length } = record.block(0);
  if (length < SIZE_OF_NEON_HEAP_HEADER) return undefined;
  const natts = record.view.getUint16(at, true) & HEAP_NATTS_MASK;
  const hasNull = (record.view.getUint16(at + 2, true) & HEAP_HASNULL) !== 0;
  const hoff = maxAlign(SIZE_OF_HEAP_TUPLE_HEADER + (hasNull ? (natts + 7) >> 3 : 0));
  const stock = record.view.getUint8(at + 4) === hoff;
  const neon = record.view.getUint8(at + 8) === hoff;
  return stock === neon ? undefined : stock ? 'stock' : 'neon';
}

/**
 * Whose log these records are of: the first that tells decides. Undefined when none does; then either flavour
 * reads them alike. Records may be one object, decoded anew at each step.
 */
export function detectFlavour(major: number, records: Iterable<WalRecord>): Flavour | undefined {
  for (const record of records) {
    const flavour = flavourOf(major, record);
    if (flavour !== undefined) return flavour;
  }
  return undefined;
}
