// kill -9 in a loop under a pushing client: three real processes, one or two of them dying at any moment, the client
// dying now and then, too. What was acknowledged as committed is in every log at the end, and the logs agree byte for
// byte. LAKEBED_KILL_ROUNDS sets how many deaths there are.

import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatLsn, type Lsn, lsn, parseLsn } from '../../src/base/lsn.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { ModelWal } from '../sim/model-wal.ts';
import { SimRandom } from '../sim/random.ts';
import { type Cluster, startCluster, timelinePath, until } from './processes.ts';
import { ComputeLog, Pusher } from './pusher.ts';

const ROUNDS = Number(process.env['LAKEBED_KILL_ROUNDS'] ?? 20);
const key = { tenantId: '1'.padStart(32, '0'), timelineId: '2'.padStart(32, '0') } as TimelineKey;

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster(3);
});
afterAll(() => cluster.remove());

interface Acknowledged {
  readonly from: Lsn;
  readonly to: Lsn;
  readonly sha256: string;
}

describe(`kill -9, ${ROUNDS} times`, () => {
  test('nothing acknowledged is lost, and the three logs agree', async () => {
    const random = new SimRandom(Number(process.env['LAKEBED_KILL_SEED'] ?? 7));
    const log = new ComputeLog(lsn(0x14ebd08));
    const acknowledged: Acknowledged[] = [];
    let pusher = newPusher(log);
    await pusher.elect();
    let writes = 0;
    let running = true;
    const pushing = (async () => {
      while (running) {
        const from = log.end;
        try {
          const count = 1 + random.below(30);
          for (let i = 0; i < count; i++)
            pusher.write(ModelWal.payload('k', writes++, 50 + random.below(9000)));
          const to = log.end;
          await pusher.committed(to);
          // What it was told is taken down: it must be found again, byte for byte.
          acknowledged.push({ from, to, sha256: digest(log.bytes(from, to)) });
        } catch {
          pusher.close();
          pusher = newPusher(log);
          await pusher.elect(60_000);
        }
      }
    })();
    for (let round = 0; round < ROUNDS; round++) {
      await new Promise(done => setTimeout(done, 50 + random.below(200)));
      const victims = random.below(5) === 0 ? [0, 1] : [random.below(3)];
      await Promise.all(victims.map(v => cluster.sks[v]!.kill('SIGKILL')));
      if (random.below(10) === 0) pusher.close();
      await Promise.all(victims.map(v => cluster.sks[v]!.start()));
    }
    running = false;
    await pushing;
    const end = pusher.commitLsn;
    await until(async () => (await flushed()).every(at => at >= end), 60_000);
    pusher.close();
    const [first, ...others] = await Promise.all(cluster.sks.map(sk => digestOf(sk.id, log.start, end)));
    for (const other of others) expect(other).toBe(first);
    expect(first).toBe(digest(log.bytes(log.start, end)));
    for (const { from, to, sha256 } of acknowledged) expect(digest(log.bytes(from, to))).toBe(sha256);
    expect(acknowledged.length).toBeGreaterThan(ROUNDS);
    console.log(
      `${ROUNDS} rounds: ${acknowledged.length} acknowledged batches, ${end - log.start} bytes, term ${pusher.term}`,
    );
  }, 3_600_000);

  test('all down, all up: everything is still there', async () => {
    const before = await flushed();
    await Promise.all(cluster.sks.map(sk => sk.kill('SIGKILL')));
    await Promise.all(cluster.sks.map(sk => sk.start()));
    expect(await flushed()).toEqual(before);
  });
});

const newPusher = (log: ComputeLog): Pusher =>
  new Pusher({ targets: cluster.sks.map(sk => ({ host: '127.0.0.1', port: sk.port })), key, log });

const flushed = (): Promise<Lsn[]> =>
  Promise.all(cluster.sks.map(async sk => parseLsn((await sk.status(key)).flush_lsn)));

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function digestOf(id: number, from: Lsn, until: Lsn): Promise<string> {
  const range = `from_lsn=${formatLsn(from)}&until_lsn=${formatLsn(until)}`;
  const reply = await cluster.sks[id - 1]!.call('GET', `${timelinePath(key)}/digest?${range}`);
  return reply.sha256;
}
