// Garbage collection of a tenant's timelines: how far each may go (gc-cutoff.ts), what is kept below that (branch points
// and leases), and what went.
//
// What is planned is told before what is kept is listed, in one go: a branch or a lease that comes after that is refused
// below the plan, one that came before is in the list. So nothing is asked for between the two and lost.
//
// GC rests while the attachment is not the only one, during the grace after attaching (leases.ts), and while a reason
// to block it stands in an index.
//
// Answers to gc_iteration of pageserver/src/tenant.rs and to tenant/gc_block.rs.

import { type GcCutoffs, gcCutoffs } from './gc-cutoff.ts';
import type { LayerDesc } from './layers/layer.ts';
import { lsnForTimestamp, timestampOfUnixMs } from './lsn-by-time.ts';
import { planGc } from './plan/gc.ts';
import type { Tenant } from './tenant.ts';
import type { TenantTimeline } from './tenant-timeline.ts';

export interface GcReport {
  readonly layersTotal: number;
  readonly neededByCutoff: number;
  readonly neededByPitr: number;
  readonly neededByBranches: number;
  readonly neededByLeases: number;
  readonly notUpdated: number;
  readonly removed: number;
  readonly elapsedMs: number;
}

export interface GcOptions {
  /** In place of the tenant's gc_horizon. */
  readonly gcHorizon?: number | undefined;
}

/** Why GC rests; undefined when it need not. */
export function gcBlockedBy(tenant: Tenant): string | undefined {
  if (!tenant.permissions.delete) return `the tenant is attached in mode ${tenant.conf.mode}`;
  for (const { id, index } of tenant.timelines.values()) {
    if (index.gcBlocking.length > 0) return `${index.gcBlocking.join(', ')} of timeline ${id}`;
  }
  return undefined;
}

/** Every timeline of the tenant, unless GC rests. */
export async function collectTenant(tenant: Tenant): Promise<void> {
  if (gcBlockedBy(tenant) !== undefined) return;
  const now = tenant.deps.clock.now();
  for (const timeline of [...tenant.timelines.values()]) {
    if (timeline.phase !== 'Active' || timeline.leases.inGrace(now)) continue;
    const { removed, layersTotal } = await collectTimeline(tenant, timeline);
    if (removed > 0) timeline.log.info('garbage collected', { removed, of: layersTotal });
  }
}

/** Where GC would go now. What the timeline refuses below is set with it. */
export async function planCutoff(
  tenant: Tenant,
  timeline: TenantTimeline,
  options: GcOptions = {},
): Promise<GcCutoffs> {
  const { gc_horizon, pitr_interval } = tenant.settings;
  const { state } = timeline.timeline;
  const lowest = Math.max(state.gcCutoffLsn, timeline.index.ancestor?.lsn ?? 0);
  const past = timestampOfUnixMs(tenant.deps.clock.now() - pitr_interval);
  const atPitr =
    pitr_interval === 0 || lowest >= state.lastRecordLsn
      ? undefined
      : await lsnForTimestamp(timeline.timeline, past, lowest);
  const cutoffs = gcCutoffs(
    { gcHorizon: options.gcHorizon ?? gc_horizon, pitrIntervalMs: pitr_interval },
    {
      lastRecordLsn: timeline.timeline.lastRecordLsn,
      appliedCutoffLsn: timeline.timeline.gcCutoffLsn,
      atPitr,
      standbyHorizon: timeline.standbyHorizon,
    },
  );
  timeline.plannedCutoffLsn = Math.max(timeline.plannedCutoffLsn, cutoffs.cutoffLsn);
  return cutoffs;
}

export async function collectTimeline(
  tenant: Tenant,
  timeline: TenantTimeline,
  options: GcOptions = {},
): Promise<GcReport> {
  const { clock } = tenant.deps;
  const began = clock.monotonic();
  const cutoffs = await planCutoff(tenant, timeline, options);
  // From the plan to here nothing waited: what is kept is complete.
  const branches = tenant.branchPoints(timeline.id);
  // Who held a lease before the attachment may still renew it: what the last GC kept is kept.
  const before = timeline.leases.inGrace(clock.now()) ? timeline.timeline.state.retained : [];
  const leases = [...timeline.leases.lsns(clock.now()), ...before];
  const layers = [...timeline.timeline.state.layers.all()].map(layer => layer.desc);
  // Standbys tell again before the next time; one that is gone is not waited for.
  timeline.standbyHorizon = 0;
  const { cutoff, removed } = await timeline.timeline.gc(cutoffs.cutoffLsn, [...branches, ...leases]);
  const { gcCutoffLsn } = timeline.index;
  if (removed.length === 0 && cutoff > gcCutoffLsn) timeline.writeIndex();
  const needs = whoNeeds(layers, cutoffs, branches, leases);
  return {
    ...needs,
    layersTotal: layers.length,
    removed: removed.length,
    elapsedMs: clock.monotonic() - began,
  };
}

type Needs = Omit<GcReport, 'layersTotal' | 'removed' | 'elapsedMs'>;

/** Why layers stay: each counted at the first reason that holds it. */
function whoNeeds(
  layers: readonly LayerDesc[],
  { cutoffLsn, spaceLsn, timeLsn = 0 }: GcCutoffs,
  branches: readonly number[],
  leases: readonly number[],
): Needs {
  const above = layers.filter(layer => layer.lsnEnd - 1 > cutoffLsn);
  const neededByCutoff = above.filter(layer => layer.lsnEnd - 1 > spaceLsn || spaceLsn <= timeLsn).length;
  const below = layers.length - above.length;
  const free = (retained: readonly number[]): number =>
    planGc(layers, { cutoff: cutoffLsn, retained }).length;
  const freeOfAll = free([]);
  const freeOfBranches = free(branches);
  const neededByBranches = freeOfAll - freeOfBranches;
  const neededByLeases = freeOfBranches - free([...branches, ...leases]);
  return {
    neededByCutoff,
    neededByPitr: above.length - neededByCutoff,
    neededByBranches,
    neededByLeases,
    // The newest of its keys, however old.
    notUpdated: below - freeOfAll,
  };
}
