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

import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'vitest';
import { tenantId } from '../../src/base/ids.ts';
import { signToken } from '../../src/protocol/jwt.ts';
import { freePort, neonMajors } from '../safekeeper/neon-postgres.ts';
import { Compute, type ComputeOptions } from './compute.ts';
import { Daemon } from './daemon.ts';

/** Majors of Neon's Postgres that are at hand; says so once when there are none. */
export function majorsHere(suite: string): number[] {
  const majors = neonMajors();
  if (majors.length === 0) {
    const why = `skipped: ${suite} (NEON_PG_DIR does not point at a build of Neon's Postgres)`;
    console.log(why);
    // A file without a test is an error to the runner.
    test.skip(why, () => {});
  }
  return majors;
}

export interface StorageOptions {
  readonly safekeepers?: number;
  /** Lines of pageserver.toml. */
  readonly pageserverToml?: readonly string[];
  /** Everybody must show a token; `Storage.token` signs them. */
  readonly tokens?: boolean;
  /** The pageserver's Postgres port takes TLS only. */
  readonly tls?: boolean;
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

type Parts = Pick<
  Storage,
  'broker' | 'safekeepers' | 'pageserver' | 'pageserverPort' | 'pageserverHttpPort' | 'options'
>;

export class Storage {
  readonly dir: string;
  readonly options: StorageOptions;
  readonly broker: Daemon;
  readonly safekeepers: readonly Safekeeper[];
  readonly pageserver: Daemon;
  readonly pageserverPort: number;
  readonly pageserverHttpPort: number;
  private readonly computes: Compute[] = [];
  /** Set when something went wrong: the place is kept. */
  private failed = false;

  private constructor(dir: string, parts: Parts) {
    this.dir = dir;
    this.options = parts.options;
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
    if (options.tokens) await makeTokens(dir);
    if (options.tls) makeCertificate(dir);
    const brokerPort = await freePort();
    const broker = makeBroker(dir, brokerPort);
    const safekeepers: Safekeeper[] = [];
    for (let id = 1; id <= (options.safekeepers ?? 3); id++)
      safekeepers.push(await makeSafekeeper(dir, id, brokerPort, options));
    const [pageserverPort, pageserverHttpPort] = [await freePort(), await freePort()];
    const ports = { broker: brokerPort, pg: pageserverPort, http: pageserverHttpPort };
    const pageserver = makePageserver(dir, ports, options);
    const parts = { broker, safekeepers, pageserver, pageserverPort, pageserverHttpPort, options };
    const storage = new Storage(dir, parts);
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

  /** A token for one tenant, or for every tenant of a pageserver. */
  token(tenant?: string): Promise<string> {
    const pem = readFileSync(join(this.dir, PRIVATE_KEY), 'utf8');
    if (tenant === undefined) return signToken({ scope: 'pageserverapi' }, pem);
    return signToken({ scope: 'tenant', tenantId: tenantId(tenant) }, pem);
  }

  // ---- the pageserver's HTTP --------------------------------------------------------------------------------

  async http<T>(method: string, path: string, body?: unknown, expected?: number): Promise<T> {
    const response = await fetch(`http://127.0.0.1:${this.pageserverHttpPort}/v1/${path}`, {
      method,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(this.options.tokens ? { authorization: `Bearer ${await this.token()}` } : {}),
      },
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

  /** A tenant in `count` shards, all here, with a timeline from initdb on each. */
  async createShardedTimeline(
    pgVersion: number,
    { count, stripeSize }: { count: number; stripeSize: number },
  ): Promise<{ tenant: string; timeline: string }> {
    const [tenant, timeline] = [hexId(), hexId()];
    for (const shard of shardIds(tenant, count)) {
      await this.http('PUT', `tenant/${shard}/location_config`, {
        mode: 'AttachedSingle',
        generation: 1,
        shard_number: Number.parseInt(shard.slice(33, 35), 16),
        shard_count: count,
        shard_stripe_size: stripeSize,
        tenant_conf: {},
      });
    }
    // All shards are made of one run of initdb: the first keeps it.
    for (const [i, shard] of shardIds(tenant, count).entries()) {
      const from = i === 0 ? {} : { existing_initdb_timeline_id: timeline };
      const body = { new_timeline_id: timeline, pg_version: pgVersion, ...from };
      await this.http('POST', `tenant/${shard}/timeline/`, body, 201);
    }
    return { tenant, timeline };
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
      pageserver: { port: this.pageserverPort, tls: this.options.tls === true },
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

export const shardIds = (tenant: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${tenant}-${hex2(i)}${hex2(count)}`);
const hex2 = (n: number): string => n.toString(16).padStart(2, '0');

async function makeSafekeeper(
  dir: string,
  id: number,
  brokerPort: number,
  { tokens }: StorageOptions,
): Promise<Safekeeper> {
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
      ...(tokens
        ? [
            `--pg-auth-public-key-path=${join(dir, PUBLIC_KEY)}`,
            `--auth-token-path=${join(dir, SAFEKEEPER_TOKEN)}`,
          ]
        : []),
    ],
    dir: home,
    statusUrl: `http://127.0.0.1:${httpPort}/v1/status`,
  });
  return Object.assign(daemon, { port, httpPort });
}

const PRIVATE_KEY = 'private.pem';
const PUBLIC_KEY = 'public.pem';
const SAFEKEEPER_TOKEN = 'safekeeper.token';

/** One key pair for everybody, and what the daemons show each other. */
async function makeTokens(dir: string): Promise<void> {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  writeFileSync(join(dir, PRIVATE_KEY), pem);
  writeFileSync(join(dir, PUBLIC_KEY), publicKey.export({ type: 'spki', format: 'pem' }));
  writeFileSync(join(dir, SAFEKEEPER_TOKEN), await signToken({ scope: 'safekeeperdata' }, pem));
}

function makeCertificate(dir: string): void {
  const files = ['-keyout', join(dir, 'server.key'), '-out', join(dir, 'server.crt')];
  const subject = ['-subj', '/CN=localhost', '-days', '1'];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...files, ...subject], {
    stdio: 'ignore',
  });
}

interface Ports {
  readonly broker: number;
  readonly pg: number;
  readonly http: number;
}

function pageserverToml(dir: string, ports: Ports, options: StorageOptions): string {
  const tokens = [
    "pg_auth_type = 'NeonJWT'",
    "http_auth_type = 'NeonJWT'",
    `auth_validation_public_key_path = '${join(dir, PUBLIC_KEY)}'`,
  ];
  const tls = [
    'enable_tls_page_service_api = true',
    `ssl_key_file = '${join(dir, 'server.key')}'`,
    `ssl_cert_file = '${join(dir, 'server.crt')}'`,
  ];
  return [
    `listen_pg_addr = '127.0.0.1:${ports.pg}'`,
    `listen_http_addr = '127.0.0.1:${ports.http}'`,
    `broker_endpoint = 'http://127.0.0.1:${ports.broker}'`,
    `pg_distrib_dir = '${process.env['NEON_PG_DIR'] ?? ''}'`,
    `remote_storage = { local_path = '${join(dir, 'store')}' }`,
    ...(options.tokens ? tokens : []),
    ...(options.tls ? tls : []),
    ...(options.pageserverToml ?? []),
    '',
  ].join('\n');
}

function makePageserver(dir: string, ports: Ports, options: StorageOptions): Daemon {
  const home = join(dir, 'pageserver');
  mkdirSync(home);
  mkdirSync(join(dir, 'store'));
  writeFileSync(join(home, 'identity.toml'), 'id = 1\n');
  writeFileSync(join(home, 'pageserver.toml'), pageserverToml(dir, ports, options));
  return new Daemon({
    name: 'pageserver',
    program: 'pageserver',
    args: ['-D', home],
    dir: home,
    statusUrl: `http://127.0.0.1:${ports.http}/v1/status`,
    env: options.tokens ? { NEON_AUTH_TOKEN: readFileSync(join(dir, SAFEKEEPER_TOKEN), 'utf8') } : {},
  });
}
