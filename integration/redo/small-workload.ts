// Work that makes Postgres write every record of BRIN, sequences and generic records (bloom indexes): summaries
// that outgrow their page, the reverse map extended over regular pages, ranges summarized and desummarized.

import { all, type Sql } from './statements.ts';

export async function brinWorkload(sql: Sql): Promise<void> {
  await all(sql, [
    'create table b (id int, v text, n int) with (fillfactor = 10)',
    'insert into b select i, repeat(chr(97 + i % 26), 40), i % 100 from generate_series(1, 9000) i',
    'create index by_id on b using brin (id) with (pages_per_range = 1)',
    'create index by_v on b using brin (v) with (pages_per_range = 1)',
    'create index by_n on b using brin (n int4_minmax_multi_ops) with (pages_per_range = 4)',
    'create index by_v_bloom on b using brin (v text_bloom_ops) with (pages_per_range = 32)',
    'update b set v = repeat(v, 1 + id % 30) where id % 3 = 0',
    `insert into b select i, 'tail', i from generate_series(9001, 9900) i`,
    'vacuum b',
    `select brin_desummarize_range('by_id', k) from generate_series(10, 60, 5) k`,
    `select brin_summarize_new_values('by_id')`,
  ]);
}

export async function bloomWorkload(sql: Sql): Promise<void> {
  await all(sql, [
    'create extension bloom',
    'create index by_bloom on b using bloom (id, n)',
    `insert into b select i, 'bloom', i from generate_series(20000, 22000) i`,
    'delete from b where id % 5 = 0',
    'vacuum b',
  ]);
}

export async function sequenceWorkload(sql: Sql): Promise<void> {
  await all(sql, [
    'create sequence q increment 7 cache 1',
    `do $$ begin for i in 1..500 loop perform nextval('q'); end loop; end $$`,
    `select setval('q', 4711)`,
    'alter sequence q restart with 3',
    'create table qu (id serial, w int generated always as identity)',
    'insert into qu select from generate_series(1, 200)',
    'drop table qu',
  ]);
}
