// Work that makes Postgres write every page-changing record of GIN, GiST and SP-GiST, in all the shapes their redo
// tells apart: posting trees split in the middle and vacuumed to pieces, pending lists with rows too large for a
// page, killed items, deleted and reused pages, chains of dead tuples, redirects, nulls.

import { onIndexes, quietly, type Sql } from './statements.ts';

export async function ginWorkload(sql: Sql): Promise<void> {
  await postingTrees(sql);
  await pendingLists(sql);
  await entryTrees(sql);
}

/** Posting trees: filled in the middle, emptied page by page. */
async function postingTrees(sql: Sql): Promise<void> {
  await quietly(sql, [
    `create table g1 (id int, a int[], pad text) with (fillfactor = 50)`,
    `insert into g1 select i, array[1, 100 + i % 7], '' from generate_series(1, 30000) i`,
    `create index on g1 using gin (a) with (fastupdate = off)`,
  ]);
  await onIndexes(sql, [
    `update g1 set a = array[1, 200 + id % 5] where id % 4 = 0`,
    `delete from g1 where id between 5000 and 21000`,
    `vacuum g1`,
    `delete from g1 where id % 5 = 0`,
    `vacuum g1`,
    `insert into g1 select i, array[1, 5, 100 + i % 7], '' from generate_series(1, 500) i`,
  ]);
}

/** Pending lists: tails that take tuples, rows with a list of their own, the clean-up. */
async function pendingLists(sql: Sql): Promise<void> {
  await quietly(sql, [
    `create table g2 (id int, a int[])`,
    `insert into g2 select i, array[7] from generate_series(1, 6000) i`,
    `create index g2a on g2 using gin (a) with (fastupdate = on, gin_pending_list_limit = 64)`,
  ]);
  await onIndexes(sql, [
    `insert into g2 select i, array[7, 8] from generate_series(1, 5000) i`,
    `insert into g2 select i, (select array_agg(j) from generate_series(i * 1000, i * 1000 + 3000) j)
       from generate_series(1, 4) i`,
    `insert into g2 select i, array[9, i % 3, i] from generate_series(1, 50) i`,
    `insert into g2 select i, (select array_agg(j) from generate_series(i * 900, i * 900 + 1500) j)
       from generate_series(1, 2) i`,
    `select gin_clean_pending_list('g2a')`,
    `delete from g2 where id % 2 = 0`,
    `vacuum g2`,
  ]);
}

/** Entry trees: keys so long that inner pages split, posting lists that vacuum shortens, nulls and empty arrays. */
async function entryTrees(sql: Sql): Promise<void> {
  await onIndexes(sql, [
    `create table g3 (id int, a text[])`,
    `create index on g3 using gin (a) with (fastupdate = off)`,
    `insert into g3 select i, array[string_agg(md5((i * 100 + k)::text), '')]
       from generate_series(1, 200) i, generate_series(1, 40) k group by i`,
    `insert into g3 select i, array[md5(i::text), 'z' || i % 50] from generate_series(1, 1500) i`,
    `delete from g3 where id % 3 <> 0`,
    `vacuum g3`,
    `insert into g3 select i, array['hot', 'z' || i % 90, null] from generate_series(1, 600) i`,
    `insert into g3 values (1, null), (2, '{}')`,
  ]);
}

export async function gistWorkload(sql: Sql): Promise<void> {
  await onIndexes(sql, [
    `create table t1 (id int, p point)`,
    `create index on t1 using gist (p)`,
    `insert into t1 select i, point(random() * 1000, random() * 1000) from generate_series(1, 5000) i`,
    `delete from t1 where id % 3 = 0`,
    `vacuum t1`,
    `delete from t1 where p <@ box '((100,100),(700,900))'`,
    `vacuum t1`,
    // Deleted pages may be used again once no snapshot is as old as their deletion.
    `select txid_current()`,
    `select txid_current()`,
    `vacuum t1`,
    `vacuum t1`,
    `insert into t1 select i, point(100 + random() * 600, 100 + random() * 600)
       from generate_series(20001, 24000) i`,
  ]);
  await wideGistKeys(sql);
}

/** An index scan finds deleted rows' items dead and marks them; insertions into full pages prune those. */
export async function gistPruneWorkload(sql: Sql): Promise<void> {
  await onIndexes(sql, [
    `create table t4 (id int, p point)`,
    `create index on t4 using gist (p)`,
    `insert into t4 select i, point(random() * 1000, random() * 1000) from generate_series(1, 1500) i`,
    `delete from t4 where id % 3 = 0`,
    `set enable_seqscan = off`,
    `set enable_bitmapscan = off`,
    `select count(*) from t4 where p <@ box '((0,0),(1000,1000))'`,
    `insert into t4 select i, point(random() * 1000, random() * 1000) from generate_series(1501, 2300) i`,
    `vacuum t4`,
  ]);
}

/** Keys so wide that inner pages split too, and deep. */
async function wideGistKeys(sql: Sql): Promise<void> {
  await onIndexes(sql, [
    `create extension btree_gist`,
    `create extension pg_trgm`,
    `create table t2 (id int, s text)`,
    `create index on t2 using gist (s gist_trgm_ops(siglen = 1000))`,
    `insert into t2 select i, md5(i::text) || md5((i * 5)::text) from generate_series(1, 700) i`,
    `update t2 set s = s || 'abc' where id % 3 = 0`,
    `vacuum t2`,
    `create table t3 (s text)`,
    `create index on t3 using gist (s)`,
    `insert into t3 select string_agg(md5((i * 100 + k)::text), '')
       from generate_series(1, 200) i, generate_series(1, 50) k group by i`,
    `insert into t3 select 'a' || i from generate_series(1, 500) i`,
    `delete from t3 where length(s) > 100`,
    `vacuum t3`,
  ]);
}

export async function spgistWorkload(sql: Sql): Promise<void> {
  await radixTree(sql);
  for (const opclass of ['quad_point_ops', 'kd_point_ops']) await pointTree(sql, opclass);
  await onIndexes(sql, [
    `create table s5 (id int, t text, x int)`,
    `create index on s5 using spgist (t) include (x, id)`,
    `insert into s5 select i, 'k' || md5(i::text), nullif(i % 3, 0) from generate_series(1, 1000) i`,
    `delete from s5 where id % 2 = 1`,
    `vacuum s5`,
  ]);
}

async function radixTree(sql: Sql): Promise<void> {
  await onIndexes(sql, [
    `create table s1 (id int, t text)`,
    `create index on s1 using spgist (t)`,
    // The root is a leaf still.
    `insert into s1 values (0, null), (1, 'a'), (2, 'b')`,
    `delete from s1`,
    `vacuum s1`,
    `insert into s1 select i, md5(i::text) from generate_series(1, 1500) i`,
    `insert into s1 select i, 'common/prefix/' || i % 50 || '/' || md5(i::text) from generate_series(1, 1500) i`,
    `insert into s1 select i, chr(32 + i % 90) || chr(33 + (i / 90) % 90) || chr(40 + i % 80)
       || repeat('q', i % 200) || i from generate_series(1, 6000) i`,
    `insert into s1 select i, repeat('long', 200) || substr(md5(i::text), 1, 3) || repeat('x', i % 50)
       || md5((i + 7)::text) from generate_series(1, 800) i`,
    `insert into s1 select i, 'common/pre' || chr(1 + i % 255) || i from generate_series(1, 1000) i`,
    `insert into s1 select i, null from generate_series(1, 1500) i`,
    `delete from s1 where id % 3 = 0`,
    `vacuum s1`,
    `insert into s1 select i, 'common/prefix/' || i % 50 || '/' || md5((i + 50000)::text)
       from generate_series(1, 1000) i`,
    `insert into s1 select i, chr(32 + i % 90) || chr(33 + (i / 90) % 90) || i from generate_series(1, 2500) i`,
    `delete from s1 where id % 5 in (1, 2, 3)`,
    `vacuum s1`,
    `insert into s1 select i, md5(i::text) from generate_series(1, 1000) i`,
    `vacuum s1`,
  ]);
}

async function pointTree(sql: Sql, opclass: string): Promise<void> {
  const table = `s_${opclass}`;
  await onIndexes(sql, [
    `create table ${table} (id int, p point)`,
    `create index on ${table} using spgist (p ${opclass})`,
    `insert into ${table} select i, point(i, i) from generate_series(1, 40) i`,
    `delete from ${table} where id % 2 = 0`,
    `vacuum ${table}`,
    `insert into ${table} select i, point(random() * 1000, random() * 1000) from generate_series(1, 2500) i`,
    `insert into ${table} select i, point(5, 5) from generate_series(1, 700) i`,
    `insert into ${table} select i, null from generate_series(1, 300) i`,
    `delete from ${table} where id % 3 = 0`,
    `vacuum ${table}`,
    `insert into ${table} select i, point(random() * 1000, random() * 1000) from generate_series(1, 1000) i`,
    `delete from ${table} where p[0] < 400`,
    `vacuum ${table}`,
    `insert into ${table} select i, point(random() * 1000, random() * 1000) from generate_series(1, 1500) i`,
    `vacuum ${table}`,
  ]);
}
