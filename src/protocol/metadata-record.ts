// What a WAL record does beyond the blocks it names, as safekeepers tell pageservers in the interpreted stream: a
// variant of MetadataRecord in bincode. The numbers of the variants are their places in Neon's enums.
//
//   0 Heapam, 1 Neonrmgr   { 0 ClearVmBits { new_heap_blkno u32?, old_heap_blkno u32?, vm_rel RelTag, flags u8 } }
//   2 Smgr        { 0 Create { rel RelTag } | 1 Truncate { blkno u32, RelFileNode, flags u32 } }
//   3 Dbase       { 0 Create { db, tablespace, src_db, src_tablespace } | 1 Drop { db u32, tablespaces [u32] } }
//   4 Clog        { 0 ZeroPage { segno, rpageno } | 1 Truncate { pageno, oldest_xid, oldest_xid_db } }
//   5 Xact        { 0 Commit, 1 Abort, 2 CommitPrepared, 3 AbortPrepared { XactCommon } | 4 Prepare { xid, data } }
//   6 MultiXact   { 0 ZeroPage { kind, segno, rpageno } | 1 Create | 2 Truncate }
//   7 Relmap      { 0 Update { dbid, tsid, nbytes i32, buf } }
//   8 Xlog        { 0 Raw { info u8, lsn, buf } }
//   9 LogicalMessage { 0 Put { path, buf } }
//  10 Standby     { 0 RunningXacts { oldest_running_xid } }
//  11 Replorigin  { 0 Set { remote_lsn, node u16 } | 1 Drop { node u16 } }
//
//   RelTag = fork u8 | spc u32 | db u32 | rel u32         RelFileNode = spc u32 | db u32 | rel u32
//
// Answers to MetadataRecord of libs/wal_decoder/src/models.rs.

import { Fault } from '../base/fault.ts';
import type { Lsn } from '../base/lsn.ts';
import type { RelFileLocator, RelTag } from '../base/rel.ts';
import { BincodeReader, BincodeWriter } from './bincode.ts';

export interface ClearVmBits {
  readonly newHeapBlkno: number | undefined;
  readonly oldHeapBlkno: number | undefined;
  readonly vmRel: RelTag;
  readonly flags: number;
}

export interface XactCommon {
  /** Of the transaction that ends: for a prepared one not the record's. */
  readonly xid: number;
  /** xl_info & XLOG_XACT_OPMASK. */
  readonly info: number;
  readonly xactTime: bigint;
  readonly xinfo: number;
  readonly dbId: number;
  readonly tsId: number;
  readonly subxacts: readonly number[];
  readonly xnodes: readonly RelFileLocator[];
  readonly originLsn: bigint;
  readonly originId: number;
  /** The record's own. */
  readonly xlXid: number;
  readonly lsn: Lsn;
}

export type XactEnd = 'commit' | 'abort' | 'commit-prepared' | 'abort-prepared';
const XACT_ENDS: readonly XactEnd[] = ['commit', 'abort', 'commit-prepared', 'abort-prepared'];

export type MetadataRecord =
  | ({ readonly kind: 'clear-vm-bits'; readonly neon: boolean } & ClearVmBits)
  | { readonly kind: 'smgr-create'; readonly rel: RelTag }
  | {
      readonly kind: 'smgr-truncate';
      readonly blkno: number;
      readonly rel: RelFileLocator;
      readonly flags: number;
    }
  | {
      readonly kind: 'dbase-create';
      readonly dbId: number;
      readonly tablespaceId: number;
      readonly srcDbId: number;
      readonly srcTablespaceId: number;
    }
  | { readonly kind: 'dbase-drop'; readonly dbId: number; readonly tablespaceIds: readonly number[] }
  | { readonly kind: 'clog-zero-page'; readonly segno: number; readonly rpageno: number }
  | {
      readonly kind: 'clog-truncate';
      readonly pageno: number;
      readonly oldestXid: number;
      readonly oldestXidDb: number;
    }
  | ({ readonly kind: 'xact'; readonly end: XactEnd } & XactCommon)
  | { readonly kind: 'xact-prepare'; readonly xlXid: number; readonly data: Uint8Array }
  | {
      readonly kind: 'multixact-zero-page';
      /** 1 members, 2 offsets. */
      readonly slru: number;
      readonly segno: number;
      readonly rpageno: number;
    }
  | {
      readonly kind: 'multixact-create';
      readonly mid: number;
      readonly moff: number;
      readonly members: readonly { readonly xid: number; readonly status: number }[];
    }
  | {
      readonly kind: 'multixact-truncate';
      readonly oldestMultiDb: number;
      readonly startTruncOff: number;
      readonly endTruncOff: number;
      readonly startTruncMemb: number;
      readonly endTruncMemb: number;
    }
  | {
      readonly kind: 'relmap-update';
      readonly dbId: number;
      readonly tsId: number;
      readonly nbytes: number;
      readonly buf: Uint8Array;
    }
  | { readonly kind: 'xlog-raw'; readonly info: number; readonly lsn: Lsn; readonly buf: Uint8Array }
  | { readonly kind: 'aux-file'; readonly path: string; readonly buf: Uint8Array }
  | { readonly kind: 'running-xacts'; readonly oldestRunningXid: number }
  | { readonly kind: 'replorigin-set'; readonly remoteLsn: bigint; readonly nodeId: number }
  | { readonly kind: 'replorigin-drop'; readonly nodeId: number };

const at = (w: BincodeWriter, manager: number, operation: number): BincodeWriter =>
  w.variant(manager).variant(operation);

function relTag(w: BincodeWriter, rel: RelTag): void {
  w.u8(rel.forkNum).u32(rel.spcOid).u32(rel.dbOid).u32(rel.relNumber);
}

const relFileNode = (w: BincodeWriter, rel: RelFileLocator): BincodeWriter =>
  w.u32(rel.spcOid).u32(rel.dbOid).u32(rel.relNumber);

export function encodeMetadata(m: MetadataRecord): Uint8Array {
  const w = new BincodeWriter();
  writeMetadata(w, m);
  return w.finish();
}

export function writeMetadata(w: BincodeWriter, m: MetadataRecord): void {
  switch (m.kind) {
    case 'clear-vm-bits':
      at(w, m.neon ? 1 : 0, 0)
        .option(m.newHeapBlkno, v => w.u32(v))
        .option(m.oldHeapBlkno, v => w.u32(v));
      relTag(w, m.vmRel);
      w.u8(m.flags);
      break;
    case 'smgr-create':
      relTag(at(w, 2, 0), m.rel);
      break;
    case 'smgr-truncate':
      relFileNode(at(w, 2, 1).u32(m.blkno), m.rel).u32(m.flags);
      break;
    case 'dbase-create':
      at(w, 3, 0).u32(m.dbId).u32(m.tablespaceId).u32(m.srcDbId).u32(m.srcTablespaceId);
      break;
    case 'dbase-drop':
      at(w, 3, 1)
        .u32(m.dbId)
        .list(m.tablespaceIds, v => w.u32(v));
      break;
    case 'clog-zero-page':
      at(w, 4, 0).u32(m.segno).u32(m.rpageno);
      break;
    case 'clog-truncate':
      at(w, 4, 1).u32(m.pageno).u32(m.oldestXid).u32(m.oldestXidDb);
      break;
    case 'xact':
      writeXact(at(w, 5, XACT_ENDS.indexOf(m.end)), m);
      break;
    case 'xact-prepare':
      at(w, 5, 4).u32(m.xlXid).bytes(m.data);
      break;
    default:
      writeRest(w, m);
  }
}

function writeXact(w: BincodeWriter, x: XactCommon): void {
  w.u32(x.xid).u8(x.info).i64(x.xactTime).u32(x.xinfo).u32(x.dbId).u32(x.tsId);
  w.list(x.subxacts, v => w.u32(v)).list(x.xnodes, v => relFileNode(w, v));
  w.u64big(x.originLsn).u16(x.originId).u32(x.xlXid).lsn(x.lsn);
}

type Rest = Extract<
  MetadataRecord,
  {
    kind:
      | 'multixact-zero-page'
      | 'multixact-create'
      | 'multixact-truncate'
      | 'relmap-update'
      | 'xlog-raw'
      | 'aux-file'
      | 'running-xacts'
      | 'replorigin-set'
      | 'replorigin-drop';
  }
>;

function writeRest(w: BincodeWriter, m: Rest): void {
  switch (m.kind) {
    case 'multixact-zero-page':
      at(w, 6, 0).variant(m.slru).u32(m.segno).u32(m.rpageno);
      break;
    case 'multixact-create':
      at(w, 6, 1)
        .u32(m.mid)
        .u32(m.moff)
        .u32(m.members.length)
        .list(m.members, v => w.u32(v.xid).u32(v.status));
      break;
    case 'multixact-truncate':
      at(w, 6, 2).u32(m.oldestMultiDb).u32(m.startTruncOff).u32(m.endTruncOff);
      w.u32(m.startTruncMemb).u32(m.endTruncMemb);
      break;
    case 'relmap-update':
      at(w, 7, 0).u32(m.dbId).u32(m.tsId).u32(m.nbytes).bytes(m.buf);
      break;
    case 'xlog-raw':
      at(w, 8, 0).u8(m.info).lsn(m.lsn).bytes(m.buf);
      break;
    case 'aux-file':
      at(w, 9, 0).text(m.path).bytes(m.buf);
      break;
    case 'running-xacts':
      at(w, 10, 0).u32(m.oldestRunningXid);
      break;
    case 'replorigin-set':
      at(w, 11, 0).u64big(m.remoteLsn).u16(m.nodeId);
      break;
    case 'replorigin-drop':
      at(w, 11, 1).u16(m.nodeId);
      break;
  }
}

export function decodeMetadata(bytes: Uint8Array): MetadataRecord {
  const r = new BincodeReader(bytes);
  const m = readMetadata(r);
  r.finish();
  return m;
}

type ReadOne = (r: BincodeReader) => MetadataRecord;

const readRelTag = (r: BincodeReader): RelTag => {
  const forkNum = r.u8();
  return { ...readRelFileNode(r), forkNum };
};

const readRelFileNode = (r: BincodeReader): RelFileLocator => ({
  spcOid: r.u32(),
  dbOid: r.u32(),
  relNumber: r.u32(),
});

const clearVmBits =
  (neon: boolean): ReadOne =>
  r => ({
    kind: 'clear-vm-bits',
    neon,
    newHeapBlkno: r.option(r.u32),
    oldHeapBlkno: r.option(r.u32),
    vmRel: readRelTag(r),
    flags: r.u8(),
  });

const xactEnd =
  (end: XactEnd): ReadOne =>
  r => ({
    kind: 'xact',
    end,
    xid: r.u32(),
    info: r.u8(),
    xactTime: r.i64(),
    xinfo: r.u32(),
    dbId: r.u32(),
    tsId: r.u32(),
    subxacts: r.list(r.u32),
    xnodes: r.list(() => readRelFileNode(r)),
    originLsn: r.u64big(),
    originId: r.u16(),
    xlXid: r.u32(),
    lsn: r.lsn(),
  });

/** By manager, then by operation. */
const READ: readonly (readonly ReadOne[])[] = [
  [clearVmBits(false)],
  [clearVmBits(true)],
  [
    r => ({ kind: 'smgr-create', rel: readRelTag(r) }),
    r => ({ kind: 'smgr-truncate', blkno: r.u32(), rel: readRelFileNode(r), flags: r.u32() }),
  ],
  [
    r => ({
      kind: 'dbase-create',
      dbId: r.u32(),
      tablespaceId: r.u32(),
      srcDbId: r.u32(),
      srcTablespaceId: r.u32(),
    }),
    r => ({ kind: 'dbase-drop', dbId: r.u32(), tablespaceIds: r.list(r.u32) }),
  ],
  [
    r => ({ kind: 'clog-zero-page', segno: r.u32(), rpageno: r.u32() }),
    r => ({ kind: 'clog-truncate', pageno: r.u32(), oldestXid: r.u32(), oldestXidDb: r.u32() }),
  ],
  [...XACT_ENDS.map(xactEnd), r => ({ kind: 'xact-prepare', xlXid: r.u32(), data: r.bytes() })],
  [
    r => ({ kind: 'multixact-zero-page', slru: r.u32(), segno: r.u32(), rpageno: r.u32() }),
    r => {
      const [mid, moff] = [r.u32(), r.u32()];
      r.u32();
      return {
        kind: 'multixact-create',
        mid,
        moff,
        members: r.list(() => ({ xid: r.u32(), status: r.u32() })),
      };
    },
    r => ({
      kind: 'multixact-truncate',
      oldestMultiDb: r.u32(),
      startTruncOff: r.u32(),
      endTruncOff: r.u32(),
      startTruncMemb: r.u32(),
      endTruncMemb: r.u32(),
    }),
  ],
  [r => ({ kind: 'relmap-update', dbId: r.u32(), tsId: r.u32(), nbytes: r.u32(), buf: r.bytes() })],
  [r => ({ kind: 'xlog-raw', info: r.u8(), lsn: r.lsn(), buf: r.bytes() })],
  [r => ({ kind: 'aux-file', path: r.text(), buf: r.bytes() })],
  [r => ({ kind: 'running-xacts', oldestRunningXid: r.u32() })],
  [
    r => ({ kind: 'replorigin-set', remoteLsn: r.u64big(), nodeId: r.u16() }),
    r => ({ kind: 'replorigin-drop', nodeId: r.u16() }),
  ],
];

export function readMetadata(r: BincodeReader): MetadataRecord {
  const [manager, operation] = [r.u32(), r.u32()];
  const read = READ[manager]?.[operation];
  if (!read) throw new Fault('protocol-violation', `metadata record ${manager}.${operation} is not known`);
  return read(r);
}
