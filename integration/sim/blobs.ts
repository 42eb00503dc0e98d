// An object store in memory that misbehaves as real ones do, as the dice say:
//
//   failure        a call fails with `blob-unavailable` before it did anything
//   lostAnswer     a put, copy or remove fails with `blob-unavailable` after it was done
//   lateList       a list does not show what was put during the last `lateListMs` (off unless asked for: today's
//                  stores list what was put; the key store relies on it)
//
// `onPut` sees every byte that is ever put. Without a clock no call takes time.

import { Fault } from '../../src/base/fault.ts';
import type { BlobHead, Blobs, Clock, Random } from '../../src/base/ports.ts';

export interface SimBlobsOptions {
  readonly random: Random;
  readonly clock?: Clock;
  readonly latencyMs?: number;
  readonly onPut?: (key: string, bytes: Uint8Array) => void;
}

interface Stored {
  readonly bytes: Uint8Array;
  readonly modifiedMs: number;
}

export class SimBlobs implements Blobs {
  /** In a thousand calls. */
  failure = 0;
  lostAnswer = 0;
  lateListMs = 0;
  /** Nothing answers. */
  away = false;
  /** Called before every call, and after each that changed something: a test may throw in it, to stop there. */
  before: (verb: string, key: string) => void = () => undefined;
  after: (verb: string, key: string) => void = () => undefined;
  readonly objects = new Map<string, Stored>();
  private readonly options: SimBlobsOptions;

  constructor(options: SimBlobsOptions) {
    this.options = options;
  }

  private unavailable(key: string): Fault {
    return new Fault('blob-unavailable', `${key}: the store does not answer`);
  }

  private async enter(verb: string, key: string): Promise<void> {
    const { clock, latencyMs = 0, random } = this.options;
    if (clock && latencyMs > 0) await clock.sleep(1 + random.below(latencyMs));
    else await undefined;
    this.before(verb, key);
    if (this.away || random.below(1000) < this.failure) throw this.unavailable(key);
  }

  private leave(verb: string, key: string): void {
    this.after(verb, key);
    if (this.options.random.below(1000) < this.lostAnswer) throw this.unavailable(key);
  }

  async put(key: string, bytes: Uint8Array, options: { onlyIfAbsent?: boolean } = {}): Promise<void> {
    const copy = bytes.slice();
    await this.enter('put', key);
    if (options.onlyIfAbsent && this.objects.has(key)) throw new Fault('blob-exists', `${key} exists`);
    this.options.onPut?.(key, copy);
    this.objects.set(key, { bytes: copy, modifiedMs: this.options.clock?.now() ?? 0 });
    this.leave('put', key);
  }

  private stored(key: string): Stored {
    const stored = this.objects.get(key);
    if (!stored) throw new Fault('blob-missing', `${key}: no such object`);
    return stored;
  }

  async get(key: string, range?: { offset: number; length: number }): Promise<Uint8Array> {
    await this.enter('get', key);
    const { bytes } = this.stored(key);
    if (!range) return bytes.slice();
    if (range.offset + range.length > bytes.length) {
      throw new Fault('bytes-short', `${key} has ${bytes.length} bytes`);
    }
    return bytes.slice(range.offset, range.offset + range.length);
  }

  async head(key: string): Promise<BlobHead | undefined> {
    await this.enter('head', key);
    const stored = this.objects.get(key);
    return stored && { key, size: stored.bytes.length, modifiedMs: stored.modifiedMs };
  }

  async *list(prefix: string): AsyncIterable<BlobHead> {
    await this.enter('list', prefix);
    const since = (this.options.clock?.now() ?? 0) - this.lateListMs;
    const found = [...this.objects]
      .filter(
        ([key, { modifiedMs }]) => key.startsWith(prefix) && (this.lateListMs === 0 || modifiedMs <= since),
      )
      .map(([key, { bytes, modifiedMs }]) => ({ key, size: bytes.length, modifiedMs }));
    yield* found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async remove(keys: readonly string[]): Promise<void> {
    await this.enter('remove', keys[0] ?? '');
    for (const key of keys) this.objects.delete(key);
    this.leave('remove', keys[0] ?? '');
  }

  async copy(from: string, to: string): Promise<void> {
    await this.enter('copy', to);
    const { bytes } = this.stored(from);
    this.options.onPut?.(to, bytes);
    this.objects.set(to, { bytes, modifiedMs: this.options.clock?.now() ?? 0 });
    this.leave('copy', to);
  }
}
