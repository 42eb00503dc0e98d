// Storage (2): relation files made and cut. (Their end is told by transactions.)
//
//   CREATE     0 spcOid, dbOid, relNumber u32 | 12 forkNum i32
//   TRUNCATE   0 blkno u32 | 4 spcOid, dbOid, relNumber u32 | 16 flags i32: 1 heap, 2 vm, 4 fsm
//
// Mirrors smgr_redo of storage.c and smgr_desc of smgrdesc.c. Majors differ in the paths they print only.

import { INIT_FORKNUM, MAIN_FORKNUM, type RelFileLocator } from '../../base/rel.ts';
import { badRecord, type WalRecord } from '../record.ts';
import type { Op, Rmgr } from '../rmgr.ts';
import { relPathAt, TABLESPACE_VERSION_DIRECTORY } from './desc.ts';
import { mainAt } from './main-data.ts';

export const RM_SMGR_ID = 2;
export const XLOG_SMGR_CREATE = 0x10;
export const XLOG_SMGR_TRUNCATE = 0x20;

const SIZE_OF_SMGR_CREATE = 16;
const SIZE_OF_SMGR_TRUNCATE = 20;

const SMGR_TRUNCATE_HEAP = 0x0001;
const SMGR_TRUNCATE_VM = 0x0002;
const SMGR_TRUNCATE_FSM = 0x0004;

const relAt = (view: DataView, at: number): RelFileLocator => ({
  spcOid: view.getUint32(at, true),
  dbOid: view.getUint32(at + 4, true),
  relNumber: view.getUint32(at + 8, true),
});

function forkNumAt(record: WalRecord, at: number): number {
  const forkNum = record.view.getInt32(at + 12, true);
  if (forkNum < MAIN_FORKNUM || forkNum > INIT_FORKNUM) throw badRecord(record, `fork ${forkNum}`);
  return forkNum;
}

const create = (versionDirectory: string): Op => ({
  name: 'CREATE',
  effects: (record, emit) => {
    const at = mainAt(record, SIZE_OF_SMGR_CREATE, 'xl_smgr_create');
    emit({ kind: 'smgr-create', rel: relAt(record.view, at), forkNum: forkNumAt(record, at) });
  },
  describe: record => {
    const at = mainAt(record, SIZE_OF_SMGR_CREATE, 'xl_smgr_create');
    return relPathAt(record.view, at, forkNumAt(record, at), versionDirectory);
  },
});

const truncate = (versionDirectory: string): Op => ({
  name: 'TRUNCATE',
  effects: (record, emit) => {
    const at = mainAt(record, SIZE_OF_SMGR_TRUNCATE, 'xl_smgr_truncate');
    const flags = record.view.getInt32(at + 16, true);
    emit({
      kind: 'smgr-truncate',
      rel: relAt(record.view, at + 4),
      blkno: record.view.getUint32(at, true),
      heap: (flags & SMGR_TRUNCATE_HEAP) !== 0,
      vm: (flags & SMGR_TRUNCATE_VM) !== 0,
      fsm: (flags & SMGR_TRUNCATE_FSM) !== 0,
    });
  },
  describe: record => {
    const at = mainAt(record, SIZE_OF_SMGR_TRUNCATE, 'xl_smgr_truncate');
    const path = relPathAt(record.view, at + 4, MAIN_FORKNUM, versionDirectory);
    return `${path} to ${record.view.getUint32(at, true)} blocks flags ${record.view.getInt32(at + 16, true)}`;
  },
});

const smgr = (versionDirectory: string): Rmgr => ({
  id: RM_SMGR_ID,
  name: 'Storage',
  opMask: 0xf0,
  ops: {
    [XLOG_SMGR_CREATE]: create(versionDirectory),
    [XLOG_SMGR_TRUNCATE]: truncate(versionDirectory),
  },
});

export const smgr14 = smgr(TABLESPACE_VERSION_DIRECTORY[14]);
export const smgr15 = smgr(TABLESPACE_VERSION_DIRECTORY[15]);
export const smgr16 = smgr(TABLESPACE_VERSION_DIRECTORY[16]);
export const smgr17 = smgr(TABLESPACE_VERSION_DIRECTORY[17]);
export const smgr18 = smgr(TABLESPACE_VERSION_DIRECTORY[18]);
