// Routes of timelines: list, create, delete, archive, detach, import.
//
// Answers to pageserver/src/http/routes.rs.

import { Fault } from '../../base/fault.ts';
import { json, type Route, route, StatusError } from '../../base/http.ts';
import { UNSHARDED } from '../../base/ids.ts';
import { formatLsn } from '../../base/lsn.ts';
import {
  anything,
  boolean,
  integer,
  lsnSchema,
  nullable,
  object,
  oneOf,
  optional,
  queryBoolean,
  queryNumber,
  timelineIdSchema,
} from '../../base/schema.ts';
import { bootstrapTimeline, importTimeline, preserveInitdb } from '../bootstrap.ts';
import { detachAncestor } from '../detach-ancestor.ts';
import { importWal } from '../import-wal.ts';
import type { Tenant } from '../tenant.ts';
import type { TenantTimeline } from '../tenant-timeline.ts';
import { offloadTimeline, setArchived } from '../timeline-archive.ts';
import { branchTimeline } from '../timeline-create.ts';
import { deleteTimeline } from '../timeline-delete.ts';
import { type ApiDeps, activeTimeline, TENANT, TIMELINE, WHOLE_TIMELINE, withStatus } from './access.ts';
import { timelineInfo } from './shapes.ts';

const DEFAULT_PG_VERSION = 17;

const INFO_QUERY = {
  'include-non-incremental-logical-size': optional(queryBoolean),
  'force-await-initial-logical-size': optional(queryBoolean),
  'include-image-consistent-lsn': optional(queryBoolean),
};

interface InfoQuery {
  readonly 'include-non-incremental-logical-size'?: boolean | undefined;
  readonly 'force-await-initial-logical-size'?: boolean | undefined;
  readonly 'include-image-consistent-lsn'?: boolean | undefined;
}

const infoOf = (tenant: Tenant, timeline: TenantTimeline, query: InfoQuery, sizeAtHand = false) =>
  timelineInfo(tenant, timeline, {
    sizeAtHand,
    nonIncrementalSize: query['include-non-incremental-logical-size'],
    imageConsistentLsn: query['include-image-consistent-lsn'],
  });

export function timelineRoutes(deps: ApiDeps): Route[] {
  return [...listRoutes(deps), ...createRoutes(deps), ...changeRoutes(deps), ...importRoutes(deps)];
}

function listRoutes({ tenants }: ApiDeps): Route[] {
  // Sizes that are not at hand are told where one timeline is asked for, or when asked to wait for: to load a thousand
  // branches takes a while.
  const infos = (tenant: Tenant, query: InfoQuery): Promise<unknown[]> => {
    const sizeAtHand = !(
      query['include-non-incremental-logical-size'] || query['force-await-initial-logical-size']
    );
    return Promise.all(
      [...tenant.timelines.values()].map(timeline => infoOf(tenant, timeline, query, sizeAtHand)),
    );
  };
  return [
    route({
      method: 'GET',
      path: '/v1/tenant/:tenant_shard_id/timeline',
      summary: 'The timelines that are loaded.',
      access: 'tenant',
      params: TENANT,
      query: INFO_QUERY,
      handle: async ({ params, query }) =>
        json(await infos(await tenants.active(params.tenant_shard_id), query)),
    }),
    route({
      method: 'GET',
      path: '/v1/tenant/:tenant_shard_id/timeline_and_offloaded',
      summary: 'The timelines that are loaded, and those that are archived and are not.',
      access: 'tenant',
      params: TENANT,
      query: INFO_QUERY,
      handle: async ({ params, query }) => {
        const tenant = await tenants.active(params.tenant_shard_id);
        return json({
          timelines: await infos(tenant, query),
          offloaded: [...tenant.offloaded.values()].map(o => ({
            tenant_id: tenant.id,
            timeline_id: o.timeline,
            ancestor_timeline_id: o.ancestor ?? null,
            ancestor_retain_lsn: o.ancestorRetainLsn === undefined ? null : formatLsn(o.ancestorRetainLsn),
            archived_at: new Date(o.archivedAt).toISOString(),
          })),
        });
      },
    }),
    route({
      method: 'GET',
      path: '/v1/tenant/:tenant_shard_id/timeline/:timeline_id',
      summary: 'One of them.',
      access: 'tenant',
      params: TIMELINE,
      query: INFO_QUERY,
      handle: async ({ params, query }) => {
        const tenant = await tenants.active(params.tenant_shard_id);
        return json(await infoOf(tenant, tenant.timeline(params.timeline_id), query));
      },
    }),
  ];
}

const createBody = object({
  new_timeline_id: timelineIdSchema,
  ancestor_timeline_id: optional(nullable(timelineIdSchema)),
  ancestor_start_lsn: optional(nullable(lsnSchema)),
  pg_version: optional(nullable(integer(14, 18))),
  read_only: optional(nullable(boolean())),
  import_pgdata: optional(nullable(anything())),
  existing_initdb_timeline_id: optional(nullable(timelineIdSchema)),
  // Ours: a stock Postgres of 14 or 15 writes heap records otherwise than Neon's.
  wal_flavour: optional(nullable(oneOf('neon', 'stock'))),
});

function createRoutes({ tenants }: ApiDeps): Route[] {
  return [
    route({
      method: 'POST',
      path: '/v1/tenant/:tenant_shard_id/timeline',
      summary: 'Makes a timeline: a branch, or a new cluster.',
      access: 'tenant',
      params: TENANT,
      body: createBody,
      handle: async ({ params, body }) => {
        const tenant = await tenants.active(params.tenant_shard_id);
        const statuses = { 'timeline-busy': 429, 'branch-lsn-invalid': 406, 'timeline-archived': 406 };
        const timeline = await withStatus(statuses, () => create(tenant, body));
        // What a branch's size is computed from is loaded when it is needed: it grows with the number of relations.
        return json(await timelineInfo(tenant, timeline, { sizeAtHand: true }), 201);
      },
    }),
  ];
}

type CreateBody = ReturnType<(typeof createBody)['parse']>;

function create(tenant: Tenant, body: CreateBody): Promise<TenantTimeline> {
  const { new_timeline_id: id, ancestor_timeline_id: ancestor } = body;
  if (ancestor) return branchTimeline(tenant, { id, ancestor, lsn: body.ancestor_start_lsn ?? undefined });
  if (body.import_pgdata) {
    throw new Fault('config-invalid', 'importing from a bucket is not supported here', {
      hint: 'PUT the directory or base backup as a tar to .../timeline/:id/import_basebackup.',
    });
  }
  return bootstrapTimeline(tenant, {
    id,
    pgVersion: body.pg_version ?? DEFAULT_PG_VERSION,
    flavour: body.wal_flavour ?? 'neon',
    existingInitdb: body.existing_initdb_timeline_id ?? undefined,
  });
}

function changeRoutes({ tenants }: ApiDeps): Route[] {
  return [
    route({
      method: 'DELETE',
      path: '/v1/tenant/:tenant_shard_id/timeline/:timeline_id',
      summary: 'Deletes a timeline: it is gone at once, its objects follow.',
      access: 'tenant',
      params: TIMELINE,
      handle: async ({ params }) => {
        // A missing tenant is told apart from a missing timeline, which means that all is done.
        const tenant = await withStatus({ 'tenant-missing': 412 }, () =>
          tenants.active(params.tenant_shard_id),
        );
        await deleteTimeline(tenant, params.timeline_id);
        return json(null, 202);
      },
    }),
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_shard_id/timeline/:timeline_id/archival_config',
      summary: 'Archives a timeline, or takes it back.',
      access: 'tenant',
      params: TIMELINE,
      body: object({ state: oneOf('Archived', 'Unarchived') }),
      handle: async ({ params, body }) => {
        const tenant = await tenants.active(params.tenant_shard_id);
        await setArchived(tenant, params.timeline_id, body.state === 'Archived');
        return json(null);
      },
    }),
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_shard_id/timeline/:timeline_id/offload',
      summary: 'Unloads an archived timeline now, for tests.',
      access: 'tenant',
      params: TIMELINE,
      handle: async ({ params }) => {
        const tenant = await tenants.active(params.tenant_shard_id);
        if (!(await offloadTimeline(tenant, params.timeline_id))) {
          throw new StatusError(412, 'timeline is not archived, or has children that are loaded');
        }
        return json(null);
      },
    }),
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_shard_id/timeline/:timeline_id/detach_ancestor',
      summary: 'Makes a branch a timeline of its own.',
      access: 'tenant',
      params: TIMELINE,
      query: {
        detach_behavior: optional(
          oneOf('no_ancestor_and_reparent', 'v1', 'multi_level_and_no_reparent', 'v2'),
        ),
        rewrite_concurrency: optional(queryNumber),
        copy_concurrency: optional(queryNumber),
      },
      handle: async ({ params, query }) => {
        const tenant = await tenants.active(params.tenant_shard_id);
        const { detach_behavior: asked = 'v1' } = query;
        const behavior = asked === 'v2' || asked === 'multi_level_and_no_reparent' ? 'v2' : 'v1';
        const reparented = await detachAncestor(tenants, tenant, params.timeline_id, behavior);
        return json({ reparented_timelines: reparented });
      },
    }),
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_shard_id/timeline/:timeline_id/mark_invisible',
      summary: 'Leaves a timeline out of size calculations, or takes it back in.',
      access: 'tenant',
      params: TIMELINE,
      body: optional(nullable(object({ is_visible: optional(boolean()) }))),
      handle: async ({ params, body }) => {
        const tenant = await tenants.active(params.tenant_shard_id);
        const timeline = tenant.timeline(params.timeline_id);
        const markedInvisibleAt = body?.is_visible ? undefined : timeline.now();
        await timeline.remote.waitFor(timeline.writeIndex({ markedInvisibleAt }), tenant.signal);
        return json(null);
      },
    }),
    route({
      method: 'POST',
      path: '/v1/tenant/:tenant_shard_id/timeline/:timeline_id/preserve_initdb_archive',
      summary: 'Keeps the archive of initdb beyond the timeline.',
      access: 'tenant',
      params: TIMELINE,
      handle: async ({ params }) => {
        await preserveInitdb(await tenants.active(params.tenant_shard_id), params.timeline_id);
        return json(null);
      },
    }),
  ];
}

function importRoutes({ tenants }: ApiDeps): Route[] {
  const lsnQuery = { base_lsn: optional(lsnSchema), end_lsn: optional(lsnSchema) };
  return [
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_id/timeline/:timeline_id/import_basebackup',
      summary: 'Makes a timeline of a tar of a data directory or a base backup.',
      access: 'tenant',
      params: WHOLE_TIMELINE,
      query: {
        ...lsnQuery,
        pg_version: optional(queryNumber),
        wal_flavour: optional(oneOf('neon', 'stock')),
      },
      streamsBody: true,
      handle: async ({ params, query, request }) => {
        const tenant = await tenants.active({ tenant: params.tenant_id, shard: UNSHARDED });
        await importTimeline(tenant, {
          id: params.timeline_id,
          pgVersion: query.pg_version ?? DEFAULT_PG_VERSION,
          flavour: query.wal_flavour ?? 'neon',
          tar: request.body,
          endLsn: query.end_lsn,
        });
        return json(null);
      },
    }),
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_id/timeline/:timeline_id/import_wal',
      summary: 'Takes in segments of the log that follow what a timeline has.',
      access: 'tenant',
      params: WHOLE_TIMELINE,
      query: { start_lsn: lsnSchema, end_lsn: lsnSchema },
      streamsBody: true,
      handle: async ({ params, query, request }) => {
        const at = { tenant: params.tenant_id, shard: UNSHARDED };
        const timeline = await activeTimeline({ tenants }, at, params.timeline_id);
        await importWal(timeline, { start: query.start_lsn, end: query.end_lsn, tar: request.body });
        return json(null);
      },
    }),
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_shard_id/timeline/:timeline_id/activate_post_import',
      summary: 'Waits until an imported timeline is active.',
      access: 'tenant',
      params: TIMELINE,
      query: { timeline_activate_timeout_ms: optional(queryNumber) },
      handle: async ({ params, query }) => {
        const tenant = tenants.get(params.tenant_shard_id);
        const waitMs = query.timeline_activate_timeout_ms ?? 10_000;
        const timeline = await tenant.activeTimeline(params.timeline_id, waitMs);
        return json(await timelineInfo(tenant, timeline));
      },
    }),
  ];
}
