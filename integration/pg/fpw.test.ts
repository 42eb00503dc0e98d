// full_page_writes turned off and on again under load, with no restart: the pageserver follows each XLOG_FPW_CHANGE at
// its LSN, the log carries images or none accordingly, the storage makes images of pages on which edits pile up, and
// what is read is right across switches, crashes and branches.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { amcheck, comparePages } from './checks.ts';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';
import { Ledger } from './ledger.ts';

const majors = majorsHere('full-page writes switched under Neon computes');

/** Few edits earn an image, and layers are small: all of it happens under the test. */
const TENANT = [
  '[tenant_config]',
  'checkpoint_distance = 1048576',
  'compaction_threshold = 2',
  'image_creation_edits = 16',
];

interface Mode {
  readonly on: boolean;
  readonly lsn: string;
}

const flushLsn = async (compute: Compute): Promise<string> =>
  (await compute.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn'))[0]!.lsn;

/** ALTER SYSTEM under load; the end of the record that tells of it. */
async function turn(compute: Compute, setting: 'on' | 'off'): Promise<string> {
  const from = await flushLsn(compute);
  // Not within a transaction, so one by one.
  await compute.query(`alter system set full_page_writes = ${setting}`);
  await compute.query('select pg_reload_conf()');
  let found: { lsn: string }[] = [];
  await expect
    .poll(
      async () => {
        found = await compute.query<{ lsn: string }>(
          `select end_lsn::text as lsn from pg_get_wal_records_info('${from}', pg_current_wal_flush_lsn())
           where resource_manager = 'XLOG' and record_type = 'FPW_CHANGE'`,
        );
        return found.length;
      },
      { timeout: 30_000 },
    )
    .toBe(1);
  return found[0]!.lsn;
}

/** Bytes of page images that changes of tables and B-trees carried. */
async function imageBytes(compute: Compute, from: string, to: string): Promise<number> {
  const [row] = await compute.query<{ bytes: string }>(
    `select coalesce(sum(fpi_length), 0)::text as bytes from pg_get_wal_records_info($1, $2)
     where resource_manager in ('neon', 'Heap', 'Heap2', 'Btree')`,
    [from, to],
  );
  return Number(row!.bytes);
}

/** Every booking has both its sides, at whatever LSN one looks. */
async function balanced(compute: Compute): Promise<number> {
  const [row] = await compute.query<{ n: number; odd: number; sum: string }>(
    `select count(*)::int as n, (count(*) filter (where sides <> 2 or total <> 0))::int as odd,
            (select sum(amount)::text from balance) as sum
     from (select count(*) as sides, sum(amount) as total from booking group by client, seq) b`,
  );
  expect(row).toMatchObject({ odd: 0, sum: '0' });
  return row!.n;
}

const MORE_BOOKINGS = `
  insert into booking select 99, i, s, s * 2 - 1 from generate_series(1, 500) i, generate_series(0, 1) s`;

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  let ids: { tenant: string; timeline: string };
  beforeAll(async () => {
    storage = await Storage.start({ pageserverToml: TENANT });
    await storage.during(async () => {
      const tenant = await storage.createTenant();
      ids = { tenant, timeline: await storage.createTimeline(tenant, { pgVersion: major }) };
    });
  });
  afterAll(() => storage.stop());

  const detail = (timeline: string): Promise<{ full_page_writes: Mode; images_made: { pages: number } }> =>
    storage.timeline(ids.tenant, timeline) as never;
  const follows = (timeline: string, mode: Mode): Promise<void> =>
    expect.poll(async () => (await detail(timeline)).full_page_writes, { timeout: 30_000 }).toEqual(mode);
  const start = (timeline: string, settings: Record<string, string> = {}): Promise<Compute> =>
    storage.compute({
      major,
      tenant: ids.tenant,
      timeline,
      // What the compute wrote stays in its buffers, for comparing.
      settings: {
        shared_buffers: '64MB',
        autovacuum: 'off',
        wal_log_hints: 'off',
        wal_keep_size: '1GB',
        ...settings,
      },
    });

  const checkpoint = (timeline: string): Promise<void> =>
    storage.http('PUT', `tenant/${ids.tenant}/timeline/${timeline}/checkpoint`);
  const modeIs = (timeline: string, on: boolean): Promise<void> =>
    expect.poll(async () => (await detail(timeline)).full_page_writes?.on, { timeout: 30_000 }).toBe(on);

  let compute: Compute;
  let ledger: Ledger;
  /** Where the load stood under each setting. */
  const points: { lsn: string; setting: 'on' | 'off' }[] = [];
  /** The last change, to off. */
  let last = '';

  test('each switch is followed at its LSN, and images come and go with it', { timeout: 300_000 }, () =>
    storage.during(async () => {
      compute = await start(ids.timeline);
      await compute.query('create extension pg_walinspect');
      await compute.query('create table hot as select i as id, 0 as n from generate_series(1, 100) i');
      ledger = await Ledger.create(compute, 4);
      ledger.start();
      for (const setting of ['off', 'on', 'off', 'on', 'off'] as const) {
        const lsn = await turn(compute, setting);
        await follows(ids.timeline, { on: setting === 'on', lsn });
        // From a checkpoint on, the first change of each page would carry its image.
        await compute.query('checkpoint');
        const from = await flushLsn(compute);
        await ledger.allProgress(30_000);
        await compute.query('update hot set n = n + 1');
        const to = await flushLsn(compute);
        const images = await imageBytes(compute, from, to);
        if (setting === 'on') expect(images).toBeGreaterThan(0);
        else expect(images).toBe(0);
        points.push({ lsn: to, setting });
      }
    }),
  );

  test('with the setting off, storage makes images of pages that gather edits', { timeout: 120_000 }, () =>
    storage.during(async () => {
      const before = (await detail(ids.timeline)).images_made.pages;
      await expect
        .poll(
          async () => {
            await compute.query('update hot set n = n + 1');
            await checkpoint(ids.timeline);
            return (await detail(ids.timeline)).images_made.pages;
          },
          { timeout: 60_000, interval: 50 },
        )
        .toBeGreaterThan(before);
    }),
  );

  test('a checkpoint that ends after a switch tells of what was before it', { timeout: 120_000 }, () =>
    storage.during(async () => {
      const slow = compute.query('checkpoint');
      const during = await turn(compute, 'on');
      await slow;
      await follows(ids.timeline, { on: true, lsn: during });
      last = await turn(compute, 'off');
      await follows(ids.timeline, { on: false, lsn: last });
      await ledger.allProgress(30_000);
      await ledger.stop();
      const compared = await comparePages(compute, 'postgres', dialectOfMajor(major, 'neon'));
      expect(compared.different).toEqual([]);
    }),
  );

  test('through crashes of the pageserver and the compute', { timeout: 120_000 }, () =>
    storage.during(async () => {
      await storage.pageserver.kill('SIGKILL');
      await storage.pageserver.start();
      await follows(ids.timeline, { on: false, lsn: last });
      const reports: unknown[] = [];
      // A server that starts with another setting than the one before it says so with its first checkpoint.
      for (const setting of ['on', 'off']) {
        await compute.stop('SIGKILL');
        compute = await start(ids.timeline, { full_page_writes: setting });
        await compute.query('checkpoint');
        await modeIs(ids.timeline, setting === 'on');
        const report = await ledger.check(compute);
        expect([report.lost, report.strange]).toEqual([[], []]);
        reports.push(report);
      }
      expect(reports[1]).toEqual(reports[0]);
      expect((await amcheck(compute)).broken).toEqual([]);
    }),
  );

  test('each point as it was, and a branch that goes on from it', { timeout: 300_000 }, () =>
    storage.during(async () => {
      let seen = 0;
      for (const { lsn, setting } of points) {
        const old = await storage.compute({ major, ...ids, mode: { kind: 'static', lsn } });
        const bookings = await balanced(old);
        expect(bookings).toBeGreaterThanOrEqual(seen);
        seen = bookings;
        await old.stop();
        const branch = await storage.createTimeline(ids.tenant, { ancestor: ids.timeline, lsn });
        const own = await start(branch, { full_page_writes: setting });
        expect(await balanced(own)).toBe(bookings);
        await own.query('update hot set n = n + 1');
        await own.query(MORE_BOOKINGS);
        await own.query('checkpoint');
        await modeIs(branch, setting === 'on');
        await checkpoint(branch);
        await own.stop('SIGKILL');
        const again = await start(branch, { full_page_writes: setting });
        expect(await balanced(again)).toBe(bookings + 500);
        expect((await amcheck(again)).broken).toEqual([]);
        await again.stop();
      }
      expect(storage.trouble()).toEqual([]);
    }),
  );
});
