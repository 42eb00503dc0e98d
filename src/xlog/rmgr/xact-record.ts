// The bodies of transaction records, taken apart without copying: offsets and counts into the record's buffer.
// One object is parsed into again and again; a commit that says nothing but its time costs no more than that.
//
//   commit, abort:   0 xact_time i64, then only what is there, packed:
//     info 0x80  xinfo u32: which of these follow
//     bit 0      dbId u32, tsId u32
//     bit 1      nsubxacts i32, n * xid u32
//     bit 2      nrels i32, n * (spcOid, dbOid, relNumber u32)
//     bit 8      nitems i32, n * dropped statistics entry                        (15+)
//                  kind i32, dboid u32, objoid u32                               (15-17: 12 bytes)
//                  kind i32, dboid u32, objid_lo u32, objid_hi u32               (18: 16 bytes)
//     bit 3      nmsgs i32, n * 16 bytes of invalidation message                 (commits only)
//     bit 4      xid u32 of the prepared transaction that ends
//       bit 7      its GID, zero-terminated; from here on nothing is aligned
//     bit 5      origin_lsn u64, origin_timestamp i64; the origin's id is in the record's header
//   further bits of xinfo announce nothing: 6 AE locks, 29 apply feedback, 30 relcache init file, 31 force sync
//
//   prepare (also a two-phase state file, less its CRC): a header, then arrays, each padded to 8 bytes
//     0 magic u32 | 4 total_len u32 | 8 xid u32 | 12 database u32 | 16 prepared_at i64 | 24 owner u32 |
//     28 nsubxacts i32 | 32 ncommitrels i32 | 36 nabortrels i32 | [40 ncommitstats i32 | 44 nabortstats i32 (15+)] |
//     then at 48 (14: 40) ninvalmsgs i32, initfileinval u8, +6 gidlen u16, +8 origin_lsn u64, +16 origin_timestamp i64
//     gid with its zero | subxacts | commit rels | abort rels | commit stats | abort stats | inval msgs | 2PC records
//
// Every count is checked against what the record holds. Mirrors ParseCommitRecord, ParseAbortRecord and
// ParsePrepareRecord of xactdesc.c, xact.h.

import type { RelFileLocator } from '../../base/rel.ts';
import { badRecord, type WalRecord } from '../record.ts';
import { SIZE_OF_INVAL_MESSAGE } from './desc.ts';
import { arrayEnd, mainAt, mainEnd, readInt64 } from './main-data.ts';

export const XLOG_XACT_HAS_INFO = 0x80;

export const XACT_XINFO_HAS_DBINFO = 1 << 0;
export const XACT_XINFO_HAS_SUBXACTS = 1 << 1;
export const XACT_XINFO_HAS_RELFILELOCATORS = 1 << 2;
export const XACT_XINFO_HAS_INVALS = 1 << 3;
export const XACT_XINFO_HAS_TWOPHASE = 1 << 4;
export const XACT_XINFO_HAS_ORIGIN = 1 << 5;
export const XACT_XINFO_HAS_AE_LOCKS = 1 << 6;
export const XACT_XINFO_HAS_GID = 1 << 7;
export const XACT_XINFO_HAS_DROPPED_STATS = 1 << 8;
export const XACT_COMPLETION_APPLY_FEEDBACK = 1 << 29;
export const XACT_COMPLETION_UPDATE_RELCACHE_FILE = 1 << 30;
export const XACT_COMPLETION_FORCE_SYNC_COMMIT = 1 << 31;

export const SIZE_OF_RELFILELOCATOR = 12;
const SIZE_OF_XID = 4;
const SIZE_OF_ORIGIN = 16;

/** In which majors' transaction records differ. */
export interface XactLayout {
  /** xl_xact_stats_item; 0 where commit records tell of no dropped statistics. */
  readonly statsItemSize: 0 | 12 | 16;
  /** Where the fields behind the counts of xl_xact_prepare begin (ninvalmsgs). */
  readonly prepareTail: 40 | 48;
}

/** A commit or abort record; an `...At` is an offset in the record's bytes, good while its count is not 0. */
export class XactRecord {
  xactTime = 0;
  xinfo = 0;
  dbId = 0;
  tsId = 0;
  nsubxacts = 0;
  subxactsAt = 0;
  nrels = 0;
  relsAt = 0;
  nstats = 0;
  statsAt = 0;
  nmsgs = 0;
  msgsAt = 0;
  /** 0 unless a prepared transaction ends. */
  twophaseXid = 0;
  gidAt = 0;
  /** Without its zero. */
  gidLength = 0;
  hasOrigin = false;
  originAt = 0;

  has(bit: number): boolean {
    return (this.xinfo & bit) !== 0;
  }
}

export function parseXactRecord(
  into: XactRecord,
  record: WalRecord,
  layout: XactLayout,
  isCommit: boolean,
): XactRecord {
  const { view } = record;
  let at = mainAt(record, 8, 'xact_time');
  into.xactTime = readInt64(view, at);
  into.xinfo = 0;
  into.dbId = into.tsId = 0;
  into.nsubxacts = into.nrels = into.nstats = into.nmsgs = 0;
  into.twophaseXid = 0;
  into.gidLength = 0;
  into.hasOrigin = false;
  if ((record.info & XLOG_XACT_HAS_INFO) === 0) return into;

  at = mainAt(record, 12, 'xinfo') + 12;
  into.xinfo = view.getInt32(at - 4, true);
  if (into.has(XACT_XINFO_HAS_DBINFO)) {
    const next = arrayEnd(record, at, 1, 8, 'dbinfo');
    into.dbId = view.getUint32(at, true);
    into.tsId = view.getUint32(at + 4, true);
    at = next;
  }
  if (into.has(XACT_XINFO_HAS_SUBXACTS)) {
    into.nsubxacts = countAt(record, at);
    into.subxactsAt = at + 4;
    at = arrayEnd(record, at + 4, into.nsubxacts, SIZE_OF_XID, 'subxacts');
  }
  if (into.has(XACT_XINFO_HAS_RELFILELOCATORS)) {
    into.nrels = countAt(record, at);
    into.relsAt = at + 4;
    at = arrayEnd(record, at + 4, into.nrels, SIZE_OF_RELFILELOCATOR, 'relations');
  }
  if (layout.statsItemSize !== 0 && into.has(XACT_XINFO_HAS_DROPPED_STATS)) {
    into.nstats = countAt(record, at);
    into.statsAt = at + 4;
    at = arrayEnd(record, at + 4, into.nstats, layout.statsItemSize, 'dropped statistics');
  }
  if (isCommit && into.has(XACT_XINFO_HAS_INVALS)) {
    into.nmsgs = countAt(record, at);
    into.msgsAt = at + 4;
    at = arrayEnd(record, at + 4, into.nmsgs, SIZE_OF_INVAL_MESSAGE, 'invalidation messages');
  }
  parseTail(into, record, at);
  return into;
}

function parseTail(into: XactRecord, record: WalRecord, start: number): void {
  let at = start;
  if (into.has(XACT_XINFO_HAS_TWOPHASE)) {
    const next = arrayEnd(record, at, 1, SIZE_OF_XID, 'two-phase xid');
    into.twophaseXid = record.view.getUint32(at, true);
    at = next;
    if (into.has(XACT_XINFO_HAS_GID)) {
      const zero = record.bytes.indexOf(0, at);
      if (zero < 0 || zero >= mainEnd(record)) throw badRecord(record, 'a GID without an end');
      into.gidAt = at;
      into.gidLength = zero - at;
      at = zero + 1;
    }
  }
  if (into.has(XACT_XINFO_HAS_ORIGIN)) {
    arrayEnd(record, at, 1, SIZE_OF_ORIGIN, 'origin');
    into.hasOrigin = true;
    into.originAt = at;
  }
}

function countAt(record: WalRecord, at: number): number {
  arrayEnd(record, at, 1, 4, 'count');
  return record.view.getInt32(at, true);
}

/** The relations listed at `at`, as objects: for the rare transaction that drops some. */
export function readRelations(view: DataView, at: number, count: number): RelFileLocator[] {
  const rels = new Array<RelFileLocator>(count);
  for (let i = 0; i < count; i++) {
    const rel = at + i * SIZE_OF_RELFILELOCATOR;
    rels[i] = {
      spcOid: view.getUint32(rel, true),
      dbOid: view.getUint32(rel + 4, true),
      relNumber: view.getUint32(rel + 8, true),
    };
  }
  return rels;
}

/** A prepare record's header and where its arrays lie. */
export interface PrepareRecord {
  readonly xid: number;
  readonly database: number;
  readonly preparedAt: number;
  readonly initFileInval: boolean;
  readonly gidAt: number;
  readonly gidEnd: number;
  readonly nsubxacts: number;
  readonly subxactsAt: number;
  readonly ncommitrels: number;
  readonly commitrelsAt: number;
  readonly nabortrels: number;
  readonly abortrelsAt: number;
  readonly ncommitstats: number;
  readonly commitstatsAt: number;
  readonly nabortstats: number;
  readonly abortstatsAt: number;
  readonly ninvalmsgs: number;
  readonly invalmsgsAt: number;
  /** Of origin_lsn, origin_timestamp. */
  readonly originAt: number;
}

export function parsePrepareRecord(record: WalRecord, layout: XactLayout): PrepareRecord {
  const { prepareTail, statsItemSize } = layout;
  const headerSize = prepareTail + 24;
  const at = mainAt(record, headerSize, 'xl_xact_prepare');
  const { view } = record;
  const i32 = (offset: number): number => view.getInt32(at + offset, true);
  const hasStats = statsItemSize !== 0;
  let next = at + headerSize;
  const array = (count: number, itemSize: number, what: string): number => {
    const start = next;
    const end = arrayEnd(record, start, count, itemSize, what);
    next = at + (((end - at + 7) >>> 3) << 3);
    return start;
  };
  const nsubxacts = i32(28);
  const ncommitrels = i32(32);
  const nabortrels = i32(36);
  const ncommitstats = hasStats ? i32(40) : 0;
  const nabortstats = hasStats ? i32(44) : 0;
  const ninvalmsgs = i32(prepareTail);
  const gidLength = view.getUint16(at + prepareTail + 6, true);
  const gidAt = array(gidLength, 1, 'bytes of GID');
  return {
    xid: view.getUint32(at + 8, true),
    database: view.getUint32(at + 12, true),
    preparedAt: readInt64(view, at + 16),
    initFileInval: view.getUint8(at + prepareTail + 4) !== 0,
    gidAt,
    gidEnd: gidAt + gidLength,
    nsubxacts,
    subxactsAt: array(nsubxacts, SIZE_OF_XID, 'subxacts'),
    ncommitrels,
    commitrelsAt: array(ncommitrels, SIZE_OF_RELFILELOCATOR, 'relations to drop on commit'),
    nabortrels,
    abortrelsAt: array(nabortrels, SIZE_OF_RELFILELOCATOR, 'relations to drop on abort'),
    ncommitstats,
    commitstatsAt: array(ncommitstats, statsItemSize, 'statistics to drop on commit'),
    nabortstats,
    abortstatsAt: array(nabortstats, statsItemSize, 'statistics to drop on abort'),
    ninvalmsgs,
    invalmsgsAt: array(ninvalmsgs, SIZE_OF_INVAL_MESSAGE, 'invalidation messages'),
    originAt: at + prepareTail + 8,
  };
}
