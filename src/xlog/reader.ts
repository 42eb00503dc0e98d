// WAL bytes in, at any chunking; whole, checked records out. No I/O, no clock: push a chunk, take records until
// `next` says there are no more, push the next chunk.
//
//   segment: | long page header 40 | ... | short page header 24 | ... |      one page = 8192 bytes
//   page header:  0 xlp_magic u16 | 2 xlp_info u16 | 4 xlp_tli u32 | 8 xlp_pageaddr u64 | 16 xlp_rem_len u32
//     long, adds: 24 xlp_sysid u64 | 32 xlp_seg_size u32 | 36 xlp_xlog_blcksz u32
//
// A record that lies within one page and one chunk is decoded where it lies; one that crosses a page or a chunk
// is put together in a buffer of its own, which grows with what has arrived, never with what a length claims.
// A decoded record is good until the next call of `next`.
//
// Checked: magic, page address, timelines in order, continuation flag and remaining length, segment and page size,
// record length, manager id, CRC-32C, block headers. What does not hold is a Fault with LSN and reason:
// `wal-page-header`, `wal-record`, `wal-crc`; zeros where a page or a record should begin, and the pages of a
// recycled segment, are `wal-end`, the way a log ends. After a Fault the reader is spent.
//
// A log may be entered at any record boundary, or, with `resync`, at any page boundary: the tail of a record
// begun before is then passed over. A record cut short by a crash and overwritten (OVERWRITE_CONTRECORD) is
// dropped, and its LSN told in `overwrittenLsn`.
//
// Mirrors XLogReadRecord, XLogReaderValidatePageHeader and XLogFindNextRecord of xlogreader.c.

import { assert } from '../base/assert.ts';
import { Fault } from '../base/fault.ts';
import { alignLsn, formatLsn, INVALID_LSN, type Lsn } from '../base/lsn.ts';
import { recordCrc } from './crc32c.ts';
import type { ImageBits } from './dialect.ts';
import { decodeRecord, type WalRecord, XLOG_RECORD_HEADER_SIZE, XLOG_RECORD_MAX_SIZE } from './record.ts';
import {
  DEFAULT_SEGMENT_SIZE,
  LONG_PAGE_HEADER_SIZE,
  SHORT_PAGE_HEADER_SIZE,
  XLOG_BLCKSZ,
  XLP_ALL_FLAGS,
  XLP_FIRST_IS_CONTRECORD,
  XLP_FIRST_IS_OVERWRITE_CONTRECORD,
  XLP_LONG_HEADER,
} from './segment.ts';

const RM_XLOG_ID = 0;
const XLOG_SWITCH = 0x40;
const RM_MAX_BUILTIN_ID = 21;
const RM_MIN_CUSTOM_ID = 128;

/** Of the low bits of an LSN: its place in the page. `%` of a number past 2^31 would be a call of its own. */
const PAGE_MASK = XLOG_BLCKSZ - 1;

const ASSEMBLY_SIZE = 64 * 1024;
const ASSEMBLY_KEEP_MAX = 1024 * 1024;

export interface WalReaderOptions {
  /** Where the first pushed byte lies in the log. */
  readonly start: Lsn;
  readonly dialect: { readonly xlogPageMagic: number; readonly imageBits: ImageBits };
  readonly segmentSize?: number;
  /** Start is a page boundary, not a record boundary: find the first record that begins after it. */
  readonly resync?: boolean;
  /** Each record must name the one before it (xl_prev). Off where a log is read across a branch point. */
  readonly checkPrev?: boolean;
}

export class WalReader {
  private readonly magic: number;
  private readonly bits: ImageBits;
  private readonly segmentSize: number;
  private readonly checkPrev: boolean;

  private chunk: Uint8Array = new Uint8Array(0);
  private view: DataView = new DataView(new ArrayBuffer(0));
  private at = 0;
  private end = 0;
  /** The log position of `chunk[at]`. */
  private lsn: number;

  /** A page header cut by the end of a chunk. */
  private readonly header = new Uint8Array(LONG_PAGE_HEADER_SIZE);
  private readonly headerView = new DataView(this.header.buffer);
  private headerFill = 0;
  private pageInfo = 0;
  private remLen = 0;

  /** A record cut by the end of a page or a chunk: its bytes so far, its length once known. */
  private assembly = new Uint8Array(ASSEMBLY_SIZE);
  private assemblyView = new DataView(this.assembly.buffer);
  private assembling = false;
  private fill = 0;
  private total = 0;
  private recordLsn = 0;

  /** Bytes up to here are passed over: the rest of a segment after a switch. */
  private skipTo = 0;
  private resync: boolean;
  private spent: Fault | undefined;

  /** Where the last record began; INVALID_LSN before the first. */
  lastRecordLsn: Lsn = INVALID_LSN;
  /** Where the last record ended, aligned: everything before this is whole. */
  recordEnd: Lsn;
  /** The record that was cut short and overwritten, if the log holds one. */
  overwrittenLsn: Lsn = INVALID_LSN;
  /** From the first long page header met. */
  systemId: bigint | undefined;
  timelineId = 0;

  constructor(options: WalReaderOptions) {
    this.magic = options.dialect.xlogPageMagic;
    this.bits = options.dialect.imageBits;
    this.segmentSize = options.segmentSize ?? DEFAULT_SEGMENT_SIZE;
    this.checkPrev = options.checkPrev ?? false;
    this.resync = options.resync ?? false;
    this.lsn = options.start;
    this.recordEnd = options.start;
    assert(!this.resync || options.start % XLOG_BLCKSZ === 0, 'resync starts at a page boundary');
    assert(options.start % 8 === 0, 'a log is entered at a multiple of eight');
  }

  /** The log position after the last byte taken in. */
  get position(): Lsn {
    return (this.lsn + this.headerFill + (this.end - this.at)) as Lsn;
  }

  /** Hand over the next bytes of the log. The chunk must not change until `next` has said false. */
  push(chunk: Uint8Array): void {
    assert(this.at === this.end, 'the chunk before is not used up');
    this.chunk = chunk;
    this.view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    this.at = 0;
    this.end = chunk.length;
  }

  /** The next whole record, decoded into `record`; false when more bytes are needed. */
  next(record: WalRecord): boolean {
    if (this.spent !== undefined) throw this.spent;
    try {
      return this.advance(record);
    } catch (error) {
      if (error instanceof Fault) this.spent = error;
      throw error;
    }
  }

  private advance(record: WalRecord): boolean {
    for (;;) {
      if (this.lsn < this.skipTo && !this.skip()) return false;
      if ((this.lsn & PAGE_MASK) === 0) {
        if (!this.pageHeader()) return false;
        continue;
      }
      if (this.assembling) {
        if (!this.assemble()) {
          if (this.at === this.end) return false;
          continue;
        }
        this.assembling = false;
        this.finish(record, this.assembly, this.assemblyView, 0, this.total);
        return true;
      }
      const inPage = XLOG_BLCKSZ - (this.lsn & PAGE_MASK);
      const inChunk = this.end - this.at;
      if (inChunk === 0) return false;
      this.recordLsn = this.lsn;
      if (inChunk >= 4) {
        const total = this.view.getUint32(this.at, true);
        this.checkLength(total);
        if (total <= inPage && total <= inChunk) {
          const offset = this.at;
          this.consume(total);
          this.finish(record, this.chunk, this.view, offset, total);
          return true;
        }
      }
      this.beginAssembly();
    }
  }

  /** Check and decode a record that lies whole in a buffer; `lsn` is just past it. */
  private finish(record: WalRecord, bytes: Uint8Array, view: DataView, offset: number, total: number): void {
    const lsn = this.recordLsn as Lsn;
    this.checkHeader(view, offset);
    if (recordCrc(bytes, view, offset, total) !== view.getUint32(offset + 20, true)) {
      throw new Fault('wal-crc', `incorrect checksum of the WAL record at ${formatLsn(lsn)}`);
    }
    let end: number = alignLsn(this.lsn);
    const info = view.getUint8(offset + 16);
    if (view.getUint8(offset + 17) === RM_XLOG_ID && (info & 0xf0) === XLOG_SWITCH) {
      const rest = end % this.segmentSize;
      if (rest !== 0) end += this.segmentSize - rest;
    }
    decodeRecord(record, bytes, view, offset, lsn, end as Lsn, this.bits);
    if (this.checkPrev) this.checkPrevLink(record);
    this.lastRecordLsn = lsn;
    this.recordEnd = end as Lsn;
    this.skipTo = end;
  }

  /** Of the first record nothing is known but that the one before it lies before it. */
  private checkPrevLink({ prev, lsn }: WalRecord): void {
    const last = this.lastRecordLsn;
    if (last === INVALID_LSN ? prev < lsn : prev === last) return;
    const wanted = last === INVALID_LSN ? '' : `, not ${formatLsn(last)}`;
    throw new Fault('wal-record', `record at ${formatLsn(lsn)} has prev-link ${formatLsn(prev)}${wanted}`);
  }

  private checkLength(total: number): void {
    if (total === 0) {
      throw new Fault('wal-end', `no record at ${formatLsn(this.recordLsn)}: zeros where one should begin`);
    }
    if (total < XLOG_RECORD_HEADER_SIZE || total > XLOG_RECORD_MAX_SIZE) {
      throw new Fault('wal-record', `invalid record length ${total} at ${formatLsn(this.recordLsn)}`);
    }
  }

  private checkHeader(view: DataView, offset: number): void {
    const rmid = view.getUint8(offset + 17);
    if (rmid > RM_MAX_BUILTIN_ID && rmid < RM_MIN_CUSTOM_ID) {
      throw new Fault('wal-record', `invalid resource manager ${rmid} at ${formatLsn(this.recordLsn)}`);
    }
  }

  private beginAssembly(): void {
    this.assembling = true;
    this.fill = 0;
    this.total = 0;
    if (this.assembly.length > ASSEMBLY_KEEP_MAX) {
      this.assembly = new Uint8Array(ASSEMBLY_SIZE);
      this.assemblyView = new DataView(this.assembly.buffer);
    }
  }

  /** Take what this page and chunk hold of the record being put together; true when it is whole. */
  private assemble(): boolean {
    if (this.total === 0) {
      // A record begins at a multiple of eight, so its length never crosses a page.
      this.take(Math.min(4 - this.fill, this.end - this.at));
      if (this.fill < 4) return false;
      this.total = this.assemblyView.getUint32(0, true);
      this.checkLength(this.total);
    }
    const inPage = XLOG_BLCKSZ - (this.lsn & PAGE_MASK);
    this.take(Math.min(this.total - this.fill, inPage, this.end - this.at));
    if (this.fill >= XLOG_RECORD_HEADER_SIZE) this.checkHeader(this.assemblyView, 0);
    return this.fill === this.total;
  }

  private take(count: number): void {
    const wanted = this.fill + count;
    if (wanted > this.assembly.length) {
      const grown = new Uint8Array(Math.max(wanted, this.assembly.length * 2));
      grown.set(this.assembly.subarray(0, this.fill));
      this.assembly = grown;
      this.assemblyView = new DataView(grown.buffer);
    }
    if (count > 0) this.assembly.set(this.chunk.subarray(this.at, this.at + count), this.fill);
    this.fill = wanted;
    this.consume(count);
  }

  private consume(count: number): void {
    this.at += count;
    this.lsn += count;
  }

  /** Pass over padding, or the rest of a switched segment; true when through. */
  private skip(): boolean {
    this.consume(Math.min(this.skipTo - this.lsn, this.end - this.at));
    return this.lsn >= this.skipTo;
  }

  /** Read and check the page header at `lsn`; false when it is not all there. */
  private pageHeader(): boolean {
    const size = this.lsn % this.segmentSize === 0 ? LONG_PAGE_HEADER_SIZE : SHORT_PAGE_HEADER_SIZE;
    const inChunk = this.end - this.at;
    if (this.headerFill === 0 && inChunk >= size) {
      this.checkPageHeader(this.view, this.at, size);
      this.at += size;
    } else {
      const count = Math.min(size - this.headerFill, inChunk);
      this.header.set(this.chunk.subarray(this.at, this.at + count), this.headerFill);
      this.headerFill += count;
      this.at += count;
      if (this.headerFill < size) return false;
      this.headerFill = 0;
      this.checkPageHeader(this.headerView, 0, size);
    }
    const page = this.lsn;
    this.lsn += size;
    if (this.resync) this.passContinuation(page);
    return true;
  }

  private checkPageHeader(view: DataView, at: number, size: number): void {
    const magic = view.getUint16(at, true);
    const info = view.getUint16(at + 2, true);
    const address = readPageAddress(view, at + 8);
    this.remLen = view.getUint32(at + 16, true);
    this.pageInfo = info;
    if (magic !== this.magic) {
      if (magic === 0 && address === 0)
        throw new Fault('wal-end', `no page at ${formatLsn(this.lsn)}: zeros`);
      throw this.badPage(`magic 0x${hex4(magic)}, not 0x${hex4(this.magic)}`);
    }
    if ((info & ~XLP_ALL_FLAGS) !== 0) throw this.badPage(`info bits 0x${hex4(info)}`);
    if (address < this.lsn) {
      const what = `a page of older log (${formatLsn(address)}), left from a recycled segment`;
      throw new Fault('wal-end', `no page at ${formatLsn(this.lsn)}: ${what}`);
    }
    if (address !== this.lsn) throw this.badPage(`address ${formatLsn(address)}`);
    const timelineId = view.getUint32(at + 4, true);
    if (timelineId < this.timelineId) throw this.badPage(`timeline ${timelineId} after ${this.timelineId}`);
    this.timelineId = timelineId;
    if ((info & XLP_LONG_HEADER) !== 0) {
      if (size !== LONG_PAGE_HEADER_SIZE) throw this.badPage('a long header inside a segment');
      this.checkLongHeader(view, at);
    } else if (size === LONG_PAGE_HEADER_SIZE) {
      throw this.badPage('a short header at the start of a segment');
    }
    if (!this.resync) this.checkContinuation(info);
  }

  private checkLongHeader(view: DataView, at: number): void {
    const systemId = view.getBigUint64(at + 24, true);
    const segmentSize = view.getUint32(at + 32, true);
    const blockSize = view.getUint32(at + 36, true);
    if (segmentSize !== this.segmentSize)
      throw this.badPage(`segment size ${segmentSize}, not ${this.segmentSize}`);
    if (blockSize !== XLOG_BLCKSZ) throw this.badPage(`block size ${blockSize}`);
    if (this.systemId !== undefined && this.systemId !== systemId) {
      throw this.badPage(`system identifier ${systemId}, not ${this.systemId}`);
    }
    this.systemId = systemId;
  }

  private checkContinuation(info: number): void {
    const continues = (info & XLP_FIRST_IS_CONTRECORD) !== 0;
    if (!this.assembling) {
      if (continues) throw this.badPage('it continues a record, and none is open');
      return;
    }
    if ((info & XLP_FIRST_IS_OVERWRITE_CONTRECORD) !== 0) {
      this.overwrittenLsn = this.recordLsn as Lsn;
      this.assembling = false;
      return;
    }
    if (!continues) throw this.badPage(`the record at ${formatLsn(this.recordLsn)} is not continued`);
    if (this.remLen !== this.total - this.fill) {
      throw this.badPage(
        `${this.remLen} bytes of the record continue, ${this.total - this.fill} are missing`,
      );
    }
  }

  /** Entering a log at a page boundary: pass over the tail of the record that began before. */
  private passContinuation(page: number): void {
    const rest = (this.pageInfo & XLP_FIRST_IS_CONTRECORD) !== 0 ? alignLsn(this.remLen) : 0;
    if (this.lsn + rest >= page + XLOG_BLCKSZ) {
      this.skipTo = page + XLOG_BLCKSZ;
      return;
    }
    this.skipTo = this.lsn + rest;
    this.recordEnd = this.skipTo as Lsn;
    this.resync = false;
  }

  private badPage(reason: string): Fault {
    return new Fault('wal-page-header', `bad WAL page header at ${formatLsn(this.lsn)}: ${reason}`);
  }
}

const hex4 = (n: number): string => n.toString(16).padStart(4, '0').toUpperCase();

/** An address as damaged bytes may have it: past 2^53 it is just wrong, not an error of its own. */
function readPageAddress(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}
