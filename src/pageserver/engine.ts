// What the timelines of one process share: caches, the worker pool, limits, the clock. Made once by the
// composition root (or a test) and handed to every Timeline.

import { Semaphore } from '../base/flow.ts';
import { HistogramCell } from '../base/metrics.ts';
import type { Clock, Log, Pool, Random } from '../base/ports.ts';
import { SpareBuffers } from '../base/spare-buffers.ts';
import type { EngineSettings } from './engine-settings.ts';
import { BlockCache } from './layers/block-cache.ts';
import { OpenLayers } from './layers/open-layers.ts';
import { PageCache } from './page-cache.ts';
import type { Timeline } from './timeline/timeline.ts';

export interface EnginePorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly pool: Pool;
  readonly log: Log;
}

const FLUSHES_MAX = 2;
/** A memory layer that was flushed, one on its way, and what that is handed over in. */
const SPARE_BYTES_MAX = 256 * 1024 * 1024;
export const DELTA_COUNTS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

export class Engine {
  readonly settings: EngineSettings;
  readonly clock: Clock;
  readonly random: Random;
  readonly pool: Pool;
  readonly log: Log;
  readonly pages: PageCache;
  readonly blocks: BlockCache;
  readonly openLayers: OpenLayers;
  /** Memory layers on their way to the disk are there twice or thrice: few at a time. */
  readonly flushes = new Semaphore(FLUSHES_MAX);
  /** Of memory layers that were flushed, for those that come. */
  readonly spares = new SpareBuffers(SPARE_BYTES_MAX);
  /** Records redone for a page that was read, for metrics. */
  readonly deltasPerRead = new HistogramCell(DELTA_COUNTS);
  /** Memory layers of all timelines, open and frozen. */
  memoryBytes = 0;
  readonly timelines = new Set<Timeline>();

  constructor(settings: EngineSettings, ports: EnginePorts) {
    this.settings = settings;
    this.clock = ports.clock;
    this.random = ports.random;
    this.pool = ports.pool;
    this.log = ports.log;
    this.pages = new PageCache(settings.pageCachePages);
    this.blocks = new BlockCache(settings.blockCacheBytesMax);
    this.openLayers = new OpenLayers(settings, () => ports.clock.now());
  }

  /** Too much memory is in use: the timeline with the largest open layer writes it out. */
  relieveMemory(): void {
    let largest: Timeline | undefined;
    for (const timeline of this.timelines) {
      if (timeline.state.frozen.length > 0) timeline.flushSoon();
      else if (timeline.state.open.bytes > (largest?.state.open.bytes ?? 0)) largest = timeline;
    }
    largest?.flushSoon();
  }
}
