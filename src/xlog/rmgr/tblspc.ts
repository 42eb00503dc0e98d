// Tablespace (5): directories outside the data directory. A timeline has no outside: a cluster that makes a
// tablespace cannot be kept whole, and says so at the record instead of losing its relations' place. Neon's
// computes refuse the command. A DROP, which follows when the directory is empty, does no harm.
//
//   CREATE   0 ts_id u32 | 4 ts_path, zero-terminated
//   DROP     0 ts_id u32
//
// Mirrors tblspc_redo of tablespace.c and tblspc_desc of tblspcdesc.c. Alike in 14 to 18.

import { Fault } from '../../base/fault.ts';
import { formatLsn } from '../../base/lsn.ts';
import type { WalRecord } from '../record.ts';
import type { Rmgr } from '../rmgr.ts';
import { mainAt, mainEnd, readText } from './main-data.ts';

export const RM_TBLSPC_ID = 5;
export const XLOG_TBLSPC_CREATE = 0x00;
export const XLOG_TBLSPC_DROP = 0x10;

const REASON = 'tablespaces live outside the data directory, and only the data directory is kept';

const tsIdAt = (record: WalRecord): number =>
  record.view.getUint32(mainAt(record, 4, 'xl_tblspc_drop_rec'), true);

const describeCreate = (record: WalRecord): string => {
  const at = mainAt(record, 4, 'xl_tblspc_create_rec');
  return `${record.view.getUint32(at, true)} "${readText(record, at + 4, mainEnd(record))}"`;
};

export const tblspc14: Rmgr = {
  id: RM_TBLSPC_ID,
  name: 'Tablespace',
  opMask: 0xf0,
  ops: {
    [XLOG_TBLSPC_CREATE]: {
      name: 'CREATE',
      unsupported: REASON,
      effects: record => {
        throw new Fault(
          'wal-unsupported',
          `CREATE TABLESPACE ${describeCreate(record)} at ${formatLsn(record.lsn)}: ${REASON}`,
          {
            hint: 'Branch from before this LSN, or keep everything in the default tablespace from the start.',
          },
        );
      },
      describe: describeCreate,
    },
    [XLOG_TBLSPC_DROP]: { name: 'DROP', describe: record => String(tsIdAt(record)) },
  },
};
export const tblspc15 = tblspc14;
export const tblspc16 = tblspc15;
export const tblspc17 = tblspc16;
export const tblspc18 = tblspc17;
