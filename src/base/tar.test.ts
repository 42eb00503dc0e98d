import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { concatBytes, utf8 } from './bytes.ts';
import { readTar, tarEnd, tarHeader, tarPadding } from './tar.ts';

const dir = mkdtempSync(join(tmpdir(), 'lakebed-tar-'));
afterAll(() => rmSync(dir, { recursive: true }));

async function* pieces(bytes: Uint8Array, size: number): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function collect(bytes: Uint8Array, size = 700): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for await (const e of readTar(pieces(bytes, size)))
    found.set(e.name, e.isDirectory ? '<dir>' : new TextDecoder().decode(e.bytes));
  return found;
}

test('reads what tar(1) writes, at any chunking, long names and both formats', async () => {
  const long = `d/${'x'.repeat(90)}/${'y'.repeat(90)}`;
  mkdirSync(join(dir, 'in', long, '..'), { recursive: true });
  writeFileSync(join(dir, 'in', long), 'long');
  writeFileSync(join(dir, 'in', 'a'), 'A'.repeat(513));
  writeFileSync(join(dir, 'in', 'empty'), '');
  for (const format of ['gnu', 'ustar', 'posix']) {
    execFileSync('tar', ['-C', join(dir, 'in'), `--format=${format}`, '-cf', join(dir, 't.tar'), '.']);
    const bytes = new Uint8Array(readFileSync(join(dir, 't.tar')));
    for (const size of [1, 511, 100_000]) {
      const found = await collect(bytes, size);
      expect(found.get('a')).toBe('A'.repeat(513));
      expect(found.get('empty')).toBe('');
      expect(found.get(long)).toBe('long');
    }
  }
});

test('tar(1) reads what we write', async () => {
  const body = utf8('hello');
  const archive = concatBytes([
    tarHeader('base/1', 0, { directory: true, mtimeMs: 1e12 }),
    tarHeader('base/1/PG_VERSION', body.length, { mtimeMs: 1e12 }),
    body,
    tarPadding(body.length),
    tarEnd(),
  ]);
  writeFileSync(join(dir, 'o.tar'), archive);
  expect(execFileSync('tar', ['-tf', join(dir, 'o.tar')], { encoding: 'utf8' })).toBe(
    'base/1/\nbase/1/PG_VERSION\n',
  );
  expect(execFileSync('tar', ['-xOf', join(dir, 'o.tar'), 'base/1/PG_VERSION'], { encoding: 'utf8' })).toBe(
    'hello',
  );
  expect(await collect(archive)).toEqual(
    new Map([
      ['base/1', '<dir>'],
      ['base/1/PG_VERSION', 'hello'],
    ]),
  );
});

test('a large entry comes in pieces', async () => {
  const body = Uint8Array.from({ length: 2500 }, (_, i) => i);
  const archive = concatBytes([tarHeader('f', 2500), body, tarPadding(2500), tarHeader('g', 0), tarEnd()]);
  const entries = [];
  for await (const e of readTar(pieces(archive, 700), () => true, 1000)) entries.push(e);
  expect(entries.map(e => [e.name, e.offset, e.size, e.bytes.length])).toEqual([
    ['f', 0, 2500, 1000],
    ['f', 1000, 2500, 1000],
    ['f', 2000, 2500, 500],
    ['g', 0, 0, 0],
  ]);
  expect(concatBytes(entries.map(e => e.bytes))).toEqual(body);
});

test('a cut or foreign archive is refused', async () => {
  const archive = concatBytes([tarHeader('f', 1000), new Uint8Array(400)]);
  await expect(collect(archive)).rejects.toThrow('cut short');
  await expect(collect(new Uint8Array(1024).fill(7))).rejects.toThrow('not a tar archive');
});
