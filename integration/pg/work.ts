// Work of every kind that leaves traces in storage, in rounds, and a digest of everything that it left: who restarts a
// compute, makes a branch or reads at an old LSN compares digests.

import type { Compute } from './compute.ts';

const SETUP = `
  create extension if not exists bloom;
  create extension if not exists btree_gist;
  create table heap (id int primary key, k int, t text, v numeric, fat text);
  alter table heap alter fat set storage external;
  create index on heap using hash (k);
  create index on heap using brin (id);
  create index on heap using bloom (k, id);
  create index on heap (t, v) include (k);
  create table words (id int primary key, doc tsvector, tags int[], js jsonb);
  create index on words using gin (doc);
  create index on words using gin (tags) with (fastupdate = off);
  create index on words using gin (js jsonb_path_ops);
  create table shapes (id int primary key, p point, b box, r int4range, exclude using gist (r with &&));
  create index on shapes using gist (p);
  create index on shapes using spgist (p);
  create index on shapes using spgist (b);
  create unlogged table volatile (id int primary key, t text);
  create table parted (id int, t text) partition by hash (id);
  create table parted0 partition of parted for values with (modulus 2, remainder 0);
  create table parted1 partition of parted for values with (modulus 2, remainder 1);
  create table family (id int primary key, parent int references family);
  create sequence counter;
  create materialized view summary as select count(*) as n, sum(k) as s from heap;
  create table blobs (round int, loid oid);
`;

/** One round; each leaves something for the next to change. */
function round(n: number): string[] {
  const [from, to] = [n * 3000 + 1, (n + 1) * 3000];
  return [
    `insert into heap select i, i % 97, 'row ' || i, i * 1.5, repeat(md5(i::text), (i % 150)) from generate_series(${from}, ${to}) i`,
    `update heap set k = k + 1, t = t || '!' where id % 7 = ${n % 7}`,
    `delete from heap where id % 11 = ${n % 11} and id > ${from - 3000}`,
    `insert into words select i, to_tsvector('simple', md5(i::text) || ' w' || i % 50), array[i % 13, i % 29], jsonb_build_object('a', i % 17, 'b', md5(i::text)) from generate_series(${from}, ${to}, 5) i`,
    `update words set tags = tags || ${n} where id % 3 = 0`,
    `insert into shapes select i, point(i % 100, i / 100), box(point(i, i), point(i + 1, i + 2)), int4range(i * 10, i * 10 + 5) from generate_series(${from}, ${to}, 3) i`,
    `delete from shapes where id % 5 = ${n % 5}`,
    `insert into volatile select i, 'gone after a crash' from generate_series(${from}, ${to}) i`,
    `insert into parted select i, 'p' || i from generate_series(${from}, ${to}, 2) i`,
    `insert into family select i, null from generate_series(${from}, ${from + 100}) i`,
    `insert into family select i + 500, i from generate_series(${from}, ${from + 100}) i`,
    `select nextval('counter') from generate_series(1, 50)`,
    // Subtransactions, many enough to overflow.
    `do $$ begin for i in 1..100 loop begin insert into family values (${from} + 1000 + i, null); exception when others then null; end; end loop; end $$`,
    `insert into blobs select ${n}, lo_from_bytea(0, decode(repeat('ab', 5000 + ${n}), 'hex'))`,
    `begin; insert into family values (${from} + 1500, null); prepare transaction 'p${n}'`,
    `begin; insert into family values (${from} + 1501, null); prepare transaction 'q${n}'`,
    `commit prepared 'p${n}'`,
    `rollback prepared 'q${n}'`,
    `begin; insert into heap select i, 0, 'never', 0, '' from generate_series(${to} + 1, ${to} + 500) i; rollback`,
    'vacuum heap',
    'refresh materialized view summary',
    ...(n % 3 === 0 ? ['vacuum full words', 'reindex table heap', 'cluster shapes using shapes_pkey'] : []),
    ...(n % 3 === 1 ? ['truncate volatile', 'vacuum (freeze) heap', 'analyze'] : []),
    ...(n % 3 === 2 ? ['alter table heap alter column v type numeric(20, 3)', 'checkpoint'] : []),
    ...databases(n),
  ];
}

function databases(n: number): string[] {
  const strategy = n % 2 === 0 ? 'wal_log' : 'file_copy';
  return [
    `create database d${n} template template0 strategy ${strategy}`,
    ...(n >= 2 ? [`drop database d${n - 2}`] : []),
  ];
}

export async function setUp(compute: Compute): Promise<void> {
  await compute.query(SETUP);
}

export async function work(compute: Compute, n: number): Promise<void> {
  const client = await compute.connect();
  try {
    for (const sql of round(n)) {
      await client.query(sql.startsWith('begin;') ? 'begin' : sql);
      if (!sql.startsWith('begin;')) continue;
      for (const part of sql.slice(6).split(';')) await client.query(part);
    }
    await lockTogether(compute, n);
    await compute.query(
      `create table t${n} as select i, md5(i::text) from generate_series(1, 500) i`,
      [],
      `d${n}`,
    );
  } finally {
    await compute.disconnect(client);
  }
}

/** Several lockers of one row make a multixact. */
async function lockTogether(compute: Compute, n: number): Promise<void> {
  const clients = await Promise.all([compute.connect(), compute.connect(), compute.connect()]);
  try {
    for (const [i, client] of clients.entries()) {
      await client.query('begin');
      await client.query(
        `select * from family where id <= ${n * 3000 + 40} for ${i === 2 ? 'key share' : 'share'}`,
      );
    }
    await clients[0]!.query(`savepoint s; select * from family where id <= ${n * 3000 + 20} for share`);
    for (const client of clients) await client.query('commit');
  } finally {
    for (const client of clients) await compute.disconnect(client);
  }
}

/** Every row of every permanent table of every database, sequences and large objects, as one text for comparison. */
export async function digest(compute: Compute): Promise<string> {
  const lines: string[] = [];
  const databases = await compute.query<{ datname: string }>(
    "select datname from pg_database where datallowconn and datname <> 'template1' order by 1",
  );
  for (const { datname } of databases) {
    const client = await compute.connect(datname);
    try {
      const tables = await client.query(
        `select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'm') and c.relpersistence = 'p' and n.nspname = 'public' order by 1`,
      );
      for (const { name } of tables.rows) {
        const { rows } = await client.query(
          `select count(*) as n, coalesce(md5(string_agg(md5(x::text), '' order by md5(x::text))), '') as h from ${name} x`,
        );
        lines.push(`${datname}.${name} ${rows[0].n} ${rows[0].h}`);
      }
      const { rows } = await client.query(
        `select count(*) as n, coalesce(md5(string_agg(loid || ':' || pageno || md5(data), '' order by loid, pageno)), '') as h from pg_largeobject`,
      );
      lines.push(`${datname} large objects ${rows[0].n} ${rows[0].h}`);
    } finally {
      await compute.disconnect(client);
    }
  }
  return lines.join('\n');
}
