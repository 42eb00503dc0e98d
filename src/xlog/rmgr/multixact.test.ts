import { expect, test } from 'vitest';
import { describeOf, effectsOf, madeRecord } from '../../../integration/redo/effect-records.ts';
import { Builder } from '../../base/bytes.ts';
import { multixact14, multixact17, multixact18 } from './multixact.ts';

const created = (mid: number, moff: number, members: readonly (readonly [number, number])[]): Builder => {
  const main = new Builder().u32le(mid).u32le(moff).u32le(members.length);
  for (const [xid, status] of members) main.u32le(xid).u32le(status);
  return main;
};

test('a set, its members, and where the next one begins', () => {
  const record = madeRecord(
    multixact18,
    0x20,
    created(2047, 1635, [
      [800, 0],
      [801, 5],
      [802, 6],
    ]),
  );
  expect(effectsOf(multixact18, record)).toEqual([
    {
      kind: 'multixact-create',
      mid: 2047,
      moff: 1635,
      nextMid: 2048,
      nextMoff: 1638,
      members: [
        { xid: 800, status: 0 },
        { xid: 801, status: 5 },
        { xid: 802, status: 6 },
      ],
    },
  ]);
  expect(describeOf(multixact18, record)).toBe(
    '2047 offset 1635 nmembers 3: 800 (keysh) 801 (upd) 802 (unk) ',
  );
});

test('ids and offsets wrap past 0', () => {
  const two = [
    [800, 0],
    [801, 1],
  ] as const;
  const [last] = effectsOf(
    multixact14,
    madeRecord(multixact14, 0x20, created(0xffff_ffff, 0xffff_fffe, two)),
  );
  expect(last).toMatchObject({ nextMid: 1, nextMoff: 1 });
  const [over] = effectsOf(
    multixact14,
    madeRecord(multixact14, 0x20, created(0xffff_fffe, 0xffff_ffff, two)),
  );
  expect(over).toMatchObject({ nextMid: 0xffff_ffff, nextMoff: 1 });
});

test.each([-1, 3, 0x7fff_ffff, 0x2000_0001])('%i members where two are is refused', count => {
  const main = created(1, 1, [
    [800, 0],
    [801, 1],
  ]);
  const record = madeRecord(multixact18, 0x20, main);
  record.view.setInt32(8, count, true);
  expect(() => effectsOf(multixact18, record)).toThrow('do not fit');
  expect(() => describeOf(multixact18, record)).toThrow('do not fit');
});

test('truncation', () => {
  const record = madeRecord(multixact18, 0x30, new Builder().u32le(5).u32le(1).u32le(9).u32le(2).u32le(40));
  expect(effectsOf(multixact18, record)).toEqual([
    {
      kind: 'multixact-truncate',
      oldestMultiDb: 5,
      startTruncOff: 1,
      endTruncOff: 9,
      startTruncMemb: 2,
      endTruncMemb: 40,
    },
  ]);
  expect(describeOf(multixact18, record)).toBe('offsets [1, 9), members [2, 40)');
});

test('pages of both SLRUs, at both widths', () => {
  const page14 = new Builder().u32le(7);
  const page17 = new Builder().u64le(7n);
  expect(effectsOf(multixact14, madeRecord(multixact14, 0x00, page14))).toEqual([
    { kind: 'slru-zero-page', slru: 2, pageno: 7 },
  ]);
  expect(effectsOf(multixact17, madeRecord(multixact17, 0x10, page17))).toEqual([
    { kind: 'slru-zero-page', slru: 1, pageno: 7 },
  ]);
  expect(() => effectsOf(multixact17, madeRecord(multixact17, 0x10, page14))).toThrow('takes 8 bytes');
});
