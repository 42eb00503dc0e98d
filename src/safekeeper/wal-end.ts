// Where the WAL that a reader may have ends, and the wait for more: up to commit_lsn, or, for the leader of a term, up
// to flush_lsn for as long as that term lasts.
//
// A commit is one wait: what begins and ends with each of them is kept small. One timer runs on over many waits and is
// set again for what is left when it goes off, where a timer for each would be set and cancelled at every commit; and a
// wait for WAL that a timer outlasted is taken up again by the next call.
//
// Answers to WaitForLsn of safekeeper/src/send_wal.rs.

import type { Lsn } from '../base/lsn.ts';
import type { Clock } from '../base/ports.ts';
import type { Term } from '../protocol/walproposer.ts';
import type { TimelineHandle } from './timeline-handle.ts';

/** After as long without WAL a keepalive is due. */
const KEEPALIVE_MS = 1000;

/** A wait for WAL past `lsn`, and how it came out. */
interface Coming {
  readonly lsn: Lsn;
  outcome?: { readonly failure: unknown } | 'here';
}

/** Who waits, and since when. */
interface Waiting {
  readonly sinceMs: number;
  resolve(isHere: boolean): void;
  reject(failure: unknown): void;
}

export class WalEnd {
  private readonly timeline: TimelineHandle;
  private readonly term: Term | undefined;
  private readonly clock: Clock;
  private coming: Coming | undefined;
  private waiting: Waiting | undefined;
  private ticking = false;

  constructor(timeline: TimelineHandle, term: Term | undefined, clock: Clock) {
    this.timeline = timeline;
    this.term = term;
    this.clock = clock;
  }

  get now(): Lsn {
    return this.term === undefined ? this.timeline.commitLsn : this.timeline.flushLsn;
  }

  /** True when there is WAL past `lsn`; false after a second without. One call at a time, all with one signal. */
  async past(lsn: Lsn, signal: AbortSignal): Promise<boolean> {
    if (this.term === undefined && this.now > lsn) return true;
    try {
      return await new Promise<boolean>((resolve, reject) => {
        this.waiting = { sinceMs: this.clock.monotonic(), resolve, reject };
        if (this.coming?.lsn === lsn) this.tell(this.coming);
        else this.waitFor(lsn, signal);
        if (!this.ticking) void this.tick(signal);
      });
    } finally {
      this.waiting = undefined;
    }
  }

  private waitFor(lsn: Lsn, signal: AbortSignal): void {
    const coming: Coming = { lsn };
    this.coming = coming;
    const wanted = (lsn + 1) as Lsn;
    const wal =
      this.term === undefined
        ? this.timeline.waitForCommit(wanted, signal)
        : this.timeline.waitForFlush(wanted, this.term, signal);
    const settle = (outcome: Coming['outcome'] & {}): void => {
      coming.outcome = outcome;
      if (this.coming === coming) this.tell(coming);
    };
    wal.then(
      () => settle('here'),
      (failure: unknown) => settle({ failure }),
    );
  }

  /** Perhaps nobody waits just now: the next call asks. */
  private tell({ outcome }: Coming): void {
    if (outcome === 'here') this.waiting?.resolve(true);
    else if (outcome !== undefined) this.waiting?.reject(outcome.failure);
  }

  private async tick(signal: AbortSignal): Promise<void> {
    this.ticking = true;
    try {
      while (this.waiting !== undefined) {
        const leftMs = this.waiting.sinceMs + KEEPALIVE_MS - this.clock.monotonic();
        if (leftMs > 0) await this.clock.sleep(leftMs, signal);
        else {
          this.waiting.resolve(false);
          this.waiting = undefined;
        }
      }
    } catch {
      // The stream is over: so is the wait for WAL, which has the same signal.
    } finally {
      this.ticking = false;
    }
  }
}
