// Worker threads for bulk work: the real `Pool`. Inputs and outputs are transferred, never copied and never shared:
// whoever hands in bytes has them no more.
//
// Each worker has one job in hand and one waiting, so that it does not idle for the length of a message; the rest
// queue here, first come, first served. Threads start with the first jobs and live until `close`. A thread that
// dies (out of memory) fails its jobs with a Fault `worker-failed`, and another takes its place.

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { Violation } from '../base/assert.ts';
import { Fault } from '../base/fault.ts';
import type { Pool } from '../base/ports.ts';
import { owned, type TravellingError, type WorkOrder, type WorkResult } from './worker.ts';

/** In hand and next in line. */
const JOBS_PER_WORKER = 2;

interface Order {
  readonly job: string;
  readonly input: Uint8Array<ArrayBuffer>;
  readonly spare: ((input: Uint8Array) => void) | undefined;
  readonly resolve: (output: Uint8Array) => void;
  readonly reject: (error: Error) => void;
}

interface Hand {
  readonly worker: Worker;
  readonly orders: Map<number, Order>;
}

export interface WorkerPoolOptions {
  /** The module that a thread runs: it calls `serveJobs`. */
  readonly entry: URL;
  /** Threads at most; the default leaves one core to the event loop. */
  readonly workers?: number;
}

export class WorkerPool implements Pool {
  private readonly entry: URL;
  private readonly size: number;
  private readonly hands: Hand[] = [];
  private readonly queue: Order[] = [];
  private lastId = 0;
  private closed = false;

  constructor(options: WorkerPoolOptions) {
    this.entry = options.entry;
    this.size = options.workers ?? Math.max(1, availableParallelism() - 1);
  }

  /** Jobs waiting for a thread. */
  get waiting(): number {
    return this.queue.length;
  }

  run(job: string, input: Uint8Array, spare?: (input: Uint8Array) => void): Promise<Uint8Array> {
    if (this.closed) return Promise.reject(new Fault('shutting-down', 'the worker pool is closed'));
    return new Promise((resolve, reject) => {
      this.queue.push({ job, input: owned(input), spare, resolve, reject });
      this.dispatch();
    });
  }

  private dispatch(): void {
    while (this.queue.length > 0) {
      const hand = this.freeHand();
      if (hand === undefined) return;
      const order = this.queue.shift()!;
      const id = ++this.lastId;
      hand.orders.set(id, order);
      const message: WorkOrder = { id, job: order.job, input: order.input, back: order.spare !== undefined };
      hand.worker.ref(); // a process does not end with a job in hand
      hand.worker.postMessage(message, [order.input.buffer]);
    }
  }

  /** The one with the least to do; a new one while there may be more. */
  private freeHand(): Hand | undefined {
    let best: Hand | undefined;
    for (const hand of this.hands) {
      if (best === undefined || hand.orders.size < best.orders.size) best = hand;
    }
    if (best?.orders.size === 0) return best;
    if (this.hands.length < this.size) return this.hire();
    return best !== undefined && best.orders.size < JOBS_PER_WORKER ? best : undefined;
  }

  private hire(): Hand {
    const hand: Hand = { worker: new Worker(this.entry), orders: new Map() };
    hand.worker.on('message', (result: WorkResult) => {
      const order = hand.orders.get(result.id)!;
      hand.orders.delete(result.id);
      if (hand.orders.size === 0) hand.worker.unref();
      if ('output' in result) {
        if (result.input !== undefined) order.spare?.(result.input);
        order.resolve(result.output);
      } else order.reject(putTogether(result.error));
      this.dispatch();
    });
    hand.worker.on('error', error => this.lose(hand, error));
    hand.worker.on('exit', code => this.lose(hand, new Error(`a worker ended with code ${code}`)));
    this.hands.push(hand);
    return hand;
  }

  private lose(hand: Hand, cause: Error): void {
    const at = this.hands.indexOf(hand);
    if (at >= 0) this.hands.splice(at, 1);
    const orders = [...hand.orders.values()];
    hand.orders.clear();
    for (const { job, reject } of orders) {
      reject(
        new Fault('worker-failed', `a worker died with the job ${job} in hand: ${cause.message}`, {
          cause,
          hint: 'If it ran out of memory, give the machine more or lower memory_layer_bytes_max.',
        }),
      );
    }
    if (!this.closed) this.dispatch();
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const { reject } of this.queue.splice(0))
      reject(new Fault('shutting-down', 'the worker pool is closed'));
    await Promise.all(this.hands.map(hand => hand.worker.terminate()));
  }
}

function putTogether(error: TravellingError): Error {
  if (error.code !== undefined) {
    return new Fault(error.code, error.message, error.hint === undefined ? {} : { hint: error.hint });
  }
  const made = error.name === 'Violation' ? new Violation(error.message) : new Error(error.message);
  if (error.stack !== undefined) made.stack = error.stack;
  return made;
}
