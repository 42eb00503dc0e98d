// A branch becomes a timeline of its own: what it read through to its ancestors for is copied, and it has none any more.
//
//   ancestor   ====[ d1 ]=[ d2 ]==+==[ d3 ]===        d1 whole, d2 whole, d3 up to the branch point
//                                 |
//   branch                        +-----[ own layers ]-----
//
// Layers that end at or before the branch point are copied as they are: sealed bytes under a new header, no page is
// opened. A delta layer that reaches past it is written anew without what came later, and one of level 0 as one of
// level 1: level 0 is newer than all else, and the branch has a level 1 of its own already. Then one index says it all:
// these layers, no ancestor, and which one it was.
//
//   v1 (no_ancestor_and_reparent)     one ancestor only; its other children that branch off at or before the same
//                                     point become children of this one
//   v2 (multi_level_and_no_reparent)  any number of ancestors; nobody else changes
//
// GC rests meanwhile. At the end the tenant is loaded anew, for timelines are bound to their parents.
//
// Answers to tenant/timeline/detach_ancestor.rs.

import { Fault, isFault } from '../base/fault.ts';
import type { TimelineId } from '../base/ids.ts';
import { openRun } from './jobs/merge.ts';
import type { KeyRange } from './key.ts';
import { DELTA_BLOCK_BYTES } from './layers/block.ts';
import type { LayerDesc } from './layers/layer.ts';
import { SectionBuilder } from './layers/layer-builder.ts';
import type { LayerFile } from './layers/layer-file.ts';
import { LINEAGE_MAX } from './remote/index-part.ts';
import type { AddedLayer } from './remote/remote-timeline.ts';
import type { Tenant } from './tenant.ts';
import type { TenantTimeline } from './tenant-timeline.ts';
import type { Tenants } from './tenants.ts';
import { cutRange, gatherRange, withOpen } from './timeline/gather.ts';
import { LayerOutput } from './timeline/layer-output.ts';
import type { ValueVisitor } from './value.ts';

export type DetachBehavior = 'v1' | 'v2';

const FLUSH_MS = 300_000;
/** Compaction of an ancestor may take a layer away while it is copied. */
const TRIES = 5;
const PART_BYTES = 4 * 1024 * 1024;

/** The timelines that are children of this one now, and were the ancestor's before. */
export async function detachAncestor(
  tenants: Tenants,
  tenant: Tenant,
  id: TimelineId,
  behavior: DetachBehavior,
): Promise<TimelineId[]> {
  const timeline = tenant.timeline(id);
  const done = finished(tenant, timeline);
  if (done) return done;
  check(tenant, timeline, behavior);
  if (tenant.structure.inUse > 0) {
    throw new Fault('timeline-busy', `another change of the timelines of tenant ${tenant.id} is under way`);
  }
  const reparented = await tenant.structure.run(() => detach(tenant, timeline, behavior));
  await tenant.flush(FLUSH_MS);
  await tenants.reload(tenant.at);
  await tenants.active(tenant.at);
  return reparented;
}

/** It was done before: the same answer again. */
function finished(tenant: Tenant, { id, index }: TenantTimeline): TimelineId[] | undefined {
  const { detached, ancestor } = index;
  if (ancestor || !detached) return undefined;
  return tenant
    .children(id)
    .filter(child => child.index.lineage.at(-1) === detached.timeline)
    .map(child => child.id);
}

function check(tenant: Tenant, timeline: TenantTimeline, behavior: DetachBehavior): void {
  const { ancestor, isArchived, id } = timeline;
  if (!ancestor) throw new Fault('timeline-exists', `timeline ${id} has no ancestor`);
  if (isArchived) throw new Fault('config-invalid', `timeline ${id} is archived: it cannot be detached`);
  if (behavior === 'v1' && ancestor.ancestor) {
    throw new Fault('config-invalid', `timeline ${id} has too many ancestors`, {
      hint: 'Detach its ancestor first, or ask for multi_level_and_no_reparent.',
    });
  }
  if (!tenant.permissions.delete) {
    throw new Fault('tenant-busy', `tenant ${tenant.id} is attached in mode ${tenant.conf.mode}`);
  }
}

async function detach(
  tenant: Tenant,
  timeline: TenantTimeline,
  behavior: DetachBehavior,
): Promise<TimelineId[]> {
  const { signal } = tenant;
  const { timeline: ancestorId, lsn } = timeline.index.ancestor!;
  const blocking = timeline.index.gcBlocking.filter(reason => reason !== 'DetachAncestor');
  await timeline.remote.waitFor(timeline.writeIndex({ gcBlocking: [...blocking, 'DetachAncestor'] }), signal);
  const added = await copyHistory(timeline);
  timeline.remote.layersMoved(added, []);
  timeline.timeline.change({ gcCutoffLsn: cutoffOf(timeline) });
  const sequence = timeline.writeIndex({
    ancestor: undefined,
    gcBlocking: blocking,
    lineage: [...timeline.index.lineage, ancestorId].slice(-LINEAGE_MAX),
    detached: { timeline: ancestorId, lsn, at: tenant.deps.clock.now() },
  });
  await timeline.remote.waitFor(sequence, signal);
  return behavior === 'v1' ? reparent(tenant, timeline, ancestorId, lsn) : [];
}

/** What its ancestors forgot is not in what is copied. */
function cutoffOf({ timeline, ancestor, index }: TenantTimeline, bound = Infinity): number {
  const own = Math.min(bound, timeline.gcCutoffLsn);
  return ancestor ? Math.max(own, cutoffOf(ancestor, Math.min(bound, index.ancestor!.lsn))) : own;
}

/** Branches of the ancestor that begin in the history which is now this one's. */
async function reparent(
  tenant: Tenant,
  timeline: TenantTimeline,
  ancestorId: TimelineId,
  lsn: number,
): Promise<TimelineId[]> {
  const moved = tenant
    .children(ancestorId)
    .filter(child => child !== timeline && child.index.ancestor!.lsn <= lsn && !child.isArchived);
  for (const child of moved) {
    const { ancestor, lineage } = child.index;
    const sequence = child.writeIndex({
      ancestor: { timeline: timeline.id, lsn: ancestor!.lsn },
      lineage: [...lineage, ancestorId].slice(-LINEAGE_MAX),
    });
    await child.remote.waitFor(sequence, tenant.signal);
  }
  return moved.map(child => child.id);
}

// ----------------------------------------------------------------------------------------------------------- copies

async function copyHistory(timeline: TenantTimeline): Promise<AddedLayer[]> {
  const added: AddedLayer[] = [];
  let bound = timeline.index.ancestor!.lsn;
  for (let from = timeline.ancestor; from; from = from.ancestor) {
    if (from.timeline.diskConsistentLsn < bound) await from.flushAndUpload(FLUSH_MS);
    added.push(...(await copyPatiently(timeline, from, bound)));
    bound = Math.min(bound, from.index.ancestor?.lsn ?? 0);
  }
  return added;
}

async function copyPatiently(
  timeline: TenantTimeline,
  from: TenantTimeline,
  bound: number,
): Promise<AddedLayer[]> {
  const copied = new Map<string, AddedLayer>();
  for (let tries = 1; ; tries++) {
    const wanted = [...from.timeline.state.layers.all()].filter(layer => layer.desc.lsnStart <= bound);
    try {
      for (const { desc } of wanted) {
        if (copied.has(desc.name)) continue;
        for (const layer of await copyLayer(timeline, from, desc, bound)) copied.set(desc.name, layer);
      }
      // What was copied of layers that went meanwhile would be there twice.
      const names = new Set(wanted.map(layer => layer.desc.name));
      return [...copied].flatMap(([name, layer]) => (names.has(name) ? [layer] : []));
    } catch (error) {
      if (!isFault(error, 'layer-removed') || tries >= TRIES) throw error;
    }
  }
}

async function copyLayer(
  timeline: TenantTimeline,
  from: TenantTimeline,
  desc: LayerDesc,
  bound: number,
): Promise<readonly AddedLayer[]> {
  if (desc.isL0 || desc.lsnEnd - 1 > bound) return cutLayer(timeline, from, desc, bound);
  const { name, bytes, generation } = desc;
  await from.remote.cache.download(name);
  const sealed = await from.vault.copyOut(name);
  try {
    await timeline.vault.copyIn(
      name,
      await timeline.vault.rebind(name, sealed, { scope: from.vault.scope, name }),
    );
  } finally {
    await sealed.close();
  }
  return [{ name, bytes, generation }];
}

/** A delta layer again, of level 1, without what came after `bound`. */
async function cutLayer(
  timeline: TenantTimeline,
  from: TenantTimeline,
  desc: LayerDesc,
  bound: number,
): Promise<readonly AddedLayer[]> {
  const { engine } = from.timeline;
  const layer = from.timeline.state.layers.get(desc.name);
  if (!layer) throw new Fault('layer-removed', `layer ${desc.name} went while it was copied`);
  const output = new LayerOutput(engine, timeline);
  try {
    await withOpen(engine.openLayers, [layer], async ([file]) => {
      const { index } = file!;
      if (index.count === 0) return;
      const keys: KeyRange = { start: { rel: index.rel[0]!, blk: index.blk[0]! }, end: desc.keys.end };
      const lsnEnd = Math.min(desc.lsnEnd, bound + 1);
      await output.begin({ ...desc, keys, lsnEnd, generation: timeline.generation });
      for (const { range } of cutRange([file!], keys, PART_BYTES)) {
        await output.add(await cutPart(file!, range, bound));
        await engine.clock.sleep(0);
      }
      await output.end();
    });
    return output.finish();
  } catch (error) {
    await output.abandon();
    throw error;
  }
}

async function cutPart(
  file: LayerFile,
  range: KeyRange,
  bound: number,
): Promise<ReturnType<SectionBuilder['finish']>> {
  const { header, bytes } = await gatherRange(file, range);
  const builder = new SectionBuilder(DELTA_BLOCK_BYTES);
  const upTo: ValueVisitor = {
    visit(rel, blk, lsn, kind, blockId, value, offset, length) {
      if (lsn <= bound) builder.visit(rel, blk, lsn, kind, blockId, value, offset, length);
    },
  };
  for (const run = openRun(header, bytes, range); run.key !== Infinity; run.next()) run.visit(upTo);
  return builder.finish();
}
