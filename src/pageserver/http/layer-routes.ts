// Routes of layers and pages: the layer map, what is on the local disk, and one page as it was.
//
// Answers to pageserver/src/http/routes.rs. Keys are ours: 16 hex digits (key.ts).

import { Semaphore } from '../../base/flow.ts';
import { json, type Route, route, StatusError, stream } from '../../base/http.ts';
import { formatLsn } from '../../base/lsn.ts';
import {
  integer,
  lsnSchema,
  object,
  optional,
  queryBoolean,
  queryNumber,
  string,
} from '../../base/schema.ts';
import { evictLayer } from '../eviction.ts';
import { formatKey } from '../key.ts';
import { readHeatmap } from '../secondary.ts';
import type { TenantTimeline } from '../tenant-timeline.ts';
import { type ApiDeps, activeTimeline, TIMELINE, TIMELINE_PATH } from './access.ts';
import { layerMap } from './shapes.ts';

export const layerRoutes = (deps: ApiDeps): Route[] => [
  ...mapRoutes(deps),
  ...downloadRoutes(deps),
  ...pageRoutes(deps),
];

const LAYER = { ...TIMELINE, layer_file_name: string() };

function mapRoutes(deps: ApiDeps): Route[] {
  const layerOf = async (params: { readonly layer_file_name: string } & Parameters<typeof find>[1]) => {
    const timeline = await find(deps, params);
    const { layer_file_name: name } = params;
    if (!timeline.remote.refOf(name)) throw new StatusError(400, `Layer ${name} not found`);
    return { timeline, name };
  };
  return [
    route({
      method: 'GET',
      path: `${TIMELINE_PATH}/layer`,
      summary: 'Every layer, in memory and of the object store.',
      access: 'tenant',
      params: TIMELINE,
      query: { reset: optional(string()) },
      handle: async ({ params }) => json(layerMap(await find(deps, params))),
    }),
    route({
      method: 'GET',
      path: `${TIMELINE_PATH}/layer/:layer_file_name`,
      summary: 'Fetches a layer to the local disk; 304 when it is there.',
      access: 'tenant',
      params: LAYER,
      handle: async ({ params }) => {
        const { timeline, name } = await layerOf(params);
        if (timeline.remote.cache.isResident(name)) return json(null, 304);
        await timeline.remote.cache.download(name);
        return json(null);
      },
    }),
    route({
      method: 'DELETE',
      path: `${TIMELINE_PATH}/layer/:layer_file_name`,
      summary: 'Gives up the local copy of a layer; 304 when there is none, or no other.',
      access: 'tenant',
      params: LAYER,
      handle: async ({ params }) => {
        const { timeline, name } = await layerOf(params);
        return json(null, (await evictLayer(timeline, name)) ? 200 : 304);
      },
    }),
  ];
}

type TimelineParams = {
  readonly tenant_shard_id: Parameters<typeof activeTimeline>[1];
  readonly timeline_id: Parameters<typeof activeTimeline>[2];
};

const find = (deps: ApiDeps, params: TimelineParams): Promise<TenantTimeline> =>
  activeTimeline(deps, params.tenant_shard_id, params.timeline_id);

/** One download of everything that is not here, per timeline. */
interface Download {
  readonly id: string;
  state: 'Running' | 'Completed' | 'ShutDown';
  readonly total: number;
  done: number;
  failed: number;
}

const DOWNLOADS_MAX = 32;

function downloadRoutes(deps: ApiDeps): Route[] {
  const downloads = new WeakMap<TenantTimeline, Download>();
  let started = 0;
  const shown = (download: Download): unknown => ({
    task_id: download.id,
    state: download.state,
    total_layer_count: download.total,
    successful_download_count: download.done,
    failed_download_count: download.failed,
  });
  return [
    route({
      method: 'POST',
      path: `${TIMELINE_PATH}/download_remote_layers`,
      summary: 'Fetches every layer that is not on the local disk.',
      access: 'tenant',
      params: TIMELINE,
      body: object({ max_concurrent_downloads: integer(1) }),
      handle: async ({ params, body }) => {
        const timeline = await find(deps, params);
        const before = downloads.get(timeline);
        if (before?.state === 'Running') return json(shown(before), 409);
        const { cache } = timeline.remote;
        const missing = [...timeline.index.layers.keys()].filter(name => !cache.isResident(name));
        const download: Download = {
          id: String(++started),
          state: 'Running',
          total: missing.length,
          done: 0,
          failed: 0,
        };
        downloads.set(timeline, download);
        void fetchAll(timeline, missing, Math.min(body.max_concurrent_downloads, DOWNLOADS_MAX), download);
        return json(shown(download), 202);
      },
    }),
    route({
      method: 'GET',
      path: `${TIMELINE_PATH}/download_remote_layers`,
      summary: 'How far that is.',
      access: 'tenant',
      params: TIMELINE,
      handle: async ({ params }) => {
        const download = downloads.get(await find(deps, params));
        if (!download) throw new StatusError(404, 'task not found');
        return json(shown(download));
      },
    }),
    ...heatmapRoutes(deps),
  ];
}

const HEATMAP_DOWNLOADS = 10;

/** After an attachment has moved here: what it had at hand there is fetched before it is asked for. */
function heatmapRoutes(deps: ApiDeps): Route[] {
  const under = new WeakMap<TenantTimeline, AbortController>();
  const warm = async (timeline: TenantTimeline, atOnce: number, stop: AbortSignal): Promise<void> => {
    const heatmap = await readHeatmap(deps.node, timeline.home.at);
    const { cache } = timeline.remote;
    const layers = (heatmap?.layers ?? []).filter(
      ({ timeline: of, name }) =>
        of === timeline.id && timeline.remote.refOf(name) && !cache.isResident(name),
    );
    const slots = new Semaphore(atOnce);
    await Promise.allSettled(
      layers.map(({ name }) =>
        slots.run(async () => {
          stop.throwIfAborted();
          await cache.download(name);
        }),
      ),
    );
  };
  return [
    route({
      method: 'POST',
      path: `${TIMELINE_PATH}/download_heatmap_layers`,
      summary: 'Fetches what the heatmap names of the timeline, and of its ancestors with recurse.',
      access: 'tenant',
      params: TIMELINE,
      query: { concurrency: optional(queryNumber), recurse: optional(queryBoolean) },
      handle: async ({ params, query }) => {
        const timeline = await find(deps, params);
        const stop = new AbortController();
        under.get(timeline)?.abort(new Error('begun anew'));
        under.set(timeline, stop);
        const signal = AbortSignal.any([stop.signal, timeline.signal]);
        const atOnce = Math.min(DOWNLOADS_MAX, Math.max(1, query.concurrency ?? HEATMAP_DOWNLOADS));
        const all = [timeline];
        if (query.recurse) for (let up = timeline.ancestor; up; up = up.ancestor) all.push(up);
        void Promise.allSettled(all.map(one => warm(one, atOnce, signal)));
        return json(null, 202);
      },
    }),
    route({
      method: 'DELETE',
      path: `${TIMELINE_PATH}/download_heatmap_layers`,
      summary: 'Ends that.',
      access: 'tenant',
      params: TIMELINE,
      handle: async ({ params }) => {
        under.get(await find(deps, params))?.abort(new Error('ended'));
        return json(null);
      },
    }),
  ];
}

async function fetchAll(
  { remote, signal }: TenantTimeline,
  layers: readonly string[],
  atOnce: number,
  download: Download,
): Promise<void> {
  const slots = new Semaphore(atOnce);
  const fetchOne = async (layer: string): Promise<void> => {
    try {
      signal.throwIfAborted();
      await remote.cache.download(layer);
      download.done++;
    } catch {
      download.failed++;
    }
  };
  await Promise.all(layers.map(layer => slots.run(() => fetchOne(layer))));
  download.state = signal.aborted ? 'ShutDown' : 'Completed';
}

const KEY = /^([0-9a-fA-F]{8})([0-9a-fA-F]{8})$/;

function pageRoutes(deps: ApiDeps): Route[] {
  const pageOf = async (
    params: TimelineParams,
    query: { readonly key: string; readonly lsn?: number | undefined },
  ): Promise<Uint8Array> => {
    const timeline = await find(deps, params);
    const match = KEY.exec(query.key);
    if (!match) throw new StatusError(400, 'a key is 16 hex digits: 8 of the relation, 8 of the block');
    const lsn = query.lsn ?? timeline.timeline.lastRecordLsn;
    if (lsn > timeline.timeline.lastRecordLsn)
      throw new StatusError(400, `${formatLsn(lsn)} is not here yet`);
    return timeline.timeline.getPage(parseInt(match[1]!, 16), parseInt(match[2]!, 16), lsn);
  };
  const query = { key: string(), lsn: optional(lsnSchema) };
  return [
    route({
      method: 'GET',
      path: `${TIMELINE_PATH}/getpage`,
      summary: 'A page as it was, 8192 bytes, for tests.',
      access: 'tenant',
      params: TIMELINE,
      query,
      answerType: 'application/octet-stream',
      handle: async ({ params, query }) => {
        const page = await pageOf(params, query);
        return { status: 200, headers: { 'content-type': 'application/octet-stream' }, body: page };
      },
    }),
    route({
      method: 'GET',
      path: `${TIMELINE_PATH}/touchpage`,
      summary: 'Reads a page, and says that it could.',
      access: 'tenant',
      params: TIMELINE,
      query,
      handle: async ({ params, query }) => {
        await pageOf(params, query);
        return json(null);
      },
    }),
    route({
      method: 'GET',
      path: `${TIMELINE_PATH}/keyspace`,
      summary: 'Which keys hold blocks.',
      access: 'tenant',
      params: TIMELINE,
      query: { at_lsn: optional(lsnSchema) },
      handle: async ({ params, query }) => {
        const timeline = await find(deps, params);
        const lsn = Math.min(query.at_lsn ?? Infinity, timeline.timeline.lastRecordLsn);
        const { relations, sizes } = await timeline.pgdata.snapshot(lsn);
        const keys = relations
          .map(({ id }) => [formatKey(id, 0), formatKey(id, sizes.get(id)?.nblocks ?? 0)])
          .filter(([start, end]) => start !== end)
          .sort(([a], [b]) => (a! < b! ? -1 : 1));
        return json({ keys, sparse_keys: [], at_lsn: formatLsn(lsn) });
      },
    }),
    route({
      method: 'GET',
      path: `${TIMELINE_PATH}/page_trace`,
      summary: 'Traces of page requests: none are kept.',
      access: 'tenant',
      params: TIMELINE,
      query: { size_limit_bytes: optional(queryNumber), time_limit_secs: optional(queryNumber) },
      answerType: 'application/octet-stream',
      handle: () => stream((async function* () {})()),
    }),
  ];
}
