import { describe, expect, test } from 'vitest';
import type { Lsn } from '../base/lsn.ts';
import { type CheckPoint, checkpointBytes, readCheckpoint } from '../xlog/checkpoint.ts';
import { CONTROL_FILE_1300, CONTROL_FILE_1700 } from '../xlog/control-file.ts';
import { CheckpointTracker } from './checkpoint-tracker.ts';

const BASE: CheckPoint = {
  redo: 0x1000028 as Lsn,
  thisTimeLineId: 1,
  prevTimeLineId: 1,
  fullPageWrites: true,
  walLevel: 1,
  nextXid: 750,
  nextOid: 13000,
  nextMulti: 1,
  nextMultiOffset: 0,
  oldestXid: 722,
  oldestXidDb: 1,
  oldestMulti: 1,
  oldestMultiDb: 1,
  time: 1_700_000_000,
  oldestCommitTsXid: 0,
  newestCommitTsXid: 0,
  oldestActiveXid: 745,
};

const tracker = (over: Partial<CheckPoint> = {}, shape = CONTROL_FILE_1700): CheckpointTracker =>
  new CheckpointTracker(shape, { ...BASE, ...over });
const record = (over: Partial<CheckPoint>): Uint8Array =>
  checkpointBytes(CONTROL_FILE_1700, { ...BASE, ...over });

/** What changed since it was made. */
function changesOf(t: CheckpointTracker, from: Partial<CheckPoint> = {}): Partial<CheckPoint> {
  const now = t.checkpoint as unknown as Record<string, unknown>;
  const then = { ...BASE, ...from } as unknown as Record<string, unknown>;
  return Object.fromEntries(
    Object.keys(now)
      .filter(k => now[k] !== then[k])
      .map(k => [k, now[k]]),
  );
}

describe('nextXid', () => {
  test('goes past every xid, up to the next multiple of 1024, and never back', () => {
    const t = tracker();
    t.xidUsed(100);
    expect(changesOf(t)).toEqual({ nextXid: 1024 - 0 });
    t.changed = false;
    for (const xid of [3, 500, 1022, 1023]) t.xidUsed(xid);
    expect(t.changed).toBe(false);
    t.xidUsed(1024);
    expect(t.changed).toBe(true);
    expect(t.nextXid).toBe(2048);
    t.xidUsed(5000);
    expect(t.nextXid).toBe(5120);
  });

  test('changes once in a thousand transactions', () => {
    const t = tracker();
    let changes = 0;
    for (let xid = 750; xid < 30_750; xid++) {
      t.xidUsed(xid);
      expect(t.nextXid).toBeGreaterThan(xid);
      expect(t.nextXid).toBeLessThanOrEqual(xid + 1024);
      if (t.changed) changes++;
      t.changed = false;
    }
    expect(changes).toBe(31);
  });

  test('wraps into the next epoch, behind the special xids', () => {
    const epoch = 5 * 2 ** 32;
    const t = tracker({ nextXid: epoch + 0xffff_f000 });
    t.xidUsed(0xffff_f400);
    expect(t.nextXid).toBe(epoch + 0xffff_f800);
    t.xidUsed(0xffff_fd00);
    expect(t.nextXid).toBe(epoch + 2 ** 32 + 3);
    t.xidUsed(0xffff_ffff);
    expect(t.nextXid).toBe(epoch + 2 ** 32 + 3);
    t.xidUsed(3);
    expect(t.nextXid).toBe(epoch + 2 ** 32 + 1024);
    // Xids of before the wrap are behind now.
    t.xidUsed(0xffff_0000);
    expect(t.nextXid).toBe(epoch + 2 ** 32 + 1024);
  });

  test('the last xid of an epoch alone carries over too', () => {
    const t = tracker({ nextXid: 0xffff_fff0 });
    t.xidUsed(0xffff_ffff);
    expect(t.nextXid).toBeGreaterThan(2 ** 32);
  });
});

test('multixacts move what is ahead, modulo 2^32, and nextXid past their members', () => {
  const t = tracker();
  const members = [
    { xid: 700, status: 0 },
    { xid: 2500, status: 1 },
  ];
  t.multiXactCreated(1, 0, members);
  expect(changesOf(t)).toEqual({ nextMulti: 2, nextMultiOffset: 2, nextXid: 3072 });
  t.changed = false;
  t.multiXactCreated(1, 0, members);
  expect(t.changed).toBe(false);

  const wrapping = tracker({ nextMulti: 0xffff_ffff, nextMultiOffset: 0xffff_fffe });
  wrapping.multiXactCreated(0xffff_ffff, 0xffff_fffe, members);
  expect(wrapping.checkpoint).toMatchObject({ nextMulti: 0, nextMultiOffset: 0 });
});

describe('checkpoint records', () => {
  test('of a shutdown: redo is the end of the record, and a hot standby finds an oldest xid', () => {
    const t = tracker({ nextXid: 3072 });
    t.checkpointRecord(record({ nextXid: 1, nextOid: 1, oldestActiveXid: 0 }), true, 0x2000, []);
    expect(changesOf(t, { nextXid: 3072 })).toEqual({ redo: 0x2000, oldestActiveXid: 3072 });
    t.checkpointRecord(record({ oldestActiveXid: 0 }), true, 0x3000, [900, 800]);
    expect(t.checkpoint).toMatchObject({ redo: 0x3000, oldestActiveXid: 800 });
  });

  test('online: redo is 0, oldestActiveXid what it says', () => {
    const t = tracker();
    t.checkpointRecord(
      record({ oldestActiveXid: 748, fullPageWrites: false, time: 5 }),
      false,
      0x2000,
      [700],
    );
    expect(changesOf(t)).toEqual({ redo: 0, oldestActiveXid: 748 });
  });

  test('move oldestXid forward alone, modulo 2^32', () => {
    const t = tracker();
    t.checkpointRecord(record({ oldestXid: 730, oldestXidDb: 16384 }), false, 0x2000, []);
    expect(t.checkpoint).toMatchObject({ oldestXid: 730, oldestXidDb: 16384 });
    t.checkpointRecord(record({ oldestXid: 725, oldestXidDb: 5 }), false, 0x3000, []);
    expect(t.checkpoint).toMatchObject({ oldestXid: 730, oldestXidDb: 16384 });
    const far = tracker({ oldestXid: 0xffff_0000 });
    far.checkpointRecord(record({ oldestXid: 10 }), false, 0x2000, []);
    expect(far.checkpoint.oldestXid).toBe(10);
  });

  test('are stored each time, even when nothing changed', () => {
    const t = tracker();
    t.checkpointRecord(record({}), false, 0x2000, []);
    t.take();
    expect(t.changed).toBe(false);
    t.checkpointRecord(record({}), false, 0x3000, []);
    expect(t.changed).toBe(true);
  });
});

test('what is cut, counted and told', () => {
  const t = tracker();
  t.clogTruncated(900, 7);
  t.multiXactsTruncated(40, 8);
  t.nextOid(20_000);
  t.runningXacts(901);
  t.walLevel(2);
  expect(changesOf(t)).toEqual({
    oldestXid: 900,
    oldestXidDb: 7,
    oldestMulti: 40,
    oldestMultiDb: 8,
    nextOid: 20_000,
    oldestActiveXid: 901,
    walLevel: 2,
  });
  t.take();
  t.nextOid(20_000);
  t.runningXacts(901);
  t.walLevel(undefined);
  expect(t.changed).toBe(false);
});

test('before 17 there is no wal_level to keep', () => {
  const { walLevel: _, ...base } = BASE;
  const t = new CheckpointTracker(CONTROL_FILE_1300, base);
  t.walLevel(2);
  expect(t.changed).toBe(false);
  expect(t.checkpoint.walLevel).toBeUndefined();
});

test('commit timestamps: from the first that is kept to a cut, and none when they are off', () => {
  const t = tracker();
  t.commitTsTruncated(5);
  expect(t.changed).toBe(false);
  t.commitTsKept(1000);
  t.commitTsKept(1005);
  expect(t.checkpoint.oldestCommitTsXid).toBe(1000);
  t.commitTsKept(998);
  expect(t.checkpoint.oldestCommitTsXid).toBe(998);
  t.commitTsTruncated(1003);
  expect(t.checkpoint.oldestCommitTsXid).toBe(1003);
  t.commitTsOff();
  expect(t.checkpoint).toMatchObject({ oldestCommitTsXid: 0, newestCommitTsXid: 0 });
});

test('the bytes to store are the struct', () => {
  const t = tracker();
  t.xidUsed(4000);
  const bytes = t.take();
  expect(readCheckpoint(new DataView(bytes.buffer), 0, CONTROL_FILE_1700)).toEqual(t.checkpoint);
});
