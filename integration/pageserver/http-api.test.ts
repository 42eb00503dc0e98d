// The management API as its clients use it: the steps of the compose script, a controller's calls, the status of what
// goes wrong, and who may call what. Over the table of routes, without a socket.

import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fromUtf8, utf8 } from '../../src/base/bytes.ts';
import type { HttpApi, HttpRequest } from '../../src/base/http.ts';
import { tenantId } from '../../src/base/ids.ts';
import { parseLsn } from '../../src/base/lsn.ts';
import { Metrics } from '../../src/base/metrics.ts';
import { hostClock } from '../../src/host/clock.ts';
import { hostInitdb } from '../../src/host/initdb.ts';
import { hostProfile } from '../../src/host/profile.ts';
import { readConfig } from '../../src/pageserver/config.ts';
import { pageserverApi } from '../../src/pageserver/http-api.ts';
import { type Finding, isDamage, isGarbage, scrub } from '../../src/pageserver/scrub.ts';
import type { Tenants } from '../../src/pageserver/tenants.ts';
import { signToken, TokenVerifier } from '../../src/protocol/jwt.ts';
import { SimBlobs } from '../sim/blobs.ts';
import { SimDisk } from '../sim/disk.ts';
import { pageserverNode, WorldKeys } from '../sim/pageserver-node.ts';
import { SimRandom } from '../sim/random.ts';
import { until } from './whole.ts';

const T = '11'.repeat(16);
const OTHER = '22'.repeat(16);
const TL = 'aa'.repeat(16);
const BRANCH = 'bb'.repeat(16);

const blobs = new SimBlobs({ random: new SimRandom(1) });
const tenants: Tenants = pageserverNode(
  { blobs, clock: hostClock, seed: 1 },
  {
    keys: new WorldKeys(1),
    disk: new SimDisk({ random: new SimRandom(2) }),
    initdb: hostInitdb({ distribDir: undefined }),
  },
);
const { config } = readConfig({ pageserver: 'remote_storage={local_path="x"}', identity: 'id=1234' });

const apiWith = (tokens?: TokenVerifier): HttpApi =>
  pageserverApi({
    config,
    version: '0',
    tenants,
    node: tenants.deps,
    metrics: new Metrics(),
    tokens,
    // A profile takes seconds: who may ask for one is another question.
    ...(tokens ? {} : { profile: hostProfile }),
  });
const api = apiWith();

interface Reply {
  readonly status: number;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string>>;
}

async function call(method: string, url: string, body?: unknown, token?: string, on = api): Promise<Reply> {
  const [path, query = ''] = url.split('?');
  const bytes =
    body instanceof Uint8Array ? body : body === undefined ? undefined : utf8(JSON.stringify(body));
  const request: HttpRequest = {
    method,
    path: path!,
    query: new URLSearchParams(query),
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    body: (async function* () {
      if (bytes) yield bytes;
    })(),
    peer: 'test',
    signal: new AbortController().signal,
  };
  const answer = await on.dispatch(request);
  const text = answer.body instanceof Uint8Array ? fromUtf8(answer.body) : '';
  const isJson = answer.headers?.['content-type']?.includes('json');
  return { status: answer.status, body: isJson ? JSON.parse(text) : text, headers: answer.headers ?? {} };
}

beforeAll(() => tenants.start());
afterAll(() => tenants.close(0));

describe.sequential("the compose script, and a controller's day", () => {
  let last = '';

  test('nothing is there', async () => {
    expect(await call('GET', '/v1/status')).toMatchObject({ status: 200, body: { id: 1234 } });
    expect((await call('GET', '/v1/status')).headers).toHaveProperty('PAGESERVER_LAUNCH_TIMESTAMP');
    expect(await call('GET', '/v1/tenant', null)).toMatchObject({ status: 200, body: [] });
    expect((await call('GET', `/v1/tenant/${T}`)).status).toBe(404);
    expect((await call('GET', `/v1/tenant/${T}/timeline`)).status).toBe(404);
    expect((await call('DELETE', `/v1/tenant/${T}/timeline/${TL}`)).status).toBe(412);
    expect((await call('GET', '/v1/nothing')).status).toBe(404);
  });

  test('a tenant and its timeline, by the script of the compose stack', async () => {
    const located = await call('PUT', `/v1/tenant/${T}/location_config`, {
      mode: 'AttachedSingle',
      generation: 1,
      tenant_conf: {},
    });
    expect(located).toMatchObject({
      status: 200,
      body: { shards: [{ shard_id: T, node_id: 1 }], stripe_size: null },
    });
    // With the trailing slash of the script.
    const created = await call('POST', `/v1/tenant/${T}/timeline/`, { new_timeline_id: TL, pg_version: 17 });
    expect(created.status).toBe(201);
    expect(created.body).toMatchObject({
      tenant_id: T,
      timeline_id: TL,
      ancestor_timeline_id: null,
      pg_version: 17,
      state: 'Active',
      is_archived: false,
      current_logical_size_is_accurate: true,
    });
    last = (created.body as { last_record_lsn: string }).last_record_lsn;
    expect(created.body).toMatchObject({
      disk_consistent_lsn: last,
      remote_consistent_lsn: last,
      initdb_lsn: last,
    });
    const again = await call('POST', `/v1/tenant/${T}/timeline`, { new_timeline_id: TL, pg_version: 17 });
    expect(again).toMatchObject({ status: 201, body: { last_record_lsn: last } });
    const other = await call('POST', `/v1/tenant/${T}/timeline`, { new_timeline_id: TL, pg_version: 16 });
    expect(other.status).toBe(409);
    expect(await call('GET', `/v1/tenant/${T}`)).toMatchObject({
      status: 200,
      body: {
        id: T,
        state: { slug: 'Active' },
        attachment_status: { slug: 'attached' },
        generation: 1,
        timelines: [TL],
      },
    });
    const [only] = (await call('GET', '/v1/tenant')).body as { id: string }[];
    expect(only!.id).toBe(T);
    const [timeline] = (await call('GET', `/v1/tenant/${T}/timeline`)).body as { timeline_id: string }[];
    expect(timeline!.timeline_id).toBe(TL);
  });

  test('branches, and what is wrong with them', async () => {
    const post = (body: object): Promise<Reply> => call('POST', `/v1/tenant/${T}/timeline`, body);
    const made = await post({ new_timeline_id: BRANCH, ancestor_timeline_id: TL });
    expect(made).toMatchObject({
      status: 201,
      body: { ancestor_timeline_id: TL, ancestor_lsn: last, last_record_lsn: last },
    });
    const low = await post({
      new_timeline_id: 'cc'.repeat(16),
      ancestor_timeline_id: TL,
      ancestor_start_lsn: '0/8',
    });
    expect(low.status).toBe(406);
    expect((low.body as { msg: string }).msg).toMatch(/^invalid branch start lsn/);
    const lower = await post({
      new_timeline_id: 'cc'.repeat(16),
      ancestor_timeline_id: BRANCH,
      ancestor_start_lsn: '0/8',
    });
    expect(lower.status).toBe(406);
    expect((lower.body as { msg: string }).msg).toContain('less than timeline ancestor lsn');
    const orphan = await post({ new_timeline_id: 'cc'.repeat(16), ancestor_timeline_id: 'dd'.repeat(16) });
    expect(orphan.status).toBe(404);
    expect((await call('DELETE', `/v1/tenant/${T}/timeline/${TL}`)).status).toBe(412);
  });

  test('settings: overrides, effective ones, patches', async () => {
    const put = await call('PUT', '/v1/tenant/config', {
      tenant_id: T,
      gc_period: '0s',
      pitr_interval: '1h',
    });
    expect(put).toMatchObject({ status: 200, body: null });
    await call('PATCH', '/v1/tenant/config', { tenant_id: T, pitr_interval: null, gc_horizon: 1024 });
    expect(await call('GET', `/v1/tenant/${T}/config`)).toMatchObject({
      status: 200,
      body: {
        tenant_specific_overrides: { gc_period: '0s', gc_horizon: 1024 },
        effective_config: { gc_period: '0s', gc_horizon: 1024, pitr_interval: '7days' },
      },
    });
    const wrong = await call('PUT', '/v1/tenant/config', { tenant_id: T, gc_perriod: '0s' });
    expect(wrong.status).toBe(400);
    expect((wrong.body as { msg: string }).msg).toContain('gc_perriod');
    expect((await call('PUT', '/v1/tenant/config', { tenant_id: OTHER })).status).toBe(404);
    expect(await call('GET', '/v1/location_config')).toMatchObject({
      body: {
        tenant_shards: [[T, { mode: 'AttachedSingle', generation: 1, tenant_conf: { gc_horizon: 1024 } }]],
      },
    });
    expect((await call('GET', `/v1/location_config/${OTHER}`)).status).toBe(404);
  });

  test('time, leases, garbage, flushes', async () => {
    const path = `/v1/tenant/${T}/timeline/${TL}`;
    const late = await call('GET', `${path}/get_lsn_by_timestamp?timestamp=2099-01-01T00:00:00Z`);
    expect(late).toMatchObject({ status: 200, body: { kind: expect.stringMatching(/future|nodata/) } });
    expect((await call('GET', `${path}/get_lsn_by_timestamp?timestamp=yesterday`)).status).toBe(400);
    const early = await call('GET', `${path}/get_timestamp_of_lsn?lsn=0/8`);
    expect([412, 200]).toContain(early.status);
    const lease = await call('POST', `${path}/lsn_lease`, { lsn: last });
    expect(lease.status).toBe(200);
    const until = Date.parse((lease.body as { valid_until: string }).valid_until);
    expect(until - Date.now()).toBeGreaterThan(500_000);
    expect((await call('POST', `${path}/lsn_lease`, { lsn: '0/8' })).status).toBe(500);
    const gc = await call('PUT', `${path}/do_gc`, { gc_horizon: 0 });
    expect(gc).toMatchObject({ status: 200, body: { layers_total: expect.any(Number), layers_removed: 0 } });
    expect(Object.keys(gc.body as object).sort()).toEqual([
      'elapsed',
      'layers_needed_by_branches',
      'layers_needed_by_cutoff',
      'layers_needed_by_leases',
      'layers_needed_by_pitr',
      'layers_not_updated',
      'layers_removed',
      'layers_total',
    ]);
    expect(await call('PUT', `${path}/checkpoint?wait_until_uploaded=true`)).toMatchObject({
      status: 200,
      body: null,
    });
    expect(await call('PUT', `${path}/compact?force_image_layer_creation=true`)).toMatchObject({
      status: 200,
    });
    expect((await call('POST', `${path}/block_gc`)).status).toBe(200);
    expect((await call('GET', `/v1/tenant/${T}`)).body).toMatchObject({
      gc_blocking: expect.stringContaining('Manual'),
    });
    expect((await call('POST', `${path}/unblock_gc`)).status).toBe(200);
  });

  test('layers: the map, eviction, download', async () => {
    const path = `/v1/tenant/${T}/timeline/${TL}`;
    await call('PUT', `${path}/checkpoint?wait_until_uploaded=true`);
    const map = (await call('GET', `${path}/layer`)).body as {
      historic_layers: { layer_file_name: string; remote: boolean; kind: string }[];
    };
    expect(map.historic_layers.length).toBeGreaterThan(0);
    const { layer_file_name: name } = map.historic_layers[0]!;
    expect((await call('GET', `${path}/layer/${name}`)).status).toBe(304);
    expect((await call('DELETE', `${path}/layer/${name}`)).status).toBe(200);
    expect((await call('DELETE', `${path}/layer/${name}`)).status).toBe(304);
    expect((await call('DELETE', `${path}/layer/nonsense`)).status).toBe(400);
    expect((await call('GET', `${path}/layer/${name}`)).status).toBe(200);
    await call('DELETE', `${path}/layer/${name}`);
    const started = await call('POST', `${path}/download_remote_layers`, { max_concurrent_downloads: 4 });
    expect(started.status).toBe(202);
    for (let i = 0; i < 100; i++) {
      const { body } = await call('GET', `${path}/download_remote_layers`);
      if ((body as { state: string }).state === 'Completed') break;
      await hostClock.sleep(20);
    }
    expect(await call('GET', `${path}/download_remote_layers`)).toMatchObject({
      body: { state: 'Completed', successful_download_count: 1, failed_download_count: 0 },
    });
    const space = (await call('GET', `${path}/keyspace`)).body as { keys: [string, string][] };
    expect(space.keys.length).toBeGreaterThan(100);
    expect((await call('GET', `${path}/touchpage?key=${space.keys[0]![0]}`)).status).toBe(200);
  });

  test('the node: how full it is, evictions, the deletion queue', async () => {
    const use = (await call('GET', '/v1/utilization')).body as Record<string, unknown>;
    expect(use).toMatchObject({ shard_count: 1, max_shard_count: 2500, disk_usable_pct: 80 });
    expect(use['disk_wanted_bytes']).toBeGreaterThan(1_000_000);
    const evicted = await call('PUT', '/v1/disk_usage_eviction/run', { evict_bytes: 1 });
    expect(evicted).toMatchObject({ status: 200, body: { Finished: { evicted_layers: 1 } } });
    expect((await call('PUT', '/v1/deletion_queue/flush?execute=true')).status).toBe(200);
    const top = await call('POST', '/v1/top_tenants', { order_by: 'MaxLogicalSize', limit: 10 });
    expect(top).toMatchObject({ body: { shards: [{ id: T }] } });
    expect(await call('GET', `/v1/tenant/${T}/scan_remote_storage`)).toMatchObject({
      body: { shards: [{ tenant_shard_id: T, generation: 1 }] },
    });
    expect((await call('PUT', '/v1/failpoints', [])).status).toBe(400);
  });

  test('what a controller and an operator ask beside the work', async () => {
    const at = `/v1/tenant/${T}/timeline/${TL}`;
    const { body: layers } = await call('GET', `${at}/layer`);
    const { historic_layers } = layers as { historic_layers: { layer_file_name: string }[] };
    const { layer_file_name: layer } = historic_layers[0]!;
    // A heatmap names what is here; evicted, it is fetched again at its word.
    await call('GET', `${at}/layer/${layer}`);
    expect((await call('POST', `/v1/tenant/${T}/heatmap_upload`)).status).toBe(200);
    expect((await call('DELETE', `${at}/layer/${layer}`)).status).toBe(200);
    expect((await call('POST', `${at}/download_heatmap_layers?concurrency=2&recurse=true`)).status).toBe(202);
    await until(async () => (await call('DELETE', `${at}/layer/${layer}`)).status === 200);
    expect((await call('DELETE', `${at}/download_heatmap_layers`)).status).toBe(200);
    expect((await call('GET', `${at}/layer/${layer}`)).status).toBe(200);

    const scan = await call('POST', `${at}/layer/${layer}/scan_disposable_keys`);
    expect(scan).toMatchObject({ status: 200, body: { disposable_count: 0 } });
    expect((scan.body as { not_disposable_count: number }).not_disposable_count).toBeGreaterThan(0);
    expect((await call('POST', `${at}/layer/none/scan_disposable_keys`)).status).toBe(404);
    expect(await call('POST', `${at}/list_aux_files`, { lsn: last })).toMatchObject({
      status: 200,
      body: {},
    });
    expect((await call('POST', '/v1/feature_flag_spec', { flags: [] })).status).toBe(200);
    expect((await call('PUT', '/v1/feature_flag/x', null)).status).toBe(400);
    expect((await call('GET', `/v1/tenant/${T}/feature_flag/x?as=boolean`)).body).toMatchObject({
      result: { Err: expect.any(String) },
    });
    expect((await call('POST', `/v1/tenant/${T}/force_refresh_feature_flag`)).status).toBe(200);
    expect((await call('POST', '/v1/tracing/event', { level: 'info', message: 'here' })).status).toBe(200);
    const top = await call('POST', '/v1/top_tenants', { order_by: 'ResidentSize', limit: 1 });
    expect(top).toMatchObject({ status: 200, body: { shards: [{ id: T }] } });
    const cpu = await call('GET', '/profile/cpu?seconds=1');
    expect((cpu.body as { nodes: unknown[] }).nodes.length).toBeGreaterThan(0);
    expect((await call('GET', '/profile/heap?seconds=1')).body).toHaveProperty('head');
    expect((await call('GET', '/profile/cpu?seconds=1000')).status).toBe(400);
  });

  test('files put into a timeline, its index changed, what a read of it takes', async () => {
    const id = '7'.repeat(32);
    const at = `/v1/tenant/${T}/timeline/${id}`;
    await call('POST', `/v1/tenant/${T}/timeline`, { new_timeline_id: id, ancestor_timeline_id: TL });
    const { last_record_lsn: last } = (await call('GET', at)).body as { last_record_lsn: string };
    expect((await call('POST', `${at}/ingest_aux_files`, { aux_files: { '../x': 'y' } })).status).toBe(400);
    const files = { 'pg_logical/mappings/one': 'first', 'pg_logical/mappings/two': 'second' };
    expect((await call('POST', `${at}/ingest_aux_files`, { aux_files: files })).status).toBe(200);
    const { last_record_lsn: since } = (await call('GET', at)).body as { last_record_lsn: string };
    expect(parseLsn(since)).toBe(parseLsn(last) + 8);
    expect((await call('POST', `${at}/list_aux_files`, { lsn: since })).body).toEqual(
      Object.fromEntries(Object.entries(files).map(([path, text]) => [path, [...Buffer.from(text)]])),
    );
    expect((await call('POST', `${at}/list_aux_files`, { lsn: last })).body).toEqual({});
    await call(
      'PUT',
      `/v1/tenant/${T}/timeline/${TL}/compact?force_l0_compaction=true&force_image_layer_creation=true`,
    );
    const perf = await call('POST', `/v1/tenant/${T}/timeline/${TL}/perf_info`);
    expect(perf.body).toContainEqual({
      start: expect.stringMatching(/^[0-9A-F]{16}$/i),
      end: expect.stringMatching(/^[0-9A-F]{16}$/i),
      has_image: true,
      num_of_deltas_above_image: 0,
      total_num_of_deltas: expect.any(Number),
      num_of_l0: 0,
    });
    const patch = (body: object): Promise<Reply> => call('POST', `${at}/patch_index_part`, body);
    expect((await patch({ rel_size_migration: 'migrated' })).status).toBe(400);
    expect((await patch({ gc_compaction_last_completed_lsn: last })).status).toBe(400);
    expect((await patch({ applied_gc_cutoff_lsn: '0/8' })).status).toBe(400);
    expect((await patch({ applied_gc_cutoff_lsn: 'FF/0' })).status).toBe(400);
    expect((await call('PUT', `${at}/checkpoint`)).status).toBe(200);
    expect((await patch({ applied_gc_cutoff_lsn: since, force_index_update: true })).status).toBe(200);
    expect((await call('GET', at)).body).toMatchObject({ applied_gc_cutoff_lsn: since });
    expect((await patch({ applied_gc_cutoff_lsn: last })).status).toBe(400);
    expect((await call('DELETE', at)).status).toBe(202);
  });

  test('going back in the object store: not of a tenant that is attached, not in a directory', async () => {
    const travel = (tenant: string, to: string, done: string): Promise<Reply> =>
      call('PUT', `/v1/tenant/${tenant}/time_travel_remote_storage?travel_to=${to}&done_if_after=${done}`);
    const [then, now] = ['2026-01-01T00:00:00Z', '2026-02-01T00:00:00Z'];
    expect((await travel(T, then, now)).body).toMatchObject({ msg: 'Tenant still attached' });
    expect((await travel('8'.repeat(32), now, then)).status).toBe(400);
    expect((await travel('8'.repeat(32), 'yesterday', now)).status).toBe(400);
    expect(await travel('8'.repeat(32), then, now)).toMatchObject({
      status: 400,
      body: { msg: expect.stringContaining('no versions') },
    });
  });

  test('waiting for an LSN', async () => {
    const wait = (body: object): Promise<Reply> => call('POST', `/v1/tenant/${T}/wait_lsn`, body);
    const timeout = { secs: 0, nanos: 50_000_000 };
    expect((await wait({ [TL]: last, timeout })).status).toBe(200);
    expect((await wait({ [TL]: 'F/0', timeout })).status).toBe(202);
    expect((await wait({ [OTHER]: last, timeout })).status).toBe(404);
  });

  test('archived, offloaded, and back', async () => {
    const path = `/v1/tenant/${T}/timeline/${BRANCH}`;
    const set = (of: string, state: string): Promise<Reply> =>
      call('PUT', `/v1/tenant/${T}/timeline/${of}/archival_config`, { state });
    expect((await set(TL, 'Archived')).status).toBe(412);
    expect((await set(BRANCH, 'Archived')).status).toBe(200);
    expect((await call('GET', path)).body).toMatchObject({ is_archived: true });
    expect((await call('PUT', `${path}/offload`)).status).toBe(200);
    expect((await call('GET', path)).status).toBe(404);
    expect(await call('GET', `/v1/tenant/${T}/timeline_and_offloaded`)).toMatchObject({
      body: {
        timelines: [{ timeline_id: TL }],
        offloaded: [{ timeline_id: BRANCH, ancestor_timeline_id: TL, ancestor_retain_lsn: last }],
      },
    });
    expect((await call('DELETE', `/v1/tenant/${T}/timeline/${TL}`)).status).toBe(412);
    expect((await set(TL, 'Archived')).status).toBe(200);
    expect((await set(BRANCH, 'Unarchived')).status).toBe(412);
    expect((await set(TL, 'Unarchived')).status).toBe(200);
    expect((await set(BRANCH, 'Unarchived')).status).toBe(200);
    expect((await call('GET', path)).body).toMatchObject({ is_archived: false, last_record_lsn: last });
    expect((await set('ee'.repeat(16), 'Archived')).status).toBe(404);
  });

  test('a branch is detached from its ancestor, once and for all', async () => {
    const path = `/v1/tenant/${T}/timeline/${BRANCH}`;
    const detach = (): Promise<Reply> => call('PUT', `${path}/detach_ancestor`);
    const pagesBefore = await keyPages(BRANCH);
    expect(await detach()).toMatchObject({ status: 200, body: { reparented_timelines: [] } });
    expect((await call('GET', path)).body).toMatchObject({
      ancestor_timeline_id: null,
      last_record_lsn: last,
    });
    expect(await detach()).toMatchObject({ status: 200 });
    expect((await call('PUT', `/v1/tenant/${T}/timeline/${TL}/detach_ancestor`)).status).toBe(409);
    // Its former ancestor may go; it does not need it.
    expect((await call('DELETE', `/v1/tenant/${T}/timeline/${TL}`)).status).toBe(202);
    for (let i = 0; i < 200; i++) {
      if ((await call('GET', `/v1/tenant/${T}/timeline/${TL}`)).status === 404) break;
      await hostClock.sleep(20);
    }
    expect((await call('DELETE', `/v1/tenant/${T}/timeline/${TL}`)).status).toBeOneOf([404, 409]);
    expect(await keyPages(BRANCH)).toEqual(pagesBefore);
    await call('POST', `/v1/tenant/${T}/reset?drop_cache=true`);
    expect(await keyPages(BRANCH)).toEqual(pagesBefore);
  });

  test('a tenant becomes two shards, which serve what it had', async () => {
    const pagesBefore = await keyPages(BRANCH);
    const split = await call('PUT', `/v1/tenant/${T}/shard_split`, {
      new_shard_count: 2,
      new_stripe_size: 16,
    });
    expect(split).toMatchObject({ status: 200, body: { new_shards: [`${T}-0002`, `${T}-0102`] } });
    const ids = ((await call('GET', '/v1/tenant')).body as { id: string }[]).map(({ id }) => id);
    expect(ids.sort()).toEqual([`${T}-0002`, `${T}-0102`]);
    for (const shard of ids) expect(await keyPages(BRANCH, shard)).toEqual(pagesBefore);
    expect((await call('PUT', `/v1/tenant/${T}-0002/shard_split`, { new_shard_count: 3 })).status).toBe(400);
    await scrubbed(ids, pagesBefore);
    for (const shard of ids) expect((await call('DELETE', `/v1/tenant/${shard}`)).status).toBe(200);
    expect((await call('GET', '/v1/tenant')).body).toEqual([]);
  });

  /** Shards read the layers of the shard they were split from: a scrub knows, and what it calls garbage nobody misses. */
  async function scrubbed(ids: readonly string[], pages: readonly string[]): Promise<void> {
    await tenants.deps.remote.deletions.flush();
    const { vault } = tenants.deps;
    const findings: Finding[] = [];
    for await (const finding of scrub({ blobs, vault }, { deep: true })) findings.push(finding);
    expect(findings.filter(isDamage)).toEqual([]);
    const garbage = findings.filter(finding => isGarbage(finding, Date.now() + 1, 0));
    await blobs.remove(garbage.map(({ key }) => key));
    for (const shard of ids) {
      await call('POST', `/v1/tenant/${shard}/reset?drop_cache=true`);
      expect(await keyPages(BRANCH, shard)).toEqual(pages);
    }
    const again: Finding[] = [];
    for await (const finding of scrub({ blobs, vault }, { deep: true })) again.push(finding);
    expect(again).toEqual([]);
  }

  /** A few pages of a timeline, by our keys. */
  async function keyPages(timeline: string, shard = T): Promise<string[]> {
    const path = `/v1/tenant/${shard}/timeline/${timeline}`;
    const { keys } = (await call('GET', `${path}/keyspace`)).body as { keys: [string, string][] };
    const pages = keys.slice(0, 30).map(async ([key]) => {
      const { status, body } = await call('GET', `${path}/getpage?key=${key}`);
      expect(status).toBe(200);
      return String(body).slice(0, 200);
    });
    return Promise.all(pages);
  }
});

test('a location that makes no sense is refused', async () => {
  const put = (body: object, shard = T): Promise<Reply> =>
    call('PUT', `/v1/tenant/${shard}/location_config`, body);
  expect((await put({ mode: 'AttachedSingle', tenant_conf: {} })).status).toBe(400);
  expect((await put({ mode: 'Sideways', generation: 1, tenant_conf: {} })).status).toBe(400);
  expect((await put({ mode: 'AttachedSingle', generation: 1 })).status).toBe(400);
  expect((await put({ mode: 'AttachedSingle', generation: 1, tenant_conf: { x: 1 } })).status).toBe(400);
  expect((await put({ mode: 'Detached', tenant_conf: {} })).status).toBe(200);
  expect((await call('GET', '/v1/tenant/not-an-id')).status).toBe(400);
});

describe('who may call what', () => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const pem = (key: typeof publicKey, type: 'spki' | 'pkcs8'): string =>
    key.export({ format: 'pem', type: type as never }).toString();
  let guarded: HttpApi;
  let tokens: Record<'ours' | 'theirs' | 'all' | 'safekeepers' | 'expired', string>;

  beforeAll(async () => {
    guarded = apiWith(await TokenVerifier.of([pem(publicKey, 'spki')], () => Date.now()));
    const sign = (claims: Parameters<typeof signToken>[0], expiresAt?: number): Promise<string> =>
      signToken(claims, pem(privateKey, 'pkcs8'), expiresAt === undefined ? {} : { expiresAt });
    tokens = {
      ours: await sign({ scope: 'tenant', tenantId: tenantId(T) }),
      theirs: await sign({ scope: 'tenant', tenantId: tenantId(OTHER) }),
      all: await sign({ scope: 'pageserverapi' }),
      safekeepers: await sign({ scope: 'safekeeperdata' }),
      expired: await sign({ scope: 'pageserverapi' }, 1000),
    };
  });

  test('every route by every kind of token', async () => {
    const fill = (path: string): string =>
      path
        .replace(':tenant_shard_id', T)
        .replace(':tenant_id', T)
        .replace(':timeline_id', TL)
        .replace(':layer_file_name', 'x');
    for (const { method, path, access } of guarded.routes) {
      const status = async (token?: string): Promise<number> =>
        (await call(method, fill(path), undefined, token, guarded)).status;
      const name = `${method} ${path}`;
      if (access === 'open') {
        expect(await status(), name).toBeLessThan(400);
        continue;
      }
      expect(await status(), name).toBe(401);
      expect(await status('rubbish'), name).toBe(401);
      expect(await status(tokens.expired), name).toBe(401);
      expect(await status(tokens.safekeepers), name).toBe(403);
      expect(await status(tokens.theirs), name).toBe(403);
      const own = await status(tokens.ours);
      if (access === 'node') expect(own, name).toBe(403);
      else expect([401, 403], name).not.toContain(own);
      if (method === 'GET') expect([401, 403], name).not.toContain(await status(tokens.all));
    }
  });
});

test('the document tells of every route', async () => {
  const { status, body } = await call('GET', '/openapi.json');
  expect(status).toBe(200);
  const { paths } = body as { paths: Record<string, Record<string, unknown>> };
  expect(Object.keys(paths)).toContain('/v1/tenant/{tenant_shard_id}/timeline/{timeline_id}/detach_ancestor');
  const count = Object.values(paths).reduce((sum, methods) => sum + Object.keys(methods).length, 0);
  expect(count).toBe(api.routes.length);
});
