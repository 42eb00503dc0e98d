// `node integration/sim/pageserver-run.ts [first seed] [seeds] [steps] [--tell]`: histories of timelines against the
// model, as many as there is time for. The first that fails ends the run and names its seed.

import { World } from './pageserver-world.ts';

const flags = process.argv.slice(2).filter(a => a.startsWith('--'));
const [first = 1, seeds = 100, steps = 400] = process.argv
  .slice(2)
  .filter(a => !a.startsWith('--'))
  .map(Number);
const tell = flags.includes('--tell')
  ? (line: string): void => void process.stdout.write(`${line}\n`)
  : undefined;

const totals: Record<string, number> = {};
for (let seed = first; seed < first + seeds; seed++) {
  try {
    const { counts } = await new World({ seed, steps, ...(tell ? { tell } : {}) }).run();
    for (const [what, count] of Object.entries(counts)) totals[what] = (totals[what] ?? 0) + count;
  } catch (error) {
    process.stdout.write(`seed ${seed}, ${steps} steps: ${(error as Error).stack}\n`);
    process.exit(1);
  }
}
process.stdout.write(`${seeds} seeds from ${first}, ${steps} steps each: ${JSON.stringify(totals)}\n`);
