// Memory layers stay while a read waits with some of their values in hand: they are given back as soon as they are
// flushed (memory-layer.ts), and a read that must wait for a layer of the disk would come back to nothing.
//
// All that a read at an LSN may meet is pinned as it begins to wait. Layers made later hold newer values only: they
// begin after the last record of that moment, and no read is above it but the writer's own, under which none is frozen.

import type { MemoryLayer } from '../layers/memory-layer.ts';
import type { Timeline } from './timeline.ts';

/** Runs `work` while the memory of a timeline and its ancestors stays, as far as a read at `lsn` looks at it. */
export async function withMemory<T>(timeline: Timeline, lsn: number, work: () => Promise<T>): Promise<T> {
  const pinned: MemoryLayer[] = [];
  let bound = lsn;
  for (let at: Timeline | undefined = timeline; at !== undefined; at = at.ancestor) {
    const { open, frozen } = at.state;
    for (const layer of [open, ...frozen]) {
      if (layer.lsnStart > bound) continue;
      layer.pin();
      pinned.push(layer);
    }
    bound = Math.min(bound, at.ancestorLsn);
  }
  try {
    return await work();
  } finally {
    for (const layer of pinned) layer.unpin();
  }
}
