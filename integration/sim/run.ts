// Runs the simulation of safekeepers over many seeds, or one seed with all that happens in it.
//
//   node integration/sim/run.ts --seeds 100000 [--from 1] [--jobs 2] [--mood elections]
//   node integration/sim/run.ts --seed 4711 [--trace]
//
// A broken promise prints one line: the seed, what was broken, and the command that shows it again. The exit code
// is 1 then. At the end it says what was run: seeds, steps, and how much of each kind of trouble.

import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Mood } from './luck.ts';
import { REAL_WORLD, type RunResult, runSeed, World } from './world.ts';

interface Share {
  readonly from: number;
  readonly to: number;
  readonly step: number;
  readonly mood: Mood | undefined;
}

const again = (seed: number, mood: Mood | undefined): string =>
  `node integration/sim/run.ts --seed ${seed}${mood === undefined ? '' : ` --mood ${mood}`} --trace`;

const failureLine = (result: RunResult, mood: Mood | undefined): string =>
  `seed ${result.seed} at ${Math.round(result.breach!.atMs)} ms: ${result.breach!.message} | ${again(result.seed, mood)}`;

async function work({ from, to, step, mood }: Share): Promise<void> {
  for (let seed = from; seed <= to; seed += step) {
    parentPort!.postMessage(await runSeed(seed, REAL_WORLD, mood));
  }
}

async function runMany(from: number, count: number, jobs: number, mood: Mood | undefined): Promise<number> {
  const totals: Record<string, number> = {};
  const started = performance.now();
  let done = 0;
  let steps = 0;
  let failures = 0;
  let saidMs = started;
  const onResult = (result: RunResult): void => {
    done++;
    steps += result.steps;
    for (const [name, n] of Object.entries(result.counts)) totals[name] = (totals[name] ?? 0) + n;
    if (result.breach !== undefined) {
      failures++;
      console.log(failureLine(result, mood));
    }
    const now = performance.now();
    if (now - saidMs < 5000 && done < count) return;
    saidMs = now;
    const rate = done / ((now - started) / 1000);
    process.stderr.write(
      `${done} of ${count} seeds, ${rate.toFixed(1)} a second, ${failures} broken, ${Math.round((count - done) / rate)} s to go\n`,
    );
  };
  await Promise.all(
    Array.from({ length: jobs }, (_, i) => {
      const share: Share = { from: from + i, to: from + count - 1, step: jobs, mood };
      const worker = new Worker(fileURLToPath(import.meta.url), { workerData: share });
      worker.on('message', onResult);
      return new Promise<void>((resolve, reject) => {
        worker.on('error', reject);
        worker.on('exit', () => resolve());
      });
    }),
  );
  console.log(
    `${done} seeds, ${steps} steps, ${failures} broken, ${Math.round((performance.now() - started) / 1000)} s`,
  );
  for (const [name, n] of Object.entries(totals).sort()) console.log(`  ${name}: ${n}`);
  return failures;
}

async function runOne(seed: number, mood: Mood | undefined, trace: boolean): Promise<number> {
  const world = new World(seed, REAL_WORLD, mood, trace ? line => console.log(line) : undefined);
  if (trace) console.log(world.luck);
  const result = await world.run();
  console.log(
    result.breach === undefined ? `seed ${seed}: every promise was kept` : failureLine(result, mood),
  );
  console.log(`${result.steps} steps, ${Math.round(result.endMs)} ms, last draw ${result.lastDraw}`);
  return result.breach === undefined ? 0 : 1;
}

if (isMainThread) {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '500' },
      from: { type: 'string', default: '1' },
      seed: { type: 'string' },
      jobs: { type: 'string', default: String(Math.max(1, availableParallelism() - 1)) },
      mood: { type: 'string' },
      trace: { type: 'boolean', default: false },
    },
  });
  const mood = values.mood as Mood | undefined;
  const failures =
    values.seed === undefined
      ? await runMany(Number(values.from), Number(values.seeds), Number(values.jobs), mood)
      : await runOne(Number(values.seed), mood, values.trace);
  process.exitCode = failures > 0 ? 1 : 0;
} else {
  await work(workerData as Share);
}
