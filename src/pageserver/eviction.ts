// Layers that leave the local disk: because it is too full (the whole node's, those read longest ago first), or because
// nobody has read them for longer than their tenant wants them kept (eviction_policy). Only what is in the object
// store goes; the next read fetches it again.
//
// Answers to disk_usage_eviction_task.rs and tenant/timeline/eviction_task.rs.

import type { Disk } from '../base/ports.ts';
import type { DiskUsageEviction } from './config.ts';
import { planEviction, type Resident } from './plan/evict.ts';
import { sealedBytes } from './remote/layer-cache.ts';
import type { TenantTimeline } from './tenant-timeline.ts';

interface ResidentLayer extends Resident {
  readonly timeline: TenantTimeline;
}

/** What is on the local disk, of all these timelines. */
export function residentLayers(timelines: readonly TenantTimeline[]): ResidentLayer[] {
  return timelines.flatMap(timeline => {
    const { cache, queue } = timeline.remote;
    const residents: ResidentLayer[] = [];
    for (const { desc, accessedMs } of timeline.timeline.state.layers.all()) {
      const sinceMs = cache.residentSince(desc.name);
      if (sinceMs === undefined) continue;
      residents.push({
        timeline,
        name: desc.name,
        bytes: sealedBytes(desc.bytes),
        accessedMs: Math.max(accessedMs, sinceMs),
        isUploaded: queue.isStored(desc.name),
      });
    }
    return residents;
  });
}

/** Read less than this ago, a layer stays unless nothing else is left. */
const KEEP_MS = 60_000;

export interface EvictionReport {
  readonly layers: number;
  readonly bytes: number;
  /** What could not be freed: the rest is not uploaded yet. */
  readonly shortBytes: number;
}

/** Frees so many bytes, or as many as can be. */
export async function evictBytes(
  timelines: readonly TenantTimeline[],
  bytes: number,
  nowMs: number,
): Promise<EvictionReport> {
  const plan = planEviction(residentLayers(timelines), { bytes, nowMs, keepMs: KEEP_MS });
  const done = await evictAll(plan.evict);
  return { ...done, shortBytes: plan.shortBytes };
}

/** Those read longest ago, of one timeline. */
export async function evictUnread(
  timeline: TenantTimeline,
  thresholdMs: number,
  nowMs: number,
): Promise<{ layers: number; bytes: number }> {
  const unread = residentLayers([timeline]).filter(
    layer => layer.isUploaded && nowMs - layer.accessedMs > thresholdMs,
  );
  return evictAll(unread);
}

/** Gives up one layer's local copy; false when there is none, or no other, or while it is being read. */
export async function evictLayer(timeline: TenantTimeline, name: string): Promise<boolean> {
  const { cache, queue } = timeline.remote;
  if (!cache.isResident(name) || !queue.isStored(name)) return false;
  if (!(await timeline.timeline.forgetOpen(name))) return false;
  return cache.evict(name);
}

async function evictAll(layers: readonly ResidentLayer[]): Promise<{ layers: number; bytes: number }> {
  let count = 0;
  let freed = 0;
  for (const { timeline, name, bytes } of layers) {
    if (!(await evictLayer(timeline, name))) continue;
    count++;
    freed += bytes;
  }
  return { layers: count, bytes: freed };
}

/** How much must go for the disk to be as free as the settings want it. */
export async function bytesTooMany(disk: Disk, settings: DiskUsageEviction): Promise<number> {
  const { capacityBytes, freeBytes } = await disk.usage();
  const used = capacityBytes - freeBytes;
  const overPct = used - (capacityBytes * settings.maxUsagePct) / 100;
  const underMin = settings.minAvailBytes - freeBytes;
  return Math.max(0, Math.ceil(overPct), Math.ceil(underMin));
}
