// A store that tries again: what is `blob-unavailable` is repeated after a wait that doubles and is half chance,
// a bounded number of times. Unaware of drivers.
//
// A put or a copy whose answer was lost has perhaps been done. Repeating it does no harm, but for a put that must
// not replace: its second try meets its own first. Then the object that is there is compared: the same bytes
// are ours.

import { equalBytes } from '../base/bytes.ts';
import { isFault } from '../base/fault.ts';
import type { BlobHead, Blobs, BlobVersion, Clock, PutOptions, Random } from '../base/ports.ts';

export interface RetryOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Tries in all. */
  readonly triesMax?: number;
  readonly firstWaitMs?: number;
  readonly waitMsMax?: number;
  readonly signal?: AbortSignal;
  /** Told of every try that failed and will be repeated. */
  readonly failed?: (verb: string, error: unknown, tries: number) => void;
}

export const retryingBlobs = (blobs: Blobs, options: RetryOptions): Blobs =>
  new RetryingBlobs(blobs, options);

class RetryingBlobs implements Blobs {
  private readonly blobs: Blobs;
  private readonly options: RetryOptions;
  /** Not tried again: a list that breaks off is begun anew by who needs it whole. */
  readonly versions?: (prefix: string) => AsyncIterable<BlobVersion>;
  readonly restore?: (key: string, version: string) => Promise<void>;

  constructor(blobs: Blobs, options: RetryOptions) {
    this.blobs = blobs;
    this.options = options;
    if (blobs.versions) this.versions = prefix => blobs.versions!(prefix);
    if (blobs.restore)
      this.restore = (key, version) => this.again('restore', () => blobs.restore!(key, version));
  }

  private async again<T>(verb: string, work: (tries: number) => Promise<T>): Promise<T> {
    const { triesMax = 8, clock, signal } = this.options;
    for (let tries = 1; ; tries++) {
      try {
        return await work(tries);
      } catch (error) {
        if (!isFault(error, 'blob-unavailable') || tries >= triesMax) throw error;
        this.options.failed?.(verb, error, tries);
        await clock.sleep(this.waitMs(tries), signal);
      }
    }
  }

  private waitMs(tries: number): number {
    const { firstWaitMs = 100, waitMsMax = 10_000, random } = this.options;
    const wait = Math.min(waitMsMax, firstWaitMs * 2 ** (tries - 1));
    return wait / 2 + random.below(Math.floor(wait / 2) + 1);
  }

  put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<void> {
    if (options.once) return this.blobs.put(key, bytes, options);
    return this.again('put', async tries => {
      try {
        await this.blobs.put(key, bytes, options);
      } catch (error) {
        if (tries === 1 || !isFault(error, 'blob-exists')) throw error;
        if (!equalBytes(await this.blobs.get(key), bytes)) throw error;
      }
    });
  }

  get(key: string, range?: { offset: number; length: number }): Promise<Uint8Array> {
    return this.again('get', () => (range ? this.blobs.get(key, range) : this.blobs.get(key)));
  }

  head(key: string): Promise<BlobHead | undefined> {
    return this.again('head', () => this.blobs.head(key));
  }

  /** After a failure it goes on behind the last key that was told. */
  async *list(prefix: string): AsyncIterable<BlobHead> {
    const { triesMax = 8, clock, signal } = this.options;
    let last: string | undefined;
    for (let tries = 1; ; tries++) {
      try {
        for await (const head of this.blobs.list(prefix)) {
          if (last !== undefined && head.key <= last) continue;
          last = head.key;
          tries = 1;
          yield head;
        }
        return;
      } catch (error) {
        if (!isFault(error, 'blob-unavailable') || tries >= triesMax) throw error;
        this.options.failed?.('list', error, tries);
        await clock.sleep(this.waitMs(tries), signal);
      }
    }
  }

  remove(keys: readonly string[]): Promise<void> {
    return this.again('remove', () => this.blobs.remove(keys));
  }

  copy(from: string, to: string): Promise<void> {
    return this.again('copy', () => this.blobs.copy(from, to));
  }
}
