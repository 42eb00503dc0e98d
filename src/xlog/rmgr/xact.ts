// Transaction (1): how transactions end. The low opcode bits (0x70) choose the operation; 0x80 says that the
// body has an xinfo (xact-record.ts draws the bodies and takes them apart).
//
//   COMMIT, ABORT                      of the record's xid and its subtransactions; an abort may be a subtransaction's
//   PREPARE                            the two-phase state; becomes a file of pg_twophase at the next checkpoint
//   COMMIT_PREPARED, ABORT_PREPARED    of the xid that the body names
//   ASSIGNMENT      0 xtop u32 | 4 nsubxacts i32 | 8 xsub u32[]               only standbys care
//   INVALIDATION    0 nmsgs i32 | 4 messages, 16 bytes each                   only logical decoding cares
//
// The order of effects is redo's: the transaction itself (commit timestamp, status, origin), then the relations
// that go with it. Dropped statistics are no effect: a recovered cluster starts with none.
//
// Mirrors xact_redo of xact.c, PrepareRedoAdd of twophase.c and xact_desc of xactdesc.c.

import type { XactOrigin } from '../effects.ts';
import { badRecord, type WalRecord } from '../record.ts';
import type { Op, RecordEffects, Rmgr } from '../rmgr.ts';
import { invalNames14, invalNames18, TABLESPACE_VERSION_DIRECTORY } from './desc.ts';
import { copyOf, mainEnd, readText, readUint32s } from './main-data.ts';
import {
  describeAbort,
  describeAssignment,
  describeCommit,
  describeInvalidation,
  describePrepare,
  type XactShape,
} from './xact-desc.ts';
import {
  parsePrepareRecord,
  parseXactRecord,
  readRelations,
  type XactLayout,
  XactRecord,
} from './xact-record.ts';

export const RM_XACT_ID = 1;
export const XLOG_XACT_OPMASK = 0x70;
export const XLOG_XACT_COMMIT = 0x00;
export const XLOG_XACT_PREPARE = 0x10;
export const XLOG_XACT_ABORT = 0x20;
export const XLOG_XACT_COMMIT_PREPARED = 0x30;
export const XLOG_XACT_ABORT_PREPARED = 0x40;
export const XLOG_XACT_ASSIGNMENT = 0x50;
export const XLOG_XACT_INVALIDATIONS = 0x60;

/** Parsed into by one record after the other; effects are emitted before the next is. */
const parsed = new XactRecord();
const NO_XIDS: readonly number[] = [];

function originAt(record: WalRecord, at: number): XactOrigin {
  return {
    id: record.origin,
    lsn: record.view.getBigUint64(at, true),
    time: record.view.getBigInt64(at + 8, true),
  };
}

function endEffects(
  layout: XactLayout,
  kind: 'xact-commit' | 'xact-abort',
  prepared: boolean,
): RecordEffects {
  return (record, emit) => {
    parseXactRecord(parsed, record, layout, kind === 'xact-commit');
    const xid = prepared ? parsed.twophaseXid : record.xid;
    if (xid === 0) throw badRecord(record, 'the end of no transaction');
    const { view } = record;
    emit({
      kind,
      xid,
      subxids: parsed.nsubxacts === 0 ? NO_XIDS : readUint32s(view, parsed.subxactsAt, parsed.nsubxacts),
      xactTime: parsed.xactTime,
      origin: parsed.hasOrigin ? originAt(record, parsed.originAt) : undefined,
      prepared,
    });
    if (parsed.nrels > 0)
      emit({ kind: 'drop-relations', rels: readRelations(view, parsed.relsAt, parsed.nrels) });
  };
}

function prepareEffects(layout: XactLayout): RecordEffects {
  return (record, emit) => {
    const prepare = parsePrepareRecord(record, layout);
    if (prepare.xid === 0) throw badRecord(record, 'a prepare of no transaction');
    emit({
      kind: 'xact-prepare',
      xid: prepare.xid,
      subxids: readUint32s(record.view, prepare.subxactsAt, prepare.nsubxacts),
      gid: readText(record, prepare.gidAt, prepare.gidEnd),
      preparedAt: prepare.preparedAt,
      origin: record.origin === 0 ? undefined : originAt(record, prepare.originAt),
      bytes: copyOf(record, record.mainOffset, mainEnd(record)),
    });
  };
}

function xact(shape: XactShape): Rmgr {
  const commit = (name: string, prepared: boolean): Op => ({
    name,
    effects: endEffects(shape, 'xact-commit', prepared),
    describe: record => describeCommit(record, shape),
  });
  const abort = (name: string, prepared: boolean): Op => ({
    name,
    effects: endEffects(shape, 'xact-abort', prepared),
    describe: record => describeAbort(record, shape),
  });
  return {
    id: RM_XACT_ID,
    name: 'Transaction',
    opMask: XLOG_XACT_OPMASK,
    ops: {
      [XLOG_XACT_COMMIT]: commit('COMMIT', false),
      [XLOG_XACT_PREPARE]: {
        name: 'PREPARE',
        effects: prepareEffects(shape),
        describe: record => describePrepare(record, shape),
      },
      [XLOG_XACT_ABORT]: abort('ABORT', false),
      [XLOG_XACT_COMMIT_PREPARED]: commit('COMMIT_PREPARED', true),
      [XLOG_XACT_ABORT_PREPARED]: abort('ABORT_PREPARED', true),
      [XLOG_XACT_ASSIGNMENT]: { name: 'ASSIGNMENT', describe: describeAssignment },
      [XLOG_XACT_INVALIDATIONS]: {
        name: 'INVALIDATION',
        describe: record => describeInvalidation(record, shape),
      },
    },
  };
}

const shape14: XactShape = {
  statsItemSize: 0,
  prepareTail: 40,
  versionDirectory: TABLESPACE_VERSION_DIRECTORY[14],
  invalNames: invalNames14,
  tellsOrigins: false,
};
const shape15: XactShape = {
  ...shape14,
  statsItemSize: 12,
  prepareTail: 48,
  versionDirectory: TABLESPACE_VERSION_DIRECTORY[15],
  tellsOrigins: true,
};
const shape16: XactShape = { ...shape15, versionDirectory: TABLESPACE_VERSION_DIRECTORY[16] };
const shape17: XactShape = { ...shape16, versionDirectory: TABLESPACE_VERSION_DIRECTORY[17] };
const shape18: XactShape = {
  ...shape17,
  statsItemSize: 16,
  versionDirectory: TABLESPACE_VERSION_DIRECTORY[18],
  invalNames: invalNames18,
};

export const xact14 = xact(shape14);
export const xact15 = xact(shape15);
export const xact16 = xact(shape16);
export const xact17 = xact(shape17);
export const xact18 = xact(shape18);
