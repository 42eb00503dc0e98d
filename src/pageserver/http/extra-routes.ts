// Routes that a controller or an operator of Neon's calls beside the work: auxiliary files, feature flags (there are
// none), messages for the log, profiles of the process.
//
// Answers to pageserver/src/http/routes.rs.

import { Fault } from '../../base/fault.ts';
import { json, type Route, route, StatusError } from '../../base/http.ts';
import { anything, lsnSchema, object, oneOf, optional, queryNumber, string } from '../../base/schema.ts';
import { FILE_PREFIX } from '../names.ts';
import { type ApiDeps, activeTimeline, TENANT, TIMELINE, TIMELINE_PATH } from './access.ts';

export const extraRoutes = (deps: ApiDeps): Route[] => [
  ...contentRoutes(deps),
  ...flagRoutes(deps),
  ...operatorRoutes(deps),
];

function contentRoutes(deps: ApiDeps): Route[] {
  return [
    route({
      method: 'POST',
      path: `${TIMELINE_PATH}/list_aux_files`,
      summary: 'Files that computes keep with the timeline, as of an LSN.',
      access: 'tenant',
      params: TIMELINE,
      body: object({ lsn: lsnSchema }),
      handle: async ({ params, body }) => {
        const timeline = await activeTimeline(deps, params.tenant_shard_id, params.timeline_id);
        timeline.timeline.checkReadable(body.lsn);
        const { names } = await timeline.pgdata.snapshot(body.lsn);
        const files = [...names].filter(([name]) => name.startsWith(FILE_PREFIX));
        return json(
          Object.fromEntries(
            files.map(([name, bytes]) => [name.slice(FILE_PREFIX.length), Array.from(bytes)]),
          ),
        );
      },
    }),
    route({
      method: 'POST',
      path: `${TIMELINE_PATH}/layer/:layer_name/scan_disposable_keys`,
      summary: 'Keys of a layer that its shard does not need: none, ingest keeps only what is its own.',
      access: 'tenant',
      params: { ...TIMELINE, layer_name: string() },
      handle: async ({ params }) => {
        const timeline = await activeTimeline(deps, params.tenant_shard_id, params.timeline_id);
        const layer = timeline.timeline.state.layers.get(params.layer_name);
        if (!layer) throw new StatusError(404, `Layer ${params.layer_name} not found`);
        const { openLayers } = deps.node.engine;
        openLayers.pin(layer);
        try {
          const file = await openLayers.load(layer);
          return json({ disposable_count: 0, not_disposable_count: file.footer.keyCount });
        } finally {
          openLayers.release(layer);
        }
      },
    }),
  ];
}

/** A storage controller hands out the specification of its flags to every pageserver. */
function flagRoutes({ tenants }: ApiDeps): Route[] {
  const FLAG = { flag_key: string() };
  const none = (): never => {
    throw new StatusError(400, 'this build has no feature flags');
  };
  return [
    route({
      method: 'POST',
      path: '/v1/feature_flag_spec',
      summary: 'Taken, and without a meaning here: this build has no feature flags.',
      access: 'node',
      body: anything(),
      handle: () => json(null),
    }),
    route({
      method: 'PUT',
      path: '/v1/feature_flag/:flag_key',
      summary: 'Refused: this build has no feature flags.',
      access: 'node',
      params: FLAG,
      query: { tenant_id: optional(string()) },
      body: optional(anything()),
      handle: none,
    }),
    route({
      method: 'DELETE',
      path: '/v1/feature_flag/:flag_key',
      summary: 'Nothing to take back.',
      access: 'node',
      params: FLAG,
      query: { tenant_id: optional(string()) },
      handle: () => json(null),
    }),
    route({
      method: 'GET',
      path: '/v1/tenant/:tenant_shard_id/feature_flag/:flag_key',
      summary: 'What a flag is for a tenant: there are none.',
      access: 'tenant',
      params: { ...TENANT, ...FLAG },
      query: { as: optional(oneOf('boolean', 'multivariate')) },
      handle: ({ params }) => {
        tenants.get(params.tenant_shard_id);
        return json({ result: { Err: 'this build has no feature flags' }, properties: {} });
      },
    }),
    route({
      method: 'POST',
      path: '/v1/tenant/:tenant_shard_id/force_refresh_feature_flag',
      summary: 'Taken, and without a meaning here.',
      access: 'tenant',
      params: TENANT,
      handle: ({ params }) => {
        tenants.get(params.tenant_shard_id);
        return json(null);
      },
    }),
  ];
}

/** Longer ones hold more samples than anybody looks at. */
const PROFILE_SECONDS_MAX = 60;

function operatorRoutes({ node, profile }: ApiDeps): Route[] {
  const profiled = (kind: 'cpu' | 'heap'): Route =>
    route({
      method: 'GET',
      path: `/profile/${kind}`,
      summary: `A ${kind} profile of the main thread, as Chrome's DevTools read it (.${kind}profile).`,
      access: 'node',
      query: { seconds: optional(queryNumber), format: optional(string()) },
      answerType: 'application/json',
      handle: async ({ query }) => {
        if (!profile) throw new StatusError(400, 'profiles are taken of the program alone');
        const seconds = query.seconds ?? 5;
        if (!(seconds > 0 && seconds <= PROFILE_SECONDS_MAX)) {
          throw new Fault('config-invalid', `a profile takes up to ${PROFILE_SECONDS_MAX} seconds`);
        }
        return json(await profile(kind, seconds * 1000));
      },
    });
  return [
    profiled('cpu'),
    profiled('heap'),
    route({
      method: 'POST',
      path: '/v1/tracing/event',
      summary: 'A line for the log, so that what a test does can be found in it.',
      access: 'node',
      body: object({ level: oneOf('error', 'warn', 'info', 'debug', 'trace'), message: string() }),
      handle: ({ body }) => {
        const level = body.level === 'trace' ? 'debug' : body.level;
        node.log[level](`told: ${body.message}`);
        return json(null);
      },
    }),
  ];
}
