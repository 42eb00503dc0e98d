// The control file of a backup: pg_control as it was imported, with the checkpoint that ingest keeps up, and what
// the starting server is to believe about itself.
//
//   base backup (Neon's computes)   state shut down, checkPoint 0, checkPointCopy.redo = where the log goes on: the
//                                   compute replays nothing and takes checkPointCopy for the present. Parameters stay
//                                   those of initdb: a replica with less than the primary had must start all the same
//   full backup (stock Postgres)    state shut down, checkPoint = the shutdown checkpoint that the backup's only
//                                   segment holds; parameters as the newest PARAMETER_CHANGE has them
//
//   parameters, as stored: 0 MaxConnections i32 | 4 max_worker_processes | 8 max_wal_senders | 12 max_prepared_xacts |
//                          16 max_locks_per_xact | 20 wal_level | 24 wal_log_hints u8 | 25 track_commit_timestamp u8
//
// Answers to basebackup.rs and xlog_utils.rs (generate_pg_control, normalize_lsn) of Neon, and to the checks of
// InitWalRecovery and ReadCheckpointRecord in xlogrecovery.c.

import { lsn as asLsn, type Lsn } from '../base/lsn.ts';
import { type CheckPoint, xidFromFull } from '../xlog/checkpoint.ts';
import { type ControlFile, DB_SHUTDOWNED } from '../xlog/control-file.ts';
import type { EffectOf } from '../xlog/effects.ts';
import { pageHeaderSize, XLOG_BLCKSZ } from '../xlog/segment.ts';

export type Parameters = Omit<EffectOf<'parameter-change'>, 'kind'>;

const PARAMETERS_SIZE = 26;

export function encodeParameters(parameters: Parameters): Uint8Array {
  const bytes = new Uint8Array(PARAMETERS_SIZE);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, parameters.maxConnections, true);
  view.setInt32(4, parameters.maxWorkerProcesses, true);
  view.setInt32(8, parameters.maxWalSenders, true);
  view.setInt32(12, parameters.maxPreparedXacts, true);
  view.setInt32(16, parameters.maxLocksPerXact, true);
  view.setInt32(20, parameters.walLevel, true);
  bytes[24] = parameters.walLogHints ? 1 : 0;
  bytes[25] = parameters.trackCommitTimestamp ? 1 : 0;
  return bytes;
}

export function readParameters(bytes: Uint8Array): Parameters {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    maxConnections: view.getInt32(0, true),
    maxWorkerProcesses: view.getInt32(4, true),
    maxWalSenders: view.getInt32(8, true),
    maxPreparedXacts: view.getInt32(12, true),
    maxLocksPerXact: view.getInt32(16, true),
    walLevel: view.getInt32(20, true),
    walLogHints: bytes[24] === 1,
    trackCommitTimestamp: bytes[25] === 1,
  };
}

/** Where the record after `lsn` begins: aligned, and past the header of the page that it would fall on. */
export function nextRecordStart(lsn: number, segmentSize: number): Lsn {
  const aligned = Math.ceil(lsn / 8) * 8;
  return asLsn(aligned % XLOG_BLCKSZ === 0 ? aligned + pageHeaderSize(aligned, segmentSize) : aligned);
}

/**
 * For a compute that goes on with the log at `lsn`: on timeline 1, as safekeepers tell replicas, whatever the timeline
 * was of the server that the cluster was taken from.
 */
export function baseBackupControl(control: ControlFile, checkpoint: CheckPoint, lsn: number): ControlFile {
  return {
    ...control,
    state: DB_SHUTDOWNED,
    checkPoint: asLsn(0),
    checkPointCopy: {
      ...withNewestCommitTs(checkpoint),
      redo: nextRecordStart(lsn, control.xlogSegSize),
      thisTimeLineId: 1,
      prevTimeLineId: 1,
    },
  };
}

/** The checkpoint of a cluster that was shut down just now: its record begins at `at`, on timeline 1. */
export function shutdownCheckpoint(checkpoint: CheckPoint, at: Lsn, time: number): CheckPoint {
  return {
    ...withNewestCommitTs(checkpoint),
    redo: at,
    thisTimeLineId: 1,
    prevTimeLineId: 1,
    fullPageWrites: true,
    oldestActiveXid: 0,
    time,
  };
}

/** For a stock server that begins with that checkpoint. */
export function fullBackupControl(
  control: ControlFile,
  checkpoint: CheckPoint,
  parameters: Parameters | undefined,
): ControlFile {
  return {
    ...control,
    ...(parameters ?? {}),
    state: DB_SHUTDOWNED,
    time: checkpoint.time,
    checkPoint: checkpoint.redo,
    checkPointCopy: checkpoint,
    minRecoveryPoint: asLsn(0),
    minRecoveryPointTli: 0,
    backupStartPoint: asLsn(0),
    backupEndPoint: asLsn(0),
    backupEndRequired: false,
  };
}

/** newestCommitTsXid is not kept up: it is the last xid before the next one, where timestamps are kept at all. */
function withNewestCommitTs(checkpoint: CheckPoint): CheckPoint {
  if (checkpoint.oldestCommitTsXid === 0) return checkpoint;
  const last = xidFromFull(checkpoint.nextXid - 1);
  return { ...checkpoint, newestCommitTsXid: last < 3 ? 0xffff_ffff : last };
}
