// The README's tour, typed: every line that begins with `$` in its console blocks is run by a shell, in order, in a fresh
// clone with an empty home, and must end as the README says (`# exits 3`), 0 unless it says so. What a line prints must
// be what stands under it, where numbers, ids and ages may differ.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');
const home = mkdtempSync(join(tmpdir(), 'lakebed-readme-'));
const clone = join(home, 'lakebed');

interface Line {
  readonly command: string;
  readonly exits: number;
  /** What the README shows under it. */
  readonly shown: readonly string[];
}

function tour(): Line[] {
  const lines: { command: string; exits: number; shown: string[] }[] = [];
  for (const [, block] of readFileSync(join(ROOT, 'README.md'), 'utf8').matchAll(
    /^```console\n(.*?)^```$/gms,
  )) {
    for (const text of block!.split('\n')) {
      if (text.startsWith('$ ')) {
        const exits = Number(/# exits (\d+)$/.exec(text)?.[1] ?? 0);
        lines.push({ command: text.slice(2), exits, shown: [] });
      } else if (text.trim() !== '') lines.at(-1)?.shown.push(text);
    }
  }
  return lines;
}

/** Only words are compared. */
const words = (text: string): string =>
  text
    .replace(/(br|ep)-[a-z]+-[a-z]+-\d+|[a-z]+-[a-z]+-\d{8}/g, 'ID')
    .replace(/\d+ (s|min|h|d) ago/g, 'AGE')
    .replace(/:[^:@/]+@/g, ':PASSWORD@')
    .replace(/digest -?\d+/g, 'digest N')
    .replace(/[0-9A-F]+\/[0-9A-F]+/g, 'LSN')
    .replace(/127\.0\.0\.1:\d+/g, 'HOST')
    .replace(/\/\S*lakebed-keys/g, 'lakebed-keys')
    .replace(/-+/g, '-')
    .replace(/\s+/g, ' ')
    .trim();

function type(command: string): { status: number | null; text: string } {
  const out = join(home, 'out');
  const { status } = spawnSync('bash', ['-c', `{ ${command}\n} >${out} 2>&1 </dev/null`], {
    cwd: clone,
    env: { PATH: process.env['PATH'], HOME: join(home, 'home'), ...neon },
    timeout: 240_000,
  });
  return { status, text: readFileSync(out, 'utf8') };
}

const neon = process.env['NEON_PG_DIR'] === undefined ? {} : { NEON_PG_DIR: process.env['NEON_PG_DIR'] };

beforeAll(() => {
  execFileSync('git', ['clone', '--quiet', '--depth=1', `file://${ROOT}`, clone]);
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  mkdirSync(join(home, 'home'));
}, 60_000);

afterAll(() => {
  type('bin/lakebed stop');
  rmSync(home, { recursive: true, force: true });
}, 120_000);

test('the tour of the README, typed', () => {
  const lines = tour();
  expect(lines.length).toBeGreaterThan(8);
  expect(type('bin/lakebed start')).toMatchObject({
    status: 0,
    text: expect.stringContaining('Lakebed is up'),
  });
  for (const { command, exits, shown } of lines) {
    const { status, text } = type(command);
    expect(status, `${command}\n${text}`).toBe(exits);
    for (const line of shown) expect(words(text), command).toContain(words(line));
  }
}, 600_000);
