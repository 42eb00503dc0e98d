import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isFault } from '../base/fault.ts';
import { alignLsn, type Lsn, lsn } from '../base/lsn.ts';
import { recordCrc } from './crc32c.ts';
import { pg14 } from './dialects/14.ts';
import { pg17 } from './dialects/17.ts';
import { WalReader } from './reader.ts';
import { WalRecord } from './record.ts';
import { type RecordSpec, WalWriter } from './writer.ts';

const SEGMENT = 1024 * 1024;

interface Read {
  lsn: number;
  end: number;
  rmid: number;
  main: string;
  blocks: string[];
}

const readAll = (
  bytes: Uint8Array,
  start: number,
  sizes: readonly number[],
  options: object = {},
): Read[] => {
  const reader = new WalReader({ start: lsn(start), dialect: pg17, segmentSize: SEGMENT, ...options });
  const record = new WalRecord();
  const found: Read[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length]!;
    // A copy: a record must not depend on the chunk before its own.
    reader.push(bytes.slice(at, at + size));
    at += size;
    while (reader.next(record)) found.push(view(record));
  }
  return found;
};

function view(r: WalRecord): Read {
  const text = (at: number, length: number): string =>
    Buffer.from(r.bytes.subarray(at, at + length)).toString('latin1');
  const blocks = r.blocks
    .slice(0, r.maxBlockId + 1)
    .filter(b => b.inUse)
    .map(
      b =>
        `${b.id}:${b.spcOid}/${b.dbOid}/${b.relNumber}.${b.forkNum}@${b.blkno}=${text(b.dataOffset, b.dataLength)}`,
    );
  return { lsn: r.lsn, end: r.endLsn, rmid: r.rmid, main: text(r.mainOffset, r.mainLength), blocks };
}

const spec = fc.record({
  length: fc.oneof(
    fc.integer({ min: 0, max: 300 }),
    fc.integer({ min: 7000, max: 30_000 }),
    fc.constant(8192 - 64),
  ),
  blocks: fc.array(fc.record({ blkno: fc.nat(9), data: fc.nat(40), same: fc.boolean() }), { maxLength: 3 }),
  byte: fc.integer({ min: 1, max: 255 }),
});

const toSpec = (s: {
  length: number;
  blocks: { blkno: number; data: number; same: boolean }[];
  byte: number;
}): RecordSpec => ({
  rmid: 10,
  info: 0x10,
  xid: 7,
  main: new Uint8Array(s.length).fill(s.byte),
  blocks: s.blocks.map((b, id) => ({
    id,
    spcOid: 1663,
    dbOid: 5,
    relNumber: 16384 + (b.same && id > 0 ? 0 : id),
    sameRel: b.same && id > 0,
    blkno: b.blkno,
    ...(b.data > 0 ? { data: new Uint8Array(b.data).fill(65 + id) } : {}),
  })),
});

describe('a log of any records, cut anywhere', () => {
  test('is read back whole', () => {
    fc.assert(
      fc.property(
        fc.array(spec, { minLength: 1, maxLength: 40 }),
        fc.array(fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1000, max: 20_000 })), {
          minLength: 1,
          maxLength: 5,
        }),
        fc.constantFrom(SEGMENT, 3 * SEGMENT - 8192, 5 * SEGMENT + 8192 * 3),
        (specs, sizes, start) => {
          const writer = new WalWriter({ start: lsn(start), dialect: pg17, segmentSize: SEGMENT });
          const places = specs.map(s => writer.append(toSpec(s)));
          const found = readAll(writer.take(), start, sizes, { checkPrev: true });
          expect(found.map(({ lsn, end }) => ({ lsn, end }))).toEqual(places);
          expect(found.map(r => r.main)).toEqual(
            specs.map(s => String.fromCharCode(s.byte).repeat(s.length)),
          );
          expect(found.map(r => r.blocks.length)).toEqual(specs.map(s => s.blocks.length));
        },
      ),
      { numRuns: 200 },
    );
  });

  test('may be entered at every record, and at every page with resync', () => {
    const writer = new WalWriter({ start: lsn(SEGMENT), dialect: pg17, segmentSize: SEGMENT });
    const places = Array.from({ length: 40 }, (_, i) =>
      writer.append({ rmid: 10, info: 0, main: new Uint8Array(i % 5 === 0 ? 20_000 : 700).fill(i) }),
    );
    const bytes = writer.take();
    for (const { lsn: from } of places) {
      const rest = readAll(bytes.subarray(from - SEGMENT), from, [999]);
      expect(rest.map(r => r.lsn)).toEqual(places.filter(p => p.lsn >= from).map(p => p.lsn));
    }
    for (let page = SEGMENT; page < SEGMENT + bytes.length; page += 8192) {
      const rest = readAll(bytes.subarray(page - SEGMENT), page, [4096], { resync: true });
      expect(rest.map(r => r.lsn)).toEqual(places.filter(p => p.lsn >= page).map(p => p.lsn));
    }
  });

  test('goes on after a switch at the next segment', () => {
    const writer = new WalWriter({ start: lsn(SEGMENT), dialect: pg17, segmentSize: SEGMENT });
    writer.append({ rmid: 10, info: 0, main: new Uint8Array(10) });
    const sw = writer.append({ rmid: 0, info: 0x40 });
    expect(sw.end).toBe(2 * SEGMENT);
    const next = writer.append({ rmid: 10, info: 0, main: new Uint8Array(3) });
    expect(readAll(writer.take(), SEGMENT, [10_000]).map(r => [r.lsn, r.end])).toContainEqual([
      next.lsn,
      next.end,
    ]);
  });

  test('tells of a record that a crash cut short', () => {
    const writer = new WalWriter({ start: lsn(SEGMENT), dialect: pg17, segmentSize: SEGMENT });
    writer.append({ rmid: 10, info: 0, main: new Uint8Array(100) });
    const cut = writer.append({ rmid: 10, info: 0, main: new Uint8Array(30_000).fill(1) });
    const firstTwoPages = writer.take().slice(0, 2 * 8192);
    const again = new WalWriter({
      start: lsn(SEGMENT + 2 * 8192),
      dialect: pg17,
      segmentSize: SEGMENT,
      prev: cut.lsn,
    });
    const overwrite = again.append({ rmid: 0, info: 0xd0, main: new Uint8Array(16) });
    const page = again.take();
    page[2] = 0x08;
    const reader = new WalReader({ start: lsn(SEGMENT), dialect: pg17, segmentSize: SEGMENT });
    const record = new WalRecord();
    reader.push(new Uint8Array(Buffer.concat([firstTwoPages, page])));
    expect(reader.next(record)).toBe(true);
    expect(reader.next(record)).toBe(true);
    expect([record.lsn, record.info]).toEqual([overwrite.lsn, 0xd0]);
    expect(reader.overwrittenLsn).toBe(cut.lsn);
  });
});

describe('what does not hold is refused with its place', () => {
  const start = SEGMENT as Lsn;
  const log = (): Uint8Array => {
    const writer = new WalWriter({ start, dialect: pg17, segmentSize: SEGMENT });
    for (let i = 0; i < 30; i++) writer.append({ rmid: 10, info: 0, main: new Uint8Array(900).fill(i) });
    return writer.take();
  };
  const fault = (edit: (bytes: Uint8Array, view: DataView) => void, options: object = {}): string => {
    const bytes = log();
    edit(bytes, new DataView(bytes.buffer));
    try {
      readAll(bytes, start, [8192], options);
    } catch (error) {
      if (isFault(error)) return `${error.code}: ${error.message}`;
      throw error;
    }
    return 'none';
  };

  test.each<[string, (bytes: Uint8Array, view: DataView) => void, RegExp]>([
    ['a flipped bit in a record', b => (b[100]! ^= 4), /wal-crc: .* 0\/100028/],
    [
      'another magic',
      (_b, v) => v.setUint16(0, pg14.xlogPageMagic, true),
      /wal-page-header: .* magic 0xD10D, not 0xD116/,
    ],
    [
      'a page from elsewhere',
      (_b, v) => v.setUint32(8192 + 8, 0x900000, true),
      /wal-page-header: .* address 0\/900000/,
    ],
    ['a page of a recycled segment', (_b, v) => v.setUint32(8192 + 8, 0x2000, true), /wal-end: .* recycled/],
    [
      'a wrong rest of a record',
      (_b, v) => v.setUint32(8192 + 16, 1, true),
      /wal-page-header: .* 1 bytes of the record continue/,
    ],
    [
      'a missing continuation',
      (_b, v) => v.setUint16(8192 + 2, 0, true),
      /wal-page-header: .* not continued/,
    ],
    [
      'a page of an older timeline',
      (_b, v) => v.setUint32(8192 + 4, 0, true),
      /wal-page-header: .* 0\/102000: timeline 0 after 1/,
    ],
    ['zeros instead of a record', b => b.fill(0, 40, 100), /wal-end: no record at 0\/100028/],
    ['zeros instead of a page', b => b.fill(0, 8192), /wal-end: no page at 0\/102000/],
    ['a length too short', (_b, v) => v.setUint32(40, 23, true), /wal-record: invalid record length 23/],
    [
      'a length beyond all bounds',
      (_b, v) => v.setUint32(40, 0x7fffffff, true),
      /wal-record: invalid record length/,
    ],
    ['a manager that cannot be', b => (b[40 + 17] = 99), /wal-record: invalid resource manager 99/],
    [
      'another segment size',
      (_b, v) => v.setUint32(32, 16 * SEGMENT, true),
      /wal-page-header: .* segment size/,
    ],
  ])('%s', (_what, edit, message) => {
    expect(fault(edit)).toMatch(message);
  });

  test('a record that follows another than the one before it, or comes before its own past', () => {
    const options = { checkPrev: true };
    const relink = (at: number, prev: number) => (bytes: Uint8Array, view: DataView) => {
      const length = view.getUint32(at, true);
      view.setUint32(at + 8, prev, true);
      view.setUint32(at + 20, recordCrc(bytes, view, at, length), true);
    };
    const second = 40 + alignLsn(new DataView(log().buffer).getUint32(40, true));
    expect(fault(relink(second, 0x100030), options)).toMatch(
      /wal-record: record at 0\/1003D0 has prev-link 0\/100030, not 0\/100028/,
    );
    expect(fault(relink(40, 0x100028), options)).toMatch(/has prev-link 0\/100028$/);
    expect(fault(relink(second, 0x100030))).toBe('none');
  });

  test('a reader that has met a fault stays with it', () => {
    const bytes = log();
    bytes[100]! ^= 4;
    const reader = new WalReader({ start, dialect: pg17, segmentSize: SEGMENT });
    reader.push(bytes);
    const record = new WalRecord();
    expect(() => reader.next(record)).toThrow('checksum');
    expect(() => reader.next(record)).toThrow('checksum');
  });

  test('a length without the bytes costs no memory', () => {
    const writer = new WalWriter({ start, dialect: pg17, segmentSize: SEGMENT });
    writer.append({ rmid: 10, info: 0, main: new Uint8Array(100_000) });
    const bytes = writer.take().slice(0, 8192);
    new DataView(bytes.buffer).setUint32(40, 1000 * 1024 * 1024, true);
    const before = process.memoryUsage().arrayBuffers;
    readAll(bytes, start, [8192]);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * 1024 * 1024);
  });
});
