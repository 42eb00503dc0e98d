// What a record does beyond the pages it names: the vocabulary between resource managers, which say it, and
// whoever keeps state (ingest, replay), which carries it out. Block references themselves are not effects: the
// keeper walks `record.blocks`. Nor is the record's own xid: every xl_xid moves nextXid past itself.
//
// Names are Postgres's. Page edits that Postgres makes without naming the block in the record (visibility bits,
// SLRU entries) are told here in terms of their meaning; derived.ts turns them into edits of bytes.
//
// An effect owns its bytes: they are copies, good after the record's buffer is gone. Effects of one record are
// emitted in the order in which Postgres's redo carries them out. What only a hot standby does (locks,
// invalidations, conflicts) is no effect, and neither is what redo itself passes over (CHECKPOINT_REDO,
// BACKUP_END, RESTORE_POINT, SWITCH, NOOP).
//
// Counters that only grow (nextXid, nextMulti, nextMultiOffset) are compared modulo 2^32, as
// TransactionIdPrecedes does; a shutdown checkpoint sets them outright.

import type { RelFileLocator, SlruKind } from '../base/rel.ts';

/** A member of a multixact: xid and MultiXactStatus. */
export interface MultiXactMember {
  readonly xid: number;
  readonly status: number;
}

/**
 * Where a transaction came from. Position and time are the other system's, and a user may have set them to
 * anything: 64 bits kept whole. Progress of origin `id` goes to `lsn` if that is ahead (replorigin_advance).
 */
export interface XactOrigin {
  readonly id: number;
  readonly lsn: bigint;
  readonly time: bigint;
}

/** What commit and abort have in common. */
interface XactEnd {
  /** For the end of a prepared transaction its xid, not the record's. */
  readonly xid: number;
  readonly subxids: readonly number[];
  /** Microseconds since 2000-01-01, as the record has it. */
  readonly xactTime: number;
  readonly origin: XactOrigin | undefined;
  /** A prepared transaction's end: its state file goes. */
  readonly prepared: boolean;
}

export type Effect =
  // relations
  /** The fork exists now, with no blocks unless it had some. */
  | { readonly kind: 'smgr-create'; readonly rel: RelFileLocator; readonly forkNum: number }
  /** The main fork is made if it is not there; fsm and vm are cut only where they exist. */
  | {
      readonly kind: 'smgr-truncate';
      readonly rel: RelFileLocator;
      /** New length of the main fork, in blocks; map forks are cut to what describes those. */
      readonly blkno: number;
      readonly heap: boolean;
      readonly vm: boolean;
      readonly fsm: boolean;
    }
  /** All forks of each. */
  | { readonly kind: 'drop-relations'; readonly rels: readonly RelFileLocator[] }
  // databases
  /** Whatever the target holds goes; then the source's directory is copied as it stands at this record. */
  | {
      readonly kind: 'database-copy';
      readonly dbOid: number;
      readonly spcOid: number;
      readonly srcDbOid: number;
      readonly srcSpcOid: number;
    }
  /** A database directory with nothing but its version file; the contents follow in the log (strategy wal_log). */
  | { readonly kind: 'database-create'; readonly dbOid: number; readonly spcOid: number }
  | { readonly kind: 'database-drop'; readonly dbOid: number; readonly spcOids: readonly number[] }
  /** The whole file, its checksum included; database 0 is the shared map. */
  | { readonly kind: 'relmap'; readonly dbOid: number; readonly spcOid: number; readonly bytes: Uint8Array }
  // visibility map: `heapBlks` lose the bits in `flags` (1 all-visible, 2 all-frozen)
  | {
      readonly kind: 'vm-clear';
      readonly rel: RelFileLocator;
      readonly heapBlk: number;
      /** The second heap block of an update that moved the tuple, if it loses its bits as well. */
      readonly heapBlk2?: number;
      readonly flags: number;
    }
  // transactions
  /**
   * Xid and subxids are committed in pg_xact. While commit timestamps are tracked, each also gets an entry in
   * pg_commit_ts: time `origin.time` and node `origin.id` where there is an origin, else `xactTime` and 0.
   */
  | ({ readonly kind: 'xact-commit' } & XactEnd)
  /** Xid and subxids are aborted in pg_xact. It may be a subtransaction's end: `xid` is then not a top one. */
  | ({ readonly kind: 'xact-abort' } & XactEnd)
  /** `bytes` is the state file without the CRC that ends it. */
  | {
      readonly kind: 'xact-prepare';
      readonly xid: number;
      readonly subxids: readonly number[];
      readonly gid: string;
      readonly preparedAt: number;
      readonly origin: XactOrigin | undefined;
      readonly bytes: Uint8Array;
    }
  // SLRUs
  | { readonly kind: 'slru-zero-page'; readonly slru: SlruKind; readonly pageno: number }
  /** Segments wholly before `pageno` go. */
  | {
      readonly kind: 'clog-truncate';
      readonly pageno: number;
      readonly oldestXid: number;
      readonly oldestXidDb: number;
    }
  /**
   * Offsets entry `mid` is `moff`, and entry `nextMid` is `nextMoff`, the end of these members: since 14.21,
   * 15.16, 16.12, 17.8 and 18.2 a reader finds a multixact's length there, and writers zero the page of the next
   * entry beforehand. Earlier ones wrote it only as the start of the next multixact, which comes to the same
   * value; where the page of `nextMid` is not there yet, an earlier one wrote this, and its next record will.
   */
  | {
      readonly kind: 'multixact-create';
      readonly mid: number;
      readonly moff: number;
      readonly nextMid: number;
      readonly nextMoff: number;
      readonly members: readonly MultiXactMember[];
    }
  /** oldestMulti becomes `endTruncOff`. Members in [startTruncMemb, endTruncMemb) go, whole segments, wrapping. */
  | {
      readonly kind: 'multixact-truncate';
      readonly oldestMultiDb: number;
      readonly startTruncOff: number;
      readonly endTruncOff: number;
      readonly startTruncMemb: number;
      readonly endTruncMemb: number;
    }
  | { readonly kind: 'commit-ts-truncate'; readonly pageno: number; readonly oldestXid: number }
  // the cluster
  | { readonly kind: 'next-oid'; readonly oid: number }
  /** `bytes` is the CheckPoint struct (checkpoint.ts reads it). */
  | { readonly kind: 'checkpoint'; readonly shutdown: boolean; readonly bytes: Uint8Array }
  /** Goes to pg_control. When `trackCommitTimestamp` turns off, pg_commit_ts is emptied. */
  | {
      readonly kind: 'parameter-change';
      readonly maxConnections: number;
      readonly maxWorkerProcesses: number;
      readonly maxWalSenders: number;
      readonly maxPreparedXacts: number;
      readonly maxLocksPerXact: number;
      readonly walLevel: number;
      readonly walLogHints: boolean;
      readonly trackCommitTimestamp: boolean;
    }
  | {
      readonly kind: 'end-of-recovery';
      readonly thisTimeLineId: number;
      readonly prevTimeLineId: number;
      /** Told since 17. */
      readonly walLevel: number | undefined;
    }
  | { readonly kind: 'full-page-writes'; readonly on: boolean }
  | {
      readonly kind: 'running-xacts';
      readonly nextXid: number;
      readonly oldestRunningXid: number;
      readonly latestCompletedXid: number;
    }
  // replication
  /** Progress of an origin; it may go backward only with `force`. */
  | {
      readonly kind: 'origin-set';
      readonly nodeId: number;
      readonly remoteLsn: bigint;
      readonly force: boolean;
    }
  | { readonly kind: 'origin-drop'; readonly nodeId: number }
  /** A logical message; Neon's computes keep auxiliary files in those with prefix `neon-file:`. */
  | {
      readonly kind: 'logical-message';
      readonly dbOid: number;
      readonly transactional: boolean;
      readonly prefix: string;
      readonly message: Uint8Array;
    };

export type EffectKind = Effect['kind'];
export type EffectOf<Kind extends EffectKind> = Extract<Effect, { readonly kind: Kind }>;
