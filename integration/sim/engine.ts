// An engine for tests: jobs run in place, chance from a seed, limits small enough that a few kilobytes meet them.

import type { Clock, Log, Random } from '../../src/base/ports.ts';
import { Engine } from '../../src/pageserver/engine.ts';
import { ENGINE_DEFAULTS, type EngineSettings } from '../../src/pageserver/engine-settings.ts';
import { inlinePool } from '../../src/pageserver/jobs.ts';
import { SimRandom } from './random.ts';

export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => silentLog,
};

/** Time that stands still, and sleeps of one turn: for tests in which nothing is a matter of time. */
export const stillClock: Clock = {
  now: () => 0,
  monotonic: () => 0,
  sleep: async (_ms, signal) => {
    await new Promise<void>(resolve => setImmediate(resolve));
    signal?.throwIfAborted();
  },
};

export const SMALL_ENGINE: EngineSettings = {
  ...ENGINE_DEFAULTS,
  checkpointDistance: 64 * 1024,
  memoryLayerBytesMax: 256 * 1024,
  compactionThreshold: 3,
  compactionUpperLimit: 6,
  compactionTargetSize: 64 * 1024,
  imageCreationThreshold: 4,
  imageLayersThreshold: 3,
  imageGarbageRatio: 0.2,
  imageLayersMax: 8,
  pageCachePages: 64,
  blockCacheBytesMax: 256 * 1024,
  openLayersMax: 6,
  openLayersBytesMax: 256 * 1024,
  background: false,
};

export interface SimEngineOptions {
  readonly settings?: Partial<EngineSettings>;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly log?: Log;
}

export const simEngine = (options: SimEngineOptions = {}): Engine =>
  new Engine(
    { ...SMALL_ENGINE, ...options.settings },
    {
      clock: options.clock ?? stillClock,
      random: options.random ?? new SimRandom(1),
      pool: inlinePool,
      log: options.log ?? silentLog,
    },
  );
