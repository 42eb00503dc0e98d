// Appends: whole safekeepers of `bin`, syncing, beside a bare loop of write and fdatasync on the same disk. Figures
// of a disk are worth what the disk is worth just then, so the bare loop runs before and after, and alternates with
// the single appends.

import { readFileSync } from 'node:fs';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../safekeeper/neon-postgres.ts';
import { type Cluster, SafekeeperProcess, startCluster, timelinePath } from '../safekeeper/processes.ts';
import { AppendClient, newKey, preparedWal } from './append-client.ts';
import { type Bench, distribution, type Figure } from './harness.ts';

const KB = 1024;
const MB = 1024 * KB;
const MESSAGE = 128 * KB;
const WINDOW = 8 * MB;
const STREAM_BYTES = 256 * MB;
const SINGLE_APPENDS = 400;
const TIMELINES_AT_ONCE = 8;
const IDLE_TIMELINES = 1000;
const IDLE_SECONDS = 10;

const seconds = async (work: () => Promise<void>): Promise<number> => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};

class BareFile {
  private readonly file: FileHandle;
  private readonly bytes: Uint8Array;
  private constructor(file: FileHandle, bytes: Uint8Array) {
    this.file = file;
    this.bytes = bytes;
  }

  static async open(dir: string, blockBytes: number): Promise<BareFile> {
    const file = await open(join(dir, `bare-${performance.now()}`), 'w');
    return new BareFile(file, new Uint8Array(blockBytes).fill(0x5a));
  }

  async append(): Promise<void> {
    await this.file.write(this.bytes);
    await this.file.datasync();
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

async function bareStream(dir: string): Promise<number> {
  const file = await BareFile.open(dir, MESSAGE);
  const blocks = STREAM_BYTES / 2 / MESSAGE;
  const took = await seconds(async () => {
    for (let i = 0; i < blocks; i++) await file.append();
  });
  await file.close();
  return (blocks * MESSAGE) / took / MB;
}

async function stream(sk: SafekeeperProcess, payloadBytes: number): Promise<number> {
  const client = await AppendClient.open(sk.port, newKey(), preparedWal(STREAM_BYTES, payloadBytes));
  await client.push(4 * MB, MESSAGE, WINDOW);
  const bytes = client.left;
  const took = await seconds(() => client.push(bytes, MESSAGE, WINDOW));
  client.close();
  return bytes / took / MB;
}

async function singleAppends(
  sk: SafekeeperProcess,
  dir: string,
): Promise<{ ours: number[]; bare: number[] }> {
  const [warmUp, each] = [50, 8 * KB];
  const wal = preparedWal((SINGLE_APPENDS + warmUp + 2) * each, 400);
  const client = await AppendClient.open(sk.port, newKey(), wal);
  const file = await BareFile.open(dir, each);
  const [ours, bare]: [number[], number[]] = [[], []];
  for (let i = -warmUp; i < SINGLE_APPENDS; i++) {
    const bareTook = await seconds(() => file.append());
    const took = await seconds(() => client.push(each, each, each));
    if (i >= 0) {
      bare.push(bareTook * 1e6);
      ours.push(took * 1e6);
    }
  }
  client.close();
  await file.close();
  return { ours, bare };
}

/** Eight computes, each to all three; a round ends when a majority has it. Bytes a second, over all disks. */
async function threeWithTimelines(sks: readonly SafekeeperProcess[]): Promise<number> {
  const wal = preparedWal(STREAM_BYTES / TIMELINES_AT_ONCE, 400);
  const computes = await Promise.all(
    Array.from({ length: TIMELINES_AT_ONCE }, () => {
      const key = newKey();
      return Promise.all(sks.map(sk => AppendClient.open(sk.port, key, wal)));
    }),
  );
  const bytes = computes[0]![0]!.left;
  const took = await seconds(async () => {
    await Promise.all(computes.flat().map(c => c.push(bytes, MESSAGE, WINDOW / 2)));
  });
  for (const c of computes.flat()) c.close();
  return (bytes * TIMELINES_AT_ONCE * sks.length) / took / MB;
}

async function idle(cluster: Cluster): Promise<Figure[]> {
  const ports = { pg: await freePort(), http: await freePort() };
  const sk = new SafekeeperProcess(9, cluster.dir, ports, [
    '--no-sync',
    '--broker-endpoint',
    'http://127.0.0.1:1',
  ]);
  await sk.start();
  const value = (name: string): Promise<number> => sk.metric(name);
  const before = await value('process_resident_memory_bytes');
  const member = { id: 9, host: '127.0.0.1', pg_port: sk.port };
  for (let i = 0; i < IDLE_TIMELINES; i++) {
    const key = newKey();
    await sk.call(
      'POST',
      timelinePath(key)
        .replace(/\/[0-9a-f]+\/timeline.*/, '/timeline')
        .replace(/tenant\/.*/, 'tenant/timeline'),
      {
        tenant_id: key.tenantId,
        timeline_id: key.timelineId,
        mconf: { generation: 1, members: [member], new_members: null },
        pg_version: 170005,
        system_id: 1,
        wal_seg_size: 16 * MB,
        start_lsn: '0/14EBD08',
      },
    );
  }
  await sk.kill('SIGTERM');
  await sk.start();
  await new Promise(done => setTimeout(done, 3000));
  const after = await value('process_resident_memory_bytes');
  // Asked of the system: a scrape of so many timelines is work itself.
  await new Promise(done => setTimeout(done, 2000));
  const cpuBefore = cpuSeconds(sk.pid);
  await new Promise(done => setTimeout(done, IDLE_SECONDS * 1000));
  const cpu = cpuSeconds(sk.pid) - cpuBefore;
  await sk.kill('SIGKILL');
  return [
    {
      name: `${IDLE_TIMELINES} idle timelines: memory`,
      value: (after - before) / MB,
      unit: 'MB',
      target: '< 100',
    },
    { name: 'their CPU', value: (cpu / IDLE_SECONDS) * 100, unit: '% of a core' },
  ];
}

/** Used by a process so far; utime and stime of proc(5), in hundredths. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

const bench: Bench = {
  name: 'safekeeper: appends',
  async run() {
    const dir = await mkdtemp(join(tmpdir(), 'lakebed-bench-'));
    const cluster = await startCluster(3);
    try {
      const [sk] = cluster.sks;
      const bareBefore = await bareStream(dir);
      const small = await stream(sk!, 100);
      const big = await stream(sk!, 8000);
      const bare = (bareBefore + (await bareStream(dir))) / 2;
      const single = await singleAppends(sk!, dir);
      const [ours, alone] = [distribution(single.ours), distribution(single.bare)];
      const three = await threeWithTimelines(cluster.sks);
      return [
        { name: 'bare write + fdatasync, 128 KiB', value: bare, unit: 'MB/s' },
        {
          name: 'append, 128 KiB messages, 8 KB records',
          value: big,
          unit: 'MB/s',
          target: '>= 85% of bare',
        },
        { name: 'append, 128 KiB messages, 100 B records', value: small, unit: 'MB/s' },
        { name: 'bare 8 KiB + fdatasync, median', value: alone.p50, unit: 'us' },
        {
          name: 'one 8 KiB append, median',
          value: ours.p50,
          unit: 'us',
          target: '<= bare + 60',
          note: `p99 ${ours.p99.toFixed(0)}, bare p99 ${alone.p99.toFixed(0)}`,
        },
        {
          name: 'three safekeepers, 8 timelines, all disks',
          value: three,
          unit: 'MB/s',
          target: '>= 70% of single',
        },
        ...(await idle(cluster)),
      ];
    } finally {
      await cluster.remove();
      await rm(dir, { recursive: true, force: true });
    }
  },
};

export default bench;
