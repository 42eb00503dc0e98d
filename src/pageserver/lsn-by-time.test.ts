import { expect, test } from 'vitest';
import { SmallCluster } from '../../integration/pageserver/small-cluster.ts';
import { Builder } from '../base/bytes.ts';
import { pg17 } from '../xlog/dialects/17.ts';
import { lsnForTimestamp, timestampForLsn, timestampOfUnixMs, unixMsOfTimestamp } from './lsn-by-time.ts';
import { PgData } from './pgdata.ts';

const START = 0x1500_0000;

/** Commits at these times and LSNs, each after a record of something else. */
async function withCommits(commits: readonly (readonly [lsn: number, time: number])[]): Promise<PgData> {
  const cluster = await SmallCluster.make(pg17);
  let xid = 1000;
  for (const [lsn, time] of commits) {
    await cluster.take({ rmid: 0, info: 0x20, main: new Uint8Array(8) }, START + lsn - 40);
    const main = new Builder().u64le(BigInt(time)).finish();
    await cluster.take({ rmid: 1, info: 0x00, xid: xid++, main }, START + lsn);
  }
  await cluster.take({ rmid: 0, info: 0x20, main: new Uint8Array(8) }, START + 0x10_0000);
  return cluster.pgdata;
}

const COMMITS = [
  [0x1000, 100],
  [0x2000, 200],
  [0x3000, 300],
  [0x4000, 250],
  [0x5000, 400],
] as const;

async function ask(pgdata: PgData, time: number, min = START): Promise<string> {
  const { kind, lsn } = await lsnForTimestamp(pgdata.timeline, time, min);
  return `${kind} ${(lsn - START).toString(16)}`;
}

test('the LSN of a time lies before the first commit that came since, and behind all before', async () => {
  const pgdata = await withCommits(COMMITS);
  const before = (lsn: number): string => `present ${(lsn - 40).toString(16)}`;
  expect(await ask(pgdata, 150)).toBe(before(0x2000));
  expect(await ask(pgdata, 200)).toBe(before(0x2000));
  expect(await ask(pgdata, 201)).toBe(before(0x3000));
  // A commit that took its time early and wrote late is behind one that did not.
  expect(await ask(pgdata, 260)).toBe(before(0x3000));
  expect(await ask(pgdata, 301)).toBe(before(0x5000));
  expect(await ask(pgdata, 400)).toBe(before(0x5000));
});

test('times before, after and without commits', async () => {
  const pgdata = await withCommits(COMMITS);
  expect(await ask(pgdata, 401)).toBe('future 100000');
  expect(await ask(pgdata, 50)).toBe('past 0');
  expect(await ask(pgdata, 100)).toBe('past 0');
  expect(await ask(pgdata, 150, START + 0x2800)).toBe('past 2800');
  expect(await ask(pgdata, 201, START + 0x2800)).toBe(`present ${(0x3000 - 40).toString(16)}`);
  expect(await ask(await withCommits([]), 50)).toBe('nodata 0');
});

test('the time of an LSN is that of the newest commit before', async () => {
  const { timeline } = await withCommits(COMMITS);
  expect(await timestampForLsn(timeline, START + 0xfff)).toBeUndefined();
  expect(await timestampForLsn(timeline, START + 0x1000)).toBe(100);
  expect(await timestampForLsn(timeline, START + 0x2fff)).toBe(200);
  expect(await timestampForLsn(timeline, START + 0x4500)).toBe(300);
  expect(await timestampForLsn(timeline, timeline.lastRecordLsn)).toBe(400);
});

test('what was the newest time is known after a restart: it goes on from there', async () => {
  const pgdata = await withCommits(COMMITS);
  const again = new PgData(pgdata.timeline, pg17);
  await again.ready();
  expect(again.commitTime).toBe(400);
});

test("Postgres's times and Unix's", () => {
  expect(timestampOfUnixMs(Date.UTC(2000, 0, 1))).toBe(0);
  expect(timestampOfUnixMs(Date.UTC(2024, 1, 29, 12))).toBe(762_523_200_000_000);
  expect(unixMsOfTimestamp(762_523_200_000_500)).toBe(Date.UTC(2024, 1, 29, 12) + 0.5);
});
