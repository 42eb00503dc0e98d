// The windows of the pageserver over a store that real work filled: `lakebed inspect timeline|layer|page` and
// `lakebed scrub`, run as a person runs them. A page put together from the store alone is the one that the server has
// on its disk. What is damaged is told and named, what is superfluous is found, and deleted when asked.

import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tenantId } from '../../src/base/ids.ts';
import type { Lsn } from '../../src/base/lsn.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { pageLsn, pageOver } from '../../src/xlog/page.ts';
import { heapMask } from '../../src/xlog/rmgr/heap/mask.ts';
import { filesWithCanary } from '../canary.ts';
import { StockPostgres } from '../pg/stock.ts';
import { digest, loadCluster } from './cluster-history.ts';
import { hexId, type Ran, StockLog, until, Whole, type WholePageserver } from './whole.ts';

const MAJOR = 17;
const CANARY = 'Serinus-canaria-2b8e40d7';
const tenant = tenantId(hexId());
const timeline = hexId();
const name = `${tenant}/${timeline}`;

let whole: Whole;
let postgres: StockPostgres;
let relation: { path: string; spec: string };
let layers: string;

const lakebed = (...args: string[]): Promise<Ran> => whole.lakebed(...args);

beforeAll(async () => {
  whole = await Whole.start({ safekeepers: 1 });
  await whole.during(async () => {
    const [pageserver] = whole.pageservers as [WholePageserver];
    postgres = await StockPostgres.create(MAJOR, { settings: { autovacuum: 'off', wal_keep_size: '1GB' } });
    await pageserver.attach(tenant, 1);
    await pageserver.importData(tenant, timeline, postgres.dataDirectory, MAJOR);
    const began = (await pageserver.lastRecordLsn(tenant, timeline)) as Lsn;
    await postgres.start();
    await postgres.sql(
      `create table t as select i, '${CANARY}' || repeat(chr(97 + i % 26), 30) as v from generate_series(1, 3000) i`,
    );
    for (let i = 0; i < 20; i++) await postgres.sql(`update t set v = v || '${i}' where i % 40 = ${i}`);
    const [row] = await postgres.sql(
      `select pg_relation_filepath('t') as path, (select oid from pg_tablespace where spcname = 'pg_default') as spc,
         (select oid from pg_database where datname = 'postgres') as db, pg_relation_filenode('t') as file`,
    );
    relation = { path: row.path, spec: `${row.spc}/${row.db}/${row.file}` };
    await postgres.stop();
    const cluster = await loadCluster(postgres.dataDirectory);
    const { checkPoint, systemIdentifier } = readControlFile(cluster.controlFile!);
    const log = new StockLog(
      join(postgres.dataDirectory, 'pg_wal'),
      MAJOR,
      systemIdentifier,
      began,
      checkPoint,
    );
    await whole.push(tenant, timeline, log);
    await until(async () => (await pageserver.lastRecordLsn(tenant, timeline)) >= checkPoint);
    await pageserver.ok(
      'PUT',
      `tenant/${tenant}/timeline/${timeline}/checkpoint?compact=false&wait_until_uploaded=true`,
    );
    await pageserver.stop();
    layers = join(whole.dir, 'store', 'storage', 'tenants', tenant, 'timelines', timeline);
  });
}, 240_000);
afterAll(async () => {
  await whole?.stop();
  await postgres?.destroy();
});

/** As Postgres masks what the log does not say, hint bits above all; but the LSN must be the same. */
function masked(bytes: Uint8Array, blk: number): string {
  const page = pageOver(bytes.slice());
  const lsn = pageLsn(page);
  heapMask(page, blk);
  return `${lsn} ${digest(page.bytes)}`;
}

const layerFiles = (): string[] => readdirSync(layers).filter(file => file.includes('__'));

describe.sequential('over what work left in a store', () => {
  test('what was written through SQL is nowhere in the clear, on no disk and in no object', () => {
    expect(filesWithCanary(postgres.dataDirectory, CANARY).length).toBeGreaterThan(1); // it can be found
    for (const place of ['store', 'pageserver-1', 'safekeeper-1', 'keys'])
      expect(filesWithCanary(join(whole.dir, place), CANARY), place).toEqual([]);
    expect(layerFiles().length).toBeGreaterThan(1);
  });

  test('inspect timeline: where it stands, its layers, and their picture', async () => {
    const { code, out } = await lakebed('inspect', 'timeline', name, '--svg', 'map.svg');
    expect(code).toBe(0);
    expect(out).toMatch(/Postgres +17 \(stock\)/);
    for (const file of layerFiles()) expect(out).toContain(file);
    const svg = readFileSync(join(whole.dir, 'map.svg'), 'utf8');
    expect(svg).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
    for (const file of layerFiles()) expect(svg).toContain(`<title>${file} `);
    const json = JSON.parse((await lakebed('inspect', 'timeline', name, '--json')).out);
    expect(json.layers.map((layer: { name: string }) => layer.name).toSorted()).toEqual(
      layerFiles().toSorted(),
    );
    const none = await lakebed('inspect', 'timeline', `${tenant}/${'0'.repeat(32)}`);
    expect(none).toMatchObject({ code: 1, err: expect.stringContaining('there is no index') });
  });

  test('inspect layer: blocks, keys, values', async () => {
    for (const file of layerFiles()) {
      const blocks = await lakebed('inspect', 'layer', name, file);
      expect(blocks).toMatchObject({ code: 0, err: '' });
      expect(blocks.out).toContain(`layer ${file}`);
      const keys = (await lakebed('inspect', 'layer', name, file, '--keys')).out.trim().split('\n');
      const values = (await lakebed('inspect', 'layer', name, file, '--values', '--json')).out
        .trim()
        .split('\n');
      const [facts] = values.map(line => JSON.parse(line));
      expect([keys.length - 1, values.length - 1]).toEqual([facts.keys, facts.values]);
      expect(values.join()).not.toContain('cannot be decoded');
    }
    const records = await lakebed('inspect', 'layer', name, layerFiles().at(-1)!, '--values', '-n', '100000');
    expect(records.out).toMatch(/Heap\/HOT_UPDATE|Heap\/UPDATE/);
  });

  test("inspect page: every page of a table, from the store alone, is the server's", async () => {
    const file = readFileSync(join(postgres.dataDirectory, relation.path));
    for (const blk of [0, 1, Math.floor(file.length / 8192) - 1]) {
      const out = `page-${blk}`;
      const ran = await lakebed('inspect', 'page', name, relation.spec, String(blk), '--hex', '--out', out);
      expect(ran).toMatchObject({ code: 0, err: '' });
      expect(ran.out).toMatch(/kind heap {2}lsn 0\/[0-9A-F]+/);
      expect(ran.out).toMatch(/made of \d+ values, newest first:\n/);
      const page = readFileSync(join(whole.dir, out));
      const theirs = file.subarray(blk * 8192, (blk + 1) * 8192);
      expect(masked(page, blk), `block ${blk}`).toBe(masked(theirs, blk));
    }
    const json = JSON.parse((await lakebed('inspect', 'page', name, relation.spec, '0', '--json')).out);
    expect(json).toMatchObject({ complete: true, page: { kind: 'heap', pageSize: 8192, layoutVersion: 4 } });
    expect(json.values.length).toBeGreaterThan(1);
    expect(new Set(json.values.map((value: { lsn: string }) => value.lsn)).size).toBeGreaterThan(1);
    const before = await lakebed(
      'inspect',
      'page',
      name,
      relation.spec,
      '0',
      '--lsn',
      json.values.at(-1).lsn,
    );
    expect(before.out).toContain('made of 1 values');
    const absent = await lakebed('inspect', 'page', name, '1663/5/99', '0');
    expect(absent).toMatchObject({ code: 1, err: expect.stringContaining('there is no relation') });
  });

  test('scrub: nothing to tell; what nothing names; then it is deleted', async () => {
    const clean = await lakebed('scrub', '--deep');
    expect(clean).toMatchObject({ code: 0, err: '' });
    expect(clean.out).toContain(`${layerFiles().length} layers`);
    const stray = join(layers, layerFiles()[0]!.replace(/[0-9a-f]{8}$/, '0123abcd'));
    writeFileSync(stray, 'left behind');
    const young = await lakebed('scrub', '--delete');
    expect(young.code).toBe(3);
    expect(young.out).toMatch(/unnamed .*0123abcd/);
    expect(existsSync(stray)).toBe(true);
    const old = Date.now() / 1000 - 2 * 86_400;
    utimesSync(stray, old, old);
    expect(await lakebed('scrub', tenant, '--delete')).toMatchObject({ code: 0 });
    expect(existsSync(stray)).toBe(false);
    expect(await lakebed('scrub')).toMatchObject({ code: 0 });
    expect((await lakebed('scrub', '--delete', '--age', '1s')).code).toBe(1);
  });

  test('damaged and missing layers are named, by scrub and by inspect, and the rest is read', async () => {
    const [first] = layerFiles().sort(
      (a, b) => statSync(join(layers, b)).size - statSync(join(layers, a)).size,
    );
    const path = join(layers, first!);
    const bytes = readFileSync(path);
    const spoilt = Buffer.from(bytes);
    spoilt[spoilt.length >> 1]! ^= 1;
    writeFileSync(path, spoilt);
    expect((await lakebed('scrub')).code).toBe(0); // from outside it looks as it should
    const deep = await lakebed('scrub', '--deep', '--json');
    expect(deep.code).toBe(1);
    expect(JSON.parse(deep.out)).toMatchObject({ problem: 'damaged', key: expect.stringContaining(first!) });
    const values = await lakebed('inspect', 'layer', name, first!, '--values');
    expect(values.code).toBe(1);
    expect(values.out.split('\n').length).toBeGreaterThan(100);
    expect(values.err).toMatch(/! block \d+: /);
    writeFileSync(path, bytes.subarray(0, bytes.length - 1));
    expect(JSON.parse((await lakebed('scrub', '--json')).out)).toMatchObject({ problem: 'size' });
    renameSync(path, `${path}.away`);
    const missing = await lakebed('scrub', '--json', '--delete');
    expect(missing.code).toBe(1);
    const findings = missing.out
      .trim()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(findings).toMatchObject([{ problem: 'missing' }, { problem: 'foreign' }]);
    const page = await lakebed('inspect', 'page', name, '0000040000000000');
    expect(page.code).toBe(1);
    expect(page.out).toMatch(/! .*/);
    rmSync(`${path}.away`);
    writeFileSync(path, bytes);
    expect(await lakebed('scrub', '--deep')).toMatchObject({ code: 0 });
  });
});
