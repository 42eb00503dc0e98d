// MultiXact (6): sets of transactions that hold one tuple, in two SLRUs: where a set's members begin, and they.
//
//   ZERO_OFF_PAGE, ZERO_MEM_PAGE   pageno, i32, from 17 on i64 (slru-page.ts)
//   CREATE_ID     0 mid u32 | 4 moff u32 | 8 nmembers i32 | 12 members: xid u32, status u32 each
//   TRUNCATE_ID   0 oldestMultiDB | 4 startTruncOff | 8 endTruncOff | 12 startTruncMemb | 16 endTruncMemb   (u32)
//
// Ids and offsets count modulo 2^32 and pass over 0: after 4294967295 comes 1.
//
// Mirrors multixact_redo and RecordNewMultiXact of multixact.c, and multixact_desc of mxactdesc.c.

import { SLRU_MULTIXACT_MEMBERS, SLRU_MULTIXACT_OFFSETS } from '../../base/rel.ts';
import type { MultiXactMember } from '../effects.ts';
import type { WalRecord } from '../record.ts';
import type { Op, Rmgr } from '../rmgr.ts';
import { arrayEnd, mainAt, readUint32s } from './main-data.ts';
import { type PageNumber, pageNumber14, pageNumber17, zeroPageOp } from './slru-page.ts';

export const RM_MULTIXACT_ID = 6;
export const XLOG_MULTIXACT_ZERO_OFF_PAGE = 0x00;
export const XLOG_MULTIXACT_ZERO_MEM_PAGE = 0x10;
export const XLOG_MULTIXACT_CREATE_ID = 0x20;
export const XLOG_MULTIXACT_TRUNCATE_ID = 0x30;

const SIZE_OF_MULTIXACT_CREATE = 12;
const SIZE_OF_MEMBER = 8;
const SIZE_OF_MULTIXACT_TRUNCATE = 20;

/** MultiXactStatus, as pg_waldump prints it. */
const STATUS_NAMES = ['keysh', 'sh', 'fornokeyupd', 'forupd', 'nokeyupd', 'upd'];

/** NextMultiXactId, and likewise the next offset: 0 is neither. */
const pastZero = (n: number): number => n >>> 0 || 1;

function membersOf(record: WalRecord, at: number): MultiXactMember[] {
  const { view } = record;
  const count = view.getInt32(at + 8, true);
  arrayEnd(record, at + SIZE_OF_MULTIXACT_CREATE, count, SIZE_OF_MEMBER, 'members');
  const members = new Array<MultiXactMember>(count);
  for (let i = 0; i < count; i++) {
    const member = at + SIZE_OF_MULTIXACT_CREATE + i * SIZE_OF_MEMBER;
    members[i] = { xid: view.getUint32(member, true), status: view.getUint32(member + 4, true) };
  }
  return members;
}

const createId: Op = {
  name: 'CREATE_ID',
  effects: (record, emit) => {
    const at = mainAt(record, SIZE_OF_MULTIXACT_CREATE, 'xl_multixact_create');
    const mid = record.view.getUint32(at, true);
    const moff = record.view.getUint32(at + 4, true);
    const members = membersOf(record, at);
    emit({
      kind: 'multixact-create',
      mid,
      moff,
      nextMid: pastZero(mid + 1),
      nextMoff: pastZero(moff + members.length),
      members,
    });
  },
  describe: record => {
    const at = mainAt(record, SIZE_OF_MULTIXACT_CREATE, 'xl_multixact_create');
    const members = membersOf(record, at);
    const list = members.map(({ xid, status }) => `${xid} (${STATUS_NAMES[status] ?? 'unk'}) `).join('');
    const [mid, moff] = readUint32s(record.view, at, 2);
    return `${mid} offset ${moff} nmembers ${members.length}: ${list}`;
  },
};

const truncateId: Op = {
  name: 'TRUNCATE_ID',
  effects: (record, emit) => {
    const at = mainAt(record, SIZE_OF_MULTIXACT_TRUNCATE, 'xl_multixact_truncate');
    const { view } = record;
    emit({
      kind: 'multixact-truncate',
      oldestMultiDb: view.getUint32(at, true),
      startTruncOff: view.getUint32(at + 4, true),
      endTruncOff: view.getUint32(at + 8, true),
      startTruncMemb: view.getUint32(at + 12, true),
      endTruncMemb: view.getUint32(at + 16, true),
    });
  },
  describe: record => {
    const at = mainAt(record, SIZE_OF_MULTIXACT_TRUNCATE, 'xl_multixact_truncate');
    const [, startOff, endOff, startMemb, endMemb] = readUint32s(record.view, at, 5);
    return `offsets [${startOff}, ${endOff}), members [${startMemb}, ${endMemb})`;
  },
};

const multixact = (number: PageNumber): Rmgr => ({
  id: RM_MULTIXACT_ID,
  name: 'MultiXact',
  opMask: 0xf0,
  ops: {
    [XLOG_MULTIXACT_ZERO_OFF_PAGE]: zeroPageOp('ZERO_OFF_PAGE', SLRU_MULTIXACT_OFFSETS, number),
    [XLOG_MULTIXACT_ZERO_MEM_PAGE]: zeroPageOp('ZERO_MEM_PAGE', SLRU_MULTIXACT_MEMBERS, number),
    [XLOG_MULTIXACT_CREATE_ID]: createId,
    [XLOG_MULTIXACT_TRUNCATE_ID]: truncateId,
  },
});

export const multixact14 = multixact(pageNumber14);
export const multixact15 = multixact14;
export const multixact16 = multixact15;
export const multixact17 = multixact(pageNumber17);
export const multixact18 = multixact17;
