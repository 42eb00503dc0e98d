// Routes of a timeline's history and upkeep: which LSN a time is, leases, garbage collection, flushes, compaction.
//
// Answers to pageserver/src/http/routes.rs.

import { json, type Route, route, StatusError } from '../../base/http.ts';
import { formatLsn } from '../../base/lsn.ts';
import { anything, integer, lsnSchema, nullable, object, optional, queryBoolean } from '../../base/schema.ts';
import { lsnForTimestamp, timestampForLsn, timestampOfUnixMs, unixMsOfTimestamp } from '../lsn-by-time.ts';
import { collectTimeline } from '../tenant-gc.ts';
import type { TenantTimeline } from '../tenant-timeline.ts';
import { type ApiDeps, activeTimeline, instantSchema, TIMELINE, TIMELINE_PATH } from './access.ts';

export function historyRoutes(deps: ApiDeps): Route[] {
  return [...timeRoutes(deps), ...gcRoutes(deps), ...upkeepRoutes(deps)];
}

function timeRoutes(deps: ApiDeps): Route[] {
  return [
    route({
      method: 'GET',
      path: `${TIMELINE_PATH}/get_lsn_by_timestamp`,
      summary: 'The newest LSN at which nothing later than a time was committed.',
      access: 'tenant',
      params: TIMELINE,
      query: { timestamp: instantSchema, with_lease: optional(queryBoolean) },
      handle: async ({ params, query }) => {
        const at = params.tenant_shard_id;
        if (at.shard.number !== 0)
          throw new StatusError(400, 'Timestamp lookups are only available on shard zero');
        const timeline = await activeTimeline(deps, at, params.timeline_id);
        const lowest = Math.max(timeline.timeline.gcCutoffLsn, timeline.index.ancestor?.lsn ?? 0);
        const wanted = timestampOfUnixMs(query.timestamp);
        const { lsn, kind } = await lsnForTimestamp(timeline.timeline, wanted, lowest);
        const lease = query.with_lease && kind !== 'nodata' ? leaseFor(timeline, lsn) : undefined;
        return json({
          lsn: formatLsn(lsn),
          kind,
          ...(lease === undefined ? {} : { valid_until: iso(lease) }),
        });
      },
    }),
    route({
      method: 'GET',
      path: `${TIMELINE_PATH}/get_timestamp_of_lsn`,
      summary: 'When the newest commit at or before an LSN was.',
      access: 'tenant',
      params: TIMELINE,
      query: { lsn: lsnSchema },
      handle: async ({ params, query }) => {
        const at = params.tenant_shard_id;
        if (at.shard.number !== 0)
          throw new StatusError(400, 'Timestamp lookups are only available on shard zero');
        const timeline = await activeTimeline(deps, at, params.timeline_id);
        if (query.lsn > timeline.timeline.lastRecordLsn) {
          throw new StatusError(412, `Timestamp for lsn ${formatLsn(query.lsn)} not found`);
        }
        const time = await timestampForLsn(timeline.timeline, query.lsn);
        if (time === undefined)
          throw new StatusError(412, `Timestamp for lsn ${formatLsn(query.lsn)} not found`);
        return json(iso(unixMsOfTimestamp(time)));
      },
    }),
    route({
      method: 'POST',
      path: `${TIMELINE_PATH}/lsn_lease`,
      summary: 'Keeps an LSN readable for a while.',
      access: 'tenant',
      params: TIMELINE,
      body: object({ lsn: lsnSchema }),
      handle: async ({ params, body }) => {
        const timeline = await activeTimeline(deps, params.tenant_shard_id, params.timeline_id);
        return json({ valid_until: iso(timeline.lease(body.lsn)) });
      },
    }),
  ];
}

/** For what was found by time; none where it is refused. */
function leaseFor(timeline: TenantTimeline, lsn: Parameters<TenantTimeline['lease']>[0]): number | undefined {
  return timeline.lease(lsn, timeline.home.settings.lsn_lease_length_for_ts);
}

const iso = (ms: number): string => new Date(ms).toISOString();

function gcRoutes(deps: ApiDeps): Route[] {
  const block = (blocked: boolean): Route =>
    route({
      method: 'POST',
      path: `${TIMELINE_PATH}/${blocked ? 'block_gc' : 'unblock_gc'}`,
      summary: blocked ? "Stops the tenant's garbage collection." : 'Lets it go on.',
      access: 'tenant',
      params: TIMELINE,
      handle: async ({ params }) => {
        const timeline = await activeTimeline(deps, params.tenant_shard_id, params.timeline_id);
        const others = timeline.index.gcBlocking.filter(reason => reason !== 'Manual');
        const gcBlocking = blocked ? [...others, 'Manual' as const] : others;
        await timeline.remote.waitFor(timeline.writeIndex({ gcBlocking }), timeline.signal);
        return json(null);
      },
    });
  return [
    route({
      method: 'PUT',
      path: `${TIMELINE_PATH}/do_gc`,
      summary: 'Collects garbage now.',
      access: 'tenant',
      params: TIMELINE,
      body: optional(nullable(object({ gc_horizon: optional(nullable(integer())) }))),
      handle: async ({ params, body }) => {
        const tenant = await deps.tenants.active(params.tenant_shard_id);
        const timeline = await activeTimeline(deps, params.tenant_shard_id, params.timeline_id);
        const report = await collectTimeline(tenant, timeline, { gcHorizon: body?.gc_horizon ?? undefined });
        return json({
          layers_total: report.layersTotal,
          layers_needed_by_cutoff: report.neededByCutoff,
          layers_needed_by_pitr: report.neededByPitr,
          layers_needed_by_branches: report.neededByBranches,
          layers_needed_by_leases: report.neededByLeases,
          layers_not_updated: report.notUpdated,
          layers_removed: report.removed,
          elapsed: Math.round(report.elapsedMs),
        });
      },
    }),
    block(true),
    block(false),
  ];
}

const flag = optional(queryBoolean);
const COMPACT_QUERY = {
  force_l0_compaction: flag,
  force_repartition: flag,
  force_image_layer_creation: flag,
  enhanced_gc_bottom_most_compaction: flag,
  dry_run: flag,
  wait_until_uploaded: flag,
  wait_until_scheduled_compaction_done: flag,
};
const CHECKPOINT_QUERY = { ...COMPACT_QUERY, compact: flag, wait_until_flushed: flag };

interface CompactQuery {
  readonly force_l0_compaction?: boolean | undefined;
  readonly force_image_layer_creation?: boolean | undefined;
}

const compact = (timeline: TenantTimeline, query: CompactQuery): Promise<unknown> =>
  timeline.timeline.compact({
    forceLevel0: query.force_l0_compaction ?? false,
    forceImages: query.force_image_layer_creation ?? false,
  });

function upkeepRoutes(deps: ApiDeps): Route[] {
  return [
    route({
      method: 'PUT',
      path: `${TIMELINE_PATH}/checkpoint`,
      summary: 'Writes what is in memory into layers, and compacts.',
      access: 'tenant',
      params: TIMELINE,
      query: CHECKPOINT_QUERY,
      handle: async ({ params, query, request }) => {
        const timeline = await activeTimeline(deps, params.tenant_shard_id, params.timeline_id);
        if (query.wait_until_flushed === false) timeline.timeline.flushSoon();
        else await timeline.timeline.freezeAndFlush();
        if (query.compact !== false) await compact(timeline, query);
        if (query.wait_until_uploaded) await timeline.remote.waitUploaded(request.signal);
        return json(null);
      },
    }),
    route({
      method: 'PUT',
      path: `${TIMELINE_PATH}/compact`,
      summary: 'Compacts now.',
      access: 'tenant',
      params: TIMELINE,
      query: COMPACT_QUERY,
      body: optional(
        nullable(anything('compact_key_range, compact_lsn_range ...: taken, and without a meaning here')),
      ),
      handle: async ({ params, query, request }) => {
        const timeline = await activeTimeline(deps, params.tenant_shard_id, params.timeline_id);
        if (query.dry_run) return json(null);
        await compact(timeline, query);
        if (query.wait_until_uploaded) await timeline.remote.waitUploaded(request.signal);
        return json(null);
      },
    }),
    route({
      method: 'GET',
      path: `${TIMELINE_PATH}/compact`,
      summary: 'Compactions that are scheduled: none, they are done when asked for.',
      access: 'tenant',
      params: TIMELINE,
      handle: () => json([]),
    }),
    route({
      method: 'DELETE',
      path: `${TIMELINE_PATH}/compact`,
      summary: 'Cancels scheduled compactions, of which there are none.',
      access: 'tenant',
      params: TIMELINE,
      handle: () => json(null),
    }),
  ];
}
