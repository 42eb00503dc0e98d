// Adoption under trouble: the adopter killed in the middle of each step, safekeepers one at a time and two at once, the
// origin restarted and crashed, the pageserver killed; all while clients work on the origin. What was acknowledged is in
// storage at the end, row for row, and nothing was done twice.

import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import {
  Adopter,
  adoptMajors,
  contents,
  hasAll,
  Load,
  lsnOf,
  Origin,
  opened,
  sound,
  until,
} from './adopting.ts';
import type { Daemon } from './daemon.ts';
import { Storage } from './harness.ts';

const TIMEOUT_MS = 240_000;
const MB = 1_000_000;
/** More than an adopter keeps in memory for a safekeeper that was away. */
const MUCH_WAL_BYTES = 80 * MB;

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Stage {
  readonly storage: Storage;
  readonly tenant: string;
  readonly origin: Origin;
}

async function stage(major: Parameters<typeof Origin.start>[0]): Promise<Stage> {
  const storage = await Storage.start();
  cleanups.push(() => storage.stop());
  const tenant = await storage.createTenant();
  const origin = await Origin.start(major);
  cleanups.push(() => origin.server.destroy());
  await origin.fill();
  return { storage, tenant, origin };
}

const committedTo = (storage: Storage, tenant: string, timeline: string, lsn: string): Promise<void> =>
  until(`the pageserver to reach ${lsn}`, async () => {
    const { last_record_lsn } = await storage.timeline(tenant, timeline);
    return lsnOf(last_record_lsn) >= lsnOf(lsn);
  });

async function timelineExists({ storage, tenant }: Stage, timeline: string): Promise<boolean> {
  const found = await storage.http<{ timeline_id: string }[]>('GET', `tenant/${tenant}/timeline`);
  return found.some(t => t.timeline_id === timeline);
}

describe.each(adoptMajors([17]))('Postgres %i', major => {
  test('the adopter is killed in the middle of the base backup, after it, and while it streams', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const all = await stage(major);
    const { storage, tenant, origin } = all;
    await storage.during(async () => {
      const load = new Load(origin, 3);
      cleanups.push(() => load.stop());
      await load.more(50);
      const adopter = new Adopter(storage, tenant, origin);
      cleanups.push(() => adopter.kill());
      // Slow enough to be in the middle of it.
      adopter.start('--max-rate', '8192');
      await adopter.event('base-backup', e => (e['doneBytes'] as number) > 5 * MB);
      await adopter.kill();
      const { timeline } = adopter;
      expect(await timelineExists(all, timeline)).toBe(false);

      adopter.start();
      await adopter.event('imported');
      await adopter.kill();
      expect(await timelineExists(all, timeline)).toBe(true);
      const imports = adopter.events.filter(e => e.step === 'imported').length;
      expect(imports).toBe(1);

      for (let round = 1; round <= 3; round++) {
        adopter.start();
        await adopter.event('elected', e => e['term'] === round || e['term'] === round + 1);
        await load.more(100);
        await committedTo(storage, tenant, timeline, await origin.flushLsn());
        if (round < 3) await adopter.kill();
      }
      const checks = adopter.events.filter(e => e.step === 'checked');
      expect(checks.map(e => [e['timeline'], e['resumed']])).toEqual([
        [timeline, false],
        ...Array.from({ length: 4 }, () => [timeline, true]),
      ]);
      expect(await origin.server.sql('select count(*)::int from pg_replication_slots')).toEqual([
        { count: 1 },
      ]);

      // Another adopter with the same record takes over; the first sees it and ends.
      const other = new Adopter(storage, tenant, origin, '--data-dir', join(storage.dir, 'other'));
      cpSync(join(storage.dir, 'adopter'), join(storage.dir, 'other'), { recursive: true });
      other.start();
      cleanups.push(() => other.kill());
      expect(await adopter.exit()).toBe(3);
      expect(adopter.events.at(-1)).toMatchObject({ step: 'ended', ended: 'taken-over' });
      await other.event('elected');
      await load.more(50);
      await load.stop();
      const lsn = await origin.flushLsn();
      await committedTo(storage, tenant, timeline, lsn);
      const expected = await contents(origin.server);
      await opened(storage, { tenant, branch: timeline, at: lsn }, origin, async server => {
        expect(await contents(server)).toEqual(expected);
        await hasAll(server, load.acknowledged);
        await sound(server);
      });
    });
  });

  test('safekeepers, the pageserver and the origin go away and come back while it streams', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const { storage, tenant, origin } = await stage(major);
    await storage.during(async () => {
      const [one, two, three] = storage.safekeepers as readonly Daemon[] as readonly [Daemon, Daemon, Daemon];
      const adopter = new Adopter(storage, tenant, origin);
      cleanups.push(() => adopter.kill());
      adopter.start();
      await adopter.event('caught-up');
      const { timeline } = adopter;
      const load = new Load(origin, 3);
      cleanups.push(() => load.stop());
      const everywhere = async (): Promise<void> =>
        committedTo(storage, tenant, timeline, await origin.flushLsn());

      // Each safekeeper in turn.
      for (const safekeeper of [one, two, three]) {
        await safekeeper.kill('SIGKILL');
        await load.more(50);
        await everywhere();
        await safekeeper.start();
      }
      // One is away for longer than the adopter remembers: another one gives it the rest.
      await three.kill('SIGKILL');
      await origin.server.sql('create table bulk (body text)');
      const [{ lsn: before }] = await origin.server.sql('select pg_current_wal_lsn()::text as lsn');
      for (let written = 0; written < MUCH_WAL_BYTES; ) {
        await origin.server.sql(
          `insert into bulk select string_agg(md5((i * j)::text), '') from generate_series(1, 100) i, generate_series(1, 200) j group by i`,
        );
        const sql = `select pg_wal_lsn_diff(pg_current_wal_lsn(), '${before}')::bigint::int as written`;
        written = (await origin.server.sql(sql))[0].written as number;
      }
      await everywhere();
      const behind = await origin.flushLsn();
      await three.start();
      await until('the third safekeeper to catch up', async () => {
        const url = `http://127.0.0.1:${storage.safekeepers[2]!.httpPort}/v1/tenant/${tenant}/timeline/${timeline}`;
        const answer = await fetch(url).catch(() => undefined);
        if (!answer?.ok) return false;
        const { flush_lsn } = (await answer.json()) as { flush_lsn: string };
        return lsnOf(flush_lsn) >= lsnOf(behind);
      });

      // Commits that wait for storage wait while there is no quorum, and go on after.
      await origin.server.sql(`alter system set synchronous_standby_names = 'lakebed'`);
      await origin.server.sql('select pg_reload_conf()');
      await load.more(20);
      await Promise.all([one.kill('SIGKILL'), two.kill('SIGKILL')]);
      await until('commits to wait', async () => {
        const waiting = await origin.server.sql(
          `select count(*)::int from pg_stat_activity where wait_event = 'SyncRep'`,
        );
        return waiting[0].count === 3;
      });
      await Promise.all([one.start(), two.start()]);
      await load.more(20);

      await storage.pageserver.kill('SIGKILL');
      await load.more(50);
      await storage.pageserver.start();
      await everywhere();

      await origin.server.stop();
      await origin.server.start();
      await load.more(50);
      await origin.server.stop('SIGQUIT');
      await origin.server.start();
      await load.more(50);
      await load.stop();

      const lsn = await origin.flushLsn();
      await committedTo(storage, tenant, timeline, lsn);
      const [slot] = await origin.server.sql(
        `select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) < 1e6 as follows, active from pg_replication_slots`,
      );
      expect(slot).toEqual({ follows: true, active: true });
      const expected = await contents(origin.server);
      await opened(storage, { tenant, branch: timeline, at: lsn }, origin, async server => {
        expect(await contents(server)).toEqual(expected);
        await hasAll(server, load.acknowledged);
        await sound(server);
      });
    });
  });
});
