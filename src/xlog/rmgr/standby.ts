// Standby (8): what a hot standby needs to answer queries. Only the horizon of running transactions matters to
// a keeper of pages: a compute that starts as a standby begins there.
//
//   LOCK            0 nlocks i32 | 4 locks: xid, dbOid, relOid u32 each
//   RUNNING_XACTS   0 xcnt i32 | 4 subxcnt i32 | 8 subxid_overflow u8 | 12 nextXid u32 | 16 oldestRunningXid u32 |
//                   20 latestCompletedXid u32 | 24 xids u32[xcnt + subxcnt]
//   INVALIDATIONS   0 dbId u32 | 4 tsId u32 | 8 relcacheInitFileInval u8 | 12 nmsgs i32 | 16 messages, 16 bytes each
//
// Mirrors standby_redo of standby.c and standby_desc of standbydesc.c.

import type { WalRecord } from '../record.ts';
import { type Op, type Rmgr, replaceOps } from '../rmgr.ts';
import {
  describeInvalidations,
  type InvalNames,
  invalNames14,
  invalNames18,
  SIZE_OF_INVAL_MESSAGE,
} from './desc.ts';
import { arrayEnd, mainAt, readUint32s } from './main-data.ts';

export const RM_STANDBY_ID = 8;
export const XLOG_STANDBY_LOCK = 0x00;
export const XLOG_RUNNING_XACTS = 0x10;
export const XLOG_INVALIDATIONS = 0x20;

const SIZE_OF_STANDBY_LOCK = 12;
const MIN_SIZE_OF_RUNNING_XACTS = 24;
const MIN_SIZE_OF_INVALIDATIONS = 16;

const lock: Op = {
  name: 'LOCK',
  describe: record => {
    const at = mainAt(record, 4, 'xl_standby_locks');
    const { view } = record;
    const count = view.getInt32(at, true);
    arrayEnd(record, at + 4, count, SIZE_OF_STANDBY_LOCK, 'locks');
    let text = '';
    for (let i = 0; i < count; i++) {
      const [xid, db, rel] = readUint32s(view, at + 4 + i * SIZE_OF_STANDBY_LOCK, 3);
      text += `xid ${xid} db ${db} rel ${rel} `;
    }
    return text;
  },
};

/** What follows the count of running transactions, which 16 and later word differently and tell more of. */
type DescribeSubxids = (record: WalRecord, at: number) => string;

const subxids14: DescribeSubxids = (record, at) => (record.view.getUint8(at + 8) !== 0 ? '; subxid ovf' : '');

const subxids16: DescribeSubxids = (record, at) => {
  const { view } = record;
  const xcnt = view.getInt32(at, true);
  const subxcnt = view.getInt32(at + 4, true);
  let text = view.getUint8(at + 8) !== 0 ? '; subxid overflowed' : '';
  if (subxcnt > 0) {
    const subxids = arrayEnd(record, at + MIN_SIZE_OF_RUNNING_XACTS, xcnt, 4, 'xids');
    arrayEnd(record, subxids, subxcnt, 4, 'subxids');
    text += `; ${subxcnt} subxacts: ${readUint32s(view, subxids, subxcnt).join(' ')}`;
  }
  return text;
};

const runningXacts = (describeSubxids: DescribeSubxids): Op => ({
  name: 'RUNNING_XACTS',
  effects: (record, emit) => {
    const at = mainAt(record, MIN_SIZE_OF_RUNNING_XACTS, 'xl_running_xacts');
    emit({
      kind: 'running-xacts',
      nextXid: record.view.getUint32(at + 12, true),
      oldestRunningXid: record.view.getUint32(at + 16, true),
      latestCompletedXid: record.view.getUint32(at + 20, true),
    });
  },
  describe: record => {
    const at = mainAt(record, MIN_SIZE_OF_RUNNING_XACTS, 'xl_running_xacts');
    const { view } = record;
    const [nextXid, oldestRunningXid, latestCompletedXid] = readUint32s(view, at + 12, 3);
    const xcnt = view.getInt32(at, true);
    arrayEnd(record, at + MIN_SIZE_OF_RUNNING_XACTS, xcnt, 4, 'xids');
    const xids = readUint32s(view, at + MIN_SIZE_OF_RUNNING_XACTS, xcnt);
    return (
      `nextXid ${nextXid} latestCompletedXid ${latestCompletedXid} oldestRunningXid ${oldestRunningXid}` +
      (xcnt > 0 ? `; ${xcnt} xacts: ${xids.join(' ')}` : '') +
      describeSubxids(record, at)
    );
  },
});

const invalidations = (names: InvalNames): Op => ({
  name: 'INVALIDATIONS',
  describe: record => {
    const at = mainAt(record, MIN_SIZE_OF_INVALIDATIONS, 'xl_invalidations');
    const { view } = record;
    const count = view.getInt32(at + 12, true);
    const messages = at + MIN_SIZE_OF_INVALIDATIONS;
    arrayEnd(record, messages, count, SIZE_OF_INVAL_MESSAGE, 'invalidation messages');
    const relcacheInit =
      view.getUint8(at + 8) !== 0
        ? { dbId: view.getUint32(at, true), tsId: view.getUint32(at + 4, true) }
        : undefined;
    return describeInvalidations(view, messages, count, relcacheInit, names);
  },
});

export const standby14: Rmgr = {
  id: RM_STANDBY_ID,
  name: 'Standby',
  opMask: 0xf0,
  ops: {
    [XLOG_STANDBY_LOCK]: lock,
    [XLOG_RUNNING_XACTS]: runningXacts(subxids14),
    [XLOG_INVALIDATIONS]: invalidations(invalNames14),
  },
};
export const standby15 = standby14;
export const standby16 = replaceOps(standby15, { [XLOG_RUNNING_XACTS]: runningXacts(subxids16) });
export const standby17 = standby16;
export const standby18 = replaceOps(standby17, { [XLOG_INVALIDATIONS]: invalidations(invalNames18) });
