import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryTimeline } from '../../integration/pageserver/memory-timeline.ts';
import { SLRU_CLOG, SLRU_COMMIT_TS, SLRU_MULTIXACT_MEMBERS } from '../base/rel.ts';
import { pg17 } from '../xlog/dialects/17.ts';
import { BLCKSZ } from '../xlog/page.ts';
import { BLK_SIZE, relOfSlru } from './key.ts';
import { PgData } from './pgdata.ts';
import { readSegments, writeSegments } from './slru-store.ts';

test('lists of segments, as runs', () => {
  const segment = fc.tuple(fc.integer({ min: 0, max: 50 }), fc.constantFrom(1, 7, 31, 32, 32, 32));
  fc.assert(
    fc.property(fc.array(segment), list => {
      const segments = new Map([...new Map(list)].sort(([a], [b]) => a - b));
      expect([...readSegments(writeSegments(segments))]).toEqual([...segments]);
    }),
  );
  const full = new Map(Array.from({ length: 80_000 }, (_, i) => [i + 5, i === 79_999 ? 3 : 32] as const));
  expect(writeSegments(full).length).toBe(9);
  expect(readSegments(undefined).size).toBe(0);
  expect(() => readSegments(new Uint8Array(8))).toThrow('cut short');
});

class Bench {
  readonly memory = new MemoryTimeline(pg17);
  readonly pgdata = new PgData(this.memory.timeline, pg17);
  readonly writer = this.memory.writer();
  private readonly page = new Uint8Array(2 * BLCKSZ);

  put(lsn: number, kind: 0 | 1 | 3, pageno: number, byte: number): void {
    this.page.fill(byte);
    this.pgdata.slrus.putPage(this.writer, lsn, kind, pageno, this.page, BLCKSZ);
    this.writer.advance(lsn, 0);
  }
  async first(kind: 0 | 1 | 3, segno: number, lsn: number): Promise<number[] | undefined> {
    const bytes = await this.pgdata.slruSegment(kind, segno, lsn);
    return bytes && Array.from({ length: bytes.length / BLCKSZ }, (_, i) => bytes[i * BLCKSZ]!);
  }
}

test('segments come, grow and go, at each LSN', async () => {
  const bench = new Bench();
  bench.put(8, SLRU_CLOG, 0, 1);
  bench.put(16, SLRU_CLOG, 3, 2);
  bench.put(24, SLRU_CLOG, 33, 3);
  const { slrus } = bench.pgdata;
  slrus.drop(bench.writer, 32, SLRU_CLOG, [0, 9]);
  bench.writer.advance(32, 0);
  expect(await bench.first(SLRU_CLOG, 0, 8)).toEqual([1]);
  expect(await bench.first(SLRU_CLOG, 0, 16)).toEqual([1, 0, 0, 2]);
  expect(await bench.first(SLRU_CLOG, 1, 16)).toBeUndefined();
  expect(await bench.first(SLRU_CLOG, 1, 24)).toEqual([0, 3]);
  expect(await bench.first(SLRU_CLOG, 0, 32)).toBeUndefined();
  expect([...(await bench.pgdata.slruSegments(SLRU_CLOG, 32)).keys()]).toEqual([1]);
  expect(slrus.hasPage(SLRU_CLOG, 0)).toBe(false);
});

test('a segment that comes around again does not show what it held before', async () => {
  const bench = new Bench();
  for (let pageno = 0; pageno < 5; pageno++) bench.put(8 + pageno * 8, SLRU_MULTIXACT_MEMBERS, pageno, 9);
  const { slrus } = bench.pgdata;
  slrus.dropAll(bench.writer, 48, SLRU_MULTIXACT_MEMBERS);
  bench.writer.advance(48, 0);
  slrus.ensurePage(bench.writer, 56, SLRU_MULTIXACT_MEMBERS, 3);
  bench.writer.advance(56, 0);
  expect(await bench.first(SLRU_MULTIXACT_MEMBERS, 0, 56)).toEqual([0, 0, 0, 0]);
  expect(await bench.first(SLRU_MULTIXACT_MEMBERS, 0, 40)).toEqual([9, 9, 9, 9, 9]);
});

test('a page that is there is not touched, and nothing is written for it', async () => {
  const bench = new Bench();
  bench.put(8, SLRU_COMMIT_TS, 2, 4);
  bench.pgdata.slrus.ensurePage(bench.writer, 16, SLRU_COMMIT_TS, 2);
  bench.pgdata.slrus.ensurePage(bench.writer, 16, SLRU_COMMIT_TS, 1);
  bench.writer.advance(16, 0);
  expect(await bench.first(SLRU_COMMIT_TS, 0, 16)).toEqual([0, 0, 4]);
  bench.pgdata.slrus.drop(bench.writer, 24, SLRU_COMMIT_TS, [7]);
  const list = await bench.memory.getBytes(relOfSlru(SLRU_COMMIT_TS), BLK_SIZE, 24);
  expect(readSegments(list)).toEqual(new Map([[0, 3]]));
});
