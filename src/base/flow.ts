// Ways to let work through: a semaphore (so many at once, in the order of asking), single flight (of several who ask
// for one thing at one time, one fetches it), and a gate (work enters until it is closed; closing waits for what is
// inside); and a turn, for work that lets others go first. None of them knows what the work is, or waits for time.

import { assert } from './assert.ts';
import { Fault } from './fault.ts';
import type { Clock } from './ports.ts';

interface Queued {
  readonly weight: number;
  readonly enter: () => void;
}

/** Room for `limit` units. One that is wider than all of it enters alone. */
export class Semaphore {
  readonly limit: number;
  private used = 0;
  private readonly queue: Queued[] = [];

  constructor(limit: number) {
    assert(limit > 0, 'a semaphore has room');
    this.limit = limit;
  }

  get inUse(): number {
    return this.used;
  }

  get waiting(): number {
    return this.queue.length;
  }

  async run<T>(work: () => Promise<T>, weight = 1): Promise<T> {
    const width = Math.min(weight, this.limit);
    await this.enter(width);
    try {
      return await work();
    } finally {
      this.used -= width;
      this.letIn();
    }
  }

  private enter(weight: number): Promise<void> {
    if (this.queue.length === 0 && this.used + weight <= this.limit) {
      this.used += weight;
      return Promise.resolve();
    }
    return new Promise(resolve => this.queue.push({ weight, enter: resolve }));
  }

  private letIn(): void {
    for (let next = this.queue[0]; next && this.used + next.weight <= this.limit; next = this.queue[0]) {
      this.queue.shift();
      this.used += next.weight;
      next.enter();
    }
  }
}

/** Who asks while it is being fetched gets the same; who asks later has it fetched anew. */
export class SingleFlight<T> {
  private readonly flights = new Map<string, Promise<T>>();

  run(key: string, fetch: () => Promise<T>): Promise<T> {
    let flight = this.flights.get(key);
    if (!flight) {
      flight = fetch().finally(() => this.flights.delete(key));
      this.flights.set(key, flight);
    }
    return flight;
  }

  has(key: string): boolean {
    return this.flights.has(key);
  }
}

/** Open, then closed for good. */
export class Gate {
  private readonly name: string;
  private inside = 0;
  private closed = false;
  private empty: (() => void)[] = [];

  constructor(name: string) {
    this.name = name;
  }

  get isClosed(): boolean {
    return this.closed;
  }

  /** A Fault `shutting-down` once it is closed. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    const leave = this.enter();
    try {
      return await work();
    } finally {
      leave();
    }
  }

  /** The answer must be called, once. */
  enter(): () => void {
    if (this.closed) throw new Fault('shutting-down', `${this.name} is shutting down`);
    this.inside++;
    return () => {
      this.inside--;
      if (this.inside > 0) return;
      for (const wake of this.empty.splice(0)) wake();
    };
  }

  /** Nobody enters any more; resolves when nobody is inside. */
  close(): Promise<void> {
    this.closed = true;
    if (this.inside === 0) return Promise.resolve();
    return new Promise(resolve => this.empty.push(resolve));
  }
}

/** Lets what has arrived from the machine meanwhile go first. */
export const turn = (clock: Clock): Promise<void> => clock.turn?.() ?? clock.sleep(0);
