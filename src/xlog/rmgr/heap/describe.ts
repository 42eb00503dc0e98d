// Heap records in the words of pg_waldump: 14 and 15 say "off 3 flags 0x08", 16 and later "off: 3, flags: 0x08"
// and list what is in arrays. Trailing blanks are Postgres's.
//
// Mirrors heap_desc and heap2_desc of heapdesc.c by major, neon_rmgr_desc.c, and array_desc of rmgrdesc_utils.c.

import type { WalRecord } from '../../record.ts';
import {
  XLHL_KEYS_UPDATED,
  XLHL_XMAX_EXCL_LOCK,
  XLHL_XMAX_IS_MULTI,
  XLHL_XMAX_KEYSHR_LOCK,
  XLHL_XMAX_LOCK_ONLY,
} from '../../tuple.ts';
import {
  type HeapLayout,
  INSERT_FLAGS,
  INSERT_OFFNUM,
  INSERT_SIZE,
  MULTI_INSERT_FLAGS,
  mainData,
  XLOG_HEAP_INIT_PAGE,
} from './structs.ts';

export type Describe = (record: WalRecord) => string;

/** Records that pg_waldump says nothing about. */
export const describeNothing: Describe = () => '';

const u8 = (record: WalRecord, at: number): number => record.view.getUint8(at);
const u16 = (record: WalRecord, at: number): number => record.view.getUint16(at, true);
const u32 = (record: WalRecord, at: number): number => record.view.getUint32(at, true);

/** 0x%02X */
const flagsHex = (flags: number): string => `0x${flags.toString(16).toUpperCase().padStart(2, '0')}`;

const INFOBITS: readonly (readonly [number, string])[] = [
  [XLHL_XMAX_IS_MULTI, 'IS_MULTI'],
  [XLHL_XMAX_LOCK_ONLY, 'LOCK_ONLY'],
  [XLHL_XMAX_EXCL_LOCK, 'EXCL_LOCK'],
  [XLHL_XMAX_KEYSHR_LOCK, 'KEYSHR_LOCK'],
  [XLHL_KEYS_UPDATED, 'KEYS_UPDATED'],
];

const infobitNames = (infobits: number): string[] =>
  INFOBITS.filter(([bit]) => (infobits & bit) !== 0).map(([, name]) => name);
/** out_infobits: each name with a blank behind it. */
const outInfobits = (infobits: number): string =>
  infobitNames(infobits)
    .map(name => `${name} `)
    .join('');
const infobitsList = (infobits: number): string => `[${infobitNames(infobits).join(', ')}]`;

export function offsetList(record: WalRecord, at: number, count: number): string {
  return `[${Array.from({ length: count }, (_, i) => u16(record, at + 2 * i)).join(', ')}]`;
}

export function redirectList(record: WalRecord, at: number, count: number): string {
  const pairs = Array.from({ length: count }, (_, i) => [
    u16(record, at + 4 * i),
    u16(record, at + 4 * i + 2),
  ]);
  return `[${pairs.map(([from, to]) => `${from}->${to}`).join(', ')}]`;
}

/** One wording: a function per operation, made for a layout. */
export interface HeapWording {
  readonly insert: Describe;
  readonly delete: (layout: HeapLayout) => Describe;
  readonly update: (layout: HeapLayout) => Describe;
  readonly truncate: Describe;
  readonly confirm: Describe;
  readonly lock: (layout: HeapLayout) => Describe;
  readonly inplace: Describe;
  readonly visible: Describe;
  readonly multiInsert: (layout: HeapLayout) => Describe;
  readonly lockUpdated: Describe;
  readonly newCid: Describe;
}

const XLH_TRUNCATE_CASCADE = 0x01;
const XLH_TRUNCATE_RESTART_SEQS = 0x02;

/** xl_heap_truncate: dbId u32, nrelids u32, flags u8, pad, relids u32[]. */
function truncated(record: WalRecord): { nrelids: number; flags: number; relids: number[] } {
  const main = mainData(record, 12);
  const nrelids = u32(record, main + 4);
  mainData(record, 12 + 4 * nrelids);
  const relids = Array.from({ length: nrelids }, (_, i) => u32(record, main + 12 + 4 * i));
  return { nrelids, flags: u8(record, main + 8), relids };
}

/** xl_heap_new_cid: top_xid, cmin, cmax, combocid, spcOid, dbOid, relNumber u32 each, then the tid. */
function newCid(record: WalRecord) {
  const main = mainData(record, 34);
  const [cmin, cmax, combo, spc, db, rel] = [4, 8, 12, 16, 20, 24].map(at => u32(record, main + at));
  const blkno = u16(record, main + 28) * 0x10000 + u16(record, main + 30);
  return { rel: `${spc}/${db}/${rel}`, tid: `${blkno}/${u16(record, main + 32)}`, cmin, cmax, combo };
}

export const wording14: HeapWording = {
  insert: record => {
    const main = mainData(record, INSERT_SIZE);
    return `off ${u16(record, main + INSERT_OFFNUM)} flags ${flagsHex(u8(record, main + INSERT_FLAGS))}`;
  },
  delete:
    ({ delete: layout }) =>
    record => {
      const main = mainData(record, layout.size);
      const flags = flagsHex(u8(record, main + layout.flags));
      const infobits = outInfobits(u8(record, main + layout.infobits));
      return `off ${u16(record, main + layout.offnum)} flags ${flags} ${infobits}`;
    },
  update:
    ({ update }) =>
    record => {
      const main = mainData(record, update.size);
      const old = `off ${u16(record, main + update.oldOffnum)} xmax ${u32(record, main + update.oldXmax)}`;
      const flags = flagsHex(u8(record, main + update.flags));
      const infobits = outInfobits(u8(record, main + update.infobits));
      const fresh = `new off ${u16(record, main + update.newOffnum)} xmax ${u32(record, main + update.newXmax)}`;
      return `${old} flags ${flags} ${infobits}; ${fresh}`;
    },
  truncate: record => {
    const { nrelids, flags, relids } = truncated(record);
    const cascade = (flags & XLH_TRUNCATE_CASCADE) !== 0 ? 'cascade ' : '';
    const restart = (flags & XLH_TRUNCATE_RESTART_SEQS) !== 0 ? 'restart_seqs ' : '';
    return `${cascade}${restart}nrelids ${nrelids} relids${relids.map(relid => ` ${relid}`).join('')}`;
  },
  confirm: record => `off ${u16(record, mainData(record, 2))}`,
  lock:
    ({ lock }) =>
    record => {
      const main = mainData(record, lock.size);
      const flags = flagsHex(u8(record, main + lock.flags));
      const infobits = outInfobits(u8(record, main + lock.infobits));
      const xid = u32(record, main + lock.xmax);
      return `off ${u16(record, main + lock.offnum)}: xid ${xid}: flags ${flags} ${infobits}`;
    },
  inplace: record => `off ${u16(record, mainData(record, 2))}`,
  visible: record => {
    const main = mainData(record, 5);
    return `cutoff xid ${u32(record, main)} flags ${flagsHex(u8(record, main + 4))}`;
  },
  multiInsert:
    ({ multiInsert }) =>
    record => {
      const main = mainData(record, multiInsert.offsets);
      const flags = flagsHex(u8(record, main + MULTI_INSERT_FLAGS));
      return `${u16(record, main + multiInsert.ntuples)} tuples flags ${flags}`;
    },
  lockUpdated: record => {
    const main = mainData(record, 8);
    const flags = flagsHex(u8(record, main + 7));
    const infobits = outInfobits(u8(record, main + 6));
    return `off ${u16(record, main + 4)}: xmax ${u32(record, main)}: flags ${flags} ${infobits}`;
  },
  newCid: record => {
    const { rel, tid, cmin, cmax, combo } = newCid(record);
    return `rel ${rel}; tid ${tid}; cmin: ${cmin}, cmax: ${cmax}, combo: ${combo}`;
  },
};

export const wording16: HeapWording = {
  insert: record => {
    const main = mainData(record, INSERT_SIZE);
    return `off: ${u16(record, main + INSERT_OFFNUM)}, flags: ${flagsHex(u8(record, main + INSERT_FLAGS))}`;
  },
  delete:
    ({ delete: layout }) =>
    record => {
      const main = mainData(record, layout.size);
      const target = `xmax: ${u32(record, main + layout.xmax)}, off: ${u16(record, main + layout.offnum)}`;
      const infobits = infobitsList(u8(record, main + layout.infobits));
      return `${target}, infobits: ${infobits}, flags: ${flagsHex(u8(record, main + layout.flags))}`;
    },
  update:
    ({ update }) =>
    record => {
      const main = mainData(record, update.size);
      const xmax = u32(record, main + update.oldXmax);
      const old = `old_xmax: ${xmax}, old_off: ${u16(record, main + update.oldOffnum)}`;
      const infobits = infobitsList(u8(record, main + update.infobits));
      const flags = flagsHex(u8(record, main + update.flags));
      const newXmax = u32(record, main + update.newXmax);
      const fresh = `new_xmax: ${newXmax}, new_off: ${u16(record, main + update.newOffnum)}`;
      return `${old}, old_infobits: ${infobits}, flags: ${flags}, ${fresh}`;
    },
  truncate: record => {
    const { nrelids, flags, relids } = truncated(record);
    const names = [
      ...((flags & XLH_TRUNCATE_CASCADE) !== 0 ? ['CASCADE'] : []),
      ...((flags & XLH_TRUNCATE_RESTART_SEQS) !== 0 ? ['RESTART_SEQS'] : []),
    ];
    return `flags: [${names.join(', ')}], nrelids: ${nrelids}, relids: [${relids.join(', ')}]`;
  },
  confirm: record => `off: ${u16(record, mainData(record, 2))}`,
  lock:
    ({ lock }) =>
    record => {
      const main = mainData(record, lock.size);
      const target = `xmax: ${u32(record, main + lock.xmax)}, off: ${u16(record, main + lock.offnum)}`;
      const infobits = infobitsList(u8(record, main + lock.infobits));
      return `${target}, infobits: ${infobits}, flags: ${flagsHex(u8(record, main + lock.flags))}`;
    },
  inplace: record => `off: ${u16(record, mainData(record, 2))}`,
  visible: record => {
    const main = mainData(record, 5);
    return `snapshotConflictHorizon: ${u32(record, main)}, flags: ${flagsHex(u8(record, main + 4))}`;
  },
  multiInsert:
    ({ multiInsert }) =>
    record => {
      const main = mainData(record, multiInsert.offsets);
      const ntuples = u16(record, main + multiInsert.ntuples);
      const head = `ntuples: ${ntuples}, flags: ${flagsHex(u8(record, main + MULTI_INSERT_FLAGS))}`;
      const isInit = (record.info & XLOG_HEAP_INIT_PAGE) !== 0;
      if (isInit || !record.hasBlock(0) || !record.block(0).hasData) return head;
      mainData(record, multiInsert.offsets + 2 * ntuples);
      return `${head}, offsets: ${offsetList(record, main + multiInsert.offsets, ntuples)}`;
    },
  lockUpdated: record => {
    const main = mainData(record, 8);
    const infobits = infobitsList(u8(record, main + 6));
    const flags = flagsHex(u8(record, main + 7));
    return `xmax: ${u32(record, main)}, off: ${u16(record, main + 4)}, infobits: ${infobits}, flags: ${flags}`;
  },
  newCid: record => {
    const { rel, tid, cmin, cmax, combo } = newCid(record);
    return `rel: ${rel}, tid: ${tid}, cmin: ${cmin}, cmax: ${cmax}, combo: ${combo}`;
  },
};
