// What the suites of adoption share: an origin with work on it, the adopter as a process of its own, checkouts that are
// opened by a stock Postgres, and the questions that both must answer alike.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { expect } from 'vitest';
import { checkAll } from '../pageserver/stock-workload.ts';
import { freePort } from '../safekeeper/neon-postgres.ts';
import type { Storage } from './harness.ts';
import { STOCK_MAJORS, type StockMajor, StockPostgres } from './stock.ts';

const LAKEBED = resolve(import.meta.dirname, '../../bin/lakebed');
const WAIT_MS = 60_000;

/** Majors of a suite: LAKEBED_ADOPT_MAJORS=14,16 or all, else what CI has time for. */
export function adoptMajors(otherwise: readonly StockMajor[]): readonly StockMajor[] {
  const asked = process.env['LAKEBED_ADOPT_MAJORS'];
  if (asked === undefined) return otherwise;
  return asked === 'all' ? STOCK_MAJORS : STOCK_MAJORS.filter(m => asked.split(',').includes(String(m)));
}

export async function until(what: string, check: () => Promise<boolean> | boolean): Promise<void> {
  const end = performance.now() + WAIT_MS;
  while (!(await check())) {
    if (performance.now() > end) throw new Error(`waited ${WAIT_MS / 1000} s for: ${what}`);
    await new Promise(done => setTimeout(done, 50));
  }
}

export const lsnOf = (text: string): number => {
  const [high, low] = text.split('/');
  return parseInt(high!, 16) * 2 ** 32 + parseInt(low!, 16);
};

// ---------------------------------------------------------------------------------------------------------- origin

export const CHECKOUT_SETTINGS = { max_prepared_transactions: 4, track_commit_timestamp: 'on' } as const;

const SETTINGS = {
  ...CHECKOUT_SETTINGS,
  listen_addresses: '127.0.0.1',
  max_wal_size: '256MB',
  wal_sender_timeout: '10s',
  autovacuum_naptime: '1s',
};

/** How the majors differ in what storage has to respect. */
const INITDB: Readonly<Record<StockMajor, readonly string[]>> = {
  14: ['-k'],
  15: ['-k', '--wal-segsize=1'],
  16: ['--wal-segsize=64'],
  17: [],
  18: [],
};

const SCHEMA = [
  'create extension amcheck',
  'create extension btree_gist',
  'create table account (id int primary key, balance bigint not null default 0, note text)',
  `insert into account select i, 0, repeat('n', i % 80) from generate_series(1, 2000) i`,
  'create index on account using hash (id)',
  'create table history (id bigserial primary key, account int not null, delta int not null, at timestamptz default now())',
  'create index on history (account)',
  'create index on history using brin (at)',
  'create index on history using gist (account, at)',
  'create table document (id int primary key, words tsvector, body text)',
  `insert into document select i, to_tsvector('simple', 'w' || i % 50 || ' x' || i % 7),
     (select string_agg(md5((i * j)::text), '') from generate_series(1, 200) j) from generate_series(1, 300) i`,
  'create index on document using gin (words)',
  'create unlogged table cache (i int)',
  'insert into cache select generate_series(1, 100)',
  'create table marker (name text primary key, at timestamptz default clock_timestamp())',
  'create sequence ticket',
  `begin; insert into account values (-1, 0, 'prepared'); prepare transaction 'waiting'`,
];

export interface OriginOptions {
  readonly initdb?: readonly string[];
  readonly settings?: Readonly<Record<string, string | number>>;
  /** It was a standby once: its log goes on on timeline 2. */
  readonly promoted?: boolean;
}

export class Origin {
  readonly server: StockPostgres;
  readonly port: number;

  private constructor(server: StockPostgres, port: number) {
    this.server = server;
    this.port = port;
  }

  static async start(major: StockMajor, options: OriginOptions = {}): Promise<Origin> {
    const settings = { ...SETTINGS, ...options.settings };
    const server = await StockPostgres.create(major, { initdb: options.initdb ?? INITDB[major], settings });
    const port = await freePort();
    await server.start({ port });
    if (options.promoted) {
      await server.stop();
      writeFileSync(join(server.dataDirectory, 'standby.signal'), '');
      await server.start();
      await server.sql('select pg_promote()');
    }
    return new Origin(server, port);
  }

  async fill(): Promise<void> {
    for (const statement of SCHEMA) await this.server.sql(statement);
  }

  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.port}/postgres`;
  }

  /**
   * A row that is in every state from here on: the LSN after its commit, and a time between it and what follows. Times
   * are asked for in milliseconds, so neither commit may lie in the same one.
   */
  async mark(name: string): Promise<{ lsn: string; time: string }> {
    await this.server.sql(`insert into marker (name) values ('${name}')`);
    const [row] = await this.server.sql(`select pg_current_wal_insert_lsn()::text as lsn, pg_sleep(0.01)`);
    const [{ time }] = await this.server.sql(
      `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as time`,
    );
    await this.server.sql('select pg_sleep(0.01)');
    return { lsn: row.lsn as string, time: time as string };
  }

  /** Everything that is committed is flushed up to here. */
  async flushLsn(): Promise<string> {
    await this.server.sql(`select txid_current(), pg_logical_emit_message(true, 'lakebed', 'flush')`);
    return (await this.server.sql('select pg_current_wal_flush_lsn()::text as lsn'))[0].lsn as string;
  }
}

// ------------------------------------------------------------------------------------------------------------ load

/** Transfers between accounts from several clients; knows which of them were acknowledged. */
export class Load {
  readonly acknowledged = new Set<number>();
  private readonly origin: Origin;
  private stopping = false;
  private readonly running: Promise<void>[];

  constructor(origin: Origin, clients: number) {
    this.origin = origin;
    this.running = Array.from({ length: clients }, (_, i) => this.client(i));
  }

  private async client(number: number): Promise<void> {
    let step = number;
    while (!this.stopping) {
      const client = new pg.Client({
        host: '127.0.0.1',
        port: this.origin.port,
        user: 'postgres',
        database: 'postgres',
      });
      client.on('error', () => {});
      try {
        await client.connect();
        while (!this.stopping) await this.transfer(client, (step += 7));
      } catch {
        // The server is being restarted.
        await new Promise(done => setTimeout(done, 50));
      } finally {
        await client.end().catch(() => {});
      }
    }
  }

  private async transfer(client: pg.Client, step: number): Promise<void> {
    const account = 1 + ((step * 7919) % 2000);
    const delta = (step % 2001) - 1000;
    await client.query('begin');
    await client.query('update account set balance = balance + $2 where id = $1', [account, delta]);
    const { rows } = await client.query(
      'insert into history (account, delta) values ($1, $2) returning id::int',
      [account, delta],
    );
    await client.query(step % 17 === 0 ? 'rollback' : 'commit');
    if (step % 17 !== 0) this.acknowledged.add(rows[0].id as number);
  }

  /** Until so many more are acknowledged. */
  async more(count: number): Promise<void> {
    const target = this.acknowledged.size + count;
    await until(`${count} more transactions`, () => this.acknowledged.size >= target);
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await Promise.all(this.running);
  }
}

// --------------------------------------------------------------------------------------------------------- adopter

export interface AdoptEvent {
  readonly step: string;
  readonly [field: string]: unknown;
}

/** `lakebed adopt` as a process; killed and started again it goes on. */
export class Adopter {
  readonly events: AdoptEvent[] = [];
  private readonly args: readonly string[];
  /** Of the origin. */
  url: string;
  private child: ChildProcess | undefined;
  private said = '';

  constructor(storage: Storage, tenant: string, origin: Origin, ...args: string[]) {
    mkdirSync(join(storage.dir, 'adopter'), { recursive: true });
    const safekeepers = storage.safekeepers.map(s => `127.0.0.1:${s.port}`).join(',');
    const place = [...placeArgs(storage, tenant), '--safekeepers', safekeepers];
    this.url = origin.url;
    this.args = ['--json', ...place, ...args];
  }

  start(...args: string[]): void {
    const child = spawn(LAKEBED, ['adopt', this.url, ...this.args, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child = child;
    let line = '';
    child.stdout?.on('data', piece => {
      const lines = (line + piece).split('\n');
      line = lines.pop()!;
      for (const text of lines) this.events.push(JSON.parse(text) as AdoptEvent);
    });
    child.stderr?.on('data', piece => (this.said += piece));
  }

  /** An event, come already or to come. */
  async event(step: string, matches: (event: AdoptEvent) => boolean = () => true): Promise<AdoptEvent> {
    const find = (): AdoptEvent | undefined => this.events.find(e => e.step === step && matches(e));
    await until(`the adopter's ${step}`, () => {
      if (find() === undefined && this.ended) throw new Error(`the adopter ended: ${this.words}`);
      return find() !== undefined;
    });
    return find()!;
  }

  private get ended(): boolean {
    return this.child?.exitCode !== null || this.child.signalCode !== null;
  }

  get words(): string {
    return `${this.said}\n${JSON.stringify(this.events.filter(e => e.step !== 'following').slice(-8))}`;
  }

  get timeline(): string {
    return this.events.find(e => e.step === 'checked')!['timeline'] as string;
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number | null> {
    this.child?.kill(signal);
    return this.exit();
  }

  async exit(): Promise<number | null> {
    await until('the adopter to end', () => this.child === undefined || this.ended);
    return this.child?.exitCode ?? null;
  }
}

export function placeArgs(storage: Storage, tenant: string): string[] {
  const pageserver = `http://127.0.0.1:${storage.pageserverHttpPort}`;
  return ['--pageserver', pageserver, '--tenant', tenant, '--data-dir', join(storage.dir, 'adopter')];
}

export async function lakebed(...args: string[]): Promise<{ out: string; err: string; code: number }> {
  try {
    const { stdout, stderr } = await promisify(execFile)(LAKEBED, args);
    return { out: stdout, err: stderr, code: 0 };
  } catch (error) {
    const { stdout, stderr, code } = error as { stdout: string; stderr: string; code: number };
    return { out: stdout, err: stderr, code };
  }
}

// -------------------------------------------------------------------------------------------------------- checkouts

let checkouts = 0;

/** A state of a timeline, checked out beside the origin and opened by a server of its build. */
export async function opened<T>(
  storage: Storage,
  at: { tenant: string; branch: string; at?: string },
  origin: Origin,
  work: (server: StockPostgres) => Promise<T>,
): Promise<T> {
  const directory = join(origin.server.home, `checkout-${++checkouts}`);
  const { code, err } = await lakebed(
    'checkout',
    at.branch,
    directory,
    ...placeArgs(storage, at.tenant),
    '--pages',
    `127.0.0.1:${storage.pageserverPort}`,
    '--no-sync',
    ...(at.at === undefined ? [] : ['--at', at.at]),
  );
  expect(err, 'checkout').toBe('');
  expect(code).toBe(0);
  let result: T | undefined;
  await origin.server.runDirectory(directory, CHECKOUT_SETTINGS, async server => {
    result = await work(server);
  });
  return result as T;
}

/** Every row of every table, as numbers that must be equal. */
export async function contents(server: StockPostgres): Promise<Record<string, unknown>> {
  const tables = ['account', 'history', 'document', 'marker'];
  const found: Record<string, unknown> = {};
  for (const table of tables) {
    const [row] = await server.sql(
      `select count(*)::int, md5(coalesce(string_agg(t::text, ';' order by t::text), '')) from ${table} t`,
    );
    found[table] = row;
  }
  found['prepared'] = (await server.sql('select gid from pg_prepared_xacts')).map(r => r.gid as string);
  return found;
}

/** What must hold in any state: the ledger balances, indexes agree with their tables, checksums are right. */
export async function sound(server: StockPostgres): Promise<void> {
  const [ledger] = await server.sql(
    `select (select coalesce(sum(balance), 0) from account)::text = (select coalesce(sum(delta), 0) from history)::text as balanced`,
  );
  expect(ledger).toEqual({ balanced: true });
  expect(await checkAll(server)).toEqual([]);
  const [failures] = await server.sql(
    'select coalesce(sum(checksum_failures), 0)::int as failures from pg_stat_database',
  );
  expect(failures).toEqual({ failures: 0 });
}

export async function hasAll(server: StockPostgres, acknowledged: ReadonlySet<number>): Promise<void> {
  const rows = await server.sql('select id::int from history');
  const there = new Set(rows.map(r => r.id as number));
  expect([...acknowledged].filter(id => !there.has(id))).toEqual([]);
}
