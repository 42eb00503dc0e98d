// The whole system in a temporary place: a broker, three safekeepers, a pageserver, each a process of its own from
// `bin`, and computes on top. Ports are the system's choice. When a test fails the place is kept and its logs are
// told; otherwise nothing stays.
//
//   const storage = await Storage.start()
//   const tenant = await storage.createTenant()
//   const timeline = await storage.createTimeline(tenant, { pgVersion: 17 })
//   const compute = await storage.compute({ major: 17, tenant, timeline })      started
//   ...
//   await storage.stop()

import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, neonMajors } from '../safekeeper/neon-postgres.ts';
import { Compute, type ComputeOptions } from './compute.ts';
import { Daemon } from './daemon.ts';

/** Majors of Neon's Postgres that are at hand; says so once when there are none. */
export function majorsHere(suite: string): number[] {
  const majors = neonMajors();
  if (majors.length === 0) {
    console.log(`skipped: ${suite} (NEON_PG_DIR does not point at a build of Neon's Postgres)`);
  }
  return majors;
}

export interface StorageOptions {
  readonly safekeepers?: number;
  /** Lines of pageserver.toml. */
  readonly pageserverToml?: readonly string[];
}

export interface TimelineDetail {
  readonly timeline_id: string;
  readonly ancestor_timeline_id?: string;
  readonly ancestor_lsn?: string;
  readonly last_record_lsn: string;
  readonly disk_consistent_lsn: string;
  readonly remote_consistent_lsn: string;
  readonly pg_version: number;
  readonly state: unknown;
  readonly walreceiver_status: string;
}

interface Safekeeper extends Daemon {
  readonly port: number;
  readonly httpPort: number;
}

const hexId = (): string => crypto.randomUUID().replaceAll('-', '');

export class Storage {
  readonly dir: string;
  readonly broker: Daemon;
  readonly safekeepers: readonly Safekeeper[];
  readonly pageserver: Daemon;
  readonly pageserverPort: number;
  readonly pageserverHttpPort: number;
  private readonly computes: Compute[] = [];
  /** Set when something went wrong: the place is kept. */
  private failed = false;

  private constructor(
    dir: string,
    parts: Pick<Storage, 'broker' | 'safekeepers' | 'pageserver' | 'pageserverPort' | 'pageserverHttpPort'>,
  ) {
    this.dir = dir;
    this.broker = parts.broker;
    this.safekeepers = parts.safekeepers;
    this.pageserver = parts.pageserver;
    this.pageserverPort = parts.pageserverPort;
    this.pageserverHttpPort = parts.pageserverHttpPort;
  }

  static async start(options: StorageOptions = {}): Promise<Storage> {
    const dir = mkdtempSync(join(tmpdir(), 'lakebed-pg-'));
    // Computes run as somebody else.
    chmodSync(dir, 0o755);
    const brokerPort = await freePort();
    const broker = makeBroker(dir, brokerPort);
    const safekeepers: Safekeeper[] = [];
    for (let id = 1; id <= (options.safekeepers ?? 3); id++)
      safekeepers.push(await makeSafekeeper(dir, id, brokerPort));
    const [pageserverPort, pageserverHttpPort] = [await freePort(), await freePort()];
    const toml = pageserverToml(
      dir,
      brokerPort,
      pageserverPort,
      pageserverHttpPort,
      options.pageserverToml ?? [],
    );
    const pageserver = makePageserver(dir, toml, pageserverHttpPort);
    const storage = new Storage(dir, { broker, safekeepers, pageserver, pageserverPort, pageserverHttpPort });
    await storage.during(async () => {
      await broker.start();
      await Promise.all([...safekeepers, pageserver].map(d => d.start()));
    });
    return storage;
  }

  /** Runs a test's body; when it fails, the logs are told and the place is kept. */
  async during<T>(body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      this.failed = true;
      console.error(this.lastWords());
      await this.stop();
      throw error;
    }
  }

  get daemons(): readonly Daemon[] {
    return [this.broker, ...this.safekeepers, this.pageserver];
  }

  private lastWords(): string {
    const tails = this.daemons.map(d => `--- ${d.options.name} (${d.logPath})\n${d.log.slice(-2000)}`);
    const computes = this.computes.map(c => `--- compute ${c.dir}\n${c.log.slice(-3000)}`);
    return [`the place is kept: ${this.dir}`, ...tails, ...computes].join('\n');
  }

  /** Lines that the daemons logged as trouble. */
  trouble(): string[] {
    return this.daemons.flatMap(d =>
      d.log
        .split('\n')
        .filter(line => / (WARN|ERROR) /i.test(line))
        .map(line => `${d.options.name}: ${line}`),
    );
  }

  async stop(): Promise<void> {
    for (const compute of this.computes) await compute.stop('SIGQUIT');
    await Promise.all(this.daemons.map(d => d.stop()));
    if (!this.failed) rmSync(this.dir, { recursive: true, force: true });
  }

  // ---- the pageserver's HTTP --------------------------------------------------------------------------------

  async http<T>(method: string, path: string, body?: unknown, expected?: number): Promise<T> {
    const response = await fetch(`http://127.0.0.1:${this.pageserverHttpPort}/v1/${path}`, {
      method,
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (expected === undefined ? !response.ok : response.status !== expected) {
      throw new Error(`${method} ${path}: ${response.status} ${text}`);
    }
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  async createTenant(conf: Record<string, unknown> = {}): Promise<string> {
    const tenant = hexId();
    const location = { mode: 'AttachedSingle', generation: 1, tenant_conf: conf };
    await this.http('PUT', `tenant/${tenant}/location_config`, location);
    return tenant;
  }

  /** From initdb, or a branch: now, or at an LSN. */
  async createTimeline(
    tenant: string,
    from: { pgVersion: number } | { ancestor: string; lsn?: string },
  ): Promise<string> {
    const timeline = hexId();
    const how =
      'pgVersion' in from
        ? { pg_version: from.pgVersion }
        : { ancestor_timeline_id: from.ancestor, ...(from.lsn ? { ancestor_start_lsn: from.lsn } : {}) };
    await this.http('POST', `tenant/${tenant}/timeline/`, { new_timeline_id: timeline, ...how }, 201);
    return timeline;
  }

  timeline(tenant: string, timeline: string): Promise<TimelineDetail> {
    return this.http('GET', `tenant/${tenant}/timeline/${timeline}`);
  }

  // ---- computes ---------------------------------------------------------------------------------------------

  /** A compute that is not started. */
  newCompute(options: Omit<ComputeOptions, 'pageserver' | 'safekeepers'>): Compute {
    const compute = new Compute(join(this.dir, `compute-${this.computes.length + 1}`), {
      pageserver: { port: this.pageserverPort },
      safekeepers: this.safekeepers,
      ...options,
    });
    this.computes.push(compute);
    return compute;
  }

  async compute(options: Omit<ComputeOptions, 'pageserver' | 'safekeepers'>): Promise<Compute> {
    const compute = this.newCompute(options);
    await compute.start();
    return compute;
  }
}

function makeBroker(dir: string, port: number): Daemon {
  mkdirSync(join(dir, 'broker'));
  return new Daemon({
    name: 'broker',
    program: 'storage_broker',
    args: [`--listen-addr=127.0.0.1:${port}`],
    dir: join(dir, 'broker'),
    statusUrl: `http://127.0.0.1:${port}/status`,
  });
}

async function makeSafekeeper(dir: string, id: number, brokerPort: number): Promise<Safekeeper> {
  const [port, httpPort] = [await freePort(), await freePort()];
  const home = join(dir, `safekeeper-${id}`);
  mkdirSync(home);
  const daemon = new Daemon({
    name: `safekeeper-${id}`,
    program: 'safekeeper',
    args: [
      '-D',
      home,
      `--id=${id}`,
      `--listen-pg=127.0.0.1:${port}`,
      `--listen-http=127.0.0.1:${httpPort}`,
      `--broker-endpoint=http://127.0.0.1:${brokerPort}`,
    ],
    dir: home,
    statusUrl: `http://127.0.0.1:${httpPort}/v1/status`,
  });
  return Object.assign(daemon, { port, httpPort });
}

function pageserverToml(
  dir: string,
  brokerPort: number,
  pg: number,
  http: number,
  more: readonly string[],
): string {
  return [
    `listen_pg_addr = '127.0.0.1:${pg}'`,
    `listen_http_addr = '127.0.0.1:${http}'`,
    `broker_endpoint = 'http://127.0.0.1:${brokerPort}'`,
    `pg_distrib_dir = '${process.env['NEON_PG_DIR'] ?? ''}'`,
    `remote_storage = { local_path = '${join(dir, 'store')}' }`,
    ...more,
    '',
  ].join('\n');
}

function makePageserver(dir: string, toml: string, httpPort: number): Daemon {
  const home = join(dir, 'pageserver');
  mkdirSync(home);
  mkdirSync(join(dir, 'store'));
  writeFileSync(join(home, 'identity.toml'), 'id = 1\n');
  writeFileSync(join(home, 'pageserver.toml'), toml);
  return new Daemon({
    name: 'pageserver',
    program: 'pageserver',
    args: ['-D', home],
    dir: home,
    statusUrl: `http://127.0.0.1:${httpPort}/v1/status`,
  });
}
