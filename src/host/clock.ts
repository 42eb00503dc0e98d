// The real time: the wall clock, the machine's steady clock, and waiting.

import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises';
import type { Clock } from '../base/ports.ts';

/** A timer cannot be set further ahead than this: 2^31 - 1 ms, some 24 days. */
const TIMER_MS_MAX = 2_147_483_647;

export const hostClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  turn: () => turn(),
  async sleep(ms, signal) {
    const until = performance.now() + ms;
    for (let left = ms; ; left = until - performance.now()) {
      signal?.throwIfAborted();
      try {
        await wait(Math.max(0, Math.min(left, TIMER_MS_MAX)), undefined, signal ? { signal } : undefined);
      } catch (error) {
        throw signal?.aborted ? signal.reason : error;
      }
      if (left <= TIMER_MS_MAX) return;
    }
  },
};
