// A store that counts: calls by verb and outcome, how long they took, bytes in and out. Unaware of drivers. Inside the
// retrying wrapper it counts tries, outside it what callers saw.

import { isFault } from '../base/fault.ts';
import type { Counter, Histogram, Metrics } from '../base/metrics.ts';
import type { BlobHead, Blobs, BlobVersion, Clock, PutOptions } from '../base/ports.ts';

export class MeteredBlobs implements Blobs {
  private readonly blobs: Blobs;
  private readonly clock: Clock;
  private readonly seconds: Histogram;
  private readonly failures: Counter;
  private readonly bytes: Counter;
  readonly versions?: (prefix: string) => AsyncIterable<BlobVersion>;
  readonly restore?: (key: string, version: string) => Promise<void>;

  constructor(blobs: Blobs, metrics: Metrics, clock: Clock) {
    this.blobs = blobs;
    if (blobs.versions) this.versions = prefix => blobs.versions!(prefix);
    if (blobs.restore)
      this.restore = (key, version) => this.measured('restore', () => blobs.restore!(key, version));
    this.clock = clock;
    this.seconds = metrics.histogram('lakebed_blobs_seconds', 'How long calls of the object store took', [
      'verb',
    ]);
    this.failures = metrics.counter('lakebed_blobs_failures_total', 'Calls of the object store that failed', [
      'verb',
      'code',
    ]);
    this.bytes = metrics.counter('lakebed_blobs_bytes_total', 'Bytes to and from the object store', [
      'direction',
    ]);
  }

  private async measured<T>(verb: string, work: () => Promise<T>): Promise<T> {
    const began = this.clock.monotonic();
    try {
      return await work();
    } catch (error) {
      this.failures.with(verb, isFault(error) ? error.code : 'violation').inc();
      throw error;
    } finally {
      this.seconds.with(verb).observe((this.clock.monotonic() - began) / 1000);
    }
  }

  async put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<void> {
    await this.measured('put', () => this.blobs.put(key, bytes, options));
    this.bytes.with('out').inc(bytes.length);
  }

  async get(key: string, range?: { offset: number; length: number }): Promise<Uint8Array> {
    const bytes = await this.measured('get', () =>
      range ? this.blobs.get(key, range) : this.blobs.get(key),
    );
    this.bytes.with('in').inc(bytes.length);
    return bytes;
  }

  head(key: string): Promise<BlobHead | undefined> {
    return this.measured('head', () => this.blobs.head(key));
  }

  /** One call however many pages; what the caller does between them is not counted. */
  async *list(prefix: string): AsyncIterable<BlobHead> {
    const heads = this.blobs.list(prefix)[Symbol.asyncIterator]();
    let spentMs = 0;
    try {
      for (;;) {
        const began = this.clock.monotonic();
        const next = await heads.next().finally(() => (spentMs += this.clock.monotonic() - began));
        if (next.done) return;
        yield next.value;
      }
    } catch (error) {
      this.failures.with('list', isFault(error) ? error.code : 'violation').inc();
      throw error;
    } finally {
      this.seconds.with('list').observe(spentMs / 1000);
      await heads.return?.();
    }
  }

  remove(keys: readonly string[]): Promise<void> {
    return this.measured('remove', () => this.blobs.remove(keys));
  }

  copy(from: string, to: string): Promise<void> {
    return this.measured('copy', () => this.blobs.copy(from, to));
  }
}
