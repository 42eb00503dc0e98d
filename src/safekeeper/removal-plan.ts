// Which local WAL may go, and whether a timeline still has something to do.
//
// WAL is kept until it is consumed by the pageserver (remote_consistent_lsn), is in the object store (backup_lsn),
// and is not needed to find the end of WAL after a start (commit_lsn). The persisted values count, not those in
// memory: after a crash we must not find less than we removed by.
//
// Answers to calc_horizon_lsn of safekeeper/src/remove_wal.rs and update_is_active of timeline_manager.rs.

import type { Lsn } from '../base/lsn.ts';
import { segmentOf } from '../xlog/segment.ts';
import { backupNeeded } from './backup-plan.ts';
import type { ControlState } from './control-state.ts';
import type { MemoryState } from './timeline-handle.ts';

export interface RemovalView {
  readonly control: ControlState;
  readonly flushLsn: Lsn;
  /** The slowest reader's position, where WAL is kept for readers. */
  readonly laggardLsn: Lsn | undefined;
}

/** WAL before this is needed by nobody. */
export function removalHorizon({ control, flushLsn, laggardLsn }: RemovalView): Lsn {
  return Math.min(
    control.remoteConsistentLsn,
    control.backupLsn,
    control.commitLsn,
    flushLsn,
    laggardLsn ?? Infinity,
  ) as Lsn;
}

/** Segments below this number may go. (The one that WAL is committed up to stays in any case: timeline.ts.) */
export function firstSegmentToKeep(view: RemovalView): number {
  return segmentOf(removalHorizon(view), view.control.server.walSegSize);
}

/** Has this timeline anything to do that others must know of? Only active ones are told to the broker. */
export function isActive(memory: MemoryState, computes: number, segmentSize: number): boolean {
  return (
    computes > 0 ||
    memory.remoteConsistentLsn < memory.commitLsn ||
    backupNeeded(computes, memory.commitLsn, memory.backupLsn, segmentSize)
  );
}
