// Transactions and multixacts on their SLRU pages: the edits of commits and aborts, of multixacts made, and the
// segments that go. Only the first shard keeps SLRUs; the checkpoint is kept up on all.
//
// A commit costs an edit of four bytes and its time of twelve (lsn-by-time.ts); with commit timestamps another edit.
//
// Mirrors xact_redo_commit and xact_redo_abort of xact.c, TransactionTreeSetCommitTsData of commit_ts.c,
// RecordNewMultiXact and the truncations of multixact.c and clog.c.

import {
  SLRU_CLOG,
  SLRU_COMMIT_TS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  type SlruKind,
} from '../base/rel.ts';
import { xidFromFull } from '../xlog/checkpoint.ts';
import type { EffectOf } from '../xlog/effects.ts';
import {
  CLOG_XACTS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
  groupXidsByPage,
  slruSegmentsToDelete,
  XID_ABORTED,
  XID_COMMITTED,
  type XidStatus,
} from '../xlog/slru.ts';
import {
  groupMembersByPage,
  memberSegmentsToDelete,
  offsetPageOf,
  offsetsCutoffPage,
} from '../xlog/slru-multixact.ts';
import {
  editBytes,
  encodeClogStatus,
  encodeCommitTs,
  encodeMultiXactMembers,
  encodeMultiXactOffset,
} from './edit.ts';
import type { Ingest } from './ingest.ts';
import { BLK_SIZE, REL_NAMES, relOfSlru } from './key.ts';
import type { PgData } from './pgdata.ts';
import type { SlruStore } from './slru-store.ts';
import { COMMIT_TIME_SIZE, writeCommitTime } from './snapshot.ts';
import type { TimelineWriter } from './timeline/timeline.ts';
import { VALUE_BYTES, VALUE_EDIT } from './value.ts';

export class IngestTransactions {
  private readonly ingest: Ingest;
  private readonly writer: TimelineWriter;
  private readonly pgdata: PgData;
  private readonly slrus: SlruStore;
  private readonly first: boolean;
  /** The xid of a transaction without subtransactions. */
  private readonly one = [0];
  private readonly time = new Uint8Array(COMMIT_TIME_SIZE);
  private readonly timeView = new DataView(this.time.buffer);

  constructor(ingest: Ingest) {
    this.ingest = ingest;
    this.writer = ingest.writer;
    this.pgdata = ingest.pgdata;
    this.slrus = ingest.pgdata.slrus;
    this.first = ingest.isFirstShard;
  }

  commit(effect: EffectOf<'xact-commit'>, lsn: number, trackCommitTs: boolean): void {
    const { xid, subxids, xactTime, origin, prepared } = effect;
    if (this.first) {
      this.setStatus(xid, subxids, XID_COMMITTED, lsn);
      this.commitTime(xactTime, lsn);
      if (trackCommitTs) this.keepTimestamp(effect, lsn);
    }
    if (trackCommitTs && !prepared) this.ingest.tracker.commitTsKept(xid);
    const { effects } = this.ingest;
    if (origin !== undefined && origin.id !== 0) effects.setOrigin(origin.id, origin.lsn, false);
    if (prepared) effects.removeTwophase(xid);
  }

  abort({ xid, subxids, prepared, origin }: EffectOf<'xact-abort'>, lsn: number): void {
    if (this.first) this.setStatus(xid, subxids, XID_ABORTED, lsn);
    const { effects } = this.ingest;
    if (origin !== undefined && origin.id !== 0) effects.setOrigin(origin.id, origin.lsn, false);
    if (prepared) effects.removeTwophase(xid);
  }

  private setStatus(xid: number, subxids: readonly number[], status: XidStatus, lsn: number): void {
    if (subxids.length === 0) {
      this.one[0] = xid;
      this.setPageStatus(Math.floor(xid / CLOG_XACTS_PER_PAGE), this.one, status, lsn);
      return;
    }
    for (const { pageno, xids } of groupXidsByPage([xid, ...subxids], CLOG_XACTS_PER_PAGE)) {
      this.setPageStatus(pageno, xids, status, lsn);
    }
  }

  private setPageStatus(pageno: number, xids: readonly number[], status: XidStatus, lsn: number): void {
    this.slrus.ensurePage(this.writer, lsn, SLRU_CLOG, pageno);
    this.edit(SLRU_CLOG, pageno, lsn, encodeClogStatus(xids, status));
  }

  private edit(kind: SlruKind, pageno: number, lsn: number, length: number): void {
    this.writer.put(relOfSlru(kind), pageno, lsn, VALUE_EDIT, 0, editBytes(), 0, length);
  }

  /** Backends take their time before they write: what goes back counts as what was there. */
  private commitTime(time: number, lsn: number): void {
    if (this.pgdata.commitTime !== undefined && time <= this.pgdata.commitTime) return;
    this.pgdata.commitTime = time;
    writeCommitTime(this.timeView, { time, back: lsn - this.ingest.lastRecordLsn });
    this.writer.put(REL_NAMES, BLK_SIZE, lsn, VALUE_BYTES, 0, this.time, 0, COMMIT_TIME_SIZE);
  }

  private keepTimestamp({ xid, subxids, xactTime, origin }: EffectOf<'xact-commit'>, lsn: number): void {
    const time = origin === undefined ? xactTime : Number(origin.time);
    for (const { pageno, xids } of groupXidsByPage([xid, ...subxids], COMMIT_TS_XACTS_PER_PAGE)) {
      this.slrus.ensurePage(this.writer, lsn, SLRU_COMMIT_TS, pageno);
      this.edit(SLRU_COMMIT_TS, pageno, lsn, encodeCommitTs(xids, time, origin?.id ?? 0));
    }
  }

  createMultiXact(effect: EffectOf<'multixact-create'>, lsn: number): void {
    const { mid, moff, nextMid, nextMoff, members } = effect;
    this.ingest.tracker.multiXactCreated(mid, moff, members);
    if (!this.first) return;
    const { slrus, writer } = this;
    slrus.ensurePage(writer, lsn, SLRU_MULTIXACT_OFFSETS, offsetPageOf(mid));
    this.edit(SLRU_MULTIXACT_OFFSETS, offsetPageOf(mid), lsn, encodeMultiXactOffset(mid, moff));
    if (slrus.hasPage(SLRU_MULTIXACT_OFFSETS, offsetPageOf(nextMid))) {
      this.edit(SLRU_MULTIXACT_OFFSETS, offsetPageOf(nextMid), lsn, encodeMultiXactOffset(nextMid, nextMoff));
    }
    for (const { pageno, first, count } of groupMembersByPage(moff, members.length)) {
      slrus.ensurePage(writer, lsn, SLRU_MULTIXACT_MEMBERS, pageno);
      this.edit(SLRU_MULTIXACT_MEMBERS, pageno, lsn, encodeMultiXactMembers(moff, members, first, count));
    }
  }

  truncateClog({ pageno, oldestXid, oldestXidDb }: EffectOf<'clog-truncate'>, lsn: number): void {
    const { tracker } = this.ingest;
    tracker.clogTruncated(oldestXid, oldestXidDb);
    const latest = Math.floor(xidFromFull(tracker.nextXid) / CLOG_XACTS_PER_PAGE);
    this.dropBefore(SLRU_CLOG, pageno, lsn, latest);
  }

  truncateCommitTs({ pageno, oldestXid }: EffectOf<'commit-ts-truncate'>, lsn: number): void {
    this.ingest.tracker.commitTsTruncated(oldestXid);
    this.dropBefore(SLRU_COMMIT_TS, pageno, lsn);
  }

  truncateMultiXacts(effect: EffectOf<'multixact-truncate'>, lsn: number): void {
    const { oldestMultiDb, endTruncOff, startTruncMemb, endTruncMemb } = effect;
    this.ingest.tracker.multiXactsTruncated(endTruncOff, oldestMultiDb);
    if (!this.first) return;
    const members = memberSegmentsToDelete(startTruncMemb, endTruncMemb);
    this.slrus.drop(this.writer, lsn, SLRU_MULTIXACT_MEMBERS, members);
    this.dropBefore(SLRU_MULTIXACT_OFFSETS, offsetsCutoffPage(endTruncOff), lsn);
  }

  private dropBefore(kind: SlruKind, cutoffPage: number, lsn: number, latestPage?: number): void {
    if (!this.first) return;
    const segments = this.slrus.segments(kind).keys();
    this.slrus.drop(this.writer, lsn, kind, slruSegmentsToDelete(kind, segments, cutoffPage, latestPage));
  }
}
