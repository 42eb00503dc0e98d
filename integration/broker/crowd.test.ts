// 10,000 timelines, 100 subscribers, one of them stuck: nobody else loses a message or is cut off.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Daemon } from '../pg/daemon.ts';
import { freePort } from '../safekeeper/neon-postgres.ts';
import { Crowd } from './crowd.ts';

const TIMELINES = 10_000;
const ROUNDS = 3;

let dir: string;
let broker: Daemon;
let port: number;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-crowd-'));
  port = await freePort();
  broker = new Daemon({
    name: 'broker',
    program: 'storage_broker',
    dir,
    statusUrl: `http://127.0.0.1:${port}/status`,
    args: ['-l', `127.0.0.1:${port}`],
  });
  await broker.start();
});
afterAll(async () => {
  await broker.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

test('a full house with one that never reads', async () => {
  const crowd = new Crowd(port, { timelines: TIMELINES, safekeepers: 5, pageservers: 94, withStuck: true });
  try {
    await crowd.gather();
    for (let round = 0; round < ROUNDS; round++) await crowd.tellAll();
    expect(crowd.byAll).toEqual(Array(5).fill(TIMELINES * ROUNDS));
    expect(crowd.byTimeline.every(count => count === ROUNDS)).toBe(true);
    expect(crowd.failures).toEqual([]);
    // What was dropped is what the stuck one lost: the others have all of theirs.
    const dropped = await crowd.metric('broadcast_dropped_messages_total');
    expect(dropped).toBeGreaterThan(0);
    expect(dropped).toBeLessThan(TIMELINES * ROUNDS);
    expect(await crowd.metric('all_keys_active_subscribers')).toBe(6);
    expect(await crowd.metric('processed_messages_total')).toBe(TIMELINES * ROUNDS);
  } finally {
    crowd.leave();
  }
  for (const name of ['all_keys_active_subscribers', 'per_timeline_active_subscribers']) {
    while ((await crowd.metric(name)) > 0) await new Promise(done => setTimeout(done, 20));
  }
});
