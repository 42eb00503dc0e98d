// What every daemon's HTTP port shows to whoever watches: /metrics; and, for those that serve nothing else by HTTP, the
// whole of such a port.

import { HttpApi, type Route, route, StatusError, text } from './http.ts';
import type { Metrics } from './metrics.ts';
import { openApiRoute } from './openapi.ts';

const PROMETHEUS = 'text/plain; version=0.0.4';

export const metricsRoute = (metrics: Metrics): Route =>
  route({
    method: 'GET',
    path: '/metrics',
    summary: 'Metrics in the text format of Prometheus.',
    access: 'open',
    answerType: PROMETHEUS,
    handle: () => text(metrics.exposition(), PROMETHEUS),
  });

/** Status, metrics and its own document, open to everybody, and nothing else. */
export function watchApi(title: string, version: string, metrics: Metrics): HttpApi {
  const status = route({
    method: 'GET',
    path: '/status',
    summary: 'Alive.',
    access: 'open',
    answerType: 'text/plain',
    handle: () => text(''),
  });
  const api: HttpApi = new HttpApi([status, metricsRoute(metrics), openApiRoute(() => api)], {
    title,
    version,
    authorize: async r => {
      if (r.access !== 'open') throw new StatusError(403, 'nothing else is open here');
    },
  });
  return api;
}
