// Carries out what the upload queue says, for one timeline: several layers at once, one index, deletions through the
// queue of the process. What fails for a while is tried until it succeeds; what cannot succeed is the timeline's end
// (`fatal`), for then the object store no longer follows.
//
// Before a layer leaves, every chunk of it is opened: what the store gets is what was written.
//
// When an index of this attachment is durable, the control plane is asked whether the attachment is still the one that
// counts, and only then do the safekeepers hear of it (`visible`). The index that was found when attaching does not
// count: one that was attached before us, and does not know that it is over, may still write its own over that.
//
// Answers to RemoteTimelineClient::perform_upload_task of remote_timeline_client.rs.

import { giveBack } from '../../base/bytes.ts';
import { Fault, isFault } from '../../base/fault.ts';
import type { Semaphore } from '../../base/flow.ts';
import type { TimelineId } from '../../base/ids.ts';
import type { Blobs, Clock, Log, Random } from '../../base/ports.ts';
import { eachPiece, sourceOf } from '../../seal/sources.ts';
import type { Vault } from '../../seal/vault.ts';
import type { DeletionQueue } from './deletion-queue.ts';
import { encodeIndex, type IndexPart, type LayerRef } from './index-part.ts';
import type { LastingPuts } from './lasting-puts.ts';
import { sealedBytes } from './layer-cache.ts';
import { indexName, shardText, type TenantShard, timelineDirectory } from './paths.ts';
import { mayPassInTime, retrying, unlessAborted } from './retry.ts';
import type { UploadOp, UploadQueue } from './upload-queue.ts';
import type { Claim, Validator } from './validator.ts';

/** Counted over all timelines of the process. */
export interface UploadCounters {
  layers: number;
  layerBytes: number;
  indexes: number;
  failures: number;
}

export const newUploadCounters = (): UploadCounters => ({
  layers: 0,
  layerBytes: 0,
  indexes: 0,
  failures: 0,
});

export interface UploaderOptions {
  readonly at: TenantShard;
  readonly timeline: TimelineId;
  readonly queue: UploadQueue;
  readonly vault: Vault;
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Bytes of layers on their way at once, over the process. */
  readonly uploadBytes: Semaphore;
  readonly deletions: DeletionQueue;
  readonly validator: Validator;
  readonly counters: UploadCounters;
  readonly lasting: LastingPuts;
  /** An index is in the store, and this attachment was confirmed after that. */
  readonly visible: (diskConsistentLsn: number) => void;
  /** Another attachment took over. */
  readonly stale: () => void;
  readonly fatal: (error: unknown) => void;
}

const RETRY_DELETE_MS = 1000;

export class Uploader {
  private readonly options: UploaderOptions;
  private readonly stopping = new AbortController();
  private readonly running = new Set<Promise<void>>();
  private waiters: {
    readonly sequence: number;
    readonly wake: () => void;
    readonly fail: (e: unknown) => void;
  }[] = [];
  private publishing: Promise<void> | undefined;
  private failure: unknown;
  /** The durable index is one that we wrote. */
  private isOurs = false;

  constructor(options: UploaderOptions) {
    this.options = options;
  }

  private get directory(): string {
    return timelineDirectory(this.options.at, this.options.timeline);
  }

  private get claim(): Claim {
    return { id: shardText(this.options.at), generation: this.options.queue.generation };
  }

  start(): void {
    this.pump();
    this.publishSoon();
  }

  private publishSoon(): void {
    if (!this.isOurs || !this.options.queue.may.upload) return;
    this.publishing ??= this.publish().finally(() => (this.publishing = undefined));
  }

  /** Begins whatever may be begun. To be called after every change of the queue. */
  pump(): void {
    if (this.failure !== undefined) return;
    for (let op = this.options.queue.next(); op; op = this.options.queue.next()) {
      const work: Promise<void> = this.carryOut(op).finally(() => this.running.delete(work));
      this.running.add(work);
    }
  }

  private async carryOut(op: UploadOp): Promise<void> {
    const { queue } = this.options;
    try {
      if (op.do === 'put-layer') await this.putLayer(op.layer, op.ref);
      else if (op.do === 'put-index') await this.putIndex(op.index);
      else await this.delete(op.layers);
      queue.done(op);
    } catch (error) {
      queue.failed(op);
      if (this.stopping.signal.aborted) return;
      if (op.do === 'delete') await this.deleteFailed(error);
      else if (!this.wasRemoved(op)) return this.fail(error);
    }
    if (op.do === 'put-index') this.indexIsThere();
    this.pump();
  }

  /** The layer went while it was being sent: its file need not be there any more. */
  private wasRemoved(op: UploadOp): boolean {
    return op.do === 'put-layer' && !this.options.queue.dirty.layers.has(op.layer);
  }

  private fail(error: unknown): void {
    this.failure = error;
    for (const { fail } of this.waiters.splice(0)) fail(error);
    this.options.fatal(error);
  }

  private retry<T>(what: string, work: () => Promise<T>): Promise<T> {
    const { clock, random, log, counters, timeline } = this.options;
    const failed = (error: unknown, tries: number): void => {
      counters.failures++;
      if (tries % 10 === 5) log.warn(`${what} cannot be uploaded`, { timeline, tries, error: String(error) });
    };
    return retrying({ clock, random, failed, signal: this.stopping.signal, repeat: mayPassInTime }, work);
  }

  private async putLayer(layer: string, ref: LayerRef): Promise<void> {
    const { blobs, uploadBytes, counters } = this.options;
    await uploadBytes.run(async () => {
      const bytes = await this.retry(layer, () => this.sealedLayer(layer, ref));
      let tries = 0;
      await this.retry(layer, () => {
        tries++;
        return blobs.put(`${this.directory}/${layer}`, bytes);
      });
      counters.layers++;
      counters.layerBytes += bytes.length;
      // A try that was not answered may still be reading them.
      if (tries === 1) giveBack(bytes);
    }, sealedBytes(ref.bytes));
  }

  private async sealedLayer(layer: string, ref: LayerRef): Promise<Uint8Array> {
    const { vault } = this.options;
    const file = await vault.copyOut(layer);
    const bytes = await file.read(0, file.size).finally(() => file.close());
    const proof = await vault.openSource(layer, sourceOf(bytes), { generation: ref.generation });
    try {
      await eachPiece(proof, async (_offset, piece) => giveBack(piece));
    } finally {
      await proof.close();
    }
    return bytes;
  }

  private async putIndex(index: IndexPart): Promise<void> {
    const { vault, lasting, queue, counters } = this.options;
    const name = indexName(queue.generation);
    const bytes = encodeIndex(index);
    const sealed = await this.retry(name, () => vault.seal(name, bytes, { generation: queue.generation }));
    const key = `${this.directory}/${name}`;
    await lasting.put(key, sealed, work => this.retry(name, work), this.stopping.signal);
    counters.indexes++;
  }

  private async delete(layers: readonly string[]): Promise<void> {
    const keys = layers.map(layer => `${this.directory}/${layer}`);
    await unlessAborted(this.options.deletions.push({ claim: this.claim, keys }), this.stopping.signal);
  }

  private async deleteFailed(error: unknown): Promise<void> {
    const { queue, clock } = this.options;
    if (isFault(error, 'generation-stale')) {
      queue.may = { ...queue.may, delete: false };
      this.options.stale();
      return;
    }
    this.pump();
    await clock.sleep(RETRY_DELETE_MS, this.stopping.signal).catch(() => undefined);
  }

  private indexIsThere(): void {
    const { queue } = this.options;
    this.isOurs = true;
    const [there, not] = partition(this.waiters, waiter => queue.isDurable(waiter.sequence));
    this.waiters = not;
    for (const { wake } of there) wake();
    this.publishSoon();
  }

  /** Confirms the newest durable index until there is no newer one. */
  private async publish(): Promise<void> {
    const { queue, validator } = this.options;
    for (let told: IndexPart | undefined; told !== queue.durable && queue.may.upload; ) {
      const index = queue.durable!;
      try {
        if (!(await validator.confirm(this.claim))) {
          this.options.stale();
          return;
        }
      } catch {
        return; // shutting down
      }
      if (this.stopping.signal.aborted) return;
      this.options.visible(index.diskConsistentLsn);
      told = index;
    }
  }

  /** Resolves when the index of this number, or a later one, is in the store. */
  waitFor(sequence: number, signal?: AbortSignal): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (this.options.queue.isDurable(sequence)) return Promise.resolve();
    if (this.stopping.signal.aborted) return Promise.reject(this.stopping.signal.reason);
    return new Promise((wake, fail) => {
      const waiter = { sequence, wake, fail };
      this.waiters.push(waiter);
      signal?.addEventListener('abort', () => {
        this.waiters = this.waiters.filter(w => w !== waiter);
        fail(signal.reason);
      });
    });
  }

  /** Nothing new is begun, what is under way is given up; resolves when none of it is left. */
  async stop(): Promise<void> {
    const why = new Fault('shutting-down', `timeline ${this.options.timeline} is shutting down`);
    this.options.queue.stop();
    this.stopping.abort(why);
    for (const { fail } of this.waiters.splice(0)) fail(why);
    await Promise.all(this.running);
  }
}

function partition<T>(list: readonly T[], test: (item: T) => boolean): [T[], T[]] {
  const yes: T[] = [];
  const no: T[] = [];
  for (const item of list) (test(item) ? yes : no).push(item);
  return [yes, no];
}
