// What the parts of a safekeeper's HTTP API share: what they work with, who may call, and how a timeline is named.

import type { HttpRequest } from '../base/http.ts';
import type { Disk, Http, Log } from '../base/ports.ts';
import { tenantIdSchema, timelineIdSchema } from '../base/schema.ts';
import { bearerToken, checkPermission, type TokenVerifier } from '../protocol/jwt.ts';
import type { Backup } from './backup.ts';
import type { SafekeeperMetrics } from './metrics.ts';
import type { Peers } from './peers.ts';
import type { StreamRegistry } from './stream-registry.ts';
import type { TimelineKey } from './timeline-handle.ts';
import type { Timelines } from './timelines.ts';
import type { WalRemote } from './wal-remote.ts';

export interface ApiDeps {
  readonly nodeId: number;
  readonly version: string;
  readonly log: Log;
  readonly now: () => number;
  readonly disk: Disk;
  readonly http: Http;
  readonly timelines: Timelines;
  readonly metrics: SafekeeperMetrics;
  readonly peers: Peers;
  readonly streams: StreamRegistry;
  readonly backup: Backup;
  readonly remote: WalRemote | undefined;
  /** Undefined: everybody is trusted. */
  readonly tokens: TokenVerifier | undefined;
  /** Shown to peers. */
  readonly peerToken: string | undefined;
  /** Told in debug dumps. */
  readonly config: Readonly<Record<string, unknown>>;
}

export const TIMELINE = '/v1/tenant/:tenant_id/timeline/:timeline_id';
export const timelineParams = { tenant_id: tenantIdSchema, timeline_id: timelineIdSchema };
export const keyOf = (params: {
  tenant_id: TimelineKey['tenantId'];
  timeline_id: TimelineKey['timelineId'];
}): TimelineKey => ({
  tenantId: params.tenant_id,
  timelineId: params.timeline_id,
});

export async function authorize(
  { tokens }: ApiDeps,
  access: string,
  tenant: string | undefined,
  request: HttpRequest,
): Promise<void> {
  if (access === 'open' || !tokens) return;
  const claims = await tokens.verify(bearerToken(request.headers['authorization']));
  // A route that names its tenant in the body asks again when it has read it.
  if (access === 'tenant-in-body') return;
  checkPermission(
    'safekeeper',
    claims,
    access === 'tenant' ? (tenant as TimelineKey['tenantId']) : undefined,
  );
}
