import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ALL_KEYS, type KeyRange, unpackKey } from '../key.ts';
import { isDense, type LayerDesc } from '../layers/layer.ts';
import { LayerMap } from '../layers/layer-map.ts';
import { describeLayer } from '../layers/layer-name.ts';
import { Layer } from '../layers/open-layers.ts';
import { cutFiles, planCompaction } from './compact.ts';
import { planEviction, type Resident } from './evict.ts';
import { planGc } from './gc.ts';
import { planDense } from './images.ts';

const REL = 1024;
const range = (from: number, to: number): KeyRange => ({
  start: { rel: REL, blk: from },
  end: { rel: REL, blk: to },
});

function parseLayer(words: readonly string[]): LayerDesc {
  const [name, kind, ...rest] = words;
  const [from, to] = kind === 'l0' ? [] : rest.shift()!.split('-').map(Number);
  const lsns = rest.shift()!.slice(1).split('-').map(Number);
  const isDelta = kind === 'l0' || kind === 'delta';
  const identity = {
    kind: isDelta ? ('delta' as const) : ('image' as const),
    sparse: kind === 'sparse',
    keys: kind === 'l0' ? ALL_KEYS : range(from!, to!),
    lsnStart: lsns[0]!,
    lsnEnd: isDelta ? lsns[1]! : lsns[0]! + 1,
    generation: 1,
  };
  return { ...describeLayer(identity, 0, Number(rest[0] ?? 0)), name: name! };
}

const mapOf = (layers: readonly LayerDesc[]): LayerMap =>
  LayerMap.EMPTY.edited(layers.map(desc => new Layer(desc, () => Promise.reject(new Error('no file')))));

const names = (layers: readonly LayerDesc[]): string =>
  layers.map(layer => layer.name).join(' ') || 'nothing';

/** One story: its lines again, with what the plans say now. */
class Story {
  private readonly layers: LayerDesc[] = [];
  private readonly residents: Resident[] = [];
  private readonly damaged = new Set<string>();
  private inherited = 0;

  run(line: string): string | undefined {
    const [word, ...args] = line.split(/\s+/);
    switch (word) {
      case 'layer':
        this.layers.push(parseLayer(args));
        return undefined;
      case 'damaged':
        for (const name of args) this.damaged.add(name);
        return undefined;
      case 'inherited':
        this.inherited = Number(args[0]);
        return undefined;
      case 'compact':
        return this.compact(Number(args[0]), Number(args[1]));
      case 'files':
        return this.files(Number(args[0]), args.slice(2).filter(Boolean).map(Number));
      case 'gc': {
        const [cutoff = 0, ...retained] = args.filter(a => a !== 'retain').map(Number);
        return names(planGc(this.layers, { cutoff, retained }));
      }
      case 'images':
        return this.images(args.map(Number));
      case 'resident': {
        const [name, bytes, , at, uploaded] = args;
        const accessedMs = Number(at);
        this.residents.push({
          name: name!,
          bytes: Number(bytes),
          accessedMs,
          isUploaded: uploaded === 'uploaded',
        });
        return undefined;
      }
      case 'evict': {
        const [bytes = 0, nowMs = 0, keepMs = 0] = [args[0], args[2], args[4]].map(Number);
        const { evict, shortBytes } = planEviction(this.residents, { bytes, nowMs, keepMs });
        const list = evict.map(layer => layer.name).join(' ') || 'nothing';
        return shortBytes > 0 ? `${list}, ${shortBytes} short` : list;
      }
      default:
        throw new Error(`no such command: ${line}`);
    }
  }

  private compact(threshold: number, upperLimit: number): string {
    const plan = planCompaction(
      this.layers.filter(layer => layer.isL0),
      { threshold, upperLimit },
      layer => this.damaged.has(layer.name),
    );
    if (plan === undefined) return 'nothing';
    return `merge ${names(plan.layers)} to LSNs ${plan.lsnStart}-${plan.lsnEnd}`;
  }

  private files(target: number, sizes: readonly number[]): string {
    return cutFiles(sizes, target)
      .map(({ from, to }) => sizes.slice(from, to).join('+'))
      .join(' ');
  }

  private images([layersThreshold = 0, garbageRatio = 0, layersMax = 0]: readonly number[]): string {
    const stacks = [...mapOf(this.layers).stacks()].map(stack => ({
      ...stack,
      layers: stack.layers.map(layer => layer.desc),
    }));
    const plans = planDense(stacks, { layersThreshold, garbageRatio, layersMax }, () => this.inherited);
    const told = plans.map(({ range: { start, end }, lsn }) => `${start.blk}-${end.blk} at ${lsn}`);
    return told.join(', ') || 'nothing';
  }
}

describe('plans are as they were', () => {
  const text = readFileSync(
    new URL('../../../integration/fixtures/layer-plans.txt', import.meta.url),
    'utf8',
  );
  const [, ...stories] = text.split(/^== /m);
  test.each(stories.map(story => [story.slice(0, story.indexOf('\n')), story] as const))('%s', (_, story) => {
    const runner = new Story();
    const out: string[] = [];
    for (const line of story.split('\n').slice(1)) {
      if (line.startsWith('=>')) continue;
      out.push(line);
      if (line.trim() === '') continue;
      const result = runner.run(line.trim());
      if (result !== undefined) out.push(`=> ${result}`.trimEnd());
    }
    expect(out.join('\n')).toBe(story.slice(story.indexOf('\n') + 1));
  });
});

const anyLayer = fc
  .record({
    from: fc.nat(9),
    width: fc.integer({ min: 1, max: 10 }),
    lsn: fc.nat(30),
    depth: fc.integer({ min: 1, max: 9 }),
    kind: fc.constantFrom('delta', 'dense', 'sparse', 'l0'),
  })
  .map(({ from, width, lsn, depth, kind }) => ({ from, width, lsn, depth, kind }));

const anyLayers = fc.array(anyLayer, { maxLength: 14 }).map(list =>
  list.map(({ from, width, lsn, depth, kind }, i) => {
    const lsns = kind === 'delta' || kind === 'l0' ? `@${lsn}-${lsn + depth}` : `@${lsn}`;
    return parseLayer([`n${i}`, kind, ...(kind === 'l0' ? [] : [`${from}-${from + width}`]), lsns, '5']);
  }),
);

/** What a read of a key at an LSN may look into, walked as a read walks. */
function consulted(layers: readonly LayerDesc[], blk: number, lsn: number): readonly LayerDesc[] {
  const map = mapOf(layers);
  const found: LayerDesc[] = [];
  for (const { desc } of map.overlapping(range(blk, blk + 1))) {
    if (desc.lsnStart > lsn) continue;
    found.push(desc);
    if (isDense(desc)) break;
  }
  return found;
}

test('no read that may still come wants for a layer that was collected', () => {
  fc.assert(
    fc.property(anyLayers, fc.nat(45), fc.array(fc.nat(45), { maxLength: 3 }), (layers, cutoff, retained) => {
      const gone = new Set(planGc(layers, { cutoff, retained }).map(layer => layer.name));
      const left = layers.filter(layer => !gone.has(layer.name));
      for (const lsn of [cutoff, cutoff + 1, 44, ...retained].filter(
        l => l >= cutoff || retained.includes(l),
      )) {
        for (let blk = 0; blk < 20; blk++) {
          const before = consulted(layers, blk, lsn);
          const after = consulted(left, blk, lsn);
          // The same layers, but for images beside the dense one at its own LSN.
          const same = (a: readonly LayerDesc[]): string[] => {
            const last = a[a.length - 1];
            const end = last !== undefined && isDense(last) ? last.lsnStart : -1;
            return a
              .filter(l => l.kind !== 'image' || l.lsnStart !== end)
              .map(l => l.name)
              .concat(`${end}`);
          };
          expect(same(after)).toEqual(same(before));
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('stacks tell every stretch of keys and what lies over it', () => {
  fc.assert(
    fc.property(anyLayers, layers => {
      for (const { start, end, layers: over } of mapOf(layers).stacks()) {
        for (const key of [start, end - 1]) {
          const { blk } = unpackKey(key);
          const wanted = layers.filter(l => !l.isL0 && l.keys.start.blk <= blk && blk < l.keys.end.blk);
          expect(new Set(over.map(l => l.desc.name))).toEqual(new Set(wanted.map(l => l.name)));
        }
      }
    }),
  );
});
