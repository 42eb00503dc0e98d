// Routes of the node as a whole: that it is there, how full it is, and what an operator may tell it.
//
// Answers to pageserver/src/http/routes.rs and pageserver/src/utilization.rs.

import { json, type Route, route, StatusError } from '../../base/http.ts';
import { anything, integer, nullable, object, oneOf, optional, queryBoolean } from '../../base/schema.ts';
import { metricsRoute } from '../../base/watch-api.ts';
import { evictBytes, residentLayers } from '../eviction.ts';
import type { ApiDeps } from './access.ts';
import { physicalSize } from './shapes.ts';

/** How many shards a controller may place here at most. */
const SHARDS_MAX = 2500;
const SCORE_FULL = 1_000_000;
const ORDERS = {
  ResidentSize: 'resident_size',
  MaxLogicalSize: 'max_logical_size',
  MaxLogicalSizePerShard: 'max_logical_size_per_shard',
} as const;

export function nodeRoutes(deps: ApiDeps): Route[] {
  return [...statusRoutes(deps), ...upkeepRoutes(deps), ...sizeRoutes(deps)];
}

function statusRoutes({ config, metrics, tenants, node, reloadKeys }: ApiDeps): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/status',
      summary: 'That it is there, and who it is.',
      access: 'open',
      answer: object({ id: integer() }),
      handle: () => json({ id: config.id }),
    }),
    metricsRoute(metrics),
    route({
      method: 'POST',
      path: '/v1/reload_auth_validation_keys',
      summary: 'Reads the public keys of tokens again.',
      access: 'node',
      handle: async () => {
        if (!reloadKeys) throw new StatusError(400, 'tokens are not asked for here');
        await reloadKeys();
        return json(null);
      },
    }),
    route({
      method: 'GET',
      path: '/v1/utilization',
      summary: 'How full the node is, for who places tenants.',
      access: 'node',
      handle: async () => {
        const { capacityBytes, freeBytes } = await node.disk.usage();
        const usablePct = config.eviction.enabled ? config.eviction.maxUsagePct : 100;
        const wanted = tenants.timelines().reduce((sum, timeline) => sum + physicalSize(timeline), 0);
        const shards = tenants.attached().length;
        const usable = Math.max(1, (capacityBytes * usablePct) / 100);
        return json({
          disk_usage_bytes: capacityBytes - freeBytes,
          free_space_bytes: freeBytes,
          disk_wanted_bytes: wanted,
          disk_usable_pct: usablePct,
          shard_count: shards,
          max_shard_count: SHARDS_MAX,
          utilization_score: Math.floor(Math.max(wanted / usable, shards / SHARDS_MAX) * SCORE_FULL),
          captured_at: new Date(node.clock.now()).toISOString(),
        });
      },
    }),
  ];
}

function upkeepRoutes({ tenants, node }: ApiDeps): Route[] {
  return [
    route({
      method: 'PUT',
      path: '/v1/deletion_queue/flush',
      summary: 'Deletes what waits to be deleted, without waiting for more.',
      access: 'node',
      query: { execute: optional(queryBoolean) },
      handle: async ({ query }) => {
        if (query.execute) await node.remote.deletions.flush();
        return json(null);
      },
    }),
    route({
      method: 'PUT',
      path: '/v1/disk_usage_eviction/run',
      summary: 'Frees local disk by giving up layers that are in the object store.',
      access: 'node',
      body: object({ evict_bytes: integer(), eviction_order: optional(anything()) }),
      handle: async ({ body }) => {
        const timelines = tenants.timelines();
        const resident = residentLayers(timelines).reduce((sum, layer) => sum + layer.bytes, 0);
        const done = await evictBytes(timelines, body.evict_bytes, node.clock.now());
        return json({
          Finished: {
            assumed: { projected_after: { freed_bytes: done.bytes }, failed: { count: 0, file_sizes: 0 } },
            before: { config: { evict_bytes: body.evict_bytes }, freed_bytes: 0, resident_bytes: resident },
            freed_bytes: done.bytes,
            evicted_layers: done.layers,
            short_bytes: done.shortBytes,
          },
        });
      },
    }),
    ...['/v1/io_engine', '/v1/io_mode'].map(path =>
      route({
        method: 'PUT',
        path,
        summary: 'Taken, and without a meaning here.',
        access: 'node',
        body: optional(nullable(anything())),
        handle: () => json(null),
      }),
    ),
    route({
      method: 'PUT',
      path: '/v1/failpoints',
      summary: 'Refused: this build has none.',
      access: 'node',
      body: optional(anything()),
      handle: () => {
        throw new StatusError(400, 'Cannot manage failpoints: this build has none');
      },
    }),
  ];
}

function sizeRoutes({ tenants }: ApiDeps): Route[] {
  return [
    route({
      method: 'POST',
      path: '/v1/top_tenants',
      summary: 'The largest tenant shards.',
      access: 'node',
      body: object({
        order_by: oneOf('ResidentSize', 'MaxLogicalSize', 'MaxLogicalSizePerShard'),
        limit: integer(),
        where_shards_lt: optional(nullable(integer())),
        where_gt: optional(nullable(integer())),
      }),
      handle: ({ body }) => {
        const shards = tenants.attached().map(tenant => {
          const timelines = [...tenant.timelines.values()];
          const logical = Math.max(0, ...timelines.map(timeline => timeline.pgdata.logicalSize));
          const count = Math.max(1, tenant.at.shard.count);
          return {
            id: tenant.id,
            resident_size: timelines.reduce((sum, t) => sum + t.remote.cache.residentBytes, 0),
            physical_size: timelines.reduce((sum, t) => sum + physicalSize(t), 0),
            max_logical_size: logical,
            max_logical_size_per_shard: Math.ceil(logical / count),
          };
        });
        const key = ORDERS[body.order_by];
        const { where_gt, where_shards_lt } = body;
        const wanted = shards.filter(
          shard =>
            (where_gt == null || shard[key] > where_gt) &&
            (where_shards_lt == null || shardCount(shard.id) < where_shards_lt),
        );
        return json({ shards: wanted.sort((a, b) => b[key] - a[key]).slice(0, body.limit) });
      },
    }),
    route({
      method: 'GET',
      path: '/v1/list_tenant_visible_size',
      summary: 'What each shard wants of the disk.',
      access: 'node',
      handle: () =>
        json(
          Object.fromEntries(
            tenants
              .attached()
              .map(tenant => [
                tenant.id,
                [...tenant.timelines.values()].reduce((sum, timeline) => sum + physicalSize(timeline), 0),
              ]),
          ),
        ),
    }),
  ];
}

const shardCount = (id: string): number => (id.includes('-') ? parseInt(id.slice(-2), 16) : 0);
