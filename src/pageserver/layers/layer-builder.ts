// Values in order -> the bytes of a layer. A Section is a run of data blocks with what the index and the counts need
// to know of them; a layer is one Section (a flush) or many end to end (a compaction, each made by a job of its
// own). `layerTail` is what follows the last block.
//
// Values come by key, then by LSN, those of one key at one LSN as the log made them; a key is never split over
// two sections.

import { assert } from '../../base/assert.ts';
import { crc32c } from '../../xlog/crc32c.ts';
import { compareKeys } from '../key.ts';
import { isBase, type ValueVisitor } from '../value.ts';
import { BlockBuilder, storeBlock } from './block.ts';
import { KeyFilter } from './key-filter.ts';
import {
  BlockIndex,
  encodeCounts,
  encodeFooter,
  encodeIndex,
  FOOTER_BYTES,
  footerKind,
  KeyCounts,
  type SectionPlace,
} from './layer-format.ts';
import type { LayerIdentity } from './layer-name.ts';

export interface Section {
  readonly index: BlockIndex;
  readonly counts: KeyCounts;
  readonly valueCount: number;
  /** The stored blocks, end to end, in pieces. */
  readonly data: readonly Uint8Array[];
  readonly dataBytes: number;
}

export class SectionBuilder implements ValueVisitor {
  private readonly block: BlockBuilder;
  private readonly data: Uint8Array[] = [];
  private dataBytes = 0;
  private valueCount = 0;
  /** Columns of the index and of the counts, growing. */
  private readonly indexRows: number[] = [];
  private readonly countRel: number[] = [];
  private readonly countBlk: number[] = [];
  private readonly countEdits: number[] = [];
  private rel = -1;
  private blk = -1;
  private lsn = -1;

  private readonly compress: boolean;

  constructor(blockBytes: number, compress = true) {
    this.block = new BlockBuilder(blockBytes);
    this.compress = compress;
  }

  get isEmpty(): boolean {
    return this.valueCount === 0;
  }

  visit(
    rel: number,
    blk: number,
    lsn: number,
    kind: number,
    blockId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    if (rel !== this.rel || blk !== this.blk) this.beginKey(rel, blk);
    assert(lsn >= this.lsn, "a key's values come from the oldest to the newest");
    this.lsn = lsn;
    if (this.block.isFullFor(length)) this.endBlock();
    this.block.add(rel, blk, lsn, kind, blockId, bytes, offset, length);
    this.valueCount++;
    const last = this.countEdits.length - 1;
    if (isBase(kind)) this.countEdits[last] = 1;
    else this.countEdits[last]! += 2;
  }

  finish(): Section {
    if (!this.block.isEmpty) this.endBlock();
    const blocks = this.indexRows.length / 4;
    const index = new BlockIndex(blocks);
    for (let i = 0; i < blocks; i++) {
      index.rel[i] = this.indexRows[4 * i]!;
      index.blk[i] = this.indexRows[4 * i + 1]!;
      index.lsn[i] = this.indexRows[4 * i + 2]!;
      index.stored[i] = this.indexRows[4 * i + 3]!;
    }
    const counts = new KeyCounts(this.countRel.length);
    counts.rel.set(this.countRel);
    counts.blk.set(this.countBlk);
    counts.edits.set(this.countEdits);
    const { valueCount, data, dataBytes } = this;
    return { index: index.settle(), counts, valueCount, data, dataBytes };
  }

  private beginKey(rel: number, blk: number): void {
    assert(compareKeys(this.rel, this.blk, rel, blk) < 0, 'keys come in order');
    this.rel = rel;
    this.blk = blk;
    this.lsn = -1;
    this.countRel.push(rel);
    this.countBlk.push(blk);
    this.countEdits.push(0);
  }

  private endBlock(): void {
    const { block } = this;
    const { firstRel, firstBlk, firstLsn } = block;
    const stored = storeBlock(block.take(), this.compress);
    this.indexRows.push(firstRel, firstBlk, firstLsn, stored.length);
    this.data.push(stored);
    this.dataBytes += stored.length;
  }
}

/** What follows the data of these sections: counts, filter, index, footer. */
export function layerTail(
  layer: LayerIdentity,
  sections: readonly Pick<Section, 'index' | 'counts' | 'valueCount' | 'dataBytes'>[],
): Uint8Array {
  const index = joinIndexes(sections.map(s => s.index));
  const counts = joinCounts(sections.map(s => s.counts));
  const filter = KeyFilter.forKeys(counts.count);
  for (let i = 0; i < counts.count; i++) filter.add(counts.rel[i]!, counts.blk[i]!);
  const dataEnd = sections.reduce((sum, s) => sum + s.dataBytes, 0);
  const parts = [encodeCounts(counts), filter.bytes, encodeIndex(index)] as const;
  const places: SectionPlace[] = [];
  let at = dataEnd;
  for (const part of parts) {
    places.push({ offset: at, length: part.length, crc: crc32c(part) });
    at += part.length;
  }
  const footer = encodeFooter({
    kind: footerKind(layer),
    keys: layer.keys,
    lsnStart: layer.lsnStart,
    lsnEnd: layer.lsnEnd,
    blocks: index.count,
    keyCount: counts.count,
    valueCount: sections.reduce((sum, s) => sum + s.valueCount, 0),
    dataEnd,
    counts: places[0]!,
    filter: places[1]!,
    index: places[2]!,
  });
  const tail = new Uint8Array(at - dataEnd + FOOTER_BYTES);
  let filled = 0;
  for (const part of [...parts, footer]) {
    tail.set(part, filled);
    filled += part.length;
  }
  return tail;
}

function joinIndexes(indexes: readonly BlockIndex[]): BlockIndex {
  const joined = new BlockIndex(indexes.reduce((sum, index) => sum + index.count, 0));
  let at = 0;
  for (const index of indexes) {
    joined.rel.set(index.rel, at);
    joined.blk.set(index.blk, at);
    joined.lsn.set(index.lsn, at);
    joined.stored.set(index.stored, at);
    at += index.count;
  }
  return joined.settle();
}

function joinCounts(all: readonly KeyCounts[]): KeyCounts {
  const joined = new KeyCounts(all.reduce((sum, counts) => sum + counts.count, 0));
  let at = 0;
  for (const counts of all) {
    joined.rel.set(counts.rel, at);
    joined.blk.set(counts.blk, at);
    joined.edits.set(counts.edits, at);
    at += counts.count;
  }
  return joined;
}
