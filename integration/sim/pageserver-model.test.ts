// Random histories of timelines against a model of what they must answer. A failure names its seed; a longer run:
//   node integration/sim/pageserver-run.ts [first seed] [seeds] [steps]

import { describe, expect, test } from 'vitest';
import { World } from './pageserver-world.ts';

const SEEDS = 15;
const STEPS = 150;

describe('timelines answer as the model does', () => {
  test('whatever is flushed, merged, imaged, collected, branched, forgotten or cut off by a crash', async () => {
    const totals: Record<string, number> = {};
    for (let seed = 1; seed <= SEEDS; seed++) {
      try {
        const { counts } = await new World({ seed, steps: STEPS }).run();
        for (const [what, count] of Object.entries(counts)) totals[what] = (totals[what] ?? 0) + count;
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
    }
    // The run met what it is there to meet.
    for (const what of ['merged', 'hotPages', 'denseLayers', 'collected', 'branches', 'scans', 'pages'])
      expect(totals[what], what).toBeGreaterThan(0);
    for (const what of ['flush', 'compact', 'branch'])
      expect(totals[`crash in ${what}`], `a crash in ${what}`).toBeGreaterThan(0);
  });

  test.each(['flush', 'compact', 'images', 'gc', 'branch'] as const)(
    'a machine that stops at any change of the disk during %s loses nothing',
    async what => {
      let change = 0;
      let stopped = true;
      while (stopped) {
        change++;
        try {
          stopped = await new World({ seed: 3, steps: 25, crashes: false }).stopWithin(what, change);
        } catch (error) {
          throw new Error(`stopped at change ${change}: ${(error as Error).message}`, { cause: error });
        }
      }
      // A file made, written, synced and named, an index after it, and what it forgets removed.
      expect(change).toBeGreaterThan(4);
    },
  );

  test('one seed is one history', async () => {
    const lines = async (): Promise<string[]> => {
      const told: string[] = [];
      const { counts } = await new World({ seed: 7, steps: 80, tell: line => told.push(line) }).run();
      return [...told, JSON.stringify(counts)];
    };
    expect(await lines()).toEqual(await lines());
  });
});
