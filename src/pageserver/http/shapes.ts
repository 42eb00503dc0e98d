// The shapes that several routes answer with: TimelineInfo, TenantInfo, the layer map. Fields are Neon's; what is ours
// is at the end of each: whether the log carries full-page images and since when, and which images the storage made.
//
// Answers to TimelineInfo, TenantInfo and LayerMapInfo of libs/pageserver_api/src/models.rs.

import { formatLsn } from '../../base/lsn.ts';
import type { Tenant } from '../tenant.ts';
import { gcBlockedBy } from '../tenant-gc.ts';
import type { TenantTimeline } from '../tenant-timeline.ts';

export interface InfoOptions {
  readonly nonIncrementalSize?: boolean | undefined;
  readonly imageConsistentLsn?: boolean | undefined;
  /** Tell the logical size if it is known, and do not wait until it is. */
  readonly sizeAtHand?: boolean | undefined;
}

const lsnOrNull = (lsn: number | undefined): string | null => (lsn === undefined ? null : formatLsn(lsn));

export async function timelineInfo(
  tenant: Tenant,
  timeline: TenantTimeline,
  options: InfoOptions = {},
): Promise<Record<string, unknown>> {
  const { index, remote } = timeline;
  const { state } = timeline.timeline;
  const size = sizeAtHand(timeline) ?? (options.sizeAtHand ? undefined : await logicalSize(timeline));
  const receiver = timeline.receiver?.status();
  const { ancestor } = index;
  return {
    tenant_id: tenant.id,
    timeline_id: timeline.id,
    ancestor_timeline_id: ancestor?.timeline ?? null,
    ancestor_lsn: lsnOrNull(ancestor?.lsn),
    last_record_lsn: formatLsn(state.lastRecordLsn),
    prev_record_lsn: formatLsn(state.prevRecordLsn),
    applied_gc_cutoff_lsn: formatLsn(state.gcCutoffLsn),
    min_readable_lsn: formatLsn(Math.max(timeline.plannedCutoffLsn, state.gcCutoffLsn)),
    disk_consistent_lsn: formatLsn(state.diskConsistentLsn),
    remote_consistent_lsn: formatLsn(remote.durableLsn),
    remote_consistent_lsn_visible: formatLsn(remote.visibleLsn),
    initdb_lsn: formatLsn(index.initdbLsn),
    current_logical_size: size ?? 0,
    current_logical_size_is_accurate: size !== undefined,
    directory_entries_counts: [],
    current_physical_size: physicalSize(timeline),
    ...(options.nonIncrementalSize ? { current_logical_size_non_incremental: size ?? null } : {}),
    pitr_history_size: state.lastRecordLsn - timeline.plannedCutoffLsn,
    within_ancestor_pitr: withinAncestorPitr(timeline),
    timeline_dir_layer_file_size_sum: remote.cache.residentBytes,
    wal_source_connstr: receiver?.source ?? null,
    last_received_msg_lsn:
      receiver && receiver.lastReceivedLsn > 0 ? formatLsn(receiver.lastReceivedLsn) : null,
    last_received_msg_ts: receiver?.lastReceivedAtMs === undefined ? null : receiver.lastReceivedAtMs * 1000,
    pg_version: timeline.pgVersion,
    state: timelineState(timeline),
    walreceiver_status: receiver?.text ?? '',
    is_archived: timeline.isArchived,
    rel_size_migration: 'legacy',
    rel_size_migrated_at: null,
    is_invisible: index.markedInvisibleAt !== undefined,
    ...(options.imageConsistentLsn ? { image_consistent_lsn: lsnOrNull(imageConsistentLsn(timeline)) } : {}),
    full_page_writes: fullPageWrites(timeline),
    images_made: {
      pages: timeline.timeline.upkeep.totals.hotPages,
      layers: timeline.timeline.upkeep.totals.denseLayers,
    },
  };
}

const timelineState = ({ phase, brokenBy }: TenantTimeline): unknown =>
  phase === 'Broken' ? { Broken: { reason: brokenBy, backtrace: '' } } : phase;

/** A branch begins with its parent's size, as long as neither has gone on. */
function sizeAtHand({ phase, pgdata, timeline, ancestor, index }: TenantTimeline): number | undefined {
  if (phase !== 'Active') return undefined;
  if (pgdata.isLoaded) return pgdata.logicalSize;
  const from = index.ancestor?.lsn;
  const isFresh = timeline.lastRecordLsn === from && ancestor?.timeline.lastRecordLsn === from;
  return isFresh && ancestor?.pgdata.isLoaded ? ancestor.pgdata.logicalSize : undefined;
}

/** Undefined when what it needs cannot be loaded. */
async function logicalSize(timeline: TenantTimeline): Promise<number | undefined> {
  if (timeline.phase !== 'Active') return undefined;
  try {
    await timeline.pgdata.ready();
    return timeline.pgdata.logicalSize;
  } catch {
    return undefined; // the timeline's own trouble is told elsewhere
  }
}

export function physicalSize({ index }: TenantTimeline): number {
  let bytes = 0;
  for (const ref of index.layers.values()) bytes += ref.bytes;
  return bytes;
}

function withinAncestorPitr({ ancestor, index }: TenantTimeline): boolean {
  return ancestor !== undefined && index.ancestor!.lsn >= ancestor.plannedCutoffLsn;
}

function fullPageWrites({ timeline }: TenantTimeline): unknown {
  const mode = timeline.fullPageWrites;
  return mode ? { on: mode.on, lsn: formatLsn(mode.lsn) } : null;
}

/** Below it every page is in an image layer. */
function imageConsistentLsn({ timeline }: TenantTimeline): number {
  let lsn = timeline.lastRecordLsn;
  for (const { desc } of timeline.state.layers.all()) {
    if (desc.kind === 'delta') lsn = Math.min(lsn, desc.lsnStart);
  }
  return lsn;
}

export function tenantInfo(tenant: Tenant): Record<string, unknown> {
  const { phase, brokenBy } = tenant;
  const state =
    phase === 'Broken' ? { slug: phase, data: { reason: brokenBy, backtrace: '' } } : { slug: phase };
  const attachment =
    phase === 'Broken'
      ? { slug: 'failed', data: { reason: brokenBy } }
      : { slug: phase === 'Attaching' ? 'maybe' : 'attached' };
  return {
    id: tenant.id,
    state,
    current_physical_size: null,
    attachment_status: attachment,
    generation: tenant.generation,
  };
}

export function tenantDetails(tenant: Tenant): Record<string, unknown> {
  const timelines = [...tenant.timelines.values()];
  const blocking = gcBlockedBy(tenant);
  return {
    ...tenantInfo(tenant),
    current_physical_size: timelines.reduce((sum, timeline) => sum + physicalSize(timeline), 0),
    ...(blocking === undefined ? {} : { gc_blocking: blocking }),
    walredo: null,
    timelines: timelines.map(timeline => timeline.id),
  };
}

export function layerMap(timeline: TenantTimeline): unknown {
  const { open, frozen, layers } = timeline.timeline.state;
  const { cache } = timeline.remote;
  const inMemory: unknown[] = frozen.map(layer => ({
    kind: 'Frozen',
    lsn_start: formatLsn(layer.lsnStart),
    lsn_end: formatLsn(layer.lsnEnd),
  }));
  if (open.entries > 0) inMemory.push({ kind: 'Open', lsn_start: formatLsn(open.lsnStart) });
  const historic = [...layers.all()].map(({ desc, accessedMs }) => {
    const residentMs = cache.residentSince(desc.name);
    return {
      kind: desc.kind === 'delta' ? 'Delta' : 'Image',
      layer_file_name: desc.name,
      layer_file_size: desc.bytes,
      lsn_start: formatLsn(desc.lsnStart),
      ...(desc.kind === 'delta' ? { lsn_end: formatLsn(desc.lsnEnd) } : {}),
      // Only where it is not here: Neon's word for "would have to be downloaded".
      remote: residentMs === undefined,
      access_stats: {
        access_time: Math.max(accessedMs, residentMs ?? 0),
        residence_time: residentMs ?? 0,
        visible: true,
      },
      ...(desc.kind === 'delta' ? { l0: desc.isL0 } : {}),
    };
  });
  return { in_memory_layers: inMemory, historic_layers: historic };
}
