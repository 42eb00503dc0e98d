import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ALL_KEYS } from '../key.ts';
import { VALUE_BYTES, VALUE_RECORD, type ValueKind } from '../value.ts';
import { MemoryLayer } from './memory-layer.ts';

interface Put {
  rel: number;
  blk: number;
  lsn: number;
  kind: ValueKind;
  byte: number;
  length: number;
}

const put = fc.record({
  rel: fc.integer({ min: 1, max: 3 }),
  blk: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(0xffff_ffff)),
  lsn: fc.integer({ min: 0, max: 3 }),
  kind: fc.constantFrom<ValueKind>(VALUE_RECORD, VALUE_BYTES),
  byte: fc.integer({ min: 0, max: 255 }),
  length: fc.constantFrom(0, 1, 63, 64, 65, 300_000),
});

function fill(puts: readonly Put[]): { layer: MemoryLayer; all: Put[] } {
  const layer = new MemoryLayer(100);
  let lsn = 100;
  const all: Put[] = [];
  for (const p of puts) {
    lsn += p.lsn;
    layer.put(p.rel, p.blk, lsn, p.kind, 5, new Uint8Array(p.length + 2).fill(p.byte), 1, p.length);
    all.push({ ...p, lsn, byte: p.length === 0 ? -1 : p.byte });
  }
  return { layer, all };
}

test('a key gives its values below an LSN, newest first, as a plain list would', () => {
  fc.assert(
    fc.property(fc.array(put, { maxLength: 60 }), fc.integer({ min: 0, max: 160 }), (puts, bound) => {
      const { layer, all } = fill(puts);
      for (const { rel, blk } of all) {
        const got: Put[] = [];
        layer.get(rel, blk, 100 + bound, {
          add: (lsn, kind, blockId, bytes, offset, length) => {
            expect(blockId).toBe(5);
            got.push({
              rel,
              blk,
              lsn,
              kind: kind as ValueKind,
              byte: length === 0 ? -1 : bytes[offset + length - 1]!,
              length,
            });
            return false;
          },
        });
        const wanted = all.filter(p => p.rel === rel && p.blk === blk && p.lsn < 100 + bound).reverse();
        expect(got).toEqual(wanted);
      }
    }),
    { numRuns: 60 },
  );
});

test('a scan goes by key and then by age, and a sink that has enough ends the walk', () => {
  fc.assert(
    fc.property(fc.array(put, { minLength: 1, maxLength: 60 }), puts => {
      const { layer, all } = fill(puts);
      const got: Put[] = [];
      layer.scan(ALL_KEYS, 0, Infinity, {
        visit: (rel, blk, lsn, kind, _id, bytes, offset, length) =>
          void got.push({
            rel,
            blk,
            lsn,
            kind: kind as ValueKind,
            byte: length === 0 ? -1 : bytes[offset]!,
            length,
          }),
      });
      const wanted = all
        .map((p, i) => ({ p, i }))
        .sort((a, b) => a.p.rel - b.p.rel || a.p.blk - b.p.blk || a.i - b.i)
        .map(({ p }) => p);
      expect(got).toEqual(wanted);
      let seen = 0;
      const { rel, blk } = all[0]!;
      expect(layer.get(rel, blk, Infinity, { add: () => ++seen > 0 })).toBe(true);
      expect(seen).toBe(1);
    }),
    { numRuns: 60 },
  );
});

test('tables and columns grow past their first size', () => {
  const layer = new MemoryLayer(0);
  const bytes = new Uint8Array(8);
  for (let i = 0; i < 100_000; i++) layer.put(1024 + (i % 7), i % 50_000, i, VALUE_RECORD, 0, bytes, 0, 8);
  expect(layer.entries).toBe(100_000);
  let values = 0;
  layer.get(1024, 0, Infinity, { add: () => ++values < 0 });
  expect(values).toBe(1);
  expect(layer.lsnEnd).toBe(100_000);
});

test('memory is given back when it was released and nobody has any of it in hand', () => {
  const layer = new MemoryLayer(0);
  layer.put(1024, 0, 1, VALUE_BYTES, 0, Uint8Array.of(1, 2, 3), 0, 3);
  expect(() => layer.release()).toThrow(/all of it is written/);
  layer.freeze(2, 0);
  let held: Uint8Array | undefined;
  const hold = { add: (_lsn: number, _kind: number, _id: number, bytes: Uint8Array) => !!(held = bytes) };
  layer.get(1024, 0, Infinity, hold);
  layer.pin();
  layer.pin();
  layer.release();
  layer.unpin();
  expect(held!.subarray(0, 3)).toEqual(Uint8Array.of(1, 2, 3));
  layer.unpin();
  expect(held!.length).toBe(0);
  expect(() => layer.get(1024, 0, Infinity, hold)).toThrow(/while it is there/);
  expect(() => layer.pin()).toThrow(/while it is there/);
});
