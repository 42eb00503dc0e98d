// Memory onto the disk: the open layer is frozen between two batches of records, and frozen layers are written as
// layers of level 0, oldest first, one at a time. What is frozen stays readable until its layer is in the state.
//
//   freeze    open -> frozen, a new open one          synchronous, only where every value was advanced over
//   flush     frozen[0] -> pool -> file, durable -> state: layer in, frozen out, disk-consistent LSN up
//
// A full disk or a lost pool is waited out; the memory limit then holds the writer back.

import { giveBackBuffer } from '../../base/bytes.ts';
import { isFault } from '../../base/fault.ts';
import { turn } from '../../base/flow.ts';
import { formatLsn } from '../../base/lsn.ts';
import { packMemoryLayer } from '../jobs/flush.ts';
import { ALL_KEYS } from '../key.ts';
import { describeLayer, type LayerIdentity } from '../layers/layer-name.ts';
import { MemoryLayer } from '../layers/memory-layer.ts';
import type { Layer } from '../layers/open-layers.ts';
import { writePieces } from './layer-output.ts';
import type { Timeline } from './timeline.ts';

const RETRY_MS = 1000;

export class Flusher {
  private readonly timeline: Timeline;
  private flushing: Promise<void> | undefined;
  /** Asked for while values were put that no advance had covered yet. */
  private freezeWanted: (() => void)[] = [];
  /** Frozen after so much WAL; of the clock, when the open layer got its first value. */
  private openedMs: number | undefined;

  constructor(timeline: Timeline) {
    this.timeline = timeline;
  }

  /** After every advance: is the open layer large or old enough? */
  advanced(): void {
    const { timeline } = this;
    if (this.freezeWanted.length > 0) {
      this.freeze();
      for (const wake of this.freezeWanted.splice(0)) wake();
    }
    const { settings } = timeline;
    const { clock } = timeline.engine;
    if (!settings.background || timeline.store === undefined) return;
    const { open, lastRecordLsn } = timeline.state;
    if (open.entries > 0) this.openedMs ??= clock.monotonic();
    const isFull =
      open.bytes >= settings.memoryLayerBytesMax ||
      lastRecordLsn - open.lsnStart >= settings.checkpointDistance;
    const isDue =
      isFull ||
      (this.openedMs !== undefined && clock.monotonic() - this.openedMs >= settings.checkpointTimeoutMs);
    if (isDue && this.freeze(isFull)) this.start();
  }

  /**
   * The open layer becomes a frozen one; false when it may not be, or there is nothing new. `full`: it has grown
   * to its limit, and so will the next.
   */
  freeze(full = false): boolean {
    const { timeline } = this;
    const { state } = timeline;
    const { open, lastRecordLsn, prevRecordLsn } = state;
    if (timeline.isMidway || lastRecordLsn < open.lsnStart) return false;
    open.freeze(lastRecordLsn + 1, prevRecordLsn);
    this.openedMs = undefined;
    const { spares } = timeline.engine;
    if (!full) spares.drop();
    const next = new MemoryLayer(lastRecordLsn + 1, { like: full ? open : undefined, spares });
    timeline.change({ open: next, frozen: [...state.frozen, open] });
    return true;
  }

  /** Everything up to the last record is on disk when it resolves. */
  async freezeAndFlush(): Promise<void> {
    if (this.timeline.isMidway) await new Promise<void>(resolve => this.freezeWanted.push(resolve));
    else this.freeze();
    this.timeline.checkAlive();
    const target = this.timeline.state.open.lsnStart - 1;
    while (this.timeline.state.diskConsistentLsn < target) await this.flushNow();
  }

  /** In the background; troubles that pass are waited out, others stop the timeline. */
  start(): void {
    if (this.flushing) return;
    void this.flushPatiently();
  }

  private async flushPatiently(): Promise<void> {
    const { timeline } = this;
    const { engine } = timeline;
    while (timeline.state.frozen.length > 0 && timeline.isAlive) {
      try {
        await this.flushNow();
      } catch (error) {
        if (!isFault(error)) {
          timeline.fail(error as Error);
          return;
        }
        engine.log.warn('flush failed, tried again', { timeline: timeline.id, error });
        await engine.clock.sleep(RETRY_MS);
      }
    }
  }

  /** All that is frozen now. One flush at a time: later callers wait for the one under way. */
  private flushNow(): Promise<void> {
    this.flushing ??= this.flushAll().finally(() => {
      this.flushing = undefined;
    });
    return this.flushing;
  }

  private async flushAll(): Promise<void> {
    const { timeline } = this;
    for (let next = timeline.state.frozen[0]; next !== undefined; next = timeline.state.frozen[0]) {
      await this.flushOne(next);
      timeline.flushed();
    }
  }

  /** Nothing is advanced over any more: who waits for it need not. */
  stop(): void {
    for (const wake of this.freezeWanted.splice(0)) wake();
  }

  /** When what is under way has ended, well or not. */
  async idle(): Promise<void> {
    await this.flushing?.catch(() => undefined);
  }

  private async flushOne(memory: MemoryLayer): Promise<void> {
    const { timeline } = this;
    timeline.checkAlive();
    const layer =
      memory.entries === 0 ? undefined : await timeline.engine.flushes.run(() => this.write(memory));
    if (!timeline.isAlive && layer !== undefined) {
      timeline.engine.openLayers.retire(layer);
      await timeline.storeOrThrow().discard(layer.desc.name);
    }
    timeline.checkAlive();
    const { state } = timeline;
    timeline.change({
      frozen: state.frozen.slice(1),
      layers: layer === undefined ? state.layers : state.layers.edited([layer]),
      diskConsistentLsn: memory.lsnEnd - 1,
      diskConsistentPrev: memory.lastPrev,
    });
    memory.release();
    timeline.storeOrThrow().changed({ added: layer === undefined ? [] : [layer.desc], removed: [] });
  }

  private async write(memory: MemoryLayer): Promise<Layer> {
    const { engine } = this.timeline;
    const store = this.timeline.storeOrThrow();
    const identity: LayerIdentity = {
      kind: 'delta',
      sparse: false,
      keys: ALL_KEYS,
      lsnStart: memory.lsnStart,
      lsnEnd: memory.lsnEnd,
      generation: store.generation,
    };
    const { clock, spares } = engine;
    const input = await packMemoryLayer(memory, identity, () => turn(clock), spares);
    const file = await engine.pool.run('flush', input, spare => spares.giveBack(spare));
    const desc = describeLayer(identity, engine.random.below(0x1_0000_0000), file.length);
    const writer = await store.create(desc.name);
    try {
      await writePieces(writer, file);
      giveBackBuffer(file);
      await writer.finish();
    } catch (error) {
      await writer.abort().catch(() => undefined);
      throw error;
    }
    engine.log.debug('flushed', {
      timeline: this.timeline.id,
      layer: desc.name,
      bytes: desc.bytes,
      lsn: formatLsn(memory.lsnEnd - 1),
    });
    return this.timeline.writtenLayer(desc);
  }
}
