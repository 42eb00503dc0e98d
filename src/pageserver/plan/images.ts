// Which ranges of keys earn a dense image layer. Hot pages get sparse images as they gather edits (jobs/hot.ts); a
// dense one is made when so much delta lies over a range that its history is worth an end: then what is older than
// the image is garbage as soon as no read may ask for it (plan/gc.ts), and a read has fewer layers to ask.
//
//   depth   layers over the range since its newest dense image: deltas, and sparse images
//   bytes   of those layers, against the bytes of the dense images below
//
//   depth >= layersThreshold and bytes >= garbageRatio * image bytes   ->  an image
//   depth >= layersMax                                                 ->  an image whatever the bytes
//
// On a branch that has no image of its own there, what it inherits counts as the image: a branch of a large
// database is not copied because a little was written to it.
//
// Answers to: time_for_new_image_layer of Neon's pageserver, which counts layers alone.

import type { KeyRange } from '../key.ts';
import { unpackKey } from '../key.ts';
import { isDense, type LayerDesc } from '../layers/layer.ts';

/** A stretch of the key space over which the same layers lie, newest first. */
export interface Stack {
  readonly start: number;
  readonly end: number;
  readonly layers: readonly LayerDesc[];
}

export interface ImageLimits {
  readonly layersThreshold: number;
  readonly garbageRatio: number;
  readonly layersMax: number;
}

export interface DensePlan {
  readonly range: KeyRange;
  /** The newest LSN in the layers over the range: where the image is made. */
  readonly lsn: number;
}

/** `inherited` tells the bytes of an ancestor's layers over a range; 0 where there is no ancestor. */
export function planDense(
  stacks: Iterable<Stack>,
  limits: ImageLimits,
  inherited: (range: KeyRange) => number,
): DensePlan[] {
  const plans: DensePlan[] = [];
  let run: Stack[] = [];
  const end = (): void => {
    const plan = judge(run, limits, inherited);
    if (plan !== undefined) plans.push(plan);
    run = [];
  };
  for (const stack of stacks) {
    if (depthOf(stack) < limits.layersThreshold) {
      end();
      continue;
    }
    if (run.length > 0 && run[run.length - 1]!.end !== stack.start) end();
    run.push(stack);
  }
  end();
  return plans;
}

/** Layers over a stretch since its newest dense image. */
export function depthOf(stack: Stack): number {
  const dense = stack.layers.findIndex(isDense);
  return dense < 0 ? stack.layers.length : dense;
}

/** Neighbouring stretches that are deep enough: are their bytes? */
function judge(
  run: readonly Stack[],
  limits: ImageLimits,
  inherited: (range: KeyRange) => number,
): DensePlan | undefined {
  const first = run[0];
  if (first === undefined) return undefined;
  const deltas = new Map<string, number>();
  const images = new Map<string, number>();
  let deepest = 0;
  let lsn = 0;
  for (const stack of run) {
    const depth = depthOf(stack);
    deepest = Math.max(deepest, depth);
    stack.layers.slice(0, depth).forEach(layer => {
      deltas.set(layer.name, layer.bytes);
      lsn = Math.max(lsn, layer.lsnEnd - 1);
    });
    const dense = stack.layers[depth];
    if (dense !== undefined) images.set(dense.name, dense.bytes);
  }
  const sum = (bytes: Map<string, number>): number => [...bytes.values()].reduce((a, b) => a + b, 0);
  const range = { start: unpackKey(first.start), end: unpackKey(run[run.length - 1]!.end) };
  const below = images.size > 0 ? 0 : inherited(range);
  const isWorth =
    (deepest >= limits.layersMax && below === 0) ||
    sum(deltas) >= limits.garbageRatio * (sum(images) + below);
  return isWorth ? { range, lsn } : undefined;
}
