// pgbench through a compute, in all its modes; its own invariant holds at every LSN: the balances of accounts, tellers
// and branches and the deltas of history have one sum.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { amcheck } from './checks.ts';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';

const majors = majorsHere('pgbench through Neon computes');
const SECONDS = Number(process.env['LAKEBED_PGBENCH_SECONDS'] ?? 5);
const SUMS = `
  select (select sum(abalance) from pgbench_accounts)::text as accounts,
         (select sum(tbalance) from pgbench_tellers)::text as tellers,
         (select sum(bbalance) from pgbench_branches)::text as branches,
         (select coalesce(sum(delta), 0) from pgbench_history)::text as history`;

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  let compute: Compute;
  let ids: { tenant: string; timeline: string };
  beforeAll(async () => {
    storage = await Storage.start();
    await storage.during(async () => {
      const tenant = await storage.createTenant();
      ids = { tenant, timeline: await storage.createTimeline(tenant, { pgVersion: major }) };
      compute = await storage.compute({ major, ...ids, settings: { shared_buffers: '8MB' } });
      await compute.program('pgbench', ['-i', '-s', '3', '-q']);
    });
  });
  afterAll(() => storage.stop());

  const sums = async (on: Compute): Promise<string> => {
    const [row] = await on.query<Record<string, string>>(SUMS);
    const values = new Set(Object.values(row!));
    expect(values.size, JSON.stringify(row)).toBe(1);
    return [...values][0]!;
  };

  test.each([
    ['tpcb-like', []],
    ['tpcb-like, prepared', ['-M', 'prepared']],
    ['simple-update', ['-N']],
    ['select-only', ['-S']],
  ])('%s', (name, flags) =>
    storage.during(async () => {
      const said = await compute.program('pgbench', ['-c', '8', '-j', '2', '-T', String(SECONDS), ...flags]);
      console.log(`Postgres ${major}, ${name}: ${/tps = [\d.]+/.exec(said)?.[0]}`);
      expect(said).toContain('number of failed transactions: 0 ');
    }),
  );

  test('one sum, now, on a branch under load, and at LSNs in between', { timeout: 300_000 }, () =>
    storage.during(async () => {
      await compute.query(
        'truncate pgbench_history; update pgbench_accounts set abalance = 0; update pgbench_tellers set tbalance = 0; update pgbench_branches set bbalance = 0',
      );
      const lsns: string[] = [];
      const bench = compute.program('pgbench', ['-n', '-c', '4', '-j', '2', '-T', String(SECONDS)]);
      for (let i = 0; i < 3; i++) {
        await new Promise(done => setTimeout(done, (SECONDS * 1000) / 4));
        const [row] = await compute.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
        lsns.push(row!.lsn);
      }
      const branch = await storage.createTimeline(ids.tenant, { ancestor: ids.timeline });
      await bench;
      const final = await sums(compute);
      for (const lsn of lsns) {
        const old = await storage.compute({ major, ...ids, mode: { kind: 'static', lsn } });
        expect(await sums(old)).not.toBe(final);
        await old.stop();
      }
      const other = await storage.compute({ major, tenant: ids.tenant, timeline: branch });
      await sums(other);
      await other.program('pgbench', ['-n', '-c', '4', '-j', '2', '-T', '2']);
      await sums(other);
      expect((await amcheck(other)).broken).toEqual([]);
      expect(await sums(compute)).toBe(final);
    }),
  );
});
