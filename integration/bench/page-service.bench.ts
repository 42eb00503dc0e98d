// GetPage over loopback: a pageserver as it runs in earnest (pageserver-process.ts), over sealed layers, asked by a
// client that does no work; one request at a time, and 32 at once. And a branch, whose cost is none of its parent's size
// (pageserver-growth.bench.ts).

import { type Bench, distribution, type Figure } from './harness.ts';
import { oneByOne, seeded } from './page-reads.ts';
import { BenchPageserver } from './pageserver-process.ts';
import { recordWal } from './wal-workload.ts';

const WARM = 3000;
const READS = 10_000;
const DEPTH = 32;
const ROUNDS = 2000;
const BRANCHES = 20;

async function measure(server: BenchPageserver): Promise<Figure[]> {
  const client = await server.client(seeded());
  const first = await oneByOne(client, WARM);
  const before = server.cpu().loop;
  const single = await oneByOne(client, READS);
  const singleLoop = ((server.cpu().loop - before) * 1e6) / READS;
  for (let i = 0; i < ROUNDS / 10; i++) await client.pages(DEPTH);
  const begun = server.cpu().loop;
  const start = performance.now();
  for (let i = 0; i < ROUNDS; i++) await client.pages(DEPTH);
  const seconds = (performance.now() - start) / 1000;
  const deepLoop = ((server.cpu().loop - begun) * 1e6) / (ROUNDS * DEPTH);
  client.close();
  const branches: number[] = [];
  for (let i = 0; i < BRANCHES; i++) branches.push(await server.branch());
  const branch = distribution(branches);
  return [
    {
      name: 'GetPage, one client, over loopback, mean',
      value: single.mean,
      unit: 'us',
      target: '<= 150',
      note: `p50 ${single.p50.toFixed(0)}, p99 ${single.p99.toFixed(0)}, event loop ${singleLoop.toFixed(0)}; the first ${WARM}: p50 ${first.p50.toFixed(0)}`,
    },
    {
      name: 'GetPage, 32 at once',
      value: (ROUNDS * DEPTH) / seconds,
      unit: 'pages/s',
      target: '>= 40,000',
      note: `event loop ${deepLoop.toFixed(1)} us a page: ${(1e6 / deepLoop).toFixed(0)} pages/s of its own time`,
    },
    {
      name: 'branch, over HTTP, durable',
      value: branch.p50,
      unit: 'ms',
      target: '<= 10',
      note: `p90 ${branch.p90.toFixed(1)}; the store is a directory, synced`,
    },
  ];
}

const bench: Bench = {
  name: 'page service',
  async run() {
    const wal = await recordWal(false, 1000);
    try {
      const server = await BenchPageserver.start(wal);
      try {
        return await measure(server);
      } finally {
        await server.stop();
      }
    } finally {
      await wal.postgres.destroy();
    }
  },
};
export default bench;
