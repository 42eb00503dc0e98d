import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addIndexTuple,
  btreeTupleIsPosting,
  formPosting,
  heapTidCount,
  heapTidsAt,
  INDEX_NULL_MASK,
  indexTupleSize,
  readTid,
  type ScratchTuple,
  swapPosting,
  T_INFO,
  updatePosting,
  writeTid,
} from './index-tuple.ts';
import { newPage, type Page, pageInit, pdLower, setPdLower } from './page.ts';
import { LP_NORMAL, pageGetItemOffset, setItemId } from './page-items.ts';

const KEY = [0xca, 0xfe, 0xba, 0xbe, 1, 2, 3, 4];
const tid = (block: number, offnum: number): number => block * 0x10000 + offnum;

/** Distinct TIDs, ascending. */
const tids = (min: number, max: number): fc.Arbitrary<number[]> =>
  fc
    .uniqueArray(fc.record({ block: fc.nat(0xfffffffe), offnum: fc.integer({ min: 1, max: 0x7ff }) }), {
      minLength: min,
      maxLength: max,
      selector: ({ block, offnum }) => tid(block, offnum),
    })
    .map(list => list.map(({ block, offnum }) => tid(block, offnum)).sort((a, b) => a - b));

function plainTuple(heapTid: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  writeTid(view, 0, heapTid);
  view.setUint16(T_INFO, INDEX_NULL_MASK | 16, true);
  bytes.set(KEY, 8);
  return bytes;
}

function pageOf(tuples: readonly Uint8Array[]): Page {
  const page = newPage();
  pageInit(page, 16);
  for (const [i, tuple] of tuples.entries()) addIndexTuple(page, tuple, 0, tuple.length, i + 1);
  return page;
}

/** A tuple's heap TIDs; its key and its flags must have survived. */
function heapTids(bytes: Uint8Array, view: DataView, at: number): number[] {
  expect([...bytes.subarray(at + 8, at + 16)]).toEqual(KEY);
  expect(view.getUint16(at + T_INFO, true) & INDEX_NULL_MASK).toBe(INDEX_NULL_MASK);
  const count = heapTidCount(view, at);
  expect(btreeTupleIsPosting(view, at)).toBe(count > 1);
  return Array.from({ length: count }, (_, i) => readTid(view, heapTidsAt(view, at) + 6 * i));
}

const copy = (tuple: ScratchTuple): Uint8Array => tuple.bytes.slice(0, tuple.size);

function postingOf(list: readonly number[]): Uint8Array {
  return copy(formPosting(pageOf(list.map(plainTuple)), 1, list.length));
}

describe('TIDs', () => {
  it('are read as they were written, high half of the block first', () => {
    const view = new DataView(new ArrayBuffer(6));
    writeTid(view, 0, tid(0x12345678, 0x9abc));
    expect(new Uint8Array(view.buffer)).toEqual(Uint8Array.of(0x34, 0x12, 0x78, 0x56, 0xbc, 0x9a));
    expect(readTid(view, 0)).toBe(tid(0x12345678, 0x9abc));
    writeTid(view, 0, tid(0xffffffff, 1));
    expect(readTid(view, 0)).toBe(tid(0xffffffff, 1));
  });
});

describe('formPosting', () => {
  it('joins plain tuples and posting lists to one list, a multiple of eight long', () => {
    fc.assert(
      fc.property(tids(4, 300), fc.nat(), (list, cut) => {
        const at = 2 + (cut % (list.length - 2));
        const page = pageOf([postingOf(list.slice(0, at)), ...list.slice(at).map(plainTuple)]);
        const joined = formPosting(page, 1, 1 + list.length - at);
        expect(heapTids(joined.bytes, joined.view, 0)).toEqual(list);
        expect(joined.size).toBe(16 + Math.ceil((list.length * 6) / 8) * 8);
        expect(indexTupleSize(joined.view, 0)).toBe(joined.size);
        expect(joined.bytes.subarray(16 + list.length * 6, joined.size).every(byte => byte === 0)).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('refuses a tuple larger than a tuple can say it is', () => {
    const half = (block: number) => postingOf(Array.from({ length: 350 }, (_, i) => tid(block, i + 1)));
    const whole = copy(formPosting(pageOf([half(1), half(2)]), 1, 2));
    // Two lists of 700 TIDs do not fit a page together: let two line pointers share one.
    const page = pageOf([whole]);
    setItemId(page, 2, pageGetItemOffset(page, 1), LP_NORMAL, whole.length);
    setPdLower(page, pdLower(page) + 4);
    expect(() => formPosting(page, 1, 2)).toThrow(RangeError);
  });
});

describe('updatePosting', () => {
  it('takes out what it is told to; one TID left makes a plain tuple', () => {
    fc.assert(
      fc.property(tids(2, 200), fc.infiniteStream(fc.boolean()), fc.boolean(), (list, stream, leaveOne) => {
        const gone = list.map((_, i) => i).filter(() => stream.next().value);
        const deleted = leaveOne || gone.length === list.length ? list.map((_, i) => i).slice(1) : gone;
        if (deleted.length === 0) return;
        const view = new DataView(new ArrayBuffer(3 + 2 * deleted.length));
        for (const [i, index] of deleted.entries()) view.setUint16(3 + 2 * i, index, true);
        const page = pageOf([postingOf(list)]);
        const at = pageGetItemOffset(page, 1);
        const tuple = updatePosting(page.bytes, page.view, at, view, 3, deleted.length);
        const left = list.filter((_, i) => !deleted.includes(i));
        expect(heapTids(tuple.bytes, tuple.view, 0)).toEqual(left);
        // As if it had been formed from what is left.
        expect(copy(tuple)).toEqual(left.length === 1 ? plainTuple(left[0]!) : postingOf(left));
      }),
      { numRuns: 50 },
    );
  });

  it('refuses to empty a list, and indexes that it does not have', () => {
    const page = pageOf([postingOf([tid(1, 1), tid(1, 2), tid(1, 3)])]);
    const at = pageGetItemOffset(page, 1);
    const view = new DataView(Uint8Array.of(0, 0, 1, 0, 2, 0, 3, 0).buffer);
    expect(() => updatePosting(page.bytes, page.view, at, view, 0, 3)).toThrow(RangeError);
    expect(() => updatePosting(page.bytes, page.view, at, view, 4, 2)).toThrow(RangeError);
    expect(() => updatePosting(page.bytes, page.view, at, view, 0, 0)).toThrow(RangeError);
    const plain = pageOf([plainTuple(tid(1, 1))]);
    expect(() => updatePosting(plain.bytes, plain.view, pageGetItemOffset(plain, 1), view, 0, 1)).toThrow(
      RangeError,
    );
  });
});

describe('swapPosting', () => {
  it('puts the new TID in its order and gives back the greatest', () => {
    fc.assert(
      fc.property(tids(3, 200), fc.nat(), (all, pick) => {
        const postingoff = 1 + (pick % (all.length - 2));
        const newTid = all[postingoff]!;
        const list = all.filter(t => t !== newTid);
        const page = pageOf([postingOf(list)]);
        const at = pageGetItemOffset(page, 1);
        expect(swapPosting(page.bytes, page.view, at, postingoff, newTid)).toBe(all.at(-1));
        expect(heapTids(page.bytes, page.view, at)).toEqual(all.slice(0, -1));
      }),
      { numRuns: 50 },
    );
  });

  it('refuses places outside of the list, and tuples without one', () => {
    const page = pageOf([postingOf([tid(1, 1), tid(1, 2)]), plainTuple(tid(2, 2))]);
    const at = pageGetItemOffset(page, 1);
    expect(() => swapPosting(page.bytes, page.view, at, 0, tid(1, 5))).toThrow(RangeError);
    expect(() => swapPosting(page.bytes, page.view, at, 2, tid(1, 5))).toThrow(RangeError);
    expect(() => swapPosting(page.bytes, page.view, pageGetItemOffset(page, 2), 1, tid(1, 5))).toThrow(
      RangeError,
    );
  });
});

describe('addIndexTuple', () => {
  it('refuses what does not fit and what is no tuple', () => {
    const page = pageOf([plainTuple(tid(1, 1))]);
    expect(() => addIndexTuple(page, new Uint8Array(8192), 0, 8160, 2)).toThrow(RangeError);
    expect(() => addIndexTuple(page, new Uint8Array(8), 0, 7, 2)).toThrow(RangeError);
    expect(() => addIndexTuple(page, plainTuple(1), 0, 16, 4)).toThrow(RangeError);
  });
});
