// Time that moves only when nothing else can: a heap of wake-ups, and a loop that wakes the next one, lets
// everything that follows from it run to its end, and goes on. Two wake-ups of one moment come in the order in
// which they were asked for. So a run is a sequence of steps, the same for the same seed, on any machine.
//
// "Runs to its end" is: every promise job that the wake-up set off. Nothing in a simulation may wait for the real
// machine; whatever would, waits here.

import type { Clock } from '../../src/base/ports.ts';

interface WakeUp {
  readonly atMs: number;
  readonly order: number;
  readonly wake: () => void;
}

/** Immediates asked for together: Node lets all promise jobs run between two of them, and polls once for the lot. */
const TURNS_AT_ONCE = 256;

/** 2026-01-01: what the wall clock says at the beginning. */
const EPOCH_MS = Date.UTC(2026, 0, 1);

export class SimClock implements Clock {
  private readonly heap: WakeUp[] = [];
  private asked = 0;
  private nowMs = 0;
  /** Wake-ups so far. */
  steps = 0;

  now(): number {
    return EPOCH_MS + Math.floor(this.nowMs);
  }

  monotonic(): number {
    return this.nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      this.at(ms, resolve);
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  }

  /** Calls `wake` in `ms`. */
  at(ms: number, wake: () => void): void {
    this.push({ atMs: this.nowMs + Math.max(0, ms), order: this.asked++, wake });
  }

  get pending(): number {
    return this.heap.length;
  }

  /** Runs until `over` says so after a step, until `untilMs`, or until nothing is left to wait for. */
  run(untilMs: number, over: () => boolean = () => false): Promise<void> {
    return new Promise((resolve, reject) => {
      let ended = false;
      let stepped = false;
      // What an immediate finds is the end of all promise jobs that the one before it set off.
      const turn = (): void => {
        if (ended) return;
        try {
          ended = (stepped && over()) || this.heap.length === 0 || this.heap[0]!.atMs > untilMs;
          if (ended) {
            resolve();
            return;
          }
          stepped = true;
          this.wakeNext();
        } catch (error) {
          ended = true;
          reject(error);
        }
      };
      const turns = (): void => {
        for (let i = 0; i < TURNS_AT_ONCE; i++) setImmediate(turn);
        setImmediate(() => {
          if (!ended) turns();
        });
      };
      setImmediate(turns);
    });
  }

  private wakeNext(): void {
    const next = this.pop();
    this.nowMs = Math.max(this.nowMs, next.atMs);
    this.steps++;
    next.wake();
  }

  private push(item: WakeUp): void {
    const { heap } = this;
    let i = heap.length;
    heap.push(item);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(item, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = item;
  }

  private pop(): WakeUp {
    const { heap } = this;
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length > 0) {
      let i = 0;
      for (;;) {
        let child = 2 * i + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
        if (!before(heap[child]!, last)) break;
        heap[i] = heap[child]!;
        i = child;
      }
      heap[i] = last;
    }
    return top;
  }
}

const before = (a: WakeUp, b: WakeUp): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
