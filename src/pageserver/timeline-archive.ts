// Archived timelines: kept, and out of the way. They serve nobody and take in no WAL; an archived one may be offloaded,
// so that nothing of it is in memory or on the local disk and the manifest alone tells of it. Unarchived, it is back as
// it was.
//
//   Active ──archive──► archived ──offload──► offloaded
//      ◄────────────── unarchive ──────────────┘
//
// A parent is archived after its children, and unarchived before them.
//
// Answers to apply_timeline_archival_config of pageserver/src/tenant.rs and tenant/timeline/offload.rs.

import { Fault } from '../base/fault.ts';
import type { TimelineId } from '../base/ids.ts';
import { findIndex } from './remote/find.ts';
import type { Tenant } from './tenant.ts';
import { TenantTimeline } from './tenant-timeline.ts';

/** Uploading what is not in the store yet may take this long before a timeline is offloaded. */
const OFFLOAD_FLUSH_MS = 60_000;

export function setArchived(tenant: Tenant, id: TimelineId, archived: boolean): Promise<void> {
  return tenant.structure.run(() => (archived ? archive(tenant, id) : unarchive(tenant, id)));
}

async function archive(tenant: Tenant, id: TimelineId): Promise<void> {
  if (tenant.offloaded.has(id)) return;
  const timeline = tenant.timeline(id);
  if (timeline.isArchived) return;
  const children = tenant.children(id).filter(child => !child.isArchived);
  if (children.length > 0) {
    const names = children.map(child => child.id).join(', ');
    throw new Fault(
      'timeline-has-children',
      `Cannot archive timeline which has non-archived child timelines: ${names}`,
    );
  }
  const sequence = timeline.writeIndex({ archivedAt: tenant.deps.clock.now() });
  await timeline.remote.waitFor(sequence, tenant.signal);
  await timeline.stopReceiving(new Fault('timeline-archived', `timeline ${id} was archived`));
}

async function unarchive(tenant: Tenant, id: TimelineId): Promise<void> {
  const offloaded = tenant.offloaded.get(id);
  if (offloaded) {
    checkParent(tenant, id, offloaded.ancestor);
    await load(tenant, id);
    return;
  }
  const timeline = tenant.timeline(id);
  if (!timeline.isArchived) return;
  checkParent(tenant, id, timeline.index.ancestor?.timeline);
  await timeline.remote.waitFor(timeline.writeIndex({ archivedAt: undefined }), tenant.signal);
  timeline.resume();
}

function checkParent(tenant: Tenant, id: TimelineId, parent: TimelineId | undefined): void {
  if (parent === undefined) return;
  if (!tenant.offloaded.has(parent) && !tenant.timeline(parent).isArchived) return;
  throw new Fault('timeline-archived', `Timeline ${id} has an archived parent: ${parent}`);
}

/** An offloaded timeline is loaded again, and is archived no more. */
async function load(tenant: Tenant, id: TimelineId): Promise<void> {
  const { blobs } = tenant.deps.remote;
  const found = await findIndex(blobs, tenant.timelineVault(id), tenant.at, id, tenant.generation);
  if (!found) throw new Fault('timeline-missing', `timeline ${id} has no index any more`);
  const parent = found.value.ancestor && tenant.timeline(found.value.ancestor.timeline);
  const timeline = new TenantTimeline(tenant.deps, tenant, {
    id,
    index: found.value,
    stored: true,
    branchPoints: tenant.branchPoints(id),
    ...(parent ? { ancestor: parent } : {}),
  });
  await timeline.start();
  const offloaded = tenant.offloaded.get(id)!;
  tenant.offloaded.delete(id);
  tenant.timelines.set(id, timeline);
  try {
    await timeline.remote.waitFor(timeline.writeIndex({ archivedAt: undefined }), tenant.signal);
    await tenant.writeManifest();
  } catch (error) {
    tenant.timelines.delete(id);
    tenant.offloaded.set(id, offloaded);
    await timeline.stop(new Fault('shutting-down', `timeline ${id} could not be loaded`));
    throw error;
  }
  tenant.activate(timeline);
}

/** Nothing of an archived timeline stays but its objects; false when it cannot be yet. */
export function offloadTimeline(tenant: Tenant, id: TimelineId): Promise<boolean> {
  return tenant.structure.run(async () => {
    const timeline = tenant.timeline(id);
    const { archivedAt, ancestor } = timeline.index;
    if (archivedAt === undefined || tenant.children(id).length > 0 || !tenant.permissions.upload)
      return false;
    await timeline.flushAndUpload(OFFLOAD_FLUSH_MS);
    tenant.timelines.delete(id);
    tenant.offloaded.set(id, {
      timeline: id,
      ancestor: ancestor?.timeline,
      ancestorRetainLsn: ancestor?.lsn,
      archivedAt,
    });
    try {
      await tenant.writeManifest();
    } catch (error) {
      tenant.offloaded.delete(id);
      tenant.timelines.set(id, timeline);
      throw error;
    }
    await timeline.stop(new Fault('timeline-archived', `timeline ${id} was offloaded`));
    await tenant.deps.disk.removeTree(tenant.directoryOf(id));
    tenant.log.info('timeline offloaded', { timeline: id });
    return true;
  });
}
