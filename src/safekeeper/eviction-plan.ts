// When an idle timeline's WAL may live in the object store alone: nobody reads or writes it, all of it is
// uploaded (the whole segments, and the last one as a partial segment that is still all there is), and only that
// last segment is left here.
//
// Answers to ready_for_eviction of safekeeper/src/timeline_eviction.rs.

import { partialUploadNeeded } from './backup-plan.ts';
import type { TimelineStatus } from './timeline-handle.ts';

export interface EvictionView {
  readonly status: TimelineStatus;
  readonly proposers: number;
  readonly readers: number;
  readonly active: boolean;
  /** Segments kept locally. */
  readonly segments: number;
  /** Since the timeline was loaded, restored or used last. */
  readonly residentMs: number;
}

/** Why it must stay, for people who ask; undefined when it may go. */
export function whyResident(view: EvictionView, minResidentMs: number): string | undefined {
  const { status } = view;
  if (status.offloaded) return 'its WAL is in the object store only already';
  if (status.poisoned) return 'it is poisoned';
  if (view.proposers > 0) return `${view.proposers} computes are connected`;
  if (view.readers > 0) return `${view.readers} readers are connected`;
  if (view.active) return 'it is active: the pageserver or the backup has not all of its WAL';
  if (view.residentMs < minResidentMs) return 'it was used not long ago';
  const { flushLsn, memory, lastLogTerm, control } = status;
  if (status.writeLsn !== flushLsn) return 'it has WAL past its last record';
  if (partialUploadNeeded(control.partialSegments, { flushLsn, commitLsn: memory.commitLsn, lastLogTerm })) {
    return 'its last segment is not uploaded as it is';
  }
  if (control.commitLsn !== memory.commitLsn) return 'its control file is not saved as it is';
  if (view.segments !== 1) return `${view.segments} segments are kept here`;
  return undefined;
}
