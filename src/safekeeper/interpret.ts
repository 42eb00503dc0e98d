// One WAL record as a pageserver's shard wants it: the values of the blocks that it holds, and what the record does
// beyond them (metadata). What belongs to other shards is left out; shard 0 is told the keys of those blocks all the
// same, because it must know how long relations are.
//
//   a block     its full-page image where the record is nothing but images, else the record as it lies in the log
//   metadata    visibility bits go to the shards that hold the map's pages; auxiliary files to shard 0; all else to all
//
// Answers to InterpretedWalRecord::from_bytes_filtered of libs/wal_decoder/src/decoder.rs.

import { Fault } from '../base/fault.ts';
import { formatLsn } from '../base/lsn.ts';
import type { RelFileLocator, RelTag } from '../base/rel.ts';
import { SLRU_CLOG, VISIBILITYMAP_FORKNUM } from '../base/rel.ts';
import { type ShardIdentity, shardOfBlock } from '../base/shard.ts';
import {
  type InterpretedRecord,
  imageValueHeader,
  recordValueHeader,
  type ValueMeta,
  wholePage,
} from '../protocol/interpreted-wal.ts';
import type { MetadataRecord, XactEnd } from '../protocol/metadata-record.ts';
import type { Dialect } from '../xlog/dialect.ts';
import type { Effect } from '../xlog/effects.ts';
import type { BlockRef, WalRecord } from '../xlog/record.ts';
import { emitEffects, findOp } from '../xlog/rmgr.ts';

const RM_XLOG = 0;
const RM_XACT = 1;
const RM_SMGR = 2;
const RM_MULTIXACT = 6;
const RM_RELMAP = 7;
const RM_REPLORIGIN = 19;
const RM_NEON = 134;
const INFO_MASK = 0xf0;
const XLOG_FPI_FOR_HINT = 0xa0;
const XLOG_FPI = 0xb0;
const SMGR_TRUNCATE = 0x20;
const XACT_OPMASK = 0x70;
const XACT_PREPARE = 0x10;
const XACT_HAS_INFO = 0x80;
const XACT_ENDS: Readonly<Record<number, XactEnd>> = {
  0: 'commit',
  32: 'abort',
  48: 'commit-prepared',
  64: 'abort-prepared',
};
const MULTIXACT_CREATE = 0x20;
const MULTIXACT_TRUNCATE = 0x30;
const SLRU_PAGES_PER_SEGMENT = 32;
/** Heap blocks that one page of the visibility map describes. */
const HEAPBLOCKS_PER_PAGE = (8192 - 24) * 4;
const ALL_FROZEN = 2;
const AUX_PREFIX = 'neon-file:';

/** Is this block held by this shard? */
export const isLocal = (shard: ShardIdentity, rel: RelTag, blkno: number): boolean =>
  shard.count < 2 ||
  shardOfBlock(rel.relNumber, rel.forkNum, blkno, shard.count, shard.stripeSize) === shard.number;

export const isEmpty = (r: InterpretedRecord): boolean =>
  r.values.length === 0 && r.metadata === undefined && !r.flushUncommitted;

/** Without anything for this shard it is empty, and only shard 0 wants to hear of it. */
export function interpretRecord(
  record: WalRecord,
  dialect: Dialect,
  shard: ShardIdentity,
): InterpretedRecord {
  const effects: Effect[] = [];
  const manager = dialect.rmgrs[record.rmid];
  const op = manager && findOp(manager, record.info);
  if (op && WITH_EFFECTS.has(record.rmid)) emitEffects(op, record, effect => effects.push(effect));
  const { raw, values } = valuesOf(record, shard);
  return {
    metadata: forShard(metadataOf(record, dialect, effects), shard),
    raw,
    values,
    nextRecordLsn: record.endLsn,
    flushUncommitted: effects.some(e => e.kind === 'database-copy'),
    xid: record.xid,
  };
}

// -------------------------------------------------------------------------------------------------------- blocks

function valuesOf(record: WalRecord, shard: ShardIdentity): { raw: Uint8Array; values: ValueMeta[] } {
  const pieces: Uint8Array[] = [];
  const values: ValueMeta[] = [];
  let offset = 0;
  for (let id = 0; id <= record.maxBlockId; id++) {
    const block = record.blocks[id]!;
    if (!block.inUse) continue;
    const rel: RelTag = relOf(block, block.forkNum);
    if (rel.spcOid > 0xffff) throw unsupportedTablespace(record, rel);
    if (!isLocal(shard, rel, block.blkno)) {
      if (shard.number === 0) values.push({ rel, blkno: block.blkno, lsn: record.endLsn, value: undefined });
      continue;
    }
    const isImage = isPlainImage(record, block);
    const willInit = isImage || block.willInit || block.applyImage;
    const added = isImage ? imageValue(record, block) : recordValue(record, willInit);
    pieces.push(...added);
    const length = added.reduce((sum, piece) => sum + piece.length, 0);
    values.push({ rel, blkno: block.blkno, lsn: record.endLsn, value: { offset, length, willInit } });
    offset += length;
  }
  return { raw: pieces.length === 0 ? NOTHING : Buffer.concat(pieces), values };
}

const NOTHING = new Uint8Array(0);

/** A record of nothing but images: the page itself is told, and no redo is needed for it. */
const isPlainImage = (record: WalRecord, block: BlockRef): boolean =>
  block.applyImage &&
  block.hasImage &&
  record.rmid === RM_XLOG &&
  (record.info === XLOG_FPI || record.info === XLOG_FPI_FOR_HINT) &&
  block.compression === 'none' &&
  block.imageLength !== 0;

function imageValue(record: WalRecord, block: BlockRef): Uint8Array[] {
  const image = record.bytes.subarray(block.imageOffset, block.imageOffset + block.imageLength);
  return [imageValueHeader(), wholePage(image, block.holeOffset, block.holeLength, record.endLsn)];
}

function recordValue(record: WalRecord, willInit: boolean): Uint8Array[] {
  const { bytes, offset, totalLength } = record;
  return [recordValueHeader(willInit, totalLength), bytes.subarray(offset, offset + totalLength)];
}

const unsupportedTablespace = (record: WalRecord, rel: RelTag): Fault =>
  new Fault('wal-unsupported', `a block in tablespace ${rel.spcOid} at ${formatLsn(record.lsn)}`, {
    hint: 'Tablespaces besides pg_default and pg_global have no place in this storage.',
  });

const relOf = ({ spcOid, dbOid, relNumber }: RelFileLocator, forkNum: number): RelTag => ({
  spcOid,
  dbOid,
  relNumber,
  forkNum,
});

// ------------------------------------------------------------------------------------------------------ metadata

/** Managers of which something is told that stands in their effects. */
const WITH_EFFECTS: ReadonlySet<number> = new Set([2, 3, 4, 6, 8, 9, 10, 21, RM_NEON]);

function metadataOf(
  record: WalRecord,
  dialect: Dialect,
  effects: readonly Effect[],
): MetadataRecord | undefined {
  const info = record.info & INFO_MASK;
  switch (record.rmid) {
    case RM_XLOG:
      return { kind: 'xlog-raw', info, lsn: record.endLsn, buf: mainData(record) };
    case RM_XACT:
      return xactOf(record, dialect.major);
    case RM_SMGR:
      if (info === SMGR_TRUNCATE) return truncateOf(record);
      break;
    case RM_MULTIXACT:
      if (info === MULTIXACT_CREATE) return multixactCreateOf(record);
      if (info === MULTIXACT_TRUNCATE) return multixactTruncateOf(record);
      break;
    case RM_RELMAP:
      return relmapOf(record);
    case RM_REPLORIGIN:
      return replOriginOf(record, info);
  }
  for (const effect of effects) {
    const found = fromEffect(effect, record.rmid === RM_NEON);
    if (found) return found;
  }
  return undefined;
}

function fromEffect(effect: Effect, neon: boolean): MetadataRecord | undefined {
  switch (effect.kind) {
    case 'vm-clear': {
      const { heapBlk, heapBlk2, flags } = effect;
      // A lock is of the old tuple; a move of a tuple touches the old one's block and the new one's.
      const isOld = heapBlk2 !== undefined || flags === ALL_FROZEN;
      const vmRel = relOf(effect.rel, VISIBILITYMAP_FORKNUM);
      const newHeapBlkno = isOld ? heapBlk2 : heapBlk;
      return {
        kind: 'clear-vm-bits',
        neon,
        newHeapBlkno,
        oldHeapBlkno: isOld ? heapBlk : undefined,
        vmRel,
        flags,
      };
    }
    case 'smgr-create':
      return { kind: 'smgr-create', rel: relOf(effect.rel, effect.forkNum) };
    case 'database-copy':
      return {
        kind: 'dbase-create',
        dbId: effect.dbOid,
        tablespaceId: effect.spcOid,
        srcDbId: effect.srcDbOid,
        srcTablespaceId: effect.srcSpcOid,
      };
    case 'database-drop':
      return { kind: 'dbase-drop', dbId: effect.dbOid, tablespaceIds: effect.spcOids };
    case 'slru-zero-page': {
      const segno = Math.floor(effect.pageno / SLRU_PAGES_PER_SEGMENT);
      const rpageno = effect.pageno % SLRU_PAGES_PER_SEGMENT;
      if (effect.slru === SLRU_CLOG) return { kind: 'clog-zero-page', segno, rpageno };
      return { kind: 'multixact-zero-page', slru: effect.slru, segno, rpageno };
    }
    case 'clog-truncate': {
      const { pageno, oldestXid, oldestXidDb } = effect;
      return { kind: 'clog-truncate', pageno, oldestXid, oldestXidDb };
    }
    case 'logical-message':
      if (!effect.prefix.startsWith(AUX_PREFIX)) return undefined;
      return { kind: 'aux-file', path: effect.prefix.slice(AUX_PREFIX.length), buf: effect.message };
    case 'running-xacts':
      return { kind: 'running-xacts', oldestRunningXid: effect.oldestRunningXid };
    default:
      return undefined;
  }
}

/** What of it this shard must hear. */
function forShard(m: MetadataRecord | undefined, shard: ShardIdentity): MetadataRecord | undefined {
  if (m?.kind === 'aux-file') return shard.number === 0 ? m : undefined;
  if (m?.kind !== 'clear-vm-bits') return m;
  const held = (heapBlk: number | undefined): number | undefined =>
    heapBlk !== undefined && isLocal(shard, m.vmRel, Math.floor(heapBlk / HEAPBLOCKS_PER_PAGE))
      ? heapBlk
      : undefined;
  const newHeapBlkno = held(m.newHeapBlkno);
  const oldHeapBlkno = held(m.oldHeapBlkno);
  if (newHeapBlkno === undefined && oldHeapBlkno === undefined) return undefined;
  return { ...m, newHeapBlkno, oldHeapBlkno };
}

const mainData = (record: WalRecord, skip = 0): Uint8Array =>
  record.bytes.slice(record.mainOffset + skip, record.mainOffset + record.mainLength);

function truncateOf(record: WalRecord): MetadataRecord {
  const { view, mainOffset: at } = record;
  return {
    kind: 'smgr-truncate',
    blkno: view.getUint32(at, true),
    rel: readRel(view, at + 4),
    flags: view.getUint32(at + 16, true),
  };
}

const readRel = (view: DataView, at: number): RelFileLocator => ({
  spcOid: view.getUint32(at, true),
  dbOid: view.getUint32(at + 4, true),
  relNumber: view.getUint32(at + 8, true),
});

function multixactCreateOf({ view, mainOffset: at }: WalRecord): MetadataRecord {
  const members = Array.from({ length: view.getUint32(at + 8, true) }, (_, i) => ({
    xid: view.getUint32(at + 12 + 8 * i, true),
    status: view.getUint32(at + 16 + 8 * i, true),
  }));
  return {
    kind: 'multixact-create',
    mid: view.getUint32(at, true),
    moff: view.getUint32(at + 4, true),
    members,
  };
}

function multixactTruncateOf({ view, mainOffset: at }: WalRecord): MetadataRecord {
  return {
    kind: 'multixact-truncate',
    oldestMultiDb: view.getUint32(at, true),
    startTruncOff: view.getUint32(at + 4, true),
    endTruncOff: view.getUint32(at + 8, true),
    startTruncMemb: view.getUint32(at + 12, true),
    endTruncMemb: view.getUint32(at + 16, true),
  };
}

function relmapOf(record: WalRecord): MetadataRecord {
  const { view, mainOffset: at } = record;
  return {
    kind: 'relmap-update',
    dbId: view.getUint32(at, true),
    tsId: view.getUint32(at + 4, true),
    nbytes: view.getInt32(at + 8, true),
    buf: mainData(record, 12),
  };
}

function replOriginOf({ view, mainOffset: at }: WalRecord, info: number): MetadataRecord | undefined {
  if (info === 0) {
    return {
      kind: 'replorigin-set',
      remoteLsn: view.getBigUint64(at, true),
      nodeId: view.getUint16(at + 8, true),
    };
  }
  return info === 0x10 ? { kind: 'replorigin-drop', nodeId: view.getUint16(at, true) } : undefined;
}

const XINFO = {
  dbinfo: 1,
  subxacts: 2,
  relfilelocators: 4,
  invals: 8,
  twophase: 16,
  origin: 32,
  gid: 128,
  droppedStats: 256,
};
const INVALIDATION_BYTES = 16;

/** As ParseCommitRecord and ParseAbortRecord of xactdesc.c read it. */
function xactOf(record: WalRecord, major: number): MetadataRecord | undefined {
  const operation = record.info & XACT_OPMASK;
  if (operation === XACT_PREPARE) return { kind: 'xact-prepare', xlXid: record.xid, data: mainData(record) };
  const end = XACT_ENDS[operation];
  if (!end) return undefined;
  const { view } = record;
  let at = record.mainOffset;
  const u32 = (): number => view.getUint32((at += 4) - 4, true);
  const xactTime = view.getBigInt64(at, true);
  at += 8;
  const xinfo = (record.info & XACT_HAS_INFO) !== 0 ? u32() : 0;
  const has = (bit: number): boolean => (xinfo & bit) !== 0;
  const [dbId, tsId] = has(XINFO.dbinfo) ? [u32(), u32()] : [0, 0];
  const subxacts = has(XINFO.subxacts) ? Array.from({ length: u32() }, u32) : [];
  const xnodes = has(XINFO.relfilelocators)
    ? Array.from({ length: u32() }, () => ({ spcOid: u32(), dbOid: u32(), relNumber: u32() }))
    : [];
  const skip = (itemBytes: number): void => {
    const count = u32();
    at += count * itemBytes;
  };
  if (has(XINFO.droppedStats)) skip(major >= 18 ? 16 : 12);
  if (has(XINFO.invals)) skip(INVALIDATION_BYTES);
  const xid = has(XINFO.twophase) ? u32() : record.xid;
  // The name of a prepared transaction stands between its xid and its origin.
  if (has(XINFO.twophase) && has(XINFO.gid)) at = record.bytes.indexOf(0, at) + 1;
  const originLsn = has(XINFO.origin) ? view.getBigUint64(at, true) : 0n;
  return {
    kind: 'xact',
    end,
    xid,
    info: operation,
    xactTime,
    xinfo,
    dbId,
    tsId,
    subxacts,
    xnodes,
    originLsn,
    originId: record.origin,
    xlXid: record.xid,
    lsn: record.endLsn,
  };
}
