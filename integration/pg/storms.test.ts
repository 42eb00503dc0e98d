// What strains the smaller parts of storage: multixacts by the thousand, with members enough to cross pages of both
// their SLRUs, cut off again by freezing; transactions with thousands of subtransactions; commit timestamps; sequences;
// large objects; two-phase transactions that outlive their compute; unlogged tables. Everything is read again by a
// compute that was started after a crash.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { amcheck } from './checks.ts';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';

const majors = majorsHere('storms of multixacts and subtransactions through Neon computes');

/** Each row by a subtransaction of its own, so that no two rows share a multixact. */
const LOCK_EACH = `do $$ declare r record; begin
  for r in select id from locked loop
    begin
      perform 1 from locked where id = r.id for key share;
    exception when division_by_zero then null;
    end;
  end loop; end $$`;

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  let compute: Compute;
  beforeAll(async () => {
    storage = await Storage.start();
    await storage.during(async () => {
      const tenant = await storage.createTenant();
      const timeline = await storage.createTimeline(tenant, { pgVersion: major });
      const settings = {
        shared_buffers: '2MB',
        track_commit_timestamp: 'on',
        max_prepared_transactions: '20',
        autovacuum: 'off',
      };
      compute = await storage.compute({ major, tenant, timeline, settings });
    });
  });
  afterAll(() => storage.stop());

  const crash = async (): Promise<void> => {
    await compute.stop('SIGKILL');
    await compute.start();
  };
  const value = async (sql: string): Promise<string> =>
    String(Object.values((await compute.query<Record<string, unknown>>(sql))[0] ?? {})[0]);

  test('multixacts', { timeout: 300_000 }, () =>
    storage.during(async () => {
      await compute.query('create table locked (id int primary key, n int) with (fillfactor = 90)');
      await compute.query('insert into locked select i, 0 from generate_series(1, 3000) i');
      const clients = await Promise.all(Array.from({ length: 6 }, () => compute.connect()));
      const first = BigInt(await value('select next_multixact_id from pg_control_checkpoint()'));
      for (let round = 0; round < 3; round++) {
        for (const [i, client] of clients.entries()) {
          await client.query('begin');
          await client.query(
            i < 2 ? LOCK_EACH : 'select count(*) from (select 1 from locked for key share) l',
          );
        }
        // An update on top: members of different strengths.
        await clients[0]!.query(`update locked set n = n + 1 where id % 3 = ${round}`);
        await clients[1]!.query('rollback');
        for (const client of clients.slice(2)) await client.query('commit');
        await clients[0]!.query('commit');
      }
      for (const client of clients) await compute.disconnect(client);
      const before = await value("select md5(string_agg(l::text, ',' order by id)) from locked l");
      const holders = await value('select count(*) from locked where xmax::text::bigint > 0');
      await compute.query('checkpoint');
      const made = BigInt(await value('select next_multixact_id from pg_control_checkpoint()')) - first;
      expect(made).toBeGreaterThan(9000n);
      await crash();
      expect(await value("select md5(string_agg(l::text, ',' order by id)) from locked l")).toBe(before);
      expect(await value('select count(*) from locked where xmax::text::bigint > 0')).toBe(holders);
      // A row can be locked and changed again: each of its multixacts is looked up.
      await compute.query('update locked set n = n + 10');
      expect(await value('select sum(n)::text from locked')).toBe(String(3000 + 30_000));
      // Frozen everywhere, both SLRUs are cut.
      const databases = await compute.query<{ datname: string }>(
        'select datname from pg_database where datallowconn',
      );
      for (const { datname } of databases) await compute.query('vacuum (freeze)', [], datname);
      await compute.query('checkpoint');
      await crash();
      expect(await value('select sum(n)::text from locked')).toBe(String(3000 + 30_000));
      expect((await amcheck(compute)).broken).toEqual([]);
    }),
  );

  test('subtransactions', { timeout: 300_000 }, () =>
    storage.during(async () => {
      await compute.query('create table nested (id int primary key)');
      // Half of them taken back, each within a block of its own: a subtransaction; far more than a backend's cache.
      await compute.query(`do $$ begin
        for i in 1..5000 loop
          begin
            insert into nested values (i);
            if i % 2 = 0 then raise exception 'taken back'; end if;
          exception when raise_exception then null;
          end;
        end loop; end $$`);
      const client = await compute.connect();
      await client.query('begin');
      for (let i = 0; i < 300; i++) {
        await client.query(`savepoint s; insert into nested values (${100_000 + i})`);
        if (i % 3 === 0) await client.query('rollback to s');
      }
      // In the middle of it, another looks: what is not committed is not seen.
      expect(await value('select count(*)::text from nested')).toBe('2500');
      await client.query('commit');
      await compute.disconnect(client);
      await crash();
      expect(await value('select count(*)::text from nested')).toBe('2700');
      expect(await value('select count(*)::text from nested where id % 2 = 0 and id < 100000')).toBe('0');
    }),
  );

  test('commit timestamps', { timeout: 120_000 }, () =>
    storage.during(async () => {
      await compute.query('create table stamped (id int)');
      for (let i = 0; i < 200; i++) await compute.query(`insert into stamped values (${i})`);
      const stamps = 'select id, pg_xact_commit_timestamp(xmin)::text as at from stamped order by id';
      const before = await compute.query<{ at: string | null }>(stamps);
      expect(before.every(row => row.at !== null)).toBe(true);
      await crash();
      expect(await compute.query(stamps)).toEqual(before);
      expect(await compute.query('select * from pg_last_committed_xact()')).toHaveLength(1);
    }),
  );

  test('sequences and large objects', { timeout: 120_000 }, () =>
    storage.during(async () => {
      await compute.query(
        'create sequence cached cache 50; create sequence plain; create sequence down increment -7 maxvalue 0 minvalue -1000000',
      );
      for (const name of ['cached', 'plain', 'down'])
        await compute.query(`select count(nextval('${name}')) from generate_series(1, 1000)`);
      await compute.query(
        `create table loids as select i, lo_from_bytea(0, decode(repeat(md5(i::text), 2000), 'hex')) as loid from generate_series(1, 30) i`,
      );
      await compute.query(
        'select lo_put(loid, 30000, decode(repeat($$ff$$, 5000), $$hex$$)) from loids where i % 2 = 0',
      );
      await compute.query('select lo_unlink(loid) from loids where i % 5 = 0');
      const digest =
        "select count(*) || md5(string_agg(md5(data), '' order by loid, pageno)) as d from pg_largeobject";
      const before = await value(digest);
      const last = Number(await value('select last_value from plain'));
      await crash();
      expect(await value(digest)).toBe(before);
      // Values that were handed out are never handed out again.
      expect(Number(await value("select nextval('plain')"))).toBeGreaterThan(last);
      expect(Number(await value("select nextval('cached')"))).toBeGreaterThan(1000);
      expect(Number(await value("select nextval('down')"))).toBeLessThan(-6993);
    }),
  );

  test('two-phase transactions and unlogged tables', { timeout: 120_000 }, () =>
    storage.during(async () => {
      await compute.query(
        'create table phased (id int primary key, n int); create unlogged table gone (id int)',
      );
      await compute.query('insert into gone select generate_series(1, 100)');
      const client = await compute.connect();
      for (let i = 0; i < 10; i++) {
        await client.query('begin');
        await client.query(`insert into phased values (${i}, ${i})`);
        await client.query(`savepoint s`);
        await client.query(`insert into phased values (${100 + i}, ${i})`);
        await client.query(`prepare transaction 'p${i}'`);
      }
      await compute.disconnect(client);
      await crash();
      expect(await value('select count(*)::text from pg_prepared_xacts')).toBe('10');
      expect(await value('select count(*)::text from phased')).toBe('0');
      // Their locks came along: the row of a prepared transaction is not to be had.
      const waiting = await compute.connect();
      await waiting.query("set lock_timeout = '500ms'");
      await expect(waiting.query('insert into phased values (3, 0)')).rejects.toThrow(/lock timeout/);
      await compute.disconnect(waiting);
      for (let i = 0; i < 10; i++)
        await compute.query(`${i % 2 === 0 ? 'commit' : 'rollback'} prepared 'p${i}'`);
      await crash();
      expect(await value('select count(*)::text from phased')).toBe('10');
      expect(await value('select sum(n)::text from phased')).toBe('40');
      // An unlogged table is empty after a crash, and there.
      expect(await value('select count(*)::text from gone')).toBe('0');
      await compute.query('insert into gone values (1)');
      expect(storage.trouble()).toEqual([]);
    }),
  );
});
