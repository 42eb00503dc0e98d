// Work in stages for a stock cluster that is then taken in by its log: after each stage nothing runs, so that what
// the server answers there is what the log makes up to there. Every index method, maps cut and grown again, unlogged
// and dropped and rewritten relations, databases made and gone, prepared and nested transactions, multixacts, commit
// timestamps, pages full of images after checkpoints.

import type { StockPostgres } from '../pg/stock.ts';

export interface Stage {
  readonly name: string;
  /** Everything up to here is in the log, nothing after it. */
  readonly lsn: string;
  readonly answers: unknown;
  /** The last value that the sequence gave; a cluster made from the log goes on behind it, if not at the next. */
  readonly sequence: number;
}

export const SETTINGS: Readonly<Record<string, string>> = {
  wal_level: 'replica',
  max_prepared_transactions: '10',
  track_commit_timestamp: 'on',
  autovacuum: 'off',
  wal_keep_size: '4GB',
  max_wal_size: '4GB',
  min_wal_size: '256MB',
  checkpoint_timeout: '1h',
  bgwriter_lru_maxpages: '0',
  timezone: 'UTC',
};

const STAGES: readonly (readonly [name: string, statements: readonly string[]])[] = [
  [
    'tables and indexes',
    [
      'create extension amcheck',
      'create extension bloom',
      'create extension btree_gist',
      'create table a (id int primary key, v text, n int, p point, t tsvector, r int4range)',
      `insert into a select i, repeat(chr(97 + i % 26), i % 90), i * 7919 % 1000, point(i % 100, i / 100),
         to_tsvector('simple', 'w' || i % 50 || ' x' || i % 7), int4range(i, i + i % 10) from generate_series(1, 6000) i`,
      'create index a_n on a (n)',
      'create index a_hash on a using hash (v)',
      'create index a_gin on a using gin (t)',
      'create index a_gist on a using gist (p)',
      'create index a_spgist on a using spgist (r)',
      'create index a_brin on a using brin (id) with (pages_per_range = 2)',
      'create index a_bloom on a using bloom (id, n)',
      `create table big (id int, body text)`,
      `insert into big select i, (select string_agg(md5((i * j)::text), '') from generate_series(1, 300) j) from generate_series(1, 60) i`,
      'create unlogged table u (i int primary key)',
      'insert into u select generate_series(1, 500)',
      'create sequence s increment 3',
      `select nextval('s') from generate_series(1, 100)`,
    ],
  ],
  [
    'changes, after a checkpoint',
    [
      'checkpoint',
      'update a set n = n + 1 where id % 3 = 0',
      `update a set v = v || 'longer' where id % 5 = 0`,
      'delete from a where id % 7 = 0',
      'vacuum a',
      'vacuum (freeze) big',
      `insert into a select i, 'again', i, point(i, i), to_tsvector('simple', 'new' || i), int4range(i, i + 3) from generate_series(10001, 12000) i`,
      'begin; insert into big values (1000, null); savepoint x; delete from big where id < 5; rollback to x; savepoint y; delete from big where id = 10; commit',
      'begin; delete from big; rollback',
      'create table prepared (id int primary key)',
      `begin; insert into prepared values (1); prepare transaction 'half'`,
      `begin; insert into a (id) values (-7); prepare transaction 'done'`,
      `commit prepared 'done'`,
      `do $$ begin
         for i in 1..300 loop
           perform 1 from a where id = i for share;
           begin update a set n = n where id = i and i > 100; exception when others then null; end;
         end loop;
       end $$`,
    ],
  ],
  [
    'cuts, rewrites and databases',
    [
      'delete from a where id > 3000',
      'vacuum a',
      'insert into a (id, v) select i, null from generate_series(20000, 20400) i',
      'vacuum a',
      'create table gone as select generate_series(1, 3000) g',
      'truncate gone',
      'insert into gone values (1)',
      'drop table gone',
      'create table kept as select i, i::text as t from generate_series(1, 4000) i',
      'create index kept_i on kept (i)',
      'truncate kept',
      'insert into kept select i, i::text from generate_series(1, 700) i',
      'vacuum full big',
      'vacuum full pg_class',
      'reindex table a',
      'create database copied template template1',
      'create database dropped',
      'drop database dropped',
    ],
  ],
  [
    'end',
    [
      'create database again',
      `insert into a (id) select i from generate_series(40000, 40050) i`,
      'vacuum (freeze) kept',
      'update kept set i = i + 1',
      `select nextval('s') from generate_series(1, 50)`,
      `rollback prepared 'half'`,
      'analyze',
    ],
  ],
];

const ANSWERS = {
  a: `select count(*), md5(string_agg((id, v, n, p::text, t, r)::text, ',' order by id)) from a`,
  big: `select count(*), md5(string_agg(md5(big::text), ',' order by id)) from big`,
  relations: `select relname, relkind, relpersistence, pg_relation_size(oid) from pg_class where relnamespace = 'public'::regnamespace and relpersistence = 'p' order by 1`,
  kept: `select case when to_regclass('kept') is not null then
           (xpath('/row/x/text()', query_to_xml('select count(*) || '':'' || sum(i) as x from kept', false, true, '')))[1]::text end as kept`,
  databases: 'select datname from pg_database order by 1',
  prepared: 'select gid, transaction::text from pg_prepared_xacts order by 1',
  timestamps: `select count(*), md5(string_agg(pg_xact_commit_timestamp(xmin)::text, ',' order by id)) from a where xmin::text::bigint > 100`,
  locked: 'select count(*) from a where xmax::text::bigint > 0',
} as const;

/** What the server says of everything the stages touched. */
export async function answers(postgres: StockPostgres): Promise<unknown> {
  const said: Record<string, unknown> = {};
  for (const [name, query] of Object.entries(ANSWERS)) said[name] = await postgres.sql(query);
  return said;
}

/** The stages one after the other; `afterEach` may do more before the next. */
export async function runStages(postgres: StockPostgres): Promise<Stage[]> {
  const stages: Stage[] = [];
  for (const [name, statements] of STAGES) {
    for (const statement of statements) await postgres.sql(statement);
    const said = await answers(postgres);
    // Reading prunes and writes; what was said holds before that as well as after.
    const [{ lsn }] = await postgres.sql('select pg_current_wal_insert_lsn() as lsn');
    const [{ value }] = await postgres.sql('select last_value::int as value from s');
    stages.push({ name, lsn, answers: said, sequence: value });
  }
  return stages;
}

/** Everything that can be checked from inside; what is wrong, one line each. */
export async function checkAll(postgres: StockPostgres): Promise<string[]> {
  const wrong: string[] = [];
  const indexes = await postgres.sql(
    `select c.oid, c.relname from pg_class c join pg_am a on a.oid = c.relam where a.amname = 'btree' and c.relkind = 'i' and c.relpersistence <> 't'`,
  );
  for (const { oid, relname } of indexes) {
    await postgres
      .sql(`select bt_index_check(${oid}, true)`)
      .catch((error: Error) => wrong.push(`${relname}: ${error.message}`));
  }
  const rows = await postgres.sql(
    `select c.relname, v.* from pg_class c, lateral verify_heapam(c.oid, on_error_stop => false, check_toast => true) v
     where c.relkind in ('r', 't', 'm') and c.relpersistence <> 't'`,
  );
  for (const row of rows) wrong.push(JSON.stringify(row));
  return wrong;
}
