// Many lives of a tenant (integration/sim/tenants-world.ts). A failure is one line: its seed.
//
//   RUN_SEED=17 npx vitest run integration/pageserver/tenants-sim       that one again, told step by step

import { expect, test } from 'vitest';
import { TenantsWorld } from '../sim/tenants-world.ts';

const seeds = process.env['RUN_SEED']
  ? [Number(process.env['RUN_SEED'])]
  : Array.from({ length: Number(process.env['RUN_SEEDS'] ?? 12) }, (_, i) => i + 1);
const steps = Number(process.env['RUN_STEPS'] ?? 150);
const lines: string[] = [];

test.each(seeds)('seed %i', async seed => {
  const tell = process.env['RUN_SEED'] ? (line: string): void => void lines.push(line) : undefined;
  const world = new TenantsWorld({ seed, steps, ...(tell ? { tell } : {}) });
  try {
    await world.run();
  } catch (error) {
    (error as Error).message = `seed ${seed}: ${(error as Error).message}\n${lines.slice(-40).join('\n')}`;
    throw error;
  }
  // A life in which nothing happened proves nothing.
  expect(world.counts['attach']).toBeGreaterThan(1);
  expect(world.counts['read']).toBeGreaterThan(0);
});
