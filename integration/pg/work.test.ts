// Work of every kind through a compute, in rounds with restarts and crashes between them; afterwards every round is
// read again at its LSN by a static compute, and a new compute checks every index and table.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { amcheck } from './checks.ts';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';
import { digest, setUp, work } from './work.ts';

const majors = majorsHere('work of every kind through Neon computes');
const ROUNDS = Number(process.env['LAKEBED_WORK_ROUNDS'] ?? 4);

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  beforeAll(async () => {
    // Small layers, so that flushes and compactions happen under the test.
    const tenantConfig = [
      '[tenant_config]',
      'checkpoint_distance = 8388608',
      'compaction_threshold = 3',
      'compaction_target_size = 8388608',
    ];
    storage = await Storage.start({ pageserverToml: tenantConfig });
  });
  afterAll(() => storage.stop());

  test(`${ROUNDS} rounds`, { timeout: 600_000 }, () =>
    storage.during(async () => {
      const tenant = await storage.createTenant();
      const timeline = await storage.createTimeline(tenant, { pgVersion: major });
      const compute = await storage.compute({ major, tenant, timeline, settings: { shared_buffers: '1MB' } });
      await setUp(compute);
      const points: { lsn: string; digest: string }[] = [];
      for (let n = 0; n < ROUNDS; n++) {
        await work(compute, n);
        points.push({ digest: await digest(compute), lsn: await flushLsn(compute) });
        await compute.stop(n % 2 === 0 ? 'SIGKILL' : 'SIGINT');
        if (n % 2 === 1) await storage.pageserver.kill('SIGKILL').then(() => storage.pageserver.start());
        await compute.start();
        expect(await digest(compute), `after round ${n}`).toBe(points.at(-1)!.digest);
      }
      expect((await amcheck(compute)).broken).toEqual([]);
      for (const point of points) {
        const old = await storage.compute({
          major,
          tenant,
          timeline,
          mode: { kind: 'static', lsn: point.lsn },
        });
        expect(await digest(old), `at ${point.lsn}`).toBe(point.digest);
        await old.stop();
      }
      expect(storage.trouble()).toEqual([]);
    }),
  );
});

async function flushLsn(compute: Compute): Promise<string> {
  const [row] = await compute.query<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn');
  return row!.lsn;
}
