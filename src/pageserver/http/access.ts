// What the management routes share: who may call them, how tenants and timelines are named in paths, and which status
// an error is answered with.
//
//   open     no token                              /v1/status, /metrics, documents
//   tenant   the tenant's own token, or pageserverapi
//   node     pageserverapi
//
// A tenant that exists and is not active is never answered with 404: the caller could take it for gone and attach it
// elsewhere.
//
// Answers to the From<...> for ApiError of pageserver/src/http/routes.rs and to libs/http-utils/src/error.rs.

import { Fault, type FaultCode, isFault } from '../../base/fault.ts';
import type { HttpRequest, Route } from '../../base/http.ts';
import { parseTenantShard } from '../../base/ids.ts';
import type { Metrics } from '../../base/metrics.ts';
import { type Schema, tenantIdSchema, textual, timelineIdSchema } from '../../base/schema.ts';
import { bearerToken, checkPermission, type TokenVerifier } from '../../protocol/jwt.ts';
import type { PageserverConfig } from '../config.ts';
import type { NodeDeps } from '../node.ts';
import type { TenantShard } from '../remote/paths.ts';
import type { TenantTimeline } from '../tenant-timeline.ts';
import { ACTIVE_WAIT_MS, type Tenants } from '../tenants.ts';

export interface ApiDeps {
  readonly config: PageserverConfig;
  readonly version: string;
  readonly tenants: Tenants;
  readonly node: NodeDeps;
  readonly metrics: Metrics;
  /** Undefined: everybody may do everything. */
  readonly tokens: TokenVerifier | undefined;
  /** Reads the public keys again; absent where tokens are not asked for. */
  readonly reloadKeys?: () => Promise<void>;
  /** A profile of the process that runs this; absent in tests without one. */
  readonly profile?: Profile;
}

export type Profile = (kind: 'cpu' | 'heap', durationMs: number) => Promise<unknown>;

export const tenantShardSchema: Schema<TenantShard> = textual(
  { title: 'TenantShardId', pattern: '^[0-9a-fA-F]{32}(-[0-9a-fA-F]{4})?$' },
  parseTenantShard,
);

export const TENANT = { tenant_shard_id: tenantShardSchema };
export const TIMELINE = { ...TENANT, timeline_id: timelineIdSchema };
export const TIMELINE_PATH = '/v1/tenant/:tenant_shard_id/timeline/:timeline_id';
/** Paths that know no shards. */
export const WHOLE_TIMELINE = { tenant_id: tenantIdSchema, timeline_id: timelineIdSchema };

/** RFC 3339, with a zone. */
export const instantSchema: Schema<number> = textual({ format: 'date-time' }, text => {
  const ms = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i.test(text)
    ? Date.parse(text)
    : Number.NaN;
  if (!Number.isNaN(ms)) return ms;
  throw new Fault('config-invalid', `not a time: "${text}"`, { hint: 'Write it as 2026-05-01T10:00:00Z.' });
});

export async function authorize(
  { tokens }: Pick<ApiDeps, 'tokens'>,
  route: Pick<Route, 'access'>,
  params: Readonly<Record<string, unknown>>,
  request: Pick<HttpRequest, 'headers'>,
): Promise<void> {
  if (!tokens || route.access === 'open') return;
  const claims = await tokens.verify(bearerToken(request.headers['authorization']));
  const shard = params['tenant_shard_id'] as TenantShard | undefined;
  const tenant = shard?.tenant ?? (params['tenant_id'] as TenantShard['tenant'] | undefined);
  checkPermission('pageserver', claims, route.access === 'tenant' ? tenant : undefined);
}

export async function activeTimeline(
  { tenants }: Pick<ApiDeps, 'tenants'>,
  at: TenantShard,
  id: TenantTimeline['id'],
): Promise<TenantTimeline> {
  const timeline = await tenants.get(at).activeTimeline(id, ACTIVE_WAIT_MS);
  timeline.checkKeys();
  return timeline;
}

/** Where Neon's status is not that of the Fault's kind. */
const STATUS: Partial<Record<FaultCode, number>> = {
  'tenant-broken': 500,
  'timeline-poisoned': 500,
  'timeline-has-children': 412,
  'timeline-archived': 412,
  'generation-stale': 409,
  'reconnect-requested': 503,
  'lsn-garbage-collected': 500,
};

export const statusOfFault = (error: unknown): number | undefined =>
  error instanceof Fault ? STATUS[error.code] : undefined;

/** The same error under another status. */
export async function withStatus<T>(
  statuses: Partial<Record<FaultCode, number>>,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const status = isFault(error) ? statuses[error.code] : undefined;
    if (status === undefined) throw error;
    throw new FaultStatus(status, error as Fault);
  }
}

/** A Fault whose route says how it is answered. */
export class FaultStatus extends Error {
  override readonly name = 'FaultStatus';
  readonly status: number;
  readonly fault: Fault;

  constructor(status: number, fault: Fault) {
    super(fault.message, { cause: fault });
    this.status = status;
    this.fault = fault;
  }
}

export const statusOfRoute = (error: unknown): number | undefined =>
  error instanceof FaultStatus ? error.status : statusOfFault(error);
