// `lakebed checkout` as a person uses it: a directory that `postgres -D` starts as it is, by whoever owns it, and that
// nothing is ever written over.

import { execFile, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freePort } from '../safekeeper/neon-postgres.ts';
import { lakebed, placeArgs, until } from './adopting.ts';
import { Storage } from './harness.ts';
import { stockBin } from './stock.ts';

const MAJOR = 17;
const home = mkdtempSync(join(tmpdir(), 'lakebed-checkout-'));
chmodSync(home, 0o755);
let storage: Storage;
let place: string[];
let timeline: string;

beforeAll(async () => {
  storage = await Storage.start();
  const tenant = await storage.createTenant();
  timeline = await storage.createTimeline(tenant, { pgVersion: MAJOR });
  place = [...placeArgs(storage, tenant), '--pages', `127.0.0.1:${storage.pageserverPort}`];
});

afterAll(async () => {
  await storage.stop();
  rmSync(home, { recursive: true, force: true });
});

async function filesOf(directory: string): Promise<string[]> {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name));
}

test('it starts as it is, for its owner alone', async () => {
  const directory = join(home, 'first');
  const { out, err, code } = await lakebed('checkout', timeline, directory, ...place);
  expect([code, err]).toEqual([0, '']);
  expect(out).toContain(`Start it with Postgres ${MAJOR}:  postgres -D ${directory}`);
  const { uid, gid, mode } = statSync(directory);
  expect(mode & 0o777).toBe(0o700);
  for (const path of await filesOf(directory)) {
    const stat = statSync(path);
    expect([stat.mode & 0o777, stat.uid, stat.gid], path).toEqual([0o600, uid, gid]);
  }
  if (process.getuid?.() === 0) {
    expect(uid).not.toBe(0);
    expect(out).toMatch(/It belongs to \w+ now: Postgres does not run as root\./);
  }
  const port = await freePort();
  const settings = ['listen_addresses=127.0.0.1', `port=${port}`, 'unix_socket_directories='];
  const server = spawn(
    join(stockBin(MAJOR), 'postgres'),
    ['-D', directory, ...settings.flatMap(s => ['-c', s])],
    {
      stdio: 'ignore',
      uid,
      gid,
    },
  );
  try {
    const client = new Client({ host: '127.0.0.1', port, user: 'cloud_admin', database: 'postgres' });
    client.on('error', () => {});
    await until('the server to answer', async () => {
      if (server.exitCode !== null) throw new Error(`postgres ended with ${server.exitCode}`);
      const probe = new Client({ host: '127.0.0.1', port, user: 'cloud_admin', database: 'postgres' });
      probe.on('error', () => {});
      return probe
        .connect()
        .then(() => probe.end())
        .then(
          () => true,
          () => false,
        );
    });
    await client.connect();
    await client.query('create table t as select generate_series(1, 1000) i');
    expect((await client.query('select sum(i)::int from t')).rows).toEqual([{ sum: 500_500 }]);
    await client.end();
  } finally {
    const gone = new Promise(done => server.once('exit', done));
    server.kill('SIGINT');
    if (server.exitCode === null) await gone;
  }
});

test('into an empty directory, told as JSON; and never over anything', async () => {
  const directory = join(home, 'empty');
  mkdirSync(directory);
  const { out } = await lakebed('checkout', timeline, directory, ...place, '--json', '--no-sync');
  const result = JSON.parse(out);
  expect(result).toMatchObject({ directory, timeline, pgVersion: MAJOR });
  expect(result.lsn).toMatch(/^0\/[0-9A-F]+$/);
  expect(await filesOf(directory)).toHaveLength(result.files);
  const { err, code } = await lakebed('checkout', timeline, directory, ...place);
  expect(code).toBe(1);
  expect(err).toContain('is not empty');
  expect(await filesOf(directory)).toHaveLength(result.files);
});

test('one that breaks off leaves nothing', async () => {
  const directory = join(home, 'broken');
  const bin = join(import.meta.dirname, '../../bin/lakebed');
  const running = promisify(execFile)(bin, ['checkout', timeline, directory, ...place]);
  const ended = running.catch((error: { code: number }) => error);
  const unpacking = (): boolean => {
    try {
      return readdirSync(directory).length > 0;
    } catch {
      return false;
    }
  };
  while (!unpacking()) await new Promise(done => setTimeout(done, 2));
  running.child.kill('SIGINT');
  expect((await ended) as unknown).toMatchObject({
    code: 1,
    stderr: 'lakebed: interrupted: nothing is left of it\n',
  });
  expect(() => statSync(directory)).toThrow('ENOENT');
});
