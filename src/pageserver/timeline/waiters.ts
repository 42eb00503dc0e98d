// Those who wait for a timeline to reach an LSN: page requests that came before the WAL they need.
//
// Kept in a heap by LSN, so that an advance wakes whom it concerns and looks at nobody else. One timer serves all
// deadlines: it sleeps until the earliest and is set again while anybody waits.

import type { Clock } from '../../base/ports.ts';

interface Waiter {
  readonly lsn: number;
  readonly deadline: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
  readonly late: () => Error;
  /** Takes the listener off the signal. */
  forget: (() => void) | undefined;
  done: boolean;
}

/** Deadlines are met this exactly. */
const TICK_MS = 100;

export class Waiters {
  private readonly clock: Clock;
  private readonly heap: Waiter[] = [];
  private ticking = false;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  get count(): number {
    return this.heap.length;
  }

  /** Resolves when `wake` is called with `lsn` or more; rejects with `late()` after `timeoutMs`. */
  wait(lsn: number, timeoutMs: number, late: () => Error, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const deadline = this.clock.monotonic() + timeoutMs;
      const waiter: Waiter = { lsn, deadline, resolve, reject, late, forget: undefined, done: false };
      this.push(waiter);
      if (!this.ticking) void this.tick();
      if (signal === undefined) return;
      const abort = (): void => this.giveUp(waiter, signal.reason);
      signal.addEventListener('abort', abort, { once: true });
      waiter.forget = () => signal.removeEventListener('abort', abort);
    });
  }

  /** The position is now `lsn`. */
  wake(lsn: number): void {
    while (this.heap.length > 0 && this.heap[0]!.lsn <= lsn) {
      const waiter = this.pop();
      if (waiter.done) continue;
      waiter.done = true;
      waiter.forget?.();
      waiter.resolve();
    }
  }

  failAll(error: unknown): void {
    for (const waiter of this.heap.splice(0)) this.giveUp(waiter, error);
  }

  private giveUp(waiter: Waiter, error: unknown): void {
    if (waiter.done) return;
    waiter.done = true;
    waiter.forget?.();
    waiter.reject(error);
  }

  private async tick(): Promise<void> {
    this.ticking = true;
    while (this.heap.length > 0) {
      await this.clock.sleep(TICK_MS);
      const now = this.clock.monotonic();
      for (const waiter of this.heap) if (waiter.deadline <= now) this.giveUp(waiter, waiter.late());
      if (this.heap.some(waiter => waiter.done)) this.sweep();
    }
    this.ticking = false;
  }

  private sweep(): void {
    const waiting = this.heap.filter(waiter => !waiter.done);
    this.heap.length = 0;
    for (const waiter of waiting) this.push(waiter);
  }

  private push(waiter: Waiter): void {
    const { heap } = this;
    let at = heap.length;
    heap.push(waiter);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]!.lsn <= waiter.lsn) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = waiter;
  }

  private pop(): Waiter {
    const { heap } = this;
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.lsn < heap[child]!.lsn) child++;
      if (heap[child]!.lsn >= last.lsn) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}
