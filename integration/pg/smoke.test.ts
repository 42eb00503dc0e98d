// A stock Neon compute on the whole system: what it writes is there after it is gone, on the primary, on branches, at
// old LSNs and on a replica.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { amcheck } from './checks.ts';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';

const majors = majorsHere('Neon computes on the whole system');
const COUNT = 'select count(*)::int as n, sum(length(b))::int as bytes from t';

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  let tenant: string;
  let timeline: string;
  let compute: Compute;

  beforeAll(async () => {
    storage = await Storage.start();
    await storage.during(async () => {
      tenant = await storage.createTenant();
      timeline = await storage.createTimeline(tenant, { pgVersion: major });
      compute = await storage.compute({ major, tenant, timeline });
      await compute.query('create table t (a int primary key, b text)');
      await compute.query("insert into t select i, repeat('x', 100) || i from generate_series(1, 50000) i");
    });
  });
  afterAll(() => storage.stop());

  const count = async (on: Compute): Promise<unknown> => (await on.query(COUNT))[0];
  const flushLsn = async (): Promise<string> =>
    (await compute.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn'))[0]!.lsn;

  test('a new compute finds what one that crashed has committed', () =>
    storage.during(async () => {
      const before = await count(compute);
      await compute.stop('SIGKILL');
      await compute.start();
      expect(await count(compute)).toEqual(before);
      await compute.query('update t set b = b || a where a % 3 = 0');
      await compute.query('vacuum t');
      const changed = await count(compute);
      await compute.stop();
      await compute.start();
      expect(await count(compute)).toEqual(changed);
    }));

  test('a static compute reads at an old LSN, and cannot write', () =>
    storage.during(async () => {
      const lsn = await flushLsn();
      const then = await count(compute);
      await compute.query('delete from t where a % 2 = 0');
      await compute.query('create table later (x int)');
      const old = await storage.compute({ major, tenant, timeline, mode: { kind: 'static', lsn } });
      expect(await count(old)).toEqual(then);
      expect(await old.query("select 1 from pg_class where relname = 'later'")).toEqual([]);
      await expect(old.query('create table no (x int)')).rejects.toThrow('read-only');
      await old.stop();
    }));

  test('a replica follows', () =>
    storage.during(async () => {
      const replica = await storage.compute({ major, tenant, timeline, mode: { kind: 'replica' } });
      expect(await count(replica)).toEqual(await count(compute));
      await compute.query("insert into t select i, 'new' from generate_series(100001, 120000) i");
      await compute.query('update t set b = b where a % 5 = 1');
      const lsn = await flushLsn();
      await expect
        .poll(
          async () =>
            (await replica.query('select pg_last_wal_replay_lsn() >= $1::pg_lsn as there', [lsn]))[0],
          {
            timeout: 20_000,
          },
        )
        .toEqual({ there: true });
      expect(await count(replica)).toEqual(await count(compute));
      await expect(replica.query('create table no (x int)')).rejects.toThrow('read-only');
      await replica.stop();
    }));

  test('branches: at an LSN and now, each with its own life', () =>
    storage.during(async () => {
      const lsn = await flushLsn();
      const then = await count(compute);
      await compute.query('delete from t where a % 7 = 0');
      const now = await count(compute);
      const old = await storage.createTimeline(tenant, { ancestor: timeline, lsn });
      const fresh = await storage.createTimeline(tenant, { ancestor: timeline });
      for (const [branch, expected] of [
        [old, then],
        [fresh, now],
      ] as const) {
        const own = await storage.compute({ major, tenant, timeline: branch });
        expect(await count(own)).toEqual(expected);
        await own.query("insert into t select i, 'branch' from generate_series(500001, 501000) i");
        const grown = await count(own);
        await own.stop('SIGKILL');
        await own.start();
        expect(await count(own)).toEqual(grown);
        expect((await amcheck(own)).broken).toEqual([]);
        await own.stop();
      }
      expect(await count(compute)).toEqual(now);
    }));

  test('the pageserver dies, and is served from again', () =>
    storage.during(async () => {
      const before = await count(compute);
      await storage.pageserver.kill('SIGKILL');
      const waiting = compute.query(
        "insert into t select i, 'while away' from generate_series(200001, 201000) i",
      );
      await storage.pageserver.start();
      await waiting;
      await compute.stop('SIGKILL');
      await compute.start();
      expect(await count(compute)).toEqual({
        n: (before as { n: number }).n + 1000,
        bytes: (before as { bytes: number }).bytes + 10_000,
      });
    }));

  test('each safekeeper dies in turn; writes go on', () =>
    storage.during(async () => {
      for (const [i, safekeeper] of storage.safekeepers.entries()) {
        await safekeeper.kill('SIGKILL');
        await compute.query(
          `insert into t select i, 'sk' from generate_series(${300_001 + i * 1000}, ${301_000 + i * 1000}) i`,
        );
        await safekeeper.start();
      }
      const before = await count(compute);
      await compute.stop('SIGKILL');
      await compute.start();
      expect(await count(compute)).toEqual(before);
      expect((await amcheck(compute)).broken).toEqual([]);
      expect(storage.trouble()).toEqual([]);
    }));
});
