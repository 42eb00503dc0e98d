// XLOG (0): what the log says about itself and the cluster: checkpoints, counters, parameters, and full-page
// images that belong to no access method.
//
//   CHECKPOINT_*          CheckPoint, 88 bytes:
//      0 redo u64 | 8 ThisTimeLineID | 12 PrevTimeLineID | 16 fullPageWrites u8 | 20 wal_level (17+) |
//     24 nextXid u64 | 32 nextOid | 36 nextMulti | 40 nextMultiOffset | 44 oldestXid | 48 oldestXidDB |
//     52 oldestMulti | 56 oldestMultiDB | 64 time i64 | 72 oldestCommitTsXid | 76 newestCommitTsXid |
//     80 oldestActiveXid
//   NEXTOID               nextOid u32
//   BACKUP_END            startpoint u64
//   PARAMETER_CHANGE      0 MaxConnections | 4 max_worker_processes | 8 max_wal_senders | 12 max_prepared_xacts |
//                         16 max_locks_per_xact | 20 wal_level | 24 wal_log_hints u8 | 25 track_commit_timestamp u8
//   RESTORE_POINT         0 rp_time i64 | 8 rp_name char[64]
//   FPW_CHANGE            full_page_writes u8
//   END_OF_RECOVERY       0 end_time i64 | 8 ThisTimeLineID | 12 PrevTimeLineID | 16 wal_level (17+)
//   OVERWRITE_CONTRECORD  0 overwritten_lsn u64 | 8 overwrite_time i64        (late minors of 14 write it too)
//   CHECKPOINT_REDO       wal_level i32                                       (17+)
//
// FPI carries an image for each of its blocks, and so does FPI_FOR_HINT in 14. From 15 on the latter may carry
// none, when full_page_writes is off: the page then stays as it is, pd_lsn too, and may not even be there (a free
// space map grows unlogged). The checkpoint, end-of-recovery and switch rules that concern reading the log itself
// are the reader's.
//
// Mirrors xlog_redo of xlog.c and xlog_desc of xlogdesc.c.

import type { WalRecord } from '../record.ts';
import {
  leaveUnchanged,
  type Op,
  type PageRedo,
  type RecordEffects,
  type Rmgr,
  redoFault,
  replaceOps,
} from '../rmgr.ts';
import { lsnAt, onOff, timestamptzToStr, trueFalse, walLevelString } from './desc.ts';
import { copyOf, mainAt, mainEnd, readText } from './main-data.ts';

export const RM_XLOG_ID = 0;
export const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
export const XLOG_CHECKPOINT_ONLINE = 0x10;
export const XLOG_NOOP = 0x20;
export const XLOG_NEXTOID = 0x30;
export const XLOG_SWITCH = 0x40;
export const XLOG_BACKUP_END = 0x50;
export const XLOG_PARAMETER_CHANGE = 0x60;
export const XLOG_RESTORE_POINT = 0x70;
export const XLOG_FPW_CHANGE = 0x80;
export const XLOG_END_OF_RECOVERY = 0x90;
export const XLOG_FPI_FOR_HINT = 0xa0;
export const XLOG_FPI = 0xb0;
export const XLOG_OVERWRITE_CONTRECORD = 0xd0;
export const XLOG_CHECKPOINT_REDO = 0xe0;

const SIZE_OF_CHECKPOINT = 88;
const SIZE_OF_PARAMETER_CHANGE = 26;

// Checkpoints.

function checkpointEffects(shutdown: boolean): RecordEffects {
  return (record, emit) => {
    const at = mainAt(record, SIZE_OF_CHECKPOINT, 'CheckPoint');
    emit({ kind: 'checkpoint', shutdown, bytes: copyOf(record, at, at + SIZE_OF_CHECKPOINT) });
  };
}

const noWalLevel = (): string => '';
const walLevelAt20 = (view: DataView, at: number): string =>
  ` wal_level ${walLevelString(view.getInt32(at + 20, true))};`;

function describeCheckpoint(kind: 'shutdown' | 'online', walLevel: (view: DataView, at: number) => string) {
  return (record: WalRecord): string => {
    const at = mainAt(record, SIZE_OF_CHECKPOINT, 'CheckPoint');
    const { view } = record;
    const u32 = (offset: number): number => view.getUint32(at + offset, true);
    return (
      `redo ${lsnAt(view, at)}; tli ${u32(8)}; prev tli ${u32(12)}; fpw ${trueFalse(view.getUint8(at + 16))};` +
      `${walLevel(view, at)} xid ${u32(28)}:${u32(24)}; oid ${u32(32)}; multi ${u32(36)}; offset ${u32(40)}; ` +
      `oldest xid ${u32(44)} in DB ${u32(48)}; oldest multi ${u32(52)} in DB ${u32(56)}; ` +
      `oldest/newest commit timestamp xid: ${u32(72)}/${u32(76)}; oldest running xid ${u32(80)}; ${kind}`
    );
  };
}

function checkpointOps(walLevel: (view: DataView, at: number) => string): Record<number, Op> {
  return {
    [XLOG_CHECKPOINT_SHUTDOWN]: {
      name: 'CHECKPOINT_SHUTDOWN',
      effects: checkpointEffects(true),
      describe: describeCheckpoint('shutdown', walLevel),
    },
    [XLOG_CHECKPOINT_ONLINE]: {
      name: 'CHECKPOINT_ONLINE',
      effects: checkpointEffects(false),
      describe: describeCheckpoint('online', walLevel),
    },
  };
}

const checkpointRedo: Op = {
  name: 'CHECKPOINT_REDO',
  describe: record =>
    `wal_level ${walLevelString(record.view.getInt32(mainAt(record, 4, 'CHECKPOINT_REDO'), true))}`,
};

// Counters and parameters.

const nextOidAt = (record: WalRecord): number => record.view.getUint32(mainAt(record, 4, 'NEXTOID'), true);

const nextOid: Op = {
  name: 'NEXTOID',
  effects: (record, emit) => emit({ kind: 'next-oid', oid: nextOidAt(record) }),
  describe: record => String(nextOidAt(record)),
};

const parameterChange: Op = {
  name: 'PARAMETER_CHANGE',
  effects: (record, emit) => {
    const at = mainAt(record, SIZE_OF_PARAMETER_CHANGE, 'xl_parameter_change');
    const { view } = record;
    emit({
      kind: 'parameter-change',
      maxConnections: view.getInt32(at, true),
      maxWorkerProcesses: view.getInt32(at + 4, true),
      maxWalSenders: view.getInt32(at + 8, true),
      maxPreparedXacts: view.getInt32(at + 12, true),
      maxLocksPerXact: view.getInt32(at + 16, true),
      walLevel: view.getInt32(at + 20, true),
      walLogHints: view.getUint8(at + 24) !== 0,
      trackCommitTimestamp: view.getUint8(at + 25) !== 0,
    });
  },
  describe: record => {
    const at = mainAt(record, SIZE_OF_PARAMETER_CHANGE, 'xl_parameter_change');
    const { view } = record;
    const i32 = (offset: number): number => view.getInt32(at + offset, true);
    return (
      `max_connections=${i32(0)} max_worker_processes=${i32(4)} max_wal_senders=${i32(8)} ` +
      `max_prepared_xacts=${i32(12)} max_locks_per_xact=${i32(16)} wal_level=${walLevelString(i32(20))} ` +
      `wal_log_hints=${onOff(view.getUint8(at + 24))} track_commit_timestamp=${onOff(view.getUint8(at + 25))}`
    );
  },
};

const fpwAt = (record: WalRecord): number => record.view.getUint8(mainAt(record, 1, 'FPW_CHANGE'));

const fpwChange: Op = {
  name: 'FPW_CHANGE',
  effects: (record, emit) => emit({ kind: 'full-page-writes', on: fpwAt(record) !== 0 }),
  describe: record => trueFalse(fpwAt(record)),
};

// Marks in the log.

function endOfRecovery(size: number, walLevelOf: (view: DataView, at: number) => number | undefined): Op {
  return {
    name: 'END_OF_RECOVERY',
    effects: (record, emit) => {
      const at = mainAt(record, size, 'xl_end_of_recovery');
      emit({
        kind: 'end-of-recovery',
        thisTimeLineId: record.view.getUint32(at + 8, true),
        prevTimeLineId: record.view.getUint32(at + 12, true),
        walLevel: walLevelOf(record.view, at),
      });
    },
    describe: record => {
      const at = mainAt(record, size, 'xl_end_of_recovery');
      const { view } = record;
      const walLevel = walLevelOf(view, at);
      return (
        `tli ${view.getUint32(at + 8, true)}; prev tli ${view.getUint32(at + 12, true)}; ` +
        `time ${timestamptzToStr(view.getBigInt64(at, true))}` +
        (walLevel === undefined ? '' : `; wal_level ${walLevelString(walLevel)}`)
      );
    },
  };
}

const backupEnd: Op = {
  name: 'BACKUP_END',
  describe: record => lsnAt(record.view, mainAt(record, 8, 'BACKUP_END')),
};

const restorePoint: Op = {
  name: 'RESTORE_POINT',
  describe: record => readText(record, mainAt(record, 9, 'xl_restore_point') + 8, mainEnd(record)),
};

const overwriteContrecord: Op = {
  name: 'OVERWRITE_CONTRECORD',
  describe: record => {
    const at = mainAt(record, 16, 'xl_overwrite_contrecord');
    return `lsn ${lsnAt(record.view, at)}; time ${timestamptzToStr(record.view.getBigInt64(at + 8, true))}`;
  },
};

// Images.

const imageMissing: PageRedo = (_page, record, block) => {
  throw redoFault(record, block, 'no full-page image in the record that is nothing else');
};

export const xlog14: Rmgr = {
  id: RM_XLOG_ID,
  name: 'XLOG',
  opMask: 0xf0,
  ops: {
    ...checkpointOps(noWalLevel),
    [XLOG_NOOP]: { name: 'NOOP' },
    [XLOG_NEXTOID]: nextOid,
    [XLOG_SWITCH]: { name: 'SWITCH' },
    [XLOG_BACKUP_END]: backupEnd,
    [XLOG_PARAMETER_CHANGE]: parameterChange,
    [XLOG_RESTORE_POINT]: restorePoint,
    [XLOG_FPW_CHANGE]: fpwChange,
    [XLOG_END_OF_RECOVERY]: endOfRecovery(16, () => undefined),
    [XLOG_FPI_FOR_HINT]: { name: 'FPI_FOR_HINT', redoEvery: imageMissing },
    [XLOG_FPI]: { name: 'FPI', redoEvery: imageMissing },
    [XLOG_OVERWRITE_CONTRECORD]: overwriteContrecord,
  },
};
export const xlog15: Rmgr = replaceOps(xlog14, {
  [XLOG_FPI_FOR_HINT]: { name: 'FPI_FOR_HINT', redoEvery: leaveUnchanged, imagesOnly: true },
});
export const xlog16 = xlog15;
export const xlog17: Rmgr = replaceOps(xlog16, {
  ...checkpointOps(walLevelAt20),
  [XLOG_END_OF_RECOVERY]: endOfRecovery(20, (view, at) => view.getInt32(at + 16, true)),
  [XLOG_CHECKPOINT_REDO]: checkpointRedo,
});
export const xlog18 = xlog17;
