// Garbage forgotten: layers that no read at or above the cutoff, nor at a retained LSN, can need (plan/gc.ts). The
// cutoff comes first, and stays: from then on nobody is promised what lies below it.

import type { LayerDesc } from '../layers/layer.ts';
import { planGc } from '../plan/gc.ts';
import type { Timeline } from './timeline.ts';

export interface GcResult {
  readonly cutoff: number;
  readonly removed: readonly LayerDesc[];
}

export function collectGarbage(timeline: Timeline, cutoff: number, retained: readonly number[]): GcResult {
  const { state } = timeline;
  const applied = Math.min(Math.max(cutoff, state.gcCutoffLsn), state.diskConsistentLsn);
  timeline.change({ gcCutoffLsn: applied, retained: retained.toSorted((a, b) => a - b) });
  const { layers } = timeline.state;
  const all = [...layers.all()].map(layer => layer.desc);
  const removed = planGc(all, { cutoff: applied, retained });
  const gone = removed.map(desc => layers.get(desc.name)!);
  if (gone.length > 0) timeline.replaceLayers([], gone);
  return { cutoff: applied, removed };
}
