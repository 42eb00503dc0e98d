// From a point in time to an LSN and back. Every commit that is later than all before it leaves its time under one
// key (snapshot.ts), so the time never goes back as the LSN rises, and a search by halves finds where it passed.
//
//   present   commits before that time and commits since: the LSN lies right before the first that came since
//   future    no commit since: the newest LSN
//   past      no commit before, among what is kept: the oldest LSN that may be read
//   nodata    no commit at all
//
// Backends take their time before they write their record, so commits in flight together may be in either order.
// A commit at exactly the time asked for came since.
//
// Answers to find_lsn_for_timestamp and get_timestamp_for_lsn of Neon's pgdatadir_mapping.rs, which keep the time
// behind each page of pg_xact.

import { lsn as asLsn, type Lsn } from '../base/lsn.ts';
import { BLK_SIZE, REL_NAMES } from './key.ts';
import { type CommitTime, readCommitTime } from './snapshot.ts';
import type { Timeline } from './timeline/timeline.ts';

/** 2000-01-01 in Unix milliseconds. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

/** Postgres's TimestampTz: microseconds since 2000-01-01. */
export const timestampOfUnixMs = (ms: number): number => (ms - POSTGRES_EPOCH_MS) * 1000;
export const unixMsOfTimestamp = (timestamp: number): number => timestamp / 1000 + POSTGRES_EPOCH_MS;

export interface LsnForTimestamp {
  readonly kind: 'present' | 'future' | 'past' | 'nodata';
  readonly lsn: Lsn;
}

/** `minLsn` is the oldest that may be read: the newer of the GC cutoff and the branch point. */
export async function lsnForTimestamp(
  timeline: Timeline,
  timestamp: number,
  minLsn: number,
): Promise<LsnForTimestamp> {
  const maxLsn = timeline.lastRecordLsn;
  const newest = await commitAt(timeline, maxLsn);
  if (newest === undefined) return { kind: 'nodata', lsn: asLsn(minLsn) };
  if (newest.time < timestamp) return { kind: 'future', lsn: asLsn(maxLsn) };
  const oldest = await commitAt(timeline, minLsn);
  if (oldest !== undefined && oldest.time >= timestamp) return { kind: 'past', lsn: asLsn(minLsn) };

  // At `low` the time has not come yet, at `high` it has; LSNs of values are multiples of eight.
  let low = Math.floor(minLsn / 8);
  let high = Math.ceil(maxLsn / 8);
  let before = oldest;
  let since = newest;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    const commit = await commitAt(timeline, Math.min(middle * 8, maxLsn));
    if (commit !== undefined && commit.time >= timestamp) {
      high = middle;
      since = commit;
    } else {
      low = middle;
      before = commit ?? before;
    }
  }
  if (before === undefined) return { kind: 'past', lsn: asLsn(minLsn) };
  return { kind: 'present', lsn: asLsn(Math.max(minLsn, high * 8 - since.back)) };
}

/** When the newest commit at or before an LSN was; undefined when there was none. */
export async function timestampForLsn(timeline: Timeline, lsn: number): Promise<number | undefined> {
  return (await commitAt(timeline, lsn))?.time;
}

async function commitAt(timeline: Timeline, lsn: number): Promise<CommitTime | undefined> {
  const bytes = await timeline.getBytes(REL_NAMES, BLK_SIZE, lsn);
  return bytes === undefined ? undefined : readCommitTime(bytes);
}
