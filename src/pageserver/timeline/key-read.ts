// One look-up under way: the values of one key at one LSN, gathered from memory and layers of a timeline and then of
// its ancestors. All that is at hand is taken in one synchronous go; what is not is opened and fetched in parallel,
// and the walk goes on from where it stood.
//
//   level      a timeline, with the LSN up to which it counts      (the branch point, in an ancestor)
//   candidates layers over the key, newest first                   two sorted lists, merged on the way
//   survivors  candidates whose filter lets the key pass           each with the block to look in
//
// An image layer that has the key ends the search; a dense one ends it in any case: what it does not have was not
// there.

import type { Block } from '../layers/block.ts';
import type { BlockCache } from '../layers/block-cache.ts';
import { hashKey, hashKey2 } from '../layers/key-hash.ts';
import { isDense } from '../layers/layer.ts';
import { newestFirst } from '../layers/layer-map.ts';
import type { Layer, OpenLayers } from '../layers/open-layers.ts';
import { ValueList } from '../value-list.ts';
import type { Timeline } from './timeline.ts';

/** Of a layer that is not open. */
const NO_BLOCK = -1;
/** Blocks asked for at once, at first and at most: what comes after a base was asked for in vain. */
const WAVE_FIRST = 6;
const WAVE_MAX = 48;

/** A layer could not be read: not even opened, or not one of its blocks. */
export class LayerTrouble extends Error {
  readonly layer: Layer;
  readonly timeline: Timeline;
  readonly atOpen: boolean;

  constructor(timeline: Timeline, layer: Layer, cause: unknown, atOpen: boolean) {
    super(`layer ${layer.desc.name}`, { cause });
    this.timeline = timeline;
    this.layer = layer;
    this.atOpen = atOpen;
  }
}

export class KeyRead {
  readonly values = new ValueList();
  rel = 0;
  blk = 0;
  private hash = 0;
  private hash2 = 0;
  private timeline!: Timeline;
  /** Values up to here count. */
  private lsn = 0;
  private readonly candidates: Layer[] = [];
  private selected = false;
  private readonly survivors: Layer[] = [];
  private readonly blocks: number[] = [];
  private next = 0;
  /** Candidates that cannot be opened and of which there is no other copy: an error only to who needs them. */
  private readonly unreadable = new Map<Layer, unknown>();
  /** A dense image is the last candidate: nothing older counts. */
  private ends = false;
  private readonly openLayers: OpenLayers;
  private readonly cache: BlockCache;

  constructor(openLayers: OpenLayers, cache: BlockCache) {
    this.openLayers = openLayers;
    this.cache = cache;
  }

  /** Begin; `floor` is the LSN of a page in hand, or -1. */
  begin(timeline: Timeline, rel: number, blk: number, lsn: number, floor: number): void {
    this.rel = rel;
    this.blk = blk;
    this.values.reset(floor);
    this.enter(timeline, lsn);
  }

  /** All that is at hand; false when something has to be waited for (`finish` does). */
  run(): boolean {
    for (;;) {
      if (this.values.complete) return true;
      if (!this.selected && !this.select()) return false;
      if (!this.walk()) return false;
      if (!this.descend()) return true;
    }
  }

  /** Wait for what is missing, and go on to the end. */
  async finish(): Promise<void> {
    while (!this.run()) await this.fetchMore();
  }

  private enter(timeline: Timeline, lsn: number): void {
    this.timeline = timeline;
    this.lsn = lsn;
    this.candidates.length = 0;
    this.survivors.length = 0;
    this.blocks.length = 0;
    this.next = 0;
    this.unreadable.clear();
    this.ends = false;
    this.selected = true;
    const { values, rel, blk } = this;
    const { open, frozen, layers } = timeline.state;
    if (open.get(rel, blk, lsn + 1, values)) return;
    for (let i = frozen.length - 1; i >= 0; i--) if (frozen[i]!.get(rel, blk, lsn + 1, values)) return;
    if (values.floor >= lsn) {
      values.complete = true;
      return;
    }
    this.line(layers.l0, layers.over(rel, blk));
    this.selected = this.candidates.length === 0;
  }

  /** The ancestor, as far as this timeline saw it; false when there is none, or no need. */
  private descend(): boolean {
    if (this.values.complete || this.ends) return false;
    const { ancestor, ancestorLsn } = this.timeline;
    if (ancestor === undefined) return false;
    this.enter(ancestor, Math.min(this.lsn, ancestorLsn));
    return true;
  }

  /** Merge two lists, newest first, into candidates: those that may have a value in (floor, lsn]. */
  private line(l0: readonly Layer[], placed: readonly Layer[]): void {
    const { candidates, lsn } = this;
    const { floor } = this.values;
    for (let i = 0, j = 0; i < l0.length || j < placed.length; ) {
      const a = l0[i];
      const b = placed[j];
      const layer = b === undefined || (a !== undefined && newestFirst(a, b) < 0) ? l0[i++]! : placed[j++]!;
      const { desc } = layer;
      if (desc.lsnStart > lsn) continue;
      // All that follows is older: if the page in hand includes this, it includes the rest.
      if (desc.lsnEnd - 1 <= floor) {
        this.ends = true;
        return;
      }
      candidates.push(layer);
      if (isDense(desc)) {
        this.ends = true;
        return;
      }
    }
  }

  /** Ask the filters; false when one is not open. */
  private select(): boolean {
    const { candidates, rel, blk, unreadable } = this;
    for (const layer of candidates) if (layer.file === undefined && !unreadable.has(layer)) return false;
    this.hash = hashKey(rel, blk);
    this.hash2 = hashKey2(rel, blk);
    for (const layer of candidates) {
      const { file } = layer;
      if (file === undefined) {
        this.survivors.push(layer);
        this.blocks.push(NO_BLOCK);
        continue;
      }
      this.openLayers.touch(layer);
      if (!file.filter.mayHave(this.hash, this.hash2)) continue;
      const block = file.index.lastBefore(rel, blk, this.lsn + 1);
      if (block < 0) continue;
      this.survivors.push(layer);
      this.blocks.push(block);
    }
    this.selected = true;
    return true;
  }

  /** Take in blocks as long as they are in the cache; false when one is not. */
  private walk(): boolean {
    const { survivors, blocks, values } = this;
    while (this.next < survivors.length && !values.complete) {
      const layer = survivors[this.next]!;
      if (blocks[this.next] === NO_BLOCK) throw this.isUnreadable(layer);
      const block = this.cache.get(layer, blocks[this.next]!);
      if (block === undefined) return false;
      this.take(layer, block);
    }
    return true;
  }

  /** The values of one block; the key may go on in the block before it. */
  private take(layer: Layer, block: Block): void {
    const { values, rel, blk, blocks, next } = this;
    values.fromImage = layer.desc.kind === 'image';
    const number = blocks[next]!;
    if (!block.get(rel, blk, this.lsn + 1, values) && number > 0) {
      // Open still: the caller pins it, or has not waited since it looked.
      if (layer.file!.index.beginsWith(number, rel, blk)) {
        blocks[next] = number - 1;
        return;
      }
    }
    this.next++;
  }

  private async fetchMore(): Promise<void> {
    const { candidates, openLayers, timeline } = this;
    for (const layer of candidates) openLayers.pin(layer);
    const pinned = candidates.slice();
    try {
      if (!this.selected) {
        await Promise.all(
          pinned.map(async layer => {
            if (layer.file === undefined)
              await openLayers.load(layer).catch(error => {
                if (!timeline.damaged.has(layer.desc.name))
                  throw new LayerTrouble(timeline, layer, error, true);
                this.unreadable.set(layer, error);
              });
          }),
        );
        if (!this.select()) return;
      }
      await this.fetchWaves();
    } finally {
      for (const layer of pinned) openLayers.release(layer);
    }
  }

  /** Blocks of the next survivors, in parallel; more at a time as it goes on. */
  private async fetchWaves(): Promise<void> {
    const { survivors, values, cache } = this;
    let width = WAVE_FIRST;
    while (this.next < survivors.length && !values.complete) {
      const asked: { layer: Layer; block: Block | Promise<Block> }[] = [];
      if (this.blocks[this.next] === NO_BLOCK) throw this.isUnreadable(survivors[this.next]!);
      for (let i = this.next; i < survivors.length && asked.length < width; i++) {
        const layer = survivors[i]!;
        if (this.blocks[i] === NO_BLOCK) break;
        asked.push({ layer, block: cache.get(layer, this.blocks[i]!) ?? this.fetch(layer, this.blocks[i]!) });
        if (layer.desc.kind === 'image') break;
      }
      // Every one is waited for, so that none fails unheard.
      const settled = await Promise.allSettled(asked.map(({ block }) => block));
      for (let i = 0; i < asked.length && !values.complete; i++) {
        const result = settled[i]!;
        if (result.status === 'rejected') throw result.reason;
        await this.takeAll(asked[i]!.layer, result.value);
      }
      width = Math.min(WAVE_MAX, width * 2);
    }
  }

  /** A block and those before it that go on with the key. */
  private async takeAll(layer: Layer, first: Block): Promise<void> {
    const at = this.next;
    let block = first;
    let ahead = 1;
    for (;;) {
      this.take(layer, block);
      if (this.next !== at || this.values.complete) return;
      // A chain over many blocks: ask for twice as many each time.
      const { index } = layer.file!;
      const number = this.blocks[at]!;
      ahead = Math.min(WAVE_MAX, ahead * 2);
      for (let b = number - 1; b > number - ahead && b >= 0; b--) {
        if (!index.beginsWith(b + 1, this.rel, this.blk)) break;
        if (this.cache.get(layer, b) === undefined) void this.fetch(layer, b).catch(() => undefined);
      }
      block = this.cache.get(layer, number) ?? (await this.fetch(layer, number));
    }
  }

  private isUnreadable(layer: Layer): LayerTrouble {
    return new LayerTrouble(this.timeline, layer, this.unreadable.get(layer), true);
  }

  private async fetch(layer: Layer, block: number): Promise<Block> {
    try {
      return await this.cache.fetch(layer, block);
    } catch (error) {
      throw new LayerTrouble(this.timeline, layer, error, false);
    }
  }
}
