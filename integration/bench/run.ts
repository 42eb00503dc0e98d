// `npm run bench [-- NAME...] [--save] [--json]`: run the benches whose file name contains one of the names (all of
// them without, but for those of the whole system, which `npm run bench:system` runs), each in a process of its own,
// and print their figures beside the stored baseline.

import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, join } from 'node:path';
import type { Bench, Figure } from './harness.ts';

const HERE = import.meta.dirname;
const BASELINE = join(HERE, 'baseline.json');
type Baseline = Record<string, Record<string, { value: number; unit: string }>>;
/** As JSON there is nothing else on the standard output. */
const say = process.argv.includes('--json') ? process.stderr : process.stdout;

const text = (value: number): string =>
  Number.isNaN(value)
    ? '-'
    : value >= 100
      ? value.toFixed(0)
      : value >= 10
        ? value.toFixed(1)
        : value.toFixed(2);

function print(name: string, figures: Figure[], baseline: Baseline): void {
  say.write(`\n${name}\n`);
  const width = Math.max(...figures.map(f => f.name.length));
  for (const f of figures) {
    const before = baseline[name]?.[f.name];
    const change =
      before && before.unit === f.unit && before.value !== 0
        ? ` ${(f.value / before.value).toFixed(2)}x of baseline`
        : '';
    const target = f.target === undefined ? '' : `  [aim ${f.target}]`;
    say.write(
      `  ${f.name.padEnd(width)}  ${text(f.value).padStart(8)} ${f.unit}${target}${change}${f.note ? `  (${f.note})` : ''}\n`,
    );
  }
}

const isWorker = process.argv[2] === '--one';
if (isWorker) {
  const bench = ((await import(process.argv[3]!)) as { default: Bench }).default;
  const figures = await bench.run();
  writeFileSync(process.argv[4]!, JSON.stringify({ name: bench.name, figures }));
  process.exit(0);
}

const flags = new Set(process.argv.slice(2).filter(a => a.startsWith('--')));
const names = process.argv.slice(2).filter(a => !a.startsWith('--'));
const files = globSync('*.bench.ts', { cwd: HERE })
  .sort()
  .filter(f => (names.length === 0 ? !f.startsWith('system') : names.some(n => f.includes(n))));
if (files.length === 0) {
  process.stderr.write(`no bench matches ${names.join(' ')}\n`);
  process.exit(2);
}

const baseline: Baseline = existsSync(BASELINE) ? JSON.parse(readFileSync(BASELINE, 'utf8')) : {};
const results: { name: string; figures: Figure[] }[] = [];
let failed = false;
say.write(`Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}\n`);
for (const file of files) {
  const out = join(process.env['TMPDIR'] ?? '/tmp', `lakebed-bench-${process.pid}-${basename(file)}.json`);
  const ran = spawnSync(
    process.execPath,
    ['--expose-gc', import.meta.filename, '--one', join(HERE, file), out],
    {
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  );
  if (ran.status !== 0) {
    process.stderr.write(`${file} failed (${ran.signal ?? ran.status})\n`);
    failed = true;
    continue;
  }
  const result = JSON.parse(readFileSync(out, 'utf8'), (k, v) =>
    k === 'value' && v === null ? Number.NaN : v,
  );
  rmSync(out);
  results.push(result);
  print(result.name, result.figures, baseline);
}
if (flags.has('--json')) process.stdout.write(`${JSON.stringify(results)}\n`);
if (flags.has('--save')) {
  for (const { name, figures } of results) {
    baseline[name] = Object.fromEntries(
      figures.filter(f => !Number.isNaN(f.value)).map(f => [f.name, { value: f.value, unit: f.unit }]),
    );
  }
  writeFileSync(BASELINE, `${JSON.stringify(baseline, null, 2)}\n`);
}
process.exit(failed ? 1 : 0);
