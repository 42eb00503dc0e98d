// What a timeline holds of one key up to an LSN: every value that a read would need, with the layer it lies in, newest
// first, down to the base. Found layer by layer, without the engine's read path: the one judges the other. A layer
// that cannot be read is named, and the walk goes on.

import { packKey } from '../key.ts';
import { Block } from '../layers/block.ts';
import type { LayerDesc } from '../layers/layer.ts';
import { isDense, rangeEnd, rangeStart } from '../layers/layer.ts';
import type { LayerFile } from '../layers/layer-file.ts';
import { isBase } from '../value.ts';
import { ValueList } from '../value-list.ts';
import type { StoredTimeline } from './stored-timeline.ts';

export interface ChainValue {
  readonly lsn: number;
  readonly kind: number;
  /** Which of its record's blocks the key is. */
  readonly blockId: number;
  readonly bytes: Uint8Array;
  readonly layer: string;
  /** The timeline that has the layer. */
  readonly timeline: string;
}

export interface Chain {
  /** Newest first; the last one is the base, if there is one. */
  readonly values: readonly ChainValue[];
  readonly complete: boolean;
  readonly problems: readonly string[];
}

/** Values of one key in one layer, newest first. */
export async function valuesIn(file: LayerFile, rel: number, blk: number, lsn: number): Promise<ValueList> {
  const values = new ValueList();
  values.reset(-1);
  const { index } = file;
  for (let block = index.lastBefore(rel, blk, lsn + 1); block >= 0; block--) {
    const raw = file.rawOf(block, await file.readStored(block, block), block);
    const done = new Block(raw, file.desc.name).get(rel, blk, lsn + 1, values);
    if (done || !index.beginsWith(block, rel, blk)) break;
  }
  return values;
}

/** Where the search stands: what was found, and below what nothing counts. */
interface Search {
  readonly rel: number;
  readonly blk: number;
  readonly values: (ChainValue & { readonly fromImage: boolean })[];
  readonly problems: string[];
  /** A dense image without the key says that nothing was there. */
  nothingUpTo: number;
}

export async function chainOf(
  timeline: StoredTimeline,
  rel: number,
  blk: number,
  lsn: number,
): Promise<Chain> {
  const search: Search = { rel, blk, values: [], problems: [], nothingUpTo: -1 };
  let upTo = lsn;
  for (let at: StoredTimeline | undefined = timeline; at; at = at.ancestor) {
    const complete = await gather(at, upTo, search);
    if (complete) break;
    upTo = Math.min(upTo, at.ancestorLsn);
  }
  const counting = search.values.filter(value => value.lsn > search.nothingUpTo);
  // Within one LSN the log's order is there already; an image says what all edits of its LSN made.
  counting.sort((a, b) => b.lsn - a.lsn || Number(b.fromImage) - Number(a.fromImage));
  const base = counting.findIndex(({ kind }) => isBase(kind));
  const values = base < 0 ? counting : counting.slice(0, base + 1);
  return { values, complete: base >= 0 || search.nothingUpTo >= 0, problems: search.problems };
}

/** Adds what this timeline has; whether nothing of its ancestors is needed. */
async function gather(timeline: StoredTimeline, lsn: number, search: Search): Promise<boolean> {
  const { rel, blk, problems } = search;
  let complete = false;
  for (const desc of timeline.layers()) {
    if (desc.lsnStart > lsn || !covers(desc, rel, blk)) continue;
    try {
      const file = await timeline.openLayer(desc.name);
      try {
        const found = await valuesIn(file, rel, blk, lsn);
        if (isDense(desc) && found.count === 0)
          search.nothingUpTo = Math.max(search.nothingUpTo, desc.lsnStart);
        complete ||= isDense(desc) || found.complete;
        keep(found, desc, timeline, search);
      } finally {
        await file.close();
      }
    } catch (error) {
      problems.push((error as Error).message);
    }
  }
  return complete;
}

function keep(found: ValueList, desc: LayerDesc, timeline: StoredTimeline, { values }: Search): void {
  for (let i = 0; i < found.count; i++) {
    const from = found.offset[i]!;
    values.push({
      lsn: found.lsn[i]!,
      kind: found.kind[i]!,
      blockId: found.blockId[i]!,
      bytes: found.bytes[i]!.slice(from, from + found.length[i]!),
      layer: desc.name,
      timeline: timeline.name.timeline,
      fromImage: desc.kind === 'image',
    });
  }
}

const covers = ({ keys }: LayerDesc, rel: number, blk: number): boolean => {
  const key = packKey(rel, blk);
  return key >= rangeStart(keys) && key < rangeEnd(keys);
};
