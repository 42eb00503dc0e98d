// What a timeline is at one moment: one immutable value, replaced whole. A read takes it once and sees nothing of
// what happens after; a flush or a compaction makes the next one and puts it in place in a single assignment.
//
//   LSN  0 ... gcCutoffLsn ... diskConsistentLsn ... lastRecordLsn
//        |<------- layers ------------>|<-- frozen --><-- open -->|
//
// `layers` hold everything up to diskConsistentLsn, frozen memory layers what comes next, oldest first, the open
// one the rest. invariants.ts says what must hold between them.

import type { LayerMap } from '../layers/layer-map.ts';
import type { MemoryLayer } from '../layers/memory-layer.ts';

export interface TimelineState {
  readonly open: MemoryLayer;
  /** Oldest first. */
  readonly frozen: readonly MemoryLayer[];
  readonly layers: LayerMap;
  /** Every record up to here is in. */
  readonly lastRecordLsn: number;
  /** Where the newest record begins. */
  readonly prevRecordLsn: number;
  /** Every value up to here is in a layer on disk. */
  readonly diskConsistentLsn: number;
  /** Where the record that ends at diskConsistentLsn begins. */
  readonly diskConsistentPrev: number;
  /** Every value up to here is in the object store, and the index there says so. */
  readonly remoteConsistentLsn: number;
  /** Reads below it are no longer promised, but for the retained points. */
  readonly gcCutoffLsn: number;
  /** Branch points and leases that the last GC was told of, ascending. */
  readonly retained: readonly number[];
}
