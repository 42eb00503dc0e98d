// A timeline as the object store has it, opened to be looked at: its newest index, its layers by range, its ancestors.
// No pageserver takes part, and nothing is written. What is damaged is told by who meets it; the rest can be read.
//
//   StoredTimeline.open -> index, ancestors -> openLayer(name) -> LayerFile
//                                           -> engine()        a Timeline of the engine over the same layers, for
//                                                              what is found by reading it (directory, scans)

import { Violation } from '../../base/assert.ts';
import { Fault } from '../../base/fault.ts';
import { parseTenantShard, type TimelineId, timelineId } from '../../base/ids.ts';
import type { Blobs, Clock, Log, Random } from '../../base/ports.ts';
import type { SealedSource, SealScope, Vault } from '../../seal/vault.ts';
import type { Dialect } from '../../xlog/dialect.ts';
import { dialectOfMajor } from '../../xlog/dialects/all.ts';
import { applyEdit } from '../edit.ts';
import { Engine } from '../engine.ts';
import { ENGINE_DEFAULTS } from '../engine-settings.ts';
import { inlinePool } from '../jobs.ts';
import type { LayerDesc } from '../layers/layer.ts';
import { LayerFile } from '../layers/layer-file.ts';
import { parseLayerName } from '../layers/layer-name.ts';
import { findIndex } from '../remote/find.ts';
import type { IndexPart } from '../remote/index-part.ts';
import { sealedBytes } from '../remote/layer-cache.ts';
import { GENERATION_MAX, type TenantShard, timelineDirectory } from '../remote/paths.ts';
import { remoteSource } from '../remote/remote-source.ts';
import type { LayerStore } from '../timeline/store.ts';
import { Timeline } from '../timeline/timeline.ts';

export interface StoredDeps {
  readonly blobs: Blobs;
  vault(directory: string, scope: SealScope): Vault;
  readonly clock: Clock;
  readonly random: Random;
}

export interface TimelineName {
  readonly at: TenantShard;
  readonly timeline: TimelineId;
}

/** `TENANT/TIMELINE`, where TENANT may name a shard. */
export function parseTimelineName(text: string): TimelineName {
  const [tenant, timeline, ...more] = text.split('/');
  if (tenant === undefined || timeline === undefined || more.length > 0) {
    throw new Fault('config-invalid', `not a timeline: "${text}"`, {
      hint: 'Write TENANT/TIMELINE, 32 hex digits each; a shard is TENANT-NNCC, such as …-0104 for the second of four.',
    });
  }
  return { at: parseTenantShard(tenant), timeline: timelineId(timeline) };
}

export class StoredTimeline {
  readonly name: TimelineName;
  readonly index: IndexPart;
  /** Of the attachment that wrote the index. */
  readonly generation: number;
  readonly ancestor: StoredTimeline | undefined;
  readonly dialect: Dialect;
  private readonly deps: StoredDeps;
  private readonly vault: Vault;

  private constructor(
    deps: StoredDeps,
    name: TimelineName,
    vault: Vault,
    found: { readonly value: IndexPart; readonly generation: number },
    ancestor: StoredTimeline | undefined,
  ) {
    this.deps = deps;
    this.name = name;
    this.vault = vault;
    this.index = found.value;
    this.generation = found.generation;
    this.ancestor = ancestor;
    this.dialect = dialectOfMajor(this.index.pgVersion, this.index.flavour);
  }

  static async open(deps: StoredDeps, name: TimelineName): Promise<StoredTimeline> {
    const { at, timeline } = name;
    const directory = timelineDirectory(at, timeline);
    const vault = deps.vault(directory, { tenant: at.tenant, timeline });
    const found = await findIndex(deps.blobs, vault, at, timeline, GENERATION_MAX);
    if (!found) {
      throw new Fault('timeline-missing', `there is no index of ${directory} in this store`, {
        hint: 'Is it the store the pageserver uses (--store)? A tenant in shards is named with one: TENANT-NNCC.',
      });
    }
    const { ancestor } = found.value;
    const above = ancestor && (await StoredTimeline.open(deps, { at, timeline: ancestor.timeline }));
    return new StoredTimeline(deps, name, vault, found, above);
  }

  /** Where this timeline's own history begins. */
  get ancestorLsn(): number {
    return this.index.ancestor?.lsn ?? 0;
  }

  /** As the names in the index say. */
  layers(): LayerDesc[] {
    return [...this.index.layers].map(([name, { bytes }]) => parseLayerName(name, bytes));
  }

  async openSource(name: string): Promise<SealedSource> {
    const ref = this.index.layers.get(name);
    if (!ref) {
      throw new Fault('layer-removed', `the index of ${this.name.timeline} names no layer ${name}`, {
        hint: 'lakebed inspect timeline lists its layers.',
      });
    }
    const { at, timeline } = this.name;
    const directory = timelineDirectory({ tenant: at.tenant, shard: ref.shard }, timeline);
    const sealed = remoteSource(this.deps.blobs, `${directory}/${name}`, sealedBytes(ref.bytes));
    return this.vault.openSource(name, sealed, { generation: ref.generation });
  }

  async openLayer(name: string): Promise<LayerFile> {
    const ref = this.index.layers.get(name);
    return LayerFile.open(parseLayerName(name, ref?.bytes ?? 0), await this.openSource(name));
  }

  /** Reads as a pageserver would read, if it had no more than this. */
  engine(log: Log): Timeline {
    const { clock, random } = this.deps;
    const engine = new Engine(
      { ...ENGINE_DEFAULTS, background: false },
      { clock, random, pool: inlinePool, log },
    );
    return this.timelineOn(engine);
  }

  private timelineOn(engine: Engine): Timeline {
    const { index } = this;
    const store: LayerStore = {
      generation: this.generation,
      create: () => Promise.reject(new Violation('nothing is written here')),
      open: desc => this.openSource(desc.name),
      discard: async () => undefined,
      changed: () => undefined,
    };
    return new Timeline({
      id: this.name.timeline,
      engine,
      redo: { dialect: this.dialect, applyEdit },
      store,
      layers: this.layers(),
      lastRecordLsn: index.diskConsistentLsn,
      prevRecordLsn: index.prevRecordLsn ?? 0,
      gcCutoffLsn: index.gcCutoffLsn,
      retained: index.retainedLsns,
      ...(this.ancestor
        ? { ancestor: { timeline: this.ancestor.timelineOn(engine), lsn: this.ancestorLsn } }
        : {}),
    });
  }
}
