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

import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'vitest';
import { tenantId } from '../../src/base/ids.ts';
import { signToken } from '../../src/protocol/jwt.ts';
import { neonMajors } from '../safekeeper/neon-postgres.ts';
import { Compute, type ComputeOptions } from './compute.ts';
import type { Daemon } from './daemon.ts';
import {
  type Daemons,
  makeDaemons,
  privateKey,
  type Safekeeper,
  type StorageOptions,
  stepClock,
  storeOf,
} from './daemons.ts';
import type { Wire } from './wire.ts';

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

const hexId = (): string => crypto.randomUUID().replaceAll('-', '');

export class Storage {
  readonly dir: string;
  readonly options: StorageOptions;
  readonly broker: Daemon;
  readonly safekeepers: readonly Safekeeper[];
  readonly pageserver: Daemon;
  readonly pageserverPort: number;
  readonly pageserverHttpPort: number;
  /** By name (daemons.ts); empty unless asked for. */
  readonly wires: ReadonlyMap<string, Wire>;
  private readonly computes: Compute[] = [];
  /** Set when something went wrong: the place is kept. */
  private failed = false;

  private constructor(dir: string, daemons: Daemons) {
    this.dir = dir;
    this.options = daemons.options;
    this.broker = daemons.broker;
    this.safekeepers = daemons.safekeepers;
    this.pageserver = daemons.pageserver;
    this.pageserverPort = daemons.pageserverPort;
    this.pageserverHttpPort = daemons.pageserverHttpPort;
    this.wires = daemons.wires;
  }

  static async start(options: StorageOptions = {}): Promise<Storage> {
    const dir = mkdtempSync(join(tmpdir(), 'lakebed-pg-'));
    // Computes run as somebody else.
    chmodSync(dir, 0o755);
    const storage = new Storage(dir, await makeDaemons(dir, options));
    await storage.during(async () => {
      await storage.broker.start();
      await Promise.all([...storage.safekeepers, storage.pageserver].map(d => d.start()));
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
    for (const wire of this.wires.values()) await wire.close();
    if (!this.failed) rmSync(this.dir, { recursive: true, force: true });
  }

  /** A token for one tenant, or for every tenant of a pageserver. */
  token(tenant?: string): Promise<string> {
    const pem = privateKey(this.dir);
    if (tenant === undefined) return signToken({ scope: 'pageserverapi' }, pem);
    return signToken({ scope: 'tenant', tenantId: tenantId(tenant) }, pem);
  }

  /** The object store: a directory. */
  get store(): string {
    return storeOf(this.dir);
  }

  /** From now on the daemon's wall clock is this far from the machine's; with `clockSteps`. */
  stepClock(daemon: Daemon, ms: number): void {
    stepClock(this.dir, daemon.options.name, ms);
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

  private way(name: string, port: number): number {
    return this.wires.get(`compute > ${name}`)?.port ?? port;
  }

  /** A compute that is not started. */
  newCompute(options: Omit<ComputeOptions, 'pageserver' | 'safekeepers'>): Compute {
    const compute = new Compute(join(this.dir, `compute-${this.computes.length + 1}`), {
      pageserver: { port: this.way('pageserver', this.pageserverPort), tls: this.options.tls === true },
      safekeepers: this.safekeepers.map(sk => ({ port: this.way(sk.options.name, sk.port) })),
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

export const shardIds = (tenant: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${tenant}-${hex2(i)}${hex2(count)}`);
const hex2 = (n: number): string => n.toString(16).padStart(2, '0');
