// A timeline's other half: its layers and its index in the object store, and their copies in the cache. The engine
// tells what changed and opens layers here; what is durable, and who may know of it, is told back.
//
//   engine ── layersChanged ──► upload queue ─► uploader ─► object store
//          ── openLayer ──────► layer cache ──────────────►     "
//          ◄─ remoteConsistent ── (an index is durable; confirmed: safekeepers may hear of it)
//
// Answers to RemoteTimelineClient of remote_timeline_client.rs.

import type { Semaphore } from '../../base/flow.ts';
import type { TimelineId } from '../../base/ids.ts';
import type { Blobs, Clock, Log, Random } from '../../base/ports.ts';
import type { SealedSource, Vault } from '../../seal/vault.ts';
import type { DeletionQueue } from './deletion-queue.ts';
import type { IndexPart, LayerRef } from './index-part.ts';
import type { LastingPuts } from './lasting-puts.ts';
import { type CacheCounters, LayerCache } from './layer-cache.ts';
import type { TenantShard } from './paths.ts';
import { type IndexChange, type Permissions, UploadQueue } from './upload-queue.ts';
import { type UploadCounters, Uploader } from './uploader.ts';
import type { Validator } from './validator.ts';

/** What the remote halves of all timelines of the process share. */
export interface RemoteDeps {
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Downloads at once. */
  readonly downloads: Semaphore;
  /** Bytes of uploads at once. */
  readonly uploadBytes: Semaphore;
  readonly deletions: DeletionQueue;
  readonly validator: Validator;
  readonly uploads: UploadCounters;
  readonly cache: CacheCounters;
  readonly lasting: LastingPuts;
}

export interface RemoteTimelineOptions {
  readonly at: TenantShard;
  readonly timeline: TimelineId;
  readonly vault: Vault;
  readonly generation: number;
  readonly index: IndexPart;
  /** Whether `index` is in the store. */
  readonly stored: boolean;
  readonly may: Permissions;
  /** Everything up to here is in the store; and so the safekeepers may be told. */
  readonly remoteConsistent?: (lsn: number, visible: boolean) => void;
  /** Another attachment took over. */
  readonly stale?: () => void;
  /** The object store no longer follows this timeline: it must be attached anew. */
  readonly fatal?: (error: unknown) => void;
}

export interface AddedLayer {
  readonly name: string;
  readonly bytes: number;
  /** Ours, but for a layer that an ancestor wrote. */
  readonly generation?: number;
}

/** A layer out of every map is still there for reads that began before. Shorter than deletions take to ripen. */
const LEAVE_MS = 5000;
/** Layers of one timeline on their way at once. */
const LAYERS_MAX = 8;

export class RemoteTimeline {
  readonly queue: UploadQueue;
  readonly cache: LayerCache;
  readonly generation: number;
  private readonly uploader: Uploader;
  private readonly options: RemoteTimelineOptions;
  private readonly clock: Clock;
  private readonly stopping = new AbortController();
  private readonly leaving = new Map<string, LayerRef>();
  /** In the store, and confirmed to be ours after that: what safekeepers are told. */
  visibleLsn = 0;
  isStale = false;

  constructor(deps: RemoteDeps, options: RemoteTimelineOptions) {
    const { at, timeline, vault, generation, index, stored, may } = options;
    this.options = options;
    this.clock = deps.clock;
    this.generation = generation;
    this.queue = new UploadQueue({
      index,
      stored,
      generation,
      shard: at.shard,
      layersMax: LAYERS_MAX,
      may,
    });
    this.uploader = new Uploader({
      ...deps,
      at,
      timeline,
      vault,
      queue: this.queue,
      counters: deps.uploads,
      visible: lsn => this.becameVisible(lsn),
      stale: () => this.becameStale(),
      fatal: error => options.fatal?.(error),
    });
    this.cache = new LayerCache({
      ...deps,
      tenant: at.tenant,
      timeline,
      vault,
      counters: deps.cache,
      refOf: layer => this.refOf(layer),
      isStored: layer => this.queue.isStored(layer),
      signal: this.stopping.signal,
    });
  }

  /** Looks at the cache, and goes on where an earlier attachment stopped. */
  async start(): Promise<void> {
    await this.cache.load();
    this.goOn();
  }

  /** The first thing that an attachment writes is an index of its own: what it inherited others may write over. */
  private goOn(): void {
    if (this.queue.may.upload && this.queue.durable) this.queue.commit();
    this.uploader.start();
  }

  get index(): IndexPart {
    return this.queue.dirty;
  }

  /** Everything up to here is in the store, confirmed or not. */
  get durableLsn(): number {
    return this.queue.durable?.diskConsistentLsn ?? 0;
  }

  refOf(layer: string): LayerRef | undefined {
    return this.queue.dirty.layers.get(layer) ?? this.leaving.get(layer);
  }

  openLayer(layer: string): Promise<SealedSource> {
    return this.cache.open(layer);
  }

  /** A layer of ours that was just written, before `layersChanged` tells of it. */
  openWritten(layer: string): Promise<SealedSource> {
    return this.cache.openWritten(layer, this.generation);
  }

  /**
   * Layers came (their files are here) and went (nobody reads them any more), and the timeline's positions with
   * them: one index will say all of it. Its number.
   */
  layersChanged(added: readonly AddedLayer[], removed: readonly string[], change: IndexChange = {}): number {
    this.layersMoved(added, removed);
    return this.changeIndex(change);
  }

  /** No index says so yet; what came is sent all the same. */
  layersMoved(added: readonly AddedLayer[], removed: readonly string[]): void {
    for (const { name, bytes, generation } of added) {
      this.queue.addLayer(name, bytes, generation);
      this.cache.arrived(name, bytes);
    }
    this.layersLeft(removed);
    this.uploader.pump();
  }

  /** Reads that began before may still open them for a while; then their files go. */
  private layersLeft(removed: readonly string[]): void {
    if (removed.length === 0) return;
    for (const layer of removed) this.leaving.set(layer, this.refOf(layer)!);
    this.queue.removeLayers(removed);
    this.clock.sleep(LEAVE_MS, this.stopping.signal).then(
      () => this.dropFiles(removed),
      () => undefined, // the next attachment finds them without an index
    );
  }

  private async dropFiles(removed: readonly string[]): Promise<void> {
    for (const layer of removed) {
      this.leaving.delete(layer);
      // One that is being fetched at this moment is removed by who fetches it.
      await this.cache.remove(layer).catch(() => undefined);
    }
  }

  changeIndex(change: IndexChange): number {
    if (Object.keys(change).length > 0) this.queue.change(change);
    const sequence = this.queue.commit();
    this.uploader.pump();
    return sequence;
  }

  /** Resolves when all that is known now is in the store. */
  waitUploaded(signal?: AbortSignal): Promise<void> {
    return this.waitFor(this.queue.commit(), signal);
  }

  waitFor(sequence: number, signal?: AbortSignal): Promise<void> {
    this.uploader.pump();
    return this.uploader.waitFor(sequence, signal);
  }

  /** The way the tenant is attached changed. */
  permit(may: Permissions): void {
    this.queue.may = this.isStale ? { ...may, delete: false } : may;
    this.goOn();
  }

  private becameVisible(lsn: number): void {
    this.visibleLsn = Math.max(this.visibleLsn, lsn);
    this.options.remoteConsistent?.(this.visibleLsn, true);
  }

  private becameStale(): void {
    if (this.isStale) return;
    this.isStale = true;
    this.queue.may = { ...this.queue.may, delete: false };
    this.options.stale?.();
  }

  /** Nothing is begun any more, and nothing of it is under way when this resolves. */
  async stop(): Promise<void> {
    this.stopping.abort(new Error('stopped'));
    await this.uploader.stop();
  }
}
