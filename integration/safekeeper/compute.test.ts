// Neon's own walproposer against our safekeepers: elections, pushing, and coming back.

import { afterEach, describe, expect, test } from 'vitest';
import { formatLsn, parseLsn } from '../../src/base/lsn.ts';
import { type InProcess, startInProcess } from './in-process.ts';
import { NeonPostgres, neonMajors } from './neon-postgres.ts';

const majors = neonMajors();
if (majors.length === 0) {
  const why = 'skipped: Neon computes against safekeepers (NEON_PG_DIR does not point at a build of them)';
  console.log(why);
  // A file without a test is an error to the runner.
  test.skip(why, () => {});
}

let next = 1;
const id = (): string => (next++).toString(16).padStart(32, '0');
const open: { stop(): Promise<void> }[] = [];
const clusters: NeonPostgres[] = [];
afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.remove();
  for (const sk of open.splice(0)) await sk.stop();
});

async function safekeepers(count: number): Promise<InProcess[]> {
  const all: InProcess[] = [];
  for (let i = 1; i <= count; i++) {
    const sk = await startInProcess(i);
    open.push(sk);
    all.push(sk);
  }
  return all;
}

async function cluster(options: Parameters<typeof NeonPostgres.create>[0]): Promise<NeonPostgres> {
  const made = await NeonPostgres.create(options);
  clusters.push(made);
  return made;
}

describe.each(majors)('Neon Postgres %i', major => {
  test.each([3, 2])('protocol %i: a commit is on every safekeeper', async proto => {
    const sks = await safekeepers(3);
    const [tenant, timeline] = [id(), id()];
    const settings = { 'neon.safekeeper_proto_version': String(proto) };
    const compute = await cluster({ major, safekeepers: sks, tenant, timeline, settings });
    await compute.start();
    const client = await compute.connect();
    await client.query('create table t (a int, b text)');
    await client.query("insert into t select i, repeat('x', 200) from generate_series(1, 20000) i");
    const { rows } = await client.query('select pg_current_wal_flush_lsn()::text as lsn');
    const flushed = parseLsn(rows[0].lsn);
    const timelines = sks.map(sk => sk.timelines.all()[0]!);
    // A commit waits for two of three; the third follows at once.
    await Promise.all(timelines.map(t => t.waitForCommit(flushed, AbortSignal.timeout(60_000))));
    const replication = await client.query(
      'select write_lsn::text as write, flush_lsn::text as flush, sync_state from pg_stat_get_wal_senders()',
    );
    expect(replication.rows).toMatchObject([{ sync_state: 'sync' }]);
    expect(parseLsn(replication.rows[0].flush)).toBeGreaterThanOrEqual(flushed);
    // The three logs agree byte for byte, from the first byte of the timeline.
    const start = timelines[0]!.status().control.timelineStartLsn;
    for (let at = start; at < flushed; ) {
      const pieces = await Promise.all(timelines.map(t => t.readWal(at, Math.min(1 << 20, flushed - at))));
      expect(pieces.map(p => p.length)).toEqual(pieces.map(() => pieces[0]!.length));
      for (const piece of pieces) expect(Buffer.compare(piece, pieces[0]!)).toBe(0);
      at = (at + pieces[0]!.length) as typeof at;
    }
    await client.end();
    expect(sks.flatMap(sk => sk.trouble)).toEqual([]);
  });

  test('sync-safekeepers finds the end, again and again, and elections follow one another', async () => {
    const sks = await safekeepers(3);
    const [tenant, timeline] = [id(), id()];
    const compute = await cluster({ major, safekeepers: sks, tenant, timeline });
    expect(await compute.syncSafekeepers()).toBe('0/0');
    await compute.start();
    const client = await compute.connect();
    await client.query('create table t (a int)');
    await client.query('insert into t select generate_series(1, 1000)');
    await client.end();
    await compute.stop('SIGQUIT');
    const first = await compute.syncSafekeepers();
    const ends = sks.map(sk => formatLsn(sk.timelines.all()[0]!.flushLsn));
    expect(ends).toEqual([first, first, first]);
    expect(await compute.syncSafekeepers()).toBe(first);
    const terms = sks.map(sk => sk.timelines.all()[0]!.term);
    expect(Math.min(...terms)).toBeGreaterThanOrEqual(3);
    expect(sks.flatMap(sk => sk.trouble)).toEqual([]);
  });

  test('one of three away: commits go on', async () => {
    const sks = await safekeepers(3);
    const [tenant, timeline] = [id(), id()];
    const away = sks[2]!;
    const compute = await cluster({ major, safekeepers: sks, tenant, timeline });
    await compute.start();
    const client = await compute.connect();
    await client.query('create table t (a int, b text)');
    await away.timelines.all()[0]!.close();
    await client.query("insert into t select i, repeat('y', 500) from generate_series(1, 5000) i");
    const { rows } = await client.query('select pg_current_wal_flush_lsn()::text as lsn');
    expect(sks[0]!.timelines.all()[0]!.flushLsn).toBeGreaterThanOrEqual(parseLsn(rows[0].lsn));
    await client.end();
  });
});
