// The management API of the pageserver: every route in one table, behind one check of who asks, with one reading of
// errors. The routes are in http/, a file per group.
//
//   http/node-routes.ts       status, utilization, metrics, what is told to the node
//   http/tenant-routes.ts     location_config, config, split, delete, wait
//   http/timeline-routes.ts   list, create, delete, archive, detach, import
//   http/history-routes.ts    time and LSN, leases, GC, checkpoint, compaction
//   http/layer-routes.ts      the layer map, downloads, evictions, a page
//   http/secondary-routes.ts  heatmaps and warm secondaries
//   http/extra-routes.ts      auxiliary files, feature flags, profiles
//
// Answers to pageserver/src/http/routes.rs (make_router) and openapi_spec.yml.

import { Fault } from '../base/fault.ts';
import { HttpApi } from '../base/http.ts';
import { openApiRoute } from '../base/openapi.ts';
import { type ApiDeps, authorize, statusOfRoute } from './http/access.ts';
import { extraRoutes } from './http/extra-routes.ts';
import { historyRoutes } from './http/history-routes.ts';
import { layerRoutes } from './http/layer-routes.ts';
import { nodeRoutes } from './http/node-routes.ts';
import { repairRoutes } from './http/repair-routes.ts';
import { secondaryRoutes } from './http/secondary-routes.ts';
import { tenantRoutes } from './http/tenant-routes.ts';
import { timelineRoutes } from './http/timeline-routes.ts';

export type { ApiDeps } from './http/access.ts';

export function pageserverApi(deps: ApiDeps): HttpApi {
  const { log, clock } = deps.node;
  const api: HttpApi = new HttpApi(
    [
      ...nodeRoutes(deps),
      ...tenantRoutes(deps),
      ...timelineRoutes(deps),
      ...historyRoutes(deps),
      ...layerRoutes(deps),
      ...secondaryRoutes(deps),
      ...extraRoutes(deps),
      ...repairRoutes(deps),
      openApiRoute(() => api),
    ],
    {
      title: 'Lakebed pageserver',
      version: deps.version,
      headers: { PAGESERVER_LAUNCH_TIMESTAMP: String(clock.now()) },
      authorize: (route, params, request) => authorize(deps, route, params, request),
      status: statusOfRoute,
      onTrouble: (error, { method, path }) => {
        const fields = { method, path, error: error instanceof Error ? error.message : String(error) };
        // Not yet, or no longer: the client asks again.
        if (error instanceof Fault && (error.kind === 'unavailable' || error.kind === 'closed')) {
          log.info('request not answered now', fields);
        } else log.error('request failed', { ...fields, error });
      },
    },
  );
  return api;
}
