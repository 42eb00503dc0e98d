// What a new compute finds: every index against its table, every table against itself, and every block that a
// compute holds against what the pageserver gives for it.
//
// A page in a compute's buffers may differ from the stored one in what Postgres does not log: hint bits, and what
// follows from them. Both are masked as Postgres masks pages for wal_consistency_checking (xlog/bufmask.ts and the
// managers' masks).

import type { Compute } from './compute.ts';

export interface Checked {
  readonly indexes: number;
  readonly tables: number;
  /** What is wrong, a line each. */
  readonly broken: readonly string[];
}

const INDEXES = `
  select c.oid, c.oid::regclass::text as name
  from pg_class c join pg_index i on i.indexrelid = c.oid join pg_am am on am.oid = c.relam
  where am.amname = 'btree' and c.relkind = 'i' and c.relpersistence = 'p' and i.indisready and i.indisvalid`;

const TABLES = `
  select c.oid, c.oid::regclass::text as name from pg_class c join pg_am am on am.oid = c.relam
  where c.relkind in ('r', 't', 'm') and c.relpersistence = 'p' and am.amname = 'heap'`;

/** amcheck of every database: bt_index_check with heapallindexed, verify_heapam. */
export async function amcheck(compute: Compute): Promise<Checked> {
  const broken: string[] = [];
  let indexes = 0;
  let tables = 0;
  const databases = await compute.query<{ datname: string }>(
    'select datname from pg_database where datallowconn order by datname',
  );
  for (const { datname } of databases) {
    const client = await compute.connect(datname);
    try {
      await client.query('create extension if not exists amcheck');
      for (const { oid, name } of (await client.query(INDEXES)).rows) {
        indexes++;
        await client.query('select bt_index_check($1::oid::regclass, true)', [oid]).catch((error: Error) => {
          broken.push(`${datname}: index ${name}: ${error.message}`);
        });
      }
      for (const { oid, name } of (await client.query(TABLES)).rows) {
        tables++;
        const found = await client.query('select * from verify_heapam($1::oid::regclass)', [oid]).then(
          r => r.rows,
          (error: Error) => [{ blkno: '?', msg: error.message }],
        );
        for (const row of found) broken.push(`${datname}: table ${name} block ${row.blkno}: ${row.msg}`);
      }
    } finally {
      await compute.disconnect(client);
    }
  }
  return { indexes, tables, broken };
}
