// Trying again: work whose failure may pass (a Fault of kind `unavailable`) is repeated after a wait that doubles and
// is half chance, until it succeeds, fails for good, or is told to stop. Background work has no other end: an upload
// that cannot be done is waited for, and felt as upload lag. Work that somebody waits for says how often it is tried:
// whoever asked hears why it failed, and may ask again.

import { isFault } from '../../base/fault.ts';
import type { Clock, Random } from '../../base/ports.ts';

export interface RetryTimes {
  readonly firstWaitMs: number;
  readonly waitMsMax: number;
}

export interface Retrying {
  readonly clock: Clock;
  readonly random: Random;
  readonly times?: RetryTimes;
  readonly signal?: AbortSignal;
  /** Told of each try that failed and will be repeated. */
  readonly failed?: (error: unknown, tries: number) => void;
  /** Then the last error is the answer; without end unless said. */
  readonly triesMax?: number;
  /** What is worth another try; `mayPass` unless said. */
  readonly repeat?: (error: unknown) => boolean;
}

const TIMES: RetryTimes = { firstWaitMs: 100, waitMsMax: 10_000 };

export const mayPass = (error: unknown): boolean => isFault(error) && error.kind === 'unavailable';

/** For work that nobody waits for at a socket: it also waits until a revoked key is given back. */
export const mayPassInTime = (error: unknown): boolean =>
  mayPass(error) || isFault(error, 'key-revoked') || isFault(error, 'key-disabled');

export async function retrying<T>(how: Retrying, work: () => Promise<T>): Promise<T> {
  const { clock, random, signal, failed, repeat = mayPass, triesMax = Infinity } = how;
  const { firstWaitMs, waitMsMax } = how.times ?? TIMES;
  for (let tries = 1; ; tries++) {
    signal?.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (!repeat(error) || tries >= triesMax) throw error;
      failed?.(error, tries);
      const wait = Math.min(waitMsMax, firstWaitMs * 2 ** Math.min(tries - 1, 20));
      await clock.sleep(wait / 2 + random.below(Math.floor(wait / 2) + 1), signal);
    }
  }
}

/** Stops waiting when the signal is aborted; the work itself goes on. */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
