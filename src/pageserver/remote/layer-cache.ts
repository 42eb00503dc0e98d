// The layers of one timeline on the local disk: a cache of sealed files that may vanish at any time. What is not here
// is fetched from the object store when it is opened; what is damaged here is thrown away and fetched again; what is
// damaged there too is told as `layer-corrupt`, with the layer's name, to whoever needed it, and to nobody else.
//
//   open ──► here? ──no──► download (one at a time per layer, bounded over the process) ──► proven ──► here
//              │ yes
//              ▼
//        a source of ranges; a range that fails its check ──► remove, download, once more
//
// A layer that has not reached the object store is only here: it is never evicted, and its loss is the timeline's
// (the WAL is still at the safekeepers, who wait for remote_consistent_lsn).
//
// Answers to storage_layer/layer.rs (download, evict) and remote_timeline_client/download.rs.

import { Fault, isFault } from '../../base/fault.ts';
import type { Semaphore } from '../../base/flow.ts';
import { SingleFlight } from '../../base/flow.ts';
import type { ShardIndex, TenantId, TimelineId } from '../../base/ids.ts';
import type { Blobs, Clock, Log, Random } from '../../base/ports.ts';
import { CHUNK_BYTES } from '../../seal/sealed-file.ts';
import { HEADER_BYTES } from '../../seal/sealed-header.ts';
import type { SealedSource, Vault } from '../../seal/vault.ts';
import { isLayerName } from '../layers/layer-name.ts';
import type { LayerRef } from './index-part.ts';
import { timelineDirectory } from './paths.ts';
import { remoteSource } from './remote-source.ts';
import { mayPass, retrying } from './retry.ts';

const TAG_BYTES = 16;

/** What a file of this many plain bytes takes on the disk. */
export const sealedBytes = (bytes: number): number =>
  HEADER_BYTES + bytes + TAG_BYTES * Math.max(1, Math.ceil(bytes / CHUNK_BYTES));

/** Counted over all timelines of the process. */
export interface CacheCounters {
  downloads: number;
  downloadedBytes: number;
  downloadSeconds: number;
  repaired: number;
  damaged: number;
  evictions: number;
}

export const newCacheCounters = (): CacheCounters => ({
  downloads: 0,
  downloadedBytes: 0,
  downloadSeconds: 0,
  repaired: 0,
  damaged: 0,
  evictions: 0,
});

export interface LayerCacheOptions {
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  readonly vault: Vault;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Downloads at once, over the process. */
  readonly downloads: Semaphore;
  readonly counters: CacheCounters;
  /** What the index says of a layer; undefined when it is not, or no longer, one of the timeline's. */
  readonly refOf: (layer: string) => LayerRef | undefined;
  /** Whether the layer's object is in the store. */
  readonly isStored: (layer: string) => boolean;
  readonly signal: AbortSignal;
}

/** A layer that is damaged in the store is looked at again after this. */
const GIVEN_UP_MS = 30_000;
/** Tries of one download while the store does not answer; the reader waits meanwhile. */
const DOWNLOAD_TRIES = 10;

export class LayerCache {
  private readonly options: LayerCacheOptions;
  /** Layers whose file is here, with its size, and since when. */
  private readonly resident = new Map<string, { readonly bytes: number; readonly sinceMs: number }>();
  private readonly fetching = new SingleFlight<void>();
  private readonly mending = new SingleFlight<void>();
  /** What the store has of these is damaged, too: not looked at again for a while. */
  private readonly givenUp = new Map<string, { readonly fault: Fault; readonly untilMs: number }>();
  private residentSum = 0;

  constructor(options: LayerCacheOptions) {
    this.options = options;
  }

  /** Looks what is here. Files that the index does not name are of no use, and go. */
  async load(): Promise<{ resident: number; removed: number }> {
    const { vault, refOf } = this.options;
    let removed = await vault.sweep();
    for (const name of await vault.list()) {
      const ref = isLayerName(name) ? refOf(name) : undefined;
      if (ref) this.arrived(name, ref.bytes);
      else {
        await vault.remove(name);
        removed++;
      }
    }
    return { resident: this.resident.size, removed };
  }

  get residentBytes(): number {
    return this.residentSum;
  }

  get residentCount(): number {
    return this.resident.size;
  }

  isResident(layer: string): boolean {
    return this.resident.has(layer);
  }

  /** When it was written or fetched here; undefined when it is not here. */
  residentSince(layer: string): number | undefined {
    return this.resident.get(layer)?.sinceMs;
  }

  /** A layer was written here. */
  arrived(layer: string, bytes: number): void {
    if (this.resident.has(layer)) return;
    const sinceMs = this.options.clock.now();
    this.resident.set(layer, { bytes: sealedBytes(bytes), sinceMs });
    this.residentSum += sealedBytes(bytes);
  }

  private left(layer: string): void {
    this.residentSum -= this.resident.get(layer)?.bytes ?? 0;
    this.resident.delete(layer);
  }

  /** The layer's contents by range. */
  async open(layer: string): Promise<SealedSource> {
    const file = await this.openFile(layer);
    return new CachedLayer(file, why => this.reopen(layer, why));
  }

  /** As `open`, of a layer that was just written here and that no index names yet. */
  async openWritten(layer: string, generation: number): Promise<SealedSource> {
    const file = await this.options.vault.open(layer, { generation });
    return new CachedLayer(file, why => this.reopen(layer, why));
  }

  private async openFile(layer: string): Promise<SealedSource> {
    await this.download(layer);
    try {
      return await this.openLocal(layer);
    } catch (error) {
      if (!isSpoilt(error)) throw error;
      return this.reopen(layer, error);
    }
  }

  private openLocal(layer: string): Promise<SealedSource> {
    // Another generation under this name is not this layer.
    return this.options.vault.open(layer, { generation: this.ref(layer).generation });
  }

  /** The local file is of no use: another copy. */
  private async reopen(layer: string, why: unknown): Promise<SealedSource> {
    await this.mending.run(layer, () => this.mend(layer, why));
    try {
      return await this.openLocal(layer);
    } catch (error) {
      if (isSpoilt(error)) throw this.damaged(layer, 'what was fetched again is damaged, too', error);
      throw error;
    }
  }

  private async mend(layer: string, why: unknown): Promise<void> {
    const { log, isStored, counters, tenant, timeline } = this.options;
    const fields = { tenant, timeline, layer, error: String(why) };
    if (!isStored(layer)) {
      log.error('a layer that was not uploaded yet is damaged or gone', fields);
      throw this.damaged(layer, 'it is damaged on the local disk, and was not uploaded yet', why);
    }
    log.warn('a layer of the cache is damaged or gone: it is fetched again', fields);
    this.left(layer);
    await this.options.vault.remove(layer).catch(ifMissing);
    await this.download(layer);
    counters.repaired++;
  }

  private ref(layer: string): LayerRef {
    const ref = this.options.refOf(layer);
    if (ref) return ref;
    throw new Fault('layer-removed', `layer ${layer} is no longer of timeline ${this.options.timeline}`, {
      hint: 'It was compacted or garbage collected; read again.',
    });
  }

  private damaged(layer: string, why: string, cause: unknown): Fault {
    this.options.counters.damaged++;
    const { tenant, timeline } = this.options;
    return new Fault('layer-corrupt', `layer ${layer} of timeline ${tenant}/${timeline}: ${why}`, {
      hint: 'Only the pages in it are concerned. Restore the object from a version or a copy of the bucket.',
      cause,
    });
  }

  /** Makes the layer resident; nothing when it is. */
  download(layer: string): Promise<void> {
    if (this.resident.has(layer)) return Promise.resolve();
    return this.fetching.run(layer, () => this.fetch(layer));
  }

  private async fetch(layer: string): Promise<void> {
    const { downloads, clock, random, signal, counters, log, timeline } = this.options;
    const ref = this.ref(layer);
    const began = clock.monotonic();
    const given = this.givenUp.get(layer);
    if (given && began < given.untilMs) throw given.fault;
    let tries = 0;
    await downloads.run(() =>
      retrying({ clock, random, signal }, async () => {
        try {
          await this.copy(layer, ref);
        } catch (error) {
          if (mayPass(error) && ++tries < DOWNLOAD_TRIES) throw error;
          throw this.explained(layer, error);
        }
      }),
    );
    // Removed or evicted meanwhile: the file goes again.
    if (!this.options.refOf(layer)) {
      await this.options.vault.remove(layer).catch(ifMissing);
      this.ref(layer);
    }
    this.arrived(layer, ref.bytes);
    counters.downloads++;
    counters.downloadedBytes += sealedBytes(ref.bytes);
    counters.downloadSeconds += (clock.monotonic() - began) / 1000;
    log.debug('layer downloaded', { timeline, layer, bytes: ref.bytes });
  }

  private async copy(layer: string, ref: LayerRef): Promise<void> {
    const { vault, blobs } = this.options;
    const key = this.keyOf(layer, ref.shard);
    await vault.copyIn(layer, remoteSource(blobs, key, sealedBytes(ref.bytes)));
  }

  keyOf(layer: string, shard: ShardIndex): string {
    const { tenant, timeline } = this.options;
    return `${timelineDirectory({ tenant, shard }, timeline)}/${layer}`;
  }

  private explained(layer: string, error: unknown): unknown {
    const absent = isFault(error) && error.code === 'blob-missing';
    if (!isFault(error) || !(absent || error.kind === 'corrupt') || !this.options.refOf(layer)) return error;
    const why = absent
      ? 'the index names it, but the object store does not have it'
      : `it is damaged in the object store (${error.message})`;
    const fault = this.damaged(layer, why, error);
    this.givenUp.set(layer, { fault, untilMs: this.options.clock.monotonic() + GIVEN_UP_MS });
    return fault;
  }

  /** Gives up the local copy; false when there is none, or when it is the only one. */
  async evict(layer: string): Promise<boolean> {
    if (!this.resident.has(layer) || !this.options.isStored(layer)) return false;
    this.left(layer);
    await this.options.vault.remove(layer).catch(ifMissing);
    this.options.counters.evictions++;
    return true;
  }

  /** The layer is no longer the timeline's. */
  async remove(layer: string): Promise<void> {
    if (!this.resident.has(layer)) return;
    this.left(layer);
    await this.options.vault.remove(layer).catch(ifMissing);
  }
}

/** The local copy cannot be used, whatever the reason; another may do. */
function isSpoilt(error: unknown): boolean {
  if (!isFault(error)) return false;
  // Too many open files is trouble of the machine, not of this one.
  const errno = (error.cause as { code?: unknown } | undefined)?.code;
  if (errno === 'EMFILE' || errno === 'ENFILE') return false;
  return error.kind === 'corrupt' || error.code === 'file-missing' || error.code === 'disk-failed';
}

function ifMissing(error: unknown): void {
  if (!isFault(error, 'file-missing')) throw error;
}

/** A layer's contents; when the local bytes fail their check, another copy takes their place and the read goes on. */
class CachedLayer implements SealedSource {
  readonly size: number;
  private file: SealedSource;
  private readonly reopen: (why: unknown) => Promise<SealedSource>;
  private mending: Promise<void> | undefined;
  private closed = false;

  constructor(file: SealedSource, reopen: (why: unknown) => Promise<SealedSource>) {
    this.file = file;
    this.size = file.size;
    this.reopen = reopen;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const { file } = this;
    try {
      return await file.read(offset, length);
    } catch (error) {
      if (!isSpoilt(error) || this.closed || offset < 0 || offset + length > this.size) throw error;
      // Another read may have mended it already.
      if (file === this.file) {
        this.mending ??= this.mend(error).finally(() => (this.mending = undefined));
        await this.mending;
      }
      return this.file.read(offset, length);
    }
  }

  private async mend(why: unknown): Promise<void> {
    const spoilt = this.file;
    this.file = await this.reopen(why);
    await spoilt.close().catch(() => undefined);
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.file.close();
  }
}
