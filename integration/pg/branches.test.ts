// Branches and time travel in use: many branches of one parent made while it works, each with exactly the state of its
// moment; written on, and none sees another's; a branch at a time between two known rows; a static compute at an old
// LSN; and all of them again after garbage collection with no history to spare.
//
// LAKEBED_BRANCHES says how many (100 is what is claimed, CI has time for less).

import { afterEach, describe, expect, test } from 'vitest';
import {
  Adopter,
  contents,
  Load,
  lakebed,
  lsnOf,
  Origin,
  opened,
  placeArgs,
  sound,
  until,
} from './adopting.ts';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';

const BRANCHES = Number(process.env['LAKEBED_BRANCHES'] ?? 12);

const TIMEOUT_MS = 240_000 + BRANCHES * 10_000;

/** Nothing is kept but what a branch or a lease needs; small layers, so that there is something to collect. */
const SHORT_HISTORY = {
  pitr_interval: '0s',
  gc_period: '0s',
  gc_horizon: 0,
  lsn_lease_length: '500ms',
  lsn_lease_length_for_ts: '500ms',
  checkpoint_distance: 1024 * 1024,
  compaction_target_size: 1024 * 1024,
  compaction_threshold: 2,
  image_creation_threshold: 1,
};

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Branch {
  readonly id: string;
  readonly lsn: string;
}

async function branchNow(storage: Storage, tenant: string, ancestor: string): Promise<Branch> {
  const id = await storage.createTimeline(tenant, { ancestor });
  const { ancestor_lsn } = await storage.timeline(tenant, id);
  return { id, lsn: ancestor_lsn! };
}

/** Layers out, merged, and whatever nobody needs collected. */
async function collect(storage: Storage, tenant: string, timeline: string): Promise<void> {
  const path = `tenant/${tenant}/timeline/${timeline}`;
  await storage.http('PUT', `${path}/checkpoint`);
  await storage.http('PUT', `${path}/compact`);
  await storage.http('PUT', `${path}/do_gc`, { gc_horizon: 0 });
}

async function lsnAt(storage: Storage, tenant: string, timeline: string, time: string): Promise<string> {
  const query = `timestamp=${encodeURIComponent(time)}`;
  const path = `tenant/${tenant}/timeline/${timeline}/get_lsn_by_timestamp?${query}`;
  const { lsn, kind } = await storage.http<{ lsn: string; kind: string }>('GET', path);
  expect(kind).toBe('present');
  return lsn;
}

/** First, last, and some between; all of them when they are few. */
const sampleOf = <T>(all: readonly T[], count: number): T[] =>
  all.length <= count
    ? [...all]
    : Array.from({ length: count }, (_, i) => all[Math.round((i * (all.length - 1)) / (count - 1))]!);

describe('of an adopted stock Postgres', () => {
  test('made under load; each the state of its moment, before and after garbage collection', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const storage = await Storage.start();
    cleanups.push(() => storage.stop());
    await storage.during(async () => {
      const tenant = await storage.createTenant(SHORT_HISTORY);
      const origin = await Origin.start(17);
      cleanups.push(() => origin.server.destroy());
      await origin.fill();
      const adopter = new Adopter(storage, tenant, origin);
      cleanups.push(() => adopter.kill());
      adopter.start();
      await adopter.event('caught-up');
      const { timeline } = adopter;
      const load = new Load(origin, 3);
      cleanups.push(() => load.stop());
      await load.more(50);
      const unkept = (await storage.timeline(tenant, timeline)).last_record_lsn;
      const branches: Branch[] = [];
      for (let i = 0; i < BRANCHES; i++) {
        await load.more(10);
        branches.push(await branchNow(storage, tenant, timeline));
      }
      const first = await origin.mark('first');
      await origin.mark('second');
      await load.more(50);
      await load.stop();
      const end = await origin.flushLsn();
      await until(`the pageserver to reach ${end}`, async () => {
        const { last_record_lsn } = await storage.timeline(tenant, timeline);
        return lsnOf(last_record_lsn) >= lsnOf(end);
      });
      const lsn = await lsnAt(storage, tenant, timeline, first.time);
      const between = { id: await storage.createTimeline(tenant, { ancestor: timeline, lsn }), lsn };

      const states = new Map<Branch, Awaited<ReturnType<typeof contents>>>();
      let before = -1;
      for (const branch of sampleOf(branches, 3)) {
        await opened(storage, { tenant, branch: branch.id }, origin, async server => {
          await sound(server);
          const [{ count }] = await server.sql('select count(*)::int from history');
          expect(count).toBeGreaterThan(before);
          before = count as number;
          states.set(branch, await contents(server));
        });
      }
      await opened(storage, { tenant, branch: between.id }, origin, async server => {
        expect(await server.sql('select name from marker')).toEqual([{ name: 'first' }]);
        states.set(between, await contents(server));
      });

      // With no history to spare, the parent's past is gone, but for what its children stand on.
      await until('the leases to end', async () => {
        await collect(storage, tenant, timeline);
        const place = [...placeArgs(storage, tenant), '--pages', `127.0.0.1:${storage.pageserverPort}`];
        const directory = `${origin.server.home}/collected`;
        const { err, code } = await lakebed('checkout', timeline, directory, ...place, '--at', unkept);
        return code === 1 && /gc cutoff/i.test(err);
      });
      const [branch] = sampleOf(branches, 3).slice(-1);
      for (const kept of [branch!, between]) {
        await opened(storage, { tenant, branch: kept.id }, origin, async server => {
          expect(await contents(server)).toEqual(states.get(kept));
          await sound(server);
        });
      }
    });
  });
});

// ---------------------------------------------------------------------------------------------------- Neon computes

const [newest] = majorsHere('branches under Neon computes').slice(-1);

/** One client that writes 1, 2, 3 ...; whatever state there is, it has them up to some number and no gap. */
class Counter {
  private readonly compute: Compute;
  private stopping = false;
  private readonly running: Promise<void>;
  acknowledged = 0;

  constructor(compute: Compute) {
    this.compute = compute;
    this.running = this.run();
  }

  private async run(): Promise<void> {
    const client = await this.compute.connect();
    while (!this.stopping) {
      await client.query('insert into numbers values ($1, $2)', [this.acknowledged + 1, 'n'.repeat(200)]);
      this.acknowledged++;
    }
    await this.compute.disconnect(client);
  }

  async more(count: number): Promise<void> {
    const target = this.acknowledged + count;
    await until(`${count} more numbers`, () => this.acknowledged >= target);
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.running;
  }
}

const COUNTED = 'select count(*)::int as count, coalesce(max(id), 0)::int as last from numbers';

/** How many numbers a compute sees; there must be no gap. */
async function counted(compute: Compute): Promise<number> {
  const [row] = await compute.query<{ count: number; last: number }>(COUNTED);
  expect(row!.count).toBe(row!.last);
  return row!.count;
}

describe.runIf(newest !== undefined)(`under Neon computes, Postgres ${newest}`, () => {
  test('made under load, written on, compared; static computes; garbage collected behind them', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const major = newest!;
    const storage = await Storage.start();
    cleanups.push(() => storage.stop());
    await storage.during(async () => {
      const tenant = await storage.createTenant(SHORT_HISTORY);
      const parent = await storage.createTimeline(tenant, { pgVersion: major });
      const compute = await storage.compute({ major, tenant, timeline: parent });
      await compute.query('create table numbers (id int primary key, v text)');
      await compute.query('create table mine (branch text)');
      const counter = new Counter(compute);
      cleanups.push(() => counter.stop());
      await counter.more(20);
      const unkept = await storage.timeline(tenant, parent);
      const branches: (Branch & { readonly most: number })[] = [];
      for (let i = 0; i < BRANCHES; i++) {
        await counter.more(5);
        // The pageserver may be behind the commits, never ahead of those on their way.
        const { last_record_lsn } = await storage.timeline(tenant, parent);
        const branch = await branchNow(storage, tenant, parent);
        expect(lsnOf(branch.lsn)).toBeGreaterThanOrEqual(lsnOf(last_record_lsn));
        branches.push({ ...branch, most: counter.acknowledged + 1 });
      }

      // A branch at a time between two rows.
      await counter.stop();
      const known = await counted(compute);
      await compute.query('select pg_sleep(0.01)');
      const [{ time }] = (await compute.query(
        `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as time`,
      )) as [{ time: string }];
      await compute.query('select pg_sleep(0.01)');
      await compute.query(`insert into numbers values (${known + 1}, 'too late')`);
      const [{ lsn: end }] = (await compute.query('select pg_current_wal_flush_lsn()::text as lsn')) as [
        { lsn: string },
      ];
      await until('the pageserver to have it all', async () => {
        const { last_record_lsn } = await storage.timeline(tenant, parent);
        return lsnOf(last_record_lsn) >= lsnOf(end);
      });
      const lsn = await lsnAt(storage, tenant, parent, time);
      const between = await storage.createTimeline(tenant, { ancestor: parent, lsn });

      // Each has the numbers up to its moment, in order of their making; each is written on.
      let before = 0;
      const counts = new Map<string, number>();
      for (const { id, most } of branches) {
        const own = await storage.compute({ major, tenant, timeline: id });
        const count = await counted(own);
        expect(count).toBeGreaterThanOrEqual(before);
        expect(count).toBeLessThanOrEqual(most);
        before = count;
        counts.set(id, count);
        await own.query(`insert into mine values ('${id}')`);
        await own.query(`update numbers set v = '${id}'`);
        await own.stop();
      }
      const atTime = await storage.compute({ major, tenant, timeline: between });
      expect(await counted(atTime)).toBe(known);
      await atTime.stop();

      // A static compute in the past, kept by a lease; the parent saw none of it all.
      const middle = branches[Math.floor(branches.length / 2)]!;
      await storage.http('POST', `tenant/${tenant}/timeline/${parent}/lsn_lease`, { lsn: middle.lsn });
      const fixed = { kind: 'static', lsn: middle.lsn } as const;
      const static_ = await storage.compute({ major, tenant, timeline: parent, mode: fixed });
      expect(await counted(static_)).toBe(counts.get(middle.id));
      await expect(static_.query(`insert into mine values ('static')`)).rejects.toThrow('read-only');
      await static_.stop();
      expect(await compute.query('select * from mine')).toEqual([]);
      expect(await compute.query(`select count(*)::int from numbers where v = '${middle.id}'`)).toEqual([
        { count: 0 },
      ]);

      // Garbage collection with no history to spare: what no branch stands on is gone, the branches are what they were.
      await until('the past of the parent to be collected', async () => {
        await collect(storage, tenant, parent);
        const body = { new_timeline_id: '0123456789abcdef0123456789abcdef', ancestor_timeline_id: parent };
        const { last_record_lsn: ancestor_start_lsn } = unkept;
        return storage.http('POST', `tenant/${tenant}/timeline/`, { ...body, ancestor_start_lsn }, 406).then(
          () => true,
          () => false,
        );
      });
      for (const { id } of sampleOf(branches, 4)) {
        await collect(storage, tenant, id);
        const own = await storage.compute({ major, tenant, timeline: id });
        expect(await counted(own)).toBe(counts.get(id));
        expect(await own.query('select branch from mine')).toEqual([{ branch: id }]);
        expect(await own.query(`select count(*)::int from numbers where v <> '${id}'`)).toEqual([
          { count: 0 },
        ]);
        await own.stop();
      }
      expect(await counted(compute)).toBe(known + 1);
    });
  });
});
