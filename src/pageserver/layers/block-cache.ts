// Raw blocks of layers, kept while there is room, and the reads that bring them.
//
// Blocks that are asked for before the next turn of the event loop's microtasks are fetched together: those of one
// layer that lie side by side (or nearly so) in one read. A batch of page requests plans all its look-ups first, so
// neighbours cost one trip. A block under way is not asked for twice.
//
// Two generations bound the memory: a block found in the old one moves to the young one; when the young one has
// half of `blockCacheBytesMax`, it becomes the old one and the old one is dropped.

import { Block } from './block.ts';
import type { LayerFile } from './layer-file.ts';
import type { Layer } from './open-layers.ts';

/** Blocks this near to each other are read in one go: what lies between costs less than a second read. */
const GAP_BYTES = 16 * 1024;
const READ_BYTES_MAX = 512 * 1024;
const BLOCKS_MAX = 2 ** 26;

interface Wanted {
  readonly block: number;
  readonly resolve: (block: Block) => void;
  readonly reject: (error: unknown) => void;
}

export class BlockCache {
  private readonly bytesMax: number;
  private young = new Map<number, Block>();
  private old = new Map<number, Block>();
  private youngBytes = 0;
  private readonly underWay = new Map<number, Promise<Block>>();
  private wanted = new Map<Layer, Wanted[]>();
  hits = 0;
  misses = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  get(layer: Layer, block: number): Block | undefined {
    const key = layer.uid * BLOCKS_MAX + block;
    let found = this.young.get(key);
    if (found === undefined) {
      found = this.old.get(key);
      if (found === undefined) return undefined;
      this.keep(key, found);
    }
    this.hits++;
    return found;
  }

  /** A block of a pinned, open layer that is not in the cache. */
  fetch(layer: Layer, block: number): Promise<Block> {
    const key = layer.uid * BLOCKS_MAX + block;
    let coming = this.underWay.get(key);
    if (coming) return coming;
    this.misses++;
    coming = new Promise<Block>((resolve, reject) => {
      const list = this.wanted.get(layer);
      if (list) list.push({ block, resolve, reject });
      else this.wanted.set(layer, [{ block, resolve, reject }]);
    });
    this.underWay.set(key, coming);
    if (this.wanted.size === 1 && this.wanted.get(layer)!.length === 1)
      void Promise.resolve().then(() => this.dispatch());
    return coming;
  }

  private dispatch(): void {
    const { wanted } = this;
    this.wanted = new Map();
    for (const [layer, list] of wanted) {
      list.sort((a, b) => a.block - b.block);
      const { offset } = layer.file!.index;
      for (let from = 0; from < list.length; ) {
        const start = offset[list[from]!.block]!;
        let to = from + 1;
        while (
          to < list.length &&
          offset[list[to]!.block]! - offset[list[to - 1]!.block + 1]! <= GAP_BYTES &&
          offset[list[to]!.block + 1]! - start <= READ_BYTES_MAX
        ) {
          to++;
        }
        void this.read(layer, layer.file!, list.slice(from, to));
        from = to;
      }
    }
  }

  private async read(layer: Layer, file: LayerFile, list: readonly Wanted[]): Promise<void> {
    const first = list[0]!.block;
    let done = 0;
    try {
      const stored = await file.readStored(first, list[list.length - 1]!.block);
      for (; done < list.length; done++) {
        const { block, resolve } = list[done]!;
        const key = layer.uid * BLOCKS_MAX + block;
        const made = new Block(file.rawOf(block, stored, first), file.desc.name);
        this.keep(key, made);
        this.underWay.delete(key);
        resolve(made);
      }
    } catch (error) {
      if (list.length > 1) {
        // One of them is damaged: the others are to be had by themselves.
        for (const one of list.slice(done)) void this.read(layer, file, [one]);
        return;
      }
      for (; done < list.length; done++) {
        this.underWay.delete(layer.uid * BLOCKS_MAX + list[done]!.block);
        list[done]!.reject(error);
      }
    }
  }

  private keep(key: number, block: Block): void {
    this.young.set(key, block);
    this.youngBytes += block.bytes.length;
    if (this.youngBytes * 2 < this.bytesMax) return;
    this.old = this.young;
    this.young = new Map();
    this.youngBytes = 0;
  }
}
