// Records made, and laid out on WAL pages as Postgres lays them: for tests, and for the few that we must emit.
//
// `makeRecord` puts headers, images, data and main data together (XLogRecordAssemble of xloginsert.c) with its
// checksum left to `WalWriter`, which knows the position and so xl_prev: it writes page headers, splits records
// across pages and segments, and pads to eight (CopyXLogRecordToWAL of xlog.c).

import { assert } from '../base/assert.ts';
import { Builder } from '../base/bytes.ts';
import { alignLsn, lsn as asLsn, type Lsn, writeLsnLE } from '../base/lsn.ts';
import { recordCrc } from './crc32c.ts';
import type { Dialect } from './dialect.ts';
import { BLCKSZ } from './page.ts';
import type { ImageCompression } from './record.ts';
import {
  DEFAULT_SEGMENT_SIZE,
  pageHeaderSize,
  XLOG_BLCKSZ,
  XLP_FIRST_IS_CONTRECORD,
  XLP_LONG_HEADER,
} from './segment.ts';

export interface ImageSpec {
  /** The bytes as they lie in the record: without the hole, compressed if `compression` says so. */
  readonly bytes: Uint8Array;
  readonly holeOffset: number;
  readonly holeLength: number;
  readonly compression?: ImageCompression;
  readonly apply: boolean;
}

export interface BlockSpec {
  readonly id: number;
  readonly spcOid: number;
  readonly dbOid: number;
  readonly relNumber: number;
  readonly forkNum?: number;
  readonly blkno: number;
  readonly willInit?: boolean;
  /** Write the relation only where it differs from the block before. */
  readonly sameRel?: boolean;
  readonly data?: Uint8Array;
  readonly image?: ImageSpec;
}

export interface RecordSpec {
  readonly rmid: number;
  readonly info: number;
  readonly xid?: number;
  readonly origin?: number;
  readonly toplevelXid?: number;
  readonly blocks?: readonly BlockSpec[];
  readonly main?: Uint8Array;
}

/** An image without compression, the hole of a standard page cut out. */
export function imageOf(page: Uint8Array, apply: boolean): ImageSpec {
  const view = new DataView(page.buffer, page.byteOffset, BLCKSZ);
  const lower = view.getUint16(12, true);
  const upper = view.getUint16(14, true);
  const standard = lower >= 24 && upper > lower && upper <= BLCKSZ;
  if (!standard) return { bytes: page.slice(), holeOffset: 0, holeLength: 0, apply };
  const bytes = new Uint8Array(BLCKSZ - (upper - lower));
  bytes.set(page.subarray(0, lower));
  bytes.set(page.subarray(upper), lower);
  return { bytes, holeOffset: lower, holeLength: upper - lower, apply };
}

/** A record's bytes with xl_prev and xl_crc left zero. */
export function makeRecord(spec: RecordSpec, dialect: Pick<Dialect, 'imageBits'>): Uint8Array {
  const out = new Builder(512);
  out
    .u32le(0)
    .u32le(spec.xid ?? 0)
    .zeros(8)
    .u8(spec.info)
    .u8(spec.rmid)
    .zeros(6);
  for (const block of spec.blocks ?? []) blockHeader(out, block, dialect);
  if (spec.origin !== undefined) out.u8(253).u16le(spec.origin);
  if (spec.toplevelXid !== undefined) out.u8(252).u32le(spec.toplevelXid);
  const main = spec.main ?? new Uint8Array(0);
  if (main.length > 255) out.u8(254).u32le(main.length);
  else if (main.length > 0) out.u8(255).u8(main.length);
  for (const block of spec.blocks ?? []) {
    if (block.image !== undefined) out.raw(block.image.bytes);
    if (block.data !== undefined) out.raw(block.data);
  }
  const record = out.raw(main).finish();
  new DataView(record.buffer).setUint32(0, record.length, true);
  return record;
}

function blockHeader(out: Builder, block: BlockSpec, dialect: Pick<Dialect, 'imageBits'>): void {
  const { image, data } = block;
  let flags = block.forkNum ?? 0;
  if (image !== undefined) flags |= 0x10;
  if (data !== undefined && data.length > 0) flags |= 0x20;
  if (block.willInit) flags |= 0x40;
  if (block.sameRel) flags |= 0x80;
  out
    .u8(block.id)
    .u8(flags)
    .u16le(data?.length ?? 0);
  if (image !== undefined) imageHeader(out, image, dialect);
  if (!block.sameRel) out.u32le(block.spcOid).u32le(block.dbOid).u32le(block.relNumber);
  out.u32le(block.blkno);
}

function imageHeader(out: Builder, image: ImageSpec, { imageBits }: Pick<Dialect, 'imageBits'>): void {
  const compression = image.compression ?? 'none';
  let info = image.apply ? imageBits.apply : 0;
  if (image.holeLength > 0) info |= imageBits.hasHole;
  if (compression !== 'none') {
    assert(imageBits[compression] !== 0, `this major has no ${compression}`);
    info |= imageBits[compression];
  }
  out.u16le(image.bytes.length).u16le(image.holeOffset).u8(info);
  if (compression !== 'none' && image.holeLength > 0) out.u16le(image.holeLength);
}

export interface WalWriterOptions {
  /** Where the log begins: a page boundary, or a record boundary inside a page that others wrote. */
  readonly start: Lsn;
  readonly dialect: Pick<Dialect, 'xlogPageMagic' | 'imageBits'>;
  readonly prev?: Lsn;
  readonly segmentSize?: number;
  readonly systemId?: bigint;
  readonly timelineId?: number;
}

/** A log being written: records in, the bytes of its pages out. */
export class WalWriter {
  private readonly options: WalWriterOptions;
  private readonly segmentSize: number;
  private out = new Builder(XLOG_BLCKSZ);
  /** Where the next byte goes. */
  position: Lsn;
  /** Where the last record began. */
  prev: Lsn;

  constructor(options: WalWriterOptions) {
    this.options = options;
    this.segmentSize = options.segmentSize ?? DEFAULT_SEGMENT_SIZE;
    this.position = options.start;
    this.prev = options.prev ?? asLsn(0);
  }

  /** Append a record; where it begins and where the next may begin. */
  append(spec: RecordSpec): { lsn: Lsn; end: Lsn } {
    return this.appendRecord(makeRecord(spec, this.options.dialect));
  }

  /** Append a record made by `makeRecord`; xl_prev and xl_crc are filled in. */
  appendRecord(record: Uint8Array): { lsn: Lsn; end: Lsn } {
    this.pad(alignLsn(this.position) - this.position);
    if (this.position % XLOG_BLCKSZ === 0) this.pageHeader(0);
    const begin = this.position;
    const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
    writeLsnLE(view, 8, this.prev);
    view.setUint32(20, recordCrc(record, view, 0, record.length), true);
    for (let at = 0; at < record.length; ) {
      if (this.position % XLOG_BLCKSZ === 0) this.pageHeader(record.length - at);
      const room = XLOG_BLCKSZ - (this.position % XLOG_BLCKSZ);
      const count = Math.min(room, record.length - at);
      this.raw(record.subarray(at, at + count));
      at += count;
    }
    this.prev = begin;
    const isSwitch = view.getUint8(17) === 0 && (view.getUint8(16) & 0xf0) === 0x40;
    const end = alignLsn(this.position);
    this.pad(end - this.position);
    if (isSwitch && this.position % this.segmentSize !== 0) {
      this.pad(this.segmentSize - (this.position % this.segmentSize));
    }
    return { lsn: begin, end: this.position };
  }

  /** The bytes written since the last call. */
  take(): Uint8Array {
    const bytes = this.out.finish();
    this.out = new Builder(XLOG_BLCKSZ);
    return bytes;
  }

  private raw(bytes: Uint8Array): void {
    this.out.raw(bytes);
    this.position = asLsn(this.position + bytes.length);
  }

  private pad(count: number): void {
    this.out.zeros(count);
    this.position = asLsn(this.position + count);
  }

  private pageHeader(remaining: number): void {
    const page = this.position;
    const size = pageHeaderSize(page, this.segmentSize);
    const header = new Builder(size);
    const long = page % this.segmentSize === 0;
    header
      .u16le(this.options.dialect.xlogPageMagic)
      .u16le((long ? XLP_LONG_HEADER : 0) | (remaining > 0 ? XLP_FIRST_IS_CONTRECORD : 0))
      .u32le(this.options.timelineId ?? 1)
      .lsnle(page)
      .u32le(remaining)
      .zeros(4);
    if (long)
      header
        .u64le(this.options.systemId ?? 1n)
        .u32le(this.segmentSize)
        .u32le(XLOG_BLCKSZ);
    this.raw(header.finish());
  }
}
