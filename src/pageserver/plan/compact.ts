// Which layers of level 0 to merge: all of them, from the oldest on, once there are enough, but no more than
// `upperLimit` in one go. What they become covers the same LSNs, cut by key into files of some target size.
//
// A damaged layer is left where it is, and nothing is merged across it: what came before and what came after it must
// stay before and after. So one bad file holds up neither ingest nor the pages it does not concern.
//
// Answers to: compact_level0_phase1 of Neon's pageserver.

import type { LayerDesc } from '../layers/layer.ts';

export interface CompactionPlan {
  /** Oldest first. */
  readonly layers: readonly LayerDesc[];
  readonly lsnStart: number;
  readonly lsnEnd: number;
}

export function planCompaction(
  l0: readonly LayerDesc[],
  limits: { readonly threshold: number; readonly upperLimit: number },
  isDamaged: (layer: LayerDesc) => boolean = () => false,
): CompactionPlan | undefined {
  const runs: LayerDesc[][] = [[]];
  for (const layer of l0.toSorted((a, b) => a.lsnStart - b.lsnStart)) {
    if (isDamaged(layer)) runs.push([]);
    else runs[runs.length - 1]!.push(layer);
  }
  const run = runs.find(layers => layers.length >= Math.max(1, limits.threshold));
  if (run === undefined) return undefined;
  const layers = run.slice(0, Math.max(1, limits.upperLimit));
  return { layers, lsnStart: layers[0]!.lsnStart, lsnEnd: layers[layers.length - 1]!.lsnEnd };
}

/**
 * Cut consecutive parts into files: each takes parts until it has `target` bytes. `sizes` are those of the input,
 * which the output will not exceed by much.
 */
export function cutFiles(sizes: readonly number[], target: number): { from: number; to: number }[] {
  const files: { from: number; to: number }[] = [];
  let from = 0;
  let bytes = 0;
  for (let i = 0; i < sizes.length; i++) {
    bytes += sizes[i]!;
    const left = sizes.length - i - 1;
    if (bytes < target || left === 0) continue;
    files.push({ from, to: i + 1 });
    from = i + 1;
    bytes = 0;
  }
  if (from < sizes.length) files.push({ from, to: sizes.length });
  return files;
}
