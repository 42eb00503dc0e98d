// What a pageserver has, told at each scrape: its timelines' positions and sizes, layers, tenants by state, caches,
// uploads, downloads, deletions. Nothing here is counted on a hot path, and a tenant that has left leaves no series
// behind. Names and labels are Neon's where Neon has the thing; what only this pageserver has begins with `lakebed_`.
//
// Two of them must stay 0, and launchers look for them: *_unexpected_errors_total.
//
// Answers to pageserver/src/metrics.rs.

import type { Emit, Metrics } from '../base/metrics.ts';
import { engineMetrics } from './engine-metrics.ts';
import { physicalSize } from './http/shapes.ts';
import type { NodeDeps } from './node.ts';
import { readMetrics } from './read-metrics.ts';
import type { Tenant } from './tenant.ts';
import type { TenantTimeline } from './tenant-timeline.ts';
import type { Tenants } from './tenants.ts';

const BLCKSZ = 8192;
const TIMELINE_LABELS = ['tenant_id', 'shard_id', 'timeline_id'];
const TENANT_LABELS = ['tenant_id', 'shard_id'];

const hex2 = (n: number): string => n.toString(16).padStart(2, '0');

/** As Neon writes it: number and count, 0000 for a tenant of one piece. */
const shardId = ({ at }: Pick<Tenant, 'at'>): string => `${hex2(at.shard.number)}${hex2(at.shard.count)}`;

export function nodeMetrics(metrics: Metrics, tenants: Tenants, node: NodeDeps): void {
  timelineMetrics(metrics, tenants, node);
  tenantMetrics(metrics, tenants);
  cacheMetrics(metrics, node);
  storeMetrics(metrics, node);
  readMetrics(metrics, node.engine);
  engineMetrics(metrics, tenants);
}

function timelineMetrics(metrics: Metrics, tenants: Tenants, node: NodeDeps): void {
  const each = (tell: (timeline: TenantTimeline, labels: string[]) => void): void => {
    for (const tenant of tenants.attached()) {
      const labels = [tenant.at.tenant, shardId(tenant)];
      for (const timeline of tenant.timelines.values()) tell(timeline, [...labels, timeline.id]);
    }
  };
  const gauge = (name: string, help: string, value: (t: TenantTimeline) => number): void =>
    metrics.collected('gauge', `pageserver_${name}`, help, TIMELINE_LABELS, emit =>
      each((timeline, labels) => emit(labels, value(timeline))),
    );
  gauge('last_record_lsn', 'End of the newest record that was taken in', t => t.timeline.lastRecordLsn);
  gauge('disk_consistent_lsn', 'Everything up to here is on the local disk', t => {
    return t.timeline.state.diskConsistentLsn;
  });
  gauge('projected_remote_consistent_lsn', 'Everything up to here is in the object store', t => {
    return t.remote.durableLsn;
  });
  gauge('standby_horizon', 'The oldest position a standby reads at; 0 for none', t => t.standbyHorizon);
  metrics.collected(
    'gauge',
    'pageserver_current_logical_size',
    'Bytes of the databases, as Postgres counts them, where their catalog is loaded',
    TIMELINE_LABELS,
    emit =>
      each(({ pgdata }, labels) => {
        if (pgdata.isLoaded) emit(labels, pgdata.logicalSize);
      }),
  );
  gauge('resident_physical_size', 'Bytes of layers on the local disk', t => t.remote.cache.residentBytes);
  gauge('remote_physical_size', 'Bytes of layers in the index of the object store', physicalSize);
  gauge('pitr_history_size', 'Bytes of WAL since the point that history is kept from', t => {
    return t.timeline.lastRecordLsn - t.plannedCutoffLsn;
  });
  gauge('valid_lsn_lease_count', 'Leases in force', t => t.leases.lsns(node.clock.now()).length);
  layerMetrics(metrics, each);
  const sum = (name: string, help: string, value: (t: TenantTimeline) => number): void =>
    metrics.collected('gauge', `pageserver_${name}`, help, [], emit =>
      emit(
        [],
        tenants.timelines().reduce((total, t) => total + value(t), 0),
      ),
    );
  sum('resident_physical_size_global', 'Bytes of layers on the local disk, of all timelines', t => {
    return t.remote.cache.residentBytes;
  });
  sum('remote_physical_size_global', 'Bytes of layers in the object store, of all timelines', physicalSize);
  metrics.collected('gauge', 'pageserver_timeline_ephemeral_bytes', 'Bytes of layers in memory', [], emit =>
    emit([], node.engine.memoryBytes),
  );
}

type EachTimeline = (tell: (timeline: TenantTimeline, labels: string[]) => void) => void;

function layerMetrics(metrics: Metrics, each: EachTimeline): void {
  const kinds = (timeline: TenantTimeline): Map<string, { count: number; bytes: number }> => {
    const found = new Map<string, { count: number; bytes: number }>();
    for (const { desc } of timeline.timeline.state.layers.all()) {
      const key = `${desc.isL0 ? 'l0' : 'l1'} ${desc.kind}`;
      const sum = found.get(key) ?? { count: 0, bytes: 0 };
      found.set(key, { count: sum.count + 1, bytes: sum.bytes + desc.bytes });
    }
    return found;
  };
  const gauge = (name: string, help: string, which: 'count' | 'bytes'): void =>
    metrics.collected('gauge', name, help, [...TIMELINE_LABELS, 'level', 'kind'], emit =>
      each((timeline, labels) => {
        for (const [key, sum] of kinds(timeline)) emit([...labels, ...key.split(' ')], sum[which]);
      }),
    );
  gauge('pageserver_layer_count', 'Layer files, by level and kind', 'count');
  gauge('pageserver_layer_bytes', 'Bytes of layer files, by level and kind', 'bytes');
}

/** How many there are of each of these words. */
function counted(words: readonly string[], all: readonly string[], emit: Emit): void {
  for (const word of all) emit([word], words.filter(w => w === word).length);
}

function tenantMetrics(metrics: Metrics, tenants: Tenants): void {
  metrics.collected('gauge', 'pageserver_tenant_states_count', 'Tenants by state', ['state'], emit =>
    counted(
      tenants.attached().map(t => t.phase),
      ['Attaching', 'Active', 'Stopping', 'Broken'],
      emit,
    ),
  );
  metrics.collected('gauge', 'pageserver_timeline_states_count', 'Timelines by state', ['state'], emit =>
    counted(
      tenants.timelines().map(t => t.phase),
      ['Loading', 'Active', 'Stopping', 'Broken'],
      emit,
    ),
  );
  metrics.collected(
    'gauge',
    'pageserver_broken_tenants_count',
    'A series of 1 for each broken tenant',
    TENANT_LABELS,
    emit => {
      for (const t of tenants.attached()) if (t.phase === 'Broken') emit([t.at.tenant, shardId(t)], 1);
    },
  );
  metrics.collected(
    'gauge',
    'pageserver_tenant_offloaded_timelines',
    'Timelines that are in the object store alone',
    TENANT_LABELS,
    emit => {
      for (const t of tenants.attached()) emit([t.at.tenant, shardId(t)], t.offloaded.size);
    },
  );
  metrics.collected('gauge', 'pageserver_tenant_manager_slots', 'Locations by kind', ['mode'], emit => {
    emit(['attached'], tenants.attached().length);
    emit(['secondary'], tenants.secondaries().length);
  });
  // A broken promise among tenants ends the process here: there is no such error to count and to go on after.
  metrics
    .counter('pageserver_tenant_manager_unexpected_errors_total', 'Trouble that should not be: must stay 0')
    .with();
}

function cacheMetrics(metrics: Metrics, { engine }: NodeDeps): void {
  const { pages } = engine;
  const labels = ['task_kind', 'key_kind', 'content_kind'];
  // One cache, of finished pages. Neon's is of file blocks, whence the labels.
  const kinds = ['PageRequestHandler', 'materialized', 'page'];
  metrics.collected(
    'counter',
    'pageserver_page_cache_read_accesses_total',
    'Looks for a page in the cache of finished pages',
    labels,
    emit => emit(kinds, pages.hits + pages.misses),
  );
  metrics.collected(
    'counter',
    'pageserver_page_cache_read_hits_total',
    'Those that found one',
    [...labels, 'hit_kind'],
    emit => emit([...kinds, 'exact'], pages.hits),
  );
  metrics.collected(
    'gauge',
    'pageserver_page_cache_size_current_bytes',
    'Bytes of pages in the cache',
    ['key_kind'],
    emit => emit(['materialized'], pages.pages * BLCKSZ),
  );
  metrics.collected('gauge', 'pageserver_page_cache_size_max_bytes', 'Bytes it may hold', [], emit =>
    emit([], engine.settings.pageCachePages * BLCKSZ),
  );
  metrics.collected('gauge', 'lakebed_open_layers', 'Layer files held open', [], emit =>
    emit([], engine.openLayers.count),
  );
}

function storeMetrics(metrics: Metrics, { remote }: NodeDeps): void {
  const { deletions, uploads, cache, validator } = remote;
  const count = (name: string, help: string, value: () => number): void =>
    metrics.collected('counter', name, help, [], emit => emit([], value()));
  count('pageserver_deletion_queue_submitted_total', 'Objects to delete', () => deletions.submitted);
  count('pageserver_deletion_queue_executed_total', 'Objects deleted', () => deletions.executed);
  count(
    'pageserver_deletion_queue_dropped_total',
    'Objects left to whoever has the tenant now',
    () => deletions.dropped,
  );
  count(
    'pageserver_deletion_queue_unexpected_errors_total',
    'Trouble that should not be: must stay 0',
    () => deletions.unexpected,
  );
  count(
    'pageserver_remote_ondemand_downloaded_layers_total',
    'Layers fetched because they were read',
    () => cache.downloads,
  );
  count(
    'pageserver_remote_ondemand_downloaded_bytes_total',
    'Bytes of such layers',
    () => cache.downloadedBytes,
  );
  count(
    'lakebed_download_seconds_total',
    'Time that downloads of layers took, together',
    () => cache.downloadSeconds,
  );
  count('lakebed_evicted_layers_total', 'Local copies of layers given up', () => cache.evictions);
  count('lakebed_damaged_layers_total', 'Local copies that failed their check', () => cache.damaged);
  count('lakebed_repaired_layers_total', 'Damaged copies replaced from the store', () => cache.repaired);
  count('lakebed_uploaded_layers_total', 'Layers put into the object store', () => uploads.layers);
  count('lakebed_uploaded_layer_bytes_total', 'Bytes of them', () => uploads.layerBytes);
  count('lakebed_uploaded_indexes_total', 'Indexes put into the object store', () => uploads.indexes);
  count('lakebed_upload_failures_total', 'Uploads that failed and were tried again', () => uploads.failures);
  count(
    'lakebed_stale_generations_total',
    'Answers that an attachment is not the newest',
    () => validator.stale,
  );
}
