// Operations on single tuples, by records made by hand: what the recorded logs seldom or never hold. The weight of
// proof lies with Postgres's own logs (integration/redo/oracle.test.ts).

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Dialect } from '../../dialect.ts';
import { newPage, pageLsn, setPdFlags } from '../../page.ts';
import { pageGetMaxOffsetNumber, pageIsAllVisible } from '../../page-items.ts';
import { redoBlock } from '../../redo.ts';
import { RM_NEON_ID } from '../neon.ts';
import { RM_HEAP_ID, RM_HEAP2_ID } from './rows.ts';
import {
  BLKNO,
  bytes,
  END,
  effectsOf,
  heapPage,
  INIT_PAGE,
  made,
  neon,
  REL,
  stock,
  type Tuple,
  tuple,
  tupleOf,
  XID,
} from './test-records.ts';

/** Block data of an insert: header, bitmap or padding up to t_hoff, user data. */
const insertData = (cid: number | undefined, infomask: number, user: number[]): Uint8Array =>
  bytes(b => {
    b.u16le(2).u16le(infomask);
    if (cid !== undefined) b.u32le(cid);
    return b.u8(24).u8(0).raw(Uint8Array.from(user));
  });

const insertMain = (offnum: number, flags: number): Uint8Array => bytes(b => b.u16le(offnum).u8(flags));

describe('INSERT', () => {
  const user = Array.from({ length: 90 }, (_, i) => i);
  const cases: [string, Dialect, number, number | undefined][] = [
    ['Postgres', stock(17), RM_HEAP_ID, undefined],
    ['Neon 15', neon(15), RM_HEAP_ID, 41],
    ['Neon 17', neon(17), RM_NEON_ID, 41],
  ];

  it.each(cases)('%s: puts the tuple together on the page', (_, dialect, rmid, cid) => {
    for (const length of [1, 9, 40, 64, 65, 90]) {
      const page = heapPage(tuple({}));
      setPdFlags(page, 4);
      const data = insertData(cid, 0x0822, user.slice(0, length));
      const record = made(dialect, { rmid, info: 0, main: insertMain(2, 1), data });
      redoBlock(dialect, page, record, record.block(0));
      expect(tupleOf(page, 2)).toEqual({
        xmin: XID,
        xmax: 0,
        cid: cid ?? 0,
        ctid: `${BLKNO}/2`,
        infomask2: 2,
        // Postgres takes HEAP_COMBOCID (0x20) off with FirstCommandId.
        infomask: cid === undefined ? 0x0802 : 0x0822,
        hoff: 24,
        user: user.slice(0, length),
      });
      expect(pageIsAllVisible(page)).toBe(false);
      expect(pageLsn(page)).toBe(END);
    }
  });

  it('begins a page when told to', () => {
    const dialect = stock(14);
    const page = heapPage(tuple({}), tuple({}));
    const data = insertData(undefined, 0x0802, [7]);
    const record = made(dialect, {
      rmid: RM_HEAP_ID,
      info: INIT_PAGE,
      main: insertMain(1, 0),
      data,
      willInit: true,
    });
    expect(redoBlock(dialect, page, record, record.block(0))).toBe('applied');
    expect(pageGetMaxOffsetNumber(page)).toBe(1);
    expect(tupleOf(page, 1).user).toEqual([7]);
  });

  it.each([
    [
      'an offset number past the next',
      insertMain(3, 0),
      insertData(undefined, 0, [1]),
      'invalid max offset number',
    ],
    ['a line pointer in use', insertMain(1, 0), insertData(undefined, 0, [1]), 'failed to add tuple'],
    ['a header without a tuple', insertMain(2, 0), new Uint8Array(5), 'a tuple of 5 bytes'],
    ['main data cut short', new Uint8Array(2), insertData(undefined, 0, [1]), 'main data of 2 bytes'],
  ])('refuses %s', (_, main, data, message) => {
    const dialect = stock(17);
    const record = made(dialect, { rmid: RM_HEAP_ID, info: 0, main, data });
    expect(() => redoBlock(dialect, heapPage(tuple({})), record, record.block(0))).toThrow(message);
  });
});

describe('MULTI_INSERT', () => {
  /** Tuples of odd lengths, so that alignment shows. */
  const users = [[1], [2, 2], [3, 3, 3], [4]];
  const cases: [string, Dialect, number, number, 'tuple' | 'main' | 'none'][] = [
    ['Postgres', stock(16), RM_HEAP2_ID, 0x50, 'none'],
    ['Neon 15', neon(15), RM_HEAP2_ID, 0x50, 'tuple'],
    ['Neon 16', neon(16), RM_NEON_ID, 0x50, 'main'],
  ];

  it.each(cases)(
    '%s: adds the tuples at their offsets, or from 1 on a new page',
    (_, dialect, rmid, info, cid) => {
      const start = bytes(b => {
        for (const user of users) {
          if (b.length % 2 === 1) b.u8(0);
          b.u16le(user.length + 1)
            .u16le(2)
            .u16le(0x0802);
          if (cid === 'tuple') b.u16le(0).u32le(55);
          b.u8(24).u8(0).raw(Uint8Array.from(user));
        }
        return b;
      });
      const main = (isInit: boolean) =>
        bytes(b => {
          b.u8(isInit ? 0x20 : 0x01)
            .u8(0)
            .u16le(users.length);
          if (cid === 'main') b.u32le(55);
          if (!isInit) for (let i = 0; i < users.length; i++) b.u16le(2 + i);
          return b;
        });
      for (const isInit of [false, true]) {
        const page = isInit ? newPage() : heapPage(tuple({}));
        const record = made(dialect, {
          rmid,
          info: info | (isInit ? INIT_PAGE : 0),
          main: main(isInit),
          data: start,
          willInit: isInit,
        });
        redoBlock(dialect, page, record, record.block(0));
        const first = isInit ? 1 : 2;
        users.forEach((user, i) => {
          const { ctid, cid: t_cid, user: got } = tupleOf(page, first + i);
          expect([ctid, t_cid, got]).toEqual([`${BLKNO}/${first + i}`, cid === 'none' ? 0 : 55, user]);
        });
        expect(pageIsAllVisible(page)).toBe(isInit);
      }
    },
  );
});

/** Main data of UPDATE by flavour. */
const updateMain = (
  cid: number | undefined,
  o: { flags: number; oldOff: number; newOff: number; infobits?: number },
) =>
  bytes(b => {
    b.u32le(500)
      .u16le(o.oldOff)
      .u8(o.infobits ?? 0)
      .u8(o.flags);
    if (cid !== undefined) b.u32le(cid);
    return b.u32le(600).u16le(o.newOff);
  });

describe('UPDATE', () => {
  it('borrows beginning and end from the old tuple on the same page, whatever their lengths', () => {
    const dialect = stock(17);
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.uint8Array({ minLength: 0, maxLength: 200 }),
        fc.nat(200),
        fc.nat(200),
        fc.constantFrom(24, 32),
        fc.constantFrom(24, 32),
        fc.boolean(),
        (oldUser, middle, p, s, oldHoff, newHoff, hot) => {
          const prefix = Math.min(p, oldUser.length);
          const suffix = Math.min(s, oldUser.length - prefix);
          const page = heapPage(tuple({}), tuple({ hoff: oldHoff, user: [...oldUser], infomask2: 0x4003 }));
          const flags = (prefix > 0 ? 0x20 : 0) | (suffix > 0 ? 0x40 : 0) | 0x01;
          const data = bytes(b => {
            if (prefix > 0) b.u16le(prefix);
            if (suffix > 0) b.u16le(suffix);
            return b
              .u16le(0x8002)
              .u16le(0x2822)
              .u8(newHoff)
              .zeros(newHoff - 23)
              .raw(middle);
          });
          const main = updateMain(undefined, { flags, oldOff: 2, newOff: 3, infobits: 0x10 });
          const record = made(dialect, { rmid: RM_HEAP_ID, info: hot ? 0x40 : 0x20, main, data });
          redoBlock(dialect, page, record, record.block(0));
          expect(tupleOf(page, 3)).toEqual({
            xmin: XID,
            xmax: 600,
            cid: 0,
            ctid: `${BLKNO}/3`,
            infomask2: 0x8002,
            infomask: 0x2802,
            hoff: newHoff,
            user: [...oldUser.subarray(0, prefix), ...middle, ...oldUser.subarray(oldUser.length - suffix)],
          });
          const old = tupleOf(page, 2);
          expect(old).toMatchObject({ xmin: 5, xmax: 500, cid: 0, ctid: `${BLKNO}/3`, user: [...oldUser] });
          // keys updated; HOT updated or not; xmax bits replaced by none
          expect([old.infomask2, old.infomask]).toEqual([hot ? 0x6003 : 0x2003, 0x0102]);
        },
      ),
    );
  });

  it('over two pages edits each by itself', () => {
    const dialect = neon(17);
    const data = bytes(b => b.u16le(2).u16le(0x2822).u32le(31).u8(24).u8(0).raw(Uint8Array.of(8, 8)));
    const main = updateMain(30, { flags: 0x03, oldOff: 1, newOff: 1, infobits: 0x20 });
    const record = made(dialect, {
      rmid: RM_NEON_ID,
      info: 0x20 | INIT_PAGE,
      main,
      data,
      willInit: true,
      block1: { blkno: 3 },
    });
    const fresh = newPage();
    redoBlock(dialect, fresh, record, record.block(0));
    expect(tupleOf(fresh, 1)).toMatchObject({
      xmax: 600,
      cid: 31,
      infomask: 0x2822,
      user: [8, 8],
      ctid: `${BLKNO}/1`,
    });
    const old = heapPage(tuple({}));
    setPdFlags(old, 4);
    redoBlock(dialect, old, record, record.block(1));
    expect(tupleOf(old, 1)).toMatchObject({ xmax: 500, cid: 30, infomask: 0x0122, ctid: `${BLKNO}/1` });
    expect(pageIsAllVisible(old)).toBe(false);
    expect(effectsOf(dialect, record)).toEqual([
      { kind: 'vm-clear', rel: REL, heapBlk: 3, heapBlk2: BLKNO, flags: 3 },
    ]);
  });

  it.each([
    ['more than the old tuple has', 0x20, 200, 1],
    ['a tuple that is not there', 0x00, 0, 5],
  ])('refuses %s', (_, flags, prefix, oldOff) => {
    const dialect = stock(18);
    const data = bytes(b => {
      if (flags !== 0) b.u16le(prefix);
      return b.u16le(2).u16le(0).u8(24).u8(0).u8(1);
    });
    const main = updateMain(undefined, { flags, oldOff, newOff: 2 });
    const record = made(dialect, { rmid: RM_HEAP_ID, info: 0x20, main, data });
    expect(() => redoBlock(dialect, heapPage(tuple({})), record, record.block(0))).toThrow(
      /bytes to borrow|invalid lp 5/,
    );
  });

  it.each([
    [0x00, undefined],
    [0x01, { heapBlk: BLKNO }],
    [0x02, { heapBlk: BLKNO }],
    [0x03, { heapBlk: BLKNO }],
  ])('on one page, flags 0x%s clear its bits once', (flags, expected) => {
    const dialect = stock(15);
    const main = updateMain(undefined, { flags, oldOff: 1, newOff: 2 });
    const record = made(dialect, { rmid: RM_HEAP_ID, info: 0x40, main });
    expect(effectsOf(dialect, record)).toEqual(
      expected === undefined ? [] : [{ kind: 'vm-clear', rel: REL, ...expected, flags: 3 }],
    );
  });
});

describe('DELETE', () => {
  const main = (infobits: number, flags: number) => bytes(b => b.u32le(500).u16le(1).u8(infobits).u8(flags));
  const run = (infobits: number, flags: number): Tuple => {
    const dialect = stock(17);
    const page = heapPage(tuple({ xmax: 3, infomask2: 0x4002, infomask: 0x1d62 }));
    const record = made(dialect, { rmid: RM_HEAP_ID, info: 0x10, main: main(infobits, flags) });
    redoBlock(dialect, page, record, record.block(0));
    return tupleOf(page, 1);
  };

  it('sets xmax and points the tuple at itself', () => {
    expect(run(0x11, 0)).toMatchObject({
      xmin: 5,
      xmax: 500,
      cid: 0,
      ctid: `${BLKNO}/1`,
      infomask2: 0x2002,
      infomask: 0x1102,
    });
  });
  it('withdraws a speculative insertion by its xmin', () => {
    expect(run(0, 0x08)).toMatchObject({ xmin: 0, xmax: 3, infomask: 0x0102 });
  });
  it('marks a row that moved to another partition', () => {
    expect(run(0, 0x10)).toMatchObject({ ctid: `${0xffffffff}/${0xfffd}` });
  });
});

describe('LOCK', () => {
  const lockMain = (infobits: number, flags: number) =>
    bytes(b => b.u32le(500).u16le(1).u8(infobits).u8(flags));

  it('cuts the link to a newer version only where xmax is no update', () => {
    const dialect = stock(18);
    for (const [infobits, ctid, infomask2] of [
      [0x06, `${BLKNO}/1`, 0x0002],
      [0x04, `${BLKNO}/1`, 0x0002],
      [0x09, '3/1', 0x4002],
    ] as const) {
      const page = heapPage(tuple({ infomask2: 0x4002, infomask: 0x0922 }));
      const record = made(dialect, { rmid: RM_HEAP_ID, info: 0x60, main: lockMain(infobits, 1) });
      redoBlock(dialect, page, record, record.block(0));
      const { cid, ...rest } = tupleOf(page, 1);
      expect([rest.ctid, rest.infomask2, cid, rest.infomask & 0x20]).toEqual([ctid, infomask2, 0, 0]);
      expect(effectsOf(dialect, record)).toEqual([{ kind: 'vm-clear', rel: REL, heapBlk: BLKNO, flags: 2 }]);
    }
  });

  it('LOCK_UPDATED keeps the combo cid in Postgres and takes it from the record in Neon', () => {
    const result = (dialect: Dialect, infobits: number, infomask: number): number => {
      const page = heapPage(tuple({ infomask }));
      const record = made(dialect, { rmid: RM_HEAP2_ID, info: 0x60, main: lockMain(infobits, 0) });
      redoBlock(dialect, page, record, record.block(0));
      const got = tupleOf(page, 1);
      expect([got.cid, got.xmax, got.ctid]).toEqual([9, 500, '3/1']);
      return got.infomask;
    };
    for (const major of [14, 15, 16, 17]) {
      expect(result(stock(major), 0x0a, 0x0922)).toBe(0x01b2);
      expect(result(neon(major), 0x0a, 0x0922)).toBe(0x0192);
      expect(result(neon(major), 0x2a, 0x0902)).toBe(0x01b2);
    }
  });
});

describe('CONFIRM and INPLACE', () => {
  it('confirm points the tuple at itself', () => {
    const dialect = stock(16);
    const page = heapPage(tuple({}));
    const record = made(dialect, { rmid: RM_HEAP_ID, info: 0x50, main: bytes(b => b.u16le(1)) });
    redoBlock(dialect, page, record, record.block(0));
    expect(tupleOf(page, 1).ctid).toBe(`${BLKNO}/1`);
  });
  it('inplace replaces user data of the same length and refuses another', () => {
    const dialect = stock(17);
    const page = heapPage(tuple({ user: [1, 2, 3] }));
    const run = (data: Uint8Array) => {
      const record = made(dialect, { rmid: RM_HEAP_ID, info: 0x70, main: bytes(b => b.u16le(1)), data });
      redoBlock(dialect, page, record, record.block(0));
    };
    run(Uint8Array.of(9, 8, 7));
    expect(tupleOf(page, 1).user).toEqual([9, 8, 7]);
    page.view.setUint32(4, 0, true);
    expect(() => run(Uint8Array.of(1))).toThrow('wrong tuple length');
  });
});
