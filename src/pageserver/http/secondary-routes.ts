// Routes of heatmaps and warm secondaries.
//
// Answers to pageserver/src/http/routes.rs.

import { json, type Route, route, StatusError } from '../../base/http.ts';
import { optional, queryNumber } from '../../base/schema.ts';
import type { TenantShard } from '../remote/paths.ts';
import { type Secondary, uploadHeatmap } from '../secondary.ts';
import { type ApiDeps, TENANT } from './access.ts';

const shown = ({ progress }: Secondary): unknown => ({
  heatmap_mtime:
    progress.heatmapMtimeMs === undefined ? null : new Date(progress.heatmapMtimeMs).toISOString(),
  layers_downloaded: progress.layersDownloaded,
  layers_total: progress.layersTotal,
  bytes_downloaded: progress.bytesDownloaded,
  bytes_total: progress.bytesTotal,
});

export function secondaryRoutes({ tenants, node }: ApiDeps): Route[] {
  const secondaryOf = (at: TenantShard): Secondary => {
    const secondary = tenants.secondary(at);
    if (secondary) return secondary;
    throw new StatusError(404, `Shard is not here as a secondary`);
  };
  return [
    route({
      method: 'POST',
      path: '/v1/tenant/:tenant_shard_id/heatmap_upload',
      summary: 'Tells secondaries which layers are on this disk.',
      access: 'node',
      params: TENANT,
      handle: async ({ params }) => {
        await uploadHeatmap(await tenants.active(params.tenant_shard_id));
        return json(null);
      },
    }),
    route({
      method: 'GET',
      path: '/v1/tenant/:tenant_shard_id/secondary/status',
      summary: 'How warm a secondary is.',
      access: 'node',
      params: TENANT,
      handle: ({ params }) => json(shown(secondaryOf(params.tenant_shard_id))),
    }),
    route({
      method: 'POST',
      path: '/v1/tenant/:tenant_shard_id/secondary/download',
      summary: 'Warms a secondary; 202 when it is not done within wait_ms.',
      access: 'node',
      params: TENANT,
      query: { wait_ms: optional(queryNumber) },
      handle: async ({ params, query }) => {
        const secondary = secondaryOf(params.tenant_shard_id);
        const work = secondary.download();
        work.catch(() => undefined);
        if (query.wait_ms === undefined) await work;
        else {
          const waited = new AbortController();
          const late = node.clock.sleep(query.wait_ms, waited.signal).catch(() => undefined);
          await Promise.race([work, late]).finally(() => waited.abort(new Error('done')));
        }
        return json(shown(secondary), secondary.isComplete ? 200 : 202);
      },
    }),
  ];
}
