// A safekeeper's management calls: the table of routes, in Neon's paths and shapes. `open` needs no token, `tenant` one
// of that tenant or of the whole node, `node` one of the whole node.
//
// Answers to safekeeper/src/http/routes.rs.

import { HttpApi, json, type Route, route, StatusError, stream } from '../base/http.ts';
import { formatLsn } from '../base/lsn.ts';
import { openApiRoute } from '../base/openapi.ts';
import {
  anything,
  array,
  integer,
  object,
  optional,
  queryBoolean,
  queryNumber,
  record,
  tenantIdSchema,
  timelineIdSchema,
} from '../base/schema.ts';
import { metricsRoute } from '../base/watch-api.ts';
import {
  copyTimelineSchema,
  createTimelineSchema,
  membershipSchema,
  membershipSwitchSchema,
  membershipToJson,
  pullTimelineSchema,
  timelineStatusSchema,
} from '../protocol/http-safekeeper.ts';
import { DEFAULT_SEGMENT_SIZE } from '../xlog/segment.ts';
import { type ApiDeps, authorize, keyOf, TIMELINE, timelineParams } from './http-common.ts';
import { repairRoutes, walRoutes } from './http-wal.ts';
import { formatMembership, isMember } from './membership.ts';
import { copyTimeline, pullTimeline } from './pull-timeline.ts';
import { planSnapshot, sendSnapshot } from './snapshot.ts';
import { dumpJson, keyJson, statusJson } from './status-json.ts';
import type { TimelineKey } from './timeline-handle.ts';

const dirExisted = object({ dir_existed: anything() });

export function safekeeperApi(deps: ApiDeps): HttpApi {
  const api: HttpApi = new HttpApi(
    [
      ...nodeRoutes(deps),
      ...timelineRoutes(deps),
      ...membershipRoutes(deps),
      ...walRoutes(deps),
      ...repairRoutes(deps),
      openApiRoute(() => api),
    ],
    {
      title: 'Lakebed safekeeper',
      version: deps.version,
      authorize: (r, params, request) => authorize(deps, r.access, params['tenant_id'] as string, request),
      onTrouble: (error, request) =>
        deps.log.error('a management call failed', { method: request.method, path: request.path, error }),
    },
  );
  return api;
}

function nodeRoutes(deps: ApiDeps): Route[] {
  const { nodeId, metrics, timelines, disk } = deps;
  return [
    route({
      method: 'GET',
      path: '/v1/status',
      summary: 'The node is up.',
      access: 'open',
      answer: object({ id: integer() }),
      handle: () => json({ id: nodeId }),
    }),
    metricsRoute(metrics.registry),
    route({
      method: 'GET',
      path: '/v1/utilization',
      summary: 'How much is on this node.',
      access: 'node',
      answer: object({ timeline_count: integer() }),
      handle: () => json({ timeline_count: timelines.all().length }),
    }),
    route({
      method: 'GET',
      path: '/v1/debug/filesystem_usage',
      summary: 'How full the disk is.',
      access: 'node',
      handle: async () => {
        const { capacityBytes, freeBytes } = await disk.usage();
        const usage = { capacity_bytes: capacityBytes, usage_bytes: capacityBytes - freeBytes };
        return json({ data_dir: deps.config['workdir'], ...usage });
      },
    }),
    route({
      method: 'GET',
      path: '/v1/debug_dump',
      summary: 'The state of timelines, in detail.',
      access: 'node',
      query: {
        dump_all: optional(queryBoolean),
        dump_control_file: optional(queryBoolean),
        dump_memory: optional(queryBoolean),
        dump_disk_content: optional(queryBoolean),
        dump_term_history: optional(queryBoolean),
        dump_wal_last_modified: optional(queryBoolean),
        tenant_id: optional(tenantIdSchema),
        timeline_id: optional(timelineIdSchema),
      },
      handle: ({ query }) => {
        const all = query.dump_all ?? false;
        const options = {
          controlFile: query.dump_control_file ?? all,
          memory: query.dump_memory ?? all,
          diskContent: query.dump_disk_content ?? all,
          termHistory: query.dump_term_history ?? true,
        };
        const startTime = new Date(deps.now()).toISOString();
        const chosen = timelines
          .all()
          .filter(t => query.tenant_id === undefined || t.key.tenantId === query.tenant_id)
          .filter(t => query.timeline_id === undefined || t.key.timelineId === query.timeline_id);
        return json({
          start_time: startTime,
          finish_time: new Date(deps.now()).toISOString(),
          timelines: chosen.map(t => dumpJson(t, options, deps)),
          timelines_count: timelines.all().length,
          damaged: timelines
            .damaged()
            .map(({ key, fault }) => ({ ...(keyJson(key) as object), msg: fault.message })),
          config: deps.config,
        });
      },
    }),
  ];
}

function timelineRoutes(deps: ApiDeps): Route[] {
  const { timelines, remote, peers } = deps;
  const removal = (key: TimelineKey, onlyLocal: boolean): (() => Promise<void>) | undefined =>
    onlyLocal || !remote ? undefined : () => remote.removeAll(key);
  return [
    route({
      method: 'POST',
      path: '/v1/tenant/timeline',
      summary: 'Make a timeline; nothing happens if it is there.',
      access: 'tenant-in-body',
      body: createTimelineSchema,
      handle: async ({ body, request }) => {
        await authorize(deps, 'tenant', body.tenant_id, request);
        await timelines.create({
          key: keyOf(body),
          membership: body.mconf,
          pgVersion: body.pg_version,
          systemId: body.system_id ?? 0n,
          walSegSize: body.wal_seg_size ?? DEFAULT_SEGMENT_SIZE,
          startLsn: body.start_lsn,
          ...(body.commit_lsn ? { commitLsn: body.commit_lsn } : {}),
        });
        return json(null);
      },
    }),
    route({
      method: 'GET',
      path: '/v1/tenant/timeline',
      summary: 'Every timeline here.',
      access: 'node',
      answer: array(object({ tenant_id: tenantIdSchema, timeline_id: timelineIdSchema })),
      handle: () => json(timelines.all().map(t => keyJson(t.key))),
    }),
    route({
      method: 'GET',
      path: TIMELINE,
      summary: 'Where a timeline is: terms, positions, who writes and who reads.',
      access: 'tenant',
      params: timelineParams,
      answer: timelineStatusSchema,
      handle: ({ params }) => json(statusJson(timelines.get(keyOf(params)), deps)),
    }),
    route({
      method: 'DELETE',
      path: TIMELINE,
      summary: 'Delete a timeline, here and (unless only_local) in the object store.',
      access: 'tenant',
      params: timelineParams,
      query: { only_local: optional(queryBoolean) },
      answer: dirExisted,
      handle: async ({ params, query }) => {
        const key = keyOf(params);
        const { dirExisted } = await timelines.delete(key, removal(key, query.only_local ?? false));
        peers.forget(key);
        return json({ dir_existed: dirExisted });
      },
    }),
    route({
      method: 'DELETE',
      path: '/v1/tenant/:tenant_id',
      summary: 'Delete every timeline of a tenant.',
      access: 'tenant',
      params: { tenant_id: tenantIdSchema },
      query: { only_local: optional(queryBoolean) },
      answer: record(dirExisted),
      handle: async ({ params, query }) => {
        const onlyLocal = query.only_local ?? false;
        const gone = await timelines.deleteTenant(
          params.tenant_id,
          onlyLocal || !remote ? undefined : key => remote.removeAll(key),
        );
        return json(Object.fromEntries([...gone].map(([id, d]) => [id, { dir_existed: d.dirExisted }])));
      },
    }),
  ];
}

function membershipRoutes(deps: ApiDeps): Route[] {
  const { timelines, nodeId } = deps;
  return [
    route({
      method: 'PUT',
      path: `${TIMELINE}/membership`,
      summary: 'Switch to a newer membership configuration.',
      access: 'tenant',
      params: timelineParams,
      body: membershipSchema,
      answer: membershipSwitchSchema,
      handle: async ({ params, body }) => {
        const timeline = timelines.get(keyOf(params));
        if (!isMember(body, nodeId)) {
          throw new StatusError(
            403,
            `refused to switch into ${formatMembership(body)}: node ${nodeId} is no member`,
          );
        }
        const result = await timeline.switchMembership(body);
        if (result.current.generation !== body.generation) {
          const current = result.current.generation;
          throw new StatusError(
            409,
            `switch into generation ${body.generation} ignored, current is ${current}`,
          );
        }
        return json({
          previous_conf: membershipToJson(result.previous),
          current_conf: membershipToJson(result.current),
          last_log_term: result.lastLogTerm,
          flush_lsn: formatLsn(result.flushLsn),
        });
      },
    }),
    route({
      method: 'PUT',
      path: `${TIMELINE}/exclude`,
      summary: 'Drop the local copy of a node that is a member no more.',
      access: 'tenant',
      params: timelineParams,
      body: membershipSchema,
      answer: dirExisted,
      handle: async ({ params, body }) => {
        if (isMember(body, nodeId)) {
          throw new StatusError(
            403,
            `refused to exclude: node ${nodeId} is a member of ${formatMembership(body)}`,
          );
        }
        const { dirExisted } = await timelines.exclude(keyOf(params), body);
        return json({ dir_existed: dirExisted });
      },
    }),
    route({
      method: 'POST',
      path: '/v1/pull_timeline',
      summary: 'Fetch a timeline from the most advanced of some peers.',
      access: 'node',
      body: pullTimelineSchema,
      handle: async ({ body }) => {
        const request = { key: keyOf(body), hosts: body.http_hosts, membership: body.mconf ?? undefined };
        try {
          const host = await pullTimeline(request, { ...deps, token: deps.peerToken });
          deps.metrics.pullTimelineOks.inc();
          return json({ safekeeper_host: host });
        } catch (error) {
          deps.metrics.pullTimelineErrors.inc();
          throw error;
        }
      },
    }),
    route({
      method: 'GET',
      path: `${TIMELINE}/snapshot/:destination_id`,
      summary: 'The timeline as a tar archive, for another node.',
      access: 'tenant',
      params: { ...timelineParams, destination_id: queryNumber },
      answerType: 'application/octet-stream',
      handle: async ({ params }) => {
        const timeline = timelines.get(keyOf(params));
        const plan = await planSnapshot(timeline, nodeId, params.destination_id, deps.remote);
        return stream(sendSnapshot(timeline, plan));
      },
    }),
    route({
      method: 'POST',
      path: '/v1/tenant/:tenant_id/timeline/:source_timeline_id/copy',
      summary: 'A new timeline with the WAL of this one up to an LSN.',
      access: 'node',
      params: { tenant_id: tenantIdSchema, source_timeline_id: timelineIdSchema },
      body: copyTimelineSchema,
      handle: async ({ params, body }) => {
        const { tenant_id: tenantId } = params;
        const from = { tenantId, timelineId: params.source_timeline_id };
        await copyTimeline(from, { tenantId, timelineId: body.target_timeline_id }, body.until_lsn, deps);
        return json(null);
      },
    }),
  ];
}
