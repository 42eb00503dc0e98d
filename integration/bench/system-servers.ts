// Two servers for the benches of the whole, in the same hands: a stock Postgres with fsync on, and a Neon compute on a
// Lakebed of processes. Both have the same shared_buffers; both are told of by name, and both know the processor time
// that each of their processes took. LAKEBED_PROFILES names a directory for profiles of the daemons.

import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { asNobody, type Compute } from '../pg/compute.ts';
import { Storage } from '../pg/harness.ts';
import { type StockMajor, StockPostgres } from '../pg/stock.ts';
import { neonBin, neonMajors } from '../safekeeper/neon-postgres.ts';

export const SHARED_BUFFERS = '128MB';
/** As Neon's control plane sets them: how far computes read ahead. */
const READ_AHEAD = { effective_io_concurrency: '20', maintenance_io_concurrency: '100' };

/** The newest of the builds that are at hand; undefined without one. */
export const systemMajor = (): number | undefined => neonMajors().at(-1);
export const NO_BUILD = "NEON_PG_DIR does not point at a build of Neon's Postgres";

export interface Server {
  readonly name: 'stock' | 'lakebed';
  readonly major: number;
  /** A directory that programs may write to. */
  readonly dir: string;
  /** For libpq. */
  readonly env: Readonly<Record<string, string>>;
  query<R = Record<string, unknown>>(sql: string): Promise<R[]>;
  /** Down and up again: with nothing in its buffers. */
  restart(): Promise<void>;
  /** Processor seconds since each process began, by name. */
  cpuSeconds(): Record<string, number>;
  stop(): Promise<void>;
}

export async function stockServer(major: number): Promise<Server> {
  const postgres = await StockPostgres.start(major as StockMajor, {
    settings: { fsync: 'on', shared_buffers: SHARED_BUFFERS, max_connections: 100, max_wal_size: '4GB' },
  });
  const dir = join(postgres.home, 'programs');
  mkdirSync(dir);
  chmodSync(dir, 0o777);
  let ended = 0;
  const used = (): number => treeSeconds(pidOf(postgres.dataDirectory));
  const env = { PGHOST: postgres.home, PGUSER: 'postgres', PGDATABASE: 'postgres' };
  return {
    name: 'stock',
    major,
    dir,
    env,
    query: sql => postgres.sql(sql),
    async restart() {
      ended += used();
      await postgres.stop();
      await postgres.start();
    },
    cpuSeconds: () => ({ postgres: ended + used() }),
    stop: () => postgres.destroy(),
  };
}

export interface Lakebed extends Server {
  readonly storage: Storage;
  readonly compute: Compute;
}

export async function lakebedServer(
  major: number,
  options: { settings?: Readonly<Record<string, string>> } = {},
): Promise<Lakebed> {
  const profiles = process.env['LAKEBED_PROFILES'];
  const storage = await Storage.start({
    walBackup: true,
    ...(profiles ? { profiles } : {}),
  });
  const tenant = await storage.createTenant();
  const timeline = await storage.createTimeline(tenant, { pgVersion: major });
  const settings = {
    shared_buffers: SHARED_BUFFERS,
    max_wal_size: '4GB',
    ...READ_AHEAD,
    ...options.settings,
  };
  const compute = await storage.compute({ major, tenant, timeline, settings });
  const ended: Record<string, number> = {};
  return {
    name: 'lakebed',
    major,
    dir: compute.dir,
    get env() {
      return {
        PGHOST: '127.0.0.1',
        PGPORT: String(compute.port),
        PGUSER: 'cloud_admin',
        PGDATABASE: 'postgres',
      };
    },
    storage,
    compute,
    query: sql => compute.query(sql),
    async restart() {
      ended['compute'] = (ended['compute'] ?? 0) + treeSeconds(compute.pid);
      await compute.stop();
      await compute.start();
    },
    cpuSeconds() {
      const daemons = storage.daemons.map(d => [d.options.name, treeSeconds(d.pid)] as const);
      return { compute: (ended['compute'] ?? 0) + treeSeconds(compute.pid), ...Object.fromEntries(daemons) };
    },
    stop: () => storage.stop(),
  };
}

const pidOf = (data: string): number =>
  Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[0]);

/** CLK_TCK of every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Of a process, of those it started, and of those that ended under it. */
function treeSeconds(root: number): number {
  let ticks = 0;
  const parents = new Map<number, number>();
  const own = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      parents.set(Number(name), Number(fields[1]));
      // utime, stime, cutime, cstime
      own.set(
        Number(name),
        fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0),
      );
    } catch {
      // Gone meanwhile.
    }
  }
  for (const [pid, used] of own) {
    for (let at: number | undefined = pid; at !== undefined && at > 1; at = parents.get(at)) {
      if (at !== root) continue;
      ticks += used;
      break;
    }
  }
  return ticks / TICKS_PER_SECOND;
}

/** A program of Neon's build, connected to a server; what it printed. */
export async function program(server: Server, name: string, args: readonly string[]): Promise<string> {
  const child = spawn(neonBin(server.major, name), [...args], {
    env: { PATH: process.env['PATH'] ?? '', HOME: server.dir, ...server.env },
    cwd: server.dir,
    ...asNobody,
  });
  let out = '';
  child.stdout.on('data', piece => (out += piece));
  child.stderr.on('data', piece => (out += piece));
  const code = await new Promise(done => child.once('close', done));
  if (code !== 0) throw new Error(`${name} ended with ${code}: ${out.slice(-2000)}`);
  return out;
}

/** A session of its own, for what has to be timed. */
export async function session<T>(server: Server, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const { PGHOST, PGPORT, PGUSER, PGDATABASE } = server.env;
  const client = new pg.Client({
    host: PGHOST,
    ...(PGPORT ? { port: Number(PGPORT) } : {}),
    user: PGUSER,
    database: PGDATABASE,
  });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** A table for reading, in Markdown. */
export function printTable(
  title: string,
  header: readonly string[],
  rows: readonly (readonly string[])[],
): void {
  const widths = header.map((h, i) => Math.max(h.length, ...rows.map(r => r[i]!.length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((c, i) => (i === 0 ? c.padEnd(widths[i]!) : c.padStart(widths[i]!))).join(' | ')} |\n`;
  const rule = `| ${widths.map((w, i) => (i === 0 ? '-'.repeat(w) : `${'-'.repeat(w - 1)}:`)).join(' | ')} |\n`;
  process.stdout.write(`\n${title}\n\n${line(header)}${rule}${rows.map(line).join('')}`);
}

export const round = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
