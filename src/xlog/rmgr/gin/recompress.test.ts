// Segment actions against a model that keeps segments as lists of TIDs: what is on the page afterwards is what the
// model says, whatever the actions' order and sizes.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { newPage, type Page, pdLower } from '../../page.ts';
import {
  GIN_COMPRESSED,
  GIN_DATA,
  GIN_DATA_START,
  GIN_LEAF,
  ginFlags,
  ginInitPage,
  ginMaxoff,
  setGinDataSize,
  setGinMaxoff,
} from './page.ts';
import { decodePostingList, encodePostingList, POSTING_ITEMS_MAX, postingListSize } from './posting-list.ts';
import { ginRecompress } from './recompress.ts';

type Segment = number[];
type Change =
  | { readonly kind: 'keep' }
  | { readonly kind: 'delete' }
  | { readonly kind: 'insert'; readonly items: Segment }
  | { readonly kind: 'replace'; readonly items: Segment }
  | { readonly kind: 'add'; readonly items: Segment };

const ACTION = { delete: 1, insert: 2, replace: 3, add: 4 } as const;

function encoded(items: Segment): Uint8Array {
  const out = new Uint8Array(8192);
  return out.slice(0, encodePostingList(Float64Array.from(items), items.length, new DataView(out.buffer), 0));
}

function leaf(segments: readonly Segment[]): Page {
  const page = newPage();
  ginInitPage(page, GIN_DATA | GIN_LEAF | GIN_COMPRESSED);
  let at = GIN_DATA_START;
  for (const segment of segments) {
    const list = encoded(segment);
    page.bytes.set(list, at);
    at += list.length;
  }
  setGinDataSize(page, at - GIN_DATA_START);
  return page;
}

function segmentsOf(page: Page): Segment[] {
  const segments: Segment[] = [];
  const items = new Float64Array(POSTING_ITEMS_MAX);
  for (let at = GIN_DATA_START; at < pdLower(page); at += postingListSize(page.view, at)) {
    segments.push([...items.subarray(0, decodePostingList(page.view, at, pdLower(page), items))]);
  }
  return segments;
}

function tids(items: Segment): Uint8Array {
  const out = new Uint8Array(items.length * 6);
  const view = new DataView(out.buffer);
  for (const [i, item] of items.entries()) {
    const block = Math.floor(item / 2048);
    view.setUint16(6 * i, block >>> 16, true);
    view.setUint16(6 * i + 2, block & 0xffff, true);
    view.setUint16(6 * i + 4, item % 2048, true);
  }
  return out;
}

function recordOf(changes: readonly (readonly [number, Change])[]): Uint8Array {
  const out: number[] = [changes.length & 0xff, changes.length >> 8];
  for (const [segno, change] of changes) {
    if (change.kind === 'keep') continue;
    out.push(segno, ACTION[change.kind]);
    if (change.kind === 'add') out.push(change.items.length & 0xff, change.items.length >> 8);
    if (change.kind !== 'delete') {
      out.push(...(change.kind === 'add' ? tids(change.items) : encoded(change.items)));
    }
  }
  return Uint8Array.from(out);
}

function apply(page: Page, changes: readonly (readonly [number, Change])[]): void {
  const record = recordOf(changes);
  ginRecompress(page, record, new DataView(record.buffer), 0, record.length);
}

/** The `n`th segment has TIDs of blocks n*100 and on, at odd offsets; what is added has even ones. */
const segmentItems = (n: number, odd: 0 | 1): fc.Arbitrary<Segment> =>
  fc
    .uniqueArray(fc.integer({ min: 0, max: 99 * 100 }), { minLength: 1, maxLength: 60 })
    .map(list =>
      list.map(i => (n * 100 + Math.floor(i / 100)) * 2048 + 2 * (i % 100) + 2 - odd).sort((a, b) => a - b),
    );

const scenario = fc.integer({ min: 1, max: 12 }).chain(count =>
  fc.tuple(
    fc.tuple(...Array.from({ length: count }, (_, n) => segmentItems(n, 1))),
    fc.tuple(
      ...Array.from({ length: count + 1 }, (_, n) =>
        fc.oneof(
          ...(n === count
            ? []
            : [
                fc.constant<Change>({ kind: 'delete' }),
                segmentItems(n, 1).map<Change>(items => ({ kind: 'replace', items })),
                segmentItems(n, 0).map<Change>(items => ({ kind: 'add', items })),
              ]),
          fc.constant<Change>({ kind: 'keep' }),
          segmentItems(n, 1).map<Change>(items => ({ kind: 'insert', items })),
        ),
      ),
    ),
  ),
);

describe('segment actions', () => {
  test('do what the model does', () => {
    fc.assert(
      fc.property(scenario, ([segments, changes]) => {
        const expected = segments.flatMap((segment, n) => {
          const change = changes[n]!;
          if (change.kind === 'delete') return [];
          if (change.kind === 'replace') return [change.items];
          if (change.kind === 'insert') return [change.items, segment];
          if (change.kind === 'add') return [[...segment, ...change.items].sort((a, b) => a - b)];
          return [segment];
        });
        const last = changes[segments.length]!;
        if (last.kind === 'insert') expected.push(last.items);
        const listed = changes.map((change, n) => [n, change] as const).filter(([, c]) => c.kind !== 'keep');
        if (listed.length === 0) return;
        const page = leaf(segments);
        apply(page, listed);
        expect(segmentsOf(page)).toEqual(expected);
      }),
    );
  });

  test('a leaf from before 9.4 becomes one segment first', () => {
    const page = newPage();
    ginInitPage(page, GIN_DATA | GIN_LEAF);
    const old = [2049, 2051, 10241];
    page.bytes.set(tids(old), GIN_DATA_START);
    setGinMaxoff(page, old.length);
    apply(page, [[0, { kind: 'add', items: [4097] }]]);
    expect(segmentsOf(page)).toEqual([[2049, 2051, 4097, 10241]]);
    expect(ginFlags(page) & GIN_COMPRESSED).toBe(GIN_COMPRESSED);
    expect(ginMaxoff(page)).toBe(0);
  });

  test('an action on a segment that is not there is refused', () => {
    expect(() => apply(leaf([[2049]]), [[1, { kind: 'delete' }]])).toThrow('no segment 1');
    expect(() => apply(leaf([[2049]]), [[7, { kind: 'delete' }]])).toThrow(RangeError);
  });

  test('lists that outgrow the page are refused, its special space kept', () => {
    const items = (n: number): Segment => Array.from({ length: 1900 }, (_, i) => (n * 5000 + i) * 2048 + 1);
    const page = leaf([items(0)]);
    const special = page.bytes.slice(8184);
    const more = (n: number) => [1, { kind: 'insert', items: items(n) }] as const;
    expect(() => apply(page, [more(1), more(2)])).toThrow('outgrow');
    expect(page.bytes.slice(8184)).toEqual(special);
  });

  test('a record cut short is refused', () => {
    const record = recordOf([[0, { kind: 'replace', items: [2049, 4097, 9999] }]]);
    const view = new DataView(record.buffer);
    expect(() => ginRecompress(leaf([[2049]]), record, view, 0, record.length - 2)).toThrow('cut short');
  });
});
