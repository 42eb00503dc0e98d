// What the broker carries: messages published and delivered a second, with 10,000 timelines told to five safekeepers
// and 94 pageservers, without and with a subscriber that never reads. Broker and clients share the machine, so the
// clients' work is in the figures; the broker's own processor time a message is not theirs.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Crowd } from '../broker/crowd.ts';
import { Daemon } from '../pg/daemon.ts';
import { freePort } from '../safekeeper/neon-postgres.ts';
import type { Bench, Figure } from './harness.ts';

const TIMELINES = 10_000;
const ROUNDS = 8;

async function measure(withStuck: boolean): Promise<{ published: number; delivered: number; cpuUs: number }> {
  const dir = mkdtempSync(join(tmpdir(), 'lakebed-bench-broker-'));
  const port = await freePort();
  const broker = new Daemon({
    name: 'broker',
    program: 'storage_broker',
    dir,
    statusUrl: `http://127.0.0.1:${port}/status`,
    args: ['-l', `127.0.0.1:${port}`],
  });
  await broker.start();
  const crowd = new Crowd(port, { timelines: TIMELINES, safekeepers: 5, pageservers: 94, withStuck });
  try {
    await crowd.gather();
    await crowd.tellAll();
    const cpu = async (): Promise<number> => {
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      return Number(/^process_cpu_seconds_total (\S+)$/m.exec(text)![1]);
    };
    const [began, cpuBefore] = [performance.now(), await cpu()];
    for (let round = 0; round < ROUNDS; round++) await crowd.tellAll();
    const seconds = (performance.now() - began) / 1000;
    const deliveries = crowd.deliveriesPerRound * ROUNDS;
    return {
      published: (TIMELINES * ROUNDS) / seconds,
      delivered: deliveries / seconds,
      cpuUs: (((await cpu()) - cpuBefore) / deliveries) * 1e6,
    };
  } finally {
    crowd.leave();
    await broker.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  }
}

const bench: Bench = {
  name: 'broker',
  async run(): Promise<Figure[]> {
    const alone = await measure(false);
    const stuck = await measure(true);
    const note = '10,000 timelines, 99 subscribers';
    return [
      { name: 'published', value: alone.published, unit: 'messages/s', note },
      { name: 'delivered', value: alone.delivered, unit: 'messages/s', note },
      { name: 'processor time of the broker', value: alone.cpuUs, unit: 'us/delivery' },
      { name: 'published, one more is stuck', value: stuck.published, unit: 'messages/s' },
      { name: 'delivered, one more is stuck', value: stuck.delivered, unit: 'messages/s' },
      { name: 'with one stuck against without', value: stuck.delivered / alone.delivered, unit: 'x' },
    ];
  },
};
export default bench;
