// WAL as a compute would write it, crafted simply: records of no meaning (XLOG_NOOP) with real page headers,
// continuations and checksums, from any record boundary on. Each payload says who wrote it and repeats a canary,
// so that two writers never write the same bytes and plaintext on a disk is found.
//
//   record: | header 24 | 0xFE, length u32 (or 0xFF, length u8) | payload | zeros to a multiple of 8
//
// A switch record (XLOG_SWITCH) ends a segment: zeros follow, with page headers, up to the next one.

import { assert } from '../../src/base/assert.ts';
import type { Lsn } from '../../src/base/lsn.ts';
import { writeLsnLE } from '../../src/base/lsn.ts';
import { recordCrc } from '../../src/xlog/crc32c.ts';
import { dialectOfVersionNumber } from '../../src/xlog/dialects/all.ts';
import {
  type LogIdentity,
  pageHeaderOf,
  pageHeaderSize,
  writePageHeader,
  XLOG_BLCKSZ,
} from '../../src/xlog/segment.ts';

const RM_XLOG_ID = 0;
const XLOG_NOOP = 0x20;
const XLOG_SWITCH = 0x40;
const HEADER_SIZE = 24;

export const CANARY = 'plaintext-canary-';

export class ModelWal {
  readonly start: Lsn;
  end: Lsn;
  private readonly log: LogIdentity;
  private buffer = new Uint8Array(4096);
  private view = new DataView(this.buffer.buffer);
  private previous = 0;
  /** Ends of records, in order; the start is one too. */
  readonly boundaries: Lsn[];

  constructor(start: Lsn, options: { pgVersion: number; segmentSize: number; systemId?: bigint }) {
    assert(start % 8 === 0, 'WAL begins at a multiple of eight');
    this.start = start;
    this.end = start;
    this.boundaries = [start];
    this.log = {
      magic: dialectOfVersionNumber(options.pgVersion, 'neon').xlogPageMagic,
      tli: 1,
      sysid: options.systemId ?? 1n,
      segmentSize: options.segmentSize,
    };
  }

  /** The bytes of [from, to), a view. */
  bytes(from: number, to: number): Uint8Array {
    assert(from >= this.start && to <= this.end && from <= to, 'outside of what was written');
    return this.buffer.subarray(from - this.start, to - this.start);
  }

  /** One record; where it ends. */
  add(payload: Uint8Array): Lsn {
    const short = payload.length <= 255;
    const prefix = short ? 2 : 5;
    const record = new Uint8Array(HEADER_SIZE + prefix + payload.length);
    const view = new DataView(record.buffer);
    record[HEADER_SIZE] = short ? 0xff : 0xfe;
    if (short) record[HEADER_SIZE + 1] = payload.length;
    else view.setUint32(HEADER_SIZE + 1, payload.length, true);
    record.set(payload, HEADER_SIZE + prefix);
    return this.put(record, XLOG_NOOP);
  }

  /** A switch: the rest of the segment is left empty. */
  addSwitch(): Lsn {
    this.put(new Uint8Array(HEADER_SIZE), XLOG_SWITCH);
    const { segmentSize } = this.log;
    while (this.end % segmentSize !== 0) {
      if (this.end % XLOG_BLCKSZ === 0) this.pageHeader(0);
      else this.raw(new Uint8Array(XLOG_BLCKSZ - (this.end % XLOG_BLCKSZ)));
    }
    this.boundaries[this.boundaries.length - 1] = this.end;
    return this.end;
  }

  /** A payload of about `size` bytes that names its writer. */
  static payload(writer: string, sequence: number, size: number): Uint8Array {
    const text = `${CANARY}${writer}-${sequence}-`;
    const bytes = new Uint8Array(Math.max(size, text.length));
    const encoded = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length; at += encoded.length) {
      bytes.set(encoded.subarray(0, Math.min(encoded.length, bytes.length - at)), at);
    }
    return bytes;
  }

  private put(record: Uint8Array, info: number): Lsn {
    const view = new DataView(record.buffer);
    view.setUint32(0, record.length, true);
    writeLsnLE(view, 8, this.previous);
    record[16] = info;
    record[17] = RM_XLOG_ID;
    view.setUint32(20, recordCrc(record, view, 0, record.length), true);
    if (this.end % XLOG_BLCKSZ === 0) this.pageHeader(0);
    this.previous = this.end;
    for (let at = 0; at < record.length; ) {
      if (this.end % XLOG_BLCKSZ === 0) this.pageHeader(record.length - at);
      const count = Math.min(record.length - at, XLOG_BLCKSZ - (this.end % XLOG_BLCKSZ));
      this.raw(record.subarray(at, at + count));
      at += count;
    }
    if (this.end % 8 !== 0) this.raw(new Uint8Array(8 - (this.end % 8)));
    this.boundaries.push(this.end);
    return this.end;
  }

  private pageHeader(remLen: number): void {
    const size = pageHeaderSize(this.end, this.log.segmentSize);
    const at = this.end - this.start;
    this.room(at + size);
    writePageHeader(this.view, at, pageHeaderOf(this.log, this.end, remLen));
    this.end = (this.end + size) as Lsn;
  }

  private raw(bytes: Uint8Array): void {
    const at = this.end - this.start;
    this.room(at + bytes.length);
    this.buffer.set(bytes, at);
    this.end = (this.end + bytes.length) as Lsn;
  }

  private room(wanted: number): void {
    if (wanted <= this.buffer.length) return;
    const grown = new Uint8Array(Math.max(wanted, this.buffer.length * 2));
    grown.set(this.buffer);
    this.buffer = grown;
    this.view = new DataView(grown.buffer);
  }
}
