// Work that makes a cluster write every record of the managers that edit no pages: what ends transactions,
// relations and databases, what fills and cuts SLRUs, what marks the log. (NOOP and OVERWRITE_CONTRECORD aside:
// the one is never written, the other takes a crash at the right byte.)

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import type { StockPostgres } from '../pg/stock.ts';

export const SETTINGS: Readonly<Record<string, string>> = {
  wal_level: 'logical',
  max_prepared_transactions: '10',
  track_commit_timestamp: 'on',
  wal_log_hints: 'on',
  wal_compression: 'on',
  autovacuum: 'off',
  wal_keep_size: '8GB',
  max_wal_size: '8GB',
  checkpoint_timeout: '1h',
  timezone: 'UTC',
};

export interface Positions {
  readonly from: string;
  /** What follows ends one transaction of a million xids: too much for a standby that talks. */
  readonly beforeTruncations: string;
}

/** Does it all, and says where in the log. */
export async function effectsWorkload(postgres: StockPostgres): Promise<Positions> {
  const [begin] = await postgres.sql('select pg_current_wal_lsn() as lsn');
  await transactions(postgres);
  await origins(postgres);
  await databases(postgres);
  await tablespaces(postgres);
  await relations(postgres);
  await multixacts(postgres);
  await runningXacts(postgres);
  await marks(postgres);
  await recovery(postgres);
  const [before] = await postgres.sql('select pg_current_wal_flush_lsn() as lsn');
  await truncations(postgres);
  await postgres.sql('select pg_switch_wal()');
  return { from: begin.lsn, beforeTruncations: before.lsn };
}

async function script(postgres: StockPostgres, statements: readonly string[]): Promise<void> {
  await postgres.session(async client => {
    for (const statement of statements) await client.query(statement);
  });
}

/** Each with an xid of its own, and next to nothing in the log. */
const subtransactions = (count: number): string =>
  `do $$ begin for i in 1..${count} loop begin insert into scratch values (1); exception when others then null; end; end loop; end $$`;

async function transactions(postgres: StockPostgres): Promise<void> {
  await script(postgres, [
    'create table t (id int primary key, v text)',
    'create unlogged table scratch (i int)',
    "insert into t select i, repeat('x', 100) from generate_series(1, 5000) i",
    'begin',
    'create table a (i int)',
    'savepoint s',
    'insert into a values (1)',
    'release s',
    'drop table a',
    'commit',
    'begin',
    'create table b (i int)',
    'savepoint s',
    'insert into b values (1)',
    'savepoint s2',
    'insert into b values (2)',
    'rollback',
    'begin',
    'savepoint s',
    'insert into t values (-1)',
    'rollback to s',
    'commit',
    'set synchronous_commit = remote_apply',
    'insert into t values (-2)',
    'reset synchronous_commit',
    'create table c (i int)',
    'create table d (i int)',
    'begin',
    'savepoint s',
    'insert into t values (-3)',
    'release s',
    'drop table c',
    'create table e (i int)',
    "prepare transaction 'first one'",
    "commit prepared 'first one'",
    'begin',
    'savepoint s',
    'insert into t values (-4)',
    'release s',
    'drop table d',
    'create table f (i int)',
    "prepare transaction 'second'",
    "rollback prepared 'second'",
    'begin',
    subtransactions(70),
    'commit',
  ]);
}

async function origins(postgres: StockPostgres): Promise<void> {
  const setup = (lsn: string): string =>
    `select pg_replication_origin_xact_setup('${lsn}', '2020-01-02 03:04:05.67+00')`;
  await script(postgres, [
    "select pg_replication_origin_create('o1')",
    "select pg_replication_origin_session_setup('o1')",
    'begin',
    setup('0/ABCDEF01'),
    'insert into t values (-10)',
    'commit',
    'begin',
    setup('1/2'),
    'insert into t values (-11)',
    "prepare transaction 'p1'",
    "commit prepared 'p1'",
    'begin',
    setup('7/8'),
    'create table g (i int)',
    "prepare transaction 'p2'",
    "rollback prepared 'p2'",
    'begin',
    setup('FFFFFFFF/FFFFFFF0'),
    'insert into t values (-12)',
    'commit',
    'select pg_replication_origin_session_reset()',
    "select pg_replication_origin_create('o2')",
    "select pg_replication_origin_advance('o2', 'FFFFFFFF/12345678')",
    "select pg_replication_origin_drop('o2')",
    "select pg_logical_emit_message(true, 'in a transaction', 'hello')",
    "select pg_logical_emit_message(false, 'outside', '\\x00ff10'::bytea)",
    "select pg_logical_emit_message(false, '', '')",
  ]);
}

async function databases(postgres: StockPostgres): Promise<void> {
  const strategies = postgres.major === 14 ? [''] : [' strategy file_copy', ' strategy wal_log'];
  for (const strategy of strategies)
    await script(postgres, [`create database d1${strategy}`, 'drop database d1']);
}

async function tablespaces(postgres: StockPostgres): Promise<void> {
  await script(postgres, [
    'set allow_in_place_tablespaces = on',
    "create tablespace ts location ''",
    'create table h (i int) tablespace ts',
    'insert into h select generate_series(1, 1000)',
    'delete from h where i > 100',
    'vacuum h',
    'drop table h',
    'create database d2 tablespace ts',
    'drop database d2',
    'drop tablespace ts',
  ]);
}

async function relations(postgres: StockPostgres): Promise<void> {
  await script(postgres, [
    'vacuum full pg_class',
    'vacuum full pg_database',
    'delete from t where id > 100',
    'vacuum t',
    'create unlogged table u (i int)',
    'insert into u values (1)',
    'truncate u',
    'create index on t (v)',
    'analyze t',
    'begin',
    'lock table t, u in access exclusive mode',
    'commit',
    'drop table u',
  ]);
}

/** Enough sets of lockers to begin new pages of both SLRUs. */
async function multixacts(postgres: StockPostgres): Promise<void> {
  await script(postgres, [
    'create table m (id int primary key, v int)',
    'insert into m select i, 0 from generate_series(1, 2200) i',
  ]);
  await postgres.session(a => postgres.session(b => lockTogether(a, b)));
}

async function lockTogether(a: Client, b: Client): Promise<void> {
  for (const [i, lock] of ['for key share', 'for share', 'for no key update'].entries()) {
    await a.query('begin');
    await b.query('begin');
    await a.query(`select * from m where id = ${i + 1} for key share`);
    await b.query(`select * from m where id = ${i + 1} ${lock}`);
    if (i === 2) await b.query('update m set v = 1 where id = 3');
    await a.query('commit');
    await b.query('commit');
  }
  await a.query('begin');
  await a.query(
    'do $$ begin for i in 1..2200 loop ' +
      'begin perform from m where id = i for key share; exception when others then null; end; ' +
      'end loop; end $$',
  );
  await b.query('begin');
  await b.query('select count(*) from (select from m for key share) s');
  await b.query('commit');
  await a.query('commit');
}

async function snapshot(postgres: StockPostgres): Promise<void> {
  await postgres.sql(postgres.major >= 16 ? 'select pg_log_standby_snapshot()' : 'checkpoint');
}

async function runningXacts(postgres: StockPostgres): Promise<void> {
  await postgres.session(a =>
    postgres.session(async b => {
      await a.query('begin');
      await a.query('select pg_current_xact_id()');
      await snapshot(postgres);
      await b.query('begin');
      await b.query('savepoint s');
      await b.query('insert into t values (-20)');
      await b.query('release s');
      await snapshot(postgres);
      await b.query(subtransactions(100));
      await snapshot(postgres);
      await a.query('commit');
      await b.query('commit');
    }),
  );
}

async function marks(postgres: StockPostgres): Promise<void> {
  const [start, stop] =
    postgres.major === 14
      ? ["select pg_start_backup('b', true, false)", 'select pg_stop_backup(false, true)']
      : ["select pg_backup_start('b', true)", 'select pg_backup_stop(true)'];
  await script(postgres, [
    'select pg_switch_wal()',
    "select pg_create_restore_point('a point')",
    start!,
    stop!,
    'checkpoint',
    'alter system set full_page_writes = off',
    'select pg_reload_conf()',
  ]);
  await untilFullPageWrites(postgres, false);
  // With full_page_writes off, a hint on a page last written before the checkpoint is logged without an image.
  await script(postgres, ['insert into t values (-30)', 'checkpoint', 'select count(*) from t']);
  await script(postgres, ['alter system reset full_page_writes', 'select pg_reload_conf()']);
  await untilFullPageWrites(postgres, true);
  await script(postgres, ['insert into t values (-31)', 'checkpoint', 'select count(*) from t']);
}

/** The checkpointer takes over the setting in its own time; each checkpoint notes what it then was. */
async function untilFullPageWrites(postgres: StockPostgres, wanted: boolean): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    await postgres.sql('checkpoint');
    const [{ full_page_writes: now }] = await postgres.sql(
      'select full_page_writes from pg_control_checkpoint()',
    );
    if (now === wanted) return;
    await sleep(50);
  }
  throw new Error(`full_page_writes did not become ${wanted}`);
}

/** A million transactions, then everything frozen: whole segments of each SLRU become useless. */
async function truncations(postgres: StockPostgres): Promise<void> {
  await postgres.sql(subtransactions(1_060_000));
  await postgres.sql('truncate scratch');
  await postgres.sql('update pg_database set datallowconn = true');
  for (const database of ['template0', 'template1', 'postgres'])
    await postgres.sql('vacuum (freeze)', database);
  await postgres.sql('vacuum (freeze)');
}

/** A restart with other parameters, and a promotion, which ends a recovery. */
async function recovery(postgres: StockPostgres): Promise<void> {
  await postgres.stop();
  await postgres.start({ max_connections: 60, wal_log_hints: 'off' });
  await postgres.stop();
  await writeFile(join(postgres.dataDirectory, 'standby.signal'), '');
  await postgres.start();
  await postgres.sql('select pg_promote(true, 60)');
}
