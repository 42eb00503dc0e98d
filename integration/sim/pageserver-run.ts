// `node integration/sim/pageserver-run.ts [first seed] [seeds] [steps] [--tell] [--minutes=N]`: histories of timelines
// against the model, as many as there is time for. The first that fails ends the run and names its seed.

import { World } from './pageserver-world.ts';

const flags = process.argv.slice(2).filter(a => a.startsWith('--'));
const [first = 1, seeds = 100, steps = 400] = process.argv
  .slice(2)
  .filter(a => !a.startsWith('--'))
  .map(Number);
const tell = flags.includes('--tell')
  ? (line: string): void => void process.stdout.write(`${line}\n`)
  : undefined;

const minutes = Number(flags.find(flag => flag.startsWith('--minutes='))?.slice(10) ?? Infinity);
const untilMs = performance.now() + minutes * 60_000;

const totals: Record<string, number> = {};
let seed = first;
for (; seed < first + seeds && performance.now() < untilMs; seed++) {
  try {
    const { counts } = await new World({ seed, steps, ...(tell ? { tell } : {}) }).run();
    for (const [what, count] of Object.entries(counts)) totals[what] = (totals[what] ?? 0) + count;
  } catch (error) {
    process.stdout.write(`seed ${seed}, ${steps} steps: ${(error as Error).stack}\n`);
    process.exit(1);
  }
}
process.stdout.write(`${seed - first} seeds from ${first}, ${steps} steps each: ${JSON.stringify(totals)}\n`);
