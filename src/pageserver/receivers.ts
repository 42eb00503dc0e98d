// A receiver of WAL for a timeline of a tenant: its settings are the tenant's, as they stand; what it learns goes to
// the timeline.

import type { GrpcChannel } from '../base/grpc.ts';
import type { Net } from '../base/ports.ts';
import type { NodeDeps } from './node.ts';
import { WalReceiver } from './receiver.ts';
import type { ReceiverSettings } from './receiver-plan.ts';
import type { ServiceMetrics } from './service-metrics.ts';
import type { TenantTimeline } from './tenant-timeline.ts';
import { TimelineSink } from './timeline-sink.ts';

export interface ReceiversDeps extends Pick<NodeDeps, 'nodeId' | 'clock' | 'random'> {
  /** For connections to safekeepers. */
  readonly net: Net;
  readonly broker: GrpcChannel;
  readonly metrics: ServiceMetrics;
  readonly availabilityZone: string | undefined;
  /** Shown to safekeepers. */
  readonly token: string | undefined;
  readonly tls: boolean;
}

export function receivers(deps: ReceiversDeps): NonNullable<NodeDeps['startReceiver']> {
  return timeline => {
    const id = { tenantId: timeline.home.at.tenant, timelineId: timeline.id };
    const settings = settingsOf(timeline, deps.availabilityZone);
    const receiver = new WalReceiver(id, sinkOf(timeline), { ...deps, log: timeline.log, settings });
    receiver.start();
    return receiver;
  };
}

const settingsOf = (timeline: TenantTimeline, availabilityZone: string | undefined): ReceiverSettings => ({
  get connectTimeoutMs() {
    return timeline.home.settings.walreceiver_connect_timeout;
  },
  get laggingWalTimeoutMs() {
    return timeline.home.settings.lagging_wal_timeout;
  },
  get maxLsnWalLag() {
    return timeline.home.settings.max_lsn_wal_lag;
  },
  availabilityZone,
});

const sinkOf = (timeline: TenantTimeline): TimelineSink =>
  new TimelineSink({
    timeline: timeline.timeline,
    dialect: timeline.pgdata.dialect,
    ingest: () => timeline.warmIngest(),
    log: timeline.log,
    remoteConsistentLsn: () => timeline.visibleRemoteConsistentLsn,
    standbyHorizon: lsn => {
      // Safekeepers tell of their own standbys each: the oldest of them all counts.
      const { standbyHorizon } = timeline;
      timeline.standbyHorizon = standbyHorizon === 0 ? lsn : Math.min(standbyHorizon, lsn);
    },
    fail: error => timeline.fail(error),
  });
