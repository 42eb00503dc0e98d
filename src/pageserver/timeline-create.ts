// New timelines: a branch of another, a cluster fresh from initdb, or what a tar of a data directory holds.
//
// A timeline appears when its index and its name in the manifest are in the object store; either without the other is
// none (remote/manifest.ts), so both are put at once. A branch is these two puts and nothing else, whatever its parent's
// size: it reads through to the parent below the branch point, and the parent keeps that point from here on.
//
// Asked twice for the same, the second is answered with the timeline that is there. Asked for something else under the
// same id, it is refused; asked while the first is being made, it has to wait.
//
// Answers to create_timeline, branch_timeline and bootstrap_timeline of pageserver/src/tenant.rs.

import { Fault } from '../base/fault.ts';
import type { TimelineId } from '../base/ids.ts';
import { alignLsn, formatLsn } from '../base/lsn.ts';
import type { Imported } from './import-log.ts';
import { type IndexSeed, newIndex } from './remote/index-part.ts';
import type { Tenant } from './tenant.ts';
import { TenantTimeline } from './tenant-timeline.ts';

export interface BranchRequest {
  readonly id: TimelineId;
  readonly ancestor: TimelineId;
  /** The newest unless said. */
  readonly lsn: number | undefined;
}

/** WAL up to a branch point is waited for this long. */
const WAIT_LSN_MS = 300_000;
/** What asks for a timeline waits this long for the one that it is to be made of. */
const WAIT_ACTIVE_MS = 5000;

/** The timeline if it is there already and was made in this way; refused if in another. */
function existing(
  tenant: Tenant,
  id: TimelineId,
  same: (timeline: TenantTimeline) => boolean,
): TenantTimeline | undefined {
  if (tenant.making.has(id)) {
    throw new Fault('timeline-busy', `timeline ${id} is being created`, { hint: 'Ask again in a while.' });
  }
  if (tenant.deleting.has(id) || tenant.offloaded.has(id) || tenant.damaged.has(id)) {
    throw new Fault('timeline-exists', `timeline ${id} exists, and is deleted, offloaded or damaged`);
  }
  const timeline = tenant.timelines.get(id);
  if (timeline && !same(timeline)) {
    throw new Fault('timeline-exists', `timeline ${id} already exists with different parameters`);
  }
  return timeline;
}

// --------------------------------------------------------------------------------------------------------- branches

export async function branchTimeline(tenant: Tenant, request: BranchRequest): Promise<TenantTimeline> {
  const { id, ancestor: ancestorId } = request;
  const lsn = request.lsn === undefined ? undefined : alignLsn(request.lsn);
  await tenant.waitActive(WAIT_ACTIVE_MS);
  const there = existing(
    tenant,
    id,
    ({ index }) =>
      index.ancestor?.timeline === ancestorId && (lsn === undefined || index.ancestor.lsn === lsn),
  );
  if (there) return there;
  const ancestor = await tenant.activeTimeline(ancestorId, WAIT_ACTIVE_MS);
  if (ancestor.isArchived) {
    throw new Fault('timeline-archived', `Cannot branch off archived timeline ${ancestorId}`);
  }
  if (lsn !== undefined) {
    const first = ancestor.index.ancestor?.lsn ?? 0;
    if (lsn < first) throw badLsn(ancestor, lsn, `less than timeline ancestor lsn ${formatLsn(first)}`);
    await ancestor.timeline.waitFor(lsn, WAIT_LSN_MS, tenant.signal);
  }
  // From the check to the entry in `making` nothing waits: GC cannot come between.
  const at = lsn ?? ancestor.timeline.lastRecordLsn;
  checkBranchPoint(ancestor, at);
  tenant.making.set(id, { ancestor: ancestorId, lsn: at });
  keepPoint(ancestor, at);
  try {
    return await makeBranch(tenant, id, ancestor, at);
  } finally {
    tenant.making.delete(id);
  }
}

function checkBranchPoint(ancestor: TenantTimeline, lsn: number): void {
  if (ancestor.leases.isLeased(lsn, ancestor.now())) return;
  const { gcCutoffLsn } = ancestor.timeline.state;
  if (lsn < gcCutoffLsn) throw badLsn(ancestor, lsn, `less than latest GC cutoff ${formatLsn(gcCutoffLsn)}`);
  const planned = ancestor.plannedCutoffLsn;
  if (lsn < planned) throw badLsn(ancestor, lsn, `less than planned GC cutoff ${formatLsn(planned)}`);
}

const badLsn = (ancestor: TenantTimeline, lsn: number, why: string): Fault =>
  new Fault(
    'branch-lsn-invalid',
    `invalid branch start lsn: ${formatLsn(lsn)} for ancestor timeline ${ancestor.id}: ${why}`,
    { hint: 'Branch at a newer LSN, or raise pitr_interval to keep more history.' },
  );

/** Merges that run from now on keep what a read at the branch point needs. */
function keepPoint({ timeline }: TenantTimeline, lsn: number): void {
  const { retained } = timeline.state;
  if (!retained.includes(lsn)) timeline.change({ retained: [...retained, lsn].sort((a, b) => a - b) });
}

async function makeBranch(
  tenant: Tenant,
  id: TimelineId,
  ancestor: TenantTimeline,
  lsn: number,
): Promise<TenantTimeline> {
  const { lastRecordLsn, prevRecordLsn, gcCutoffLsn } = ancestor.timeline.state;
  const { fullPageWrites } = ancestor.timeline;
  const timeline = await newTimeline(tenant, id, ancestor, {
    pgVersion: ancestor.pgVersion,
    flavour: ancestor.index.flavour,
    ancestor: { timeline: ancestor.id, lsn },
    diskConsistentLsn: lsn,
    prevRecordLsn: lsn === lastRecordLsn && prevRecordLsn > 0 ? prevRecordLsn : undefined,
    initdbLsn: ancestor.index.initdbLsn,
    gcCutoffLsn: Math.min(gcCutoffLsn, lsn),
    fullPageWrites: fullPageWrites && fullPageWrites.lsn <= lsn ? fullPageWrites : undefined,
  });
  const sequence = timeline.writeIndex();
  await publish(tenant, timeline, () => timeline.remote.waitFor(sequence, tenant.signal));
  return timeline;
}

async function newTimeline(
  tenant: Tenant,
  id: TimelineId,
  ancestor: TenantTimeline | undefined,
  seed: IndexSeed,
  making = false,
): Promise<TenantTimeline> {
  const timeline = new TenantTimeline(tenant.deps, tenant, {
    id,
    index: newIndex(seed),
    stored: false,
    branchPoints: [],
    making,
    ...(ancestor ? { ancestor } : {}),
  });
  await timeline.start();
  return timeline;
}

const abandon = (timeline: TenantTimeline): Promise<void> =>
  timeline.stop(new Fault('timeline-missing', `timeline ${timeline.id} could not be created`));

/** Its name goes into the manifest while its index is being written; then it is there. */
async function publish(
  tenant: Tenant,
  timeline: TenantTimeline,
  written: () => Promise<void>,
): Promise<void> {
  const { id } = timeline;
  tenant.timelines.set(id, timeline);
  try {
    await Promise.all([written(), tenant.writeManifest()]);
  } catch (error) {
    tenant.timelines.delete(id);
    await abandon(timeline);
    throw error;
  }
  tenant.activate(timeline);
}

// ------------------------------------------------------------------------------------------- clusters from elsewhere

export interface NewCluster {
  readonly id: TimelineId;
  readonly pgVersion: number;
  readonly flavour: 'neon' | 'stock';
}

/** `fill` puts a cluster into the timeline and tells where its log ends. */
export async function makeCluster(
  tenant: Tenant,
  { id, pgVersion, flavour }: NewCluster,
  fill: (timeline: TenantTimeline) => Promise<Imported>,
): Promise<TenantTimeline> {
  await tenant.waitActive(WAIT_ACTIVE_MS);
  const there = existing(tenant, id, t => t.index.ancestor === undefined && t.pgVersion === pgVersion);
  if (there) return there;
  tenant.making.set(id, { ancestor: undefined, lsn: 0 });
  const seed = { pgVersion, flavour, diskConsistentLsn: 0, prevRecordLsn: undefined, initdbLsn: 0 };
  try {
    await tenant.deps.disk.removeTree(tenant.directoryOf(id)); // what an interrupted one left
    const timeline = await newTimeline(tenant, id, undefined, seed, true);
    const { endLsn, ingest } = await fill(timeline).catch(async error => {
      await abandon(timeline);
      throw error;
    });
    timeline.adoptIngest(ingest);
    await publish(tenant, timeline, () => timeline.finishMaking(endLsn));
    return timeline;
  } finally {
    tenant.making.delete(id);
  }
}
