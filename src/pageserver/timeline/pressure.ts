// Back pressure on ingest: three limits with names. At one of them the writer waits, and the wait is counted; it
// goes on when a flush, a compaction or an upload has made room.
//
//   memory      memory layers of all timelines together        memoryBytesMax
//   l0          layers of level 0 of this timeline              l0CountMax
//   upload-lag  WAL flushed and not yet in the object store     uploadLagBytesMax
//
// Answers to: l0_flush_stall_threshold and the ephemeral-layer limits of Neon's pageserver.

import type { Timeline } from './timeline.ts';

export type Limit = 'memory' | 'l0' | 'upload-lag';

/** A limit shared with other timelines may free up without a word to this one. */
const LOOK_AGAIN_MS = 20;

export class Pressure {
  private readonly timeline: Timeline;
  /** What the writer is waiting for at the moment. */
  waitingFor: Limit | undefined;
  /** Waits that began, and the time they took, by limit. */
  readonly waits: Record<Limit, { count: number; ms: number }> = {
    memory: { count: 0, ms: 0 },
    l0: { count: 0, ms: 0 },
    'upload-lag': { count: 0, ms: 0 },
  };

  constructor(timeline: Timeline) {
    this.timeline = timeline;
  }

  /** The limit that is reached, if any. */
  limit(): Limit | undefined {
    const { engine, settings, state, uploads, damaged } = this.timeline;
    if (!settings.background) return undefined;
    if (engine.memoryBytes > engine.settings.memoryBytesMax) return 'memory';
    // Damaged layers stay where they are: they are not to be waited for.
    if (state.layers.l0.length - damaged.size >= settings.l0CountMax) return 'l0';
    const lag = state.diskConsistentLsn - state.remoteConsistentLsn;
    return uploads && lag > settings.uploadLagBytesMax ? 'upload-lag' : undefined;
  }

  async ready(signal?: AbortSignal): Promise<void> {
    const first = this.limit();
    if (first === undefined) return;
    const { clock } = this.timeline.engine;
    const start = clock.monotonic();
    this.waits[first].count++;
    try {
      for (let limit = this.limit(); limit !== undefined; limit = this.limit()) {
        this.waitingFor = limit;
        this.timeline.relieve(limit);
        await clock.sleep(LOOK_AGAIN_MS, signal);
        this.timeline.checkAlive();
      }
    } finally {
      this.waitingFor = undefined;
      this.waits[first].ms += clock.monotonic() - start;
    }
  }
}
