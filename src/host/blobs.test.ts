// One contract, every driver: a directory, S3 as MinIO or moto serve it, the simulated store, and each behind the wrapper
// that tries again.

import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { keepVersions, type S3Server, startS3 } from '../../integration/s3.ts';
import { SimBlobs } from '../../integration/sim/blobs.ts';
import { SimClock } from '../../integration/sim/clock.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { utf8 } from '../base/bytes.ts';
import { Metrics } from '../base/metrics.ts';
import type { Blobs, BlobVersion } from '../base/ports.ts';
import { localBlobs } from './blobs-local.ts';
import { MeteredBlobs } from './blobs-metered.ts';
import { retryingBlobs } from './blobs-retry.ts';
import { s3Blobs } from './blobs-s3.ts';
import { hostClock } from './clock.ts';
import { openBlobs, s3Location } from './open-blobs.ts';
import { hostRandom } from './random.ts';

let root: string;
let server: S3Server | string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'lakebed-blobs-'));
  server = await startS3('bucket');
  if (typeof server === 'string') process.stderr.write(`S3 suite skipped: ${server}\n`);
}, 300_000);
afterAll(async () => {
  rmSync(root, { recursive: true, force: true });
  if (typeof server !== 'string') await server.stop();
});

async function listed(blobs: Blobs, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of blobs.list(prefix)) keys.push(key);
  return keys;
}

const s3 = (prefix: string): Blobs | undefined =>
  typeof server === 'string'
    ? undefined
    : s3Blobs({
        bucket: 'bucket',
        region: 'us-east-1',
        prefix,
        endpoint: server.endpoint,
        credentials: server.credentials,
      });

const DRIVERS: Record<string, () => Blobs | undefined> = {
  'a directory': () => localBlobs(join(root, 'plain')),
  S3: () => s3('some/prefix'),
  simulated: () => new SimBlobs({ random: new SimRandom(1) }),
  'a directory, metered': () => new MeteredBlobs(localBlobs(join(root, 'metered')), new Metrics(), hostClock),
  'a directory, retrying': () =>
    retryingBlobs(localBlobs(join(root, 'retry')), { clock: hostClock, random: hostRandom }),
};

test('S3: a bucket that keeps versions has what was replaced or removed, and brings it back', async context => {
  const plain = s3('versions');
  if (!plain || typeof server === 'string') return context.skip(`${server}`);
  const blobs = retryingBlobs(new MeteredBlobs(plain, new Metrics(), hostClock), {
    clock: hostClock,
    random: hostRandom,
  });
  const versions = async (): Promise<BlobVersion[]> => {
    const all: BlobVersion[] = [];
    for await (const version of blobs.versions!('a/')) all.push(version);
    return all;
  };
  await blobs.put('a/before', utf8('of old'));
  await expect(versions()).rejects.toMatchObject({ code: 'config-invalid' });
  await blobs.remove(['a/before']);
  await keepVersions(server, 'bucket');
  await blobs.put('a/x', utf8('one'));
  await blobs.put('a/x', utf8('two'));
  await blobs.put('ab', utf8('another'));
  await blobs.remove(['a/x']);
  const found = (await versions()).filter(({ key }) => key === 'a/x');
  expect(found.map(({ isRemoval, isNewest }) => [isRemoval, isNewest]).sort()).toEqual([
    [false, false],
    [false, false],
    [true, true],
  ]);
  const puts = found.filter(({ isRemoval }) => !isRemoval);
  await blobs.restore!('a/x', puts.at(-1)!.version);
  expect(await blobs.get('a/x')).toEqual(utf8('one'));
  await blobs.restore!('a/x', puts[0]!.version);
  expect(await blobs.get('a/x')).toEqual(utf8('two'));
});

describe.each(Object.keys(DRIVERS))('%s', name => {
  test('keeps the contract', async context => {
    const blobs = DRIVERS[name]!();
    if (!blobs) return context.skip(`${server}`);
    const bytes = hostRandom.bytes(100_000);
    await blobs.put('a/b/c', bytes);
    expect(Buffer.compare(await blobs.get('a/b/c'), bytes)).toBe(0);
    expect(await blobs.get('a/b/c', { offset: 5, length: 10 })).toEqual(bytes.slice(5, 15));
    expect(await blobs.get('a/b/c', { offset: 99_999, length: 1 })).toEqual(bytes.slice(99_999));
    expect(await blobs.get('a/b/c', { offset: 7, length: 0 })).toEqual(new Uint8Array(0));
    await expect(blobs.get('a/b/c', { offset: 99_990, length: 20 })).rejects.toMatchObject({
      code: 'bytes-short',
    });
    await expect(blobs.get('a/b/c', { offset: 200_000, length: 1 })).rejects.toMatchObject({
      code: 'bytes-short',
    });
    await expect(blobs.get('a/none')).rejects.toMatchObject({ code: 'blob-missing' });
    expect(await blobs.head('a/none')).toBeUndefined();
    expect(await blobs.head('a/b/c')).toMatchObject({ key: 'a/b/c', size: 100_000 });
    await blobs.put('a/b/c', utf8('new'));
    expect(await blobs.get('a/b/c')).toEqual(utf8('new'));
    await expect(blobs.put('a/b/c', utf8('x'), { onlyIfAbsent: true })).rejects.toMatchObject({
      code: 'blob-exists',
    });
    await blobs.put('a/empty', new Uint8Array(0), { onlyIfAbsent: true });
    expect(await blobs.get('a/empty')).toEqual(new Uint8Array(0));
    await blobs.copy('a/b/c', 'z/copy of +%');
    expect(await blobs.get('z/copy of +%')).toEqual(utf8('new'));
    await expect(blobs.copy('a/none', 'z/x')).rejects.toMatchObject({ code: 'blob-missing' });
    await blobs.remove(['a/b/c', 'a/none']);
    await blobs.remove([]);
    expect(await blobs.head('a/b/c')).toBeUndefined();
  });

  test('lists every key under a prefix, in order', async context => {
    const blobs = DRIVERS[name]!();
    if (!blobs) return context.skip(`${server}`);
    const keys = ['l/a-1', 'l/a/1', 'l/a/10', 'l/a/2', 'l/a/b/c', 'l/ab', 'l/b'];
    for (const key of keys) await blobs.put(key, utf8(key));
    expect(await listed(blobs, 'l/')).toEqual(keys);
    expect(await listed(blobs, 'l/a')).toEqual(keys.slice(0, -1));
    expect(await listed(blobs, 'l/a/')).toEqual(['l/a/1', 'l/a/10', 'l/a/2', 'l/a/b/c']);
    expect(await listed(blobs, 'l/none/')).toEqual([]);
    await blobs.remove(keys);
    expect(await listed(blobs, 'l/')).toEqual([]);
  });

  test('of many who put only if absent, one does', async context => {
    const blobs = DRIVERS[name]!();
    if (!blobs) return context.skip(`${server}`);
    const puts = Array.from({ length: 8 }, (_, i) => blobs.put('race', utf8(`${i}`), { onlyIfAbsent: true }));
    const results = await Promise.allSettled(puts);
    const won = results.flatMap((r, i) => (r.status === 'fulfilled' ? [i] : []));
    expect(won.length).toBe(1);
    expect(Buffer.from(await blobs.get('race')).toString()).toBe(String(won[0]));
  });
});

describe('a directory', () => {
  test('leaves nothing half written, no empty directories, and lets nobody out', async () => {
    const blobs = localBlobs(join(root, 'tidy'));
    await blobs.put('x/y/z', utf8('1'));
    await expect(blobs.put('x/y/z', utf8('2'), { onlyIfAbsent: true })).rejects.toMatchObject({
      code: 'blob-exists',
    });
    expect(readdirSync(join(root, 'tidy/x/y'))).toEqual(['z']);
    expect(statSync(join(root, 'tidy/x/y/z')).mode & 0o077).toBe(0);
    await blobs.remove(['x/y/z']);
    expect(readdirSync(join(root, 'tidy'))).toEqual([]);
    for (const key of ['../x', 'a/../../b', '/etc/passwd', 'a//b', '']) {
      await expect(blobs.put(key, utf8('x'))).rejects.toMatchObject({ code: 'config-invalid' });
    }
  });
});

describe('S3', () => {
  test('lists past one page and removes past one batch', async context => {
    const blobs = s3('pages');
    if (!blobs) return context.skip(`${server}`);
    const keys = Array.from({ length: 1100 }, (_, i) => `k/${String(i).padStart(5, '0')}`);
    for (let i = 0; i < keys.length; i += 50) {
      await Promise.all(keys.slice(i, i + 50).map(key => blobs.put(key, utf8(key))));
    }
    expect(await listed(blobs, 'k/')).toEqual(keys);
    await blobs.remove(keys);
    expect(await listed(blobs, 'k/')).toEqual([]);
  });

  test('trouble is told apart', async context => {
    if (typeof server === 'string') return context.skip(server);
    const { endpoint, credentials } = server;
    const region = 'us-east-1';
    await expect(
      s3Blobs({ bucket: 'no-such-bucket', region, endpoint, credentials }).get('x'),
    ).rejects.toMatchObject({ code: 'config-invalid' });
    const nobody = s3Blobs({ bucket: 'bucket', region, endpoint: 'http://127.0.0.1:1', credentials });
    await expect(nobody.get('x')).rejects.toMatchObject({ code: 'blob-unavailable', kind: 'unavailable' });
  });
});

describe('metered', () => {
  test('counts calls, failures and bytes', async () => {
    const metrics = new Metrics();
    const inner = new SimBlobs({ random: new SimRandom(1) });
    const blobs = new MeteredBlobs(inner, metrics, hostClock);
    await blobs.put('a', new Uint8Array(10));
    await blobs.get('a', { offset: 1, length: 3 });
    await blobs.get('none').catch(() => undefined);
    expect(await listed(blobs, '')).toEqual(['a']);
    const text = metrics.exposition();
    expect(text).toContain('lakebed_blobs_bytes_total{direction="out"} 10');
    expect(text).toContain('lakebed_blobs_bytes_total{direction="in"} 3');
    expect(text).toContain('lakebed_blobs_failures_total{verb="get",code="blob-missing"} 1');
    expect(text).toContain('lakebed_blobs_seconds_count{verb="get"} 2');
    expect(text).toContain('lakebed_blobs_seconds_count{verb="list"} 1');
  });
});

describe('a location', () => {
  test('is a directory or a bucket', async () => {
    expect(s3Location('s3://b')).toEqual({ bucket: 'b', prefix: '', region: undefined, endpoint: undefined });
    expect(s3Location('s3://b/some/prefix/?region=eu-west-1&endpoint=http%3A%2F%2Flocalhost%3A9000')).toEqual(
      {
        bucket: 'b',
        prefix: 'some/prefix',
        region: 'eu-west-1',
        endpoint: 'http://localhost:9000',
      },
    );
    expect(() => s3Location('s3://b?acl=public')).toThrow('not the location of a bucket');
    await expect(openBlobs('ftp://x')).rejects.toMatchObject({ code: 'config-invalid' });
    for (const location of [join(root, 'located'), `file://${join(root, 'located')}`]) {
      const blobs = await openBlobs(location);
      await blobs.put('x', utf8('y'));
      expect(await blobs.get('x')).toEqual(utf8('y'));
    }
  });

  test('opens S3 as well', async context => {
    if (typeof server === 'string') return context.skip(server);
    const { accessKeyId, secretAccessKey } = server.credentials;
    const before = { ...process.env };
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey });
    try {
      const blobs = await openBlobs(
        `s3://bucket/located?region=us-east-1&endpoint=${encodeURIComponent(server.endpoint)}`,
      );
      await blobs.put('x', utf8('y'), { onlyIfAbsent: true });
      expect(await listed(blobs, '')).toEqual(['x']);
    } finally {
      for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) {
        if (before[name] === undefined) delete process.env[name];
        else process.env[name] = before[name];
      }
    }
  });
});

describe('trying again', () => {
  function flaky(seed: number) {
    const clock = new SimClock();
    const random = new SimRandom(seed);
    const inner = new SimBlobs({ random });
    inner.failure = 300;
    inner.lostAnswer = 300;
    const tries: number[] = [];
    const blobs = retryingBlobs(inner, { clock, random, triesMax: 40, failed: (_, __, n) => tries.push(n) });
    const done = async <T>(work: Promise<T>): Promise<T> => {
      work.catch(() => undefined);
      await clock.run(Infinity);
      return work;
    };
    return { clock, inner, blobs, done, tries };
  }

  test('hides failures, lost answers too, also of puts that must not replace', async () => {
    for (let seed = 0; seed < 50; seed++) {
      const { blobs, done, inner } = flaky(seed);
      await done(blobs.put('a', utf8('1'), { onlyIfAbsent: true }));
      await done(blobs.put('b', utf8('2')));
      await done(blobs.copy('b', 'c'));
      expect(await done(blobs.get('c'))).toEqual(utf8('2'));
      expect(await done(listed(blobs, ''))).toEqual(['a', 'b', 'c']);
      await done(blobs.remove(['a', 'b', 'c']));
      expect(inner.objects.size).toBe(0);
      inner.objects.set('a', { bytes: utf8('theirs'), modifiedMs: 0 });
      const put = blobs.put('a', utf8('ours'), { onlyIfAbsent: true });
      await expect(done(put)).rejects.toMatchObject({ code: 'blob-exists' });
    }
  });

  test('gives up after so many tries, and waits longer each time', async () => {
    const clock = new SimClock();
    const random = new SimRandom(1);
    const inner = new SimBlobs({ random });
    inner.away = true;
    const blobs = retryingBlobs(inner, { clock, random, triesMax: 5, firstWaitMs: 100 });
    const get = blobs.get('a');
    await Promise.all([expect(get).rejects.toMatchObject({ code: 'blob-unavailable' }), clock.run(Infinity)]);
    expect(clock.monotonic()).toBeGreaterThan((100 + 200 + 400 + 800) / 2);
    expect(clock.monotonic()).toBeLessThanOrEqual(1500);
  });
});
