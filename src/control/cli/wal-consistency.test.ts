// From where on a base is a cluster: backup labels, minimum recovery points, and neither.

import { describe, expect, test } from 'vitest';
import { type Lsn, lsn } from '../../base/lsn.ts';
import {
  type ControlFile,
  DB_IN_ARCHIVE_RECOVERY,
  DB_IN_PRODUCTION,
  DB_SHUTDOWNED,
} from '../../xlog/control-file.ts';
import { pg17 } from '../../xlog/dialects/17.ts';
import { decodeRecord, WalRecord } from '../../xlog/record.ts';
import { makeRecord } from '../../xlog/writer.ts';
import { Consistency, parseBackupLabel } from './wal-consistency.ts';

const START = lsn(0x2000028);

function recordAt(end: number, info: number, main: Uint8Array): WalRecord {
  const bytes = makeRecord({ rmid: 0, info, main }, pg17);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return decodeRecord(new WalRecord(), bytes, view, 0, lsn(end - 40), lsn(end), pg17.imageBits);
}

function backupEnd(end: number, of: number): WalRecord {
  const main = new Uint8Array(8);
  new DataView(main.buffer).setBigUint64(0, BigInt(of), true);
  return recordAt(end, 0x50, main);
}

const control = (state: number, minRecoveryPoint: number): ControlFile =>
  ({ state, minRecoveryPoint: minRecoveryPoint as Lsn }) as ControlFile;

const label = (from: string): string =>
  `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n` +
  `BACKUP METHOD: streamed\nBACKUP FROM: ${from}\nSTART TIME: 2026-01-01\n`;

describe('a base is consistent', () => {
  test('at once, shut down or crashed', () => {
    for (const state of [DB_SHUTDOWNED, DB_IN_PRODUCTION]) {
      expect(new Consistency(undefined, control(state, 0), START).reached).toBe(START);
    }
  });

  test('from the end of its own backup on, and no other', () => {
    const consistency = new Consistency(parseBackupLabel(label('primary')), control(6, 0x9000000), START);
    expect([consistency.reached, consistency.awaited]).toEqual([undefined, 'the end of the backup']);
    expect(consistency.reachedBy(backupEnd(0x3000000, 0x1000028))).toBe(false);
    expect(consistency.reachedBy(recordAt(0x3000050, 0x10, new Uint8Array(88)))).toBe(false);
    expect(consistency.reachedBy(backupEnd(0x3000100, START))).toBe(true);
    expect(consistency.reachedBy(backupEnd(0x3000200, START))).toBe(false);
    expect(consistency.reached).toBe(0x3000100);
  });

  test.each<[string, string | undefined]>([
    ['copied from a standby', label('standby')],
    ['stopped in recovery', undefined],
  ])('%s: from its minimum recovery point on', (_, text) => {
    const copied = control(DB_IN_ARCHIVE_RECOVERY, 0x3000000);
    const consistency = new Consistency(
      text === undefined ? undefined : parseBackupLabel(text),
      copied,
      START,
    );
    expect(consistency.awaited).toContain('minimum recovery point');
    expect(consistency.reachedBy(recordAt(0x2fffff8, 0x20, new Uint8Array(0)))).toBe(false);
    expect(consistency.reachedBy(recordAt(0x3000000, 0x20, new Uint8Array(0)))).toBe(true);
  });

  test('whatever a file that is no label says', () => {
    expect(parseBackupLabel('')).toBeUndefined();
    expect(parseBackupLabel('START WAL LOCATION: somewhere')).toBeUndefined();
    expect(parseBackupLabel(label('primary'))).toEqual({ start: START, fromStandby: false });
  });
});
