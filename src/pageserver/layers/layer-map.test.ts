import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ALL_KEYS } from '../key.ts';
import { LayerMap, newestFirst } from './layer-map.ts';
import { describeLayer } from './layer-name.ts';
import { Layer } from './open-layers.ts';

const noFile = async (): Promise<never> => {
  throw new Error('no file here');
};

const layer = fc
  .record({
    from: fc.nat(40),
    width: fc.integer({ min: 1, max: 20 }),
    lsn: fc.nat(60),
    depth: fc.integer({ min: 1, max: 9 }),
    kind: fc.constantFrom('delta', 'dense', 'sparse', 'l0'),
    tail: fc.nat(),
  })
  .map(({ from, width, lsn, depth, kind, tail }) => {
    const isDelta = kind === 'delta' || kind === 'l0';
    const identity = {
      kind: isDelta ? ('delta' as const) : ('image' as const),
      sparse: kind === 'sparse',
      keys:
        kind === 'l0' ? ALL_KEYS : { start: { rel: 1024, blk: from }, end: { rel: 1024, blk: from + width } },
      lsnStart: lsn,
      lsnEnd: isDelta ? lsn + depth : lsn + 1,
      generation: 1,
    };
    return new Layer(describeLayer(identity, tail, 100), noFile);
  });
const layers = fc.uniqueArray(layer, { maxLength: 40, selector: l => l.desc.name });

const covers = (l: Layer, blk: number): boolean =>
  !l.desc.isL0 && l.desc.keys.start.blk <= blk && blk < l.desc.keys.end.blk;

test('a key finds the layers over it, newest first, whatever edits made the map', () => {
  fc.assert(
    fc.property(layers, fc.array(fc.boolean(), { minLength: 40, maxLength: 40 }), (all, removed) => {
      const half = all.length >> 1;
      let map = LayerMap.EMPTY.edited(all.slice(0, half));
      map.over(1024, 3);
      map = map.edited(all.slice(half));
      const gone = all.filter((_, i) => removed[i]);
      map = map.edited([], gone);
      const left = all.filter((_, i) => !removed[i]);
      expect(map.size).toBe(left.length);
      expect(map.l0).toEqual(left.filter(l => l.desc.isL0).sort(newestFirst));
      for (let blk = 0; blk < 62; blk++)
        expect(map.over(1024, blk)).toEqual(left.filter(l => covers(l, blk)).sort(newestFirst));
      expect(map.over(1023, 5)).toEqual([]);
      for (const { start, end, layers: over } of map.stacks()) {
        for (const key of [start, end - 1]) expect(map.over(1024, key % 2 ** 32)).toEqual(over);
      }
    }),
  );
});

test('an edit leaves the map before it as it was', () => {
  const [a, b] = fc.sample(layer, { numRuns: 2, seed: 3 });
  const one = LayerMap.EMPTY.edited([a!]);
  const two = one.edited([b!], [a!]);
  expect([...one.all()]).toEqual([a]);
  expect([...two.all()]).toEqual([b]);
  expect(() => two.edited([], [a!])).toThrow(/removed once/);
  expect(() => one.edited([a!])).toThrow(/one name/);
});
