// Which layers nobody can ask for any more. What may be asked: every LSN from the cutoff on, and the retained points
// below it (branch points of children, leases).
//
// A read at p needs a layer that begins at or below p, unless dense images made since the layer's end, and not
// after p, cover all of its keys. So a layer goes when that is so for the cutoff and for every retained point.
//
//            key ->
//   cutoff  ------------------------
//   dense   [====== i =====]             d1 lies under i alone: it goes. d2 reaches past i: it stays
//   deltas  [== d1 ==][==== d2 ====]
//
// Answers to: gc_timeline of Neon's pageserver.

import { isDense, type LayerDesc, rangeEnd, rangeStart } from '../layers/layer.ts';

export interface GcLimits {
  readonly cutoff: number;
  /** In any order. */
  readonly retained: readonly number[];
}

export function planGc(layers: readonly LayerDesc[], limits: GcLimits): LayerDesc[] {
  const { cutoff } = limits;
  const points = [...new Set([...limits.retained.filter(point => point < cutoff), cutoff])];
  const dense = layers.filter(isDense).sort((a, b) => rangeStart(a.keys) - rangeStart(b.keys));
  return layers.filter(layer => {
    // Part of it is above the cutoff: a read there may want it.
    if (layer.lsnEnd - 1 > cutoff) return false;
    return points.every(point => point < layer.lsnStart || isCovered(layer, point, dense));
  });
}

/** Do images made in [end of the layer, point] cover all its keys? */
function isCovered(layer: LayerDesc, point: number, dense: readonly LayerDesc[]): boolean {
  const newest = layer.lsnEnd - 1;
  let at = rangeStart(layer.keys);
  const end = rangeEnd(layer.keys);
  for (const image of dense) {
    if (image === layer || image.lsnStart < newest || image.lsnStart > point) continue;
    // Of two images at one LSN each would make the other needless: the name decides.
    if (isDense(layer) && image.lsnStart === layer.lsnStart && image.name < layer.name) continue;
    if (rangeStart(image.keys) > at) return false;
    at = Math.max(at, rangeEnd(image.keys));
    if (at >= end) return true;
  }
  return false;
}
