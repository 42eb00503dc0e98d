// Objects to delete, of all timelines of the process. They wait for a while, their attachments are confirmed
// (validator.ts), and they are removed in batches, until the store says that they are gone.
//
//   push ──► ripe ──► is the generation still ours? ──no──► dropped: whoever has it now knows of them
//                                │ yes
//                                ▼
//                              remove ──► done
//
// The wait (`ripeMs`) is for readers who opened a layer just before, and for the object store's sake: a put that was
// not answered may still arrive, and nobody would know of that object any more.
//
// Nothing of this is kept over a restart: what is not deleted stays in `forgotten` of the timeline's index, and the
// next attachment asks for it again (index-part.ts).
//
// Answers to deletion_queue.rs and its list_writer, validator and deleter.

import { Fault, type FaultKind } from '../../base/fault.ts';
import type { Blobs, Clock, Log, Random } from '../../base/ports.ts';
import { retrying } from './retry.ts';
import type { Claim, Validator } from './validator.ts';

export interface Deletion {
  readonly claim: Claim;
  readonly keys: readonly string[];
}

export interface DeletionQueueOptions {
  readonly blobs: Blobs;
  readonly validator: Validator;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** How long deletions wait. */
  readonly ripeMs: number;
}

interface Waiting extends Deletion {
  readonly ripeAt: number;
  readonly done: () => void;
  readonly fail: (error: unknown) => void;
}

/** A tenant attached elsewhere, a store or a key that is away, a timeline that ends. */
const EXPECTED: ReadonlySet<FaultKind> = new Set(['conflict', 'unavailable', 'denied', 'closed']);
/** Objects in one call to the store. */
const KEYS_MAX = 1000;

export class DeletionQueue {
  private readonly options: DeletionQueueOptions;
  private readonly stopping = new AbortController();
  private waiting: Waiting[] = [];
  private running: Promise<void> | undefined;
  private hurry: (() => void) | undefined;
  private urgent = false;
  /** Objects, since the start. */
  submitted = 0;
  executed = 0;
  dropped = 0;
  /** Trouble that should not be: it is a metric that must stay 0. */
  unexpected = 0;

  constructor(options: DeletionQueueOptions) {
    this.options = options;
  }

  /** Resolves when the objects are gone; a Fault `generation-stale` when they are no longer ours to delete. */
  push(deletion: Deletion): Promise<void> {
    const { signal } = this.stopping;
    if (signal.aborted) return Promise.reject(signal.reason);
    this.submitted += deletion.keys.length;
    return new Promise((done, fail) => {
      const ripeAt = this.options.clock.monotonic() + this.options.ripeMs;
      this.waiting.push({ ...deletion, ripeAt, done, fail });
      this.running ??= this.run();
    });
  }

  get pending(): number {
    return this.submitted - this.executed - this.dropped;
  }

  /** Carries out what waits now, ripe or not; resolves when that is over. */
  async flush(): Promise<void> {
    this.urgent = true;
    this.hurry?.();
    await this.running;
  }

  private async run(): Promise<void> {
    while (this.waiting.length > 0 && !this.stopping.signal.aborted) {
      await this.ripen();
      const now = this.urgent ? Infinity : this.options.clock.monotonic();
      const batch = this.waiting.filter(({ ripeAt }) => ripeAt <= now);
      this.waiting = this.waiting.filter(({ ripeAt }) => ripeAt > now);
      this.urgent = false;
      await Promise.all(batch.map(deletion => this.carryOut(deletion)));
    }
    this.running = undefined;
  }

  /** Until the oldest of them is ripe, or somebody is in a hurry. */
  private async ripen(): Promise<void> {
    const { clock } = this.options;
    const wait = this.waiting[0]!.ripeAt - clock.monotonic();
    if (wait <= 0 || this.urgent) return;
    const hurried = new AbortController();
    this.hurry = () => hurried.abort();
    await clock.sleep(wait, AbortSignal.any([hurried.signal, this.stopping.signal])).catch(() => undefined);
    this.hurry = undefined;
  }

  private async carryOut(deletion: Waiting): Promise<void> {
    const { claim, keys } = deletion;
    try {
      if (!(await this.options.validator.confirm(claim, { soon: true }))) {
        throw new Fault(
          'generation-stale',
          `generation ${claim.generation} of ${claim.id} is not the newest`,
          {
            hint: 'The tenant was attached elsewhere; its objects are left to that node.',
          },
        );
      }
      for (let at = 0; at < keys.length; at += KEYS_MAX) await this.remove(keys.slice(at, at + KEYS_MAX));
      this.executed += keys.length;
      deletion.done();
    } catch (error) {
      this.dropped += keys.length;
      this.note(error, deletion);
      deletion.fail(error);
    }
  }

  private remove(keys: readonly string[]): Promise<void> {
    const { blobs, clock, random, log } = this.options;
    const failed = (error: unknown, tries: number): void => {
      if (tries % 10 === 0) log.warn('objects cannot be deleted', { tries, error: String(error) });
    };
    return retrying({ clock, random, failed, signal: this.stopping.signal }, () => blobs.remove(keys));
  }

  private note(error: unknown, { claim, keys }: Waiting): void {
    if (this.stopping.signal.aborted) return;
    const fields = { tenant: claim.id, objects: keys.length, error: String(error) };
    if (error instanceof Fault && EXPECTED.has(error.kind)) {
      this.options.log.info('objects are not deleted now', fields);
      return;
    }
    this.unexpected++;
    this.options.log.error('objects were not deleted', fields);
  }

  /** What waits is left to the next attachment. */
  async close(): Promise<void> {
    this.stopping.abort(new Fault('shutting-down', 'the pageserver is shutting down'));
    for (const { fail } of this.waiting.splice(0)) fail(this.stopping.signal.reason);
    await this.running;
  }
}
