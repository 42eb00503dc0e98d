// Work that makes Postgres write every record of Heap and Heap2 in the shapes their redo tells apart: updates that
// borrow beginnings and ends, speculative insertions kept and withdrawn, rows that change partition, locks of every
// strength by several sessions at once, chains pruned, vacuumed and frozen, catalogs rewritten under a slot.
//
// Two acts, for wal_level decides what updates carry: `plainWorkload` under `replica`, `logicalWorkload` under
// `logical`. One combination is left alone, because Postgres's own recovery calls it inconsistent: locking a frozen
// tuple that an aborted transaction has left with a combo command id (replay takes HEAP_COMBOCID off, the original
// keeps it, and the mask does not hide it).

import type { Client } from 'pg';
import { all, type Sql, sqlOf } from './statements.ts';

export async function plainWorkload(client: Client, others: readonly Client[], home: string): Promise<void> {
  const sql = sqlOf(client);
  await updates(sql);
  await chains(sql);
  await copies(sql, home);
  await conflicts(sql, others.map(sqlOf));
  const [a, b, c] = others.map(sqlOf) as [Sql, Sql, Sql];
  await locks(sql, a, b, c);
}

export async function logicalWorkload(client: Client, home: string): Promise<void> {
  const sql = sqlOf(client);
  await all(sql, [
    // Old tuples and keys in the records; multi-inserts that tell the last of theirs.
    'create table l (id int primary key, v text) with (fillfactor = 60)',
    "insert into l select g, repeat('l', g % 90) from generate_series(1, 800) g",
    'vacuum l',
    'update l set v = v || id where id % 3 = 0',
    'update l set id = id + 10000 where id % 7 = 0',
    'delete from l where id % 5 = 0',
    'alter table l replica identity full',
    "update l set v = v || 'full' where id % 2 = 0",
    'delete from l where id % 11 = 0',
    `copy (select g, 'c' from generate_series(1, 900) g) to '${home}/l.txt'`,
    'create table lc (a int, b text)',
    `copy lc from '${home}/l.txt'`,
    'vacuum freeze lc',
    // TRUNCATE is logged under `logical` alone.
    'create table tr1 (id serial primary key)',
    'create table tr2 (id int references tr1)',
    'insert into tr1 default values',
    'truncate tr1 cascade',
    'truncate tr1 restart identity cascade',
    'truncate tr2',
    // A slot holds the catalogs' horizon back, so rewriting them logs mappings.
    `select pg_create_logical_replication_slot('rewrite', 'pgoutput')`,
    ...Array.from({ length: 12 }, (_, i) => `create table cat${i} (a int primary key, b text)`),
    ...Array.from({ length: 6 }, (_, i) => `drop table cat${2 * i}`),
    'vacuum full pg_class',
    'vacuum full pg_attribute',
    'create table after_rewrite (a int)',
    'analyze',
    `select pg_drop_replication_slot('rewrite')`,
  ]);
}

async function updates(sql: Sql): Promise<void> {
  await all(sql, [
    `create table t (id int primary key, a int, b text, c numeric, d timestamptz, e text) with (fillfactor = 70)`,
    `insert into t select g, g % 10, repeat('x', g % 50), case when g % 3 = 0 then null else g end, '2020-01-01',
       repeat('y', g % 7) from generate_series(1, 4000) g`,
    'vacuum t',
    'update t set a = a + 1 where id % 3 = 0',
    `update t set b = b || 'z' where id % 5 = 0`,
    `update t set e = 'changed ' || id where id % 11 = 0`,
    'delete from t where id % 7 = 0',
    'vacuum t',
    `update t set b = overlay(b placing 'Q' from 3) where id % 4 = 0`,
    `update t set b = '', e = null where id % 13 = 0`,
    'vacuum freeze t',
    'update t set id = id + 10000 where id % 17 = 0',
    'delete from t where id % 19 = 0',
    'vacuum t',
    // The first byte of a row differs and the rest does not.
    'create table s (n int, w text) with (fillfactor = 50)',
    "insert into s select g, repeat('s', 30) from generate_series(1, 300) g",
    'update s set n = n + 1',
    // Tables of one column kind, and values out of line.
    'create table narrow (a bool, b "char", c int2)',
    `insert into narrow select g % 2 = 0, 'a', g from generate_series(1, 3000) g`,
    'vacuum narrow',
    'update narrow set c = c + 1 where c % 10 = 0',
    'delete from narrow where c % 4 = 1',
    'vacuum narrow',
    'create table big (id int, t text)',
    'alter table big alter t set storage external',
    'insert into big select g, repeat(md5(g::text), 300) from generate_series(1, 40) g',
    `update big set t = t || 'tail' where id % 2 = 0`,
    'delete from big where id % 5 = 0',
    'vacuum big',
    // Rows that change partition.
    'create table p (k int, v text) partition by range (k)',
    'create table p1 partition of p for values from (0) to (100)',
    'create table p2 partition of p for values from (100) to (200)',
    `insert into p select g, 'v' from generate_series(0, 199) g`,
    'update p set k = k + 100 where k < 50',
  ]);
}

/** HOT chains pruned on access and by vacuum, and pages that lose their last line pointers. */
async function chains(sql: Sql): Promise<void> {
  const churn = Array.from({ length: 8 }, (_, i) => [
    `update h set v = v + 1 where k % 3 = ${i % 3}`,
    'select count(*) from h where v > 0',
  ]).flat();
  await all(sql, [
    'create table h (k int primary key, v int, w text) with (fillfactor = 50)',
    `insert into h select g, 0, repeat('w', 20) from generate_series(1, 2000) g`,
    ...churn,
    'delete from h where k % 5 = 0',
    'vacuum h',
    'update h set v = v + 1',
    'select sum(v) from h',
    'vacuum (freeze) h',
    'create table z (k int, v text)',
    `insert into z select g, repeat('z', 100) from generate_series(1, 2000) g`,
    'create index on z (k)',
    'delete from z where k % 71 > 20',
    'vacuum z',
    `insert into z select g, 'again' from generate_series(1, 500) g`,
    'delete from z where k < 400',
    'vacuum z',
    `insert into z select g, 'third' from generate_series(1, 900) g`,
    'vacuum freeze z',
    'analyze z',
  ]);
}

async function copies(sql: Sql, home: string): Promise<void> {
  await all(sql, [
    'create table c (a int, b text)',
    `copy (select g, repeat('c', g % 40) from generate_series(1, 5000) g) to '${home}/c.txt'`,
    `copy c from '${home}/c.txt'`,
    'vacuum c',
    'delete from c where a % 3 = 0',
    'vacuum c',
    `copy c from '${home}/c.txt'`,
    'begin',
    'create table frozen (a int, b text)',
    `copy frozen from '${home}/c.txt' with (freeze)`,
    'commit',
    'update frozen set b = b || b where a % 50 = 0',
  ]);
}

/** Sessions that insert the same keys at once; a slow index expression makes them collide behind the check. */
async function conflicts(sql: Sql, sessions: readonly Sql[]): Promise<void> {
  await all(sql, [
    'create table oc (k int primary key, v int)',
    'insert into oc select g, 0 from generate_series(1, 100) g',
    'insert into oc select g, 1 from generate_series(50, 300) g on conflict (k) do update set v = excluded.v',
    `create function slow(int) returns int immutable language plpgsql as
       $$ begin perform pg_sleep(0.003); return $1; end $$`,
    'create table sp (k int, v int)',
    'create unique index on sp (slow(k))',
  ]);
  for (let i = 0; i < 20; i++) {
    const insert = `insert into sp values (${i}, 0) on conflict (slow(k)) do update set v = sp.v + 1`;
    await Promise.all(sessions.map(session => session(insert)));
  }
}

async function locks(sql: Sql, a: Sql, b: Sql, c: Sql): Promise<void> {
  await all(sql, [
    'create table k (id int primary key, v int, w int)',
    'insert into k select g, 0, 0 from generate_series(1, 500) g',
    'vacuum freeze k',
  ]);
  await all(a, ['begin', 'update k set v = v + 1 where id <= 50']);
  await all(b, [
    'begin',
    'select * from k where id <= 50 for key share',
    'select * from k where id between 51 and 90 for share',
  ]);
  await all(c, [
    'begin',
    'select * from k where id between 51 and 90 for key share',
    'select * from k where id between 51 and 60 for share',
    'select * from k where id <= 30 for key share',
  ]);
  await a('commit');
  await b('commit');
  await c('rollback');
  await all(a, [
    'begin',
    'select * from k where id between 100 and 160 for update',
    'select * from k where id between 161 and 190 for no key update',
    'update k set v = v + 1 where id between 100 and 120',
    'delete from k where id between 130 and 135',
    'commit',
    'begin',
    'update k set id = id + 1000 where id between 200 and 230',
    'rollback',
  ]);
  // Multixacts made and frozen.
  await all(a, ['begin', 'select * from k for key share']);
  await all(b, ['begin', 'select * from k for key share', 'update k set v = 11 where id % 4 = 0']);
  await a('commit');
  await b('commit');
  await all(sql, ['vacuum freeze k', 'select * from k for share', 'vacuum k']);
  await laterVersions(sql, a, b);
  // Command ids that are combined, on tuples nobody freezes.
  await all(sql, [
    'create table combo (id int primary key, v int)',
    'insert into combo select g, 0 from generate_series(1, 50) g',
  ]);
  await all(a, ['begin', 'update combo set v = 1', 'update combo set v = 2', 'update combo set v = 3']);
  await all(b, ['begin', 'select * from combo for key share', 'commit']);
  await a('commit');
}

/** Later versions locked on pages of their own: rows too wide for the new one to stay beside the old. */
async function laterVersions(sql: Sql, a: Sql, b: Sql): Promise<void> {
  await all(sql, [
    'create table v (id int primary key, n int, pad text)',
    `insert into v select g, 0, repeat('p', 900) from generate_series(1, 80) g`,
  ]);
  await all(a, ['begin', 'update v set n = n + 1 where id % 8 = 0']);
  await all(b, ['begin', 'select * from v where id % 8 = 0 for key share', 'commit']);
  await a('commit');
  await sql('vacuum freeze v');
}
