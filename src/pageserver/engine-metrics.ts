// What the engine does and what holds it up, timeline by timeline, told at each scrape: whether the log carries full-page
// images (the images made in their place are in read-metrics.ts), merges, and the limits at which ingest waits
// (pressure.ts). All names are ours: Neon's pageserver has no such modes, and logs its waits.

import type { Emit, Metrics } from '../base/metrics.ts';
import type { TenantTimeline } from './tenant-timeline.ts';
import type { Tenants } from './tenants.ts';
import type { Limit } from './timeline/pressure.ts';

const LABELS = ['tenant_id', 'shard_id', 'timeline_id'];
const LIMITS: readonly Limit[] = ['memory', 'l0', 'upload-lag'];

const hex2 = (n: number): string => n.toString(16).padStart(2, '0');

export function engineMetrics(metrics: Metrics, tenants: Tenants): void {
  const collect = (
    kind: 'gauge' | 'counter',
    name: string,
    help: string,
    more: readonly string[],
    tell: (timeline: TenantTimeline, emit: (values: readonly string[], value: number) => void) => void,
  ): void => {
    metrics.collected(kind, `lakebed_${name}`, help, [...LABELS, ...more], (emit: Emit) => {
      for (const { at, timelines } of tenants.attached()) {
        const tenant = [at.tenant, `${hex2(at.shard.number)}${hex2(at.shard.count)}`];
        for (const timeline of timelines.values())
          tell(timeline, (values, value) => emit([...tenant, timeline.id, ...values], value));
      }
    });
  };
  collect('gauge', 'full_page_writes', 'Whether the log carries full-page images: 1 or 0', [], (t, emit) => {
    const mode = t.timeline.fullPageWrites;
    if (mode !== undefined) emit([], mode.on ? 1 : 0);
  });
  collect('gauge', 'full_page_writes_lsn', 'Since which position it does, or does not', [], (t, emit) => {
    const mode = t.timeline.fullPageWrites;
    if (mode !== undefined) emit([], mode.lsn);
  });
  collect('counter', 'compactions_total', 'Merges of level 0 into level 1', [], (t, emit) =>
    emit([], t.timeline.upkeep.totals.compactions),
  );
  collect('counter', 'ingest_waits_total', 'Times that ingest waited at a limit', ['limit'], (t, emit) => {
    for (const limit of LIMITS) emit([limit], t.timeline.pressure.waits[limit].count);
  });
  collect('counter', 'ingest_wait_seconds_total', 'Time that it waited', ['limit'], (t, emit) => {
    for (const limit of LIMITS) emit([limit], t.timeline.pressure.waits[limit].ms / 1000);
  });
  collect('gauge', 'ingest_waiting', 'The limit at which it waits now: 1', ['limit'], (t, emit) => {
    const { waitingFor } = t.timeline.pressure;
    for (const limit of LIMITS) emit([limit], waitingFor === limit ? 1 : 0);
  });
}
