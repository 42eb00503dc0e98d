import { describe, expect, test } from 'vitest';
import { describeOf, effectsOf, madeRecord } from '../../../integration/redo/effect-records.ts';
import { Builder } from '../../base/bytes.ts';
import { xact14, xact15, xact18 } from './xact.ts';

const HAS_INFO = 0x80;

describe('effects', () => {
  test('a plain commit is one effect with nothing in it but xid and time', () => {
    const record = madeRecord(xact18, 0x00, new Builder().u64le(77n), { xid: 800 });
    const effects = effectsOf(xact18, record);
    expect(effects).toEqual([
      { kind: 'xact-commit', xid: 800, subxids: [], xactTime: 77, origin: undefined, prepared: false },
    ]);
    const [again] = effectsOf(xact18, record);
    const lists = [effects[0], again].map(e => (e?.kind === 'xact-commit' ? e.subxids : null));
    expect(lists[0]).toBe(lists[1]);
  });

  test('the transaction comes before the relations that go with it', () => {
    const main = new Builder()
      .u64le(1n)
      .u32le(0x06)
      .u32le(1)
      .u32le(801)
      .u32le(1)
      .u32le(1663)
      .u32le(5)
      .u32le(9);
    for (const [info, kind] of [
      [0x80, 'xact-commit'],
      [0xa0, 'xact-abort'],
    ] as const) {
      expect(effectsOf(xact18, madeRecord(xact18, info, main, { xid: 800 }))).toEqual([
        { kind, xid: 800, subxids: [801], xactTime: 1, origin: undefined, prepared: false },
        { kind: 'drop-relations', rels: [{ spcOid: 1663, dbOid: 5, relNumber: 9 }] },
      ]);
    }
  });

  test('the end of a prepared transaction is of the xid that the body names', () => {
    const main = new Builder()
      .u64le(1n)
      .u32le(0x10 | 0x20 | 0x80)
      .u32le(790)
      .cstr('gid')
      .u64le(0xffff_ffff_ffff_fff0n)
      .u64le(0x7fff_ffff_ffff_ffffn);
    const header = { xid: 0, origin: 3 };
    const [effect] = effectsOf(xact18, madeRecord(xact18, 0x30 | HAS_INFO, main, header));
    expect(effect).toEqual({
      kind: 'xact-commit',
      xid: 790,
      subxids: [],
      xactTime: 1,
      origin: { id: 3, lsn: 0xffff_ffff_ffff_fff0n, time: 0x7fff_ffff_ffff_ffffn },
      prepared: true,
    });
  });

  test('the end of no transaction is refused', () => {
    const plain = new Builder().u64le(1n);
    for (const info of [0x00, 0x20, 0x30, 0x40]) {
      expect(() => effectsOf(xact18, madeRecord(xact18, info, plain))).toThrow('no transaction');
    }
  });

  test('effects outlive the record', () => {
    const main = new Builder().u64le(1n).u32le(0x02).u32le(1).u32le(801);
    const record = madeRecord(xact18, HAS_INFO, main, { xid: 800 });
    const [effect] = effectsOf(xact18, record);
    record.bytes.fill(0xff);
    expect(effect).toMatchObject({ subxids: [801], xactTime: 1 });
  });
});

describe('descriptions', () => {
  const origin = new Builder().u64le(0n).u32le(0x20).u64le(0x1_0000_0002n).u64le(0n).finish();

  test("14 keeps an abort's origin to itself, 15 tells it", () => {
    const describeAbort = (rmgr: typeof xact14): string =>
      describeOf(rmgr, madeRecord(rmgr, 0x20 | HAS_INFO, origin, { xid: 800, origin: 4 }));
    expect(describeAbort(xact14)).toBe('2000-01-01 00:00:00.000000 UTC');
    expect(describeAbort(xact15)).toBe(
      '2000-01-01 00:00:00.000000 UTC; origin: node 4, lsn 1/2, at 2000-01-01 00:00:00.000000 UTC',
    );
  });

  test('dropped statistics have 32-bit ids in 15, 64-bit ids in 18', () => {
    const head = (): Builder => new Builder().u64le(0n).u32le(0x100).u32le(1).u32le(2).u32le(5);
    const text = (rmgr: typeof xact14, main: Builder): string =>
      describeOf(rmgr, madeRecord(rmgr, HAS_INFO, main, { xid: 800 }));
    expect(text(xact15, head().u32le(16384))).toContain('; dropped stats: 2/5/16384');
    expect(text(xact18, head().u32le(16384).u32le(1))).toContain('; dropped stats: 2/5/4294983680');
  });

  test('what a commit asks for', () => {
    const main = new Builder().u64le(0n).u32le(0xa000_0000);
    const text = (rmgr: typeof xact14): string =>
      describeOf(rmgr, madeRecord(rmgr, HAS_INFO, main, { xid: 800 }));
    expect(text(xact14)).toBe('2000-01-01 00:00:00.000000 UTC; sync');
    expect(text(xact15)).toBe('2000-01-01 00:00:00.000000 UTC; apply_feedback; sync');
  });
});
