// Which layers a timeline has, and which of them may know a key: an immutable value. An edit gives a new map.
//
// Level 0 covers every key and is a list of its own. The others (level 1 and images) are found by key: the ends
// of their ranges cut the key space into segments, and each segment lists the layers over it, by their LSN ends from
// the newest on (at one end a dense image comes first, then a sparse one: they include what a delta says). A look-up
// is one binary search. The segments are made when first asked for: a change of level 0 alone keeps them.
//
//            key ->
//   LSN  L1 |=======d=======|=====e=====|        segments:   [ d ][ d c ][ e c ][ e ]  ...
//    ^      |    |====c=====|====|               each newest first

import { assert } from '../../base/assert.ts';
import { type KeyRange, packKey } from '../key.ts';
import { overlaps, rangeEnd, rangeStart } from './layer.ts';
import type { Layer } from './open-layers.ts';

const NONE: readonly Layer[] = [];

/** Of layers that end at one LSN: a dense image says it all, a sparse one more than a delta. */
const rank = ({ desc }: Layer): number => (desc.kind === 'delta' ? 2 : desc.sparse ? 1 : 0);

/** The newest first. */
export const newestFirst = (a: Layer, b: Layer): number =>
  b.desc.lsnEnd - a.desc.lsnEnd ||
  rank(a) - rank(b) ||
  b.desc.lsnStart - a.desc.lsnStart ||
  (a.desc.name < b.desc.name ? -1 : 1);

interface Segments {
  /** Where each begins; the last one begins where nothing is any more. */
  readonly starts: Float64Array;
  readonly lists: readonly (readonly Layer[])[];
}

export class LayerMap {
  /** Newest first. */
  readonly l0: readonly Layer[];
  /** Level 1 and images, in no order that matters. */
  readonly placed: readonly Layer[];
  private readonly byName: ReadonlyMap<string, Layer>;
  private segments: Segments | undefined;

  private constructor(l0: readonly Layer[], placed: readonly Layer[], segments: Segments | undefined) {
    this.l0 = l0;
    this.placed = placed;
    this.segments = segments;
    this.byName = new Map([...l0, ...placed].map(layer => [layer.desc.name, layer]));
    assert(this.byName.size === l0.length + placed.length, 'two layers have one name');
  }

  static readonly EMPTY = new LayerMap([], [], undefined);

  get size(): number {
    return this.byName.size;
  }

  get(name: string): Layer | undefined {
    return this.byName.get(name);
  }

  all(): Iterable<Layer> {
    return this.byName.values();
  }

  /** The map without `removed` and with `added`. */
  edited(added: readonly Layer[], removed: readonly Layer[] = []): LayerMap {
    const gone = new Set(removed);
    for (const layer of removed)
      assert(this.byName.get(layer.desc.name) === layer, 'a layer is removed once');
    const l0 = this.l0
      .filter(layer => !gone.has(layer))
      .concat(added.filter(layer => layer.desc.isL0))
      .sort(newestFirst);
    const samePlaced = [...added, ...removed].every(layer => layer.desc.isL0);
    if (samePlaced) return new LayerMap(l0, this.placed, this.segments);
    const placed = this.placed
      .filter(layer => !gone.has(layer))
      .concat(added.filter(layer => !layer.desc.isL0));
    return new LayerMap(l0, placed, undefined);
  }

  /** The placed layers over a key, newest first. */
  over(rel: number, blk: number): readonly Layer[] {
    if (this.placed.length === 0) return NONE;
    const { starts, lists } = (this.segments ??= cut(this.placed));
    const key = packKey(rel, blk);
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (starts[middle]! <= key) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? NONE : lists[low - 1]!;
  }

  /** Every layer that overlaps a range of keys, level 0 too, newest first. */
  overlapping(range: KeyRange): Layer[] {
    return [...this.all()].filter(layer => overlaps(layer.desc.keys, range)).sort(newestFirst);
  }

  /** The segments of the placed layers, in key order, for plans and pictures. */
  *stacks(): Iterable<{ start: number; end: number; layers: readonly Layer[] }> {
    if (this.placed.length === 0) return;
    const { starts, lists } = (this.segments ??= cut(this.placed));
    for (let i = 0; i + 1 < starts.length; i++)
      yield { start: starts[i]!, end: starts[i + 1]!, layers: lists[i]! };
  }
}

/** A sweep over the key space: at each end of a range the list of layers changes. */
function cut(placed: readonly Layer[]): Segments {
  const opening = new Map<number, Layer[]>();
  const closing = new Map<number, Set<Layer>>();
  for (const layer of placed) {
    const start = rangeStart(layer.desc.keys);
    const end = rangeEnd(layer.desc.keys);
    assert(start < end, 'a layer has a range of keys');
    const opens = opening.get(start);
    if (opens) opens.push(layer);
    else opening.set(start, [layer]);
    const closes = closing.get(end);
    if (closes) closes.add(layer);
    else closing.set(end, new Set([layer]));
  }
  const starts = Float64Array.from(new Set([...opening.keys(), ...closing.keys()])).sort();
  const lists: (readonly Layer[])[] = [];
  let active: readonly Layer[] = NONE;
  for (const start of starts) {
    const closes = closing.get(start);
    const opens = opening.get(start);
    if (closes) active = active.filter(layer => !closes.has(layer));
    if (opens) active = [...active, ...opens].sort(newestFirst);
    lists.push(active);
  }
  return { starts, lists };
}
