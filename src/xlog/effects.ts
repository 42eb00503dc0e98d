// What a record does beyond the pages it names: the vocabulary between resource managers, which say it, and
// whoever keeps state (ingest, replay, dump), which carries it out. Block references themselves are not
// effects: the keeper walks `record.blocks`.
//
// Names are Postgres's. Page edits that Postgres makes without naming the block in the record (visibility bits,
// SLRU entries) are told here in terms of their meaning; derived.ts turns them into edits of bytes.

import type { RelFileLocator, SlruKind } from '../base/rel.ts';

/** A member of a multixact: xid and MultiXactStatus. */
export interface MultiXactMember {
  readonly xid: number;
  readonly status: number;
}

/** The CheckPoint struct as read from a checkpoint record (checkpoint.ts reads and writes it). */
export interface CheckpointBytes {
  /** The struct's bytes, copied out of the record. */
  readonly bytes: Uint8Array;
}

export type Effect =
  // relations
  | { readonly kind: 'smgr-create'; readonly rel: RelFileLocator; readonly forkNum: number }
  | {
      readonly kind: 'smgr-truncate';
      readonly rel: RelFileLocator;
      /** New length of the main fork, in blocks. */
      readonly blkno: number;
      readonly heap: boolean;
      readonly vm: boolean;
      readonly fsm: boolean;
    }
  | { readonly kind: 'drop-relations'; readonly rels: readonly RelFileLocator[] }
  | {
      readonly kind: 'database-copy';
      readonly dbOid: number;
      readonly spcOid: number;
      readonly srcDbOid: number;
      readonly srcSpcOid: number;
    }
  /** A new, empty database directory whose contents follow in the log (strategy wal_log). */
  | { readonly kind: 'database-create'; readonly dbOid: number; readonly spcOid: number }
  | { readonly kind: 'database-drop'; readonly dbOid: number; readonly spcOids: readonly number[] }
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
  | {
      readonly kind: 'xact-commit';
      readonly xid: number;
      readonly subxids: readonly number[];
      /** Microseconds since 2000-01-01, as the record has it. */
      readonly xactTime: number;
      /** Replication origin of the commit and its position there, where the record has one. */
      readonly origin?: { readonly id: number; readonly lsn: number; readonly time: number };
      /** A prepared transaction's end: its state file goes. */
      readonly prepared: boolean;
      readonly gid?: string;
      /** XACT_XINFO_HAS_AE_LOCKS and the like stay in the record; `xinfo` for those who want them. */
      readonly xinfo: number;
    }
  | {
      readonly kind: 'xact-abort';
      readonly xid: number;
      readonly subxids: readonly number[];
      readonly xactTime: number;
      readonly origin?: { readonly id: number; readonly lsn: number; readonly time: number };
      readonly prepared: boolean;
      readonly gid?: string;
      readonly xinfo: number;
    }
  | { readonly kind: 'xact-prepare'; readonly xid: number; readonly bytes: Uint8Array }
  // SLRUs
  | { readonly kind: 'slru-zero-page'; readonly slru: SlruKind; readonly pageno: number }
  | {
      readonly kind: 'clog-truncate';
      readonly pageno: number;
      readonly oldestXid: number;
      readonly oldestXidDb: number;
    }
  | {
      readonly kind: 'multixact-create';
      readonly mid: number;
      readonly moff: number;
      readonly members: readonly MultiXactMember[];
    }
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
  | { readonly kind: 'checkpoint'; readonly shutdown: boolean; readonly checkpoint: CheckpointBytes }
  | { readonly kind: 'checkpoint-redo'; readonly walLevel: number }
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
      readonly walLevel?: number;
    }
  | { readonly kind: 'full-page-writes'; readonly on: boolean }
  | {
      readonly kind: 'running-xacts';
      readonly nextXid: number;
      readonly oldestRunningXid: number;
      readonly latestCompletedXid: number;
      readonly subxidOverflow: boolean;
      readonly xids: readonly number[];
    }
  | {
      readonly kind: 'origin-set';
      readonly nodeId: number;
      readonly remoteLsn: number;
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
