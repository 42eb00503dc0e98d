// Stock servers adopted while clients work on them: what storage has is what they have, in any state from the end of
// the base backup on, opened by a stock Postgres of the same build.

import { afterEach, describe, expect, test } from 'vitest';
import {
  Adopter,
  adoptMajors,
  contents,
  hasAll,
  Load,
  lsnOf,
  Origin,
  opened,
  sound,
  until,
} from './adopting.ts';
import { Storage } from './harness.ts';

const TIMEOUT_MS = 240_000;

let storage: Storage;
let origin: Origin;
let load: Load | undefined;
let adopter: Adopter | undefined;
const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  await load?.stop();
  await adopter?.kill();
  load = adopter = undefined;
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** The pageserver has all that the origin has committed now. */
async function pageserverHasAll(tenant: string, timeline: string): Promise<string> {
  const lsn = await origin.flushLsn();
  await until(`the pageserver to reach ${lsn}`, async () => {
    const { last_record_lsn } = await storage.timeline(tenant, timeline);
    return lsnOf(last_record_lsn) >= lsnOf(lsn);
  });
  return lsn;
}

describe.each(adoptMajors([15, 18]))('Postgres %i', major => {
  test('adopted under load: the newest state, older ones and branches are the origin’s', {
    timeout: TIMEOUT_MS,
  }, async () => {
    storage = await Storage.start();
    cleanups.push(() => storage.stop());
    await storage.during(async () => {
      const tenant = await storage.createTenant();
      origin = await Origin.start(major, { promoted: major === 15 });
      cleanups.push(() => origin.server.destroy());
      await origin.fill();
      load = new Load(origin, 4);
      await load.more(100);
      adopter = new Adopter(storage, tenant, origin);
      adopter.start();
      const checked = await adopter.event('checked');
      expect(Math.floor((checked['pgVersion'] as number) / 10_000)).toBe(major);
      await adopter.event('caught-up');
      const { timeline } = adopter;
      await load.more(300);
      const first = await origin.mark('first');
      await load.more(200);
      await load.stop();
      const second = await origin.mark('second');
      const atSecond = await contents(origin.server);
      const { acknowledged: before } = load;
      load = new Load(origin, 4);
      await load.more(200);
      await origin.server.sql('vacuum account');
      await origin.server.sql('checkpoint');
      await load.stop();
      const newest = await pageserverHasAll(tenant, timeline);
      const acknowledged = new Set([...before, ...load.acknowledged]);

      // The newest state, row for row.
      const expected = await contents(origin.server);
      await opened(storage, { tenant, branch: 'adopted', at: newest }, origin, async server => {
        expect(await contents(server)).toEqual(expected);
        await sound(server);
        await hasAll(server, acknowledged);
        await server.sql(`commit prepared 'waiting'`);
        expect(await server.sql('select count(*)::int from cache')).toEqual([{ count: 0 }]);
      });

      // In the past, by LSN and by time: the first mark is there, the second is not.
      const markers = { lsn: [] as unknown[], time: [] as unknown[] };
      for (const [how, at] of [
        ['lsn', first.lsn],
        ['time', first.time],
      ] as const) {
        await opened(storage, { tenant, branch: 'adopted', at }, origin, async server => {
          markers[how] = (await server.sql('select name from marker')).map(r => r.name as string);
          await sound(server);
        });
      }
      expect(markers).toEqual({ lsn: ['first'], time: ['first'] });

      // A branch at the second mark, row for row.
      const branch = await storage.createTimeline(tenant, { ancestor: timeline, lsn: second.lsn });
      await opened(storage, { tenant, branch }, origin, async server => {
        expect(await contents(server)).toEqual(atSecond);
        await sound(server);
      });
      expect(await adopter.kill('SIGINT')).toBe(0);
      adopter.start('--end');
      expect(await adopter.exit()).toBe(0);
      expect(await origin.server.sql('select count(*)::int from pg_replication_slots')).toEqual([
        { count: 0 },
      ]);
    });
  });
});
