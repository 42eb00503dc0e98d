// CommitTs (18): pages of pg_commit_ts begun and done with. (What is on them is told by commits.)
//
//   ZEROPAGE   pageno
//   TRUNCATE   pageno | oldestXid u32
//   pageno is i32, from 17 on i64 (slru-page.ts)
//
// Mirrors commit_ts_redo of commit_ts.c and commit_ts_desc of committsdesc.c.

import { SLRU_COMMIT_TS } from '../../base/rel.ts';
import type { Op, Rmgr } from '../rmgr.ts';
import { mainAt } from './main-data.ts';
import { type PageNumber, pageNumber14, pageNumber17, pagenoAt, zeroPageOp } from './slru-page.ts';

export const RM_COMMIT_TS_ID = 18;
export const COMMIT_TS_ZEROPAGE = 0x00;
export const COMMIT_TS_TRUNCATE = 0x10;

const truncate = (number: PageNumber): Op => ({
  name: 'TRUNCATE',
  effects: (record, emit) => {
    const at = mainAt(record, number.size + 4, 'xl_commit_ts_truncate');
    emit({
      kind: 'commit-ts-truncate',
      pageno: pagenoAt(record, at, number, SLRU_COMMIT_TS),
      oldestXid: record.view.getUint32(at + number.size, true),
    });
  },
  describe: record => {
    const at = mainAt(record, number.size + 4, 'xl_commit_ts_truncate');
    const pageno = pagenoAt(record, at, number, SLRU_COMMIT_TS);
    return `pageno ${pageno}, oldestXid ${record.view.getUint32(at + number.size, true)}`;
  },
});

const commitTs = (number: PageNumber): Rmgr => ({
  id: RM_COMMIT_TS_ID,
  name: 'CommitTs',
  opMask: 0xf0,
  ops: {
    [COMMIT_TS_ZEROPAGE]: zeroPageOp('ZEROPAGE', SLRU_COMMIT_TS, number),
    [COMMIT_TS_TRUNCATE]: truncate(number),
  },
});

export const commitTs14 = commitTs(pageNumber14);
export const commitTs15 = commitTs14;
export const commitTs16 = commitTs15;
export const commitTs17 = commitTs(pageNumber17);
export const commitTs18 = commitTs17;
