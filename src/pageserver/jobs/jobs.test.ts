import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KeyRange } from '../key.ts';
import { DELTA_BLOCK_BYTES } from '../layers/block.ts';
import { type Section, SectionBuilder } from '../layers/layer-builder.ts';
import { KeyCounts } from '../layers/layer-format.ts';
import { isBase, type ValueKind } from '../value.ts';
import { hotKeys } from './hot.ts';
import { markNeeded } from './keep.ts';
import { type MergeHeader, mergeJob, openRun, unpackSection } from './merge.ts';
import { openParcel, Parcel } from './parcel.ts';

interface Value {
  readonly blk: number;
  readonly lsn: number;
  readonly kind: ValueKind;
  readonly byte: number;
  readonly length: number;
}

const RANGE: KeyRange = { start: { rel: 1024, blk: 0 }, end: { rel: 1024, blk: 100 } };
const value = fc.record({
  blk: fc.nat(12),
  // Above 0: nothing is older than a cutoff there.
  lsn: fc.integer({ min: 1, max: 9 }),
  kind: fc.constantFrom<ValueKind>(0, 1, 1, 2, 3, 3),
  byte: fc.nat(255),
  length: fc.constantFrom(0, 1, 100, 20_000),
});
/** Layers one after the other in LSNs: layer i has LSNs 10i + 1 to 10i + 9. */
const layers = fc
  .array(fc.array(value, { minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 4 })
  .map(all => all.map((values, i) => values.map(v => ({ ...v, lsn: v.lsn + 10 * i })).sort(byLsn)));

function byLsn(a: Value, b: Value): number {
  return a.lsn - b.lsn;
}

function sectionOf(values: readonly Value[]): Section {
  const builder = new SectionBuilder(DELTA_BLOCK_BYTES);
  for (const v of values.toSorted((a, b) => a.blk - b.blk || a.lsn - b.lsn))
    builder.visit(1024, v.blk, v.lsn, v.kind, 3, new Uint8Array(v.length).fill(v.byte), 0, v.length);
  return builder.finish();
}

const runOf = (section: Section, name: string) => ({
  header: { name, stored: [...section.index.stored] },
  bytes: Buffer.concat(section.data),
});

/** Every value of a section within a range, in its order. */
function valuesOf(section: Section, range: KeyRange): Value[] {
  const { header, bytes } = runOf(section, 'result');
  const run = openRun(header, new Uint8Array(bytes), range);
  const found: Value[] = [];
  for (; run.key !== Infinity; run.next()) {
    run.visit({
      visit: (_rel, blk, lsn, kind, blockId, data, offset, length) => {
        expect(blockId).toBe(3);
        found.push({ blk, lsn, kind: kind as ValueKind, byte: length ? data[offset]! : 0, length });
      },
    });
  }
  return found;
}

function merge(all: readonly Section[], range: KeyRange, readable: MergeHeader['readable']): Section {
  const runs = all.map((section, i) => runOf(section, `layer ${i}`));
  const header: MergeHeader = { range, runs: runs.map(run => run.header), readable };
  return unpackSection(
    mergeJob(
      Parcel.of(
        header,
        runs.map(run => run.bytes),
      ),
    ),
  );
}

const plain = (v: Value): Value => ({ ...v, byte: v.length ? v.byte : 0 });

describe('merging', () => {
  test('gives every value of the range, by key and age, those of one LSN as the log made them', () => {
    fc.assert(
      fc.property(layers, fc.nat(12), fc.nat(12), (all, a, b) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b) + 1];
        const range = { start: { rel: 1024, blk: from }, end: { rel: 1024, blk: to } };
        const merged = merge(all.map(sectionOf), range, { cutoff: 0, points: [] });
        const wanted = all
          .flat()
          .filter(v => v.blk >= from && v.blk < to)
          .toSorted((x, y) => x.blk - y.blk || x.lsn - y.lsn);
        expect(valuesOf(merged, RANGE)).toEqual(wanted.map(plain));
        expect(merged.valueCount).toBe(wanted.length);
        expect([...merged.counts.blk]).toEqual([...new Set(wanted.map(v => v.blk))]);
      }),
      { numRuns: 60 },
    );
  });

  test('two halves of a range are the whole', () => {
    fc.assert(
      fc.property(layers, fc.nat(12), (all, cut) => {
        const sections = all.map(sectionOf);
        const readable = { cutoff: 0, points: [] };
        const whole = valuesOf(merge(sections, RANGE, readable), RANGE);
        const at = { rel: 1024, blk: cut };
        const halves = [
          { start: RANGE.start, end: at },
          { start: at, end: RANGE.end },
        ].flatMap(range => valuesOf(merge(sections, range, readable), RANGE));
        expect(halves).toEqual(whole);
      }),
      { numRuns: 40 },
    );
  });

  test('what it drops, no read at the cutoff, after it, or at a retained point can tell', () => {
    fc.assert(
      fc.property(layers, fc.nat(45), fc.array(fc.nat(45), { maxLength: 3 }), (all, cutoff, retained) => {
        const points = retained.filter(p => p < cutoff).sort((a, b) => a - b);
        const merged = valuesOf(merge(all.map(sectionOf), RANGE, { cutoff, points }), RANGE);
        const before = all.flat().toSorted((x, y) => x.blk - y.blk || x.lsn - y.lsn);
        for (const lsn of [...points, cutoff, cutoff + 3, 100]) {
          for (let blk = 0; blk <= 12; blk++) {
            expect(chain(merged, blk, lsn)).toEqual(chain(before.map(plain), blk, lsn));
          }
        }
      }),
      { numRuns: 80 },
    );
  });
});

/** What a read at an LSN would take: back to the newest base, or everything where there is none. */
function chain(values: readonly Value[], blk: number, lsn: number): Value[] {
  const own = values.filter(v => v.blk === blk && v.lsn <= lsn);
  const base = own.findLastIndex(v => isBase(v.kind));
  return own.slice(Math.max(0, base));
}

test('only needed values are kept', () => {
  //           base edit base edit base edit
  const lsn = [10, 20, 30, 40, 50, 60];
  const kind = [0, 1, 0, 1, 0, 1];
  const kept = (cutoff: number, points: number[]): string => {
    const keep = new Uint8Array(6);
    const count = markNeeded(lsn, kind, 6, { cutoff, points }, keep);
    expect(count).toBe(keep.reduce((a, b) => a + b, 0));
    return lsn.filter((_, i) => keep[i] === 1).join(' ');
  };
  expect(kept(0, [])).toBe('10 20 30 40 50 60');
  expect(kept(45, [])).toBe('30 40 50 60');
  expect(kept(45, [25])).toBe('10 20 30 40 50 60');
  expect(kept(45, [15])).toBe('10 30 40 50 60');
  expect(kept(100, [])).toBe('50 60');
  expect(kept(100, [5])).toBe('50 60');
  expect(kept(100, [35])).toBe('30 50 60');
});

test('a page is hot by its edits, or by the layers they lie in', () => {
  const counts = (rows: Record<number, [edits: number, hasBase: boolean]>): KeyCounts => {
    const blocks = Object.keys(rows).map(Number);
    const made = new KeyCounts(blocks.length);
    blocks.forEach((blk, i) => {
      made.rel[i] = 1024;
      made.blk[i] = blk;
      made.edits[i] = rows[blk]![0] * 2 + Number(rows[blk]![1]);
    });
    return made;
  };
  const hot = (layers: KeyCounts[], edits: number, deep: number): number[] =>
    hotKeys(layers, edits, deep).map(key => key % 2 ** 32);
  const newest = counts({ 1: [5, false], 2: [3, false], 3: [9, true], 4: [1, false], 5: [1, false] });
  const older = counts({ 0: [99, false], 1: [2, false], 2: [3, true], 4: [2, false], 9: [99, false] });
  const oldest = counts({ 1: [4, true], 2: [90, false], 3: [90, false], 4: [3, false] });
  expect(hot([newest, older, oldest], 8, 99)).toEqual([1, 3]);
  expect(hot([newest, older, oldest], 5, 99)).toEqual([1, 2, 3, 4]);
  expect(hot([newest, older, oldest], 100, 2)).toEqual([1, 4]);
  expect(hot([newest], 0, 99)).toEqual([1, 2, 3, 4, 5]);
  expect(hot([], 0, 0)).toEqual([]);
});

test('a parcel is what was put in, its pieces where typed arrays may lie', () => {
  fc.assert(
    fc.property(
      fc.jsonValue(),
      fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 6 }),
      (header, pieces) => {
        const open = openParcel<unknown>(Parcel.of({ header }, pieces));
        expect(open.header).toEqual(JSON.parse(JSON.stringify({ header })));
        expect(open.pieces.map(piece => [...piece])).toEqual(pieces.map(piece => [...piece]));
        for (const piece of open.pieces) expect(piece.byteOffset % 8).toBe(0);
      },
    ),
  );
});
