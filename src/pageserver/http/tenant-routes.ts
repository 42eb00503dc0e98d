// Routes of tenants: how they are attached, their settings, and what is done to a tenant as a whole.
//
// Answers to pageserver/src/http/routes.rs.

import { json, type Route, route, StatusError } from '../../base/http.ts';
import { timelineId, UNSHARDED } from '../../base/ids.ts';
import { parseLsn } from '../../base/lsn.ts';
import {
  anything,
  type Fields,
  integer,
  nullable,
  object,
  optional,
  queryBoolean,
  queryNumber,
  record,
  type Schema,
  tenantIdSchema,
  u8,
  u32,
} from '../../base/schema.ts';
import { isAttached, locationConfigSchema, locationOf, showLocation } from '../location.ts';
import { parseKey, shardText } from '../remote/paths.ts';
import { travel } from '../remote/time-travel.ts';
import { splitShard } from '../shard-split.ts';
import {
  applyPatch,
  effectiveSettings,
  OVERRIDE_FIELDS,
  overridesOf,
  patchOf,
  showSettings,
  type TenantOverrides,
} from '../tenant-config.ts';
import { deleteTenant } from '../tenant-delete.ts';
import { ACTIVE_WAIT_MS } from '../tenants.ts';
import { type ApiDeps, instantSchema, TENANT } from './access.ts';
import { tenantDetails, tenantInfo } from './shapes.ts';

export function tenantRoutes(deps: ApiDeps): Route[] {
  return [
    ...listRoutes(deps),
    ...locationRoutes(deps),
    ...configRoutes(deps),
    ...wholeRoutes(deps),
    ...storeRoutes(deps),
  ];
}

function listRoutes({ tenants }: ApiDeps): Route[] {
  return [
    route({
      method: 'GET',
      path: '/v1/tenant',
      summary: 'The tenant shards that are attached here.',
      access: 'node',
      handle: () => json(tenants.attached().map(tenantInfo)),
    }),
    route({
      method: 'GET',
      path: '/v1/tenant/:tenant_shard_id',
      summary: 'One of them, with its timelines.',
      access: 'tenant',
      params: TENANT,
      handle: async ({ params }) => {
        const tenant = tenants.get(params.tenant_shard_id);
        await tenant.waitActive(ACTIVE_WAIT_MS).catch(() => undefined); // its state says what is the matter
        return json(tenantDetails(tenant));
      },
    }),
    route({
      method: 'DELETE',
      path: '/v1/tenant/:tenant_shard_id',
      summary: 'Removes it from here and from the object store.',
      access: 'tenant',
      params: TENANT,
      handle: async ({ params }) => {
        await deleteTenant(tenants, params.tenant_shard_id);
        return json(null);
      },
    }),
  ];
}

function locationRoutes({ tenants, node }: ApiDeps): Route[] {
  return [
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_shard_id/location_config',
      summary: 'How the shard is to be here: attached under a generation, as a secondary, or not at all.',
      access: 'tenant',
      params: TENANT,
      query: { flush_ms: optional(queryNumber), lazy: optional(queryBoolean) },
      body: locationConfigSchema,
      handle: async ({ params, query, body }) => {
        const at = params.tenant_shard_id;
        const conf = locationOf(body, at);
        if (!conf) {
          await tenants.detach(at, { flushMs: query.flush_ms });
          return json(null);
        }
        await tenants.upsert(at, conf, { flushMs: query.flush_ms });
        const here = isAttached(conf) ? tenants.shardsOf(at.tenant).filter(({ tenant }) => tenant) : [];
        return json({
          shards: here.map(slot => ({ shard_id: shardText(slot.at), node_id: node.nodeId })),
          stripe_size: at.shard.count > 1 ? conf.stripeSize : null,
        });
      },
    }),
    route({
      method: 'GET',
      path: '/v1/location_config',
      summary: 'How every shard is here.',
      access: 'node',
      handle: () =>
        json({
          tenant_shards: tenants
            .locations()
            .map(({ at, conf }) => [shardText(at), showLocation(conf, at.shard)]),
        }),
    }),
    route({
      method: 'GET',
      path: '/v1/location_config/:tenant_shard_id',
      summary: 'How one shard is here.',
      access: 'node',
      params: TENANT,
      handle: ({ params }) => {
        const at = params.tenant_shard_id;
        return json(showLocation(tenants.location(at), at.shard));
      },
    }),
  ];
}

/** tenant_id, and any of the settings: refused when misspelt. */
const CONFIG_BODY: Schema<Record<string, unknown>> = object(
  { tenant_id: tenantIdSchema, ...OVERRIDE_FIELDS } as Fields,
  { strict: true },
);

function configRoutes({ tenants, node }: ApiDeps): Route[] {
  const change = async (
    body: Record<string, unknown>,
    overridesAfter: (before: TenantOverrides) => TenantOverrides,
  ): Promise<void> => {
    const at = {
      tenant: body['tenant_id'] as (typeof tenantIdSchema)['parse'] extends (...a: never[]) => infer T
        ? T
        : never,
      shard: UNSHARDED,
    };
    await tenants.configure(at, conf => ({ ...conf, overrides: overridesAfter(conf.overrides) }));
  };
  return [
    route({
      method: 'GET',
      path: '/v1/tenant/:tenant_shard_id/config',
      summary: 'What the tenant sets itself, and what it runs with.',
      access: 'tenant',
      params: TENANT,
      handle: ({ params }) => {
        const { overrides } = tenants.location(params.tenant_shard_id);
        return json({
          tenant_specific_overrides: showSettings(overrides),
          effective_config: showSettings(effectiveSettings(node.tenantDefaults, overrides)),
        });
      },
    }),
    route({
      method: 'PUT',
      path: '/v1/tenant/config',
      summary: 'Replaces everything that the tenant sets itself.',
      access: 'node',
      body: CONFIG_BODY,
      handle: async ({ body }) => {
        await change(body, () => overridesOf(body));
        return json(null);
      },
    }),
    route({
      method: 'PATCH',
      path: '/v1/tenant/config',
      summary: 'Changes some of what the tenant sets itself; null takes one back.',
      access: 'node',
      body: CONFIG_BODY,
      handle: async ({ body }) => {
        await change(body, before => applyPatch(before, patchOf(body)));
        return json(null);
      },
    }),
  ];
}

const waitBody = record(anything());
const timeoutSchema = object({ secs: integer(), nanos: optional(integer()) });

function wholeRoutes({ tenants }: ApiDeps): Route[] {
  return [
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_shard_id/shard_split',
      summary: 'Makes several shards of one.',
      access: 'node',
      params: TENANT,
      body: object({ new_shard_count: u8(), new_stripe_size: optional(nullable(u32())) }),
      handle: async ({ params, body }) => {
        const { new_shard_count: count, new_stripe_size } = body;
        const children = await splitShard(tenants, params.tenant_shard_id, {
          count,
          stripeSize: new_stripe_size ?? undefined,
        });
        return json({ new_shards: children });
      },
    }),
    route({
      method: 'POST',
      path: '/v1/tenant/:tenant_shard_id/reset',
      summary: 'Loads the tenant anew, from the object store alone if its cache is dropped.',
      access: 'tenant',
      params: TENANT,
      query: { drop_cache: optional(queryBoolean) },
      handle: async ({ params, query }) => {
        await tenants.reload(params.tenant_shard_id, { dropCache: query.drop_cache ?? false });
        return json(null);
      },
    }),
    route({
      method: 'POST',
      path: '/v1/tenant/:tenant_shard_id/wait_lsn',
      summary: 'Waits until timelines have reached LSNs.',
      access: 'tenant',
      params: TENANT,
      body: waitBody,
      handle: async ({ params, body, request }) => {
        const tenant = tenants.get(params.tenant_shard_id);
        const { secs, nanos = 0 } = timeoutSchema.parse(body['timeout'], 'timeout');
        const timeoutMs = secs * 1000 + nanos / 1e6;
        const known = Object.entries(body)
          .filter(([name]) => name !== 'timeout')
          .map(([id, lsn]) => ({
            timeline: tenant.timelines.get(timelineId(id)),
            lsn: parseLsn(String(lsn)),
          }))
          .flatMap(({ timeline, lsn }) => (timeline ? [{ timeline, lsn }] : []));
        if (known.length === 0) return json(null, 404);
        const reached = await Promise.allSettled(
          known.map(({ timeline, lsn }) => timeline.timeline.waitFor(lsn, timeoutMs, request.signal)),
        );
        return json(null, reached.every(result => result.status === 'fulfilled') ? 200 : 202);
      },
    }),
    route({
      method: 'GET',
      path: '/v1/tenant/:tenant_shard_id/synthetic_size',
      summary: 'What is kept for the tenant: newest contents, and the log of its history.',
      access: 'tenant',
      params: TENANT,
      query: { inputs_only: optional(queryBoolean), retention_period: optional(queryNumber) },
      handle: async ({ params }) => {
        const at = params.tenant_shard_id;
        if (at.shard.number !== 0)
          throw new StatusError(400, 'Size calculations are only available on shard zero');
        const tenant = await tenants.active(at);
        const timelines = [...tenant.timelines.values()].filter(t => t.phase === 'Active');
        await Promise.all(timelines.map(timeline => timeline.pgdata.ready()));
        const segments = timelines.map(timeline => {
          const { lastRecordLsn } = timeline.timeline;
          const from = Math.max(timeline.plannedCutoffLsn, timeline.index.ancestor?.lsn ?? 0);
          const logical = timeline.ancestor ? 0 : timeline.pgdata.logicalSize;
          return { timeline_id: timeline.id, logical_size: logical, history_bytes: lastRecordLsn - from };
        });
        const size = segments.reduce((sum, s) => sum + s.logical_size + s.history_bytes, 0);
        return json({ id: tenant.id, size, segment_sizes: segments, inputs: { segments } });
      },
    }),
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_shard_id/break',
      summary: 'Stops serving the tenant, for tests.',
      access: 'node',
      params: TENANT,
      handle: ({ params }) => {
        tenants.get(params.tenant_shard_id).breakForTest();
        return json(null);
      },
    }),
  ];
}

function storeRoutes({ tenants, node }: ApiDeps): Route[] {
  return [
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_shard_id/time_travel_remote_storage',
      summary: 'Brings back the objects of a detached tenant as they were, in a bucket that keeps versions.',
      access: 'node',
      params: TENANT,
      query: { travel_to: instantSchema, done_if_after: instantSchema },
      body: optional(anything()),
      handle: async ({ params, query }) => {
        const { tenant_shard_id: at } = params;
        if (tenants.shardsOf(at.tenant).length > 0) throw new StatusError(400, 'Tenant still attached');
        if (query.travel_to > query.done_if_after) {
          throw new StatusError(400, 'done_if_after comes before the time to go back to');
        }
        const changed = await travel(node.remote.blobs, at, query.travel_to, query.done_if_after);
        node.log.info('the objects of a tenant are as they were', { tenant: shardText(at), changed });
        return json(null);
      },
    }),
    route({
      method: 'GET',
      path: '/v1/tenant/:tenant_id/scan_remote_storage',
      summary: 'Which shards of a tenant the object store has, and their newest generations.',
      access: 'node',
      params: { tenant_id: tenantIdSchema },
      handle: async ({ params }) => {
        const newest = new Map<string, number>();
        for await (const { key } of node.remote.blobs.list(`tenants/${params.tenant_id}`)) {
          const located = parseKey(key);
          if (located?.kind !== 'index' && located?.kind !== 'manifest') continue;
          const id = shardText(located.at);
          newest.set(id, Math.max(newest.get(id) ?? 0, located.generation));
        }
        return json({
          shards: [...newest].map(([tenant_shard_id, generation]) => ({ tenant_shard_id, generation })),
        });
      },
    }),
  ];
}
