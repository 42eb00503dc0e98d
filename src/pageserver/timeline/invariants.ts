// What must hold of a timeline's state, checked whenever one replaces another (only what changed is looked at) and
// in full by the simulator after every step. A broken one is a Violation: it poisons the timeline.

import { assert } from '../../base/assert.ts';
import { overlaps } from '../layers/layer.ts';
import type { TimelineState } from './state.ts';

/** Cheap enough for every change of state. */
export function checkSuccessor(before: TimelineState, after: TimelineState): void {
  assert(after.lastRecordLsn >= before.lastRecordLsn, 'the last record LSN never goes back');
  assert(after.diskConsistentLsn >= before.diskConsistentLsn, 'the disk-consistent LSN never goes back');
  assert(after.diskConsistentLsn <= after.lastRecordLsn, 'nothing is on disk before it was received');
  assert(after.gcCutoffLsn >= before.gcCutoffLsn, 'the GC cutoff never goes back');
  let lsn = after.diskConsistentLsn + 1;
  for (const layer of after.frozen) {
    assert(layer.lsnStart === lsn, 'memory layers follow one another');
    lsn = layer.lsnEnd;
  }
  assert(after.open.lsnStart === lsn, 'the open layer begins where the frozen ones end');
}

/** Everything, at a cost that grows with the number of layers. */
export function checkState(state: TimelineState, ancestorLsn: number): void {
  checkSuccessor(state, state);
  for (const { desc } of state.layers.all()) {
    assert(desc.lsnStart < desc.lsnEnd, `${desc.name}: an empty range of LSNs`);
    assert(desc.lsnEnd <= state.diskConsistentLsn + 1, `${desc.name} is newer than what is on disk`);
    assert(desc.lsnStart > ancestorLsn || desc.kind === 'image', `${desc.name} is older than its branch`);
  }
  // Two delta layers never hold values of one key at one LSN: nobody could tell which came first.
  const l0 = state.layers.l0;
  for (let i = 1; i < l0.length; i++) {
    assert(l0[i]!.desc.lsnEnd <= l0[i - 1]!.desc.lsnStart, 'layers of level 0 do not overlap');
  }
  const deltas = state.layers.placed.filter(layer => layer.desc.kind === 'delta').map(layer => layer.desc);
  for (const a of deltas) {
    for (const b of [...deltas, ...l0.map(layer => layer.desc)]) {
      if (a === b || a.lsnEnd <= b.lsnStart || b.lsnEnd <= a.lsnStart) continue;
      assert(!overlaps(a.keys, b.keys), `${a.name} and ${b.name} overlap`);
    }
  }
}
