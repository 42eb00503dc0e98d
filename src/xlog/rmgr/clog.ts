// CLOG (3): pages of pg_xact begun and done with. (What is on them is told by transactions.)
//
//   ZEROPAGE   pageno
//   TRUNCATE   pageno | oldestXact u32 | oldestXactDb u32
//   pageno is i32, from 17 on i64 (slru-page.ts)
//
// Mirrors clog_redo of clog.c and clog_desc of clogdesc.c.

import { SLRU_CLOG } from '../../base/rel.ts';
import type { Op, Rmgr } from '../rmgr.ts';
import { mainAt } from './main-data.ts';
import { type PageNumber, pageNumber14, pageNumber17, pagenoAt, zeroPageOp } from './slru-page.ts';

export const RM_CLOG_ID = 3;
export const CLOG_ZEROPAGE = 0x00;
export const CLOG_TRUNCATE = 0x10;

const truncate = (number: PageNumber): Op => ({
  name: 'TRUNCATE',
  effects: (record, emit) => {
    const at = mainAt(record, number.size + 8, 'xl_clog_truncate');
    emit({
      kind: 'clog-truncate',
      pageno: pagenoAt(record, at, number, SLRU_CLOG),
      oldestXid: record.view.getUint32(at + number.size, true),
      oldestXidDb: record.view.getUint32(at + number.size + 4, true),
    });
  },
  describe: record => {
    const at = mainAt(record, number.size + 8, 'xl_clog_truncate');
    const pageno = pagenoAt(record, at, number, SLRU_CLOG);
    return `page ${pageno}; oldestXact ${record.view.getUint32(at + number.size, true)}`;
  },
});

const clog = (number: PageNumber): Rmgr => ({
  id: RM_CLOG_ID,
  name: 'CLOG',
  opMask: 0xf0,
  ops: {
    [CLOG_ZEROPAGE]: zeroPageOp('ZEROPAGE', SLRU_CLOG, number, 'page '),
    [CLOG_TRUNCATE]: truncate(number),
  },
});

export const clog14 = clog(pageNumber14);
export const clog15 = clog14;
export const clog16 = clog15;
export const clog17 = clog(pageNumber17);
export const clog18 = clog17;
