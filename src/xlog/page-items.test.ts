import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BLCKSZ,
  newPage,
  type Page,
  PD_HAS_FREE_LINES,
  PD_PRUNE_XID,
  pageInit,
  pdFlags,
  pdLower,
  pdSpecial,
  pdUpper,
  setPdFlags,
  setPdUpper,
} from './page.ts';
import {
  pageIndexMultiDelete,
  pageRepairFragmentation,
  pageTruncateLinePointerArray,
} from './page-compact.ts';
import {
  itemIdFlags,
  itemIdIsUsed,
  itemIdLength,
  itemIdMarkDead,
  itemIdOffset,
  itemIdSetDead,
  itemIdSetRedirect,
  itemIdSetUnused,
  LP_DEAD,
  LP_NORMAL,
  LP_REDIRECT,
  MAX_HEAP_TUPLES_PER_PAGE,
  pageAddItem,
  pageGetItemOffset,
  pageGetMaxOffsetNumber,
  pageIndexTupleDelete,
  pageIndexTupleDeleteNoCompact,
  pageIndexTupleOverwrite,
  pageSetPrunable,
  setItemId,
} from './page-items.ts';

function emptyPage(special = 0): Page {
  const page = newPage();
  pageInit(page, special);
  return page;
}

const tuple = (seed: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 7 + 1) & 0xff);

function add(page: Page, bytes: Uint8Array, offnum = 0, overwrite = false, isHeap = false): number {
  // An offset other than 0, so that one forgotten shows.
  const padded = new Uint8Array(bytes.length + 3);
  padded.set(bytes, 3);
  return pageAddItem(page, padded, 3, bytes.length, offnum, overwrite, isHeap);
}

const item = (page: Page, offnum: number): string => {
  const at = pageGetItemOffset(page, offnum);
  return Buffer.from(page.bytes.subarray(at, at + itemIdLength(page, offnum))).toString('hex');
};
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** What every page with items must satisfy; `packed` that no space is lost between tuples. */
function checkInvariants(page: Page, packed: boolean): void {
  const lower = pdLower(page);
  const upper = pdUpper(page);
  expect(lower).toBeLessThanOrEqual(upper);
  expect(upper).toBeLessThanOrEqual(pdSpecial(page));
  const spans: [number, number][] = [];
  for (let offnum = 1; offnum <= pageGetMaxOffsetNumber(page); offnum++) {
    const length = itemIdLength(page, offnum);
    if (length === 0) continue;
    const offset = itemIdOffset(page, offnum);
    expect(offset % 8).toBe(0);
    expect(offset).toBeGreaterThanOrEqual(upper);
    spans.push([offset, offset + ((length + 7) & ~7)]);
  }
  spans.sort((a, b) => a[0] - b[0]);
  let at = upper;
  for (const [from, to] of spans) {
    if (packed) expect(from).toBe(at);
    else expect(from).toBeGreaterThanOrEqual(at);
    at = to;
  }
  if (packed) expect(at).toBe(pdSpecial(page));
  expect(at).toBeLessThanOrEqual(pdSpecial(page));
}

describe('pageAddItem', () => {
  it('lays tuples downwards, aligned, and line pointers upwards', () => {
    const page = emptyPage(16);
    expect(add(page, tuple(1, 30))).toBe(1);
    expect(add(page, tuple(2, 33))).toBe(2);
    expect([itemIdOffset(page, 1), itemIdLength(page, 1), itemIdFlags(page, 1)]).toEqual([
      8144,
      30,
      LP_NORMAL,
    ]);
    expect([itemIdOffset(page, 2), itemIdLength(page, 2)]).toEqual([8104, 33]);
    expect([pdLower(page), pdUpper(page), pdSpecial(page)]).toEqual([32, 8104, 8176]);
    expect(item(page, 2)).toBe(hex(tuple(2, 33)));
  });

  it('makes room in the middle without overwrite, and refuses a used place with it', () => {
    const page = emptyPage();
    for (let i = 1; i <= 3; i++) add(page, tuple(i, 16));
    expect(add(page, tuple(9, 16), 2)).toBe(2);
    expect([1, 2, 3, 4].map(n => item(page, n))).toEqual([1, 9, 2, 3].map(n => hex(tuple(n, 16))));
    expect(add(page, tuple(8, 16), 2, true)).toBe(0);
    itemIdSetUnused(page, 2);
    expect(add(page, tuple(8, 16), 2, true)).toBe(2);
    expect(add(page, tuple(7, 16), 5, true)).toBe(5);
    expect(add(page, tuple(7, 16), 7, true)).toBe(0);
  });

  it('reuses the first free line pointer only if the hint says so, and takes a wrong hint back', () => {
    const page = emptyPage();
    for (let i = 1; i <= 4; i++) add(page, tuple(i, 16), 0, false, true);
    itemIdSetUnused(page, 2);
    itemIdSetUnused(page, 3);
    expect(add(page, tuple(5, 16), 0, false, true)).toBe(5);
    setPdFlags(page, PD_HAS_FREE_LINES);
    expect(add(page, tuple(6, 16), 0, false, true)).toBe(2);
    expect(add(page, tuple(7, 16), 0, false, true)).toBe(3);
    expect(pdFlags(page)).toBe(PD_HAS_FREE_LINES);
    expect(add(page, tuple(8, 16), 0, false, true)).toBe(6);
    expect(pdFlags(page)).toBe(0);
  });

  it('fills a page to the last byte and no further', () => {
    const page = emptyPage();
    const length = BLCKSZ - 24 - 2 * 4 - 8;
    expect(add(page, tuple(1, length))).toBe(1);
    expect(add(page, tuple(2, 9))).toBe(0);
    expect(add(page, tuple(2, 8))).toBe(2);
    expect(pdLower(page)).toBe(pdUpper(page));
  });

  it('keeps a heap page to its number of line pointers', () => {
    const page = emptyPage();
    for (let n = 1; n <= MAX_HEAP_TUPLES_PER_PAGE; n++)
      expect(add(page, tuple(n, 8), 0, false, true)).toBe(n);
    expect(add(page, tuple(1, 8), 0, false, true)).toBe(0);
    expect(add(page, tuple(1, 8), 0, false, false)).toBe(MAX_HEAP_TUPLES_PER_PAGE + 1);
  });

  it('throws RangeError on page pointers that do not add up and on bytes that are not there', () => {
    const page = emptyPage();
    setPdUpper(page, 20);
    expect(() => add(page, tuple(1, 8))).toThrow(RangeError);
    expect(() => pageAddItem(emptyPage(), new Uint8Array(100), 90, 40, 0, false, false)).toThrow(RangeError);
    expect(() => pageAddItem(emptyPage(), new Uint8Array(20), 10, 20, 0, false, false)).toThrow(RangeError);
  });
});

/** A model of an index page: the tuples by offset number. */
type Step =
  | { do: 'add'; at: number; length: number }
  | { do: 'delete'; at: number }
  | { do: 'multi'; keep: readonly boolean[] }
  | { do: 'overwrite'; at: number; length: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('add' as const),
      at: fc.nat(400),
      length: fc.integer({ min: 8, max: 300 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('delete' as const), at: fc.nat(400) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('multi' as const),
      keep: fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('overwrite' as const),
      at: fc.nat(400),
      length: fc.integer({ min: 8, max: 300 }),
    }),
  },
);

describe('index pages against a model', () => {
  it('add, delete, multi-delete and overwrite keep the right tuples, packed', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), steps => {
        const page = emptyPage(16);
        const model: string[] = [];
        let seed = 0;
        for (const s of steps) {
          seed++;
          if (s.do === 'add') {
            const bytes = tuple(seed, s.length);
            const at = 1 + (s.at % (model.length + 1));
            const room = pdUpper(page) - pdLower(page) >= 4 + ((s.length + 7) & ~7);
            expect(add(page, bytes, at)).toBe(room ? at : 0);
            if (room) model.splice(at - 1, 0, hex(bytes));
          } else if (s.do === 'multi') {
            const gone = model.map((_, i) => i).filter(i => s.keep[i % s.keep.length] === false);
            const view = new DataView(new ArrayBuffer(2 * gone.length + 6));
            gone.forEach((n, i) => {
              view.setUint16(6 + 2 * i, n + 1, true);
            });
            pageIndexMultiDelete(page, view, 6, gone.length);
            for (const n of gone.reverse()) model.splice(n, 1);
          } else if (model.length > 0) {
            const at = 1 + (s.at % model.length);
            if (s.do === 'delete') {
              pageIndexTupleDelete(page, at);
              model.splice(at - 1, 1);
            } else {
              const bytes = tuple(seed, s.length);
              const old = (itemIdLength(page, at) + 7) & ~7;
              const room = ((s.length + 7) & ~7) <= old + pdUpper(page) - pdLower(page);
              expect(pageIndexTupleOverwrite(page, at, bytes, 0, bytes.length)).toBe(room);
              if (room) model[at - 1] = hex(bytes);
            }
          }
        }
        expect(pageGetMaxOffsetNumber(page)).toBe(model.length);
        expect(model.map((_, i) => item(page, i + 1))).toEqual(model);
        checkInvariants(page, true);
      }),
      { numRuns: 300 },
    );
  });

  it('deletes without compacting the line pointers, but for the last', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(60), { maxLength: 30 }), picks => {
        const page = emptyPage(8);
        const model: (string | undefined)[] = [];
        for (let i = 1; i <= 20; i++) {
          add(page, tuple(i, 8 + i * 5));
          model.push(hex(tuple(i, 8 + i * 5)));
        }
        for (const pick of picks) {
          const at = 1 + (pick % 20);
          if (model[at - 1] === undefined) continue;
          pageIndexTupleDeleteNoCompact(page, at);
          if (at === model.length) model.pop();
          else model[at - 1] = undefined;
        }
        expect(pageGetMaxOffsetNumber(page)).toBe(model.length);
        for (const [i, expected] of model.entries()) {
          if (expected === undefined) expect(itemIdIsUsed(page, i + 1)).toBe(false);
          else expect(item(page, i + 1)).toBe(expected);
        }
        checkInvariants(page, true);
      }),
    );
  });

  it('refuses offset numbers that are absent or out of order', () => {
    const page = emptyPage();
    for (let i = 1; i <= 5; i++) add(page, tuple(i, 16));
    expect(() => pageIndexTupleDelete(page, 0)).toThrow(RangeError);
    expect(() => pageIndexTupleDelete(page, 6)).toThrow(RangeError);
    const view = new DataView(new ArrayBuffer(6));
    [3, 2, 4].forEach((n, i) => {
      view.setUint16(2 * i, n, true);
    });
    expect(() => pageIndexMultiDelete(page, view, 0, 3)).toThrow('incorrect index offsets');
  });

  it('keeps flags on overwrite and storage on mark-dead', () => {
    const page = emptyPage();
    add(page, tuple(1, 16));
    add(page, tuple(2, 16));
    itemIdMarkDead(page, 1);
    expect(itemIdFlags(page, 1)).toBe(LP_DEAD);
    expect(itemIdLength(page, 1)).toBe(16);
    pageIndexTupleOverwrite(page, 1, tuple(3, 40), 0, 40);
    expect(itemIdFlags(page, 1)).toBe(LP_DEAD);
    expect(item(page, 1)).toBe(hex(tuple(3, 40)));
    expect(item(page, 2)).toBe(hex(tuple(2, 16)));
  });
});

type Fate = 'keep' | 'unused' | 'dead' | 'redirect';
const fate = fc.constantFrom<Fate>('keep', 'keep', 'unused', 'dead', 'redirect');

describe('pageRepairFragmentation', () => {
  it('packs what is kept in line pointer order and truncates only where asked', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 24, max: 120 }), fate, fc.nat(1000)), {
          minLength: 1,
          maxLength: 60,
        }),
        fc.boolean(),
        fc.boolean(),
        (rows, truncate, shuffled) => {
          const page = emptyPage();
          const order = rows.map((_, i) => i);
          if (shuffled) order.sort((a, b) => rows[a]![2] - rows[b]![2]);
          const kept = new Map<number, string>();
          for (const i of order) {
            // Tuples lie in `order` while line pointers keep theirs.
            const [length, what] = rows[i]!;
            const upper = pdUpper(page) - ((length + 7) & ~7);
            page.bytes.set(tuple(i, length), upper);
            setItemId(page, i + 1, upper, LP_NORMAL, length);
            setPdUpper(page, upper);
            if (what === 'keep') kept.set(i + 1, hex(tuple(i, length)));
          }
          page.view.setUint16(12, 24 + 4 * rows.length, true);
          rows.forEach(([, what], i) => {
            if (what === 'unused') itemIdSetUnused(page, i + 1);
            if (what === 'dead') itemIdSetDead(page, i + 1);
            if (what === 'redirect') itemIdSetRedirect(page, i + 1, 1);
          });
          pageRepairFragmentation(page, truncate);

          const lastUsed = rows.findLastIndex(([, what]) => what !== 'unused') + 1;
          expect(pageGetMaxOffsetNumber(page)).toBe(truncate ? lastUsed : rows.length);
          const anyUnused = rows
            .slice(0, truncate ? lastUsed : undefined)
            .some(([, what]) => what === 'unused');
          expect((pdFlags(page) & PD_HAS_FREE_LINES) !== 0).toBe(anyUnused);
          let above = BLCKSZ;
          for (const offnum of [...kept.keys()].sort((a, b) => a - b)) {
            expect(item(page, offnum)).toBe(kept.get(offnum));
            expect(itemIdOffset(page, offnum)).toBeLessThan(above);
            above = itemIdOffset(page, offnum);
          }
          rows.forEach(([, what], i) => {
            if (what === 'redirect') expect(itemIdFlags(page, i + 1)).toBe(LP_REDIRECT);
          });
          checkInvariants(page, true);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('refuses line pointers outside the tuple space', () => {
    const page = emptyPage();
    add(page, tuple(1, 32));
    setItemId(page, 1, 4096, LP_NORMAL, 32);
    expect(() => pageRepairFragmentation(page, true)).toThrow('corrupted line pointer: 4096');
  });
});

describe('pageTruncateLinePointerArray', () => {
  it('leaves at least one line pointer and sets the hint from what is left', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 30 }), used => {
        const page = emptyPage();
        used.forEach((_, i) => void add(page, tuple(i, 24)));
        used.forEach((u, i) => {
          if (!u) itemIdSetUnused(page, i + 1);
        });
        pageTruncateLinePointerArray(page);
        const left = Math.max(1, used.lastIndexOf(true) + 1);
        expect(pageGetMaxOffsetNumber(page)).toBe(left);
        expect((pdFlags(page) & PD_HAS_FREE_LINES) !== 0).toBe(used.slice(0, left).includes(false));
      }),
    );
  });
});

describe('pageSetPrunable', () => {
  it('keeps the older xid, modulo 2^32', () => {
    const page = emptyPage();
    const prune = (): number => page.view.getUint32(PD_PRUNE_XID, true);
    pageSetPrunable(page, 100);
    pageSetPrunable(page, 200);
    expect(prune()).toBe(100);
    pageSetPrunable(page, 0xfffffff0);
    expect(prune()).toBe(0xfffffff0);
    pageSetPrunable(page, 5);
    expect(prune()).toBe(0xfffffff0);
  });
});
