// The managers that edit no pages, over records that stock Postgres 14 to 18 wrote: their descriptions are
// Postgres's own, to the letter; their effects say what those descriptions say; and cut or damaged main data is
// a Fault, never a read past its end.

import { describe, expect, test } from 'vitest';
import {
  capturedRows,
  cutShort,
  decodeRow,
  describeOf,
  effectsOf,
  MAJORS,
  madeRecord,
} from '../../../integration/redo/effect-records.ts';
import { isFault } from '../../base/fault.ts';
import { relPath } from '../../base/rel.ts';
import { dialectOfMajor } from '../dialects/all.ts';
import type { Effect } from '../effects.ts';
import { recordOpName, rmgrName } from '../inspect.ts';
import type { WalRecord } from '../record.ts';
import type { Rmgr } from '../rmgr.ts';

const IDS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 18, 19, 21];
/** Never written, or only after a crash at the right byte. */
const NEVER_CAPTURED = ['XLOG/NOOP', 'XLOG/OVERWRITE_CONTRECORD'];

const rmgrOf = (major: number, record: WalRecord): Rmgr => dialectOfMajor(major, 'stock').rmgrs[record.rmid]!;

/** Times as pg_waldump prints them, out of times as the backend does. */
const asWaldump = (text: string): string =>
  text.replace(
    /(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d+))?\+00/g,
    (_, seconds: string, fraction = '') => `${seconds}.${fraction.padEnd(6, '0')} UTC`,
  );

describe.each(MAJORS)('Postgres %i', major => {
  const dialect = dialectOfMajor(major, 'stock');
  const rows = capturedRows(major);

  test('every operation has been met', () => {
    const expected = IDS.flatMap(id =>
      Object.values(dialect.rmgrs[id]!.ops).map(op => `${dialect.rmgrs[id]!.name}/${op.name}`),
    );
    const met = new Set(rows.map(row => row.op));
    expect(expected.filter(op => !met.has(op)).sort()).toEqual(NEVER_CAPTURED);
    for (const row of rows) {
      const record = decodeRow(row, major);
      expect(`${rmgrName(dialect, record)}/${recordOpName(dialect, record)}`).toBe(row.op);
    }
  });

  test.each(rows.filter(row => row.desc !== null))('$op at $lsn is described as Postgres does', row => {
    const record = decodeRow(row, major);
    expect(describeOf(rmgrOf(major, record), record)).toBe(asWaldump(row.desc!));
  });

  test('effects say what the descriptions say', () => {
    for (const row of rows) {
      if (row.op === 'Tablespace/CREATE') continue;
      const record = decodeRow(row, major);
      const rmgr = rmgrOf(major, record);
      const text = describeOf(rmgr, record);
      for (const effect of effectsOf(rmgr, record)) expectTold(effect, text, record);
    }
  });

  test('main data cut anywhere is a Fault or is enough', () => {
    for (const row of rows) {
      const record = decodeRow(row, major);
      const rmgr = rmgrOf(major, record);
      for (let length = 0; length < record.mainLength; length++) {
        withoutOverrun(rmgr, cutShort(record, length, rmgr));
      }
    }
  });

  test('main data with any four bytes replaced is a Fault or is read within its bounds', () => {
    for (const row of rows) {
      const record = decodeRow(row, major);
      const rmgr = rmgrOf(major, record);
      for (let at = 0; at + 4 <= Math.min(record.mainLength, 128); at += 2) {
        for (const value of [0xffff_ffff, 0x7fff_ffff, 0x8000_0000, 0x0fff_ffff, record.mainLength]) {
          const damaged = cutShort(record, record.mainLength, rmgr);
          damaged.view.setUint32(at, value, true);
          withoutOverrun(rmgr, damaged);
        }
      }
    }
  });
});

/** Both halves of the operation: they return, or throw a Fault. */
function withoutOverrun(rmgr: Rmgr, record: WalRecord): void {
  for (const run of [() => effectsOf(rmgr, record), () => describeOf(rmgr, record)]) {
    try {
      run();
    } catch (error) {
      if (!isFault(error, 'wal-record') && !isFault(error, 'wal-unsupported')) throw error;
    }
  }
}

/** What an effect holds, in the words of the record's description. */
function expectTold(effect: Effect, text: string, record: WalRecord): void {
  const told = (...pieces: string[]): void => {
    for (const piece of pieces) expect(text, effect.kind).toContain(piece);
  };
  switch (effect.kind) {
    case 'smgr-create':
      if (!text.startsWith('pg_tblspc'))
        expect(relPath({ ...effect.rel, forkNum: effect.forkNum })).toBe(text);
      break;
    case 'smgr-truncate':
      told(`${effect.rel.relNumber} to ${effect.blkno} blocks`);
      told(`flags ${Number(effect.heap) + 2 * Number(effect.vm) + 4 * Number(effect.fsm)}`);
      break;
    case 'drop-relations':
      for (const rel of effect.rels) told(`/${rel.dbOid}/${rel.relNumber}`);
      break;
    case 'database-copy':
      told(`copy dir ${effect.srcSpcOid}/${effect.srcDbOid} to ${effect.spcOid}/${effect.dbOid}`);
      break;
    case 'database-create':
      told(`create dir ${effect.spcOid}/${effect.dbOid}`);
      break;
    case 'database-drop':
      expect(`dir${effect.spcOids.map(spc => ` ${spc}/${effect.dbOid}`).join('')}`).toBe(text);
      break;
    case 'relmap':
      told(`database ${effect.dbOid} tablespace ${effect.spcOid} size ${effect.bytes.length}`);
      break;
    case 'xact-commit':
    case 'xact-abort':
      if (effect.prepared) told(`${effect.xid}: `);
      else expect(effect.xid).toBe(record.xid);
      if (effect.subxids.length > 0) told(`; subxacts: ${effect.subxids.join(' ')}`);
      else expect(text).not.toContain('subxacts');
      if (text.includes('origin:'))
        told(`origin: node ${effect.origin?.id}, lsn ${lsnText(effect.origin!.lsn)}, at`);
      told(timeText(effect.xactTime));
      break;
    case 'xact-prepare':
      told(`gid ${effect.gid}: ${timeText(effect.preparedAt)}`);
      expect(effect.xid).toBe(record.xid);
      if (effect.subxids.length > 0) told(`; subxacts: ${effect.subxids.join(' ')}`);
      expect(effect.bytes.length).toBe(record.mainLength);
      if (text.includes('origin:')) told(`node ${effect.origin?.id}, lsn ${lsnText(effect.origin!.lsn)}, at`);
      break;
    case 'slru-zero-page':
      told(String(effect.pageno));
      break;
    case 'clog-truncate':
      told(`page ${effect.pageno}; oldestXact ${effect.oldestXid}`);
      break;
    case 'commit-ts-truncate':
      told(`pageno ${effect.pageno}, oldestXid ${effect.oldestXid}`);
      break;
    case 'multixact-create':
      told(
        `${effect.mid} offset ${effect.moff} nmembers ${effect.members.length}: ${effect.members[0]!.xid} (`,
      );
      expect(effect.nextMid).toBe(effect.mid + 1);
      expect(effect.nextMoff).toBe(effect.moff + effect.members.length);
      break;
    case 'multixact-truncate':
      told(`offsets [${effect.startTruncOff}, ${effect.endTruncOff})`);
      told(`members [${effect.startTruncMemb}, ${effect.endTruncMemb})`);
      break;
    case 'next-oid':
      expect(String(effect.oid)).toBe(text);
      break;
    case 'checkpoint':
      expect(effect.bytes.length).toBe(88);
      expect(text.endsWith(effect.shutdown ? 'shutdown' : 'online')).toBe(true);
      break;
    case 'parameter-change':
      told(`max_connections=${effect.maxConnections} max_worker_processes=${effect.maxWorkerProcesses}`);
      told(`max_wal_senders=${effect.maxWalSenders} max_prepared_xacts=${effect.maxPreparedXacts}`);
      told(
        `max_locks_per_xact=${effect.maxLocksPerXact} wal_level=${['minimal', 'replica', 'logical'][effect.walLevel]}`,
      );
      told(`wal_log_hints=${effect.walLogHints ? 'on' : 'off'}`);
      told(`track_commit_timestamp=${effect.trackCommitTimestamp ? 'on' : 'off'}`);
      break;
    case 'end-of-recovery':
      told(`tli ${effect.thisTimeLineId}; prev tli ${effect.prevTimeLineId};`);
      if (effect.walLevel !== undefined) told('wal_level logical');
      else expect(text).not.toContain('wal_level');
      break;
    case 'full-page-writes':
      expect(String(effect.on)).toBe(text);
      break;
    case 'running-xacts':
      told(`nextXid ${effect.nextXid} latestCompletedXid ${effect.latestCompletedXid}`);
      told(`oldestRunningXid ${effect.oldestRunningXid}`);
      break;
    case 'origin-set':
      told(`set ${effect.nodeId}; lsn ${lsnText(effect.remoteLsn)}; force: ${Number(effect.force)}`);
      break;
    case 'origin-drop':
      expect(text).toBe(`drop ${effect.nodeId}`);
      break;
    case 'logical-message':
      told(`${effect.transactional ? '' : 'non-'}transactional, prefix "${effect.prefix}"`);
      told(`(${effect.message.length} bytes)`);
      break;
    case 'vm-clear':
      expect.unreachable('none of these managers touches a visibility map');
  }
}

const lsnText = (lsn: bigint): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}`;

/** Date's own reckoning of a Postgres time. */
const timeText = (time: number): string => {
  const millis = Math.floor(time / 1000);
  const iso = new Date(millis + Date.UTC(2000, 0, 1)).toISOString();
  return `${iso.slice(0, 10)} ${iso.slice(11, 23)}${String(time - millis * 1000).padStart(3, '0')} UTC`;
};

test('an operation that no redo acts on has no effects at all', () => {
  for (const major of MAJORS) {
    const { rmgrs } = dialectOfMajor(major, 'stock');
    const silent = IDS.flatMap(id => Object.values(rmgrs[id]!.ops).filter(op => op.effects === undefined));
    expect(new Set(silent.map(op => op.name))).toEqual(
      new Set([
        ...['NOOP', 'SWITCH', 'BACKUP_END', 'RESTORE_POINT', 'FPI_FOR_HINT', 'FPI', 'OVERWRITE_CONTRECORD'],
        ...(major >= 17 ? ['CHECKPOINT_REDO'] : []),
        ...['ASSIGNMENT', 'INVALIDATION', 'LOCK', 'INVALIDATIONS'],
        'DROP', // of a tablespace
      ]),
    );
  }
});

test('names are those of pg_waldump', () => {
  const { rmgrs } = dialectOfMajor(18, 'stock');
  expect(IDS.map(id => rmgrs[id]!.name)).toEqual([
    'XLOG',
    'Transaction',
    'Storage',
    'CLOG',
    'Database',
    'Tablespace',
    'MultiXact',
    'RelMap',
    'Standby',
    'CommitTs',
    'ReplicationOrigin',
    'LogicalMessage',
  ]);
  expect(recordOpName(dialectOfMajor(18, 'stock'), madeRecord(rmgrs[1]!, 0x80, new Uint8Array(8)))).toBe(
    'COMMIT',
  );
});
