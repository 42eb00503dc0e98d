// The order in which a timeline's layers, indexes and deletions reach the object store. Pure: it is told what changed
// and what was carried out, and says what may be done next; uploader.ts carries it out.
//
//   THE RULES                                                                                         asserted in
//   1  no index before its layers: every layer an index names is in the store before the index is put       nextIndex
//   2  no delete before the index that forgets: an object is deleted when the index in the store, and the one on
//      its way there, no longer name it                                                                  nextDelete
//   3  one index at a time, and never an older one after a newer one                                        nextIndex
//   4  a layer is written once: no name comes back after it was forgotten (layer-name.ts)                    addLayer
//
// An index is the whole state, so of several that wait, the newest whose layers are all there goes, and the older
// ones are dropped. Layers go in any order, several at once. A layer that is gone again before its upload began is
// never sent, nor any index that named it.
//
//   add/remove/change ──► dirty index ── commit ──► waiting indexes ── their layers are there ──► put ──► durable
//                            │ add                                                                  │
//                            └────► layer: queued ─► sending ─► there ─ removed, durable forgets ─► deleting ─► gone
//
// What may be done depends on how the tenant is attached: an attachment that may be stale does not delete, one that
// is known to be stale does not even upload (paths.ts says why neither could harm a newer one).
//
// Answers to UploadQueueInitialized of tenant/upload_queue.rs.

import { assert } from '../../base/assert.ts';
import type { ShardIndex } from '../../base/ids.ts';
import { auditIndex, auditSuccessor, type IndexPart, type LayerRef } from './index-part.ts';

export type UploadOp =
  | { readonly do: 'put-layer'; readonly layer: string; readonly ref: LayerRef }
  | { readonly do: 'put-index'; readonly index: IndexPart }
  | { readonly do: 'delete'; readonly layers: readonly string[] };

/** What else an index says may change at will. */
export type IndexChange = Partial<Omit<IndexPart, 'layers' | 'forgotten' | 'sequence' | 'version'>>;

export interface Permissions {
  readonly upload: boolean;
  readonly delete: boolean;
}

export const MAY_ALL: Permissions = { upload: true, delete: true };

export interface UploadQueueOptions {
  /** What the object store holds, or the first index of a new timeline. */
  readonly index: IndexPart;
  /** Whether `index` is in the store under any generation. */
  readonly stored: boolean;
  readonly generation: number;
  readonly shard: ShardIndex;
  /** Layers on their way at once. */
  readonly layersMax: number;
  readonly may: Permissions;
}

/** An index that waits for the last of its layers. */
interface Waiting {
  readonly index: IndexPart;
  readonly missing: Set<string>;
}

interface Sending {
  readonly ref: LayerRef;
  state: 'queued' | 'sending';
  tried: boolean;
  /** Removed while it was on its way: to be deleted once it is there. */
  removedAt: number | undefined;
}

/** One delete takes at most this many layers. */
const DELETE_LAYERS_MAX = 1000;
/** More indexes than this do not wait: all but the oldest few and the newest are of no use. */
const WAITING_MAX = 16;

export class UploadQueue {
  may: Permissions;
  /** What the index will say when all is done. */
  dirty: IndexPart;
  /** What the index in the store says; undefined while there is none. */
  durable: IndexPart | undefined;
  readonly generation: number;
  private readonly shard: ShardIndex;
  private readonly layersMax: number;
  private changed: boolean;
  /** Layers that are not in the store yet, in the order of their coming. */
  private readonly uploads = new Map<string, Sending>();
  private sending = 0;
  /** Oldest first. */
  private waiting: Waiting[] = [];
  private putting: IndexPart | undefined;
  /** What the next index will say was forgotten: `deletes`, `deleting`, and what is removed while being sent. */
  private readonly forgotten: Set<string>;
  /** Layers to delete, with the number of the first index that does not name them. */
  private readonly deletes = new Map<string, number>();
  private readonly deleting = new Set<string>();
  private stopped = false;

  constructor(options: UploadQueueOptions) {
    const { index, stored, generation, shard, layersMax, may } = options;
    this.dirty = index;
    this.durable = stored ? index : undefined;
    // What an earlier attachment forgot is deleted when an index of ours forgets it, too: another of theirs may come.
    this.changed = true;
    this.generation = generation;
    this.shard = shard;
    this.layersMax = layersMax;
    this.may = may;
    this.forgotten = new Set(index.forgotten);
    for (const layer of index.forgotten) this.deletes.set(layer, index.sequence + 1);
  }

  // ------------------------------------------------------------------------------------------------ what changed

  /** A new layer: its file is there. It is of our generation, but for one that an ancestor wrote. */
  addLayer(name: string, bytes: number, generation = this.generation): void {
    const ref: LayerRef = { bytes, generation, shard: this.shard };
    assert(!this.dirty.layers.has(name) && !this.forgotten.has(name), `layer ${name} is added twice`);
    this.uploads.set(name, { ref, state: 'queued', tried: false, removedAt: undefined });
    this.dirty = { ...this.dirty, layers: new Map(this.dirty.layers).set(name, ref) };
    this.changed = true;
  }

  /** Names a layer whose object is there already: another shard's, or one copied from an ancestor. */
  adoptLayer(name: string, ref: LayerRef): void {
    assert(!this.dirty.layers.has(name), `layer ${name} is added twice`);
    this.dirty = { ...this.dirty, layers: new Map(this.dirty.layers).set(name, ref) };
    this.changed = true;
  }

  /** Layers that nobody reads any more. */
  removeLayers(names: readonly string[]): void {
    if (names.length === 0) return;
    const layers = new Map(this.dirty.layers);
    const sequence = this.dirty.sequence + 1;
    for (const name of names) {
      const ref = layers.get(name);
      assert(ref !== undefined, `layer ${name} is removed, but was not there`);
      layers.delete(name);
      if (ref.shard.number !== this.shard.number || ref.shard.count !== this.shard.count) continue;
      if (this.withdraw(name, sequence)) continue;
      this.forgotten.add(name);
      if (!this.uploads.has(name)) this.deletes.set(name, sequence);
    }
    this.dirty = { ...this.dirty, layers };
    this.changed = true;
  }

  /**
   * A layer that is not being sent need not be any more, nor the indexes that wait for it. True when the store has
   * nothing of it: a try that failed may have happened.
   */
  private withdraw(name: string, sequence: number): boolean {
    const upload = this.uploads.get(name);
    if (!upload) return false;
    if (upload.state === 'sending') {
      upload.removedAt = sequence;
      return false;
    }
    this.uploads.delete(name);
    this.waiting = this.waiting.filter(({ missing }) => !missing.has(name));
    return !upload.tried;
  }

  change(change: IndexChange): void {
    this.dirty = { ...this.dirty, ...change };
    this.changed = true;
  }

  /** Everything so far is to be in one index; its number. Nothing new is made when nothing changed. */
  commit(): number {
    if (!this.changed) return this.dirty.sequence;
    const { sequence } = this.dirty;
    const index = { ...this.dirty, forgotten: [...this.forgotten], sequence: sequence + 1 };
    auditIndex(index, this.generation);
    const before = this.waiting.at(-1)?.index ?? this.putting ?? this.durable;
    if (before) auditSuccessor(before, index);
    const missing = new Set<string>();
    for (const [layer, { removedAt }] of this.uploads) if (removedAt === undefined) missing.add(layer);
    this.waiting.push({ index, missing });
    if (this.waiting.length > WAITING_MAX) this.waiting.splice(-2, 1);
    this.dirty = index;
    this.changed = false;
    return index.sequence;
  }

  stop(): void {
    this.stopped = true;
  }

  // --------------------------------------------------------------------------------------------- what comes next

  /** What may be begun now. Call it until there is nothing; each operation given must be told `done` or `failed`. */
  next(): UploadOp | undefined {
    if (this.stopped) return undefined;
    if (this.may.upload) {
      const index = this.nextIndex();
      if (index) return { do: 'put-index', index };
      const layer = this.nextLayer();
      if (layer) return layer;
    }
    return this.may.delete ? this.nextDelete() : undefined;
  }

  private nextIndex(): IndexPart | undefined {
    if (this.putting) return undefined;
    for (let i = this.waiting.length - 1; i >= 0; i--) {
      const { index, missing } = this.waiting[i]!;
      if (missing.size > 0) continue;
      this.waiting.splice(0, i + 1);
      if (this.durable) auditSuccessor(this.durable, index);
      for (const name of index.layers.keys())
        assert(!this.uploads.has(name), `index ${index.sequence} names ${name}, which is not in the store`);
      this.putting = index;
      return index;
    }
    return undefined;
  }

  private nextLayer(): UploadOp | undefined {
    if (this.sending >= this.layersMax) return undefined;
    for (const [layer, upload] of this.uploads) {
      if (upload.state !== 'queued') continue;
      upload.state = 'sending';
      upload.tried = true;
      this.sending++;
      return { do: 'put-layer', layer, ref: upload.ref };
    }
    return undefined;
  }

  private nextDelete(): UploadOp | undefined {
    const layers: string[] = [];
    for (const [layer, since] of this.deletes) {
      if (layers.length >= DELETE_LAYERS_MAX) break;
      if (this.forgets(since)) layers.push(layer);
    }
    if (layers.length === 0) return undefined;
    for (const layer of layers) {
      const named = this.durable?.layers.has(layer) || this.putting?.layers.has(layer);
      assert(!named, `layer ${layer} is deleted, but named`);
      this.deletes.delete(layer);
      this.deleting.add(layer);
    }
    return { do: 'delete', layers };
  }

  /** The index in the store, and the one on its way there, are of this number or later. */
  private forgets(sequence: number): boolean {
    return (
      (this.durable?.sequence ?? -1) >= sequence &&
      (this.putting === undefined || this.putting.sequence >= sequence)
    );
  }

  // ---------------------------------------------------------------------------------------- what was carried out

  done(op: UploadOp): void {
    if (op.do === 'put-layer') this.layerDone(op.layer);
    else if (op.do === 'put-index') this.indexDone(op.index);
    else this.deleteDone(op.layers);
  }

  /** Given up: it may or may not have happened. It is given again. */
  failed(op: UploadOp): void {
    if (op.do === 'put-layer') {
      this.layerFailed(op.layer);
    } else if (op.do === 'put-index') {
      this.putting = undefined;
      // A newer one that is ready goes in its place.
      this.waiting.unshift({ index: op.index, missing: new Set() });
    } else {
      for (const layer of op.layers) {
        this.deleting.delete(layer);
        this.deletes.set(layer, 0);
      }
    }
  }

  private layerDone(layer: string): void {
    const upload = this.uploads.get(layer);
    assert(upload?.state === 'sending', `${layer} was not being sent`);
    this.uploads.delete(layer);
    this.sending--;
    for (const { missing } of this.waiting) missing.delete(layer);
    if (upload.removedAt !== undefined) this.deletes.set(layer, upload.removedAt);
  }

  private layerFailed(layer: string): void {
    const upload = this.uploads.get(layer)!;
    upload.state = 'queued';
    this.sending--;
    if (upload.removedAt === undefined) return;
    this.uploads.delete(layer);
    this.deletes.set(layer, upload.removedAt);
  }

  private indexDone(index: IndexPart): void {
    assert(this.putting === index, 'another index was being put');
    this.putting = undefined;
    this.durable = index;
  }

  private deleteDone(layers: readonly string[]): void {
    // No index is written for this alone; the next one leaves them out.
    for (const layer of layers) {
      this.deleting.delete(layer);
      this.forgotten.delete(layer);
    }
  }

  // --------------------------------------------------------------------------------------------------- questions

  /** Whether the index of this number, or a later one, is in the store. */
  isDurable(sequence: number): boolean {
    return this.durable !== undefined && this.durable.sequence >= sequence;
  }

  /** The layer's object is in the store. */
  isStored(layer: string): boolean {
    return !this.uploads.has(layer);
  }

  /** Nothing is left to upload. */
  get idle(): boolean {
    return this.uploads.size === 0 && this.waiting.length === 0 && !this.putting && !this.changed;
  }

  /** How much is under way or waits, for metrics and logs. */
  get load(): { layers: number; layerBytes: number; indexes: number; deletes: number } {
    let layerBytes = 0;
    for (const { ref } of this.uploads.values()) layerBytes += ref.bytes;
    return {
      layers: this.uploads.size,
      layerBytes,
      indexes: this.waiting.length + (this.putting ? 1 : 0),
      deletes: this.deletes.size + this.deleting.size,
    };
  }
}
