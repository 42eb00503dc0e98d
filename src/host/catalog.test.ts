// Both doors of the catalog by the same tests: the embedded one, and a stock Postgres server.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { StockPostgres } from '../../integration/pg/stock.ts';
import type { Catalog } from '../base/ports.ts';
import { MIGRATIONS } from '../control/manager/migrations.ts';
import { embeddedCatalog } from './catalog-embedded.ts';
import { pgCatalog } from './catalog-pg.ts';

const key = (id: string, name: string): { put: string; row: Record<string, unknown> } => ({
  put: 'keys',
  row: { id, name, cmk: `local:${name}`, created_at: 1_800_000_000_000, updated_at: 2 },
});
const project = (id: string, keyId: string | null): { put: string; row: Record<string, unknown> } => ({
  put: 'projects',
  row: {
    ...{ id, name: id, pg_version: 17, tenant_id: id, key_id: keyId, history_retention_seconds: 1 },
    ...{
      compute_settings: { size: 0.25, pgSettings: { a: "it's" } },
      stage: 'init',
      created_at: 1,
      updated_at: 1,
    },
  },
});

interface Door {
  readonly name: string;
  open(migrations?: typeof MIGRATIONS): Promise<Catalog>;
  close(): Promise<void>;
}

let directory: string;
let server: StockPostgres;

const doors: Door[] = [
  {
    name: 'embedded',
    open: (migrations = MIGRATIONS) => embeddedCatalog(directory, migrations),
    close: async () => undefined,
  },
  {
    name: 'a server',
    open: (migrations = MIGRATIONS) =>
      pgCatalog(`postgresql://postgres@/postgres?host=${encodeURIComponent(server.home)}`, migrations),
    close: () => server.destroy(),
  },
];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'lakebed-catalog-'));
  server = await StockPostgres.start(17);
}, 120_000);

afterAll(async () => {
  for (const door of doors) await door.close();
  rmSync(directory, { recursive: true, force: true });
});

describe.each(doors)('the catalog in $name', door => {
  test('keeps what was committed, all or nothing, and finds it again', async () => {
    const catalog = await door.open();
    await catalog.commit([project('p1', 'k1'), key('k1', 'one'), key('k2', 'two')]); // the order does not matter
    await catalog.commit([{ ...key('k2', 'renamed') }, { remove: 'keys', id: 'nobody' }]);
    await expect(catalog.commit([key('k3', 'three'), project('p2', 'nobody')])).rejects.toThrow(/catalog/);
    const words = `it's \\ "so"; DROP TABLE keys; -- \n \u2028 é`;
    await catalog.commit([key('k5', words), key('k6', 'six'), key('k5', `${words} again`)]);
    expect((await catalog.load('keys')).find(row => row['id'] === 'k5')!['name']).toBe(`${words} again`);
    await catalog.commit([
      { remove: 'keys', id: 'k5' },
      { remove: 'keys', id: 'k6' },
      { remove: 'keys', id: words },
    ]);
    await catalog.commit([]);
    await expect(catalog.commit([key('k4', 'renamed')])).rejects.toThrow(/catalog/);
    await catalog.close();
    const again = await door.open();
    const keys = await again.load('keys');
    expect(keys.map(row => [row['id'], row['name']]).sort()).toEqual([
      ['k1', 'one'],
      ['k2', 'renamed'],
    ]);
    expect(keys[0]!['created_at']).toBe(1_800_000_000_000);
    const [row] = await again.load('projects');
    expect(row).toEqual(project('p1', 'k1').row);
    await again.commit([project('p1', null)]);
    expect(await again.load('projects').then(([first]) => first)).not.toHaveProperty('key_id');
    await again.close();
  }, 120_000);

  test('takes new migrations, and refuses those of a newer build', async () => {
    const more = [
      ...MIGRATIONS,
      { number: 1000, name: 'later', sql: 'CREATE TABLE later (id text PRIMARY KEY)' },
    ];
    const newer = await door.open(more);
    expect(await newer.load('later')).toEqual([]);
    await newer.close();
    await expect(door.open()).rejects.toMatchObject({ code: 'catalog-newer' });
  }, 120_000);
});

test('two managers do not work on one server’s catalog', async () => {
  const [, door] = doors;
  const more = [...MIGRATIONS, { number: 1000, name: 'later', sql: '' }];
  const first = await door!.open(more);
  await expect(door!.open(more)).rejects.toMatchObject({ code: 'catalog-locked' });
  await first.close();
  await (await door!.open(more)).close();
});
