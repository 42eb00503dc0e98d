// Other ways to hold a tenant and to reach it: in shards, with SLRUs fetched as they are needed, behind tokens and TLS.

import { afterEach, describe, expect, test } from 'vitest';
import { amcheck } from './checks.ts';
import { majorsHere, Storage } from './harness.ts';
import { digest, setUp, work } from './work.ts';

const majors = majorsHere('shards, lazy SLRUs, tokens and TLS under Neon computes');

let storage: Storage | undefined;
afterEach(() => storage?.stop());

describe.each(majors.slice(-1))('Neon Postgres %i', major => {
  test('four shards', { timeout: 300_000 }, async () => {
    storage = await Storage.start();
    const s = storage;
    await s.during(async () => {
      const shards = { count: 4, stripeSize: 16 };
      const ids = { major, shards, ...(await s.createShardedTimeline(major, shards)) };
      const compute = await s.compute({ ...ids, settings: { shared_buffers: '2MB' } });
      await setUp(compute);
      await work(compute, 0);
      const zeroth = await digest(compute);
      const [row] = await compute.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
      await compute.stop('SIGKILL');
      await s.pageserver.kill('SIGKILL');
      await s.pageserver.start();
      await compute.start();
      expect(await digest(compute)).toBe(zeroth);
      await work(compute, 1);
      await compute.stop('SIGKILL');
      await compute.start();
      expect((await amcheck(compute)).broken).toEqual([]);
      const old = await s.compute({ ...ids, mode: { kind: 'static', lsn: row!.lsn } });
      expect(await digest(old)).toBe(zeroth);
      expect(s.trouble()).toEqual([]);
    });
  });

  test('SLRUs fetched as they are needed', { timeout: 300_000 }, async () => {
    storage = await Storage.start();
    const s = storage;
    await s.during(async () => {
      const tenant = await s.createTenant({ lazy_slru_download: true });
      const timeline = await s.createTimeline(tenant, { pgVersion: major });
      const compute = await s.compute({ major, tenant, timeline });
      await compute.query('create table t (a int)');
      // Transactions enough for several segments of pg_xact, each asked about again by a new compute.
      await compute.query('create extension neon_test_utils');
      for (let i = 0; i < 5; i++) {
        await compute.query(`insert into t values (${i})`);
        await compute.query('select test_consume_xids(500000)');
      }
      await compute.stop('SIGKILL');
      await compute.start();
      expect(await compute.query('select count(*)::int as n from t')).toEqual([{ n: 5 }]);
      const metrics = await (await fetch(`http://127.0.0.1:${s.pageserverHttpPort}/metrics`)).text();
      const asked = /pageserver_smgr_query_seconds_count\{smgr_query_type="get_slru_segment"\} (\d+)/.exec(
        metrics,
      );
      expect(Number(asked?.[1])).toBeGreaterThan(0);
      expect((await amcheck(compute)).broken).toEqual([]);
    });
  });

  test('tokens and TLS', async () => {
    storage = await Storage.start({ tokens: true, tls: true });
    const s = storage;
    await s.during(async () => {
      const tenant = await s.createTenant();
      const timeline = await s.createTimeline(tenant, { pgVersion: major });
      const token = await s.token(tenant);
      const compute = await s.compute({ major, tenant, timeline, token });
      await compute.query('create table t as select generate_series(1, 20000) as a');
      await compute.stop('SIGKILL');
      await compute.start();
      expect(await compute.query('select count(*)::int as n from t')).toEqual([{ n: 20_000 }]);
      const replica = { major, tenant, timeline, mode: { kind: 'replica' } } as const;
      const other = await s.token('0123456789abcdef0123456789abcdef');
      await expect(s.newCompute({ ...replica, token: other }).start()).rejects.toThrow(/permission|tenant/i);
      await expect(s.newCompute(replica).start()).rejects.toThrow(/password/);
    });
  });
});
