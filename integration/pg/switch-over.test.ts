// Switch-over: an adopted server is shut down for good, and a Neon compute goes on with its timeline. Everything that
// the origin had is there, checksums and segments of its own size among it; writes go on, computes restart, and a stock
// server opens what came of it. The origin, started again by mistake, is not followed any more.

import { afterEach, describe, expect, test } from 'vitest';
import {
  Adopter,
  CHECKOUT_SETTINGS,
  contents,
  hasAll,
  Load,
  Origin,
  opened,
  sound,
  until,
} from './adopting.ts';
import { amcheck } from './checks.ts';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';
import type { StockMajor } from './stock.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** 14 and 15 of Neon's builds write heap records of their own; from 16 on the log is the same. */
const MAJORS = majorsHere('switch-over to a Neon compute').filter(major => major >= 16);

const TIMEOUT_MS = 240_000;

const KINDS = [
  { what: 'data checksums, promoted before', initdb: ['-k'], settings: {}, promoted: true },
  {
    what: 'segments of 64 MiB',
    initdb: ['--wal-segsize=64'],
    settings: { min_wal_size: '320MB' },
    promoted: false,
  },
] as const;

/** What `contents` asks of a stock server, asked of a compute. */
const asServer = (compute: Compute): Parameters<typeof contents>[0] =>
  ({ sql: (text: string) => compute.query(text) }) as unknown as Parameters<typeof contents>[0];

describe.each(MAJORS)('Postgres %i', major => {
  test.each(KINDS)(
    'a compute goes on where the origin stopped: $what',
    { timeout: TIMEOUT_MS },
    async ({ initdb, settings, promoted }) => {
      const storage = await Storage.start();
      cleanups.push(() => storage.stop());
      await storage.during(async () => {
        const tenant = await storage.createTenant();
        const origin = await Origin.start(major as StockMajor, { initdb, promoted });
        cleanups.push(() => origin.server.destroy());
        await origin.fill();
        await origin.server.sql('create role cloud_admin superuser login');
        const adopter = new Adopter(storage, tenant, origin);
        cleanups.push(() => adopter.kill());
        adopter.start('--switch-over');
        await adopter.event('caught-up');
        const load = new Load(origin, 3);
        cleanups.push(() => load.stop());
        await load.more(200);
        await load.stop();
        const expected = await contents(origin.server);
        await origin.server.stop();
        expect(await adopter.exit()).toBe(0);
        expect(adopter.events.at(-1)).toMatchObject({ step: 'ended', ended: 'origin-stopped' });
        const { timeline } = adopter;

        const options = { major, tenant, timeline, settings: { ...settings, ...CHECKOUT_SETTINGS_TEXT } };
        const compute = await storage.compute(options);
        expect(await contents(asServer(compute))).toEqual(expected);
        expect((await amcheck(compute)).broken).toEqual([]);
        await compute.query(`commit prepared 'waiting'`);
        await compute.query(`update account set note = 'taken over'`);
        await compute.query(
          `insert into history (account, delta) select i, 0 from generate_series(1, 500) i`,
        );
        await compute.query('create table after_switch_over as select * from account');
        await compute.query(`insert into cache select generate_series(1, 10)`);
        const written = await contents(asServer(compute));
        await compute.stop();

        const again = await storage.compute(options);
        expect(await contents(asServer(again))).toEqual(written);
        expect((await amcheck(again)).broken).toEqual([]);
        const replica = await storage.compute({ ...options, mode: { kind: 'replica' } });
        await again.query(`insert into marker (name) values ('seen by the replica')`);
        await until('the replica to follow', async () => {
          const seen = await replica.query(`select 1 from marker where name = 'seen by the replica'`);
          return seen.length === 1;
        });
        await again.query(`delete from marker where name = 'seen by the replica'`);
        await replica.stop();
        const [{ lsn }] = (await again.query('select pg_current_wal_flush_lsn()::text as lsn')) as [
          { lsn: string },
        ];
        await again.stop();

        await opened(storage, { tenant, branch: timeline, at: lsn }, origin, async server => {
          expect(await contents(server)).toEqual(written);
          await hasAll(server, load.acknowledged);
          await sound(server);
        });

        await origin.server.start();
        adopter.start();
        expect(await adopter.exit()).toBe(3);
      });
    },
  );
});

const CHECKOUT_SETTINGS_TEXT = Object.fromEntries(
  Object.entries(CHECKOUT_SETTINGS).map(([name, value]) => [name, String(value)]),
);
