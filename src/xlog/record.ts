// One WAL record, decoded: where its blocks, images and data lie in a buffer that holds it whole.
//
//   0  xl_tot_len u32 | 4 xl_xid u32 | 8 xl_prev u64 | 16 xl_info u8 | 17 xl_rmid u8 | 20 xl_crc u32
//  24  headers: block references by ascending id, then origin, top-level xid, and last the main data's length
//      then per block its image and its data, and the main data at the end
//
//  block reference: id u8 (0..32), fork_flags u8, data_length u16,
//      [image: bimg_len u16, hole_offset u16, bimg_info u8, [hole_length u16 if compressed with a hole]],
//      [spcOid u32, dbOid u32, relNumber u32 unless same as the block before], blkno u32
//
// A WalRecord is made once and decoded into many times; nothing is allocated per record or per field. Offsets
// are absolute in `bytes`, read through the one `view` of that buffer. Whoever keeps a record keeps its bytes.
// A record that does not add up is a Fault `wal-record` with LSN and reason, never a read past its end.
//
// Mirrors xlogrecord.h and DecodeXLogRecord of xlogreader.c.

import { Fault } from '../base/fault.ts';
import { formatLsn, INVALID_LSN, type Lsn, readLsnLE } from '../base/lsn.ts';
import { INIT_FORKNUM } from '../base/rel.ts';
import type { ImageBits } from './dialect.ts';
import { BLCKSZ } from './page.ts';

export const XLOG_RECORD_HEADER_SIZE = 24;
/** XLogRecordMaxSize: larger is refused before any memory is set aside for it. */
export const XLOG_RECORD_MAX_SIZE = 1020 * 1024 * 1024;
export const XLR_MAX_BLOCK_ID = 32;

const XLR_BLOCK_ID_DATA_SHORT = 255;
const XLR_BLOCK_ID_DATA_LONG = 254;
const XLR_BLOCK_ID_ORIGIN = 253;
const XLR_BLOCK_ID_TOPLEVEL_XID = 252;

const BKPBLOCK_FORK_MASK = 0x0f;
const BKPBLOCK_HAS_IMAGE = 0x10;
const BKPBLOCK_HAS_DATA = 0x20;
const BKPBLOCK_WILL_INIT = 0x40;
const BKPBLOCK_SAME_REL = 0x80;

export type ImageCompression = 'none' | 'pglz' | 'lz4' | 'zstd';

export class BlockRef {
  readonly id: number;
  inUse = false;
  spcOid = 0;
  dbOid = 0;
  relNumber = 0;
  forkNum = 0;
  blkno = 0;
  willInit = false;
  hasImage = false;
  /** The image is to be restored; without this it is there for checking only. */
  applyImage = false;
  compression: ImageCompression = 'none';
  imageOffset = 0;
  imageLength = 0;
  holeOffset = 0;
  holeLength = 0;
  hasData = false;
  dataOffset = 0;
  dataLength = 0;

  constructor(id: number) {
    this.id = id;
  }
}

const NO_BYTES = new Uint8Array(0);
const NO_VIEW = new DataView(NO_BYTES.buffer);

export class WalRecord {
  /** The buffer that holds the record in one piece, its view, and where in it the record begins. */
  bytes: Uint8Array = NO_BYTES;
  view: DataView = NO_VIEW;
  offset = 0;
  totalLength = 0;
  /** Where the record begins in the log. */
  lsn: Lsn = INVALID_LSN;
  /** Where the next one may begin (aligned): Postgres's EndRecPtr, the LSN that redo stamps on pages. */
  endLsn: Lsn = INVALID_LSN;
  xid = 0;
  prev: Lsn = INVALID_LSN;
  /** xl_info whole: the low four bits belong to the log itself, the high four to the resource manager. */
  info = 0;
  rmid = 0;
  origin = 0;
  toplevelXid = 0;
  mainOffset = 0;
  mainLength = 0;
  /** Highest block id in use, -1 for none. */
  maxBlockId = -1;
  /** By block id; look at `inUse` before use. */
  readonly blocks: readonly BlockRef[] = Array.from(
    { length: XLR_MAX_BLOCK_ID + 1 },
    (_, id) => new BlockRef(id),
  );

  /** The block reference of an id that must be there. */
  block(id: number): BlockRef {
    const block = this.blocks[id];
    if (block === undefined || !block.inUse) throw badRecord(this, `no block ${id}`);
    return block;
  }

  hasBlock(id: number): boolean {
    return id <= this.maxBlockId && this.blocks[id]!.inUse;
  }
}

export function badRecord(record: WalRecord, reason: string): Fault {
  return new Fault('wal-record', `bad WAL record at ${formatLsn(record.lsn)}: ${reason}`);
}

/**
 * Decode the record that begins at `offset` of `bytes` and lies there whole. Only the header's length is taken
 * on trust, and it is checked against the buffer; the caller has checked the CRC.
 */
export function decodeRecord(
  record: WalRecord,
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  lsn: Lsn,
  endLsn: Lsn,
  bits: ImageBits,
): WalRecord {
  record.bytes = bytes;
  record.view = view;
  record.offset = offset;
  record.lsn = lsn;
  record.endLsn = endLsn;
  for (let id = 0; id <= record.maxBlockId; id++) record.blocks[id]!.inUse = false;
  record.maxBlockId = -1;
  record.origin = 0;
  record.toplevelXid = 0;
  record.mainOffset = offset;
  record.mainLength = 0;

  if (offset + XLOG_RECORD_HEADER_SIZE > view.byteLength) throw badRecord(record, 'header cut short');
  const totalLength = view.getUint32(offset, true);
  record.totalLength = totalLength;
  record.xid = view.getUint32(offset + 4, true);
  record.prev = readLsnLE(view, offset + 8);
  record.info = view.getUint8(offset + 16);
  record.rmid = view.getUint8(offset + 17);
  if (totalLength < XLOG_RECORD_HEADER_SIZE || offset + totalLength > view.byteLength) {
    throw badRecord(record, `length ${totalLength} does not fit`);
  }
  decodeBody(record, offset + XLOG_RECORD_HEADER_SIZE, offset + totalLength, bits);
  return record;
}

function decodeBody(record: WalRecord, start: number, end: number, bits: ImageBits): void {
  const view = record.view;
  let at = start;
  let payload = 0;
  let previous: BlockRef | undefined;

  // Headers run until only the payload that they announced is left.
  while (end - at > payload) {
    const id = view.getUint8(at);
    if (id <= XLR_MAX_BLOCK_ID) {
      if (id <= record.maxBlockId) throw badRecord(record, `block id ${id} out of order`);
      const block = record.blocks[id]!;
      at = decodeBlockHeader(record, block, previous, at, end, bits);
      block.inUse = true;
      record.maxBlockId = id;
      previous = block;
      payload += block.imageLength + block.dataLength;
    } else if (id === XLR_BLOCK_ID_DATA_SHORT) {
      need(record, at, 2, end);
      record.mainLength = view.getUint8(at + 1);
      at += 2;
      payload += record.mainLength;
      break;
    } else if (id === XLR_BLOCK_ID_DATA_LONG) {
      need(record, at, 5, end);
      record.mainLength = view.getUint32(at + 1, true);
      at += 5;
      payload += record.mainLength;
      break;
    } else if (id === XLR_BLOCK_ID_ORIGIN) {
      need(record, at, 3, end);
      record.origin = view.getUint16(at + 1, true);
      at += 3;
    } else if (id === XLR_BLOCK_ID_TOPLEVEL_XID) {
      need(record, at, 5, end);
      record.toplevelXid = view.getUint32(at + 1, true);
      at += 5;
    } else {
      throw badRecord(record, `unknown header id ${id}`);
    }
  }
  if (end - at !== payload)
    throw badRecord(record, `headers announce ${payload} bytes, ${end - at} are there`);

  for (let id = 0; id <= record.maxBlockId; id++) {
    const block = record.blocks[id]!;
    if (!block.inUse) continue;
    block.imageOffset = at;
    at += block.imageLength;
    block.dataOffset = at;
    at += block.dataLength;
  }
  record.mainOffset = at;
}

function need(record: WalRecord, at: number, count: number, end: number): void {
  if (at + count > end) throw badRecord(record, 'headers cut short');
}

function decodeBlockHeader(
  record: WalRecord,
  block: BlockRef,
  previous: BlockRef | undefined,
  start: number,
  end: number,
  bits: ImageBits,
): number {
  const view = record.view;
  let at = start;
  need(record, at, 4, end);
  const flags = view.getUint8(at + 1);
  block.forkNum = flags & BKPBLOCK_FORK_MASK;
  if (block.forkNum > INIT_FORKNUM) throw badRecord(record, `block ${block.id} is of fork ${block.forkNum}`);
  block.hasImage = (flags & BKPBLOCK_HAS_IMAGE) !== 0;
  block.hasData = (flags & BKPBLOCK_HAS_DATA) !== 0;
  block.willInit = (flags & BKPBLOCK_WILL_INIT) !== 0;
  block.dataLength = view.getUint16(at + 2, true);
  if (block.hasData !== block.dataLength > 0) {
    throw badRecord(record, `block ${block.id} data flag and length ${block.dataLength} disagree`);
  }
  at += 4;
  at = block.hasImage ? decodeImageHeader(record, block, at, end, bits) : clearImage(block, at);
  if ((flags & BKPBLOCK_SAME_REL) === 0) {
    need(record, at, 12, end);
    block.spcOid = view.getUint32(at, true);
    block.dbOid = view.getUint32(at + 4, true);
    block.relNumber = view.getUint32(at + 8, true);
    at += 12;
  } else {
    if (previous === undefined) throw badRecord(record, 'same-relation flag on the first block');
    block.spcOid = previous.spcOid;
    block.dbOid = previous.dbOid;
    block.relNumber = previous.relNumber;
  }
  need(record, at, 4, end);
  block.blkno = view.getUint32(at, true);
  return at + 4;
}

function clearImage(block: BlockRef, at: number): number {
  block.applyImage = false;
  block.imageLength = 0;
  block.holeOffset = 0;
  block.holeLength = 0;
  block.compression = 'none';
  return at;
}

function decodeImageHeader(
  record: WalRecord,
  block: BlockRef,
  at: number,
  end: number,
  bits: ImageBits,
): number {
  const view = record.view;
  need(record, at, 5, end);
  block.imageLength = view.getUint16(at, true);
  block.holeOffset = view.getUint16(at + 2, true);
  const info = view.getUint8(at + 4);
  at += 5;
  const hasHole = (info & bits.hasHole) !== 0;
  block.applyImage = (info & bits.apply) !== 0;
  block.compression =
    compressionOf(info & ~(bits.hasHole | bits.apply), bits) ?? unknownImage(record, block, info);
  const compressed = block.compression !== 'none';
  if (!compressed) {
    block.holeLength = BLCKSZ - block.imageLength;
  } else if (hasHole) {
    need(record, at, 2, end);
    block.holeLength = view.getUint16(at, true);
    at += 2;
  } else {
    block.holeLength = 0;
  }
  const sound = hasHole
    ? block.holeOffset > 0 && block.holeLength > 0 && block.holeOffset + block.holeLength <= BLCKSZ
    : block.holeOffset === 0 && block.holeLength === 0;
  // A page of zeros is logged as an image of no bytes whose hole is the whole page (bulk extension, 16+).
  const zeroPage =
    hasHole && block.imageLength === 0 && block.holeOffset === 0 && block.holeLength === BLCKSZ;
  if ((!sound && !zeroPage) || block.imageLength > BLCKSZ || (compressed && block.imageLength === BLCKSZ)) {
    throw badRecord(
      record,
      `block ${block.id} image of ${block.imageLength} bytes with hole ${block.holeLength} at ${block.holeOffset}`,
    );
  }
  return at;
}

/** What the rest of bimg_info says; undefined for bits that the major does not know, or two methods at once. */
function compressionOf(rest: number, bits: ImageBits): ImageCompression | undefined {
  if (rest === 0) return 'none';
  if (rest === bits.pglz) return 'pglz';
  if (rest === bits.lz4) return 'lz4';
  if (rest === bits.zstd) return 'zstd';
  return undefined;
}

function unknownImage(record: WalRecord, block: BlockRef, info: number): never {
  const hex = info.toString(16).padStart(2, '0');
  throw badRecord(record, `block ${block.id} image of flags 0x${hex}, which no image has`);
}
