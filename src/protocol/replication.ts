// What travels in the CopyData of a replication stream, in both directions; all big-endian.
//
//   from the server
//     XLogData    'w' | start u64 | end of available WAL u64 | time i64 | WAL bytes
//     Keepalive   'k' | end of available WAL u64 | time i64 | reply_requested u8
//     Interpreted '0' | streaming u64 | commit u64 | body (interpreted-wal.ts)
//   from the receiver
//     Standby     'r' | write u64 | flush u64 | apply u64 | time i64 | reply_requested u8
//     HotStandby  'h' | time i64 | xmin u32 | epoch u32 | catalog_xmin u32 | epoch u32
//     Pageserver  'z' | length u64, ignored | feedback (feedback.ts)
//
// Times are microseconds since 2000-01-01. A hot standby's xmin travels as (xid, epoch) and is kept as a full
// transaction id, epoch << 32 | xid; zero xid is "none".
//
// Answers to src/backend/replication/walsender.c, libs/pq_proto/src/lib.rs and safekeeper/src/send_wal.rs.

import { Builder, Cursor } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import type { Lsn } from '../base/lsn.ts';
import { writeLsnBE } from '../base/lsn.ts';
import { type HotStandbyFeedback, type PageserverFeedback, readFeedback, writeFeedback } from './feedback.ts';

export type WalSenderMessage =
  | {
      readonly kind: 'wal';
      readonly startLsn: Lsn;
      readonly endLsn: Lsn;
      readonly sentAt: bigint;
      readonly wal: Uint8Array;
    }
  | {
      readonly kind: 'keepalive';
      readonly endLsn: Lsn;
      readonly sentAt: bigint;
      readonly replyRequested: boolean;
    }
  | {
      readonly kind: 'interpreted';
      readonly streamingLsn: Lsn;
      readonly commitLsn: Lsn;
      readonly body: Uint8Array;
    };

export interface StandbyReply {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
  readonly replyTime: bigint;
  readonly replyRequested: boolean;
}

export type WalReceiverMessage =
  | ({ readonly kind: 'standby-reply' } & StandbyReply)
  | ({ readonly kind: 'hot-standby' } & HotStandbyFeedback)
  | { readonly kind: 'pageserver'; readonly feedback: PageserverFeedback };

const PG_EPOCH_MS = 946_684_800_000;

/** Microseconds since 2000-01-01, from milliseconds since 1970. */
export const pgTime = (unixMs: number): bigint => BigInt(Math.round((unixMs - PG_EPOCH_MS) * 1000));
export const pgTimeToUnixMs = (time: bigint): number => Number(time) / 1000 + PG_EPOCH_MS;

export const XLOG_DATA_HEADER_BYTES = 25;

/** The header that goes before WAL bytes. */
export function xlogDataHeader(startLsn: number, endLsn: number, unixMs: number): Uint8Array {
  const bytes = new Uint8Array(XLOG_DATA_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x77;
  writeLsnBE(view, 1, startLsn);
  writeLsnBE(view, 9, endLsn);
  view.setBigInt64(17, pgTime(unixMs));
  return bytes;
}

export function keepalive(endLsn: Lsn, unixMs: number, replyRequested: boolean): Uint8Array {
  return new Builder(18)
    .u8(0x6b)
    .lsn(endLsn)
    .i64(pgTime(unixMs))
    .u8(replyRequested ? 1 : 0)
    .finish();
}

/** The header that goes before a batch of interpreted records. */
export function interpretedHeader(streamingLsn: Lsn, commitLsn: Lsn): Uint8Array {
  return new Builder(17).u8(0x30).lsn(streamingLsn).lsn(commitLsn).finish();
}

export function readWalSenderMessage(bytes: Uint8Array): WalSenderMessage {
  const c = new Cursor(bytes);
  const tag = c.u8();
  switch (tag) {
    case 0x77:
      return {
        kind: 'wal',
        startLsn: c.lsn(),
        endLsn: c.lsn(),
        sentAt: c.i64(),
        wal: c.raw(c.left),
      };
    case 0x6b:
      return { kind: 'keepalive', endLsn: c.lsn(), sentAt: c.i64(), replyRequested: c.u8() !== 0 };
    case 0x30:
      return { kind: 'interpreted', streamingLsn: c.lsn(), commitLsn: c.lsn(), body: c.raw(c.left) };
    default:
      throw new Fault('protocol-violation', `a replication message with the unknown tag ${tag}`);
  }
}

export function standbyReply(reply: StandbyReply): Uint8Array {
  const b = new Builder(34);
  b.u8(0x72).lsn(reply.writeLsn).lsn(reply.flushLsn).lsn(reply.applyLsn).i64(reply.replyTime);
  return b.u8(reply.replyRequested ? 1 : 0).finish();
}

export function hotStandbyReply(feedback: HotStandbyFeedback): Uint8Array {
  const b = new Builder(25).u8(0x68).i64(feedback.ts);
  for (const xmin of [feedback.xmin, feedback.catalogXmin]) {
    b.u32(Number(xmin & 0xffff_ffffn)).u32(Number(xmin >> 32n));
  }
  return b.finish();
}

export function pageserverReply(feedback: PageserverFeedback): Uint8Array {
  const blob = new Builder(160);
  writeFeedback(blob, feedback);
  const bytes = blob.finish();
  return new Builder(bytes.length + 9).u8(0x7a).u64(BigInt(bytes.length)).raw(bytes).finish();
}

/** A receiver's message; undefined for one that we need not know. */
export function readWalReceiverMessage(bytes: Uint8Array): WalReceiverMessage | undefined {
  const c = new Cursor(bytes);
  switch (c.u8()) {
    case 0x72:
      return {
        kind: 'standby-reply',
        writeLsn: c.lsn(),
        flushLsn: c.lsn(),
        applyLsn: c.lsn(),
        replyTime: c.i64(),
        replyRequested: c.u8() !== 0,
      };
    case 0x68:
      return { kind: 'hot-standby', ts: c.i64(), xmin: readFullXid(c), catalogXmin: readFullXid(c) };
    case 0x7a:
      c.skip(8);
      return { kind: 'pageserver', feedback: readFeedback(c) };
    default:
      return undefined;
  }
}

function readFullXid(c: Cursor): bigint {
  const xid = c.u32();
  const epoch = c.u32();
  return xid === 0 ? 0n : (BigInt(epoch) << 32n) | BigInt(xid);
}
