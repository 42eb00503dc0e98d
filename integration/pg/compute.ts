// A Neon compute, started by hand: an empty data directory with settings, `postgres --sync-safekeepers` for the LSN, a
// base backup at it from the pageserver, and the server on top. Primary, static (read-only at an LSN), or a replica.
//
// A compute holds nothing that must last: `start` makes its directory anew each time.

import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import { PqClient } from '../../src/protocol/pq-client.ts';
import { freePort, neonBin } from '../safekeeper/neon-postgres.ts';

const NOBODY = 65534;
const isRoot = process.getuid?.() === 0;
/** Postgres refuses to run as root. */
export const asNobody = isRoot ? { uid: NOBODY, gid: NOBODY } : {};

export type ComputeMode =
  | { readonly kind: 'primary' }
  /** Read-only at an LSN. */
  | { readonly kind: 'static'; readonly lsn: string }
  | { readonly kind: 'replica' };

export interface ComputeOptions {
  readonly major: number;
  readonly tenant: string;
  readonly timeline: string;
  readonly pageserver: { readonly port: number; readonly tls?: boolean };
  /** How many shards the tenant has, all on that pageserver; with the stripe size in pages. */
  readonly shards?: { readonly count: number; readonly stripeSize: number };
  readonly safekeepers: readonly { readonly port: number }[];
  readonly mode?: ComputeMode;
  /** `neon.safekeepers` before the list, such as `g#1:`. */
  readonly generation?: string;
  readonly settings?: Readonly<Record<string, string>>;
  readonly token?: string;
}

/** How long each part of a start took, in milliseconds. */
export interface StartTimes {
  readonly syncMs: number;
  readonly backupMs: number;
  readonly startMs: number;
}

const START_MS = 60_000;

export class Compute {
  readonly options: ComputeOptions;
  readonly dir: string;
  readonly data: string;
  port = 0;
  times: StartTimes = { syncMs: 0, backupMs: 0, startMs: 0 };
  private process: ChildProcess | undefined;
  private readonly clients = new Set<pg.Client>();

  /** `dir` is the compute's own; its log stays there. */
  constructor(dir: string, options: ComputeOptions) {
    this.dir = dir;
    this.data = join(dir, 'data');
    this.options = options;
    mkdirSync(dir, { recursive: true });
    chmodSync(dir, 0o777);
  }

  get mode(): ComputeMode {
    return this.options.mode ?? { kind: 'primary' };
  }

  get running(): boolean {
    return this.process !== undefined && this.process.exitCode === null && this.process.signalCode === null;
  }

  /** Of the postmaster. */
  get pid(): number {
    return this.process?.pid ?? 0;
  }

  get log(): string {
    try {
      return readFileSync(join(this.dir, 'log'), 'utf8');
    } catch {
      return '';
    }
  }

  /** From nothing to answering queries. */
  async start(): Promise<void> {
    await this.makeDirectory();
    const startMs = performance.now();
    const lsn = await this.startLsn();
    const syncedMs = performance.now();
    await this.baseBackup(lsn);
    const backedUpMs = performance.now();
    await this.startPostgres();
    this.times = {
      syncMs: syncedMs - startMs,
      backupMs: backedUpMs - syncedMs,
      startMs: performance.now() - backedUpMs,
    };
  }

  private async makeDirectory(): Promise<void> {
    rmSync(this.data, { recursive: true, force: true });
    mkdirSync(this.data, { mode: 0o700 });
    this.port = await freePort();
    this.write('postgresql.conf', this.settingsText());
    if (isRoot) chownSync(this.data, NOBODY, NOBODY);
  }

  private write(name: string, text: string): void {
    const path = join(this.data, name);
    writeFileSync(path, text);
    if (isRoot) chownSync(path, NOBODY, NOBODY);
  }

  private settingsText(): string {
    const { tenant, timeline, pageserver, safekeepers, generation, settings, shards } = this.options;
    const list = safekeepers.map(s => `127.0.0.1:${s.port}`).join(',');
    const { mode } = this;
    const all: Record<string, string> = {
      listen_addresses: '127.0.0.1',
      port: String(this.port),
      unix_socket_directories: '',
      shared_preload_libraries: 'neon',
      'neon.tenant_id': tenant,
      'neon.timeline_id': timeline,
      ...(shards ? { 'neon.stripe_size': String(shards.stripeSize) } : {}),
      'neon.pageserver_connstring': new Array(shards?.count ?? 1)
        .fill(`host=127.0.0.1 port=${pageserver.port}${pageserver.tls ? ' sslmode=require' : ''}`)
        .join(','),
      'neon.compute_mode': mode.kind,
      'neon.max_reconnect_attempts': '1000',
      fsync: 'off',
      wal_level: 'logical',
      wal_log_hints: 'on',
      hot_standby: 'on',
      shared_buffers: '16MB',
      max_connections: '100',
      max_wal_senders: '10',
      max_replication_slots: '10',
      max_prepared_transactions: '10',
      wal_sender_timeout: '0',
      wal_keep_size: '0',
      restart_after_crash: 'off',
      log_line_prefix: '%m [%p] ',
    };
    if (mode.kind === 'primary') {
      all['neon.safekeepers'] = `${generation ?? ''}${list}`;
      all['synchronous_standby_names'] = 'walproposer';
      all['max_replication_write_lag'] = '500MB';
      all['max_replication_flush_lag'] = '10GB';
    } else if (mode.kind === 'static') {
      all['recovery_target_lsn'] = mode.lsn;
    } else {
      all['primary_conninfo'] = this.primaryConninfo();
      all['primary_slot_name'] = `repl_${timeline}_`;
      all['recovery_prefetch'] = 'off';
    }
    const lines = Object.entries({ ...all, ...settings }).map(
      ([k, v]) => `${k} = '${v.replaceAll("'", "''")}'`,
    );
    return `${lines.join('\n')}\n`;
  }

  private primaryConninfo(): string {
    const { safekeepers, tenant, timeline } = this.options;
    const hosts = safekeepers.map(() => '127.0.0.1').join(',');
    const ports = safekeepers.map(s => s.port).join(',');
    const ids = `options='-c timeline_id=${timeline} tenant_id=${tenant}'`;
    return `host=${hosts} port=${ports} ${ids} application_name=replica replication=true`;
  }

  private async startLsn(): Promise<string | undefined> {
    const { mode } = this;
    if (mode.kind === 'static') return mode.lsn;
    if (mode.kind === 'replica') return undefined;
    const lsn = await this.syncSafekeepers();
    return lsn === '0/0' ? undefined : lsn;
  }

  /** `postgres --sync-safekeepers`: the LSN it prints. */
  async syncSafekeepers(): Promise<string> {
    const child = spawn(this.bin('postgres'), ['--sync-safekeepers'], {
      env: this.env,
      cwd: this.dir,
      timeout: START_MS,
      ...asNobody,
    });
    let [out, err] = ['', ''];
    child.stdout.on('data', piece => (out += piece));
    child.stderr.on('data', piece => (err += piece));
    const code = await new Promise(done => child.once('close', done));
    if (code !== 0) throw new Error(`sync-safekeepers ended with ${code}: ${err}`);
    return out.trim();
  }

  private async baseBackup(lsn: string | undefined): Promise<void> {
    const { tenant, timeline, pageserver, token } = this.options;
    const flags = this.mode.kind === 'primary' ? '' : ' --replica';
    // The certificate is one that the test made for itself.
    const net = hostNet(pageserver.tls ? { clientTls: { rejectUnauthorized: false } } : {});
    const client = await PqClient.connect(net, hostRandom, {
      host: '127.0.0.1',
      tls: pageserver.tls === true,
      port: pageserver.port,
      parameters: { user: 'cloud_admin', application_name: 'compute' },
      password: token,
    });
    const untar = spawn('tar', ['-x', '-C', this.data, '-f', '-'], {
      stdio: ['pipe', 'ignore', 'pipe'],
      ...asNobody,
    });
    let said = '';
    untar.stderr.on('data', piece => (said += piece));
    const done = new Promise<number | null>(resolve => untar.once('close', resolve));
    const command = `basebackup ${tenant} ${timeline}${lsn === undefined ? '' : ` ${lsn}`}${flags}`;
    for await (const piece of client.copyOut(command)) {
      if (!untar.stdin.write(piece)) await new Promise(resolve => untar.stdin.once('drain', resolve));
    }
    untar.stdin.end();
    const code = await done;
    await client.end();
    if (code !== 0) throw new Error(`the base backup could not be unpacked: ${said}`);
    if (this.mode.kind !== 'primary') this.write('standby.signal', '');
    chmodSync(this.data, 0o700);
  }

  private get env(): NodeJS.ProcessEnv {
    const { token } = this.options;
    // Its home is its own: libpq looks there for certificates.
    return {
      ...process.env,
      HOME: this.dir,
      PGDATA: this.data,
      ...(token ? { NEON_AUTH_TOKEN: token } : {}),
    };
  }

  private bin(program: string): string {
    return neonBin(this.options.major, program);
  }

  private async startPostgres(): Promise<void> {
    const log = openSync(join(this.dir, 'log'), 'a');
    this.process = spawn(this.bin('postgres'), ['-D', this.data], {
      env: this.env,
      cwd: this.dir,
      stdio: ['ignore', log, log],
      ...asNobody,
    });
    const end = performance.now() + START_MS;
    for (;;) {
      try {
        const client = await this.connect();
        await this.disconnect(client);
        return;
      } catch (error) {
        if (!this.running || performance.now() > end) {
          throw new Error(`the compute did not start: ${error}\n${this.log.slice(-4000)}`);
        }
        await new Promise(done => setTimeout(done, 20));
      }
    }
  }

  async connect(database = 'postgres'): Promise<pg.Client> {
    const client = new pg.Client({ host: '127.0.0.1', port: this.port, user: 'cloud_admin', database });
    client.on('error', () => {});
    this.clients.add(client);
    await client.connect();
    return client;
  }

  async disconnect(client: pg.Client): Promise<void> {
    this.clients.delete(client);
    await client.end().catch(() => {});
  }

  /** One connection, one statement (or several), the rows of the last. */
  async query<R = Record<string, unknown>>(
    sql: string,
    values: unknown[] = [],
    database?: string,
  ): Promise<R[]> {
    const client = await this.connect(database);
    try {
      const result = await client.query(sql, values.length > 0 ? values : undefined);
      return (Array.isArray(result) ? result.at(-1) : result).rows as R[];
    } finally {
      await this.disconnect(client);
    }
  }

  /** A program of the build, connected to this compute; what it printed. */
  async program(name: string, args: readonly string[], timeoutMs = 600_000): Promise<string> {
    const child = spawn(this.bin(name), [...args], {
      env: {
        ...process.env,
        PGHOST: '127.0.0.1',
        PGPORT: String(this.port),
        PGUSER: 'cloud_admin',
        PGDATABASE: 'postgres',
      },
      cwd: this.dir,
      timeout: timeoutMs,
      ...asNobody,
    });
    let out = '';
    child.stdout.on('data', piece => (out += piece));
    child.stderr.on('data', piece => (out += piece));
    const code = await new Promise(done => child.once('close', done));
    if (code !== 0) throw new Error(`${name} ended with ${code}: ${out.slice(-4000)}`);
    return out;
  }

  /** SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL a crash. */
  async stop(signal: NodeJS.Signals = 'SIGINT'): Promise<void> {
    const running = this.process;
    for (const client of this.clients) void client.end().catch(() => {});
    this.clients.clear();
    if (!running || !this.running) return;
    const gone = new Promise(done => running.once('exit', done));
    running.kill(signal);
    const timer = setTimeout(() => running.kill('SIGKILL'), 30_000);
    await gone;
    clearTimeout(timer);
    this.process = undefined;
  }
}
