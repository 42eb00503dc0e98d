import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { INVALID_LSN, type Lsn, parseLsn } from '../base/lsn.ts';
import {
  advancePastXid,
  type CheckPoint,
  checkpointBytes,
  fullFromAllowableAt,
  fullFromEpochAndXid,
  readCheckpoint,
  SIZE_OF_CHECKPOINT,
  writeCheckpoint,
} from './checkpoint.ts';
import {
  CONTROL_FILE_1300,
  CONTROL_FILE_1700,
  CONTROL_FILE_1800,
  CONTROL_FILE_SIZE,
  type ControlFile,
  DB_IN_PRODUCTION,
  readControlFile,
  WAL_LEVEL_LOGICAL,
  writeControlFile,
} from './control-file.ts';
import { controlFileLines } from './control-file-text.ts';

const CHECKPOINT: CheckPoint = {
  redo: parseLsn('7/ABCDEF10'),
  thisTimeLineId: 2,
  prevTimeLineId: 1,
  fullPageWrites: true,
  nextXid: fullFromEpochAndXid(5, 0xfffffff0),
  nextOid: 24576,
  nextMulti: 99,
  nextMultiOffset: 0xfffffffe,
  oldestXid: 730,
  oldestXidDb: 1,
  oldestMulti: 3,
  oldestMultiDb: 5,
  time: 1_750_000_000,
  oldestCommitTsXid: 4,
  newestCommitTsXid: 6,
  oldestActiveXid: 7,
};

const CONTROL: ControlFile = {
  systemIdentifier: 0xf123456789abcdefn,
  pgControlVersion: 1300,
  catalogVersionNo: 202307071,
  state: DB_IN_PRODUCTION,
  time: 1_750_000_001,
  checkPoint: parseLsn('7/ABCDEF20'),
  checkPointCopy: CHECKPOINT,
  unloggedLsn: 1000 as Lsn,
  minRecoveryPoint: parseLsn('1/2'),
  minRecoveryPointTli: 3,
  backupStartPoint: INVALID_LSN,
  backupEndPoint: parseLsn('3/4'),
  backupEndRequired: true,
  walLevel: WAL_LEVEL_LOGICAL,
  walLogHints: true,
  maxConnections: 100,
  maxWorkerProcesses: 8,
  maxWalSenders: 10,
  maxPreparedXacts: 11,
  maxLocksPerXact: 64,
  trackCommitTimestamp: true,
  maxAlign: 8,
  blcksz: 8192,
  relsegSize: 131072,
  xlogBlcksz: 8192,
  xlogSegSize: 16777216,
  nameDataLen: 64,
  indexMaxKeys: 32,
  toastMaxChunkSize: 1996,
  loblksize: 2048,
  float8ByVal: true,
  dataChecksumVersion: 1,
  mockAuthenticationNonce: Uint8Array.from({ length: 32 }, (_, i) => 255 - i),
};

const byVersion: readonly ControlFile[] = [
  CONTROL,
  { ...CONTROL, pgControlVersion: 1700, checkPointCopy: { ...CHECKPOINT, walLevel: 1 } },
  {
    ...CONTROL,
    pgControlVersion: 1800,
    checkPointCopy: { ...CHECKPOINT, walLevel: 2 },
    defaultCharSignedness: true,
  },
];

describe('control files', () => {
  test.each(byVersion)('version $pgControlVersion comes back as it was written', control => {
    const bytes = writeControlFile(control);
    expect(bytes.length).toBe(CONTROL_FILE_SIZE);
    expect(readControlFile(bytes)).toEqual(control);
    expect(controlFileLines(control).length).toBe(control.pgControlVersion === 1800 ? 51 : 50);
  });

  test('a changed byte is found, wherever it is', () => {
    for (const control of byVersion) {
      const bytes = writeControlFile(control);
      const length = control.pgControlVersion === 1800 ? 296 : 292;
      for (let at = 0; at < length; at++) {
        bytes[at]! ^= 0x10;
        expect(() => readControlFile(bytes)).toThrow(
          at >= 8 && at < 12 ? 'is not known' : 'incorrect checksum',
        );
        bytes[at]! ^= 0x10;
      }
    }
  });

  test('a short file and a strange version say so', () => {
    expect(() => readControlFile(new Uint8Array(8))).toThrow('cut short');
    expect(() => readControlFile(writeControlFile(CONTROL).subarray(0, 200))).toThrow('cut short');
    expect(() => writeControlFile({ ...CONTROL, pgControlVersion: 1201 })).toThrow(
      'version 1201 is not known',
    );
  });
});

describe('checkpoints', () => {
  test('88 bytes; what lies between the fields stays', () => {
    for (const shape of [CONTROL_FILE_1300, CONTROL_FILE_1700, CONTROL_FILE_1800]) {
      const checkpoint = shape.checkpointHasWalLevel ? { ...CHECKPOINT, walLevel: 1 } : CHECKPOINT;
      const bytes = checkpointBytes(shape, checkpoint);
      expect(bytes.length).toBe(SIZE_OF_CHECKPOINT);
      expect(readCheckpoint(new DataView(bytes.buffer), 0, shape)).toEqual(checkpoint);

      const framed = new Uint8Array(104).fill(0xee);
      writeCheckpoint(new DataView(framed.buffer), 8, shape, checkpoint);
      const gaps = [17, 18, 19, 60, 61, 62, 63, 84, 87].concat(shape.checkpointHasWalLevel ? [] : [20, 23]);
      for (const at of gaps) expect(framed[8 + at]).toBe(0xee);
      expect(readCheckpoint(new DataView(framed.buffer), 8, shape)).toEqual(checkpoint);
    }
    expect(() => readCheckpoint(new DataView(new ArrayBuffer(80)), 0, CONTROL_FILE_1300)).toThrow('88 bytes');
  });
});

describe('full transaction ids', () => {
  const MAX = 0xffffffff;

  test('an xid above the next one is of the epoch before', () => {
    const next = fullFromEpochAndXid(3, 1000);
    expect(fullFromAllowableAt(next, 999)).toBe(fullFromEpochAndXid(3, 999));
    expect(fullFromAllowableAt(next, 1000)).toBe(next);
    expect(fullFromAllowableAt(next, 1001)).toBe(fullFromEpochAndXid(2, 1001));
    expect(fullFromAllowableAt(next, 2)).toBe(2);
  });

  test('the next id goes past what was used, and never back', () => {
    expect(advancePastXid(fullFromEpochAndXid(0, 700), 700)).toBe(701);
    expect(advancePastXid(fullFromEpochAndXid(0, 700), 699)).toBe(700);
    expect(advancePastXid(fullFromEpochAndXid(1, MAX), MAX)).toBe(fullFromEpochAndXid(2, 3));
    expect(advancePastXid(fullFromEpochAndXid(1, MAX - 5), 10)).toBe(fullFromEpochAndXid(2, 11));
    expect(advancePastXid(fullFromEpochAndXid(1, 10), MAX - 5)).toBe(fullFromEpochAndXid(1, 10));
    expect(advancePastXid(500, 2)).toBe(500);
    fc.assert(
      fc.property(fc.integer({ min: 3, max: 2 ** 50 }), fc.integer({ min: 3, max: MAX }), (next, xid) => {
        fc.pre(next % 2 ** 32 >= 3);
        const advanced = advancePastXid(next, xid);
        expect(advanced).toBeGreaterThanOrEqual(next);
        if (advanced === next) return;
        // The full id of the xid is now behind, by less than half the circle.
        const full = fullFromAllowableAt(advanced, xid);
        expect(full).toBeLessThan(advanced);
        expect(full).toBeGreaterThanOrEqual(next);
      }),
    );
  });
});
