// What flows back from the readers of WAL to the compute, by way of the safekeeper: where a pageserver is
// (PageserverFeedback) and which transactions a hot standby still needs (HotStandbyFeedback).
//
// Answers to libs/utils/src/pageserver_feedback.rs and HotStandbyFeedback of libs/safekeeper_api/src/models.rs.

import type { Lsn } from '../base/lsn.ts';

export interface PageserverFeedback {
  /** Logical size in bytes; only shard 0 knows it, others send 0. */
  readonly currentTimelineSize: bigint;
  readonly lastReceivedLsn: Lsn;
  readonly diskConsistentLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  /** Microseconds since 2000-01-01. */
  readonly replyTime: bigint;
  readonly shardNumber: number;
  readonly corruptionDetected: boolean;
}

/** Full transaction ids (epoch << 32 | xid); 0 is "none". */
export interface HotStandbyFeedback {
  /** Microseconds since 2000-01-01. */
  readonly ts: bigint;
  readonly xmin: bigint;
  readonly catalogXmin: bigint;
}

export const NO_HOT_STANDBY: HotStandbyFeedback = { ts: 0n, xmin: 0n, catalogXmin: 0n };
