// `lakebed start` as a newcomer types it, with the commands that follow: up, a branch, the past, found again at the next
// start; one sentence when it cannot be. Computes are Neon's build where NEON_PG_DIR points at one, else stock Postgres.

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { mountSmallDisk, unmount } from '../small-disk.ts';
import { portBlock } from './port-block.ts';

const LAKEBED = resolve(import.meta.dirname, '../../bin/lakebed');
const home = mkdtempSync(join(tmpdir(), 'lakebed-start-'));
const places: string[] = [];
const children: ChildProcess[] = [];
const disks: string[] = [];
afterAll(async () => {
  for (const child of children) await interrupt(child);
  for (const place of places) spawnSync(LAKEBED, ['stop', '-D', place]);
  for (const disk of disks) unmount(disk);
  rmSync(home, { recursive: true, force: true });
}, 120_000);

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command to its end; what runs in the background must not hold our pipes. */
function lakebed(place: string, ...args: string[]): Ran {
  const [out, err] = [join(home, 'out'), join(home, 'err')];
  const line = `exec "$0" "$@" >${out} 2>${err} </dev/null`;
  const { status } = spawnSync('sh', ['-c', line, LAKEBED, ...args, '-D', place], {
    env: { ...process.env, HOME: home, NO_COLOR: '1' },
  });
  return { status, stdout: readFileSync(out, 'utf8'), stderr: readFileSync(err, 'utf8') };
}

function ok(place: string, ...args: string[]): string {
  const ran = lakebed(place, ...args);
  if (ran.status !== 0)
    throw new Error(`lakebed ${args.join(' ')} ended with ${ran.status}: ${ran.stdout}${ran.stderr}`);
  return ran.stdout;
}

const sql = (place: string, branch: string, text: string): string => ok(place, 'psql', branch, '-c', text);

function interrupt(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null) return Promise.resolve(child.exitCode);
  const gone = new Promise<number | null>(done => child.once('exit', code => done(code)));
  child.kill('SIGINT');
  return gone;
}

function killSupervisor(place: string): void {
  const { pid } = JSON.parse(ok(place, 'status', '--json'));
  process.kill(pid, 'SIGKILL');
  while (lakebed(place, 'status').status === 0);
}

const newPlace = (name: string): string => {
  const place = join(home, name);
  places.push(place);
  return place;
};

test('two commands to a Postgres, a third to a branch, a fourth to the past; all of it is found again', async () => {
  const place = newPlace('data');
  const said = ok(place, 'start', '--ports', await portBlock());
  expect(said).toMatch(/^Lakebed is up \(\d+\.\d s\)\. Postgres 17; computes are /);
  const uri = /connect {3}psql '(postgresql:[^']+)'/.exec(said)?.[1];
  expect(uri).toBe(ok(place, 'uri').trim());

  sql(place, 'main', 'create table t as select g from generate_series(1, 1000) g');
  await new Promise(done => setTimeout(done, 1100));
  const before = new Date().toISOString();
  await new Promise(done => setTimeout(done, 1100));
  sql(place, 'main', 'delete from t where g > 10');

  ok(place, 'branch', 'create', 'dev');
  ok(place, 'branch', 'create', 'past', '--at', before);
  sql(place, 'dev', 'create table only_here (a int primary key)');
  expect(sql(place, 'main', 'select count(*) from t')).toMatch(/\b10\b/);
  expect(sql(place, 'past', 'select count(*) from t')).toMatch(/\b1000\b/);
  expect(ok(place, 'branch', 'list')).toMatch(/^main.* default.*\n├─ dev .*\n└─ past /);
  const diff = lakebed(place, 'branch', 'diff', 'main', 'dev');
  expect(diff).toMatchObject({
    status: 3,
    stdout: expect.stringContaining('+ column public.only_here.a integer'),
  });

  const other = lakebed(place, 'start');
  expect(other).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/runs from .* already .*\n.*lakebed stop/),
  });
  const status = JSON.parse(ok(place, 'status', '--json'));
  expect(status.roles.map((r: { name: string }) => r.name)).toEqual([
    'broker',
    'safekeeper-1',
    'safekeeper-2',
    'safekeeper-3',
    'pageserver',
    'manager',
    'proxy',
  ]);

  expect(status.disk.free_bytes).toBeGreaterThan(0);
  expect(ok(place, 'status')).toMatch(/ are free on its disk\.\n/);

  ok(place, 'stop');
  expect(() => execFileSync('pgrep', ['-f', place])).toThrow();
  expect(lakebed(place, 'status')).toMatchObject({
    status: 1,
    stdout: expect.stringContaining('No Lakebed runs'),
  });
  ok(place, 'start');
  expect(sql(place, 'main', 'select count(*) from t')).toMatch(/\b10\b/);
  expect(sql(place, 'past', 'select count(*) from t')).toMatch(/\b1000\b/);
  ok(place, 'branch', 'delete', 'past');
  expect(lakebed(place, 'psql', 'past', '-c', 'select 1')).toMatchObject({ status: 1 });

  killSupervisor(place);
  expect(lakebed(place, 'status')).toMatchObject({
    status: 1,
    stdout: expect.stringMatching(/was killed\. These still run.*: broker, .*\n.*lakebed start/),
  });
  const again = lakebed(place, 'start');
  expect(again).toMatchObject({ status: 0, stderr: expect.stringContaining('was killed had left running') });
  expect(sql(place, 'main', 'select count(*) from t')).toMatch(/\b10\b/);
  killSupervisor(place);
  expect(ok(place, 'stop')).toBe('Stopped.\n');
  expect(() => execFileSync('pgrep', ['-f', place])).toThrow();
}, 300_000);

test('in the foreground it stays until it is interrupted, and leaves nothing behind', async () => {
  const place = newPlace('foreground');
  const args = ['start', '--foreground', '-D', place, '--ports', await portBlock()];
  const child = spawn(LAKEBED, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', piece => (text += piece));
  while (!text.includes('Lakebed is up')) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${text}`);
    await new Promise(done => setTimeout(done, 50));
  }
  expect(await interrupt(child)).toBe(0);
  expect(() => execFileSync('pgrep', ['-f', place])).toThrow();
}, 180_000);

const listenOn = (port: number): Promise<Server> =>
  new Promise((done, fail) => {
    const server = createServer().once('error', fail);
    server.listen(port, '127.0.0.1', () => done(server));
  });

/** A disk of its own, which this machine's mount(8) may refuse. */
function smallDisk(size: string): string | undefined {
  const place = mkdtempSync(join(home, 'disk-'));
  if (!mountSmallDisk(place, size)) return undefined;
  disks.push(place);
  return place;
}

test('what cannot be is said in a sentence, and nothing is made', async () => {
  const newer = join(home, 'newer');
  mkdirSync(newer);
  writeFileSync(join(newer, 'lakebed.json'), '{"version": 99}');
  expect(lakebed(newer, 'start')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('newer Lakebed'),
  });
  const fresh = join(home, 'fresh');
  expect(lakebed(fresh, 'start', '--pg-version', 'nine')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('--pg-version: nine'),
  });
  const server = await listenOn(0);
  const { port } = server.address() as { port: number };
  const taken = lakebed(fresh, 'start', '--ports', String(port));
  server.close();
  expect(taken).toMatchObject({ status: 1, stderr: expect.stringContaining(`port ${port} is taken`) });
  const small = smallDisk('16m');
  if (small === undefined) console.log('skipped: a disk without room (this machine mounts no tmpfs)');
  else {
    expect(lakebed(join(small, 'data'), 'start')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/only 1\d MiB of 16 MiB are free for .*\n.*--data-dir/),
    });
    expect(readdirSync(small)).toEqual([]);
  }
  expect(lakebed(fresh, 'branch', 'list')).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/there is no Lakebed in .*\n.*lakebed start/),
  });
});
