// What a new compute finds: every index against its table, every table against itself, and every block that a
// compute holds against what the pageserver gives for it.
//
// A page in a compute's buffers may differ from the stored one in what Postgres does not log: hint bits, and what
// follows from them. Both are masked as Postgres masks pages for wal_consistency_checking (xlog/bufmask.ts and the
// managers' masks).

import type { Dialect } from '../../src/xlog/dialect.ts';
import { pageOver } from '../../src/xlog/page.ts';
import { pageKind, RMID_OF_KIND } from '../../src/xlog/page-kind.ts';
import { maskPage } from '../../src/xlog/rmgr.ts';
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

export interface PagesCompared {
  readonly pages: number;
  /** `database.relation block`, and where the first difference is. */
  readonly different: readonly string[];
}

const RELATIONS = `
  select c.oid::regclass::text as name, pg_relation_filenode(c.oid)::text as node,
         case when c.reltablespace = 0 then 1663 else c.reltablespace end::text as space,
         case when c.relisshared then 0 else d.oid end::text as db,
         (pg_relation_size(c.oid) / 8192)::int as blocks
  from pg_class c, pg_database d
  where d.datname = current_database() and c.relkind in ('r', 't', 'm', 'i', 'S') and c.relpersistence = 'p'
    and pg_relation_filenode(c.oid) is not null`;

/** Every block of every relation of a database: the compute's own, through its buffers, and the pageserver's. */
export async function comparePages(
  compute: Compute,
  database: string,
  dialect: Dialect,
): Promise<PagesCompared> {
  const client = await compute.connect(database);
  const different: string[] = [];
  let pages = 0;
  try {
    await client.query('create extension if not exists pageinspect');
    await client.query('create extension if not exists neon_test_utils');
    const relations = (await client.query(RELATIONS)).rows;
    // What was written so far, commits of this session included, is known to the pageserver before pages are asked for.
    await client.query('select neon_xlogflush()');
    for (const { name, node, space, db, blocks } of relations) {
      const { rows } = await client.query(
        `select b, get_raw_page($1, 'main', b) as own,
                get_raw_page_at_lsn($2::oid, $3::oid, $4::oid, 0, b, 'FFFFFFFF/FFFFFFFF', pg_current_wal_flush_lsn()) as stored
         from generate_series(0, $5::int - 1) b`,
        [name, space, db, node, blocks],
      );
      for (const { b, own, stored } of rows) {
        pages++;
        const at = firstDifference(own, stored, b, dialect);
        if (at !== undefined) different.push(`${database}.${name} block ${b}, from byte ${at} on`);
      }
    }
  } finally {
    await compute.disconnect(client);
  }
  return { pages, different };
}

/** SpGistMetaPageData.lastUsedPages is a hint, and never logged. */
const SPGIST_LAST_USED = [28, 28 + 8 * 8] as const;

function firstDifference(own: Buffer, stored: Buffer, blkno: number, dialect: Dialect): number | undefined {
  if (Buffer.compare(own, stored) === 0) return undefined;
  const [a, b] = [own, stored].map(bytes => {
    const page = pageOver(new Uint8Array(bytes));
    const kind = pageKind(page, blkno);
    const mask = kind === 'new' ? undefined : dialect.rmgrs[RMID_OF_KIND[kind]]!.mask;
    if (mask !== undefined) maskPage(mask, page, blkno);
    if (kind === 'spgist' && blkno === 0) page.bytes.fill(0, ...SPGIST_LAST_USED);
    return page.bytes;
  });
  const at = a!.findIndex((byte, i) => byte !== b![i]);
  return at < 0 ? undefined : at;
}
