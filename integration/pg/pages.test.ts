// What the pageserver gives for a page against what the compute that wrote it holds in its buffers: every block of
// every relation, after work of every kind.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { comparePages } from './checks.ts';
import { majorsHere, Storage } from './harness.ts';
import { setUp, work } from './work.ts';

const majors = majorsHere('pages of Neon computes against the pageserver');

describe.each(majors)('Neon Postgres %i', major => {
  let storage: Storage;
  beforeAll(async () => {
    storage = await Storage.start();
  });
  afterAll(() => storage.stop());

  test('every page of every relation', { timeout: 300_000 }, () =>
    storage.during(async () => {
      const tenant = await storage.createTenant();
      const timeline = await storage.createTimeline(tenant, { pgVersion: major });
      // All of it fits: a page that was never evicted was never asked for.
      const settings = { shared_buffers: '512MB', autovacuum: 'off' };
      const compute = await storage.compute({ major, tenant, timeline, settings });
      await setUp(compute);
      for (let n = 0; n < 3; n++) await work(compute, n);
      const dialect = dialectOfMajor(major, 'neon');
      let pages = 0;
      for (const database of ['postgres', 'd2']) {
        const compared = await comparePages(compute, database, dialect);
        pages += compared.pages;
        expect(compared.different).toEqual([]);
      }
      console.log(`Postgres ${major}: ${pages} pages are alike`);
      expect(pages).toBeGreaterThan(2000);
    }),
  );
});
