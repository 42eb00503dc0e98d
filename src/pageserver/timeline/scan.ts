// What every key of a range holds at an LSN, in key order: names, lengths, SLRUs, and copies of whole databases. The
// range is cut into parts; each part's blocks are fetched in parallel and then walked in one go.

import { isFault } from '../../base/fault.ts';
import { newPage } from '../../xlog/page.ts';
import { type ChainSource, walkChains } from '../jobs/chains.ts';
import { BlockRun, type Run } from '../jobs/merge-runs.ts';
import { isPageKey, type KeyRange } from '../key.ts';
import { Block, loadBlock } from '../layers/block.ts';
import { rangeEnd, rangeStart } from '../layers/layer.ts';
import type { LayerFile } from '../layers/layer-file.ts';
import type { MemoryLayer } from '../layers/memory-layer.ts';
import { Reconstructor } from '../reconstruct.ts';
import type { ValueSink, ValueVisitor } from '../value.ts';
import { cutRange, denseRange, gatherRange, type SourceLayer, sourcesOf, withOpen } from './gather.ts';
import { withMemory } from './pin-memory.ts';
import type { Timeline } from './timeline.ts';

/** The newest contents of each key of a range, in key order: bytes, or the page. Good only during the call. */
export type ScanVisit = (rel: number, blk: number, bytes: Uint8Array) => void;

/** Stored bytes walked in one go, which reads wait for; and those of one layer at least, for its blocks at either end are read twice. */
const PART_BYTES = 256 * 1024;
const PART_BYTES_OF_LAYER = 64 * 1024;
/** Compactions may take layers away under a scan; each time it begins anew where it stood. */
const RESTARTS_MAX = 20;

export async function scan(
  timeline: Timeline,
  range: KeyRange,
  lsn: number,
  visit: ScanVisit,
): Promise<void> {
  const reconstructor = new Reconstructor(timeline.redo);
  const page = newPage();
  let done = rangeStart(range);
  for (let restarts = 0; ; restarts++) {
    const left: KeyRange = { start: unpacked(done), end: range.end };
    if (done >= rangeEnd(range)) return;
    const memory = memoryOf(timeline, left, lsn);
    const sources = sourcesOf(timeline, left, lsn);
    const layers = sources.map(source => source.layer);
    const walk = async (files: readonly LayerFile[]): Promise<void> => {
      const partBytes = Math.max(PART_BYTES, PART_BYTES_OF_LAYER * files.length);
      for (const part of cutRange(files, left, partBytes)) {
        const chains = await chainsOf(memory, sources, files, part.range);
        walkChains(
          chains,
          () => true,
          (rel, blk, values) => {
            if (!isPageKey(rel, blk)) return visit(rel, blk, values.newest()!);
            reconstructor.page(values, page);
            visit(rel, blk, page.bytes);
          },
        );
        done = rangeEnd(part.range);
        await timeline.engine.clock.turn?.();
      }
    };
    try {
      await withMemory(timeline, lsn, () => withOpen(timeline.engine.openLayers, layers, walk));
      return;
    } catch (error) {
      if (!isFault(error) || restarts >= RESTARTS_MAX) throw error;
      // A layer that went out of the timeline may be gone from the disk as well.
      if (layers.some(layer => layer.retired)) continue;
      if (error.kind !== 'corrupt' || !(await timeline.mend(error))) throw error;
    }
  }
}

const unpacked = (key: number): { rel: number; blk: number } => ({
  rel: Math.floor(key / 0x1_0000_0000),
  blk: key % 0x1_0000_0000,
});

/** A memory layer, its keys of the whole range sorted once. */
interface MemorySource {
  readonly layer: MemoryLayer;
  readonly keys: Float64Array;
  readonly lsnEnd: number;
  /** How many generations up it is: its place among the layers. */
  readonly generation: number;
}

function memoryOf(timeline: Timeline, range: KeyRange, lsn: number): MemorySource[] {
  const found: MemorySource[] = [];
  let bound = lsn;
  let generation = 0;
  for (let at: Timeline | undefined = timeline; at !== undefined; at = at.ancestor, generation++) {
    for (const layer of [at.state.open, ...at.state.frozen.toReversed()]) {
      if (layer.lsnStart > bound || layer.entries === 0) continue;
      found.push({ layer, keys: layer.sortedKeys(range), lsnEnd: bound + 1, generation });
    }
    bound = Math.min(bound, at.ancestorLsn);
  }
  return found;
}

/** Memory of each generation before its layers, younger generations before their ancestors. */
async function chainsOf(
  memory: readonly MemorySource[],
  sources: readonly SourceLayer[],
  files: readonly LayerFile[],
  range: KeyRange,
): Promise<ChainSource[]> {
  const placed: { generation: number; source: ChainSource }[] = memory.map(
    ({ layer, keys, lsnEnd, generation }) => ({
      generation: generation - 0.5,
      source: { run: new MemoryRun(layer, keys, range), isImage: false, lsnEnd, dense: undefined },
    }),
  );
  const runs = await Promise.all(files.map(file => gatherRange(file, range)));
  runs.forEach(({ header, bytes }, i) => {
    const { layer, lsnEnd, generation } = sources[i]!;
    let offset = 0;
    const load = (block: number): Block => {
      const at = offset;
      offset += header.stored[block]!;
      return new Block(loadBlock(bytes.subarray(at, offset), header.name), header.name);
    };
    const run = new BlockRun(header.stored.length, load, range);
    const source = { run, isImage: layer.desc.kind === 'image', lsnEnd, dense: denseRange(layer.desc) };
    placed.push({ generation, source });
  });
  return placed.sort((a, b) => a.generation - b.generation).map(({ source }) => source);
}

class MemoryRun implements Run {
  key = Infinity;
  private readonly layer: MemoryLayer;
  private readonly keys: Float64Array;
  private readonly end: number;
  private at: number;

  constructor(layer: MemoryLayer, keys: Float64Array, range: KeyRange) {
    this.layer = layer;
    this.keys = keys;
    this.end = rangeEnd(range);
    const start = rangeStart(range);
    let low = 0;
    let high = keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (keys[middle]! < start) low = middle + 1;
      else high = middle;
    }
    this.at = low - 1;
    this.next();
  }

  next(): void {
    const key = this.keys[++this.at] ?? Infinity;
    this.key = key < this.end ? key : Infinity;
  }

  get(lsnEnd: number, sink: ValueSink): boolean {
    return this.layer.get(Math.floor(this.key / 0x1_0000_0000), this.key % 0x1_0000_0000, lsnEnd, sink);
  }

  visit(visitor: ValueVisitor): void {
    const { rel, blk } = unpacked(this.key);
    this.layer.scan({ start: { rel, blk }, end: unpacked(this.key + 1) }, 0, Infinity, visitor);
  }
}
