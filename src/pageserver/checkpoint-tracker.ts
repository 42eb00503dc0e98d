// The CheckPoint struct, kept up to date by every record: a compute that starts at any LSN takes it for the state of
// the cluster. (In Postgres it is written once per checkpoint and what came after is found by recovery.)
//
//   nextXid                     past every xid of a record or of a multixact's members, rounded up to a multiple of
//                               1024, so that not every transaction writes a value; too high is harmless, too low
//                               would give an xid out twice
//   nextOid                     NEXTOID
//   nextMulti, nextMultiOffset  multixacts created; nextMulti may be 0, as in Postgres
//   oldestXid, oldestXidDB      pg_xact cut; a checkpoint record's if its oldestXid is ahead
//   oldestMulti, oldestMultiDB  multixacts cut
//   oldestActiveXid             RUNNING_XACTS and checkpoint records; where a shutdown has 0, the oldest of nextXid and
//                               the prepared transactions, for a hot standby that starts here wants one
//   redo                        the END of a shutdown checkpoint's record, 0 from an online checkpoint on: a base
//                               backup at exactly that LSN is one of a cluster cleanly shut down
//   wal_level (17 and later)    PARAMETER_CHANGE, END_OF_RECOVERY
//   oldestCommitTsXid           the first transaction after commit timestamps were turned on, and cuts; 0 while off
//   fullPageWrites              FPW_CHANGE and checkpoint records (a compute that starts with another setting than the
//                               one before it says so with its first checkpoint, as any Postgres does)
//   ThisTimeLineID, time        never
//
// Neon's pageserver leaves oldestXidDB alone when a checkpoint record moves oldestXid, and keeps no commit
// timestamps; else the rules are its own. newestCommitTsXid is made up where a backup wants it
// (backup-control.ts).
//
// Answers to walingest.rs of Neon's pageserver (ingest_raw_xlog_record, update_next_xid, update_next_multixid) and
// to xlog_redo and StartupXLOG of xlog.c.

import type { Lsn } from '../base/lsn.ts';
import {
  type CheckPoint,
  checkpointBytes,
  epochFromFull,
  FIRST_NORMAL_XID,
  fullFromEpochAndXid,
  readCheckpoint,
  xidFromFull,
} from '../xlog/checkpoint.ts';
import type { ControlFileShape } from '../xlog/dialect.ts';
import type { MultiXactMember } from '../xlog/effects.ts';
import { transactionIdPrecedes } from '../xlog/page-items.ts';

/** XID_CHECKPOINT_INTERVAL of Neon's xlog_utils.rs. */
export const XID_INTERVAL = 1024;

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

export class CheckpointTracker {
  /** Changed since it was last taken by `take`. */
  changed = false;
  private readonly shape: ControlFileShape;
  private readonly state: Mutable<CheckPoint>;
  /** The low half of nextXid, as a signed number: what every record is compared with. */
  private next: number;

  constructor(shape: ControlFileShape, checkpoint: CheckPoint) {
    this.shape = shape;
    this.state = { ...checkpoint };
    this.next = xidFromFull(checkpoint.nextXid) | 0;
  }

  /** As it stands; a copy of its own. */
  get checkpoint(): CheckPoint {
    return { ...this.state };
  }

  /** The next full transaction id, rounded up. */
  get nextXid(): number {
    return this.state.nextXid;
  }

  /** The bytes to store. */
  take(): Uint8Array {
    this.changed = false;
    return checkpointBytes(this.shape, this.state);
  }

  /** A record's own xid. */
  xidUsed(xid: number): void {
    const rounded = (xid + XID_INTERVAL) & ~(XID_INTERVAL - 1);
    if (((rounded - this.next) | 0) > 0) this.advanceXid(rounded >>> 0);
  }

  private advanceXid(rounded: number): void {
    const old = this.state.nextXid;
    const epoch = epochFromFull(old) + (rounded < xidFromFull(old) ? 1 : 0);
    // Past the end of an epoch the count goes on behind the special xids.
    this.state.nextXid = fullFromEpochAndXid(epoch, Math.max(rounded, FIRST_NORMAL_XID));
    this.next = xidFromFull(this.state.nextXid) | 0;
    this.changed = true;
  }

  nextOid(oid: number): void {
    if (this.state.nextOid === oid) return;
    this.state.nextOid = oid;
    this.changed = true;
  }

  multiXactCreated(mid: number, moff: number, members: readonly MultiXactMember[]): void {
    const { state } = this;
    const nextMulti = (mid + 1) >>> 0;
    const nextOffset = (moff + members.length) >>> 0;
    if (((nextMulti - state.nextMulti) | 0) > 0) {
      state.nextMulti = nextMulti;
      this.changed = true;
    }
    if (((nextOffset - state.nextMultiOffset) | 0) > 0) {
      state.nextMultiOffset = nextOffset;
      this.changed = true;
    }
    for (let i = 0; i < members.length; i++) this.xidUsed(members[i]!.xid);
  }

  clogTruncated(oldestXid: number, oldestXidDb: number): void {
    this.state.oldestXid = oldestXid;
    this.state.oldestXidDb = oldestXidDb;
    this.changed = true;
  }

  multiXactsTruncated(oldestMulti: number, oldestMultiDb: number): void {
    this.state.oldestMulti = oldestMulti;
    this.state.oldestMultiDb = oldestMultiDb;
    this.changed = true;
  }

  runningXacts(oldestRunningXid: number): void {
    if (this.state.oldestActiveXid === oldestRunningXid) return;
    this.state.oldestActiveXid = oldestRunningXid;
    this.changed = true;
  }

  /** A checkpoint record; a value is stored for each, whether anything changed or not. */
  checkpointRecord(bytes: Uint8Array, shutdown: boolean, endLsn: number, prepared: readonly number[]): void {
    const { state } = this;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const said = readCheckpoint(view, 0, this.shape);
    if (((state.oldestXid - said.oldestXid) | 0) < 0) {
      state.oldestXid = said.oldestXid;
      state.oldestXidDb = said.oldestXidDb;
    }
    state.oldestActiveXid =
      said.oldestActiveXid === 0 && shutdown
        ? xidFromFull(Math.min(state.nextXid, ...prepared))
        : said.oldestActiveXid;
    state.redo = (shutdown ? endLsn : 0) as Lsn;
    this.changed = true;
  }

  shutDownAt(endLsn: number): void {
    this.state.redo = endLsn as Lsn;
    this.changed = true;
  }

  fullPageWrites(on: boolean): void {
    if (this.state.fullPageWrites === on) return;
    this.state.fullPageWrites = on;
    this.changed = true;
  }

  walLevel(level: number | undefined): void {
    if (!this.shape.checkpointHasWalLevel || level === undefined || this.state.walLevel === level) return;
    this.state.walLevel = level;
    this.changed = true;
  }

  // ---- commit timestamps ------------------------------------------------------------------------------------

  commitTsOff(): void {
    if (this.state.oldestCommitTsXid === 0) return;
    this.state.oldestCommitTsXid = 0;
    this.state.newestCommitTsXid = 0;
    this.changed = true;
  }

  /** A timestamp is kept for this transaction. */
  commitTsKept(xid: number): void {
    const { oldestCommitTsXid } = this.state;
    if (oldestCommitTsXid !== 0 && !transactionIdPrecedes(xid, oldestCommitTsXid)) return;
    this.state.oldestCommitTsXid = xid;
    if (oldestCommitTsXid === 0) this.state.newestCommitTsXid = xid;
    this.changed = true;
  }

  commitTsTruncated(oldestXid: number): void {
    if (this.state.oldestCommitTsXid === 0) return;
    if (transactionIdPrecedes(this.state.oldestCommitTsXid, oldestXid))
      this.state.oldestCommitTsXid = oldestXid;
    this.changed = true;
  }
}
