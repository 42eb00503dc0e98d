// Objects that are written again and again under one name: indexes and manifests. A put that was not answered may be
// carried out all the same, and late; over what was written after it, it would bring back the past.
//
//   put A ──► no answer ──► put A again ──► answered         A may still come a second time, which is no harm:
//                 └────────── settleMs ─────────┤            B waits until it must have come, or is lost
//                                               └──► put B
//
// So every name tells one story in the order in which it was told. A process that is given the generation it had
// before (nobody hands out new ones) does not know what it left under way: it waits once, from its beginning on.

import type { Blobs, Clock } from '../../base/ports.ts';

export interface LastingPutsOptions {
  readonly blobs: Blobs;
  readonly clock: Clock;
  /** How late a put may arrive that was not answered; 0 for a store where none does. */
  readonly settleMs: number;
  /** This process may write under names that another one wrote just before. */
  readonly namesAreOld: boolean;
}

/** What is known of a name while it is not settled. */
interface Unsettled {
  /** A put under way, whoever waits for it. */
  busy: Promise<void> | undefined;
  /** Until then one may come that was not answered. */
  until: number;
}

export class LastingPuts {
  private readonly options: LastingPutsOptions;
  private readonly firstAt: number;
  private readonly unsettled = new Map<string, Unsettled>();

  constructor(options: LastingPutsOptions) {
    this.options = options;
    const { clock, namesAreOld, settleMs } = options;
    this.firstAt = namesAreOld ? clock.monotonic() + settleMs : -Infinity;
  }

  /** `retry` is how the caller repeats what failed. */
  async put(
    key: string,
    bytes: Uint8Array,
    retry: (work: () => Promise<void>) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.settled(key, signal);
    await retry(() => this.attempt(key, bytes));
  }

  private async settled(key: string, signal: AbortSignal | undefined): Promise<void> {
    const { clock } = this.options;
    for (;;) {
      signal?.throwIfAborted();
      const { busy, until = this.firstAt } = this.unsettled.get(key) ?? {};
      const wait = until - clock.monotonic();
      if (!busy && wait <= 0) break;
      await (busy ?? clock.sleep(wait, signal));
    }
    this.unsettled.delete(key);
  }

  private attempt(key: string, bytes: Uint8Array): Promise<void> {
    const { blobs, clock, settleMs } = this.options;
    const state = this.unsettled.get(key) ?? { busy: undefined, until: -Infinity };
    this.unsettled.set(key, state);
    const work = blobs.put(key, bytes, { once: true });
    state.busy = work.then(
      () => {
        state.busy = undefined;
        if (state.until <= clock.monotonic()) this.unsettled.delete(key);
      },
      () => {
        state.busy = undefined;
        state.until = clock.monotonic() + settleMs;
        this.forgetSettled();
      },
    );
    return work;
  }

  private forgetSettled(): void {
    const now = this.options.clock.monotonic();
    for (const [key, { busy, until }] of this.unsettled)
      if (!busy && until <= now) this.unsettled.delete(key);
  }
}
