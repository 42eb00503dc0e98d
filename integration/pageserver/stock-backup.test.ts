// Stock Postgres 14 to 18: its log taken in, every page compared with replay and with its own directory, and full
// backups at several LSNs that a stock server of that major starts from, finds nothing wrong with, answers the same,
// and goes on with.

import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { parseLsn } from '../../src/base/lsn.ts';
import { hostDisk } from '../../src/host/disk.ts';
import { backupArchive } from '../../src/pageserver/basebackup.ts';
import { importDirectory } from '../../src/pageserver/import-log.ts';
import { lsnForTimestamp, timestampForLsn } from '../../src/pageserver/lsn-by-time.ts';
import { PgData } from '../../src/pageserver/pgdata.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { WalRecord } from '../../src/xlog/record.ts';
import type { Cluster } from '../../src/xlog/replay/cluster.ts';
import { ClusterComparison, type Difference } from '../../src/xlog/replay/compare.ts';
import { Replayer } from '../../src/xlog/replay/replayer.ts';
import { segmentFileName, segmentOf } from '../../src/xlog/segment.ts';
import { STOCK_MAJORS, type StockMajor, StockPostgres } from '../pg/stock.ts';
import { compareMoment, loadCluster, type Moment, moment } from './cluster-history.ts';
import { MemoryTimeline } from './memory-timeline.ts';
import { answers, checkAll, runStages, SETTINGS, type Stage } from './stock-workload.ts';
import { unpack } from './unpack.ts';

/** Checksums on where it is odd, and segments of several sizes. */
const INITDB: Record<StockMajor, readonly string[]> = {
  14: ['-k', '--wal-segsize=1'],
  15: [],
  16: ['-k', '--wal-segsize=64'],
  17: ['--wal-segsize=4'],
  18: [],
};

class Run {
  readonly major: StockMajor;
  readonly postgres: StockPostgres;
  readonly memory: MemoryTimeline;
  readonly pgdata: PgData;
  stages: Stage[] = [];
  ends: number[] = [];
  records = 0;

  private constructor(major: StockMajor, postgres: StockPostgres) {
    const dialect = dialectOfMajor(major, 'stock');
    this.major = major;
    this.postgres = postgres;
    this.memory = new MemoryTimeline(dialect);
    this.pgdata = new PgData(this.memory.timeline, dialect);
  }

  static async create(major: StockMajor): Promise<Run> {
    return new Run(major, await StockPostgres.create(major, { initdb: INITDB[major], settings: SETTINGS }));
  }

  /** Import, work, take the log in; replay alongside. */
  async work(): Promise<{ moments: Moment[]; replayed: Cluster }> {
    const { postgres, pgdata } = this;
    const imported = await importDirectory(pgdata, hostDisk(postgres.dataDirectory), '');
    const cluster = await loadCluster(postgres.dataDirectory);
    await postgres.start();
    this.stages = await runStages(postgres);
    await postgres.stop();
    const control = readControlFile(cluster.controlFile!);
    const replayer = new Replayer(pgdata.dialect, cluster, {
      trackCommitTimestamp: control.trackCommitTimestamp,
    });
    const wanted = new Set(this.stages.map(stage => parseLsn(stage.lsn)));
    const moments: Moment[] = [];
    const { ingest, segmentSize } = imported;
    let previous = imported.endLsn;
    await this.readLog(previous, segmentSize, async record => {
      // A stage's LSN is where the next record begins.
      if (wanted.has(record.lsn)) {
        this.ends.push(previous);
        moments.push(moment(cluster, previous));
      }
      replayer.replay(record);
      const waits = ingest.record(record);
      if (waits !== undefined) await waits;
      if (++this.records % 50 === 0) ingest.advance();
      previous = record.endLsn;
    });
    ingest.advance();
    moments.push(moment(cluster, previous));
    expect(replayer.mismatches).toEqual([]);
    return { moments, replayed: cluster };
  }

  private async readLog(
    start: number,
    size: number,
    take: (record: WalRecord) => Promise<void>,
  ): Promise<void> {
    const { dialect } = this.pgdata;
    const reader = new WalReader({ start: parseStart(start), dialect, segmentSize: size, checkPrev: true });
    const record = new WalRecord();
    try {
      for (let segno = segmentOf(start, size), skip = start % size; ; segno++, skip = 0) {
        const path = join(this.postgres.dataDirectory, 'pg_wal', segmentFileName(1, segno, size));
        reader.push(new Uint8Array(await readFile(path)).subarray(skip));
        while (reader.next(record)) await take(record);
      }
    } catch (error) {
      if (!['wal-end', 'ENOENT'].includes((error as { code?: string }).code ?? '')) throw error;
    }
  }

  /** A stock server on a full backup at `lsn`. */
  async onBackup(lsn: number, name: string, work: (server: StockPostgres) => Promise<void>): Promise<void> {
    const directory = join(this.postgres.home, name);
    const options = { lsn, full: true, replica: false, nowMs: Date.now() };
    try {
      await unpack(backupArchive(this.pgdata, options), directory);
      await this.postgres.runDirectory(directory, { ...SETTINGS, wal_keep_size: 0 }, work);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
}

const parseStart = (lsn: number): ReturnType<typeof parseLsn> => lsn as ReturnType<typeof parseLsn>;

let run: Run | undefined;
afterEach(async () => {
  await run?.postgres.destroy();
  run = undefined;
});

describe.each(STOCK_MAJORS)('Postgres %i', major => {
  test('every page at the end of each stage, and full backups that start there', async () => {
    run = await Run.create(major);
    const { moments, replayed } = await run.work();
    const { pgdata, stages, ends } = run;
    expect(ends.length).toBe(stages.length);
    if (pgdata.hasChecksums) pgdata.hasChecksums = false;
    let pages = 0;
    for (const then of moments) {
      const compared = await compareMoment(pgdata, then);
      expect(compared.differences).toEqual([]);
      pages += compared.pages;
    }
    const final = await loadCluster(run.postgres.dataDirectory);
    const control = readControlFile(final.controlFile!);
    const { differences } = new ClusterComparison(pgdata.dialect, replayed, final).run(
      control.checkPointCopy.nextMulti,
    );
    const told = differences.filter(d => !isSequence(d)).map(d => `${d.path} ${d.blkno} ${d.what}`);
    expect(told).toEqual([]);
    console.info(
      `Postgres ${major}: ${run.records} records, ${pages} pages compared at ${moments.length} LSNs`,
    );

    pgdata.hasChecksums = control.dataChecksumVersion !== 0;
    for (const [i, stage] of stages.entries()) {
      if (major > 14 && i % 2 === 1) continue; // whole.test.ts starts servers there
      await run.onBackup(ends[i]!, `stage-${i}`, async server => {
        expect(await answers(server), stage.name).toEqual(stage.answers);
        expect(await checkAll(server), stage.name).toEqual([]);
        await goOn(server, stage);
      });
    }
    await timeTravel(pgdata, ends);
  }, 600_000);
});

/** The log of a sequence runs ahead of it by 32 values. */
const isSequence = ({ ours }: Difference): boolean => ours?.[8184] === 0x17 && ours[8185] === 0x17;

/** The restored server is one like any other. */
async function goOn(server: StockPostgres, stage: Stage): Promise<void> {
  const [{ next }] = await server.sql(`select nextval('s')::int as next`);
  expect(next).toBeGreaterThan(stage.sequence);
  await server.sql('insert into a (id) select i from generate_series(90000, 90100) i');
  await server.sql('insert into u values (1)');
  expect(await server.sql('select count(*)::int from u')).toEqual([{ count: 1 }]);
  for (const work of ['create table fresh as select 1', 'checkpoint', 'vacuum', 'drop table fresh'])
    await server.sql(work);
  for (const { gid } of await server.sql('select gid from pg_prepared_xacts')) {
    await server.sql(`commit prepared '${gid}'`);
  }
  expect(
    await server.sql(
      `select pg_xact_commit_timestamp(xmin) > now() - interval '1 hour' as ok from a where id = 90000`,
    ),
  ).toEqual([{ ok: true }]);
  expect(await checkAll(server)).toEqual([]);
}

/** From an LSN to its time and back is the same place, as far as anything was committed. */
async function timeTravel(pgdata: PgData, ends: readonly number[]): Promise<void> {
  const { timeline } = pgdata;
  const min = timeline.lastRecordLsn > 0 ? ends[0]! : 0;
  for (const lsn of ends.slice(1)) {
    const time = (await timestampForLsn(timeline, lsn))!;
    const { kind, lsn: found } = await lsnForTimestamp(timeline, time + 1, min);
    expect(found).toBeGreaterThanOrEqual(lsn);
    expect(await timestampForLsn(timeline, found)).toBe(time);
    expect(['present', 'future']).toContain(kind);
    const before = await lsnForTimestamp(timeline, time, min);
    expect(before.lsn).toBeLessThan(lsn);
    expect((await timestampForLsn(timeline, before.lsn))!).toBeLessThan(time);
  }
  expect((await lsnForTimestamp(timeline, 0, min)).kind).toBe('past');
  expect(await lsnForTimestamp(timeline, 2 ** 52, min)).toEqual({
    kind: 'future',
    lsn: timeline.lastRecordLsn,
  });
}
