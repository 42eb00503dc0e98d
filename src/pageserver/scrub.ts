// Compares what the object store has with what the indexes name, tenant by tenant. Reads only; deleting what is found
// to be garbage is a step of its own (`isGarbage`, cli/scrub.ts).
//
//   unnamed      an object that no index names                 left behind by a crash, or a deletion not carried out
//   missing      an index names a layer that is not there
//   size         ... that has another size than the index says
//   damaged      ... that does not open, or not in every block (deep)
//   unreadable   a manifest or an index that cannot be read: nothing is said of its objects, and none is garbage
//   foreign      a key that is none of this scheme (paths.ts): never garbage
//
// An object that is young may be on its way to being named, and one that another attachment of an older generation
// still reads may be unnamed already: so only what is older than an age, a day unless told, is garbage. Layers have
// names of their own that are never given again: what was garbage once stays it.
//
// A shard that came of a split reads layers of the shard it was split from: the indexes of all shards of a tenant are
// read before anything is said of their objects.
//
// Answers to storage_scrubber (scan_metadata, find_garbage) of Neon's repository.

import { isFault } from '../base/fault.ts';
import type { TenantId, TimelineId } from '../base/ids.ts';
import type { BlobHead, Blobs } from '../base/ports.ts';
import type { SealScope, Vault } from '../seal/vault.ts';
import { Block } from './layers/block.ts';
import { LayerFile } from './layers/layer-file.ts';
import { parseLayerName } from './layers/layer-name.ts';
import { findIndex, findManifest } from './remote/find.ts';
import type { IndexPart, LayerRef } from './remote/index-part.ts';
import { sealedBytes } from './remote/layer-cache.ts';
import {
  GENERATION_MAX,
  type Located,
  parseKey,
  shardText,
  TENANTS,
  type TenantShard,
  timelineDirectory,
} from './remote/paths.ts';
import { remoteSource } from './remote/remote-source.ts';

export interface Finding {
  readonly problem: 'unnamed' | 'missing' | 'size' | 'damaged' | 'unreadable' | 'foreign';
  readonly key: string;
  readonly bytes: number;
  /** Milliseconds since the epoch; 0 when there is no object. */
  readonly modifiedMs: number;
  readonly detail: string;
}

export interface ScrubDeps {
  readonly blobs: Blobs;
  vault(directory: string, scope: SealScope): Vault;
  /** Told of each layer that is as its index says. */
  readonly looked?: (bytes: number) => void;
}

export interface ScrubOptions {
  /** Opens every layer that an index names, and proves every block of it. */
  readonly deep: boolean;
  /** Only these; all unless told. */
  readonly tenants?: readonly TenantId[];
}

/** What is wrong, as opposed to what is superfluous. */
export const isDamage = ({ problem }: Finding): boolean =>
  problem === 'missing' || problem === 'size' || problem === 'damaged' || problem === 'unreadable';

export const isGarbage = ({ problem, modifiedMs }: Finding, nowMs: number, ageMs: number): boolean =>
  problem === 'unnamed' && modifiedMs <= nowMs - ageMs;

export async function* scrub(deps: ScrubDeps, options: ScrubOptions): AsyncGenerator<Finding> {
  for await (const objects of byTenant(deps.blobs, options.tenants))
    yield* scrubTenant(deps, objects, options);
}

type Objects = readonly (BlobHead & { readonly located: Located | undefined })[];

/** Keys come in order: those of a tenant one after the other, its shards' first. */
async function* byTenant(blobs: Blobs, tenants: readonly TenantId[] | undefined): AsyncGenerator<Objects> {
  const prefixes = tenants?.map(tenant => `${TENANTS}/${tenant}`) ?? [`${TENANTS}/`];
  for (const prefix of prefixes) {
    let gathered: (BlobHead & { located: Located | undefined })[] = [];
    let of = '';
    for await (const head of blobs.list(prefix)) {
      const tenant = head.key.slice(TENANTS.length + 1, TENANTS.length + 33);
      if (tenant !== of && gathered.length > 0) {
        yield gathered;
        gathered = [];
      }
      of = tenant;
      gathered.push({ ...head, located: parseKey(head.key) });
    }
    if (gathered.length > 0) yield gathered;
  }
}

/** A timeline of a shard, as its newest index says. */
interface Named {
  readonly at: TenantShard;
  readonly timeline: TimelineId;
  readonly index: IndexPart;
  readonly generation: number;
}

class TenantScrub {
  readonly named: Named[] = [];
  /** Keys that something names. */
  readonly keep = new Set<string>();
  /** Directories of which nothing is known: their objects are left alone. */
  readonly unknown: string[] = [];
  readonly findings: Finding[] = [];

  private readonly deps: ScrubDeps;

  constructor(deps: ScrubDeps) {
    this.deps = deps;
  }

  async readShard(at: TenantShard, objects: Objects): Promise<void> {
    const { blobs, vault } = this.deps;
    const directory = `${TENANTS}/${shardText(at)}`;
    try {
      const newest = newestOf(objects, located => located.kind === 'manifest');
      const manifest = await findManifest(blobs, vault(directory, { tenant: at.tenant }), at, newest);
      if (!manifest) return this.withoutManifest(directory, objects);
      // A list may be late about the newest, a get is not: what it named is kept whatever the list says.
      for (const { key, located } of objects) {
        if (located?.kind === 'manifest' && located.generation >= manifest.generation) this.keep.add(key);
        if (located?.kind === 'heatmap') this.keep.add(key);
      }
      const { timelines, offloaded } = manifest.value;
      for (const timeline of [...timelines, ...offloaded.map(one => one.timeline)])
        await this.readTimeline(at, timeline, objects);
    } catch (error) {
      this.unreadable(directory, error);
    }
  }

  /** An attachment writes its manifest first of all: without one there never was one, or all of it is gone. */
  private withoutManifest(directory: string, objects: Objects): void {
    if (objects.some(({ located }) => located?.kind === 'index'))
      this.unreadable(directory, new Error('there are indexes, and no manifest that names them'));
  }

  private async readTimeline(at: TenantShard, timeline: TimelineId, objects: Objects): Promise<void> {
    const { blobs, vault } = this.deps;
    const directory = timelineDirectory(at, timeline);
    try {
      const scope = { tenant: at.tenant, timeline };
      const newest = newestOf(objects, l => l.kind === 'index' && l.timeline === timeline);
      const found = await findIndex(blobs, vault(directory, scope), at, timeline, newest);
      if (!found) return; // made, or deleted, only half: what is there is garbage
      this.named.push({ at, timeline, index: found.value, generation: found.generation });
    } catch (error) {
      this.unreadable(directory, error);
    }
  }

  private unreadable(directory: string, error: unknown): void {
    if (isFault(error) && error.kind === 'unavailable') throw error;
    this.unknown.push(`${directory}/`);
    const detail = (error as Error).message;
    this.findings.push({ problem: 'unreadable', key: directory, bytes: 0, modifiedMs: 0, detail });
  }
}

/** The generation to look from: one above what is listed, for a list may be late. */
function newestOf(objects: Objects, wanted: (located: Located) => boolean): number {
  let newest = -1;
  for (const { located } of objects) {
    if (located && 'generation' in located && wanted(located)) newest = Math.max(newest, located.generation);
  }
  return newest < 0 ? GENERATION_MAX : Math.min(GENERATION_MAX, newest + 1);
}

async function* scrubTenant(
  deps: ScrubDeps,
  objects: Objects,
  options: ScrubOptions,
): AsyncGenerator<Finding> {
  const tenant = new TenantScrub(deps);
  const shards = new Map<string, TenantShard>();
  for (const { located } of objects) if (located) shards.set(shardText(located.at), located.at);
  for (const [name, at] of shards) {
    const prefix = `${TENANTS}/${name}/`;
    await tenant.readShard(
      at,
      objects.filter(({ key }) => key.startsWith(prefix)),
    );
  }
  const there = new Map(objects.map(head => [head.key, head]));
  for (const named of tenant.named) keepNamed(tenant.keep, named, objects);
  yield* tenant.findings;
  for (const named of tenant.named) {
    for (const [layer, ref] of named.index.layers) yield* checkLayer(deps, named, layer, ref, there, options);
  }
  for (const head of objects) {
    if (!head.located) yield { ...found(head), problem: 'foreign', detail: 'not a key of this scheme' };
    else if (!tenant.keep.has(head.key) && !tenant.unknown.some(prefix => head.key.startsWith(prefix)))
      yield { ...found(head), problem: 'unnamed', detail: whyUnnamed(head.located, tenant.named) };
  }
}

const found = ({ key, size, modifiedMs }: BlobHead): Pick<Finding, 'key' | 'bytes' | 'modifiedMs'> => ({
  key,
  bytes: size,
  modifiedMs,
});

const layerKey = ({ at, timeline }: Named, layer: string, { shard }: LayerRef): string =>
  `${timelineDirectory({ tenant: at.tenant, shard }, timeline)}/${layer}`;

function keepNamed(keep: Set<string>, named: Named, objects: Objects): void {
  const { at, timeline, index, generation } = named;
  for (const [layer, ref] of index.layers) keep.add(layerKey(named, layer, ref));
  for (const { key, located } of objects) {
    if (located?.kind !== 'index' && located?.kind !== 'initdb') continue;
    if (located.timeline !== timeline || shardText(located.at) !== shardText(at)) continue;
    if (located.kind === 'initdb' || located.generation >= generation) keep.add(key);
  }
}

function whyUnnamed(located: Located, named: readonly Named[]): string {
  if (located.kind === 'manifest') return 'the manifest of an attachment that is over';
  if (located.kind === 'heatmap') return 'of a tenant that is gone';
  const of = named.find(
    ({ at, timeline }) => timeline === located.timeline && shardText(at) === shardText(located.at),
  );
  if (!of) return 'of a timeline that is gone, or was never finished';
  if (located.kind === 'index') return 'the index of an attachment that is over';
  if (located.kind === 'layer' && of.index.forgotten.includes(located.layer))
    return 'forgotten, and not deleted yet';
  return 'no index names it';
}

async function* checkLayer(
  deps: ScrubDeps,
  named: Named,
  layer: string,
  ref: LayerRef,
  there: ReadonlyMap<string, BlobHead>,
  { deep }: ScrubOptions,
): AsyncGenerator<Finding> {
  const key = layerKey(named, layer, ref);
  // A list may be late.
  const head = there.get(key) ?? (await deps.blobs.head(key));
  const wanted = sealedBytes(ref.bytes);
  if (!head) {
    const detail = `timeline ${named.timeline} names it`;
    yield { problem: 'missing', key, bytes: wanted, modifiedMs: 0, detail };
    return;
  }
  if (head.size !== wanted) {
    yield { ...found(head), problem: 'size', detail: `${head.size} bytes, not ${wanted}` };
    return;
  }
  const detail = deep ? await damageOf(deps, named, layer, ref) : undefined;
  if (detail === undefined) deps.looked?.(head.size);
  else yield { ...found(head), problem: 'damaged', detail };
}

/** Opens all of it: every sealed chunk, every block, its index and its counts. */
async function damageOf(
  { blobs, vault }: ScrubDeps,
  named: Named,
  layer: string,
  ref: LayerRef,
): Promise<string | undefined> {
  const { at, timeline } = named;
  try {
    const scope = { tenant: at.tenant, timeline };
    const sealed = remoteSource(blobs, layerKey(named, layer, ref), sealedBytes(ref.bytes));
    const source = await vault(timelineDirectory(at, timeline), scope).openSource(layer, sealed, {
      generation: ref.generation,
    });
    const file = await LayerFile.open(parseLayerName(layer, ref.bytes), source);
    try {
      for (let block = 0; block < file.index.count; block++) {
        const raw = file.rawOf(block, await file.readStored(block, block), block);
        if (new Block(raw, layer).keyCount === 0) return `block ${block} is empty`;
      }
      await file.counts();
    } finally {
      await file.close();
    }
    return undefined;
  } catch (error) {
    if (isFault(error) && error.kind === 'unavailable') throw error;
    return (error as Error).message;
  }
}
