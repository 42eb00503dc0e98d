// The whole system under Postgres against a stock Postgres of the same major, on the same machine, in the same run,
// with fsync on: throughput and latency of pgbench, commits, a cold start in its parts, bulk load, a cold scan, reads
// after a restart, and the processor time of each process beside it.
//
//   LAKEBED_SYSTEM_SCALE     of pgbench, 20 (300 MB, more than shared_buffers, less than the file cache)
//   LAKEBED_SYSTEM_SECONDS   of each run of it, 10

import { type Bench, distribution, type Figure, unmeasured } from './harness.ts';
import { initPgbench, pgbench } from './system-pgbench.ts';
import {
  type Lakebed,
  lakebedServer,
  NO_BUILD,
  printTable,
  program,
  round,
  type Server,
  session,
  stockServer,
  systemMajor,
} from './system-servers.ts';

const SCALE = Number(process.env['LAKEBED_SYSTEM_SCALE'] ?? 20);
const SECONDS = Number(process.env['LAKEBED_SYSTEM_SECONDS'] ?? 10);
const CLIENTS = [1, 8, 32];
const LOAD_ROWS = 1_000_000;
const STARTS = 5;

/** A compute has its local file cache, as in production; a new compute begins with an empty one. */
const FILE_CACHE = { 'neon.max_file_cache_size': '512MB', 'neon.file_cache_size_limit': '512MB' };

/** Figures of one server, by name; what is better is known from the unit. */
type Measured = Map<string, { value: number; unit: string }>;

const MODES = [
  ['tpcb-like', []],
  ['select-only', ['-S']],
] as const;

async function throughput(server: Server, into: Measured): Promise<void> {
  for (const [mode, flags] of MODES) {
    for (const clients of CLIENTS) {
      const { tps, latency } = await pgbench(server, { clients, seconds: SECONDS, flags });
      const name = `${mode}, ${clients} client${clients === 1 ? '' : 's'}`;
      into.set(`${name}: rate`, { value: tps, unit: 'tps' });
      into.set(`${name}: mean`, { value: latency.mean, unit: 'ms' });
      into.set(`${name}: p99`, { value: latency.p99, unit: 'ms' });
    }
  }
}

async function commits(server: Server, into: Measured): Promise<void> {
  await server.query('create table commits (a int)');
  const script = 'insert into commits values (1);\n';
  const { latency } = await pgbench(server, { clients: 1, seconds: SECONDS, script });
  into.set('commit of one row: mean', { value: latency.mean, unit: 'ms' });
  into.set('commit of one row: p50', { value: latency.p50, unit: 'ms' });
  into.set('commit of one row: p99', { value: latency.p99, unit: 'ms' });
}

const seconds = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};

/** COPY of rows made beforehand; megabytes of table. */
async function bulk(server: Server, into: Measured): Promise<void> {
  const rows = `select i, md5(i::text), repeat('x', 60) from generate_series(1, ${LOAD_ROWS}) i`;
  await program(server, 'psql', ['-qc', `\\copy (${rows}) to 'rows.txt'`]);
  await server.query('create table bulk (id int, a text, b text)');
  const took = await seconds(() => program(server, 'psql', ['-qc', `\\copy bulk from 'rows.txt'`]));
  const [size] = await server.query<{ mb: number }>("select pg_table_size('bulk') / 1e6 as mb");
  const mb = Number(size!.mb);
  into.set('bulk load (COPY)', { value: mb / took, unit: 'MB/s' });
  await server.restart();
  const scan = await seconds(() => server.query('select count(*) from bulk'));
  into.set('cold sequential scan', { value: mb / scan, unit: 'MB/s' });
  into.set('index build', {
    value: await seconds(() => server.query('create index on bulk (a)')),
    unit: 's',
  });
}

async function afterRestart(server: Server, into: Measured): Promise<void> {
  await server.restart();
  const samples: number[] = [];
  await session(server, async client => {
    for (let i = 0; i < 500; i++) {
      const aid = 1 + ((i * 7919 * 104_729) % (SCALE * 100_000));
      const took = await seconds(() =>
        client.query('select abalance from pgbench_accounts where aid = $1', [aid]),
      );
      samples.push(took * 1000);
    }
  });
  const { mean, p99 } = distribution(samples);
  into.set('row read after restart: mean', { value: mean, unit: 'ms' });
  into.set('row read after restart: p99', { value: p99, unit: 'ms' });
}

/** From nothing to the first row; the best of some. */
async function coldStart(server: Server, into: Measured): Promise<void> {
  let best = Infinity;
  const parts = { sync: Infinity, backup: Infinity, start: Infinity };
  for (let i = 0; i < STARTS; i++) {
    const took = await seconds(async () => {
      await server.restart();
      await server.query('select * from pgbench_branches limit 1');
    });
    best = Math.min(best, took);
    if (server.name !== 'lakebed') continue;
    const { times } = (server as Lakebed).compute;
    parts.sync = Math.min(parts.sync, times.syncMs);
    parts.backup = Math.min(parts.backup, times.backupMs);
    parts.start = Math.min(parts.start, times.startMs);
  }
  into.set('restart to first row', { value: best * 1000, unit: 'ms' });
  if (server.name !== 'lakebed') return;
  into.set('  of it, sync of safekeepers', { value: parts.sync, unit: 'ms' });
  into.set('  of it, base backup', { value: parts.backup, unit: 'ms' });
  into.set('  of it, start of the server', { value: parts.start, unit: 'ms' });
}

/** Each part of the work with the processor time that it took. */
async function measure(server: Server): Promise<{ measured: Measured; cpu: Map<string, string> }> {
  const measured: Measured = new Map();
  const cpu = new Map<string, string>();
  let before = server.cpuSeconds();
  const part = async (name: string, work: () => Promise<unknown>): Promise<void> => {
    process.stderr.write(`  ${server.name}: ${name}\n`);
    await work();
    const after = server.cpuSeconds();
    const each = Object.entries(after).map(([p, s]) => `${p} ${(s - (before[p] ?? 0)).toFixed(1)}`);
    cpu.set(name, each.join(', '));
    before = after;
  };
  await part(`pgbench -i -s ${SCALE}`, async () => {
    measured.set(`pgbench -i -s ${SCALE}`, {
      value: await seconds(() => initPgbench(server, SCALE)),
      unit: 's',
    });
  });
  await part('pgbench', () => throughput(server, measured));
  await part('commits', () => commits(server, measured));
  await part('bulk load, scan, index', () => bulk(server, measured));
  await part('reads after a restart', () => afterRestart(server, measured));
  await part('cold starts', () => coldStart(server, measured));
  return { measured, cpu };
}

function report(major: number, stock: Awaited<ReturnType<typeof measure>>, lakebed: typeof stock): Figure[] {
  const rows: string[][] = [];
  const figures: Figure[] = [];
  for (const [name, { value, unit }] of lakebed.measured) {
    const other = stock.measured.get(name)?.value;
    const ratio = other === undefined ? '' : `${(value / other).toFixed(2)}x`;
    rows.push([name, unit, other === undefined ? '' : round(other), round(value), ratio]);
    const note = other === undefined ? {} : { note: `stock ${round(other)} ${unit}, ${ratio} of it` };
    figures.push({ name: name.trim(), value, unit, ...note });
  }
  printTable(`Postgres ${major}, fsync on`, ['', 'unit', 'stock', 'Lakebed', 'of stock'], rows);
  const cpu = [...lakebed.cpu].map(([name, used]) => [name, stock.cpu.get(name) ?? '', used]);
  printTable('Processor seconds', ['', 'stock', 'Lakebed'], cpu);
  return figures;
}

const bench: Bench = {
  name: 'the whole system against a stock Postgres',
  async run() {
    const major = systemMajor();
    if (major === undefined) return [unmeasured('pgbench', NO_BUILD)];
    const results: Awaited<ReturnType<typeof measure>>[] = [];
    const lakebed = (): Promise<Server> => lakebedServer(major, { settings: FILE_CACHE });
    for (const make of [() => stockServer(major), lakebed]) {
      const server = await make();
      try {
        results.push(await measure(server));
      } finally {
        await server.stop();
      }
    }
    return report(major, results[0]!, results[1]!);
  },
};

export default bench;
