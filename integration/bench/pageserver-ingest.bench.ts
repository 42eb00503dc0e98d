// Catch-up: a log that a safekeeper has, streamed to a pageserver as fast as it takes it, flushes, compactions and
// uploads beside it (pageserver-process.ts); what reads over loopback feel of that; and the memory it took. The log is
// a stock Postgres's, once without page images and once full of them.
//
// LAKEBED_BENCH_TRANSACTIONS says how long the first log is (600000 make 270 MB; a fifth of them makes 480 MB of the
// second).

import type { Bench, Figure } from './harness.ts';
import { nowAndThen, seeded } from './page-reads.ts';
import { BenchPageserver } from './pageserver-process.ts';
import { recordWal } from './wal-workload.ts';

const TRANSACTIONS = Number(process.env['LAKEBED_BENCH_TRANSACTIONS'] ?? 600_000);
const IDLE_MS = 3000;
const SAMPLE_MS = 100;

/**
 * A quarter of the log to warm up (code is compiled, memory is had from the kernel: a catch-up is gigabytes), half of the
 * rest with nobody reading, the other half with.
 */
async function measure(server: BenchPageserver, what: string, aim: number): Promise<Figure[]> {
  let memory = 0;
  const sample = async (isOver: () => boolean): Promise<void> => {
    while (!isOver()) {
      memory = Math.max(memory, await server.memoryLayers());
      await new Promise(done => setTimeout(done, SAMPLE_MS));
    }
  };
  await server.catchUp(0.25);
  const alone = await server.catchUp(0.5, sample);
  const client = await server.client(seeded());
  // What that left to do is done.
  await server.settle();
  await nowAndThen(client, after(IDLE_MS));
  const idle = await nowAndThen(client, after(IDLE_MS));
  let busy = idle;
  const read = await server.catchUp(1, async isOver => {
    const sampling = sample(isOver);
    busy = await nowAndThen(client, isOver);
    await sampling;
  });
  client.close();
  const MB = alone.bytes / 1e6;
  const rate = MB / alone.seconds;
  return [
    {
      name: `catch-up, ${what}`,
      value: rate,
      unit: 'MB/s',
      target: `>= ${aim} MB/s`,
      note: `${(rate / aim).toFixed(2)} of it; ${MB.toFixed(0)} MB, ${alone.records} records, ${(alone.bytes / alone.records).toFixed(0)} bytes each`,
    },
    {
      name: `catch-up, ${what}, of the event loop's own time`,
      value: MB / alone.loopSeconds,
      unit: 'MB/s',
      note: `its other threads: ${(((alone.processSeconds - alone.loopSeconds) * 1000) / MB).toFixed(1)} ms/MB`,
    },
    {
      name: `catch-up, ${what}, memory layers at most`,
      value: memory / 1e6,
      unit: 'MB',
      target: '<= 403, the limit',
      note: `the process at its most ${server.peakMemory().toFixed(0)} MB`,
    },
    { name: `GetPage p99, idle`, value: idle.p99, unit: 'us', note: `p50 ${idle.p50.toFixed(0)}` },
    {
      name: `GetPage p99 beside ${what}`,
      value: busy.p99,
      unit: 'us',
      target: '<= 3x of idle',
      note: `p50 ${busy.p50.toFixed(0)}, ${(busy.p99 / idle.p99).toFixed(1)}x; meanwhile ${(read.bytes / 1e6 / read.seconds).toFixed(0)} MB/s`,
    },
  ];
}

function after(ms: number): () => boolean {
  const until = performance.now() + ms;
  return () => performance.now() > until;
}

const bench: Bench = {
  name: 'pageserver: catch-up ingest, flush, compaction and upload beside it',
  async run() {
    const figures: Figure[] = [];
    for (const [images, transactions, what, aim] of [
      [false, TRANSACTIONS, 'log of small records', 100],
      [true, TRANSACTIONS / 5, 'log full of page images', 250],
    ] as const) {
      const wal = await recordWal(images, transactions);
      try {
        const server = await BenchPageserver.start(wal);
        try {
          figures.push(...(await measure(server, what, aim)));
        } finally {
          await server.stop();
        }
      } finally {
        await wal.postgres.destroy();
      }
    }
    return figures;
  },
};

export default bench;
