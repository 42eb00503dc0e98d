// Logical replication out of a Neon compute into a stock Postgres of the same major, and in from one. Slots, their
// snapshots and the origins' progress live in storage: both computes crash on the way, and nothing is lost or twice.

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';
import { type StockMajor, StockPostgres } from './stock.ts';

const majors = majorsHere('logical replication of Neon computes');
const DIGEST =
  "select count(*)::int as n, coalesce(md5(string_agg(t::text, ',' order by id)), '') as h from t";

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  let compute: Compute;
  let stock: StockPostgres | undefined;
  beforeAll(async () => {
    storage = await Storage.start();
    await storage.during(async () => {
      const tenant = await storage.createTenant();
      const timeline = await storage.createTimeline(tenant, { pgVersion: major });
      compute = await storage.compute({ major, tenant, timeline });
    });
  });
  afterEach(async () => {
    await stock?.destroy();
    stock = undefined;
  });
  afterAll(() => storage.stop());

  /** Rows of many kinds of change, and one transaction that is larger than logical_decoding_work_mem. */
  const changes = (round: number): string[] => {
    const base = round * 10_000;
    return [
      `insert into t select i, 'row ' || i, repeat('x', i % 300) from generate_series(${base + 1}, ${base + 3000}) i`,
      `update t set a = a || '!' where id % 3 = ${round % 3}`,
      `delete from t where id % 7 = ${round % 7}`,
      `begin; insert into t select i, 'never', '' from generate_series(${base + 5001}, ${base + 6000}) i; rollback`,
      `insert into t select i, 'big', repeat(md5(i::text), 20) from generate_series(${base + 7001}, ${base + 8500}) i`,
      ...(round === 2
        ? ['truncate t', `insert into t select i, 'after', '' from generate_series(1, 500) i`]
        : []),
    ];
  };

  /** Nobody writes to `from` meanwhile. */
  const same = async (from: () => Promise<unknown>, to: () => Promise<unknown>): Promise<void> => {
    const wanted = await from();
    await expect.poll(to, { timeout: 60_000, interval: 100 }).toEqual(wanted);
  };

  test('out', { timeout: 300_000 }, () =>
    storage.during(async () => {
      stock = await StockPostgres.start(major as StockMajor);
      const there = stock;
      const table = 'create table t (id int primary key, a text, b text)';
      await compute.query(`${table}; create publication pub for table t`);
      for (const sql of changes(0)) await compute.query(sql);
      await there.sql(table);
      const at = (): string => `host=127.0.0.1 port=${compute.port} user=cloud_admin dbname=postgres`;
      await there.sql(`create subscription sub connection '${at()}' publication pub`);
      const ours = async (): Promise<unknown> => (await compute.query(DIGEST))[0];
      const theirs = async (): Promise<unknown> => (await there.sql(DIGEST))[0];
      await same(ours, theirs);
      for (let round = 1; round <= 3; round++) {
        for (const sql of changes(round)) await compute.query(sql);
        if (round === 3) await same(ours, theirs);
        // The slot is in the base backup, and the log before it with the safekeepers.
        await compute.stop(round === 2 ? 'SIGINT' : 'SIGKILL');
        await compute.start();
        await there.sql(`alter subscription sub connection '${at()}'`);
        await same(ours, theirs);
      }
      await there.sql('drop subscription sub');
      const slots = "select slot_name from pg_replication_slots where slot_type = 'logical'";
      expect(await compute.query(slots)).toEqual([]);
      await compute.query('drop publication pub; drop table t');
    }),
  );

  test('in', { timeout: 300_000 }, () =>
    storage.during(async () => {
      stock = await StockPostgres.start(major as StockMajor, { settings: { wal_level: 'logical' } });
      const there = stock;
      const table = 'create table t (id int primary key, a text, b text)';
      await there.sql(`${table}; create publication pub for table t`);
      for (const sql of changes(0)) await there.sql(sql);
      await compute.query(table);
      await compute.query(
        `create subscription sub connection 'host=${there.home} user=postgres dbname=postgres' publication pub`,
      );
      const ours = async (): Promise<unknown> => (await compute.query(DIGEST))[0];
      const theirs = async (): Promise<unknown> => (await there.sql(DIGEST))[0];
      await same(theirs, ours);
      for (let round = 1; round <= 3; round++) {
        for (const sql of changes(round)) await there.sql(sql);
        if (round === 3) await same(theirs, ours);
        // What of it was applied is known from the origin that each commit moved; it goes on from there.
        await compute.stop(round === 2 ? 'SIGINT' : 'SIGKILL');
        await compute.start();
        await same(theirs, ours);
      }
      await compute.query('drop subscription sub');
      await compute.query('drop table t');
      expect(storage.trouble()).toEqual([]);
    }),
  );
});
