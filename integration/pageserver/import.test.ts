// Data directories of stock Postgres in every state that people have them in: shut down, with and without its log,
// copied while it worked (a base backup, as a directory and as a tar), left behind by a crash. What is imported must
// be what that server, or one that recovers from there, has.

import { execFileSync, spawn } from 'node:child_process';
import { cp, readdir, rm, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { formatLsn } from '../../src/base/lsn.ts';
import { readTar } from '../../src/base/tar.ts';
import { hostDisk } from '../../src/host/disk.ts';
import { backupArchive } from '../../src/pageserver/basebackup.ts';
import { type Imported, importDirectory, importTar } from '../../src/pageserver/import-log.ts';
import { PgData } from '../../src/pageserver/pgdata.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { Cluster } from '../../src/xlog/replay/cluster.ts';
import { ClusterComparison } from '../../src/xlog/replay/compare.ts';
import { type StockMajor, StockPostgres } from '../pg/stock.ts';
import { MemoryTimeline } from './memory-timeline.ts';
import { checkAll } from './stock-workload.ts';
import { unpack } from './unpack.ts';

const SETTINGS = {
  autovacuum: 'off',
  max_prepared_transactions: 4,
  wal_keep_size: '1GB',
  max_wal_size: '1GB',
  checkpoint_timeout: '1h',
};

const WORK = [
  'create extension amcheck',
  'create table t (id int primary key, v text)',
  `insert into t select i, repeat('x', i % 100) from generate_series(1, 5000) i`,
  'create unlogged table u (i int)',
  'insert into u select generate_series(1, 100)',
  `select pg_replication_origin_create('o')`,
  `select pg_replication_origin_advance('o', '1/23456789')`,
  `begin; insert into t values (-1); prepare transaction 'p'`,
];

let postgres: StockPostgres | undefined;
afterEach(async () => {
  await postgres?.destroy();
  postgres = undefined;
});

function timelineOf(major: StockMajor): PgData {
  const dialect = dialectOfMajor(major, 'stock');
  return new PgData(new MemoryTimeline(dialect).timeline, dialect);
}

/** A cluster with something in it. */
async function worked(major: StockMajor): Promise<StockPostgres> {
  postgres = await StockPostgres.start(major, { settings: SETTINGS });
  for (const statement of WORK) await postgres.sql(statement);
  return postgres;
}

async function clusterOf(files: AsyncIterable<{ name: string; bytes: Uint8Array }>): Promise<Cluster> {
  const cluster = new Cluster();
  for await (const { name, bytes } of files) cluster.loadFile(name, bytes);
  return cluster;
}

/** What was imported, as the full backup of its end has it, against a directory. */
async function differences(pgdata: PgData, directory: string): Promise<string[]> {
  const options = { lsn: pgdata.timeline.lastRecordLsn, full: true, replica: false, nowMs: Date.now() };
  const ours = await clusterOf(readTar(backupArchive(pgdata, options)));
  const theirs = await clusterOf(readTar(tarOf(directory)));
  const { nextMulti } = readControlFile(theirs.controlFile!).checkPointCopy;
  const { differences, compared } = new ClusterComparison(pgdata.dialect, ours, theirs).run(nextMulti);
  expect(compared).toBeGreaterThan(500);
  return differences.map(d => `${d.path} ${d.blkno ?? ''} ${d.what}`);
}

async function* tarOf(directory: string): AsyncGenerator<Uint8Array> {
  const tar = spawn('tar', ['-C', directory, '-cf', '-', '.'], { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const chunk of tar.stdout) yield chunk as Uint8Array;
}

/** As BASE_BACKUP sends it: backup_label first, pg_control last of the files, then the log. */
async function* inServersOrder(directory: string): AsyncGenerator<Uint8Array> {
  const rank = (path: string): number =>
    path === 'backup_label' ? 0 : path === 'global/pg_control' ? 2 : path.startsWith('pg_wal/') ? 3 : 1;
  const paths = (await readdir(directory, { recursive: true, withFileTypes: true }))
    .filter(entry => entry.isFile())
    .map(entry => relative(directory, join(entry.parentPath, entry.name)))
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  const args = ['-C', directory, '--no-recursion', '-T', '-', '-cf', '-'];
  const tar = spawn('tar', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  tar.stdin.end(paths.join('\n'));
  for await (const chunk of tar.stdout) yield chunk as Uint8Array;
}

/** Breaks off in the log. */
async function* beforeLastSegment(tar: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of tar) chunks.push(chunk);
  const whole = Buffer.concat(chunks);
  yield whole.subarray(0, whole.length - 24 * 1024 * 1024);
}

/** A server restored from the import answers as the original did. */
async function restored(pgdata: PgData, name: string, count: number): Promise<void> {
  const directory = join(postgres!.home, name);
  const options = { lsn: pgdata.timeline.lastRecordLsn, full: true, replica: false, nowMs: Date.now() };
  await unpack(backupArchive(pgdata, options), directory);
  await postgres!.runDirectory(directory, SETTINGS, async server => {
    expect(await server.sql('select count(*)::int from t')).toEqual([{ count }]);
    expect(await server.sql('select count(*)::int from u')).toEqual([{ count: 0 }]);
    const progress = await server.sql(`select pg_replication_origin_progress('o', true) as lsn`);
    expect(progress).toEqual([{ lsn: '1/23456789' }]);
    await server.sql(`commit prepared 'p'`);
    expect(await server.sql('select count(*)::int from t')).toEqual([{ count: count + 1 }]);
    expect(await checkAll(server)).toEqual([]);
  });
}

describe.each([14, 16, 18] as const)('Postgres %i', major => {
  test('shut down: with its log, and without', async () => {
    const server = await worked(major);
    await server.stop();
    const data = server.dataDirectory;
    const pgdata = timelineOf(major);
    const whole = await importDirectory(pgdata, hostDisk(data), '');
    expect(await differences(pgdata, data)).toEqual([]);
    const checkpoint = readControlFile(await hostDisk(data).readFile('global/pg_control')).checkPoint;
    expect(whole.startLsn).toBe(checkpoint);
    expect(pgdata.timeline.prevRecordLsn).toBe(checkpoint);
    await restored(pgdata, 'restored', 5000);

    for (const name of await readdir(join(data, 'pg_wal'))) {
      if (/^[0-9A-F]{24}$/.test(name)) await rm(join(data, 'pg_wal', name));
    }
    const bare = timelineOf(major);
    const without = await importDirectory(bare, hostDisk(data), '');
    expect(formatLsn(without.endLsn)).toBe(formatLsn(whole.endLsn));
    expect(bare.timeline.prevRecordLsn).toBe(pgdata.timeline.prevRecordLsn);
    expect(await bare.checkpoint(without.endLsn)).toEqual(await pgdata.checkpoint(whole.endLsn));
    expect((await bare.checkpoint(without.endLsn)).redo).toBe(whole.endLsn);
  });

  test('copied while it worked, as a directory and as a tar', async () => {
    const server = await worked(major);
    const copy = await copyWhileWorking(server, major);
    const count = (await server.sql('select count(*)::int as n from t'))[0].n as number;
    await server.stop();
    // The log goes on to the shutdown: what is imported is the original's end.
    await cp(join(server.dataDirectory, 'pg_wal'), join(copy, 'pg_wal'), { recursive: true });
    const pgdata = timelineOf(major);
    const imported = await importDirectory(pgdata, hostDisk(copy), '');
    expect(await differences(pgdata, server.dataDirectory)).toEqual([]);
    await restored(pgdata, 'restored', count);

    const tarred = timelineOf(major);
    const again = await importTar(tarred, tarOf(copy));
    expectSame(again, imported);
    expect(await differences(tarred, server.dataDirectory)).toEqual([]);

    const served = timelineOf(major);
    expectSame(await importTar(served, inServersOrder(copy)), imported);
    expect(await differences(served, server.dataDirectory)).toEqual([]);
    const cut = importTar(timelineOf(major), beforeLastSegment(inServersOrder(copy)));
    await expect(cut).rejects.toThrow(/cut short|is missing/);

    const wal = join(server.home, 'wal');
    await cp(join(copy, 'pg_wal'), wal, { recursive: true });
    await rm(join(copy, 'pg_wal'), { recursive: true });
    await expect(importDirectory(timelineOf(major), hostDisk(copy), '')).rejects.toThrow('is missing');
    const apart = timelineOf(major);
    expectSame(await importTar(apart, tarOf(copy), tarOf(wal)), imported);
    expect(apart.logicalSize).toBe(pgdata.logicalSize);
  });

  test('left behind by a crash', async () => {
    const server = await worked(major);
    await server.sql('update t set v = id::text where id % 2 = 0');
    await server.stop('SIGQUIT');
    const pgdata = timelineOf(major);
    await importDirectory(pgdata, hostDisk(server.dataDirectory), '');
    await restored(pgdata, 'restored', 5000);
    await server.start();
    await server.stop();
    expect(await differences(pgdata, server.dataDirectory)).toEqual([]);
  });
});

function expectSame(a: Imported, b: Imported): void {
  const { ingest: _a, ...one } = a;
  const { ingest: _b, ...other } = b;
  expect(one).toEqual(other);
}

/** Between the start and the end of a backup, files are copied one by one while rows come, go and move. */
async function copyWhileWorking(server: StockPostgres, major: StockMajor): Promise<string> {
  const copy = join(server.home, 'copy');
  const [start, stop] =
    major === 14
      ? [`select pg_start_backup('b', true, false)`, 'select labelfile from pg_stop_backup(false, true)']
      : [`select pg_backup_start('b', true)`, 'select labelfile from pg_backup_stop(true)'];
  await server.sql('insert into t select i, null from generate_series(10001, 20000) i');
  await server.session(async backup => {
    await backup.query(start!);
    let working = true;
    const work = (async () => {
      for (let i = 0; working || i < 20; i++) {
        await server.sql(
          `insert into t select ${30000 + i * 100} + j, repeat('y', 200) from generate_series(0, 99) j`,
        );
        await server.sql(`update t set v = v || 'z' where id % 97 = ${i % 97}`);
        await server.sql(`delete from t where id between ${10001 + i * 50} and ${10020 + i * 50}`);
        if (i % 5 === 0) await server.sql('vacuum t');
        if (i === 10) await server.sql('create table later as select * from t; create index on later (id)');
        if (i === 15) await server.sql('drop table later');
      }
    })();
    await cp(server.dataDirectory, copy, {
      recursive: true,
      filter: path => !/\/(pg_wal|postmaster\.\w+)$/.test(path),
    });
    working = false;
    await work;
    const label = (await backup.query(stop!)).rows[0].labelfile as string;
    await writeFile(join(copy, 'backup_label'), label);
  });
  return copy;
}

test('what is no data directory, or another major, is refused', async () => {
  postgres = await StockPostgres.create(17);
  const data = postgres.dataDirectory;
  await expect(importDirectory(timelineOf(16), hostDisk(data), '')).rejects.toThrow(
    'Postgres 16 has 202307071',
  );
  await expect(importDirectory(timelineOf(17), hostDisk(join(data, 'base')), '')).rejects.toThrow(
    'no global/pg_control',
  );
  execFileSync('truncate', ['-s', '100', join(data, 'global/pg_control')]);
  await expect(importDirectory(timelineOf(17), hostDisk(data), '')).rejects.toThrow('cut short');
});
