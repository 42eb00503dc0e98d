// The end of a timeline. First its index says so (`deleted_at`), and from then on it is gone, whatever happens; then
// its objects go, the indexes last, then its name in the manifest and its files here. A deletion that was interrupted
// is gone on with by whoever attaches the tenant next.
//
//   index: deleted ──► answered ──► layers ──► indexes ──► manifest
//
// Nothing is removed before the control plane confirmed that the tenant is still ours.
//
// Answers to DeleteTimelineFlow of tenant/timeline/delete.rs.

import { Fault } from '../base/fault.ts';
import type { TimelineId } from '../base/ids.ts';
import { findIndex } from './remote/find.ts';
import { encodeIndex, type IndexPart } from './remote/index-part.ts';
import { indexName, parseKey, timelineDirectory } from './remote/paths.ts';
import { mayPassInTime, retrying, unlessAborted } from './remote/retry.ts';
import type { Tenant } from './tenant.ts';

/** Resolves when the timeline is marked as deleted; what follows goes on by itself. */
export function deleteTimeline(tenant: Tenant, id: TimelineId): Promise<void> {
  if (tenant.deleting.has(id)) {
    throw new Fault('timeline-exists', `timeline ${id} is being deleted already`);
  }
  return tenant.structure.run(async () => {
    checkDeletable(tenant, id);
    const wasOffloaded = tenant.offloaded.has(id);
    const index = wasOffloaded ? await markOffloaded(tenant, id) : await markLoaded(tenant, id);
    begin(tenant, id, index);
    // The manifest alone tells of offloaded ones.
    if (wasOffloaded) await tenant.writeManifest();
  });
}

function checkDeletable(tenant: Tenant, id: TimelineId): void {
  if (!tenant.permissions.delete) {
    throw new Fault(
      'tenant-busy',
      `tenant ${tenant.id} is attached in mode ${tenant.conf.mode}: nothing is deleted here`,
      {
        hint: 'Ask the node that has it in mode AttachedSingle.',
      },
    );
  }
  const offloadedChildren = [...tenant.offloaded.values()]
    .filter(o => o.ancestor === id)
    .map(o => o.timeline);
  const made = [...tenant.making].filter(([, { ancestor }]) => ancestor === id).map(([child]) => child);
  const children = [...tenant.children(id).map(child => child.id), ...offloadedChildren, ...made];
  if (children.length > 0) {
    throw new Fault(
      'timeline-has-children',
      `Cannot delete timeline which has child timelines: ${children.join(', ')}`,
      { hint: 'Delete them first, or detach them from this one.' },
    );
  }
}

async function markLoaded(tenant: Tenant, id: TimelineId): Promise<IndexPart> {
  const timeline = tenant.timeline(id);
  const why = new Fault('timeline-missing', `timeline ${id} was deleted`);
  await timeline.stopReceiving(why);
  await timeline.remote.waitFor(timeline.writeIndex({ deletedAt: tenant.deps.clock.now() }), tenant.signal);
  const { index } = timeline;
  tenant.timelines.delete(id);
  await timeline.stop(why);
  return index;
}

async function markOffloaded(tenant: Tenant, id: TimelineId): Promise<IndexPart> {
  const { blobs } = tenant.deps.remote;
  const vault = tenant.timelineVault(id);
  const found = await findIndex(blobs, vault, tenant.at, id, tenant.generation);
  if (!found) throw new Fault('timeline-missing', `timeline ${id} has no index any more`);
  const index = { ...found.value, sequence: found.value.sequence + 1, deletedAt: tenant.deps.clock.now() };
  await putIndex(tenant, id, index);
  tenant.offloaded.delete(id);
  return index;
}

/** The index of a timeline that is not loaded. */
export async function putIndex(tenant: Tenant, id: TimelineId, index: IndexPart): Promise<void> {
  const { clock, random, remote } = tenant.deps;
  const { signal } = tenant;
  const name = indexName(tenant.generation);
  const sealed = await tenant
    .timelineVault(id)
    .seal(name, encodeIndex(index), { generation: tenant.generation });
  const key = `${timelineDirectory(tenant.at, id)}/${name}`;
  const retry = (work: () => Promise<void>): Promise<void> => retrying({ clock, random, signal }, work);
  await unlessAborted(remote.lasting.put(key, sealed, retry, signal), signal);
}

/** What an earlier attachment began. */
export function resumeDeletion(tenant: Tenant, id: TimelineId, index: IndexPart): void {
  if (tenant.permissions.delete) begin(tenant, id, index);
}

function begin(tenant: Tenant, id: TimelineId, index: IndexPart): void {
  const work = removeAll(tenant, id, index).catch(error => {
    if (tenant.signal.aborted) return; // the next attachment goes on with it
    tenant.log.error('a deleted timeline is not gone yet', { timeline: id, error: String(error) });
  });
  tenant.deleting.set(id, work);
}

async function removeAll(tenant: Tenant, id: TimelineId, index: IndexPart): Promise<void> {
  const { clock, random, remote, disk } = tenant.deps;
  const { signal } = tenant;
  const claim = { id: tenant.id, generation: tenant.generation };
  if (!(await unlessAborted(remote.validator.confirm(claim), signal))) {
    throw new Fault('generation-stale', `tenant ${tenant.id} was attached elsewhere`);
  }
  const directory = timelineDirectory(tenant.at, id);
  const patiently = <T>(work: () => Promise<T>): Promise<T> =>
    retrying({ clock, random, signal, repeat: mayPassInTime }, work);
  const { layers, indexes } = await patiently(() => keysOf(tenant, directory, index));
  for (const keys of [layers, indexes]) {
    for (let at = 0; at < keys.length; at += KEYS_MAX)
      await patiently(() => remote.blobs.remove(keys.slice(at, at + KEYS_MAX)));
  }
  await disk.removeTree(directory);
  tenant.deleting.delete(id);
  await tenant.writeManifest();
  tenant.log.info('timeline deleted', { timeline: id, objects: layers.length });
}

const KEYS_MAX = 1000;

/** What the list shows, and what the index names though the list may not show it yet. */
async function keysOf(
  tenant: Tenant,
  directory: string,
  index: IndexPart,
): Promise<{ layers: string[]; indexes: string[] }> {
  const keys = new Set<string>();
  const { shard } = tenant.at;
  for (const [name, ref] of index.layers) {
    if (ref.shard.number === shard.number && ref.shard.count === shard.count)
      keys.add(`${directory}/${name}`);
  }
  for (const name of index.forgotten) keys.add(`${directory}/${name}`);
  for await (const { key } of tenant.deps.remote.blobs.list(`${directory}/`)) keys.add(key);
  keys.add(`${directory}/${indexName(tenant.generation)}`);
  const isIndex = (key: string): boolean => parseKey(key)?.kind === 'index';
  return { layers: [...keys].filter(key => !isIndex(key)), indexes: [...keys].filter(isIndex) };
}
