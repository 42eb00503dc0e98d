// Reads of one key: pages through the page cache, plain bytes without it.
//
//   page cache -> values since (key-read.ts) -> redo (reconstruct.ts) -> page cache
//
// A read whose values are all at hand is synchronous: no promise is made for it. Others are started together by
// their caller and waited for together, so that a batch waits for the disk once.
//
// A layer that is gone (a compaction took its place while we read) sends the read back to the start, with the
// timeline's state as it is now. One that does not prove right is put aside by the store, and tried once more.

import { isFault } from '../../base/fault.ts';
import { BLCKSZ, newPage } from '../../xlog/page.ts';
import type { Engine } from '../engine.ts';
import type { PageRedo } from '../reconstruct.ts';
import { Reconstructor } from '../reconstruct.ts';
import { VALUE_IMAGE } from '../value.ts';
import { KeyRead, LayerTrouble } from './key-read.ts';
import { withMemory } from './pin-memory.ts';
import type { Timeline } from './timeline.ts';

/** Times that layers may vanish under one read: each needs a compaction. */
const RESTARTS_MAX = 20;

export class Reader {
  private readonly engine: Engine;
  private readonly reconstructor: Reconstructor;
  private readonly idle: KeyRead[] = [];
  private readonly scratch = newPage();

  constructor(engine: Engine, redo: PageRedo) {
    this.engine = engine;
    this.reconstructor = new Reconstructor(redo);
  }

  /** Chains met that had edits and no base (reconstruct.ts). */
  get baseless(): number {
    return this.reconstructor.baseless;
  }

  /** The page at `lsn`, written to `into` at `at`; a promise only if something has to be waited for. */
  page(
    timeline: Timeline,
    rel: number,
    blk: number,
    lsn: number,
    into: Uint8Array,
    at: number,
  ): Promise<void> | undefined {
    const floor = this.engine.pages.read(timeline.owner, rel, blk, lsn, into, at);
    if (floor === lsn) {
      this.engine.deltasPerRead.observe(0);
      return undefined;
    }
    const read = this.take();
    read.begin(timeline, rel, blk, lsn, floor);
    if (!read.run()) return this.pageLater(read, timeline, lsn, floor, into, at);
    this.make(read, timeline, lsn, floor, into, at);
    return undefined;
  }

  private async pageLater(
    read: KeyRead,
    timeline: Timeline,
    lsn: number,
    floor: number,
    into: Uint8Array,
    at: number,
  ): Promise<void> {
    await withMemory(timeline, lsn, async () => {
      await this.finish(read, timeline, lsn, floor);
      this.make(read, timeline, lsn, floor, into, at);
    });
  }

  private make(
    read: KeyRead,
    timeline: Timeline,
    lsn: number,
    floor: number,
    into: Uint8Array,
    at: number,
  ): void {
    const { pages } = this.engine;
    const { values, rel, blk } = read;
    const { scratch } = this;
    const hasImage = values.count > 0 && values.kind[values.count - 1] === VALUE_IMAGE;
    this.engine.deltasPerRead.observe(values.count - (hasImage ? 1 : 0));
    // What is not advanced over may still grow: it is not kept.
    const lasts = lsn <= timeline.state.lastRecordLsn;
    if (floor >= 0 && values.count === 0) {
      if (lasts) pages.confirm(timeline.owner, rel, blk, lsn, floor);
    } else {
      if (floor >= 0) scratch.bytes.set(into.subarray(at, at + BLCKSZ));
      this.reconstructor.page(values, scratch);
      into.set(scratch.bytes, at);
      if (lasts) pages.store(timeline.owner, rel, blk, lsn, scratch.bytes, 0);
    }
    this.give(read);
  }

  /** The newest plain bytes at or below `lsn`. */
  async bytes(timeline: Timeline, rel: number, blk: number, lsn: number): Promise<Uint8Array | undefined> {
    const read = this.take();
    read.begin(timeline, rel, blk, lsn, -1);
    const newest = (): Uint8Array | undefined => {
      const bytes = read.values.newest();
      this.give(read);
      return bytes;
    };
    if (read.run()) return newest();
    return withMemory(timeline, lsn, async () => {
      await this.finish(read, timeline, lsn, -1);
      return newest();
    });
  }

  private async finish(read: KeyRead, timeline: Timeline, lsn: number, floor: number): Promise<void> {
    const { rel, blk } = read;
    const distrusted = new Set<string>();
    for (let restarts = 0; ; restarts++) {
      try {
        return await read.finish();
      } catch (error) {
        if (!(error instanceof LayerTrouble)) throw error;
        if (restarts >= RESTARTS_MAX || !(await this.mend(error, distrusted))) throw error.cause;
      }
      read.begin(timeline, rel, blk, lsn, floor);
    }
  }

  /** Is it worth another try? */
  private async mend(trouble: LayerTrouble, distrusted: Set<string>): Promise<boolean> {
    const { layer, timeline, cause } = trouble;
    if (layer.retired) return true;
    const { name } = layer.desc;
    if (!isFault(cause) || cause.kind !== 'corrupt' || distrusted.has(name)) return false;
    distrusted.add(name);
    // Without another copy the read goes around it, as long as it finds what it needs in newer layers.
    return (await timeline.mend(cause)) || trouble.atOpen;
  }

  private take(): KeyRead {
    return this.idle.pop() ?? new KeyRead(this.engine.openLayers, this.engine.blocks);
  }

  private give(read: KeyRead): void {
    read.values.reset(-1);
    this.idle.push(read);
  }
}
