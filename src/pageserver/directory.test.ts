import { describe, expect, test } from 'vitest';
import { MemoryTimeline } from '../../integration/pageserver/memory-timeline.ts';
import { pg17 } from '../xlog/dialects/17.ts';
import { BLCKSZ } from '../xlog/page.ts';
import { Directory, NOT_KNOWN, type RelFork } from './directory.ts';
import { Names } from './names.ts';
import { PgData } from './pgdata.ts';
import { readSnapshot } from './snapshot.ts';
import { VALUE_IMAGE } from './value.ts';

const SPC = 1663;
const DB = 5;
const TAG = { spcOid: SPC, dbOid: DB, relNumber: 100, forkNum: 0 };

class Bench {
  readonly memory = new MemoryTimeline(pg17);
  readonly pgdata = new PgData(this.memory.timeline, pg17);
  readonly writer = this.memory.writer();

  create(lsn: number, relNumber = 100, forkNum = 0): RelFork {
    return this.pgdata.directory.create(this.writer, lsn, SPC, DB, relNumber, forkNum);
  }
  resize(fork: RelFork, lsn: number, nblocks: number): void {
    this.pgdata.directory.resize(fork, lsn, nblocks);
    this.pgdata.directory.storeSize(this.writer, lsn, fork);
  }
  drop(fork: RelFork, lsn: number): void {
    this.pgdata.directory.drop(this.writer, lsn, fork);
  }
  fill(fork: RelFork, blk: number, lsn: number, byte: number): void {
    this.writer.put(fork.id, blk, lsn, VALUE_IMAGE, 0, new Uint8Array(BLCKSZ).fill(byte), 0, BLCKSZ);
  }
  /** A second look at the same timeline, that knows nothing but what is stored. */
  async again(): Promise<PgData> {
    const pgdata = new PgData(this.memory.timeline, pg17);
    await pgdata.ready();
    return pgdata;
  }
}

/** A fork's whole life, twice: made, grown, cut, grown again, dropped, and made anew under another id. */
async function life(): Promise<{ bench: Bench; first: RelFork; second: RelFork }> {
  const bench = new Bench();
  await bench.pgdata.ready();
  const first = bench.create(8);
  bench.resize(first, 16, 10);
  for (let blk = 0; blk < 10; blk++) bench.fill(first, blk, 16, 1);
  bench.resize(first, 24, 4);
  bench.fill(first, 6, 32, 0);
  bench.resize(first, 32, 7);
  bench.drop(first, 40);
  const second = bench.create(48);
  bench.resize(second, 56, 2);
  bench.writer.advance(64, 56);
  return { bench, first, second };
}

const SIZES: readonly (readonly [lsn: number, size: number | undefined])[] = [
  [7, undefined],
  [8, 0],
  [16, 10],
  [23, 10],
  [24, 4],
  [32, 7],
  [39, 7],
  [40, undefined],
  [47, undefined],
  [48, 0],
  [56, 2],
  [64, 2],
];

describe('a fork at any LSN', () => {
  test('its length, from memory and from what is stored', async () => {
    const { bench } = await life();
    for (const pgdata of [bench.pgdata, await bench.again()]) {
      for (const [lsn, size] of SIZES) {
        expect(await pgdata.relSize(TAG, lsn), `at ${lsn}`).toBe(size);
        expect(await pgdata.relExists(TAG, lsn)).toBe(size !== undefined);
      }
    }
  });

  test('its pages: zeros past its length then, whatever lies there from before', async () => {
    const { bench } = await life();
    for (const pgdata of [bench.pgdata, await bench.again()]) {
      const byte = async (blk: number, lsn: number): Promise<number> =>
        (await pgdata.getPage(TAG, blk, lsn))[100]!;
      expect(await byte(3, 16)).toBe(1);
      expect(await byte(9, 16)).toBe(1);
      expect(await byte(10, 16)).toBe(0);
      expect(await byte(3, 24)).toBe(1);
      for (const blk of [4, 6, 9]) expect(await byte(blk, 24)).toBe(0);
      expect(await byte(6, 32)).toBe(0);
      expect(await byte(8, 32)).toBe(0);
      expect(await byte(1, 50)).toBe(0);
      await expect(pgdata.getPage(TAG, 0, 44)).rejects.toThrow('does not exist');
      await expect(pgdata.getPage(TAG, 0, 4)).rejects.toThrow('does not exist');
    }
  });

  test('its id: another one each time it is made', async () => {
    const { bench, first, second } = await life();
    expect(second.id).not.toBe(first.id);
    expect(bench.pgdata.directory.find(SPC, DB, 100, 0)).toBe(second);
    expect(bench.pgdata.directory.at(SPC, DB, 100, 0, 32)).toBe(first);
    expect(bench.pgdata.directory.at(SPC, DB, 100, 0, 44)).toBeUndefined();
    const again = (await bench.again()).directory;
    expect(again.at(SPC, DB, 100, 0, 60)).toMatchObject({ id: second.id, nblocks: 2, peak: 2 });
    expect(again.at(SPC, DB, 100, 0, 32)).toBe(NOT_KNOWN);
    expect(again.at(SPC, DB, 100, 0, 64)).toMatchObject({ id: second.id });
  });
});

test('sizes of databases and of everything, now and then', async () => {
  const { bench, second } = await life();
  const other = bench.create(65, 101, 2);
  bench.resize(other, 66, 5);
  bench.writer.advance(72, 64);
  for (const pgdata of [bench.pgdata, await bench.again()]) {
    expect(pgdata.logicalSize).toBe((second.nblocks + 5) * BLCKSZ);
    expect(await pgdata.dbSize(DB, 72)).toBe(7 * BLCKSZ);
    expect(await pgdata.dbSize(DB, 64)).toBe(2 * BLCKSZ);
    expect(await pgdata.dbSize(DB, 44)).toBe(0);
    expect(await pgdata.dbSize(DB, 35)).toBe(7 * BLCKSZ);
    expect(await pgdata.dbSize(6, 72)).toBe(0);
  }
});

test('ids are never given out twice, not even after a restart', async () => {
  const bench = new Bench();
  await bench.pgdata.ready();
  const ids = new Set<number>();
  let pgdata = bench.pgdata;
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 7; i++) {
      const lsn = bench.memory.lastRecordLsn + 8;
      const fork = pgdata.directory.create(bench.writer, lsn, SPC, DB, round * 10 + i, 0);
      expect(ids.has(fork.id)).toBe(false);
      ids.add(fork.id);
      if (i % 2 === 0) pgdata.directory.drop(bench.writer, lsn, fork);
      bench.writer.advance(lsn, 0);
    }
    pgdata = await bench.again();
  }
  expect(pgdata.directory.forks).toBe(15);
});

test('when fresh ids run out, those of dropped forks come again, over zeros', async () => {
  const bench = new Bench();
  const limits = { last: 1024 + 31, fresh: 1024 + 15 };
  const names = new Names();
  let directory = new Directory(names, limits);
  const make = (lsn: number, relNumber: number): RelFork =>
    directory.create(bench.writer, lsn, SPC, DB, relNumber, 0);
  const first = make(8, 1);
  directory.resize(first, 8, 9);
  const used = new Set([first.id]);
  for (let i = 0; i < 15; i++) used.add(make(8, 100 + i).id);
  directory.drop(bench.writer, 16, first);
  const again = make(24, 2);
  expect(again.id).toBe(first.id);
  expect(again).toMatchObject({ nblocks: 0, peak: 9 });
  expect(again.lengthMatters(3, 24)).toBe(false);
  directory.resize(again, 32, 1);
  expect(again.lengthMatters(3, 30)).toBe(true);
  for (let i = 0; i < 16; i++) used.add(make(40, 200 + i).id);
  expect(used.size).toBe(32);
  expect(() => make(48, 300)).toThrow('32 relation forks');
  directory.drop(bench.writer, 56, again);
  bench.writer.advance(64, 0);
  // What was dropped is known after a restart.
  const { memory } = bench;
  directory = new Directory(new Names(), limits);
  const peaks: number[] = [];
  await readSnapshot(memory.timeline, 64, (id, size) => {
    directory.loadSize(id, size);
    peaks.push(size.peak);
  });
  expect(peaks).toEqual([9]);
});

test('memory of what was dropped is bounded; what it forgets is no longer answered from it', () => {
  const memory = new MemoryTimeline(pg17);
  const writer = memory.writer();
  const directory = new Directory(new Names());
  const made = 30_000;
  for (let i = 0; i < made; i++)
    directory.drop(writer, i * 16 + 16, directory.create(writer, i * 16 + 8, SPC, DB, i, 0));
  expect(directory.exactFrom).toBeGreaterThan(0);
  expect(directory.at(SPC, DB, 0, 0, 8)).toBe(NOT_KNOWN);
  const last = made - 1;
  expect(directory.at(SPC, DB, last, 0, last * 16 + 8)).toMatchObject({ relNumber: last });
  expect(directory.at(SPC, DB, last, 0, last * 16 + 16)).toBeUndefined();
});

test('the length is asked of the timeline only where a cut leaves doubt', async () => {
  const { bench } = await life();
  const fork = bench.create(72, 7);
  bench.resize(fork, 80, 100);
  expect(fork.lengthMatters(50, 75)).toBe(false);
  bench.resize(fork, 88, 10);
  expect(fork.lengthMatters(5, 85)).toBe(true);
  expect(fork.lengthMatters(50, 88)).toBe(false);
  bench.resize(fork, 96, 60);
  expect(fork.lengthMatters(5, 90)).toBe(false);
  expect(fork.lengthMatters(50, 90)).toBe(true);
  expect(fork.lengthMatters(100, 90)).toBe(false);
  expect(fork.lengthMatters(50, 96)).toBe(false);
});
