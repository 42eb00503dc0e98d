import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodePostingList,
  encodePostingList,
  mergeItems,
  POSTING_ITEMS_MAX,
  postingListSize,
  readItemPointers,
} from './posting-list.ts';

const bytes = new Uint8Array(8192);
const view = new DataView(bytes.buffer);
const items = (...values: number[]): Float64Array => Float64Array.from(values);
const tid = (block: number, offset: number): number => block * 2048 + offset;
const hex = (length: number): string => Buffer.from(bytes.subarray(0, length)).toString('hex');

/** Ascending, distinct TIDs with blocks up to the largest there is. */
const ascending = fc
  .uniqueArray(fc.tuple(fc.integer({ min: 0, max: 0xfffffffe }), fc.integer({ min: 1, max: 291 })), {
    maxLength: 300,
    minLength: 1,
    selector: ([block, offset]) => tid(block, offset),
  })
  .map(pairs => Float64Array.from(pairs, ([block, offset]) => tid(block, offset)).sort());

function decoded(length: number): number[] {
  const out = new Float64Array(POSTING_ITEMS_MAX);
  return [...out.subarray(0, decodePostingList(view, 0, length, out))];
}

describe('posting lists', () => {
  test('a list of one is its TID and no bytes', () => {
    bytes.fill(0xff);
    expect(encodePostingList(items(tid(0x12345, 7)), 1, view, 0)).toBe(8);
    expect(hex(8)).toBe('0100452307000000');
  });

  test('deltas are varbytes, low bits first, padded to two bytes by a zero', () => {
    bytes.fill(0xff);
    // 0/1, 0/2: delta 1. 1/2: delta 2048 = 0x80 0x10.
    const size = encodePostingList(items(tid(0, 1), tid(0, 2), tid(1, 2)), 3, view, 0);
    expect(size).toBe(12);
    expect(hex(12)).toBe('000000000100' + '0300' + '018010' + '00');
    expect(postingListSize(view, 0)).toBe(12);
  });

  test('the widest delta takes seven bytes and comes back', () => {
    const wide = items(tid(0, 1), tid(0xfffffffe, 291));
    const size = encodePostingList(wide, 2, view, 0);
    expect(view.getUint16(6, true)).toBe(7);
    expect(decoded(size)).toEqual([...wide]);
  });

  test('what goes in comes out', () => {
    fc.assert(
      fc.property(ascending, list => {
        const size = encodePostingList(list, list.length, view, 0);
        expect(decoded(size)).toEqual([...list]);
      }),
    );
  });

  test('a merge is the sorted union', () => {
    fc.assert(
      fc.property(ascending, ascending, (a, b) => {
        const merged = new Float64Array(POSTING_ITEMS_MAX);
        const count = mergeItems(a, a.length, b, b.length, merged);
        expect([...merged.subarray(0, count)]).toEqual(
          [...new Set([...a, ...b])].sort((left, right) => left - right),
        );
      }),
    );
  });

  test('plain TIDs are read one after the other', () => {
    for (const [i, [block, offset]] of [
      [0x10002, 3],
      [0x10003, 1],
    ].entries()) {
      view.setUint16(6 * i, block! >>> 16, true);
      view.setUint16(6 * i + 2, block! & 0xffff, true);
      view.setUint16(6 * i + 4, offset!, true);
    }
    const out = new Float64Array(2);
    readItemPointers(view, 0, 2, out);
    expect([...out]).toEqual([tid(0x10002, 3), tid(0x10003, 1)]);
  });

  test('a list longer than its place is refused', () => {
    const size = encodePostingList(items(tid(0, 1), tid(5, 1), tid(9, 1)), 3, view, 0);
    const out = new Float64Array(POSTING_ITEMS_MAX);
    expect(() => decodePostingList(view, 0, size - 4, out)).toThrow(RangeError);
  });
});
