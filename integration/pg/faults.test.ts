// Faults under load: each part of the system killed, stopped for a while, cut off, robbed of its cache or its store,
// while clients write. Nothing acknowledged may be lost, nothing unacknowledged half there, and clients go on within
// seconds of the last fault's end. Every third round has two faults at once.
//
// LAKEBED_FAULT_ROUNDS sets how many rounds (100 go through every kind twice), LAKEBED_FAULT_SEED their order,
// LAKEBED_FAULT_LONG_MS how long the object store is away, LAKEBED_FAULT_ONLY a part of the names of those wanted.

import { availableParallelism, loadavg } from 'node:os';
import { describe, expect, test } from 'vitest';
import { SimRandom } from '../sim/random.ts';
import { amcheck } from './checks.ts';
import type { Compute } from './compute.ts';
import { type FaultKind, faultKinds, pause, type Scene } from './fault-kinds.ts';
import { majorsHere, Storage } from './harness.ts';
import { Ledger } from './ledger.ts';

const majors = majorsHere('faults under Neon computes');
const ROUNDS = Number(process.env['LAKEBED_FAULT_ROUNDS'] ?? 10);
const SEED = Number(process.env['LAKEBED_FAULT_SEED'] ?? 1);
const LONG_MS = Number(process.env['LAKEBED_FAULT_LONG_MS'] ?? 5000);
const ONLY = process.env['LAKEBED_FAULT_ONLY'] ?? '';
/** Service is back this soon after a fault has ended, on a machine that has a core for each that wants one. */
const BACK_MS = 5000;
const backMsMax = (): number => BACK_MS * Math.max(1, loadavg()[0]! / availableParallelism());

/** Every kind once, in an order of chance, then again in another. */
function* drawn(kinds: readonly FaultKind[], random: SimRandom): Generator<FaultKind> {
  for (;;) {
    const left = [...kinds];
    while (left.length > 0) yield left.splice(random.below(left.length), 1)[0]!;
  }
}

/** One fault, or two that have nothing to do with each other; when the last has ended. */
async function strike(scene: Scene, kinds: Iterator<FaultKind>, both: boolean): Promise<string> {
  const first = kinds.next().value as FaultKind;
  const second = both ? (kinds.next().value as FaultKind) : undefined;
  const apart = second !== undefined && !second.touches.some(t => first.touches.includes(t));
  await Promise.all([first.run(scene), apart ? pause(300).then(() => second.run(scene)) : undefined]);
  if (second === undefined) return first.name;
  if (apart) return `${first.name} and ${second.name}`;
  await second.run(scene);
  return `${first.name}, then ${second.name}`;
}

/**
 * Until every client was acknowledged something again. A compute may die of a fault by itself: Neon's WAL proposer can
 * crash (signal 11) when connections break while it reads WAL for another safekeeper; then, as a control plane would,
 * we start the next one. Any other death is a failure.
 */
async function backAtWork(scene: Scene, deaths: string[]): Promise<void> {
  let back = false;
  const working = (): Promise<void> => scene.ledger.allProgress(60_000).then(() => void (back = true));
  let waiting = working();
  while (!back) {
    await Promise.race([waiting, pause(100)]);
    if (back || scene.compute.running) continue;
    const why = /^.*(?:terminated by signal|exited with exit code|PANIC).*$/m.exec(scene.compute.log)?.[0];
    if (!why?.includes('"WAL proposer"')) throw new Error(`the compute is gone: ${why}`);
    deaths.push(why);
    waiting.catch(() => {});
    scene.compute = await scene.next();
    scene.ledger.target = scene.compute;
    waiting = working();
  }
}

describe.each(majors.slice(-1))('Neon Postgres %i', major => {
  const timeout = ROUNDS * (60_000 + LONG_MS) + 120_000;
  test(`${ROUNDS} rounds, seed ${SEED}`, { timeout }, async () => {
    const storage = await Storage.start({
      pageserverToml: ['[tenant_config]', 'checkpoint_distance = 4194304', 'compaction_threshold = 3'],
      wires: true,
      clockSteps: true,
      walBackup: true,
    });
    await storage.during(async () => {
      const tenant = await storage.createTenant();
      const timeline = await storage.createTimeline(tenant, { pgVersion: major });
      const next = (): Promise<Compute> =>
        storage.compute({ major, tenant, timeline, settings: { shared_buffers: '2MB' } });
      const compute = await next();
      const random = new SimRandom(SEED);
      const ledger = await Ledger.create(compute, 6);
      const scene: Scene = { storage, ledger, random, compute, next, longMs: LONG_MS };
      const kinds = drawn(
        faultKinds(storage).filter(kind => kind.name.includes(ONLY)),
        random.split('kinds'),
      );
      const deaths: string[] = [];
      const back: { name: string; ms: number; max: number }[] = [];
      ledger.start();
      await ledger.allProgress(60_000);
      for (let round = 0; round < ROUNDS; round++) {
        await pause(300 + random.below(1000));
        const name = await strike(scene, kinds, round % 3 === 2);
        const endMs = performance.now();
        await backAtWork(scene, deaths).catch((error: Error) => {
          throw new Error(`round ${round}, ${name}: ${error.message}`);
        });
        back.push({ name, ms: Math.round(performance.now() - endMs), max: backMsMax() });
      }
      await ledger.stop();
      await scene.compute.stop('SIGKILL');
      const fresh = await next();
      const report = await ledger.check(fresh);
      const soon = back.filter(b => b.ms < BACK_MS).length;
      console.log(
        `${ROUNDS} rounds, ${report.acknowledged} acknowledged, ${report.lost.length} lost, ` +
          `back within ${BACK_MS / 1000} s in ${soon} of ${ROUNDS}:`,
      );
      if (deaths.length > 0) console.log(`computes that died by themselves: ${deaths.join('; ')}`);
      for (const { name, ms } of back) console.log(`  ${String(ms).padStart(5)} ms  ${name}`);
      expect(report.lost).toEqual([]);
      expect(report.strange).toEqual([]);
      expect((await amcheck(fresh)).broken).toEqual([]);
      expect(back.filter(b => b.ms >= b.max)).toEqual([]);
    });
    await storage.stop();
  });
});
