// The short simulation of every test run: 500 seeds in which every promise must be kept, and the simulator's own
// promise that a seed is a history. Longer runs: node integration/sim/run.ts --seeds 100000.

import { describe, expect, test } from 'vitest';
import { runSeed, World } from './world.ts';

const SEEDS = 500;
const PER_TEST = 50;

describe('safekeepers in trouble keep their promises', () => {
  for (let from = 1; from <= SEEDS; from += PER_TEST) {
    test(`seeds ${from} to ${from + PER_TEST - 1}`, { timeout: 300_000 }, async () => {
      const broken: string[] = [];
      const seen = { commits: 0, bytesCompared: 0, crashes: 0 };
      for (let seed = from; seed < from + PER_TEST; seed++) {
        const { breach, counts } = await runSeed(seed);
        if (breach !== undefined) {
          broken.push(`${breach.message} | node integration/sim/run.ts --seed ${seed} --trace`);
        }
        seen.commits += counts['commits']!;
        seen.bytesCompared += counts['bytesCompared']!;
        seen.crashes += counts['crashes']!;
      }
      expect(broken).toEqual([]);
      // It was not quiet: a run in which nothing happens keeps every promise too.
      expect(seen.commits).toBeGreaterThan(10 * PER_TEST);
      expect(seen.bytesCompared).toBeGreaterThan(10_000 * PER_TEST);
      expect(seen.crashes).toBeGreaterThan(PER_TEST);
    });
  }
});

/** Seeds that longer runs found, each with what was wrong. */
const FOUND: readonly (readonly [number, string])[] = [
  [6482, 'nothing was committed once all was healed'],
  [2325, 'a full disk passed, and the timeline was loaded twice at a time'],
  [5590, 'a log that changed hands while it was compared was taken for a broken one'],
  [6052, 'the same, as it was cut'],
  [6836, 'a sync failed, the process was started again, and the next sync meant nothing'],
  [50066, 'the same, with room made ahead'],
  [7538, 'the disk failed as a pulled timeline was opened: it was neither there nor could it be made again'],
  [6543, 'what was read while a log was cut came from the object store'],
  [45278, 'a segment was opened while its last handle gave room back'],
  [33977, 'one that ended while it was compared was waited for'],
];

describe('what longer runs found stays found', () => {
  test.each(FOUND)('seed %i: %s', async seed => {
    expect((await runSeed(seed)).breach?.message).toBeUndefined();
  });
});

describe('a seed is a history', () => {
  test('twice the same seed: the same events at the same times, the same last draw', async () => {
    for (const seed of [3, 14, 159, 2653, 58979]) {
      const runs = [];
      for (let i = 0; i < 2; i++) {
        const lines: string[] = [];
        const result = await new World(seed, undefined, undefined, line => lines.push(line)).run();
        runs.push({ result, lines });
      }
      expect(runs[1]!.lines).toEqual(runs[0]!.lines);
      expect(runs[1]!.result).toEqual(runs[0]!.result);
    }
  });

  test('other seeds are other histories', async () => {
    const draws = new Set<number>();
    for (let seed = 1; seed <= 20; seed++) draws.add((await runSeed(seed)).lastDraw);
    expect(draws.size).toBe(20);
  });
});
