import { describe, expect, test } from 'vitest';
import { describeOf, effectsOf, madeRecord } from '../../../integration/redo/effect-records.ts';
import { Builder } from '../../base/bytes.ts';
import { clog14, clog17 } from './clog.ts';
import { commitTs14, commitTs17 } from './commit-ts.ts';
import { multixact17 } from './multixact.ts';

const wide = (pageno: bigint): Builder => new Builder().u64le(BigInt.asUintN(64, pageno));

describe('a page number past the last that 32-bit ids reach is refused', () => {
  test.each([
    ['pg_xact', clog17, 0x00, 131_071n],
    ['offsets', multixact17, 0x00, 2_097_151n],
    ['members', multixact17, 0x10, 2_625_285n],
    ['pg_commit_ts', commitTs17, 0x00, 5_244_160n],
  ])('%s', (_, rmgr, info, last) => {
    expect(effectsOf(rmgr, madeRecord(rmgr, info, wide(last)))).toMatchObject([{ pageno: Number(last) }]);
    for (const pageno of [last + 1n, -1n, 1n << 32n, 1n << 62n]) {
      expect(() => effectsOf(rmgr, madeRecord(rmgr, info, wide(pageno)))).toThrow('of SLRU');
    }
  });

  test('negative, as 14 has it', () => {
    expect(() => effectsOf(clog14, madeRecord(clog14, 0x00, new Builder().u32le(0xffff_ffff)))).toThrow(
      'page -1',
    );
  });
});

describe('truncation at both widths', () => {
  test('pg_xact', () => {
    const narrow = new Builder().u32le(32).u32le(1_100_000).u32le(5);
    const effect = { kind: 'clog-truncate', pageno: 32, oldestXid: 1_100_000, oldestXidDb: 5 };
    expect(effectsOf(clog14, madeRecord(clog14, 0x10, narrow))).toEqual([effect]);
    const record = madeRecord(clog17, 0x10, wide(32n).u32le(1_100_000).u32le(5));
    expect(effectsOf(clog17, record)).toEqual([effect]);
    expect(describeOf(clog17, record)).toBe('page 32; oldestXact 1100000');
    expect(() => effectsOf(clog17, madeRecord(clog17, 0x10, narrow))).toThrow('takes 16 bytes');
  });

  test('pg_commit_ts', () => {
    const effect = { kind: 'commit-ts-truncate', pageno: 64, oldestXid: 53_000 };
    const narrow = new Builder().u32le(64).u32le(53_000);
    expect(effectsOf(commitTs14, madeRecord(commitTs14, 0x10, narrow))).toEqual([effect]);
    const record = madeRecord(commitTs17, 0x10, wide(64n).u32le(53_000));
    expect(effectsOf(commitTs17, record)).toEqual([effect]);
    expect(describeOf(commitTs17, record)).toBe('pageno 64, oldestXid 53000');
  });
});
