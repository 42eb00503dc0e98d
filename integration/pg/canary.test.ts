// No plaintext at rest: a text written through SQL is found nowhere in what the storage has kept, on no disk, in no
// object, in no temporary file; plain, encoded or packed. The compute's own directory is the customer's side and is
// left out.

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { filesWithCanary, findCanary } from '../canary.ts';
import type { Compute } from './compute.ts';
import { majorsHere, Storage } from './harness.ts';

const CANARY = 'Serinus-canaria-7f3a91c4';
const majors = majorsHere('no plaintext at rest under a Neon compute').slice(-1);

const sizes = (directory: string): number[] =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' }).map(
    name => statSync(join(directory, name)).size,
  );

describe.each(majors)('under Neon Postgres %i', major => {
  let storage: Storage;
  let compute: Compute;
  let tenant: string;
  let timeline: string;

  beforeAll(async () => {
    storage = await Storage.start();
    await storage.during(async () => {
      tenant = await storage.createTenant();
      timeline = await storage.createTimeline(tenant, { pgVersion: major });
      compute = await storage.compute({ major, tenant, timeline });
    });
  });
  afterAll(() => storage.stop());

  test('a canary in tables, indexes, names and messages stays sealed', () =>
    storage.during(async () => {
      await compute.query(
        `CREATE TABLE "${CANARY}" AS SELECT i, '${CANARY}-' || i AS text FROM generate_series(1, 20000) i`,
      );
      await compute.query(`CREATE INDEX ON "${CANARY}" (text)`);
      await compute.query(`SELECT pg_logical_emit_message(false, '${CANARY}', repeat('${CANARY}', 100))`);
      await compute.query(`UPDATE "${CANARY}" SET text = text || '${CANARY}' WHERE i % 3 = 0`);
      await compute.query('CHECKPOINT');
      await storage.http(
        'PUT',
        `tenant/${tenant}/timeline/${timeline}/checkpoint?compact=true&wait_until_uploaded=true`,
      );
      await compute.query(
        `INSERT INTO "${CANARY}" SELECT i, '${CANARY}-' || i FROM generate_series(1, 2000) i`,
      );
      // It is there to be found, by those who may: the compute reads it back after it has forgotten everything.
      await compute.stop('SIGKILL');
      await compute.start();
      const rows = await compute.query<{ text: string }>(`SELECT text FROM "${CANARY}" WHERE i = 3 LIMIT 1`);
      expect(findCanary(Buffer.from(rows[0]!.text), CANARY)).toBeDefined();
      await compute.stop();
      for (const daemon of storage.daemons) await daemon.stop();

      const kept = readdirSync(storage.dir).filter(name => !name.startsWith('compute-'));
      expect(kept).toEqual(expect.arrayContaining(['pageserver', 'safekeeper-1', 'store']));
      const bytes = kept.flatMap(name => sizes(join(storage.dir, name))).reduce((sum, size) => sum + size, 0);
      expect(bytes).toBeGreaterThan(10_000_000);
      for (const name of kept) expect(filesWithCanary(join(storage.dir, name), CANARY)).toEqual([]);
    }));
});
