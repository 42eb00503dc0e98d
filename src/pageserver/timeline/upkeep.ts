// Work that keeps a timeline quick, one piece at a time, the most urgent first:
//
//   1. level 0 is merged when there is enough of it                       compaction.ts
//   2. a new layer of level 1 is looked through for hot pages             imaging.ts
//   3. a deep range gets a file of dense images                           imaging.ts
//
// `background` in the settings starts it after each flush; the same can be asked for by name, and then everything
// that is due is done. GC comes in between when it is called (collect.ts).

import { isFault } from '../../base/fault.ts';
import type { LayerDesc } from '../layers/layer.ts';
import type { Layer } from '../layers/open-layers.ts';
import { planCompaction } from '../plan/compact.ts';
import { collectGarbage, type GcResult } from './collect.ts';
import { compactLevel0 } from './compaction.ts';
import { type DeepTask, imageDeepRange, imageHotPages, planDeepRanges, uppermostDeltas } from './imaging.ts';
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
  /** Layers of level 1 that were looked through. */
  private readonly seen = new WeakSet<Layer>();
  /** Files of dense images that were found to be due. */
  private readonly deep: DeepTask[] = [];
  /** What came out over the timeline's life, for metrics. */
  readonly totals = { compactions: 0, mergedLayers: 0, hotPages: 0, denseLayers: 0, removedLayers: 0 };

  constructor(timeline: Timeline) {
    this.timeline = timeline;
  }

  /** Everything that is due, and what is asked for besides. */
  async compact(options: CompactOptions = {}): Promise<CompactOutcome> {
    const before = { ...this.totals };
    await this.queue(() => this.mergeLevel0(options.forceLevel0 ?? false));
    while (await this.queue(() => this.nextPiece(options.forceImages ?? false)));
    const { totals } = this;
    return {
      merged: totals.mergedLayers - before.mergedLayers,
      hotPages: totals.hotPages - before.hotPages,
      denseLayers: totals.denseLayers - before.denseLayers,
    };
  }

  gc(cutoff: number, retained: readonly number[]): Promise<GcResult> {
    return this.queue(async () => {
      const result = collectGarbage(this.timeline, cutoff, retained);
      this.totals.removedLayers += result.removed.length;
      return result;
    });
  }

  /** In the background, until nothing is due; troubles that pass are waited out. `force`: level 0 however little. */
  start(force = false): void {
    if (this.running) return;
    this.running = true;
    void this.run(force).finally(() => {
      this.running = false;
    });
  }

  private async run(force: boolean): Promise<void> {
    const { timeline } = this;
    const { engine } = timeline;
    for (let first = force; timeline.isAlive; first = false) {
      try {
        const did = await this.queue(() => (first ? this.mergeLevel0(true) : this.nextPiece(false)));
        if (!did && !first) return;
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

  /** The most urgent piece; false when nothing is due. */
  private async nextPiece(forceImages: boolean): Promise<boolean> {
    const { timeline, totals } = this;
    if (await this.mergeLevel0(false)) return true;
    const fresh = uppermostDeltas(timeline).find(layer => !this.seen.has(layer));
    if (fresh !== undefined) {
      totals.hotPages += await imageHotPages(timeline, fresh);
      this.seen.add(fresh);
      return true;
    }
    const task = this.deep.shift();
    if (task !== undefined) {
      totals.denseLayers += (await imageDeepRange(timeline, task)).length;
      return true;
    }
    // Planned anew once what was planned is done: nothing due then is the end.
    this.deep.push(...(await planDeepRanges(timeline, forceImages)));
    return this.deep.length > 0;
  }

  private async mergeLevel0(force: boolean): Promise<boolean> {
    const { totals } = this;
    const { merged } = await compactLevel0(this.timeline, force);
    if (merged > 0) totals.compactions++;
    totals.mergedLayers += merged;
    return merged > 0;
  }

  /** Is there enough in level 0, as far as it can be merged? */
  get isLevel0Due(): boolean {
    const { settings, state, damaged } = this.timeline;
    const l0: LayerDesc[] = state.layers.l0.map(layer => layer.desc);
    const limits = { threshold: settings.compactionThreshold, upperLimit: settings.compactionUpperLimit };
    return planCompaction(l0, limits, desc => damaged.has(desc.name)) !== undefined;
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
