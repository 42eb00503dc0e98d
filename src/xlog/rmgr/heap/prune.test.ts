// Pruning, vacuum, freezing and the visibility map, by records made by hand; and records that do not add up.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Builder, toHex } from '../../../base/bytes.ts';
import { isFault } from '../../../base/fault.ts';
import type { Dialect } from '../../dialect.ts';
import { ALL_DIALECTS } from '../../dialects/all.ts';
import { newPage, type Page, pageIsNew, pageLsn, pdUpper, setPdUpper } from '../../page.ts';
import {
  itemIdFlags,
  itemIdIsUsed,
  itemIdSetDead,
  LP_DEAD,
  LP_REDIRECT,
  pageGetMaxOffsetNumber,
  pageIsAllVisible,
} from '../../page-items.ts';
import type { WalRecord } from '../../record.ts';
import { redoBlock } from '../../redo.ts';
import { RM_NEON_ID } from '../neon.ts';
import { RM_HEAP_ID, RM_HEAP2_ID } from './rows.ts';
import {
  bytes,
  describeOf,
  END,
  effectsOf,
  heapPage,
  INIT_PAGE,
  made,
  stock,
  tuple,
  tupleOf,
} from './test-records.ts';

describe('pruning, vacuum and freezing', () => {
  const u16s = (...values: number[]): Uint8Array =>
    bytes(b => {
      for (const value of values) b.u16le(value);
      return b;
    });
  const six = (): Page => heapPage(...[1, 2, 3, 4, 5, 6].map(n => tuple({ user: [n] })));

  const pruned = (dialect: Dialect): Page => {
    const page = six();
    const old = made(dialect, {
      rmid: RM_HEAP2_ID,
      info: 0x10,
      main: bytes(b => b.u32le(90).u16le(1).u16le(1)),
      // 1 redirected to 3; 2 dead; 5 and 6 unused
      data: u16s(1, 3, 2, 5, 6),
    });
    redoBlock(dialect, page, old, old.block(0));
    return page;
  };

  it('14 keeps unused line pointers at the end, 15 gives them up, 17 says the same in parts', () => {
    expect(pageGetMaxOffsetNumber(pruned(stock(14)))).toBe(6);
    const page = pruned(stock(15));
    expect(pageGetMaxOffsetNumber(page)).toBe(4);
    expect([1, 2].map(n => itemIdFlags(page, n))).toEqual([LP_REDIRECT, LP_DEAD]);
    expect([3, 4].map(n => tupleOf(page, n).user)).toEqual([[3], [4]]);
    expect(pdUpper(page)).toBe(8192 - 2 * 32);

    const dialect = stock(17);
    const parts = six();
    const record = made(dialect, {
      rmid: RM_HEAP2_ID,
      info: 0x20,
      main: bytes(b =>
        b
          .u8(1)
          .u8(0x04 | 0x08 | 0x20 | 0x40 | 0x80)
          .u32le(90),
      ),
      data: u16s(1, 1, 3, 1, 2, 2, 5, 6),
    });
    redoBlock(dialect, parts, record, record.block(0));
    expect(toHex(parts.bytes)).toBe(toHex(page.bytes));
    expect(describeOf(dialect, record)).toBe(
      'snapshotConflictHorizon: 90, isCatalogRel: F, nplans: 0, nredirected: 1, ndead: 1, nunused: 2, ' +
        'redirected: [1->3], dead: [2], unused: [5, 6]',
    );
  });

  it('without a cleanup lock only line pointers go, no tuple moves', () => {
    const vacuumed = (dialect: Dialect, info: number, main: Uint8Array, data: Uint8Array): Page => {
      const page = six();
      for (const n of [2, 6]) itemIdSetDead(page, n);
      const record = made(dialect, { rmid: RM_HEAP2_ID, info, main, data });
      redoBlock(dialect, page, record, record.block(0));
      return page;
    };
    const a = vacuumed(stock(14), 0x20, u16s(2), u16s(2, 6));
    const b = vacuumed(
      stock(18),
      0x30,
      bytes(x => x.u8(2).u8(0x80)),
      u16s(2, 2, 6),
    );
    expect(toHex(a.bytes)).toBe(toHex(b.bytes));
    expect(pageGetMaxOffsetNumber(a)).toBe(5);
    expect(itemIdIsUsed(a, 2)).toBe(false);
    expect(pdUpper(a)).toBe(8192 - 6 * 32);
  });

  it('freezes alike in the shapes of 15, 16 and 17', () => {
    const frozen = (dialect: Dialect, info: number, main: Uint8Array, data: Uint8Array): string => {
      const page = six();
      const record = made(dialect, { rmid: RM_HEAP2_ID, info, main, data });
      redoBlock(dialect, page, record, record.block(0));
      expect(tupleOf(page, 2)).toMatchObject({ xmax: 0, infomask2: 0x0003, infomask: 0x0b02, cid: 2 });
      expect(tupleOf(page, 6)).toMatchObject({ xmax: 0, infomask2: 0x0003, infomask: 0x0b02, cid: 2 });
      expect(tupleOf(page, 5)).toMatchObject({ xmax: 44, infomask2: 0x0004, infomask: 0x1b02, cid: 0 });
      expect(tupleOf(page, 1)).toMatchObject({ cid: 9 });
      return toHex(page.bytes);
    };
    const each = bytes(b => {
      for (const off of [2, 6]) b.u32le(0).u16le(off).u16le(3).u16le(0x0b02).u8(2).u8(0);
      return b.u32le(44).u16le(5).u16le(4).u16le(0x1b02).u8(4).u8(0);
    });
    const plans = (b: Builder) =>
      b
        .u32le(0)
        .u16le(3)
        .u16le(0x0b02)
        .u8(2)
        .u8(0)
        .u16le(2)
        .u32le(44)
        .u16le(4)
        .u16le(0x1b02)
        .u8(4)
        .u8(0)
        .u16le(1);
    const offsets = u16s(2, 6, 5);
    const results = [
      frozen(
        stock(15),
        0x30,
        bytes(b => b.u32le(90).u16le(3)),
        each,
      ),
      frozen(
        stock(16),
        0x30,
        bytes(b => b.u32le(90).u16le(2).u8(0)),
        bytes(b => plans(b).raw(offsets)),
      ),
      frozen(
        stock(17),
        0x20,
        bytes(b => b.u8(1).u8(0x10)),
        bytes(b => plans(b.u16le(2).u16le(0)).raw(offsets)),
      ),
    ];
    expect(new Set(results).size).toBe(1);
  });
});

describe('VISIBLE', () => {
  const visible = (dialect: Dialect, flags: number, heapBlk: number, mapBlk: number): WalRecord =>
    made(dialect, {
      rmid: RM_HEAP2_ID,
      info: 0x40,
      main: bytes(b => b.u32le(90).u8(flags)),
      blkno: mapBlk,
      block1: { blkno: heapBlk },
    });

  it('sets two bits on a page of the map, which it may have to begin', () => {
    const dialect = stock(17);
    for (const [heapBlk, flags] of [
      [0, 1],
      [5, 3],
      [32671, 1],
      [32672, 3],
      [32675, 5],
    ] as const) {
      const page = newPage();
      const record = visible(dialect, flags, heapBlk, Math.floor(heapBlk / 32672));
      expect(redoBlock(dialect, page, record, record.block(0))).toBe('applied');
      expect(pageIsNew(page)).toBe(false);
      const n = heapBlk % 32672;
      const expected = new Uint8Array(8168);
      expected[n >> 2] = (flags & 3) << (2 * (n & 3));
      expect(toHex(page.bytes.subarray(24))).toBe(toHex(expected));
      expect(pageLsn(page)).toBe(END);
    }
  });

  it('leaves a page alone whose bits are set, and marks the heap page', () => {
    const dialect = stock(14);
    const record = visible(dialect, 1, 9, 0);
    const map = newPage();
    redoBlock(dialect, map, record, record.block(0));
    map.view.setUint32(4, 5, true);
    expect(redoBlock(dialect, map, record, record.block(0))).toBe('unchanged');
    expect(pageLsn(map)).toBe(5);
    const heap = heapPage(tuple({}));
    redoBlock(dialect, heap, record, record.block(1));
    expect(pageIsAllVisible(heap)).toBe(true);
  });

  it('refuses the wrong page of the map', () => {
    const dialect = stock(17);
    const record = visible(dialect, 1, 40_000, 0);
    expect(() => redoBlock(dialect, newPage(), record, record.block(0))).toThrow(
      'not on this page of the map',
    );
  });
});

describe('INPLACE of 18', () => {
  it('tells its invalidations as pg_waldump does', () => {
    const main = bytes(b => {
      b.u16le(4).u16le(0).u32le(5).u32le(1663).u8(1).zeros(3).i32le(8);
      for (const id of [21, -1, -2, -3, -4, -5, -6, -7])
        b.u8(id & 0xff)
          .zeros(3)
          .u32le(5)
          .u32le(1259)
          .zeros(4);
      return b;
    });
    const record = made(stock(18), { rmid: RM_HEAP_ID, info: 0x70, main });
    expect(describeOf(stock(18), record)).toBe(
      'off: 4; relcache init file inval dbid 5 tsid 1663; inval msgs: catcache 21 catalog 1259 relcache 1259 ' +
        'smgr relmap db 5 snapshot 1259 relsync 1259 unrecognized id -7',
    );
  });
});

describe('records that do not add up', () => {
  it('are Faults, whatever their bytes and whatever the page', () => {
    const rows = ALL_DIALECTS.flatMap(dialect =>
      [RM_HEAP_ID, RM_HEAP2_ID, RM_NEON_ID].flatMap(rmid =>
        Object.keys(dialect.rmgrs[rmid]?.ops ?? {}).map(code => ({ dialect, rmid, info: Number(code) })),
      ),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(...rows),
        fc.boolean(),
        fc.uint8Array({ maxLength: 40 }),
        fc.uint8Array({ maxLength: 120 }),
        fc.uint8Array({ minLength: 64, maxLength: 64 }),
        fc.boolean(),
        (row, init, main, data, noise, second) => {
          const page = heapPage(tuple({}), tuple({ user: [4, 4, 4, 4] }));
          page.bytes.set(noise.subarray(0, 8), 24);
          if (noise[8]! > 200) setPdUpper(page, noise[9]! * 40);
          const info = row.info | (init ? INIT_PAGE : 0);
          const record = made(row.dialect, {
            rmid: row.rmid,
            info,
            main,
            data,
            blkno: noise[10]! & 1,
            ...(second ? { block1: { blkno: noise[11]! } } : {}),
          });
          const attempts = [
            () => redoBlock(row.dialect, page, record, record.block(0)),
            () => second && redoBlock(row.dialect, page, record, record.block(1)),
            () => effectsOf(row.dialect, record),
            () => describeOf(row.dialect, record),
          ];
          for (const attempt of attempts) {
            try {
              attempt();
            } catch (error) {
              if (!isFault(error)) throw error;
            }
          }
        },
      ),
      { numRuns: 3000 },
    );
  });
});
