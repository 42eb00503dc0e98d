// WAL to measure with, written by a stock Postgres on the spot: a TPC-B-like load, once without full-page images
// and once full of them, with the cluster as it stood before.

import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  CONTROL_FILE_PATH,
  DB_IN_PRODUCTION,
  readControlFile,
  writeControlFile,
} from '../../src/xlog/control-file.ts';
import { Cluster } from '../../src/xlog/replay/cluster.ts';
import { StockPostgres } from '../pg/stock.ts';

const SCALE_ACCOUNTS = 500_000;

export interface RecordedWal {
  /** The data directory before the load, cleanly shut down. */
  readonly base: string;
  /** Segment files in order, from the one that holds the base's checkpoint. */
  readonly segments: readonly string[];
  readonly postgres: StockPostgres;
  /** Recovery by Postgres itself, of the same log over the same base: what it says of it at "redo done". */
  recover(): Promise<Took>;
}

/** How long something took: on the clock, and on the processor. */
export interface Took {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

const SCHEMA = `
  CREATE TABLE accounts (aid int, bid int, abalance int, filler char(84)) WITH (fillfactor = 90);
  INSERT INTO accounts SELECT i, i / 100000, 0, '' FROM generate_series(1, ${SCALE_ACCOUNTS}) i;
  ALTER TABLE accounts ADD PRIMARY KEY (aid);
  CREATE TABLE tellers (tid int PRIMARY KEY, tbalance int);
  INSERT INTO tellers SELECT i, 0 FROM generate_series(1, 50) i;
  CREATE TABLE branches (bid int PRIMARY KEY, bbalance int);
  INSERT INTO branches SELECT i, 0 FROM generate_series(1, 5) i;
  CREATE TABLE history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
  CREATE PROCEDURE load(n int) LANGUAGE plpgsql AS $$
  DECLARE a int; d int;
  BEGIN
    FOR i IN 1..n LOOP
      a := 1 + floor(random() * ${SCALE_ACCOUNTS})::int; d := floor(random() * 1000)::int;
      UPDATE accounts SET abalance = abalance + d WHERE aid = a;
      UPDATE tellers SET tbalance = tbalance + d WHERE tid = 1 + a % 50;
      UPDATE branches SET bbalance = bbalance + d WHERE bid = 1 + a % 5;
      INSERT INTO history VALUES (1 + a % 50, 1 + a % 5, a, d, now(), '');
      COMMIT;
    END LOOP;
  END $$;`;

/** `images`: full-page writes on and a checkpoint every so often, so that most of the log is page images. */
export async function recordWal(images: boolean, transactions: number): Promise<RecordedWal> {
  const settings = {
    full_page_writes: images ? 'on' : 'off',
    max_wal_size: '64GB',
    wal_keep_size: '64GB',
    checkpoint_timeout: '1d',
    synchronous_commit: 'off',
    autovacuum: 'off',
    shared_buffers: '512MB',
  };
  const postgres = await StockPostgres.start(17, { settings });
  await postgres.sql(SCHEMA);
  await postgres.sql('VACUUM ANALYZE');
  await postgres.stop();
  const base = join(postgres.home, 'base');
  cpSync(postgres.dataDirectory, base, { recursive: true });
  await postgres.start();
  const rounds = images ? 8 : 1;
  for (let round = 0; round < rounds; round++) {
    const each = Math.ceil(transactions / rounds / 2);
    await Promise.all([1, 2].map(() => postgres.session(client => client.query(`CALL load(${each})`))));
    if (images) await postgres.sql('CHECKPOINT');
  }
  await postgres.sql('SELECT pg_switch_wal()');
  await postgres.stop('SIGQUIT');

  const control = readControlFile(readFileSync(join(base, CONTROL_FILE_PATH)));
  const first = Math.floor(control.checkPointCopy.redo / 0x1000000);
  const wal = join(postgres.dataDirectory, 'pg_wal');
  const segments = readdirSync(wal)
    .filter(name => /^[0-9A-F]{24}$/.test(name) && parseInt(name.slice(16), 16) >= first)
    .sort()
    .map(name => join(wal, name));
  return { base, segments, postgres, recover: () => recover(postgres, base, segments) };
}

/** Make the base look crashed, give it the log, and let Postgres recover; it times itself. */
async function recover(postgres: StockPostgres, base: string, segments: readonly string[]): Promise<Took> {
  const data = join(postgres.home, 'recovery');
  rmSync(data, { recursive: true, force: true });
  cpSync(base, data, { recursive: true, preserveTimestamps: true });
  for (const segment of segments) cpSync(segment, join(data, 'pg_wal', segment.slice(-24)));
  const path = join(data, CONTROL_FILE_PATH);
  const bytes = new Uint8Array(readFileSync(path));
  writeFileSync(path, writeControlFile({ ...readControlFile(bytes), state: DB_IN_PRODUCTION }));
  const log = await postgres.runDirectory(data, { shared_buffers: '1GB', full_page_writes: 'on' });
  const told = /redo done at .*user: ([\d.]+) s, system: ([\d.]+) s, elapsed: ([\d.]+) s/.exec(log);
  if (told === null) throw new Error(`Postgres did not recover:\n${log}`);
  return { seconds: Number(told[3]), cpuSeconds: Number(told[1]) + Number(told[2]) };
}

export function loadBase(directory: string): Cluster {
  const cluster = new Cluster();
  const walk = (inside: string): void => {
    for (const entry of readdirSync(join(directory, inside), { withFileTypes: true })) {
      const path = inside === '' ? entry.name : `${inside}/${entry.name}`;
      if (entry.isDirectory()) walk(path);
      else if (entry.isFile()) cluster.loadFile(path, new Uint8Array(readFileSync(join(directory, path))));
    }
  };
  walk('');
  return cluster;
}
