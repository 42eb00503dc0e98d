// The import law and the house's few absolute rules, checked by reading the sources.
//
//   main -> everyone | services: safekeeper, pageserver, control | pure rooms: xlog, protocol, seal | base
//   host imports base only; only main imports host (tests and benches may, to stand on the real machine)
//
// Simulation is honest only while these hold: whatever waits, or is left to chance, comes through base/ports.

import { globSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');
const files = globSync('src/**/*.ts', { cwd: ROOT }).sort();
const sources = files.filter(f => !f.endsWith('.test.ts'));
const text = (file: string): string => readFileSync(join(ROOT, file), 'utf8');
const roomOf = (file: string): string => (file.split('/').length === 2 ? 'main' : file.split('/')[1]!);

/** Which rooms a room may import, besides itself. */
const MAY: Record<string, readonly string[]> = {
  base: [],
  host: ['base'],
  xlog: ['base'],
  protocol: ['base'],
  seal: ['base'],
  safekeeper: ['base', 'xlog', 'protocol', 'seal'],
  pageserver: ['base', 'xlog', 'protocol', 'seal'],
  control: ['base', 'xlog', 'protocol', 'seal'],
  main: ['base', 'host', 'xlog', 'protocol', 'seal', 'safekeeper', 'pageserver', 'control'],
};

/** Node modules that are no door to the machine, by the rooms that may use them. */
const NODE_ALLOWED: Record<string, readonly string[]> = {
  'node:crypto': ['seal', 'protocol'],
  'node:zlib': ['xlog', 'pageserver', 'protocol'],
};

interface Import {
  readonly from: string;
  readonly target: string;
}

function importsOf(file: string): Import[] {
  const found: Import[] = [];
  for (const match of text(file).matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) {
    found.push({ from: file, target: match[1]! });
  }
  return found;
}

const local = (i: Import): string => relative(ROOT, resolve(ROOT, dirname(i.from), i.target));

describe('import law', () => {
  test('rooms import only what lies below them', () => {
    const broken: string[] = [];
    for (const file of sources) {
      const room = roomOf(file);
      for (const i of importsOf(file).filter(i => i.target.startsWith('.'))) {
        const target = roomOf(local(i));
        if (target !== room && !MAY[room]!.includes(target)) broken.push(`${file} imports ${local(i)}`);
        if (!i.target.endsWith('.ts') && !i.target.endsWith('.json'))
          broken.push(`${file}: ${i.target} lacks its ending`);
      }
    }
    expect(broken).toEqual([]);
  });

  test('only host and main touch the machine', () => {
    const builtin = new Set(builtinModules.flatMap(m => [m, `node:${m}`]));
    const broken: string[] = [];
    for (const file of sources) {
      const room = roomOf(file);
      if (room === 'host' || room === 'main') continue;
      for (const i of importsOf(file)) {
        if (builtin.has(i.target) && !(NODE_ALLOWED[i.target] ?? []).includes(room))
          broken.push(`${file} imports ${i.target}`);
      }
      const code = text(file).replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
      for (const word of [
        'Date.now',
        'Math.random',
        'process.env',
        'setTimeout(',
        'setInterval(',
        'setImmediate(',
        'console.',
        'performance.now',
      ]) {
        if (code.includes(word)) broken.push(`${file} uses ${word}`);
      }
    }
    expect(broken).toEqual([]);
  });

  test('no cycles between files', () => {
    const graph = new Map(
      sources.map(f => [
        f,
        importsOf(f)
          .filter(i => i.target.startsWith('.') && !isTypeOnly(f, i.target))
          .map(local),
      ]),
    );
    const state = new Map<string, 'open' | 'done'>();
    const cycles: string[] = [];
    const visit = (file: string, path: string[]): void => {
      if (state.get(file) === 'done') return;
      if (state.get(file) === 'open') {
        cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
        return;
      }
      state.set(file, 'open');
      for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
      state.set(file, 'done');
    };
    for (const file of sources) visit(file, []);
    expect(cycles).toEqual([]);
  });

  test('a package has one door', () => {
    const doors = new Map<string, Set<string>>();
    for (const file of sources) {
      for (const i of importsOf(file)) {
        if (i.target.startsWith('.') || i.target.startsWith('node:')) continue;
        doors.set(i.target, (doors.get(i.target) ?? new Set()).add(file));
      }
    }
    const crowded = [...doors]
      .filter(([, users]) => users.size > 1)
      .map(([name, users]) => `${name}: ${[...users].join(', ')}`);
    expect(crowded).toEqual([]);
  });
});

/** `import type` leaves nothing at run time, so it makes no cycle. */
function isTypeOnly(file: string, target: string): boolean {
  const escaped = target.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
  return new RegExp(`import type [^;]*from '${escaped}'`).test(text(file));
}

describe('house rules', () => {
  test('every source begins with a header that says what it is', () => {
    const bare = sources.filter(f => !/^(#!.*\n)?(\/\/|\/\*)/.test(text(f)));
    expect(bare).toEqual([]);
  });

  test('no room index re-exports, no enum, no leftover note', () => {
    const broken: string[] = [];
    for (const file of sources) {
      if (/(^|\/)index\.ts$/.test(file)) broken.push(`${file}: import the file you mean`);
      if (/^\s*(export )?(const )?enum /m.test(text(file))) broken.push(`${file}: enum`);
      if (/\b(TODO|FIXME|XXX|HACK)\b/.test(text(file))) broken.push(`${file}: leftover note`);
    }
    expect(broken).toEqual([]);
  });

  test('files are read in one sitting', () => {
    const crowded = sources
      .map(f => [f, text(f).split('\n').length] as const)
      .filter(([, lines]) => lines > 500);
    expect(crowded).toEqual([]);
  });
});
