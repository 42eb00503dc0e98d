// Work that makes Postgres write every page-changing record of B-trees and hash indexes, in the shapes their redo
// tells apart: trees so deep that whole subtrees are deleted and pages used again, a tree whose root has one child
// left, posting lists split, shortened and merged, buckets with chains of overflow pages emptied in all manners.

import { onIndexes, quietly, range, type Sql } from './statements.ts';

export async function btreeWorkload(sql: Sql): Promise<void> {
  await deepTree(sql);
  await duplicates(sql);
  await churn(sql);
}

/** Rows of 2,500 bytes, three to a page: a few hundred make four levels. */
async function deepTree(sql: Sql): Promise<void> {
  await quietly(sql, [
    `create function fat(n int) returns text language sql immutable as $$
       select substr(lpad(n::text, 9, '0') || (select string_agg(md5(n::text || i), '')
                                                 from generate_series(1, 80) i), 1, 2500) $$`,
    'create table big (id int, t text)',
    'alter table big alter t set storage plain',
  ]);
  const fill = (from: number, to: number, step = 1): string =>
    `insert into big select i, fat(i) from generate_series(${from}, ${to}, ${step}) i`;
  const later = ['select txid_current()', 'select txid_current()', 'vacuum big'];
  await onIndexes(sql, [
    'create index big_t on big (t)',
    fill(1, 300),
    fill(700, 560, -1),
    fill(400, 540),
    // Whole subtrees go, and their pages come back.
    'delete from big where id between 40 and 280',
    'vacuum big',
    ...later,
    fill(50, 150),
    // The root keeps one child: the fast root lies below it, until it splits.
    'delete from big where id > 3',
    'vacuum big',
    ...later,
    fill(701, 725),
    'delete from big',
    'vacuum big',
    ...later,
    fill(1, 40),
  ]);
}

/** Posting lists. */
async function duplicates(sql: Sql): Promise<void> {
  await quietly(sql, [
    'create table dup (k int, v int) with (fillfactor = 50)',
    'create index dup_k on dup (k)',
    'create index dup_kv on dup (k, v)',
    'create unique index dup_v on dup (v)',
    'insert into dup select i % 7, i from generate_series(1, 6000) i',
    'delete from dup where v % 5 = 0',
  ]);
  await onIndexes(sql, [
    'vacuum dup',
    'insert into dup select i % 7, i from generate_series(6001, 9000) i',
    'update dup set v = v + 100000 where k = 3',
    'delete from dup where v % 3 = 0',
    'set enable_seqscan = off',
    'set enable_bitmapscan = off',
    ...range(7).map(k => `select count(v) from dup where k = ${k}`),
    ...range(7).map(k => `select count(v) from dup where k = ${k} and v > 0`),
    'insert into dup select i % 7, i from generate_series(20001, 22000) i',
    'reset enable_seqscan',
    'reset enable_bitmapscan',
    'vacuum dup',
    'delete from dup where v < 15000',
    'vacuum dup',
    'select txid_current()',
    'vacuum dup',
    'insert into dup select i % 7, i from generate_series(30001, 32000) i',
  ]);
}

/** Versions of the same rows over and over: deletion from the bottom up. */
async function churn(sql: Sql): Promise<void> {
  await quietly(sql, [
    'create table churn (id int primary key, n int, m int)',
    'create index churn_m on churn (m)',
    'create index churn_n on churn (n)',
    'insert into churn select i, 0, i % 10 from generate_series(1, 300) i',
  ]);
  await onIndexes(sql, [
    ...range(12).map(i => `update churn set n = ${i + 1}`),
    'delete from churn where id % 2 = 0',
    'vacuum churn',
  ]);
}

export async function hashWorkload(sql: Sql): Promise<void> {
  await buckets(sql);
  await chains(sql);
  await killed(sql);
  await untouched(sql);
}

/** Buckets that split; an index of an unlogged table logs its initial fork. */
async function buckets(sql: Sql): Promise<void> {
  await onIndexes(sql, [
    'create table h (k int, v int)',
    'create index h_k on h using hash (k)',
    'create unlogged table hu (k int)',
    'create index hu_k on hu using hash (k)',
    'insert into h select i, i from generate_series(1, 2500) i',
  ]);
  // More than 512 buckets to begin with: splitpoints in phases.
  await quietly(sql, [
    'insert into h select i, i from generate_series(10001, 30000) i',
    'create table hw as select i as k from generate_series(1, 30000) i',
    'create index hw_k on hw using hash (k) with (fillfactor = 10)',
  ]);
}

/** One key in a chain of overflow pages, emptied in several densities. */
async function chains(sql: Sql): Promise<void> {
  const more = (count: number): string => `insert into h select 77, i from generate_series(1, ${count}) i`;
  await quietly(sql, [more(5000)]);
  await onIndexes(sql, ['insert into h select 78, i from generate_series(1, 900) i']);
  for (const gone of ['v % 3 <> 0', 'v % 10 <> 0', 'v < 2500', 'v > 1500']) {
    await onIndexes(sql, [`delete from h where k = 77 and ${gone}`, 'vacuum h']);
    await quietly(sql, [more(2500)]);
  }
  await onIndexes(sql, [
    'delete from h where v % 4 = 1',
    'vacuum h',
    'insert into h select i, i from generate_series(40001, 40400) i',
    'delete from h',
    'vacuum h',
    'insert into h select i, i from generate_series(1, 300) i',
  ]);
}

/** Dead items that a scan has marked, removed by the next insertion into their page. */
async function killed(sql: Sql): Promise<void> {
  await quietly(sql, [
    'create table hv (k int, v int)',
    'create index hv_k on hv using hash (k)',
    'insert into hv select i % 4, i from generate_series(1, 1500) i',
    'delete from hv where v % 2 = 0',
  ]);
  await onIndexes(sql, [
    'set enable_seqscan = off',
    'set enable_bitmapscan = off',
    ...range(8).map(k => `select count(v) from hv where k = ${k % 4}`),
    'insert into hv select i % 4, i from generate_series(1, 1200) i',
    'reset enable_seqscan',
    'reset enable_bitmapscan',
    'vacuum hv',
  ]);
}

/** A primary page that stays full while its chain is squeezed: named by records that leave it, and its LSN, alone. */
async function untouched(sql: Sql): Promise<void> {
  await onIndexes(sql, [
    'create table hz (k int, v int)',
    'create index hz_k on hz using hash (k)',
    'insert into hz select 1, i from generate_series(1, 1300) i',
    'delete from hz where v between 500 and 900',
    'vacuum hz',
  ]);
}

/** More of the same with full_page_writes on: images to restore after each checkpoint, and none to verify. */
export async function imagesWorkload(sql: Sql): Promise<void> {
  const work = [
    'insert into dup select i % 7, i from generate_series(40001, 41000) i',
    'delete from dup where v % 2 = 0',
    'vacuum dup',
    'insert into h select i, i from generate_series(50001, 51500) i',
    'insert into h select 77, i from generate_series(1, 1500) i',
    'delete from h where v % 3 <> 0',
    'vacuum h',
    'insert into big select i, fat(i) from generate_series(100, 200) i',
    'delete from big where id between 110 and 190',
    'vacuum big',
  ];
  for (const statement of work) await quietly(sql, [statement, 'checkpoint']);
}
