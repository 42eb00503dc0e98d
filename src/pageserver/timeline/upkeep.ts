// Work that keeps a timeline quick, started by what happens to it and run one piece at a time: after a flush, level 0
// is merged when there is enough of it; after a merge, hot pages get images; now and then deep ranges do.
//
// `background` in the settings starts it by itself; the same pieces can be asked for by name.

import { isFault } from '../../base/fault.ts';
import type { LayerDesc } from '../layers/layer.ts';
import { planCompaction } from '../plan/compact.ts';
import {
  collectGarbage,
  compactLevel0,
  type GcResult,
  imageDeepRanges,
  imageHotPages,
} from './compaction.ts';
import type { Timeline } from './timeline.ts';

const RETRY_MS = 1000;

export interface CompactOptions {
  /** Merge whatever is in level 0, however little. */
  readonly forceLevel0?: boolean;
  /** Dense images over everything that has a delta. */
  readonly forceImages?: boolean;
}

export interface CompactOutcome {
  readonly merged: number;
  readonly hotPages: number;
  readonly denseLayers: number;
}

export class Upkeep {
  private readonly timeline: Timeline;
  /** The end of what is under way and waiting: pieces run one after the other. */
  private last: Promise<unknown> = Promise.resolve();
  private running = false;
  /** What came out over the timeline's life, for metrics. */
  readonly totals = { compactions: 0, mergedLayers: 0, hotPages: 0, denseLayers: 0, removedLayers: 0 };

  constructor(timeline: Timeline) {
    this.timeline = timeline;
  }

  compact(options: CompactOptions = {}): Promise<CompactOutcome> {
    return this.queue(async () => {
      const { totals } = this;
      const { merged, written } = await compactLevel0(this.timeline, options.forceLevel0 ?? false);
      const hotPages = await imageHotPages(this.timeline, written);
      const force = options.forceImages ?? false;
      const dense = merged > 0 || force ? await imageDeepRanges(this.timeline, force) : [];
      if (merged > 0) totals.compactions++;
      totals.mergedLayers += merged;
      totals.hotPages += hotPages;
      totals.denseLayers += dense.length;
      return { merged, hotPages, denseLayers: dense.length };
    });
  }

  gc(cutoff: number, retained: readonly number[]): Promise<GcResult> {
    return this.queue(async () => {
      const result = collectGarbage(this.timeline, cutoff, retained);
      this.totals.removedLayers += result.removed.length;
      return result;
    });
  }

  /** Compact until there is no more to do; troubles that pass are waited out. `force`: even if there is little. */
  start(force = false): void {
    if (this.running || !this.isDue(force)) return;
    this.running = true;
    void this.run(force).finally(() => {
      this.running = false;
    });
  }

  private isDue(force: boolean): boolean {
    const { settings, state, damaged } = this.timeline;
    const isDamaged = (desc: LayerDesc): boolean => damaged.has(desc.name);
    const l0 = state.layers.l0.map(layer => layer.desc);
    const limits = {
      threshold: force ? 1 : settings.compactionThreshold,
      upperLimit: settings.compactionUpperLimit,
    };
    return planCompaction(l0, limits, isDamaged) !== undefined;
  }

  private async run(force: boolean): Promise<void> {
    const { timeline } = this;
    const { engine } = timeline;
    for (let first = true; timeline.isAlive && this.isDue(force && first); first = false) {
      try {
        await this.compact({ forceLevel0: force && first });
      } catch (error) {
        if (!timeline.isAlive) return;
        if (!isFault(error)) {
          timeline.fail(error as Error);
          return;
        }
        engine.log.warn('compaction failed, tried again', { timeline: timeline.id, error });
        if (error.kind !== 'corrupt' || !(await timeline.mend(error))) await engine.clock.sleep(RETRY_MS);
      }
    }
  }

  private queue<T>(work: () => Promise<T>): Promise<T> {
    const done = this.last.then(() => {
      this.timeline.checkAlive();
      return work();
    });
    this.last = done.catch(() => undefined);
    return done;
  }

  /** When what is under way has ended. */
  async idle(): Promise<void> {
    await this.last;
  }
}
