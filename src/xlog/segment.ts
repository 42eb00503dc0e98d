// WAL segments: how a log is cut into files, what the files are called, and the header of each page.
//
//   name      TTTTTTTTLLLLLLLLSSSSSSSS   timeline, segno div n, segno mod n (hex, n = 4 GiB / segment size)
//   contents  | long page header 40 | ... 8192 | short page header 24 | ... 8192 | ...
//
//   page header:   0 xlp_magic u16 | 2 xlp_info u16 | 4 xlp_tli u32 | 8 xlp_pageaddr u64 | 16 xlp_rem_len u32
//     long, adds: 24 xlp_sysid u64 | 32 xlp_seg_size u32 | 36 xlp_xlog_blcksz u32
//
// The long header stands on the first page of a segment, the short one elsewhere. xlp_rem_len is how much of a
// record begun on an earlier page is still to come, with flag 1. Segments are 1 MiB to 1 GiB, a power of two;
// Neon's are 16 MiB. The magic tells the major (dialects).
//
// `segmentPrefix` makes what must stand in a segment before its first record when nobody wrote it: a compute
// that starts from a base backup goes on with the log in the middle of a page.
//
// Mirrors xlog_internal.h.

import { assert } from '../base/assert.ts';
import { Fault } from '../base/fault.ts';
import { formatLsn, type Lsn, readLsnLE, writeLsnLE } from '../base/lsn.ts';

export const XLOG_BLCKSZ = 8192;
export const DEFAULT_SEGMENT_SIZE = 16 * 1024 * 1024;
export const SEGMENT_SIZE_MIN = 1024 * 1024;
export const SEGMENT_SIZE_MAX = 1024 * 1024 * 1024;

/** SizeOfXLogShortPHD and SizeOfXLogLongPHD */
export const SHORT_PAGE_HEADER_SIZE = 24;
export const LONG_PAGE_HEADER_SIZE = 40;

export const XLP_FIRST_IS_CONTRECORD = 0x0001;
export const XLP_LONG_HEADER = 0x0002;
export const XLP_BKP_REMOVABLE = 0x0004;
export const XLP_FIRST_IS_OVERWRITE_CONTRECORD = 0x0008;
export const XLP_ALL_FLAGS = 0x000f;

/** IsValidWalSegSize */
export const segmentSizeIsValid = (size: number): boolean =>
  size >= SEGMENT_SIZE_MIN && size <= SEGMENT_SIZE_MAX && (size & (size - 1)) === 0;

/** XLByteToSeg */
export const segmentOf = (lsn: number, segmentSize: number): number => Math.floor(lsn / segmentSize);

/** XLByteToPrevSeg: the segment that holds the byte before; for a position that ends something. */
export const segmentBefore = (lsn: number, segmentSize: number): number => segmentOf(lsn - 1, segmentSize);

export const segmentStart = (segno: number, segmentSize: number): Lsn => (segno * segmentSize) as Lsn;

/** XLogSegmentOffset */
export const segmentOffset = (lsn: number, segmentSize: number): number => lsn % segmentSize;

/** The size of the page header at a page's start. */
export const pageHeaderSize = (pageAddr: number, segmentSize: number): number =>
  pageAddr % segmentSize === 0 ? LONG_PAGE_HEADER_SIZE : SHORT_PAGE_HEADER_SIZE;

const hex8 = (n: number): string => n.toString(16).toUpperCase().padStart(8, '0');

const segmentsPerId = (segmentSize: number): number => 0x1_0000_0000 / segmentSize;

/** XLogFileName */
export function segmentFileName(tli: number, segno: number, segmentSize: number): string {
  assert(segmentSizeIsValid(segmentSize), `segment size ${segmentSize}`);
  const perId = segmentsPerId(segmentSize);
  return hex8(tli) + hex8(Math.floor(segno / perId)) + hex8(segno % perId);
}

export interface SegmentName {
  readonly tli: number;
  readonly segno: number;
  /** The end of a timeline, archived before it was full, or still being received. */
  readonly partial: boolean;
}

/** XLogFromFileName; undefined for what is no segment's name. */
export function parseSegmentFileName(name: string, segmentSize: number): SegmentName | undefined {
  const match = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?$/.exec(name);
  if (!match) return undefined;
  const perId = segmentsPerId(segmentSize);
  const low = parseInt(match[3]!, 16);
  if (low >= perId) return undefined;
  return {
    tli: parseInt(match[1]!, 16),
    segno: parseInt(match[2]!, 16) * perId + low,
    partial: match[4] !== undefined,
  };
}

export interface XLogPageHeader {
  readonly magic: number;
  readonly info: number;
  readonly tli: number;
  readonly pageAddr: Lsn;
  readonly remLen: number;
  /** Only in a long header. */
  readonly long?: { readonly sysid: bigint; readonly segSize: number; readonly xlogBlcksz: number };
}

/** A page header as it stands; whether it is the right one is for the caller to say. */
export function readPageHeader(view: DataView, at: number): XLogPageHeader {
  const left = view.byteLength - at;
  if (left < SHORT_PAGE_HEADER_SIZE) throw tooShort(left);
  const info = view.getUint16(at + 2, true);
  const header = {
    magic: view.getUint16(at, true),
    info,
    tli: view.getUint32(at + 4, true),
    pageAddr: readLsnLE(view, at + 8),
    remLen: view.getUint32(at + 16, true),
  };
  if ((info & XLP_LONG_HEADER) === 0) return header;
  if (left < LONG_PAGE_HEADER_SIZE) throw tooShort(left);
  const long = {
    sysid: view.getBigUint64(at + 24, true),
    segSize: view.getUint32(at + 32, true),
    xlogBlcksz: view.getUint32(at + 36, true),
  };
  return { ...header, long };
}

const tooShort = (left: number): Fault =>
  new Fault(
    'wal-page-header',
    `a WAL page header is at least ${SHORT_PAGE_HEADER_SIZE} bytes, ${left} are left`,
  );

/** Write a header, short or long as it says; returns its size. The padding is zeroed. */
export function writePageHeader(view: DataView, at: number, header: XLogPageHeader): number {
  const long = header.long;
  assert(((header.info & XLP_LONG_HEADER) !== 0) === (long !== undefined), 'the flag of a long header');
  view.setUint16(at, header.magic, true);
  view.setUint16(at + 2, header.info, true);
  view.setUint32(at + 4, header.tli, true);
  writeLsnLE(view, at + 8, header.pageAddr);
  view.setUint32(at + 16, header.remLen, true);
  view.setUint32(at + 20, 0, true);
  if (long === undefined) return SHORT_PAGE_HEADER_SIZE;
  view.setBigUint64(at + 24, long.sysid, true);
  view.setUint32(at + 32, long.segSize, true);
  view.setUint32(at + 36, long.xlogBlcksz, true);
  return LONG_PAGE_HEADER_SIZE;
}

export interface LogIdentity {
  readonly magic: number;
  readonly tli: number;
  readonly sysid: bigint;
  readonly segmentSize: number;
}

/** The header of the page at `pageAddr` of a log; `remLen` bytes of a record begun before it are still to come. */
export function pageHeaderOf(log: LogIdentity, pageAddr: Lsn, remLen = 0): XLogPageHeader {
  assert(pageAddr % XLOG_BLCKSZ === 0, `${formatLsn(pageAddr)} begins no page`);
  const info = remLen === 0 ? 0 : XLP_FIRST_IS_CONTRECORD;
  const header = { magic: log.magic, info, tli: log.tli, pageAddr, remLen };
  if (pageAddr % log.segmentSize !== 0) return header;
  const long = { sysid: log.sysid, segSize: log.segmentSize, xlogBlcksz: XLOG_BLCKSZ };
  return { ...header, info: info | XLP_LONG_HEADER, long };
}

/**
 * A segment up to the page of `lsn`, where the first record will be written: the long header of its first page
 * and, when `lsn` lies on a later page, that page's header. A header followed by a gap says that a record ends
 * where the gap does, so that a reader who enters by the page finds `lsn`. All else is zeroes, as is the rest of
 * the segment. Answers to generate_wal_segment of Neon's xlog_utils.rs.
 */
export function segmentPrefix(log: LogIdentity, lsn: Lsn): Uint8Array {
  const offset = segmentOffset(lsn, log.segmentSize);
  const start = (lsn - offset) as Lsn;
  const inPage = offset % XLOG_BLCKSZ;
  const page = (lsn - inPage) as Lsn;
  const headerSize = pageHeaderSize(page, log.segmentSize);
  assert(inPage === 0 || inPage >= headerSize, `${formatLsn(lsn)} lies within a page header`);
  const bytes = new Uint8Array(offset - inPage + XLOG_BLCKSZ);
  const view = new DataView(bytes.buffer);
  writePageHeader(view, 0, pageHeaderOf(log, start));
  writePageHeader(view, page - start, pageHeaderOf(log, page, inPage === 0 ? 0 : inPage - headerSize));
  return bytes;
}
