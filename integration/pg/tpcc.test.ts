// A load after TPC-C through a compute with small buffers, with crashes under way; its conditions hold at LSNs in
// between, on a branch, and in a new compute. LAKEBED_TPCC_SECONDS sets for how long each part of it runs.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SimRandom } from '../sim/random.ts';
import { amcheck } from './checks.ts';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';
import { setUp, transact, violations } from './tpcc.ts';

const majors = majorsHere('a load after TPC-C through Neon computes');
const SECONDS = Number(process.env['LAKEBED_TPCC_SECONDS'] ?? 4);
const WAREHOUSES = 2;
const CLIENTS = 6;

/** Clients at work until `untilMs`; how many transactions were done. */
async function load(
  compute: Compute,
  random: SimRandom,
  untilMs: number,
  isCrash: () => boolean = () => false,
): Promise<number> {
  let done = 0;
  const one = async (n: number): Promise<void> => {
    const own = random.split(`client ${n}`);
    const client = await compute.connect();
    while (performance.now() < untilMs) {
      try {
        await transact(client, WAREHOUSES, own);
        done++;
      } catch (error) {
        // Two payments and a delivery may wait for each other in a circle; a crash ends all of them.
        if ((error as { code?: string }).code === '40P01') continue;
        if (!isCrash()) throw error;
        return;
      }
    }
    await compute.disconnect(client);
  };
  await Promise.all(Array.from({ length: CLIENTS }, (_, n) => one(n)));
  return done;
}

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  beforeAll(async () => {
    storage = await Storage.start({
      pageserverToml: ['[tenant_config]', 'checkpoint_distance = 4194304', 'compaction_threshold = 3'],
    });
  });
  afterAll(() => storage.stop());

  test('its conditions hold', { timeout: 300_000 }, () =>
    storage.during(async () => {
      const tenant = await storage.createTenant();
      const ids = { tenant, timeline: await storage.createTimeline(tenant, { pgVersion: major }) };
      const compute = await storage.compute({ major, ...ids, settings: { shared_buffers: '2MB' } });
      await setUp(compute, WAREHOUSES);
      const random = new SimRandom(major);
      const lsns: string[] = [];
      let done = 0;
      for (let part = 0; part < 3; part++) {
        let crashed = false;
        const untilMs = performance.now() + SECONDS * 1000;
        const running = load(compute, random.split(`part ${part}`), untilMs, () => crashed);
        await new Promise(resolve => setTimeout(resolve, SECONDS * 600));
        const [row] = await compute.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
        lsns.push(row!.lsn);
        crashed = part === 1;
        if (crashed) await compute.stop('SIGKILL');
        done += await running;
        if (crashed) await compute.start();
      }
      console.log(`Postgres ${major}: ${done} transactions`);
      expect(done).toBeGreaterThan(50);
      await compute.stop('SIGKILL');
      await compute.start();
      expect(await violations(compute)).toEqual([]);
      expect((await amcheck(compute)).broken).toEqual([]);
      for (const lsn of lsns) {
        const old = await storage.compute({ major, ...ids, mode: { kind: 'static', lsn } });
        expect(await violations(old), lsn).toEqual([]);
        await old.stop();
      }
      const branch = await storage.createTimeline(tenant, { ancestor: ids.timeline, lsn: lsns[1]! });
      const other = await storage.compute({ major, tenant, timeline: branch });
      await load(other, random.split('branch'), performance.now() + SECONDS * 500);
      expect(await violations(other)).toEqual([]);
      expect(storage.trouble()).toEqual([]);
    }),
  );
});
