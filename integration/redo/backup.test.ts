// `wal verify` where a log is met in life, judged by the verification images on the way and by the server's own
// directory at the end:
//
// - over a base backup of a running server: files copied one after the other while the server works, so that pages
//   are newer than the records to come, files end where they ended when they were read, and relations are there
//   that the log will drop;
// - over several timelines: recovered from the archive and promoted twice, while the first server goes on for
//   itself, so that the archive holds segments that are no part of the log.

import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatLsn, type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { pageLsn, pageOver } from '../../src/xlog/page.ts';
import { parseRelationPath } from '../../src/xlog/replay/cluster.ts';
import { type StockMajor, StockPostgres } from '../pg/stock.ts';
import { all, sqlOf } from './statements.ts';

const LAKEBED = resolve(import.meta.dirname, '../../bin/lakebed');
const TIMEOUT_MS = 300_000;
const NOT_COPIED = ['pg_wal', 'postmaster.pid', 'postmaster.opts'];

const SETTINGS = {
  autovacuum: 'off',
  checkpoint_timeout: '1h',
  max_wal_size: '8GB',
  wal_consistency_checking: 'all',
  wal_keep_size: '8GB',
};

const SCHEMA = [
  'create table a (id int primary key, n int, v text)',
  `insert into a select i, 0, repeat('v', 100) from generate_series(1, 8000) i`,
  'create table doomed as select * from a',
  'create table cut as select * from a',
  `create index on a using gin (to_tsvector('simple', v))`,
];

/** One round of what goes on during the backup. */
const round = (i: number): string[] => [
  `update a set n = n + 1, v = v || '${i}' where id % 17 = ${i % 17}`,
  `insert into a select 20000 + ${i} * 1000 + j, j, md5(j::text) from generate_series(1, 300) j`,
  `delete from a where id % 101 = ${i % 101}`,
  'vacuum a',
];

/** Copy what is there to be copied; a file that goes meanwhile was dropped, and the log says so. */
function copyRunning(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    if (NOT_COPIED.includes(entry.name)) continue;
    try {
      if (entry.isDirectory()) copyRunning(join(from, entry.name), join(to, entry.name));
      else if (entry.isFile()) copyFileSync(join(from, entry.name), join(to, entry.name));
    } catch (error) {
      if ((error as { code?: string }).code !== 'ENOENT') throw error;
    }
  }
}

/** Work in a session of its own until told to stop. */
function busy(postgres: StockPostgres): () => Promise<void> {
  let stopped = false;
  const done = postgres.session(async client => {
    for (let i = 0; !stopped; i++) await all(sqlOf(client), round(i));
  });
  return async () => {
    stopped = true;
    await done;
  };
}

async function backUp(postgres: StockPostgres, base: string): Promise<void> {
  await postgres.session(async client => {
    await client.query(`select pg_backup_start('test', true)`);
    const rest = busy(postgres);
    // What the checkpoint writes is newer than where the backup's log begins.
    await all(sqlOf(client), [
      ...round(1000),
      'checkpoint',
      'drop table doomed',
      'delete from cut where id > 2000',
    ]);
    copyRunning(postgres.dataDirectory, base);
    await all(sqlOf(client), ['vacuum cut', ...round(1001)]);
    const { rows } = await client.query('select labelfile from pg_backup_stop(false)');
    writeFileSync(join(base, 'backup_label'), rows[0].labelfile);
    await rest();
  });
}

/** Pages of relations in a data directory that are newer than this. */
function pagesAfter(base: string, lsn: number): number {
  let count = 0;
  for (const name of readdirSync(base, { recursive: true, encoding: 'utf8' })) {
    if (parseRelationPath(name) === undefined) continue;
    const bytes = new Uint8Array(readFileSync(join(base, name)));
    for (let at = 0; at + 8192 <= bytes.length; at += 8192)
      if (pageLsn(pageOver(bytes.subarray(at, at + 8192))) > lsn) count++;
  }
  return count;
}

interface Verified {
  readonly code: number | null;
  readonly err: string;
  // biome-ignore lint/suspicious/noExplicitAny: what --json says
  readonly result: any;
}

function verify(base: string, wal: string, ...more: string[]): Verified {
  const args = ['wal', 'verify', '--base', base, '--wal', wal, '--json', ...more];
  const ran = spawnSync(LAKEBED, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  return {
    code: ran.status,
    err: ran.stderr,
    result: ran.stdout === '' ? undefined : JSON.parse(ran.stdout),
  };
}

/** Nothing differs, and so much was compared. */
function expectSound({ code, err, result }: Verified, verified: number): void {
  expect(err).toBe('');
  expect(result.mismatches).toEqual([]);
  expect(result.final?.differences ?? []).toEqual([]);
  expect(result).toMatchObject({ mismatched: 0, unsupported: 0, dangling: [] });
  expect(result.verified).toBeGreaterThan(verified);
  expect(result.consistent).toMatch(/^0\/[0-9A-F]+$/);
  expect(code).toBe(0);
}

test(
  'a backup of a running server leads where the server went',
  async () => {
    const postgres = await StockPostgres.start(17, { settings: SETTINGS });
    try {
      await postgres.session(client => all(sqlOf(client), SCHEMA));
      const base = join(postgres.home, 'base');
      await backUp(postgres, base);
      await postgres.stop();
      const { dataDirectory } = postgres;
      const verified = verify(base, dataDirectory, '--final', dataDirectory);
      expectSound(verified, 5_000);
      const { start, consistent } = verified.result;
      expect(parseLsn(consistent)).toBeGreaterThan(parseLsn(start));
      // The copy is one of a moving thing, or this proves nothing.
      expect(pagesAfter(base, parseLsn(start))).toBeGreaterThan(100);

      // Within the record before BACKUP_END, of 40 bytes.
      const short = verify(base, dataDirectory, '--end', formatLsn((parseLsn(consistent) - 64) as Lsn));
      expect(short.code).toBe(1);
      expect(short.result).toMatchObject({ consistent: null, mismatched: 0 });
    } finally {
      await postgres.destroy();
    }
  },
  TIMEOUT_MS,
);

/** Put what is in a pg_wal into the archive, for Postgres to read as well. */
function archiveWal(directory: string, archive: string): void {
  for (const name of readdirSync(join(directory, 'pg_wal'))) {
    if (!/^[0-9A-F]{24}$|^[0-9A-F]{8}\.history$/.test(name)) continue;
    copyFileSync(join(directory, 'pg_wal', name), join(archive, name));
    chmodSync(join(archive, name), 0o644);
  }
}

/** Recover `directory` from the archive to its end, promote it, let it work. */
async function promote(
  postgres: StockPostgres,
  directory: string,
  archive: string,
  rounds: readonly number[],
): Promise<number> {
  let timeline = 0;
  writeFileSync(join(directory, 'recovery.signal'), '');
  const settings = { ...SETTINGS, port: 5433, hot_standby: 'off', restore_command: `cp ${archive}/%f %p` };
  await postgres.runDirectory(directory, settings, async other => {
    for (const i of rounds) await other.session(client => all(sqlOf(client), round(i)));
    await other.sql('checkpoint');
    const [row] = await other.sql('select timeline_id from pg_control_checkpoint()');
    timeline = row.timeline_id;
    await other.sql('select pg_switch_wal()');
  });
  return timeline;
}

const segmentsOf = (archive: string, timeline: number): string[] =>
  readdirSync(archive)
    .filter(name => name.length === 24 && parseInt(name.slice(0, 8), 16) === timeline)
    .sort();

describe('a log of three timelines', () => {
  const major: StockMajor = 15;

  test(
    'is followed through its promotions, in a directory and in an archive',
    async () => {
      const postgres = await StockPostgres.start(major, { settings: SETTINGS });
      try {
        const archive = join(postgres.home, 'archive');
        const base = join(postgres.home, 'base');
        const promoted = join(postgres.home, 'promoted');
        mkdirSync(archive);
        await postgres.session(client => all(sqlOf(client), SCHEMA));
        await backUp(postgres, base);
        await postgres.sql('select pg_switch_wal()');
        archiveWal(postgres.dataDirectory, archive);
        cpSync(base, promoted, { recursive: true });
        mkdirSync(join(promoted, 'pg_wal'));
        expect(await promote(postgres, promoted, archive, [2002, 2003])).toBe(2);
        // The first server goes on for itself, over segments that the second timeline has as well.
        for (const i of [2004, 2005, 2006]) {
          await postgres.session(client => all(sqlOf(client), [...round(i), 'select pg_switch_wal()']));
        }
        await postgres.stop();
        archiveWal(postgres.dataDirectory, archive);
        archiveWal(promoted, archive);
        expect(await promote(postgres, promoted, archive, [2007, 2008])).toBe(3);
        archiveWal(promoted, archive);
        expect([1, 2, 3].filter(tli => segmentsOf(archive, tli).length === 0)).toEqual([]);

        expectSound(verify(base, archive, '--final', promoted), 2_000);
        // The other end of the fork is the first server's own.
        expectSound(verify(base, archive, '--timeline', '1', '--final', postgres.dataDirectory), 2_000);
        // An archive in any order.
        const names = readdirSync(archive).reverse();
        const tar = join(postgres.home, 'archive.tar');
        execFileSync('tar', ['-cf', tar, '-C', archive, ...names]);
        expectSound(verify(base, tar, '--final', promoted), 2_000);

        // What the fork's own timeline lost is not to be had from its parent.
        const fork = segmentsOf(archive, 2)[0]!;
        rmSync(join(archive, fork));
        const hole = verify(base, archive);
        expect(hole.code).toBe(1);
        expect(hole.err).toMatch(/the WAL segment after .* is missing/);
        // Nor does a log serve that never was the base's.
        const history = join(archive, '00000003.history');
        writeFileSync(
          history,
          readFileSync(history, 'utf8')
            .replaceAll('\t', ' ')
            .replace(/^1 \S+/m, '1 0/60'),
        );
        expect(verify(base, archive).err).toContain('does not come from timeline 1');
      } finally {
        await postgres.destroy();
      }
    },
    TIMEOUT_MS,
  );
});
