// A Postgres built with Neon's patches, on a data directory of its own: with `neon` preloaded, safekeepers named
// and no pageserver, it runs the walproposer over an ordinary local cluster. The earliest real client we have.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';

const NOBODY = 65534;
const asNobody = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};

/** Majors of the build that NEON_PG_DIR points at; empty without one. */
export function neonMajors(): number[] {
  const dir = process.env['NEON_PG_DIR'];
  if (!dir) return [];
  return [14, 15, 16, 17].filter(major => existsSync(join(dir, `v${major}/bin/postgres`)));
}

export const neonBin = (major: number, program: string): string =>
  join(process.env['NEON_PG_DIR']!, `v${major}/bin`, program);

/** Below those that systems hand out to connections: a daemon that is killed finds its port free when it is back. */
const PORTS = { from: 15_000, count: 15_000 };
const given = new Set<number>();

/** A port that nobody listens on, never the same twice. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS.from + randomInt(PORTS.count);
    if (given.has(port)) continue;
    given.add(port);
    if (await isFree(port)) return port;
  }
}

/** Nobody listens on it just now. */
export const isFree = (port: number): Promise<boolean> =>
  new Promise(done => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
  });

export interface NeonOptions {
  readonly major: number;
  readonly safekeepers: readonly { readonly port: number }[];
  readonly tenant: string;
  readonly timeline: string;
  /** `neon.safekeepers` before the list, such as `g#1:`. */
  readonly generation?: string;
  readonly settings?: Readonly<Record<string, string>>;
  readonly token?: string;
}

export class NeonPostgres {
  readonly options: NeonOptions;
  readonly dir: string;
  readonly data: string;
  port = 0;
  private process: ChildProcess | undefined;

  private constructor(options: NeonOptions, dir?: string) {
    this.options = options;
    this.dir = dir ?? mkdtempSync(join(tmpdir(), 'lakebed-neon-pg-'));
    chmodSync(this.dir, 0o777);
    this.data = join(this.dir, 'data');
  }

  /** A fresh cluster, its settings written, not started. */
  static async create(options: NeonOptions): Promise<NeonPostgres> {
    const it = new NeonPostgres(options);
    const args = ['-D', it.data, '-U', 'cloud_admin', '--no-sync', '-A', 'trust', '--locale=C'];
    execFileSync(neonBin(options.major, 'initdb'), args, { stdio: 'ignore', ...asNobody });
    it.port = await freePort();
    const list = options.safekeepers.map(s => `127.0.0.1:${s.port}`).join(',');
    const settings: Record<string, string> = {
      listen_addresses: '127.0.0.1',
      port: String(it.port),
      unix_socket_directories: '',
      shared_preload_libraries: 'neon',
      'neon.tenant_id': options.tenant,
      'neon.timeline_id': options.timeline,
      'neon.safekeepers': `${options.generation ?? ''}${list}`,
      'neon.pageserver_connstring': '',
      synchronous_standby_names: 'walproposer',
      wal_level: 'replica',
      max_wal_senders: '10',
      max_replication_slots: '10',
      fsync: 'off',
      wal_keep_size: '0',
      restart_after_crash: 'off',
      log_line_prefix: '%m [%p] ',
      ...options.settings,
    };
    it.configure(settings);
    return it;
  }

  /** Over a data directory that is there: `<dir>/data`. */
  static async adopt(major: number, dir: string, options: NeonOptions): Promise<NeonPostgres> {
    const it = new NeonPostgres({ ...options, major }, dir);
    it.port = await freePort();
    return it;
  }

  /** pg_basebackup of the running server, without WAL. */
  async baseBackup(into: string): Promise<void> {
    const args = [
      '-h',
      '127.0.0.1',
      '-p',
      String(this.port),
      '-U',
      'cloud_admin',
      '-D',
      into,
      '-X',
      'none',
      '-c',
      'fast',
    ];
    const child = spawn(neonBin(this.options.major, 'pg_basebackup'), [...args, '--no-sync'], asNobody);
    let said = '';
    child.stderr.on('data', piece => (said += piece));
    const code = await new Promise(done => child.once('close', done));
    if (code !== 0) throw new Error(`pg_basebackup ended with ${code}: ${said}`);
  }

  signalStandby(): void {
    writeFileSync(join(this.data, 'standby.signal'), '');
    if (process.getuid?.() === 0) chownSync(join(this.data, 'standby.signal'), NOBODY, NOBODY);
  }

  configure(settings: Readonly<Record<string, string>>): void {
    const lines = Object.entries(settings).map(
      ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`,
    );
    appendFileSync(join(this.data, 'postgresql.conf'), `\n${lines.join('\n')}\n`);
    if (process.getuid?.() === 0) chownSync(join(this.data, 'postgresql.conf'), NOBODY, NOBODY);
  }

  private get env(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      PGDATA: this.data,
      ...(this.options.token ? { NEON_AUTH_TOKEN: this.options.token } : {}),
    };
  }

  get log(): string {
    return existsSync(join(this.dir, 'log')) ? readFileSync(join(this.dir, 'log'), 'utf8') : '';
  }

  /** `postgres --sync-safekeepers`: the LSN it prints. */
  async syncSafekeepers(timeoutMs = 60_000): Promise<string> {
    const child = spawn(neonBin(this.options.major, 'postgres'), ['--sync-safekeepers'], {
      env: this.env,
      cwd: this.dir,
      timeout: timeoutMs,
      ...asNobody,
    });
    let [out, err] = ['', ''];
    child.stdout.on('data', piece => (out += piece));
    child.stderr.on('data', piece => (err += piece));
    const code = await new Promise(done => child.once('close', done));
    if (code !== 0) throw new Error(`sync-safekeepers ended with ${code}: ${err}`);
    return out.trim();
  }

  async start(): Promise<void> {
    const { openSync } = await import('node:fs');
    const log = openSync(join(this.dir, 'log'), 'a');
    this.process = spawn(neonBin(this.options.major, 'postgres'), ['-D', this.data], {
      env: this.env,
      cwd: this.dir,
      stdio: ['ignore', log, log],
      ...asNobody,
    });
    const end = performance.now() + 60_000;
    for (;;) {
      try {
        const client = await this.connect();
        await client.end();
        return;
      } catch (error) {
        if (this.process.exitCode !== null || performance.now() > end) {
          throw new Error(`Postgres did not start: ${error}\n${this.log.slice(-4000)}`);
        }
        await new Promise(done => setTimeout(done, 50));
      }
    }
  }

  async connect(): Promise<pg.Client> {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: this.port,
      user: 'cloud_admin',
      database: 'postgres',
    });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  async stop(signal: NodeJS.Signals = 'SIGINT'): Promise<void> {
    const running = this.process;
    this.process = undefined;
    if (!running || running.exitCode !== null) return;
    const gone = new Promise(done => running.once('exit', done));
    running.kill(signal);
    const timer = setTimeout(() => running.kill('SIGKILL'), 20_000);
    await gone;
    clearTimeout(timer);
  }

  async remove(): Promise<void> {
    await this.stop('SIGQUIT');
    rmSync(this.dir, { recursive: true, force: true });
  }
}
