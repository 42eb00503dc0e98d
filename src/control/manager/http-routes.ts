// The manager's HTTP API. Paths, bodies and answers are close to Neon's public API v2; what is ours says so.
// Everything under /api/v2 wants a token of scope `admin` where tokens are asked for, /internal and /upcall one of
// `admin`, `infra`, `generations_api` or `pageserverapi`. Trouble is {"msg","hint"} (base/http.ts).
//
// "op" below: the answer carries "operations": [Operation]; the work goes on after the answer, and
// GET .../operations/:id tells how far it is. With `?wait=true` (ours) the answer comes when they are finished.
//
//   GET    /api/v2/projects ?limit&cursor&search             {"projects":[Project],"pagination":{"cursor"}}
//   POST   /api/v2/projects                                  201 op {"project","branch","endpoints","roles","databases","connection_uris"}
//          {"project":{"name"?,"pg_version"?,"key_id"?,"key"?: "local:NAME|ARN...","history_retention_seconds"?,"adopt"?,
//           "default_endpoint_settings"?,"branch"?:{"name"?,"role_name"?,"database_name"?},
//           "origin"?:{"admin","roles":[name],"databases":[{"name","owner_name"}]}}}   with "adopt": what comes along
//   GET    /api/v2/projects/:p                               {"project"}      :p is an id, or a name that is unique
//   PATCH  /api/v2/projects/:p                               op {"project"}   {"project":{"name"?,"key_id"?,"history_retention_seconds"?,"default_endpoint_settings"?}}
//   DELETE /api/v2/projects/:p                               op {"project"}
//   GET    .../connection_uri ?branch_id&endpoint_id&database_name&role_name    {"uri"}   through the proxy; with the password, if it was made here
//   GET    .../operations ?limit&cursor                      {"operations","pagination"}
//   GET    .../operations/:id                                {"operation"}
//
//   GET    .../branches ?search&limit&cursor                 {"branches":[Branch],"pagination"}
//   POST   .../branches                                      201 op {"branch","endpoints","roles","databases","connection_uris"}
//          {"branch"?:{"name"?,"parent_id"?,"parent_lsn"?,"parent_timestamp"?,"protected"?,"expires_at"?},
//           "endpoints"?:[{"type":"read_write|read_only", ...}]}
//   GET    .../branches/:b                                   {"branch"}       :b is an id or a name
//   PATCH  .../branches/:b                                   {"branch"}       {"branch":{"name"?,"protected"?,"expires_at"?|null}}
//   DELETE .../branches/:b                                   op {"branch"}
//   POST   .../branches/:b/restore                           op {"branch"}    {"source_branch_id","source_lsn"?,"source_timestamp"?,"preserve_under_name"?}
//   POST   .../branches/:b/reset_to_parent    (ours)         op {"branch"}    {"preserve_under_name"?}
//   POST   .../branches/:b/set_as_default                    {"branch"}
//   GET    .../branches/:b/endpoints                         {"endpoints"}
//   GET/POST .../branches/:b/roles                           {"roles"} | 201 op {"role"}       {"role":{"name"}}; the answer holds "password"
//   GET/DELETE .../branches/:b/roles/:name                   {"role"} | op {"role"}
//   GET    .../roles/:name/reveal_password                   {"password"}
//   POST   .../roles/:name/reset_password                    op {"role"}      with "password"
//   GET/POST .../branches/:b/databases                       {"databases"} | 201 op {"database"} {"database":{"name","owner_name"}}
//   GET/PATCH/DELETE .../branches/:b/databases/:name         {"database"} | op
//
//   GET    .../endpoints                                     {"endpoints":[Endpoint]}
//   POST   .../endpoints                                     201 op {"endpoint"}
//          {"endpoint":{"branch_id","type","name"?,"static_lsn"?,"static_timestamp"?,"suspend_timeout_seconds"?,"size"?,"settings"?:{"pg_settings":{}},"disabled"?}}
//          (static_*: ours: read only, at one point for ever)
//   GET/PATCH/DELETE .../endpoints/:e                        {"endpoint"} | op {"endpoint"}    PATCH takes the same fields but branch_id and type
//   POST   .../endpoints/:e/start | suspend | restart        op {"endpoint"}
//
//   GET/POST /api/v2/keys                     (ours)         {"keys":[Key]} | 201 {"key"}      {"key":{"name","cmk"}}
//   GET/PATCH/DELETE /api/v2/keys/:k          (ours)         {"key"}          :k is an id or a name; PATCH {"key":{"name"?,"cmk"?}} moves its projects
//   GET    /api/v2/nodes                      (ours)         {"nodes":[Node]} pageservers, with "tenants" and "alive"
//
//   POST   /internal/wake      {"target"}                    {"endpoint_id","project_id","branch_id","host","port","started"}
//          target: an endpoint id, a branch name or id of the default project (the oldest), or PROJECT/BRANCH. Held
//          until it takes connections; many at once start one compute. 404 nothing of that name, 403 key revoked, 503.
//   POST   /internal/activity  {"endpoints":[{"endpoint_id","connections","busy","idle_ms"}]}     {}
//          Said every few seconds: an endpoint not named for 30 s has no connections.
//   POST   /upcall/v1/re-attach, /upcall/v1/validate         of pageservers (pageserver/upcalls.ts)
//   GET    /status {"version","projects","endpoints_active","driver"}, /metrics, /openapi.json       open
//
// Project   {"id","name","pg_version","created_at","updated_at","key_id","key": cmk,"tenant_id",
//            "key_state":"enabled|revoked|destroyed|unknown": asked of its key service when one project is, and in a list with
//            ask_keys=true; otherwise as heard within the last poll,
//            "history_retention_seconds","default_endpoint_settings","region_id":"local","platform_id":"lakebed"}
// Branch    {"id","project_id","name","parent_id"?,"parent_lsn"?,"parent_timestamp"?,"default","primary","protected","expires_at"?,
//            "current_state":"init|ready","pending_state"?,"timeline_id","created_at","updated_at"}
// Endpoint  {"id","project_id","branch_id","name"?,"type","host","proxy_host","current_state":"init|active|idle","pending_state"?,
//            "static_lsn"?,"suspend_timeout_seconds","size","settings":{"pg_settings"},"disabled","driver"?,"compute_host"?,
//            "compute_port"?,"last_active"?,"started_at"?,"suspended_at"?,"created_at","updated_at"}
// Operation {"id","project_id","branch_id"?,"endpoint_id"?,"action","status":"scheduling|running|finished|failed",
//            "failures_count","error"?,"retry_at"?,"step","steps":[names],"created_at","updated_at","total_duration_ms"}
//
// The process: `bin/lakebed manager` (src/manager-main.ts)
//   -D DIR                    its data: catalog/ (the embedded catalog), computes/
//   --listen-http HOST:PORT   127.0.0.1:55420
//   --catalog URL             postgresql://...; otherwise embedded
//   --pageservers ID=HOST:PGPORT/HTTPPORT,...          others register themselves by re-attach
//   --safekeepers HOST:PGPORT/HTTPPORT,...
//   --remote-storage TOML     the store whose lakebed-keys hold the key documents, as for a pageserver
//   --driver auto|process|docker|stock   --pg-distrib-dir DIR (NEON_PG_DIR)
//   --proxy HOST:PORT         what connection URIs say
//   --suspend-timeout SECONDS 300
//   --auth-public-key FILE    ask for tokens
// A pageserver is told of it by control_plane_api = 'http://HOST:PORT/upcall/v1'. Readiness: GET /status.

import { Fault } from '../../base/fault.ts';
import { HttpApi, type HttpRequest, type Route } from '../../base/http.ts';
import { Metrics } from '../../base/metrics.ts';
import { openApiRoute } from '../../base/openapi.ts';
import { bearerToken, type Scope, type TokenVerifier } from '../../protocol/jwt.ts';
import { branchRoutes } from './http-branches.ts';
import { endpointRoutes } from './http-endpoints.ts';
import { keyRoutes, nodeRoutes, proxyRoutes, upcallRoutes } from './http-internal.ts';
import { projectRoutes } from './http-projects.ts';
import type { Manager } from './manager.ts';
import { managerMetrics } from './metrics.ts';

/** Which scopes of a token open which doors. */
const SCOPES: Readonly<Record<string, ReadonlySet<Scope>>> = {
  api: new Set(['admin']),
  internal: new Set(['admin', 'infra']),
  upcall: new Set(['admin', 'infra', 'generations_api', 'pageserverapi']),
};

export interface ManagerApiOptions {
  readonly version: string;
  /** Undefined: everybody may do everything. */
  readonly tokens: TokenVerifier | undefined;
  /** What else the process tells at /metrics is in here already. */
  readonly metrics?: Metrics;
}

export function managerApi(
  manager: Manager,
  { version, tokens, metrics = new Metrics() }: ManagerApiOptions,
): HttpApi {
  managerMetrics(metrics, () => manager);
  const routes: Route[] = [
    ...projectRoutes(manager),
    ...branchRoutes(manager),
    ...endpointRoutes(manager),
    ...keyRoutes(manager),
    ...nodeRoutes(manager, version, metrics),
    ...proxyRoutes(manager),
    ...upcallRoutes(manager),
    openApiRoute(() => api),
  ];
  const api: HttpApi = new HttpApi(routes, {
    title: 'Lakebed manager',
    version,
    authorize: (route, _params, request) => authorize(tokens, route, request),
    onTrouble: (error, request) =>
      manager.log.error('a call failed', { method: request.method, path: request.path, error }),
  });
  return api;
}

async function authorize(
  tokens: TokenVerifier | undefined,
  route: Pick<Route, 'access'>,
  request: Pick<HttpRequest, 'headers'>,
): Promise<void> {
  if (!tokens || route.access === 'open') return;
  const { scope } = await tokens.verify(bearerToken(request.headers['authorization']));
  if (SCOPES[route.access]?.has(scope)) return;
  throw new Fault('auth-failed', `permission denied: a token of scope ${scope} does not open this`, {
    hint: `Use one of scope ${[...(SCOPES[route.access] ?? [])].join(' or ')}.`,
  });
}
