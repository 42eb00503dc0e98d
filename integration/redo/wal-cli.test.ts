// `lakebed wal dump` and `wal verify` as a person runs them: the program itself, on files.

import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { lsn } from '../../src/base/lsn.ts';
import { pg17Neon } from '../../src/xlog/dialects/neon.ts';
import { segmentFileName } from '../../src/xlog/segment.ts';
import { WalWriter } from '../../src/xlog/writer.ts';
import { corpora, NO_CORPUS } from './corpus.ts';
import { loadSamples } from './record-samples.ts';

const LAKEBED = resolve(import.meta.dirname, '../../bin/lakebed');
const MiB = 1024 * 1024;
const dir = mkdtempSync(join(tmpdir(), 'lakebed-wal-'));
afterAll(() => rmSync(dir, { recursive: true }));

interface Ran {
  code: number | null;
  out: string;
  err: string;
}

function lakebed(...args: string[]): Ran {
  const ran = spawnSync(LAKEBED, args, { encoding: 'utf8', maxBuffer: 512 * MiB });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}

const samples = loadSamples().filter(s => s.dialect.major === 17);

/** Two segments of 1 MiB with every sample a few times over; the lines that belong to them. */
function makeLog(name: string): {
  path: string;
  files: string[];
  places: { lsn: number; end: number }[];
  end: number;
} {
  const path = join(dir, name);
  mkdirSync(path);
  const writer = new WalWriter({ start: lsn(5 * MiB), dialect: pg17Neon, segmentSize: MiB });
  const places: { lsn: number; end: number }[] = [];
  for (let i = 0; writer.position < 6.5 * MiB; i++)
    places.push(writer.appendRecord(samples[i % samples.length]!.record.slice()));
  const bytes = writer.take();
  const files: string[] = [];
  for (const segno of [5, 6]) {
    const segment = new Uint8Array(MiB);
    segment.set(bytes.subarray((segno - 5) * MiB, (segno - 4) * MiB));
    files.push(join(path, segmentFileName(1, segno, MiB)));
    writeFileSync(files.at(-1)!, segment);
  }
  return { path, files, places, end: writer.position };
}

const log = makeLog('whole');

describe('wal dump', () => {
  test('prints every record of a directory, a file, and a range', () => {
    const all = lakebed('wal', 'dump', log.path);
    expect([all.code, all.err]).toEqual([0, '']);
    expect(all.out.trimEnd().split('\n').length).toBe(log.places.length);
    const third = log.places[2]!;
    const one = lakebed('wal', 'dump', log.path, '--start', `0/${third.lsn.toString(16)}`, '-n', '1');
    expect(one.out).toBe(`${all.out.split('\n')[2]}\n`);
    const upTo = lakebed('wal', 'dump', log.path, '--end', `0/${third.lsn.toString(16)}`);
    expect(upTo.out).toBe(`${all.out.split('\n').slice(0, 2).join('\n')}\n`);
    expect(lakebed('wal', 'dump', log.files[1]!).out.length).toBeGreaterThan(1000);
  });

  test('filters, counts and speaks JSON', () => {
    const heap = lakebed('wal', 'dump', log.path, '-r', 'NEON', '--json')
      .out.trimEnd()
      .split('\n')
      .map(l => JSON.parse(l));
    expect(heap.length).toBeGreaterThan(10);
    expect(new Set(heap.map(r => r.rmgr))).toEqual(new Set(['neon']));
    const relation = heap[0].blocks[0].relation;
    const touching = lakebed('wal', 'dump', log.path, '-R', relation).out.trimEnd().split('\n');
    expect(touching.every(line => line.includes(`rel ${relation}`))).toBe(true);
    const stats = lakebed('wal', 'dump', log.path, '--stats=record', '--json');
    const rows: { name: string; count: number }[] = JSON.parse(stats.out);
    expect(rows.reduce((sum, r) => sum + r.count, 0)).toBe(log.places.length);
    expect(lakebed('wal', 'dump', log.path, '-R', '1663').err).toContain(
      'is not tablespace/database/relation',
    );
  });

  test.each<[string, (bytes: Uint8Array) => Uint8Array, RegExp]>([
    [
      'a flipped bit',
      b => b.map((byte, at) => (at === 300_000 ? byte ^ 1 : byte)),
      /incorrect checksum of the WAL record at 0\/5[0-9A-F]+/,
    ],
    [
      'a page of zeros in the middle',
      b => b.fill(0, 40 * 8192, 41 * 8192),
      /damaged: .*but the log goes on at 0\/5/,
    ],
    ['a page from elsewhere', b => b.copyWithin(50 * 8192, 8192, 16384), /goes on at/],
    [
      'an end cut off',
      b => b.subarray(0, 500_001),
      /cut short: 500001 of 1048576 bytes, whole records up to 0\/5[0-9A-F]+/,
    ],
  ])('prints up to %s, then says where and why', (name, damage, message) => {
    const path = join(dir, name.replaceAll(' ', '-'));
    mkdirSync(path);
    writeFileSync(
      join(path, segmentFileName(1, 5, MiB)),
      damage(new Uint8Array(readFileSync(log.files[0]!))),
    );
    writeFileSync(join(path, segmentFileName(1, 6, MiB)), readFileSync(log.files[1]!));
    const ran = lakebed('wal', 'dump', path);
    expect(ran.code).toBe(1);
    expect(ran.err).toMatch(message);
    expect(ran.err).toContain(segmentFileName(1, 5, MiB));
    expect(ran.err).toContain('Take another copy');
    expect(ran.out.trimEnd().split('\n').length).toBeGreaterThan(20);
  });

  test('refuses what is no log, and a log with a hole, in a sentence', () => {
    writeFileSync(join(dir, 'noise'), new Uint8Array(9000).fill(77));
    expect(lakebed('wal', 'dump', join(dir, 'noise'))).toMatchObject({
      code: 1,
      err: expect.stringContaining('does not begin with the header of a WAL segment'),
    });
    expect(lakebed('wal', 'dump', join(dir, 'nothing-here'))).toMatchObject({
      code: 1,
      err: expect.stringContaining('no such file or directory'),
    });
    mkdirSync(join(dir, 'empty'));
    expect(lakebed('wal', 'dump', join(dir, 'empty'))).toMatchObject({
      code: 1,
      err: expect.stringContaining('no WAL segments'),
    });
    const holed = makeLog('holed');
    writeFileSync(
      join(holed.path, segmentFileName(1, 7, MiB)),
      new Uint8Array(readFileSync(holed.files[1]!)),
    );
    rmSync(holed.files[1]!);
    expect(lakebed('wal', 'dump', holed.path).err).toMatch(/the WAL segment after .* is missing/);
    expect(lakebed('wal', 'dump').code).toBe(2);
  });

  test('follows a log that grows', async () => {
    const growing = makeLog('growing');
    const whole = new Uint8Array(readFileSync(growing.files[1]!));
    const half = log.places.find(p => p.lsn > 6.2 * MiB)!;
    writeFileSync(growing.files[1]!, new Uint8Array(MiB).fill(0, 0));
    const partial = new Uint8Array(MiB);
    partial.set(whole.subarray(0, half.lsn - 6 * MiB));
    writeFileSync(growing.files[1]!, partial);
    const child = spawn(LAKEBED, ['wal', 'dump', growing.path, '--follow'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let lines = 0;
    child.stdout.on('data', (text: Buffer) => (lines += text.toString().split('\n').length - 1));
    const reached = async (count: number): Promise<void> => {
      for (let tries = 0; lines < count && tries < 200; tries++) await new Promise(r => setTimeout(r, 50));
      expect(lines).toBe(count);
    };
    const before = log.places.filter(p => p.lsn < half.lsn).length;
    await reached(before);
    writeFileSync(growing.files[1]!, whole);
    await reached(log.places.length);
    child.kill('SIGINT');
    expect(await new Promise(r => child.once('exit', r))).toBe(0);
  });
});

describe('wal verify', () => {
  test('says what is missing', () => {
    expect(lakebed('wal', 'verify', '--wal', log.path).err).toContain('--base is missing');
    expect(lakebed('wal', 'verify', '--base', log.path, '--wal', log.path).err).toContain(
      'has no PG_VERSION',
    );
  });

  const recordings = corpora();
  test.skipIf(recordings.length > 0)(`recorded WAL: skipped, ${NO_CORPUS}`, () => {});
  test.each(recordings)('replays $name: every image and every block at the end', ({ path }) => {
    const file = (name: string): string => join(path, `${name}.tar.zst`);
    const ran = lakebed(
      'wal',
      'verify',
      '--base',
      file('base'),
      '--wal',
      file('wal'),
      '--final',
      file('final'),
      '--json',
    );
    const result = JSON.parse(ran.out);
    expect(result).toMatchObject({ mismatched: 0, unsupported: 0, dangling: [], final: { mismatched: 0 } });
    expect(result.records).toBeGreaterThan(200_000);
    expect(result.verified).toBeGreaterThan(250_000);
    expect(result.final.compared).toBeGreaterThan(4000);
    expect(ran.code).toBe(0);
  });

  test.skipIf(recordings.length === 0)('a base that is not the right one is found out', () => {
    const [one, other] = [recordings[0]!, recordings[1]!];
    const ran = lakebed(
      'wal',
      'verify',
      '--base',
      join(other.path, 'base.tar.zst'),
      '--wal',
      join(one.path, 'wal.tar.zst'),
    );
    expect(ran.code).toBe(1);
  });
});
