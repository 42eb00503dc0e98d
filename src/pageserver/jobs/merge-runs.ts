// Several runs of sorted blocks, walked together key by key: the heart of compaction, of image creation and of
// scans. A run is the blocks of one layer that hold keys of a range; blocks are unpacked as the walk reaches them.

import { type KeyRange, packKey } from '../key.ts';
import type { Block } from '../layers/block.ts';
import { rangeEnd, rangeStart } from '../layers/layer.ts';
import type { ValueSink, ValueVisitor } from '../value.ts';

/** A source of values in key order. */
export interface Run {
  /** The key at hand, packed; Infinity at the end. */
  readonly key: number;
  /** Values of the key at hand, oldest first. */
  visit(visitor: ValueVisitor): void;
  /** Values of the key at hand below an LSN, newest first, until the sink has enough; whether it had. */
  get(lsnEnd: number, sink: ValueSink): boolean;
  next(): void;
}

export class BlockRun implements Run {
  key = Infinity;
  private readonly count: number;
  private readonly load: (block: number) => Block;
  private readonly end: number;
  /** Blocks that hold the key at hand, from the first to the last; the key's place in each. */
  private blocks: Block[] = [];
  private places: number[] = [];
  private at = 0;
  private current: Block | undefined;
  private place = 0;

  /** `load` gives block 0 to `count` - 1, once each, in order. */
  constructor(count: number, load: (block: number) => Block, range: KeyRange) {
    this.count = count;
    this.load = load;
    this.end = rangeEnd(range);
    this.current = count > 0 ? load(0) : undefined;
    this.skipTo(rangeStart(range));
    this.next();
  }

  private skipTo(start: number): void {
    while (this.current) {
      this.place = this.current.lowerBound(Math.floor(start / 0x1_0000_0000), start % 0x1_0000_0000);
      if (this.place < this.current.keyCount) return;
      this.nextBlock();
    }
  }

  private nextBlock(): void {
    this.at++;
    this.place = 0;
    this.current = this.at < this.count ? this.load(this.at) : undefined;
  }

  next(): void {
    this.blocks.length = 0;
    this.places.length = 0;
    const { current } = this;
    const key = current ? packKey(current.relOf(this.place), current.blkOf(this.place)) : Infinity;
    if (key >= this.end) {
      this.key = Infinity;
      this.current = undefined;
      return;
    }
    this.key = key;
    // The key may go on in the blocks that follow, as the first of each.
    while (this.current) {
      const block = this.current;
      if (packKey(block.relOf(this.place), block.blkOf(this.place)) !== key) return;
      this.blocks.push(block);
      this.places.push(this.place);
      if (++this.place < block.keyCount) return;
      this.nextBlock();
    }
  }

  visit(visitor: ValueVisitor): void {
    for (let i = 0; i < this.blocks.length; i++) this.blocks[i]!.visitKey(this.places[i]!, visitor);
  }

  get(lsnEnd: number, sink: ValueSink): boolean {
    const rel = Math.floor(this.key / 0x1_0000_0000);
    const blk = this.key % 0x1_0000_0000;
    for (let i = this.blocks.length - 1; i >= 0; i--) {
      if (this.blocks[i]!.get(rel, blk, lsnEnd, sink)) return true;
    }
    return false;
  }
}

/** Walk all runs together: `each` sees a key and who has it, in the order of `runs`. */
export function walkKeys(
  runs: readonly Run[],
  each: (rel: number, blk: number, having: readonly Run[]) => void,
): void {
  const having: Run[] = [];
  for (;;) {
    let key = Infinity;
    for (const run of runs) if (run.key < key) key = run.key;
    if (key === Infinity) return;
    having.length = 0;
    for (const run of runs) if (run.key === key) having.push(run);
    each(Math.floor(key / 0x1_0000_0000), key % 0x1_0000_0000, having);
    for (const run of having) run.next();
  }
}
