import { describe, expect, test } from 'vitest';
import {
  capturedRows,
  decodeRow,
  describeOf,
  effectsOf,
  MAJORS,
  madeRecord,
} from '../../../integration/redo/effect-records.ts';
import { Builder } from '../../base/bytes.ts';
import { parseLsn } from '../../base/lsn.ts';
import { dialectOfMajor } from '../dialects/all.ts';
import { newPage, pageInit, pageIsNew, pageLsn, setPageLsn } from '../page.ts';
import { redoBlock } from '../redo.ts';
import { xlog14, xlog17, xlog18 } from './xlog.ts';

describe('CheckPoint', () => {
  const main = new Builder()
    .u64le(0x1_0000_00a8n) // redo
    .u32le(1) // ThisTimeLineID
    .u32le(2) // PrevTimeLineID
    .u8(1) // fullPageWrites
    .zeros(3)
    .u32le(2) // wal_level, padding before 17
    .u64le(0x3_0000_0004n); // nextXid
  for (let value = 5; value <= 11; value++) main.u32le(value); // nextOid .. oldestMultiDB
  main.zeros(4).u64le(0n); // time
  main.u32le(12).u32le(13).u32le(14).zeros(4); // commit timestamp xids, oldestActiveXid

  test('14 does not know wal_level', () => {
    expect(main.length).toBe(88);
    const record = madeRecord(xlog14, 0x00, main);
    expect(describeOf(xlog14, record)).toBe(
      'redo 1/A8; tli 1; prev tli 2; fpw true; xid 3:4; oid 5; multi 6; offset 7; oldest xid 8 in DB 9; ' +
        'oldest multi 10 in DB 11; oldest/newest commit timestamp xid: 12/13; oldest running xid 14; shutdown',
    );
    expect(effectsOf(xlog14, record)).toEqual([{ kind: 'checkpoint', shutdown: true, bytes: main.finish() }]);
  });

  test('17 tells it', () => {
    const record = madeRecord(xlog17, 0x10, main);
    expect(describeOf(xlog17, record)).toContain('fpw true; wal_level logical; xid 3:4; ');
    expect(effectsOf(xlog17, record)).toMatchObject([{ kind: 'checkpoint', shutdown: false }]);
  });

  test('a short one is refused', () => {
    expect(() => effectsOf(xlog18, madeRecord(xlog18, 0x00, main.finish().subarray(0, 87)))).toThrow(
      'CheckPoint takes 88 bytes, the record has 87',
    );
  });
});

test('OVERWRITE_CONTRECORD', () => {
  const main = new Builder().u64le(0x1_0000_0028n).u64le(86_400_000_000n);
  for (const rmgr of [xlog14, xlog18]) {
    expect(describeOf(rmgr, madeRecord(rmgr, 0xd0, main))).toBe(
      'lsn 1/28; time 2000-01-02 00:00:00.000000 UTC',
    );
  }
});

test('END_OF_RECOVERY has wal_level since 17', () => {
  const main = new Builder().u64le(0n).u32le(3).u32le(2).u32le(1).zeros(4).finish();
  const old = main.subarray(0, 16);
  expect(effectsOf(xlog14, madeRecord(xlog14, 0x90, old))).toEqual([
    { kind: 'end-of-recovery', thisTimeLineId: 3, prevTimeLineId: 2, walLevel: undefined },
  ]);
  expect(effectsOf(xlog17, madeRecord(xlog17, 0x90, main))).toEqual([
    { kind: 'end-of-recovery', thisTimeLineId: 3, prevTimeLineId: 2, walLevel: 1 },
  ]);
  expect(() => effectsOf(xlog17, madeRecord(xlog17, 0x90, old))).toThrow('takes 20 bytes');
});

test('a restore point is its name up to the zero', () => {
  const main = new Builder().u64le(0n).cstr('before the change').text('left over');
  expect(describeOf(xlog18, madeRecord(xlog18, 0x70, main))).toBe('before the change');
});

describe.each(MAJORS)('images of %i', major => {
  const dialect = dialectOfMajor(major, 'stock');
  const rows = capturedRows(major).filter(row => row.op.startsWith('XLOG/FPI'));

  test('are restored, and an FPI_FOR_HINT without one leaves the page and its LSN alone', () => {
    let restored = 0;
    let unchanged = 0;
    for (const row of rows) {
      const record = decodeRow(row, major);
      for (const block of record.blocks.slice(0, record.maxBlockId + 1)) {
        const page = newPage();
        pageInit(page, 0);
        setPageLsn(page, parseLsn('0/28'));
        const before = page.bytes.slice();
        const outcome = redoBlock(dialect, page, record, block);
        if (block.hasImage) {
          expect(outcome).toBe('restored');
          if (!pageIsNew(page)) expect(pageLsn(page)).toBe(record.endLsn);
          restored++;
        } else {
          expect(row.op).toBe('XLOG/FPI_FOR_HINT');
          expect(outcome).toBe('unchanged');
          expect(page.bytes).toEqual(before);
          unchanged++;
        }
      }
    }
    expect(restored).toBeGreaterThan(0);
    expect(unchanged > 0).toBe(major > 14);
  });

  test.each(['XLOG/FPI', ...(major === 14 ? ['XLOG/FPI_FOR_HINT'] : [])])(
    '%s without its image is refused',
    op => {
      const record = decodeRow(rows.find(row => row.op === op)!, major);
      const block = record.block(0);
      block.hasImage = false;
      const page = newPage();
      pageInit(page, 0);
      expect(() => redoBlock(dialect, page, record, block)).toThrow('no full-page image');
    },
  );
});
