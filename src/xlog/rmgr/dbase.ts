// Database (4): directories of databases. In 15 the opcodes moved: what was DROP in 14 is CREATE_WAL_LOG since.
//
//   CREATE, CREATE_FILE_COPY   0 db_id | 4 tablespace_id | 8 src_db_id | 12 src_tablespace_id    (u32 each)
//   CREATE_WAL_LOG             0 db_id | 4 tablespace_id
//   DROP                       0 db_id | 4 ntablespaces i32 | 8 tablespace_ids u32[]
//
// Mirrors dbase_redo of dbcommands.c and dbase_desc of dbasedesc.c.

import type { WalRecord } from '../record.ts';
import type { Op, Rmgr } from '../rmgr.ts';
import { arrayEnd, mainAt, readUint32s } from './main-data.ts';

export const RM_DBASE_ID = 4;
export const XLOG_DBASE_CREATE = 0x00;
export const XLOG_DBASE_DROP_14 = 0x10;
export const XLOG_DBASE_CREATE_FILE_COPY = 0x00;
export const XLOG_DBASE_CREATE_WAL_LOG = 0x10;
export const XLOG_DBASE_DROP = 0x20;

const create = (name: string): Op => ({
  name,
  effects: (record, emit) => {
    const at = mainAt(record, 16, 'xl_dbase_create_file_copy_rec');
    const { view } = record;
    emit({
      kind: 'database-copy',
      dbOid: view.getUint32(at, true),
      spcOid: view.getUint32(at + 4, true),
      srcDbOid: view.getUint32(at + 8, true),
      srcSpcOid: view.getUint32(at + 12, true),
    });
  },
  describe: record => {
    const [db, spc, srcDb, srcSpc] = readUint32s(
      record.view,
      mainAt(record, 16, 'xl_dbase_create_file_copy_rec'),
      4,
    );
    return `copy dir ${srcSpc}/${srcDb} to ${spc}/${db}`;
  },
});

const createWalLog: Op = {
  name: 'CREATE_WAL_LOG',
  effects: (record, emit) => {
    const at = mainAt(record, 8, 'xl_dbase_create_wal_log_rec');
    emit({
      kind: 'database-create',
      dbOid: record.view.getUint32(at, true),
      spcOid: record.view.getUint32(at + 4, true),
    });
  },
  describe: record => {
    const at = mainAt(record, 8, 'xl_dbase_create_wal_log_rec');
    return `create dir ${record.view.getUint32(at + 4, true)}/${record.view.getUint32(at, true)}`;
  },
};

function tablespaceIds(record: WalRecord): number[] {
  const at = mainAt(record, 8, 'xl_dbase_drop_rec');
  const count = record.view.getInt32(at + 4, true);
  arrayEnd(record, at + 8, count, 4, 'tablespaces');
  return readUint32s(record.view, at + 8, count);
}

const drop: Op = {
  name: 'DROP',
  effects: (record, emit) => {
    const spcOids = tablespaceIds(record);
    emit({ kind: 'database-drop', dbOid: record.view.getUint32(record.mainOffset, true), spcOids });
  },
  describe: record => {
    const ids = tablespaceIds(record);
    const db = record.view.getUint32(record.mainOffset, true);
    return `dir${ids.map(id => ` ${id}/${db}`).join('')}`;
  },
};

export const dbase14: Rmgr = {
  id: RM_DBASE_ID,
  name: 'Database',
  opMask: 0xf0,
  ops: { [XLOG_DBASE_CREATE]: create('CREATE'), [XLOG_DBASE_DROP_14]: drop },
};
export const dbase15: Rmgr = {
  ...dbase14,
  ops: {
    [XLOG_DBASE_CREATE_FILE_COPY]: create('CREATE_FILE_COPY'),
    [XLOG_DBASE_CREATE_WAL_LOG]: createWalLog,
    [XLOG_DBASE_DROP]: drop,
  },
};
export const dbase16 = dbase15;
export const dbase17 = dbase16;
export const dbase18 = dbase17;
