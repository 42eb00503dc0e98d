// Faults under load: each part of the system killed, stopped for a while or robbed of its cache, while clients write.
// Nothing acknowledged may be lost, nothing unacknowledged half there, and clients go on within seconds.
// LAKEBED_FAULT_ROUNDS sets how many; LAKEBED_FAULT_SEED which.

import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { SimRandom } from '../sim/random.ts';
import { amcheck } from './checks.ts';
import type { Compute } from './compute.ts';
import type { Daemon } from './daemon.ts';
import { majorsHere, Storage } from './harness.ts';
import { Ledger } from './ledger.ts';

const majors = majorsHere('faults under Neon computes');
const ROUNDS = Number(process.env['LAKEBED_FAULT_ROUNDS'] ?? 10);
const SEED = Number(process.env['LAKEBED_FAULT_SEED'] ?? 1);
/** Service is back this soon after a fault has ended. */
const BACK_MS = 5000;

interface Scene {
  readonly storage: Storage;
  readonly ledger: Ledger;
  readonly random: SimRandom;
  compute: Compute;
  next(): Promise<Compute>;
}

const pause = (ms: number): Promise<void> => new Promise(done => setTimeout(done, ms));

async function bounce(daemon: Daemon, awayMs: number): Promise<void> {
  await daemon.kill('SIGKILL');
  await pause(awayMs);
  await daemon.start();
}

async function freeze(daemon: Daemon, ms: number): Promise<void> {
  daemon.signal('SIGSTOP');
  await pause(ms);
  daemon.signal('SIGCONT');
}

/** What lies in the pageserver's cache: everything but its settings. */
function wipeCache(storage: Storage): void {
  const tenants = join(storage.dir, 'pageserver', 'tenants');
  for (const tenant of readdirSync(tenants)) {
    rmSync(join(tenants, tenant, 'timelines'), { recursive: true, force: true });
  }
}

const FAULTS: Record<string, (scene: Scene) => Promise<void>> = {
  async 'a safekeeper dies'({ storage, random }) {
    await bounce(storage.safekeepers[random.below(3)]!, 500);
  },
  async 'two safekeepers die'({ storage, random }) {
    const spared = random.below(3);
    const dying = storage.safekeepers.filter((_, i) => i !== spared);
    await Promise.all(dying.map(sk => bounce(sk, 500)));
  },
  async 'the pageserver dies'({ storage }) {
    await bounce(storage.pageserver, 200);
  },
  async 'the pageserver dies and its cache is gone'({ storage }) {
    await storage.pageserver.kill('SIGKILL');
    wipeCache(storage);
    await storage.pageserver.start();
  },
  async 'the broker dies'({ storage }) {
    await bounce(storage.broker, 1000);
  },
  async 'the compute dies'(scene) {
    await scene.compute.stop('SIGKILL');
    scene.compute = await scene.next();
    scene.ledger.target = scene.compute;
  },
  async 'a safekeeper stands still'({ storage, random }) {
    await freeze(storage.safekeepers[random.below(3)]!, 2000);
  },
  async 'the pageserver stands still'({ storage }) {
    await freeze(storage.pageserver, 2000);
  },
  async 'everything dies'(scene) {
    const { storage } = scene;
    await Promise.all([scene.compute.stop('SIGKILL'), ...storage.daemons.map(d => d.kill('SIGKILL'))]);
    await Promise.all(storage.daemons.map(d => d.start()));
    scene.compute = await scene.next();
    scene.ledger.target = scene.compute;
  },
};

describe.each(majors.slice(-1))('Neon Postgres %i', major => {
  test(`${ROUNDS} rounds, seed ${SEED}`, { timeout: ROUNDS * 60_000 + 120_000 }, async () => {
    const storage = await Storage.start({
      pageserverToml: ['[tenant_config]', 'checkpoint_distance = 4194304', 'compaction_threshold = 3'],
    });
    await storage.during(async () => {
      const tenant = await storage.createTenant();
      const timeline = await storage.createTimeline(tenant, { pgVersion: major });
      const next = (): Promise<Compute> =>
        storage.compute({ major, tenant, timeline, settings: { shared_buffers: '2MB' } });
      const compute = await next();
      const scene: Scene = {
        storage,
        ledger: await Ledger.create(compute, 6),
        random: new SimRandom(SEED),
        compute,
        next,
      };
      const names = Object.keys(FAULTS);
      const back: string[] = [];
      scene.ledger.start();
      await scene.ledger.allProgress(BACK_MS);
      for (let round = 0; round < ROUNDS; round++) {
        const name = round < names.length ? names[round]! : names[scene.random.below(names.length)]!;
        await pause(300 + scene.random.below(1000));
        await FAULTS[name]!(scene);
        const endMs = performance.now();
        await scene.ledger.allProgress(60_000);
        const backMs = performance.now() - endMs;
        back.push(`${name}: ${Math.round(backMs)} ms`);
        expect(backMs, name).toBeLessThan(BACK_MS);
      }
      await scene.ledger.stop();
      await scene.compute.stop('SIGKILL');
      const fresh = await next();
      const report = await scene.ledger.check(fresh);
      console.log(`${ROUNDS} faults, ${report.acknowledged} acknowledged; back after ${back.join(', ')}`);
      expect(report.lost).toEqual([]);
      expect(report.strange).toEqual([]);
      expect((await amcheck(fresh)).broken).toEqual([]);
    });
    await storage.stop();
  });
});
