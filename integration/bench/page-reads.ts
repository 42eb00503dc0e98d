// Ways to ask for pages over loopback, and how long each took, in microseconds.

import { type Distribution, distribution } from './harness.ts';
import type { PageClient } from './page-client.ts';

const READ_EVERY_MS = 2;

export function seeded(): () => number {
  let state = 12345;
  return () => (state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff) / 0x80000000;
}

const micros = (milliseconds: readonly number[]): Distribution =>
  distribution(milliseconds.map(ms => ms * 1000));

export async function oneByOne(client: PageClient, count: number): Promise<Distribution> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await client.pages(1);
    times.push(performance.now() - start);
  }
  return micros(times);
}

/**
 * One read every few milliseconds until told to stop, each timed from when it should have begun, unless the one before
 * was still under way then.
 */
export async function nowAndThen(client: PageClient, isOver: () => boolean): Promise<Distribution> {
  const times: number[] = [];
  let due = performance.now();
  while (!isOver()) {
    due = Math.max(due + READ_EVERY_MS, performance.now());
    const left = due - performance.now();
    await new Promise<void>(resolve => (left > 1 ? setTimeout(resolve, left) : setImmediate(resolve)));
    const begun = Math.min(due, performance.now());
    await client.pages(1);
    times.push(performance.now() - begun);
  }
  return micros(times);
}
