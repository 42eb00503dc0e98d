import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Lsn, parseLsn } from '../base/lsn.ts';
import { pg17 } from './dialects/17.ts';
import { WalReader } from './reader.ts';
import { WalRecord } from './record.ts';
import {
  LONG_PAGE_HEADER_SIZE,
  pageHeaderOf,
  pageHeaderSize,
  parseSegmentFileName,
  readPageHeader,
  SHORT_PAGE_HEADER_SIZE,
  segmentBefore,
  segmentFileName,
  segmentOf,
  segmentOffset,
  segmentPrefix,
  segmentSizeIsValid,
  segmentStart,
  writePageHeader,
  XLOG_BLCKSZ,
  XLP_FIRST_IS_CONTRECORD,
  XLP_LONG_HEADER,
} from './segment.ts';

const MiB = 1024 * 1024;
const sizes = fc.integer({ min: 0, max: 10 }).map(n => MiB * 2 ** n);
const anyLsn = fc.integer({ min: 1, max: 2 ** 50 });
const log = { magic: pg17.xlogPageMagic, tli: 1, sysid: 7710080762083490551n, segmentSize: 16 * MiB };

describe('segments', () => {
  test('sizes are powers of two from 1 MiB to 1 GiB', () => {
    const valid = [1, 2, 16, 1024].map(n => n * MiB);
    const invalid = [0, 1, MiB / 2, 3 * MiB, 2048 * MiB, -MiB];
    expect(valid.map(segmentSizeIsValid)).toEqual(valid.map(() => true));
    expect(invalid.map(segmentSizeIsValid)).toEqual(invalid.map(() => false));
  });

  test('a position is where its segment begins plus its offset', () => {
    fc.assert(
      fc.property(anyLsn, sizes, (lsn, size) => {
        const segno = segmentOf(lsn, size);
        expect(segmentStart(segno, size) + segmentOffset(lsn, size)).toBe(lsn);
        expect(segmentBefore(lsn, size)).toBe(lsn % size === 0 ? segno - 1 : segno);
      }),
    );
  });

  test('names go there and back, in the order of the log', () => {
    fc.assert(
      fc.property(anyLsn, sizes, fc.integer({ min: 1, max: 0xffffffff }), (lsn, size, tli) => {
        const segno = segmentOf(lsn, size);
        const name = segmentFileName(tli, segno, size);
        expect(parseSegmentFileName(name, size)).toEqual({ tli, segno, partial: false });
        expect(parseSegmentFileName(`${name}.partial`, size)).toEqual({ tli, segno, partial: true });
        expect(name < segmentFileName(tli, segno + 1, size)).toBe(true);
      }),
    );
    expect(segmentFileName(1, segmentOf(parseLsn('1/FF000000'), 16 * MiB), 16 * MiB)).toBe(
      '0000000100000001000000FF',
    );
    expect(segmentFileName(2, 5, 1024 * MiB)).toBe('000000020000000100000001');
  });

  test('what is no segment has no number', () => {
    for (const name of [
      '00000001.history',
      '00000001000000000000010',
      '000000010000000000000100',
      'archive_status',
    ]) {
      expect(parseSegmentFileName(name, 16 * MiB)).toBeUndefined();
    }
    expect(parseSegmentFileName('000000010000000000000100', MiB)?.segno).toBe(256);
  });
});

describe('page headers', () => {
  test('long on the first page of a segment, short elsewhere', () => {
    const view = new DataView(new ArrayBuffer(64));
    for (const [pageAddr, remLen] of [
      [0x3000000, 0],
      [0x3002000, 0],
      [0x3000000, 99],
      [0x3002000, 99],
    ] as const) {
      const header = pageHeaderOf(log, pageAddr as Lsn, remLen);
      const size = writePageHeader(view, 8, header);
      expect(size).toBe(pageHeaderSize(pageAddr, log.segmentSize));
      expect(size).toBe(pageAddr === 0x3000000 ? LONG_PAGE_HEADER_SIZE : SHORT_PAGE_HEADER_SIZE);
      expect(readPageHeader(view, 8)).toEqual(header);
      expect(header.info & XLP_FIRST_IS_CONTRECORD).toBe(remLen === 0 ? 0 : XLP_FIRST_IS_CONTRECORD);
      expect((header.info & XLP_LONG_HEADER) !== 0).toBe(size === LONG_PAGE_HEADER_SIZE);
    }
    expect(() => readPageHeader(view, 48)).toThrow('at least 24 bytes');
  });

  test('a segment begun at a position is entered there', () => {
    const starts = [
      '0/3000000',
      '0/3000028',
      '0/3000040',
      '0/3001FF8',
      '0/3002000',
      '0/3002018',
      '0/3ABC128',
    ];
    for (const text of starts) {
      const lsn = parseLsn(text);
      const bytes = segmentPrefix(log, lsn);
      const page = lsn - (lsn % XLOG_BLCKSZ);
      expect(bytes.length).toBe(page - 0x3000000 + XLOG_BLCKSZ);
      // Whoever enters by the page passes over what is before the position and looks for a record there.
      const reader = new WalReader({ start: page as Lsn, dialect: pg17, resync: true });
      reader.push(bytes.slice(page - 0x3000000));
      const header = pageHeaderSize(page, log.segmentSize);
      const first = Math.max(lsn, page + header);
      expect(() => reader.next(new WalRecord())).toThrow(
        `no record at 0/${first.toString(16).toUpperCase()}`,
      );
      expect(reader.systemId).toBe(page === 0x3000000 ? log.sysid : undefined);
    }
  });

  test('no position within a page header', () => {
    expect(() => segmentPrefix(log, parseLsn('0/3000020'))).toThrow('within a page header');
    expect(() => segmentPrefix(log, parseLsn('0/3002010'))).toThrow('within a page header');
  });
});
