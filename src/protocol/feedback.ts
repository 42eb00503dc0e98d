// What flows back from the readers of WAL to the compute, by way of the safekeeper: where a pageserver is
// (PageserverFeedback) and which transactions a hot standby still needs (HotStandbyFeedback).
//
// Answers to libs/utils/src/pageserver_feedback.rs and HotStandbyFeedback of libs/safekeeper_api/src/models.rs.

import type { Builder, Cursor } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { INVALID_LSN, type Lsn } from '../base/lsn.ts';

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

export const NO_FEEDBACK: PageserverFeedback = {
  currentTimelineSize: 0n,
  lastReceivedLsn: INVALID_LSN,
  diskConsistentLsn: INVALID_LSN,
  remoteConsistentLsn: INVALID_LSN,
  replyTime: 0n,
  shardNumber: 0,
  corruptionDetected: false,
};

// The wire form, big-endian whatever carries it: count u8, then per entry  name NUL | length i32 | value. Names
// that a reader does not know are skipped by their length. The long names are what newer readers know them by.

export function writeFeedback(b: Builder, f: PageserverFeedback): void {
  const extra = (f.shardNumber > 0 ? 1 : 0) + (f.corruptionDetected ? 1 : 0);
  b.u8(5 + extra);
  b.cstr('current_timeline_size').i32(8).u64(f.currentTimelineSize);
  b.cstr('ps_writelsn').i32(8).lsn(f.lastReceivedLsn);
  b.cstr('ps_flushlsn').i32(8).lsn(f.diskConsistentLsn);
  b.cstr('ps_applylsn').i32(8).lsn(f.remoteConsistentLsn);
  b.cstr('ps_replytime').i32(8).i64(f.replyTime);
  if (f.shardNumber > 0) b.cstr('shard_number').i32(4).u32(f.shardNumber);
  if (f.corruptionDetected) b.cstr('corruption_detected').i32(1).u8(1);
}

export function readFeedback(c: Cursor): PageserverFeedback {
  const found = { ...NO_FEEDBACK } as { -readonly [K in keyof PageserverFeedback]: PageserverFeedback[K] };
  const count = c.u8();
  for (let i = 0; i < count; i++) {
    const name = c.cstr();
    const length = c.i32();
    const end = c.at + length;
    if (length < 0 || length > c.left) {
      throw new Fault('protocol-violation', `feedback value "${name}" claims ${length} bytes`);
    }
    readFeedbackValue(found, name, length, c);
    if (c.at !== end) throw new Fault('protocol-violation', `feedback value "${name}" has ${length} bytes`);
  }
  return found;
}

function readFeedbackValue(
  into: { -readonly [K in keyof PageserverFeedback]: PageserverFeedback[K] },
  name: string,
  length: number,
  c: Cursor,
): void {
  switch (name) {
    case 'current_timeline_size':
      into.currentTimelineSize = c.u64();
      break;
    case 'ps_writelsn':
    case 'last_received_lsn':
      into.lastReceivedLsn = c.lsn();
      break;
    case 'ps_flushlsn':
    case 'disk_consistent_lsn':
      into.diskConsistentLsn = c.lsn();
      break;
    case 'ps_applylsn':
    case 'remote_consistent_lsn':
      into.remoteConsistentLsn = c.lsn();
      break;
    case 'ps_replytime':
    case 'replytime':
      into.replyTime = c.i64();
      break;
    case 'shard_number':
      into.shardNumber = c.u32();
      break;
    case 'corruption_detected':
      into.corruptionDetected = c.u8() !== 0;
      break;
    default:
      c.skip(length);
  }
}
