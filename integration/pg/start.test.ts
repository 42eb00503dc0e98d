// `lakebed start` as a newcomer types it: up, found again at the second start, and one sentence when it cannot be.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { neonMajors } from '../safekeeper/neon-postgres.ts';

const LAKEBED = resolve(import.meta.dirname, '../../bin/lakebed');
const PORTS = 12;
const home = mkdtempSync(join(tmpdir(), 'lakebed-start-'));
const started: ChildProcess[] = [];
afterAll(async () => {
  for (const child of started) await interrupt(child);
  rmSync(home, { recursive: true, force: true });
});

/** The first of twelve consecutive ports that are free now. */
async function freePorts(): Promise<number> {
  for (;;) {
    const first = 20_000 + Math.floor(Math.random() * 10_000);
    const free = await Promise.all(
      Array.from({ length: PORTS }, (_, i) => {
        return new Promise<boolean>(done => {
          const server = createServer().once('error', () => done(false));
          server.listen(first + i, '127.0.0.1', () => server.close(() => done(true)));
        });
      }),
    );
    if (free.every(Boolean)) return first;
  }
}

async function start(...args: string[]): Promise<{ child: ChildProcess; said: () => string }> {
  const child = spawn(LAKEBED, ['start', '-D', join(home, 'data'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  started.push(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', piece => (text += piece));
  for (let tries = 0; !text.includes('Lakebed is up') && tries < 1200; tries++) {
    if (child.exitCode !== null) throw new Error(`lakebed start ended with ${child.exitCode}: ${text}`);
    await new Promise(done => setTimeout(done, 50));
  }
  expect(text).toContain('Lakebed is up');
  return { child, said: () => text };
}

async function interrupt(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null) return child.exitCode;
  const gone = new Promise<number | null>(done => child.once('exit', code => done(code)));
  child.kill('SIGINT');
  return gone;
}

const majors = neonMajors();
const major = majors.at(-1) ?? 17;
if (majors.length === 0) {
  console.log(
    "skipped: the compute of lakebed start (NEON_PG_DIR does not point at a build of Neon's Postgres)",
  );
}

async function query(first: number, sql: string): Promise<unknown> {
  const client = new pg.Client({ host: '127.0.0.1', port: first, user: 'cloud_admin', database: 'postgres' });
  await client.connect();
  try {
    const result: unknown = await client.query(sql);
    return (Array.isArray(result) ? result.at(-1) : result).rows[0];
  } finally {
    await client.end();
  }
}

test('starts, stops, and finds everything again', async () => {
  const first = await freePorts();
  const one = await start('--ports', String(first), '--pg-version', String(major));
  const state = JSON.parse(readFileSync(join(home, 'data/lakebed.json'), 'utf8'));
  const timelines = `http://127.0.0.1:${first + 3}/v1/tenant/${state.tenant}/timeline`;
  const before = (await (await fetch(timelines)).json()) as {
    timeline_id: string;
    last_record_lsn: string;
  }[];
  expect(before.map(t => t.timeline_id)).toEqual([state.timeline]);
  if (majors.length > 0) {
    expect(
      await query(first, 'CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g; SELECT sum(g) FROM t'),
    ).toEqual({ sum: '500500' });
  }
  expect(await interrupt(one.child)).toBe(0);

  const two = await start();
  const after = (await (await fetch(timelines)).json()) as typeof before;
  expect(after.map(t => t.timeline_id)).toEqual([state.timeline]);
  if (majors.length > 0) expect(await query(first, 'SELECT sum(g) FROM t')).toEqual({ sum: '500500' });

  // Another one on the same place is told so, and harms nothing.
  const other = spawnSync(LAKEBED, ['start', '-D', join(home, 'data')], { encoding: 'utf8' });
  expect([other.status, other.stderr]).toEqual([
    1,
    expect.stringMatching(/port \d+ is taken\n.*another Lakebed/),
  ]);
  expect((await fetch(timelines)).status).toBe(200);
  expect(await interrupt(two.child)).toBe(0);
});

test('says in a sentence what cannot be', () => {
  const place = join(home, 'newer');
  spawnSync('mkdir', [place]);
  writeFileSync(join(place, 'lakebed.json'), '{"version": 99}');
  const ran = spawnSync(LAKEBED, ['start', '-D', place], { encoding: 'utf8' });
  expect([ran.status, ran.stderr]).toEqual([1, expect.stringContaining('newer Lakebed')]);
  const wrong = spawnSync(LAKEBED, ['start', '-D', join(home, 'x'), '--pg-version', 'nine'], {
    encoding: 'utf8',
  });
  expect([wrong.status, wrong.stderr]).toEqual([1, expect.stringContaining('--pg-version: nine')]);
});
