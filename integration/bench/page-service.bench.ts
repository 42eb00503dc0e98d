// GetPage over loopback: the page service in a process of its own, over sealed layers, asked by a client that does no
// work; one request at a time, 32 at once, and one at a time while WAL is received, ingested, flushed and compacted as
// fast as it goes. The log is a stock Postgres's, served by a process that stands for a safekeeper.

import { type ChildProcess, fork } from 'node:child_process';
import { type Bench, distribution, type Figure } from './harness.ts';
import { PageClient, type PageTarget } from './page-client.ts';
import { recordWal } from './wal-workload.ts';

const TRANSACTIONS = 250_000;
const READ_EVERY_MS = 2;

/** What page-server.ts tells. */
interface Ready {
  readonly port: number;
  readonly tenant: string;
  readonly timeline: string;
  readonly target: PageTarget;
}

interface Ingested {
  readonly bytes: number;
  readonly seconds: number;
}

const told = <T>(child: ChildProcess): Promise<T> =>
  new Promise((resolve, reject) => {
    child.once('message', message => resolve(message as T));
    child.once('exit', code => reject(new Error(`the server ended with ${code}`)));
  });

function seeded(): () => number {
  let state = 12345;
  return () => (state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff) / 0x80000000;
}

const micros = (samples: readonly number[]): ReturnType<typeof distribution> =>
  distribution(samples.map(s => s * 1000));

async function oneByOne(client: PageClient, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await client.pages(1);
    times.push(performance.now() - start);
  }
  return times;
}

/** One read every few milliseconds, timed from when it should have begun. */
async function nowAndThen(client: PageClient, isOver: () => boolean): Promise<number[]> {
  const times: number[] = [];
  let due = performance.now();
  while (!isOver()) {
    due = Math.max(due + READ_EVERY_MS, performance.now());
    const left = due - performance.now();
    await new Promise<void>(resolve => (left > 1 ? setTimeout(resolve, left) : setImmediate(resolve)));
    const begun = Math.min(due, performance.now());
    await client.pages(1);
    times.push(performance.now() - begun);
  }
  return times;
}

async function measure(server: ChildProcess, ready: Ready): Promise<Figure[]> {
  const client = await PageClient.open(ready.port, ready, ready.target, seeded());
  await oneByOne(client, 3000);
  const single = micros(await oneByOne(client, 10_000));
  for (let i = 0; i < 100; i++) await client.pages(32);
  const start = performance.now();
  const rounds = 2000;
  for (let i = 0; i < rounds; i++) await client.pages(32);
  const perSecond = (rounds * 32) / ((performance.now() - start) / 1000);
  const until = performance.now() + 3000;
  const idle = micros(await nowAndThen(client, () => performance.now() > until));
  let over = false;
  const reads = nowAndThen(client, () => over);
  server.send('ingest');
  const ingested = await told<Ingested>(server);
  over = true;
  const busy = micros(await reads);
  client.close();
  const rate = ingested.bytes / 1e6 / ingested.seconds;
  return [
    {
      name: 'GetPage, one client, over loopback, mean',
      value: single.mean,
      unit: 'us',
      target: '<= 150',
      note: `p50 ${single.p50.toFixed(0)}, p99 ${single.p99.toFixed(0)}`,
    },
    { name: 'GetPage, 32 at once', value: perSecond, unit: 'pages/s', target: '>= 40,000' },
    {
      name: 'GetPage every 2 ms, idle, p99',
      value: idle.p99,
      unit: 'us',
      note: `p50 ${idle.p50.toFixed(0)}`,
    },
    {
      name: 'GetPage every 2 ms, under ingest at full rate, p99',
      value: busy.p99,
      unit: 'us',
      target: '<= 3x idle',
      note: `p50 ${busy.p50.toFixed(0)}, ${(busy.p99 / idle.p99).toFixed(1)}x idle`,
    },
    {
      name: 'received and ingested meanwhile',
      value: rate,
      unit: 'MB/s',
      note: `${(ingested.bytes / 1e6).toFixed(0)} MB of WAL`,
    },
  ];
}

const bench: Bench = {
  name: 'page service',
  async run() {
    const wal = await recordWal(false, TRANSACTIONS);
    const server = fork(new URL('./page-server.ts', import.meta.url), [wal.base, ...wal.segments]);
    try {
      return await measure(server, await told<Ready>(server));
    } finally {
      server.removeAllListeners('exit');
      server.kill();
      await wal.postgres.destroy();
    }
  },
};
export default bench;
