// Which local copies of layers to give up when the disk is too full: those read longest ago, until enough is freed.
// Only layers that are in the object store may go; one read within `keepMs` stays unless nothing else is left.
//
// Answers to: disk_usage_eviction_task.rs of Neon's pageserver.

export interface Resident {
  readonly name: string;
  readonly bytes: number;
  readonly accessedMs: number;
  readonly isUploaded: boolean;
}

export interface EvictionLimits {
  /** What is to be freed. */
  readonly bytes: number;
  readonly nowMs: number;
  readonly keepMs: number;
}

export interface EvictionPlan<R extends Resident> {
  readonly evict: readonly R[];
  /** What the plan cannot free: everything else is not uploaded yet. */
  readonly shortBytes: number;
}

export function planEviction<R extends Resident>(
  residents: readonly R[],
  limits: EvictionLimits,
): EvictionPlan<R> {
  const evict: R[] = [];
  let left = limits.bytes;
  const oldestFirst = residents
    .filter(layer => layer.isUploaded)
    .sort((a, b) => a.accessedMs - b.accessedMs || (a.name < b.name ? -1 : 1));
  const isRecent = (layer: R): boolean => limits.nowMs - layer.accessedMs < limits.keepMs;
  for (const layer of [...oldestFirst.filter(l => !isRecent(l)), ...oldestFirst.filter(isRecent)]) {
    if (left <= 0) break;
    evict.push(layer);
    left -= layer.bytes;
  }
  return { evict, shortBytes: Math.max(0, left) };
}
