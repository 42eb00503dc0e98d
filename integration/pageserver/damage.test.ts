// Damaged layers under a pageserver as it runs in earnest, asked over its page service: damaged in the cache, a layer
// is fetched again and nobody notices; damaged in the object store, the pages that need it get an error that names it,
// and all others are served; put back from a copy, it is served again.

import { closeSync, globSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import { parseLsn } from '../../src/base/lsn.ts';
import { isLayerName } from '../../src/pageserver/layers/layer-name.ts';
import { Storage } from '../pg/harness.ts';
import { Pusher } from '../safekeeper/pusher.ts';
import { SimRandom } from '../sim/random.ts';
import { ModelLog, PatientReader } from './model-log.ts';
import { until } from './whole.ts';

const RECORDS = 2500;

let storage: Storage;
let tenant: string;
let timeline: string;
let log: ModelLog;
beforeAll(async () => {
  storage = await Storage.start({
    safekeepers: 1,
    // Small files, so that each holds a stretch of the pages.
    pageserverToml: ['[tenant_config]', 'compaction_target_size = 65536', 'compaction_period = "0s"'],
  });
  await storage.during(async () => {
    tenant = await storage.createTenant();
    timeline = await storage.createTimeline(tenant, { pgVersion: 17 });
    const detail = await storage.http<Record<string, string>>('GET', `tenant/${tenant}/timeline/${timeline}`);
    log = new ModelLog(parseLsn(detail['last_record_lsn']!), parseLsn(detail['prev_record_lsn']!));
    await push();
    const path = `tenant/${tenant}/timeline/${timeline}/checkpoint`;
    const how = 'force_l0_compaction=true&force_image_layer_creation=true&wait_until_uploaded=true';
    await storage.http('PUT', `${path}?${how}`);
  });
});
afterAll(() => storage.stop());

async function push(): Promise<void> {
  const pusher = new Pusher({
    targets: storage.safekeepers.map(({ port }) => ({ host: '127.0.0.1', port })),
    key: { tenantId: tenantId(tenant), timelineId: timelineId(timeline) },
    log,
  });
  const random = new SimRandom(4);
  await pusher.elect();
  for (let i = 0; i < RECORDS; i++) pusher.write(log.next(random));
  await pusher.committed(log.end);
  await until(
    async () => parseLsn((await storage.timeline(tenant, timeline)).last_record_lsn) >= log.end,
    60_000,
  );
  pusher.close();
}

interface Answers {
  readonly right: number;
  readonly wrong: readonly string[];
  /** The messages of refusals. */
  readonly errors: readonly string[];
}

/** Every page that was ever written to, once. */
async function askAll(lsn: number): Promise<Answers> {
  const reader = new PatientReader(storage.pageserverPort, { tenant, timeline });
  const wrong: string[] = [];
  const errors: string[] = [];
  let right = 0;
  for (const { rel, blk, lsn: since } of log.begun) {
    if (since >= lsn) continue;
    try {
      const page = await reader.page(rel, blk, lsn, 0);
      if (Buffer.compare(page, log.model.page(rel, blk, lsn)) === 0) right++;
      else wrong.push(`${rel}/${blk}`);
    } catch (error) {
      errors.push((error as Error).message);
    }
  }
  reader.close();
  return { right, wrong, errors };
}

/** One bit of a byte in the middle. */
function damage(path: string): void {
  const file = openSync(path, 'r+');
  const byte = new Uint8Array(1);
  readSync(file, byte, 0, 1, 3000);
  byte[0]! ^= 4;
  writeSync(file, byte, 0, 1, 3000);
  closeSync(file);
}

const cached = (): string[] =>
  globSync(join(storage.dir, 'pageserver/tenants', tenant, 'timelines', timeline, '*')).filter(path =>
    isLayerName(basename(path)),
  );

async function imageLayers(): Promise<string[]> {
  type Layers = { historic_layers: { kind: string; layer_file_name: string }[] };
  const { historic_layers } = await storage.http<Layers>(
    'GET',
    `tenant/${tenant}/timeline/${timeline}/layer`,
  );
  return historic_layers.filter(l => l.kind === 'Image').map(l => l.layer_file_name);
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${storage.pageserverHttpPort}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)![1]);
}

test('damaged in the cache: every layer is fetched again, and every page is right', async () => {
  await storage.during(async () => {
    expect(await askAll(log.end)).toEqual({ right: log.begun.length, wrong: [], errors: [] });
    await storage.pageserver.kill('SIGKILL');
    const layers = cached();
    expect(layers.length).toBeGreaterThan(3);
    for (const path of layers) damage(path);
    await storage.pageserver.start();
    expect(await askAll(log.end)).toEqual({ right: log.begun.length, wrong: [], errors: [] });
    expect(await metric('lakebed_repaired_layers_total')).toBeGreaterThan(0);
  });
});

test('before the end of an import nothing is answered, grace for leases after a restart or not', async () => {
  const reader = new PatientReader(storage.pageserverPort, { tenant, timeline });
  const [pgClass, before] = [1259, log.redoLsn - 8];
  await expect(reader.page(pgClass, 0, before, 0)).rejects.toThrow('garbage collected');
  expect((await reader.page(pgClass, 0, log.redoLsn, 0)).length).toBe(8192);
  reader.close();
});

test('damaged in the store: an error for the pages concerned, which names the layer; the rest is served', async () => {
  await storage.during(async () => {
    const images = await imageLayers();
    expect(images.length).toBeGreaterThan(1);
    await storage.pageserver.kill('SIGKILL');
    for (const path of cached()) rmSync(path);
    // By key: the relations made last come last, a few pages in each file.
    const victim = images.sort().at(-3)!;
    const [object] = globSync(`${storage.store}/**/${victim}*`);
    damage(object!);
    await storage.pageserver.start();
    const { right, wrong, errors } = await askAll(log.end);
    expect(wrong).toEqual([]);
    expect(errors.length).toBeGreaterThan(0);
    expect(right).toBeGreaterThan(errors.length / 4);
    for (const message of errors) {
      expect(message).toContain(victim);
      expect(message).toContain('damaged in the object store');
    }
    // What came before the image is not in it.
    const before = log.model.batches[RECORDS - 200]!.lsn;
    expect(await askAll(before)).toMatchObject({ wrong: [], errors: [] });

    // Put back; it would be noticed by and by, and is at once after a restart.
    damage(object!);
    await storage.pageserver.kill('SIGKILL');
    await storage.pageserver.start();
    expect(await askAll(log.end)).toEqual({ right: log.begun.length, wrong: [], errors: [] });
  });
});
