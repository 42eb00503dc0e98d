// The CheckPoint struct: the body of a checkpoint record, and its latest copy inside pg_control. 88 bytes in 14
// to 18, little-endian:
//
//   0  redo              u64     32  nextOid          u32     64  time               i64, Unix seconds
//   8  ThisTimeLineID    u32     36  nextMulti        u32     72  oldestCommitTsXid  u32
//  12  PrevTimeLineID    u32     40  nextMultiOffset  u32     76  newestCommitTsXid  u32
//  16  fullPageWrites    bool    44  oldestXid        u32     80  oldestActiveXid    u32
//  20  wal_level         i32     48  oldestXidDB      u32     84  padding
//      (17 and later)            52  oldestMulti      u32
//  24  nextXid           u64     56  oldestMultiDB    u32
//
// A checkpoint is a plain value: edit it by spreading, write it back over the bytes it came from (what lies
// between the fields stays). A full transaction id is one number, epoch * 2^32 + xid, exact to 2^53.
//
// Mirrors CheckPoint of catalog/pg_control.h and the FullTransactionId macros of access/transam.h.

import { Fault } from '../base/fault.ts';
import { type Lsn, readLsnLE, writeLsnLE } from '../base/lsn.ts';
import type { ControlFileShape } from './dialect.ts';

export const SIZE_OF_CHECKPOINT = 88;

export const FIRST_NORMAL_XID = 3;
export const FIRST_MULTIXACT_ID = 1;

const TWO_32 = 0x1_0000_0000;

export interface CheckPoint {
  readonly redo: Lsn;
  readonly thisTimeLineId: number;
  readonly prevTimeLineId: number;
  readonly fullPageWrites: boolean;
  /** WalLevel; 17 and later. */
  readonly walLevel?: number;
  /** Next free full transaction id. */
  readonly nextXid: number;
  readonly nextOid: number;
  readonly nextMulti: number;
  readonly nextMultiOffset: number;
  readonly oldestXid: number;
  readonly oldestXidDb: number;
  readonly oldestMulti: number;
  readonly oldestMultiDb: number;
  /** Unix seconds. */
  readonly time: number;
  readonly oldestCommitTsXid: number;
  readonly newestCommitTsXid: number;
  readonly oldestActiveXid: number;
}

type Shape = Pick<ControlFileShape, 'checkpointHasWalLevel'>;

function checkSize(view: DataView, at: number): void {
  if (at + SIZE_OF_CHECKPOINT > view.byteLength) {
    throw new Fault(
      'bytes-short',
      `a checkpoint is ${SIZE_OF_CHECKPOINT} bytes, ${view.byteLength - at} are there`,
    );
  }
}

function readU64(view: DataView, at: number): number {
  const value = view.getUint32(at + 4, true) * TWO_32 + view.getUint32(at, true);
  if (!Number.isSafeInteger(value))
    throw new Fault('control-file', `value past 2^53 in a checkpoint at ${at}`);
  return value;
}

function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % TWO_32, true);
  view.setUint32(at + 4, Math.floor(value / TWO_32), true);
}

export function readCheckpoint(view: DataView, at: number, shape: Shape): CheckPoint {
  checkSize(view, at);
  const u32 = (offset: number): number => view.getUint32(at + offset, true);
  return {
    redo: readLsnLE(view, at),
    thisTimeLineId: u32(8),
    prevTimeLineId: u32(12),
    fullPageWrites: view.getUint8(at + 16) !== 0,
    ...(shape.checkpointHasWalLevel ? { walLevel: view.getInt32(at + 20, true) } : {}),
    nextXid: readU64(view, at + 24),
    nextOid: u32(32),
    nextMulti: u32(36),
    nextMultiOffset: u32(40),
    oldestXid: u32(44),
    oldestXidDb: u32(48),
    oldestMulti: u32(52),
    oldestMultiDb: u32(56),
    time: Number(view.getBigInt64(at + 64, true)),
    oldestCommitTsXid: u32(72),
    newestCommitTsXid: u32(76),
    oldestActiveXid: u32(80),
  };
}

export function writeCheckpoint(view: DataView, at: number, shape: Shape, checkpoint: CheckPoint): void {
  checkSize(view, at);
  const u32 = (offset: number, value: number): void => view.setUint32(at + offset, value, true);
  writeLsnLE(view, at, checkpoint.redo);
  u32(8, checkpoint.thisTimeLineId);
  u32(12, checkpoint.prevTimeLineId);
  view.setUint8(at + 16, checkpoint.fullPageWrites ? 1 : 0);
  if (shape.checkpointHasWalLevel) view.setInt32(at + 20, checkpoint.walLevel ?? 0, true);
  writeU64(view, at + 24, checkpoint.nextXid);
  u32(32, checkpoint.nextOid);
  u32(36, checkpoint.nextMulti);
  u32(40, checkpoint.nextMultiOffset);
  u32(44, checkpoint.oldestXid);
  u32(48, checkpoint.oldestXidDb);
  u32(52, checkpoint.oldestMulti);
  u32(56, checkpoint.oldestMultiDb);
  view.setBigInt64(at + 64, BigInt(checkpoint.time), true);
  u32(72, checkpoint.oldestCommitTsXid);
  u32(76, checkpoint.newestCommitTsXid);
  u32(80, checkpoint.oldestActiveXid);
}

/** A checkpoint as the body of a record, padding zeroed. */
export function checkpointBytes(shape: Shape, checkpoint: CheckPoint): Uint8Array {
  const bytes = new Uint8Array(SIZE_OF_CHECKPOINT);
  writeCheckpoint(new DataView(bytes.buffer), 0, shape, checkpoint);
  return bytes;
}

// ---- full transaction ids -----------------------------------------------------------------------------------

export const xidFromFull = (full: number): number => full % TWO_32;
export const epochFromFull = (full: number): number => Math.floor(full / TWO_32);
export const fullFromEpochAndXid = (epoch: number, xid: number): number => epoch * TWO_32 + xid;

/**
 * The full id of an xid met in the log while `nextFull` is the next to be given out: an xid above the next one
 * belongs to the epoch before. FullTransactionIdFromAllowableAt, AdjustToFullTransactionId.
 */
export function fullFromAllowableAt(nextFull: number, xid: number): number {
  if (xid < FIRST_NORMAL_XID) return xid;
  const epoch = epochFromFull(nextFull);
  return fullFromEpochAndXid(xid > xidFromFull(nextFull) && epoch > 0 ? epoch - 1 : epoch, xid);
}

/**
 * The next full id once `xid` is known to be used: past it if that is ahead of `nextFull`, modulo 2^32 and with
 * its epoch. AdvanceNextFullTransactionIdPastXid.
 */
export function advancePastXid(nextFull: number, xid: number): number {
  const next = xidFromFull(nextFull);
  if (xid < FIRST_NORMAL_XID || ((xid - next) | 0) < 0) return nextFull;
  const wrapped = xid + 1 >= TWO_32;
  const advanced = wrapped ? FIRST_NORMAL_XID : xid + 1;
  return fullFromEpochAndXid(epochFromFull(nextFull) + (advanced < next ? 1 : 0), advanced);
}
