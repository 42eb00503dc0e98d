// Work in bulk, by psql: COPY of many rows out and in, an index of every access method built over them (in parallel
// where the method can), rebuilt with and without locks, tables rewritten. A new compute, started after a crash, finds
// by each index what a walk over the table finds. LAKEBED_COPY_ROWS sets how many rows; millions take minutes.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { amcheck } from './checks.ts';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';

const majors = majorsHere('COPY and index builds through Neon computes');
const ROWS = Number(process.env['LAKEBED_COPY_ROWS'] ?? 100_000);

/** An index of each access method, and a condition that it serves; the last two are of contrib. */
const INDEXES: Readonly<Record<string, { on: string; where: string }>> = {
  btree: { on: 'using btree (t, id)', where: "t between 'a' and 'b'" },
  hash: { on: 'using hash (k)', where: 'k = 42' },
  brin: { on: 'using brin (id)', where: 'id between 1000 and 3000' },
  gin: { on: 'using gin (doc)', where: `doc @@ to_tsquery('simple', 'w7 & x3')` },
  gist: { on: 'using gist (p)', where: "p <@ box '((100,100),(120,140))'" },
  spgist: { on: 'using spgist (p)', where: "p <@ box '((300,10),(380,90))'" },
  bloom: { on: 'using bloom (k, m)', where: 'k = 7 and m = 3' },
  gist_btree: { on: 'using gist (m, p)', where: "m = 5 and p <@ box '((0,0),(500,100))'" },
};

const TABLE = `
  create table bulk (id int, k int, m int, t text, p point, doc tsvector);
  create extension bloom; create extension btree_gist;
  set maintenance_work_mem = '8MB'`;

const ROW = `select i, i % 1000, i % 11, md5(i::text), point(i % 997, i % 1009),
    to_tsvector('simple', 'w' || i % 50 || ' x' || i % 20 || ' ' || md5(i::text)) from generate_series(1, ${ROWS}) i`;

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  let compute: Compute;
  beforeAll(async () => {
    storage = await Storage.start();
    await storage.during(async () => {
      const tenant = await storage.createTenant();
      const timeline = await storage.createTimeline(tenant, { pgVersion: major });
      const settings = { shared_buffers: '4MB', min_parallel_table_scan_size: '0', autovacuum: 'off' };
      compute = await storage.compute({ major, tenant, timeline, settings });
    });
  });
  afterAll(() => storage.stop());

  /** A script as a person would run it: it ends at the first error. */
  const psql = (script: string): Promise<string> => {
    const file = join(compute.dir, 'script.sql');
    writeFileSync(file, script, { mode: 0o644 });
    return compute.program('psql', ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-f', file]);
  };

  const found = async (): Promise<Record<string, string>> => {
    const client = await compute.connect();
    const digests: Record<string, string> = {};
    for (const [name, { where }] of Object.entries(INDEXES)) {
      const sql = `select count(*) || ' ' || coalesce(md5(string_agg(id::text, ',' order by id)), '') as d from bulk where ${where}`;
      for (const scan of ['seqscan', 'index']) {
        const byIndex = scan === 'index' ? 'off' : 'on';
        await client.query(`set enable_seqscan = ${byIndex === 'off' ? 'off' : 'on'}`);
        for (const kind of ['indexscan', 'bitmapscan', 'indexonlyscan'])
          await client.query(`set enable_${kind} = ${byIndex === 'off' ? 'on' : 'off'}`);
        const plan = JSON.stringify((await client.query(`explain (format json) ${sql}`)).rows[0]);
        expect(plan.includes('Index')).toBe(scan === 'index');
        digests[`${name} by ${scan}`] = (await client.query(sql)).rows[0].d as string;
      }
      expect(digests[`${name} by index`], name).toBe(digests[`${name} by seqscan`]);
    }
    await compute.disconnect(client);
    return digests;
  };

  test(`COPY of ${ROWS} rows`, { timeout: 600_000 }, () =>
    storage.during(async () => {
      const said = await psql(`${TABLE};
        \\copy (${ROW.replaceAll('\n', ' ')}) to 'rows.copy'
        \\copy bulk from 'rows.copy'
        begin;
        \\copy bulk from 'rows.copy'
        rollback;
        \\copy (select * from bulk order by id limit 10) to 'first.copy'
        select count(*), min(id), max(id) from bulk;`);
      expect(said.trim()).toBe(`${ROWS}|1|${ROWS}`);
    }),
  );

  test('an index of every access method, and a new compute', { timeout: 600_000 }, () =>
    storage.during(async () => {
      const create = Object.entries(INDEXES).map(
        ([name, { on }]) => `create index by_${name} on bulk ${on};`,
      );
      await psql(create.join('\n'));
      const before = await found();
      await compute.stop('SIGKILL');
      await compute.start();
      expect(await found()).toEqual(before);
      expect((await amcheck(compute)).broken).toEqual([]);
    }),
  );

  test('rebuilt, and the table rewritten', { timeout: 600_000 }, () =>
    storage.during(async () => {
      await psql(
        'delete from bulk where id % 3 = 0; update bulk set m = m + 1 where id % 7 = 0; vacuum bulk;',
      );
      const before = await found();
      for (const script of [
        'reindex table bulk;',
        'reindex table concurrently bulk;',
        'vacuum full bulk;',
        'cluster bulk using by_btree;',
        'alter table bulk alter column id type bigint;',
      ]) {
        await psql(script);
        await compute.stop('SIGKILL');
        await compute.start();
        expect(await found(), script).toEqual(before);
      }
      expect((await amcheck(compute)).broken).toEqual([]);
      expect(storage.trouble()).toEqual([]);
    }),
  );
});
