// Computes as processes of this machine: Neon's build of Postgres.
//
//   start   settings -> safekeepers synced -> base backup at their LSN -> Postgres -> roles and databases
//
// The log's end is agreed on with one question to each safekeeper where they are in step (they are, after an orderly
// end); only where they are not does `postgres --sync-safekeepers` hold an election. A compute is in a directory named
// after its endpoint, so that whoever manages next finds it.
//
// Answers to compute_tools/src/compute.rs (prepare_pgdata, check_safekeepers_synced, start_postgres).

import { Fault, isFault } from '../../../base/fault.ts';
import { formatLsn, parseLsn } from '../../../base/lsn.ts';
import type { Clock, Computes, FoundCompute, Log, Net, Random, Running } from '../../../base/ports.ts';
import { PqClient } from '../../../protocol/pq-client.ts';
import type { DriverKind } from '../model.ts';
import { Admin } from './admin.ts';
import type { ComputeAddress, ComputeDriver, ComputeSpec, Delta, Started } from './driver.ts';
import { hbaText, neonSettings } from './settings.ts';

export interface ProcessDriverDeps {
  readonly clock: Clock;
  readonly net: Net;
  readonly random: Random;
  readonly log: Log;
  readonly computes: Computes;
  /** Where computes listen. */
  readonly host: string;
  /** Their logs: `<directory>/<endpoint>.log`. */
  readonly logs: string;
}

const READY_MS = 60_000;
const POLL_MS = 3;
const STOP_MS = 20_000;
const IMMEDIATE_MS = 3_000;
const STATUS_MS = 1000;

/** What a start is made of. */
export class Stopwatch {
  readonly laps: Record<string, number> = {};
  private readonly clock: Clock;
  private at: number;

  constructor(clock: Clock) {
    this.clock = clock;
    this.at = clock.monotonic();
  }

  lap(name: string): void {
    const now = this.clock.monotonic();
    this.laps[name] = Math.round((now - this.at) * 10) / 10;
    this.at = now;
  }
}

export class ProcessDriver implements ComputeDriver {
  readonly kind: DriverKind = 'process';
  protected readonly deps: ProcessDriverDeps;
  /** Those we started: when a process ends is known at once. */
  private readonly children = new Map<string, Running>();

  constructor(deps: ProcessDriverDeps) {
    this.deps = deps;
  }

  problem(pgVersion: number): string | undefined {
    const majors = this.deps.computes.majors();
    if (majors.includes(pgVersion)) return undefined;
    const found = majors.length === 0 ? 'none' : majors.join(', ');
    return `NEON_PG_DIR has no build of Postgres ${pgVersion} (found: ${found})`;
  }

  async start(spec: ComputeSpec, signal: AbortSignal): Promise<Started> {
    const { endpointId } = spec;
    const watch = new Stopwatch(this.deps.clock);
    await this.stop(endpointId, 'immediate');
    signal.throwIfAborted();
    const { computes, host } = this.deps;
    const port = await this.freePort();
    const address = { host, port };
    const directory = await computes.prepare(endpointId, this.settings(spec, address, ''));
    const sockets = parentOf(directory);
    const settings = this.settings(spec, address, sockets);
    await computes.write(directory, 'postgresql.conf', settings);
    watch.lap('prepare_ms');
    await this.fill(spec, directory, signal, watch);
    // A full backup has one of its own.
    await computes.write(directory, 'postgresql.conf', settings);
    await computes.write(directory, 'pg_hba.conf', hbaText(spec.originAdmin));
    signal.throwIfAborted();
    await this.run(spec, directory, sockets, port, signal, watch);
    return { ...address, timings: watch.laps };
  }

  protected settings(spec: ComputeSpec, address: ComputeAddress, sockets: string): string {
    return neonSettings(spec, { ...address, sockets });
  }

  /** The data directory's contents. */
  protected async fill(
    spec: ComputeSpec,
    directory: string,
    signal: AbortSignal,
    watch: Stopwatch,
  ): Promise<void> {
    const { computes } = this.deps;
    const lsn = await this.lsnOf(spec, directory);
    watch.lap('sync_safekeepers_ms');
    signal.throwIfAborted();
    const client = await this.pageserver(spec);
    try {
      const { tenantId, timelineId, mode } = spec;
      if (typeof mode === 'object')
        await client.query(`lease lsn ${tenantId} ${timelineId} ${mode.staticLsn} `);
      const at = lsn === '0/0' ? '' : ` ${lsn}`;
      const replica = mode === 'primary' ? '' : ' --replica';
      const backup = client.copyOut(`basebackup ${tenantId} ${timelineId}${at}${replica}`);
      await computes.unpack(directory, backup);
      if (mode !== 'primary') await computes.write(directory, 'standby.signal', '');
      watch.lap('basebackup_ms');
    } finally {
      await client.end();
    }
  }

  protected pageserver({ pageserver }: ComputeSpec): Promise<PqClient> {
    const { net, random } = this.deps;
    const parameters = { user: 'cloud_admin', application_name: 'lakebed_manager' };
    return PqClient.connect(net, random, { ...pageserver, parameters, password: undefined });
  }

  private async lsnOf(spec: ComputeSpec, directory: string): Promise<string> {
    if (typeof spec.mode === 'object') return spec.mode.staticLsn;
    if (spec.mode === 'replica') return '0/0';
    const agreed = await this.agreedLsn(spec);
    return agreed ?? this.deps.computes.syncSafekeepers(spec.pgVersion, directory);
  }

  /** The one end of the log that all who answer tell, a majority; 0/0 when nobody has ever heard of it. */
  private async agreedLsn({ safekeepers, tenantId, timelineId }: ComputeSpec): Promise<string | undefined> {
    const { net, random } = this.deps;
    const options = `-c timeline_id=${timelineId} tenant_id=${tenantId}`;
    const told = await Promise.allSettled(
      safekeepers.map(async ({ host, port }) => {
        const client = await PqClient.connect(net, random, {
          host,
          port,
          parameters: { user: 'no_user', options, application_name: 'lakebed_manager' },
          password: undefined,
          connectTimeoutMs: STATUS_MS,
        });
        const { rows } = await client.query('TIMELINE_STATUS');
        await client.end();
        return rows[0]?.map(text => parseLsn(text ?? '0/0'));
      }),
    );
    const answers = told.flatMap(one => (one.status === 'fulfilled' ? [one.value] : []));
    if (answers.length === safekeepers.length && answers.every(row => row === undefined)) return '0/0';
    if (answers.length <= safekeepers.length / 2) return undefined;
    const [first] = answers;
    const lsn = first?.[0];
    if (lsn === undefined || lsn === 0) return undefined;
    const inStep = answers.every(row => row?.[0] === lsn && row[1] === lsn);
    return inStep ? formatLsn(lsn) : undefined;
  }

  private async freePort(): Promise<number> {
    const { net, host } = this.deps;
    const listener = await net.listen({ host, port: 0 }, connection => connection.destroy());
    await listener.close();
    return listener.port;
  }

  private logOf(endpointId: string): string {
    return `${this.deps.logs}/${endpointId}.log`;
  }

  private async run(
    spec: ComputeSpec,
    directory: string,
    sockets: string,
    port: number,
    signal: AbortSignal,
    watch: Stopwatch,
  ): Promise<void> {
    const { computes } = this.deps;
    const running = computes.run(spec.pgVersion, directory, this.logOf(spec.endpointId));
    this.children.set(spec.endpointId, running);
    try {
      await this.untilReady(spec, running, signal);
      watch.lap('start_postgres_ms');
      const { net, random } = this.deps;
      const { originAdmin } = spec;
      if (spec.mode === 'primary' && originAdmin !== undefined)
        await Admin.ensure(net, random, { directory: sockets, port, originAdmin });
      await this.begun(spec, { directory: sockets, port }, signal);
      if (spec.mode === 'primary') {
        const admin = await Admin.connect(net, random, { directory: sockets, port });
        try {
          await this.whileHealthy(spec.endpointId, admin.apply(spec, []));
        } finally {
          await admin.end();
        }
      }
      watch.lap('config_ms');
      signal.throwIfAborted();
    } catch (error) {
      await this.stop(spec.endpointId, 'immediate');
      throw error;
    }
  }

  /** It takes connections; nothing was said to it yet. */
  protected async begun(
    _spec: ComputeSpec,
    _at: { readonly directory: string; readonly port: number },
    _signal: AbortSignal,
  ): Promise<void> {}

  /** Work that something beside the compute may make endless. */
  protected whileHealthy<T>(_endpointId: string, work: Promise<T>): Promise<T> {
    return work;
  }

  private async untilReady(
    { endpointId }: ComputeSpec,
    running: Running,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, computes } = this.deps;
    const end = clock.monotonic() + READY_MS;
    let ended: string | undefined;
    void running.ended.then(how => (ended = how));
    while (!(await computes.find(endpointId))?.ready) {
      signal.throwIfAborted();
      if (ended !== undefined || clock.monotonic() > end) {
        const how = ended === undefined ? `does not answer after ${READY_MS / 1000} s` : `ended (${ended})`;
        throw new Fault('compute-failed', `compute ${endpointId} ${how}`, {
          hint: `Its log is ${this.logOf(endpointId)}.`,
        });
      }
      await clock.sleep(POLL_MS);
    }
  }

  async configure(spec: ComputeSpec, deltas: readonly Delta[]): Promise<boolean> {
    const { computes, net, random, host } = this.deps;
    const found = await computes.find(spec.endpointId);
    if (!found) throw new Fault('compute-failed', `compute ${spec.endpointId} does not run`);
    const sockets = parentOf(found.directory);
    const text = this.settings(spec, { host, port: found.port }, sockets);
    await computes.write(found.directory, 'postgresql.conf', text);
    const admin = await Admin.connect(net, random, { directory: sockets, port: found.port });
    try {
      if (spec.mode === 'primary') await admin.apply(spec, deltas);
      await admin.reload();
    } finally {
      await admin.end();
    }
    return this.needsRestart(sockets, found.port);
  }

  /** Asked by a new session: it has read the settings that the last reload brought. */
  private async needsRestart(directory: string, port: number): Promise<boolean> {
    const { net, random, clock } = this.deps;
    await clock.sleep(POLL_MS * 10);
    const admin = await Admin.connect(net, random, { directory, port });
    try {
      return await admin.pendingRestart();
    } finally {
      await admin.end();
    }
  }

  async stop(endpointId: string, how: 'fast' | 'immediate'): Promise<void> {
    const { computes } = this.deps;
    const found = await computes.find(endpointId);
    const child = this.children.get(endpointId);
    this.children.delete(endpointId);
    if (found) await this.end(found, child, how);
    else if (child) {
      child.kill('SIGKILL');
      await child.ended;
    }
    await this.ended(endpointId, how);
    await computes.discard(computes.place(endpointId));
  }

  /** It runs no more; its directory is still there. */
  protected async ended(_endpointId: string, _how: 'fast' | 'immediate'): Promise<void> {}

  private async end(
    found: FoundCompute,
    child: Running | undefined,
    how: 'fast' | 'immediate',
  ): Promise<void> {
    const { clock } = this.deps;
    found.kill(how === 'fast' ? 'SIGINT' : 'SIGQUIT');
    const end = clock.monotonic() + (how === 'fast' ? STOP_MS : IMMEDIATE_MS);
    let ended = false;
    void child?.ended.then(() => (ended = true));
    const name = nameOf(found.directory);
    while (!ended && (await this.deps.computes.find(name))?.pid === found.pid) {
      if (clock.monotonic() > end) {
        found.kill('SIGKILL');
        return;
      }
      await clock.sleep(POLL_MS);
    }
  }

  async find(endpointId: string): Promise<ComputeAddress | undefined> {
    const found = await this.deps.computes.find(endpointId);
    return found?.ready ? { host: this.deps.host, port: found.port } : undefined;
  }

  async busy(endpointId: string): Promise<number> {
    const { computes, net, random, log } = this.deps;
    const found = await computes.find(endpointId);
    if (!found) return 0;
    try {
      const admin = await Admin.connect(net, random, {
        directory: parentOf(found.directory),
        port: found.port,
      });
      try {
        return await admin.busy();
      } finally {
        await admin.end();
      }
    } catch (error) {
      if (!isFault(error)) throw error;
      log.warn('a compute could not be asked for its sessions', { endpoint: endpointId, error });
      return 0;
    }
  }

  list(): Promise<string[]> {
    return this.deps.computes.list();
  }
}

export const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/'));
/** `<home>/<name>/data`. */
const nameOf = (directory: string): string =>
  parentOf(directory).slice(parentOf(directory).lastIndexOf('/') + 1);
