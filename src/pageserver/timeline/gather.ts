// The blocks of layers over a range of keys, brought together for a job: stored bytes as they are, unpacked where
// the job runs. And ranges cut into parts of a size that a job can hold.

import { giveBack } from '../../base/bytes.ts';
import type { RunHeader } from '../jobs/merge.ts';
import type { KeyRange } from '../key.ts';
import { unpackKey } from '../key.ts';
import { hashKey, hashKey2 } from '../layers/key-hash.ts';
import { isDense, type LayerDesc, rangeEnd, rangeStart } from '../layers/layer.ts';
import type { LayerFile } from '../layers/layer-file.ts';
import type { Layer, OpenLayers } from '../layers/open-layers.ts';
import type { Timeline } from './timeline.ts';

/** Read in one go: unsealing more would hold the event loop for longer than a read may wait. */
const READ_BYTES = 256 * 1024;

/** A layer, and the LSN from which on its values do not count (those past a branch point). */
export interface SourceLayer {
  readonly layer: Layer;
  readonly lsnEnd: number;
  /** 0 for the timeline's own, 1 for its parent's, and so on. */
  readonly generation: number;
}

/**
 * Every layer that a read at `lsn` of a key in `range` may need, newest first, ancestors' after: those older than
 * a dense image over the whole range are left out.
 */
export function sourcesOf(timeline: Timeline, range: KeyRange, lsn: number): SourceLayer[] {
  const sources: SourceLayer[] = [];
  let bound = lsn;
  let generation = 0;
  for (let at: Timeline | undefined = timeline; at !== undefined; at = at.ancestor, generation++) {
    const own = at.state.layers.overlapping(range).filter(layer => layer.desc.lsnStart <= bound);
    for (const layer of own) {
      sources.push({ layer, lsnEnd: Math.min(bound + 1, layer.desc.lsnEnd), generation });
      if (coversDensely(layer, range)) return sources;
    }
    bound = Math.min(bound, at.ancestorLsn);
  }
  return sources;
}

const coversDensely = ({ desc }: Layer, range: KeyRange): boolean =>
  desc.kind === 'image' &&
  !desc.sparse &&
  rangeStart(desc.keys) <= rangeStart(range) &&
  rangeEnd(desc.keys) >= rangeEnd(range);

/** Open all, run `work`, let go of them. */
export async function withOpen<T>(
  openLayers: OpenLayers,
  layers: readonly Layer[],
  work: (files: readonly LayerFile[]) => Promise<T>,
): Promise<T> {
  for (const layer of layers) openLayers.pin(layer);
  try {
    return await work(await Promise.all(layers.map(layer => openLayers.load(layer))));
  } finally {
    for (const layer of layers) openLayers.release(layer);
  }
}

export interface Part {
  readonly range: KeyRange;
  /** Stored bytes of the blocks that begin in it. */
  readonly bytes: number;
}

/** Blocks of one file are counted together up to this: a cut need not be exact. */
const GRAIN_BYTES_MAX = 1024 * 1024;

/** Cut a range where blocks begin, into parts of about `bytesPerPart` stored bytes over all files. */
export function cutRange(files: readonly LayerFile[], range: KeyRange, bytesPerPart: number): Part[] {
  const end = rangeEnd(range);
  const places: { key: number; bytes: number }[] = [];
  const grain = Math.min(GRAIN_BYTES_MAX, bytesPerPart / 16);
  for (const file of files) {
    const { index } = file;
    const { from, to } = file.blocksOf(range);
    for (let b = from; b < to; ) {
      const key = Math.max(index.rel[b]! * 0x1_0000_0000 + index.blk[b]!, rangeStart(range));
      let bytes = 0;
      while (b < to && bytes < grain) bytes += index.stored[b++]!;
      places.push({ key, bytes });
    }
  }
  places.sort((a, b) => a.key - b.key);
  const parts: Part[] = [];
  let start = rangeStart(range);
  let bytes = 0;
  for (const place of places) {
    if (bytes >= bytesPerPart && place.key > start) {
      parts.push({ range: { start: unpackKey(start), end: unpackKey(place.key) }, bytes });
      start = place.key;
      bytes = 0;
    }
    bytes += place.bytes;
  }
  if (start < end) parts.push({ range: { start: unpackKey(start), end: unpackKey(end) }, bytes });
  return parts;
}

export interface GatheredRun {
  readonly header: RunHeader;
  readonly bytes: Uint8Array;
}

/** The blocks of a file, by number and ascending, end to end. */
export async function gatherBlocks(file: LayerFile, blocks: readonly number[]): Promise<GatheredRun> {
  const { index, desc } = file;
  const stored = blocks.map(block => index.stored[block]!);
  const bytes = new Uint8Array(stored.reduce((sum, length) => sum + length, 0));
  let filled = 0;
  for (let i = 0; i < blocks.length; ) {
    let to = i + 1;
    const start = index.offset[blocks[i]!]!;
    while (
      to < blocks.length &&
      blocks[to] === blocks[to - 1]! + 1 &&
      index.offset[blocks[to]! + 1]! - start <= READ_BYTES
    ) {
      to++;
    }
    const part = await file.readStored(blocks[i]!, blocks[to - 1]!);
    bytes.set(part, filled);
    filled += part.length;
    giveBack(part);
    i = to;
  }
  return { header: { name: desc.name, stored }, bytes };
}

/** The blocks of a file that may hold keys of a range. */
export function gatherRange(file: LayerFile, range: KeyRange): Promise<GatheredRun> {
  const { from, to } = file.blocksOf(range);
  return gatherBlocks(
    file,
    Array.from({ length: to - from }, (_, i) => from + i),
  );
}

/** The blocks of a file that may hold the given keys (packed, ascending). */
export function blocksForKeys(file: LayerFile, keys: Float64Array): number[] {
  const { index, filter } = file;
  const blocks: number[] = [];
  let first = 0;
  for (const key of keys) {
    const rel = Math.floor(key / 0x1_0000_0000);
    const blk = key % 0x1_0000_0000;
    if (!filter.mayHave(hashKey(rel, blk), hashKey2(rel, blk))) continue;
    first = Math.max(first, index.lastBefore(rel, blk, 0, first));
    for (let b = first; b === first || index.beginsWith(b, rel, blk); b++) {
      if (blocks.length === 0 || blocks[blocks.length - 1]! < b) blocks.push(b);
    }
  }
  return blocks;
}

/** The packed range of a dense image. */
export const denseRange = (desc: LayerDesc): { start: number; end: number } | undefined =>
  isDense(desc) ? { start: rangeStart(desc.keys), end: rangeEnd(desc.keys) } : undefined;
