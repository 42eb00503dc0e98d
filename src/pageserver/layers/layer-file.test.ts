import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isFault } from '../../base/fault.ts';
import { formatKey, type KeyRange } from '../key.ts';
import type { ValueKind } from '../value.ts';
import { Block, IMAGE_BLOCK_BYTES } from './block.ts';
import { KeyFilter } from './key-filter.ts';
import { hashKey, hashKey2 } from './key-hash.ts';
import { layerTail, SectionBuilder } from './layer-builder.ts';
import { type ClosableSource, LayerFile } from './layer-file.ts';
import { describeLayer, isLayerName, type LayerIdentity, parseLayerName } from './layer-name.ts';

interface Value {
  rel: number;
  blk: number;
  lsn: number;
  kind: ValueKind;
  blockId: number;
  bytes: Uint8Array;
}

const KEYS: KeyRange = { start: { rel: 1, blk: 0 }, end: { rel: 9, blk: 5 } };
const IDENTITY: LayerIdentity = {
  kind: 'delta',
  sparse: false,
  keys: KEYS,
  lsnStart: 0x1000,
  lsnEnd: 0x2_0000_0000_0,
  generation: 3,
};

const value = fc.record({
  rel: fc.integer({ min: 1, max: 8 }),
  blk: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constant(0xffff_ffff)),
  lsn: fc.oneof(fc.integer({ min: 0x1000, max: 0x1010 }), fc.integer({ min: 0x1000, max: 0x1_ffff_ffff_f })),
  kind: fc.constantFrom<ValueKind>(0, 1, 2, 3, 4),
  blockId: fc.integer({ min: 0, max: 32 }),
  length: fc.constantFrom(0, 1, 64, 65, 200, 5000, 8192, 70_000),
  byte: fc.integer({ min: 0, max: 255 }),
});

const values = fc.array(value, { minLength: 1, maxLength: 120 }).map(list =>
  list
    .map(({ length, byte, ...rest }, i): Value & { i: number } => ({
      ...rest,
      i,
      // Half of the bytes are noise, so that some blocks are not worth compressing.
      bytes: Uint8Array.from({ length }, (_, at) => (at % 2 ? byte : (at * 2654435761 + i) >>> 13)),
    }))
    .sort((a, b) => a.rel - b.rel || a.blk - b.blk || a.lsn - b.lsn || a.i - b.i),
);

const sourceOf = (bytes: Uint8Array): ClosableSource => ({
  size: bytes.length,
  read: async (offset, length) => {
    if (offset < 0 || offset + length > bytes.length) throw new Error('read past the end');
    return bytes.slice(offset, offset + length);
  },
  close: async () => undefined,
});

/** The values in as many sections as `cuts` says, end to end. */
function fileOf(list: readonly Value[], cuts = 1): Uint8Array {
  const sections = [];
  let builder = new SectionBuilder(IMAGE_BLOCK_BYTES);
  list.forEach((v, i) => {
    const before = list[i - 1];
    const newKey = before === undefined || before.rel !== v.rel || before.blk !== v.blk;
    if (newKey && !builder.isEmpty && i * cuts >= list.length * (sections.length + 1)) {
      sections.push(builder.finish());
      builder = new SectionBuilder(IMAGE_BLOCK_BYTES);
    }
    builder.visit(v.rel, v.blk, v.lsn, v.kind, v.blockId, v.bytes, 0, v.bytes.length);
  });
  sections.push(builder.finish());
  return Buffer.concat([...sections.flatMap(s => s.data), layerTail(IDENTITY, sections)]);
}

const open = (bytes: Uint8Array): Promise<LayerFile> =>
  LayerFile.open(describeLayer(IDENTITY, 7, bytes.length), sourceOf(bytes));

async function blockOf(file: LayerFile, block: number): Promise<Block> {
  return new Block(file.rawOf(block, await file.readStored(block, block), block), 'test');
}

const told = (lsn: number, kind: number, blockId: number, bytes: Uint8Array): string =>
  `${lsn} ${kind} ${blockId} ${Buffer.from(bytes).toString('base64')}`;

/** Every value of a key below an LSN, as a reader finds them. */
async function lookUp(file: LayerFile, rel: number, blk: number, lsnEnd: number): Promise<string[]> {
  const found: string[] = [];
  const sink = {
    add: (lsn: number, kind: number, id: number, bytes: Uint8Array, offset: number, length: number) => {
      found.push(told(lsn, kind, id, bytes.subarray(offset, offset + length)));
      return false;
    },
  };
  for (let at = file.index.lastBefore(rel, blk, lsnEnd); at >= 0; at--) {
    (await blockOf(file, at)).get(rel, blk, lsnEnd, sink);
    if (!file.index.beginsWith(at, rel, blk)) break;
  }
  return found;
}

describe('a layer file', () => {
  test('gives back every value of every key below any LSN, newest first', async () => {
    await fc.assert(
      fc.asyncProperty(values, fc.integer({ min: 1, max: 4 }), async (list, cuts) => {
        const file = await open(fileOf(list, cuts));
        for (const { rel, blk, lsn } of list) {
          for (const end of [lsn, lsn + 1]) {
            const wanted = list.filter(v => v.rel === rel && v.blk === blk && v.lsn < end).reverse();
            expect(await lookUp(file, rel, blk, end)).toEqual(
              wanted.map(v => told(v.lsn, v.kind, v.blockId, v.bytes)),
            );
            expect(file.filter.mayHave(hashKey(rel, blk), hashKey2(rel, blk))).toBe(true);
          }
        }
        expect(await lookUp(file, 3, 41, Infinity)).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  test('walks the blocks of a range of keys and no more than one beside it', async () => {
    await fc.assert(
      fc.asyncProperty(values, fc.nat(8), fc.nat(40), fc.nat(8), async (list, rel, blk, more) => {
        const file = await open(fileOf(list));
        const range = { start: { rel, blk }, end: { rel: rel + more, blk: blk + 1 } };
        const inRange = (r: number, b: number): boolean =>
          (r > rel || (r === rel && b >= blk)) && (r < rel + more || (r === rel + more && b < blk + 1));
        const { from, to } = file.blocksOf(range);
        const seen: string[] = [];
        let beside = 0;
        for (let at = from; at < to; at++) {
          const block = await blockOf(file, at);
          let within = 0;
          for (let key = 0; key < block.keyCount; key++) {
            if (!inRange(block.relOf(key), block.blkOf(key))) continue;
            within++;
            block.visitKey(key, {
              visit: (_r, _b, lsn, kind, id, bytes, offset, length) =>
                void seen.push(told(lsn, kind, id, bytes.subarray(offset, offset + length))),
            });
          }
          if (within === 0) beside++;
        }
        expect(beside).toBeLessThanOrEqual(1);
        expect(seen).toEqual(
          list.filter(v => inRange(v.rel, v.blk)).map(v => told(v.lsn, v.kind, v.blockId, v.bytes)),
        );
      }),
      { numRuns: 60 },
    );
  });

  test("counts each key's edits since its newest base", async () => {
    await fc.assert(
      fc.asyncProperty(values, async list => {
        const counts = await (await open(fileOf(list, 3))).counts();
        const wanted = new Map<string, number>();
        for (const v of list) {
          const key = formatKey(v.rel, v.blk);
          const isBase = v.kind === 0 || v.kind === 2 || v.kind === 4;
          wanted.set(key, isBase ? 1 : (wanted.get(key) ?? 0) + 2);
        }
        const got = new Map<string, number>();
        for (let i = 0; i < counts.count; i++)
          got.set(formatKey(counts.rel[i]!, counts.blk[i]!), counts.edits[i]!);
        expect(got).toEqual(wanted);
      }),
      { numRuns: 30 },
    );
  });

  test('refuses any changed byte, and names itself', async () => {
    const list = fc.sample(values, { numRuns: 1, seed: 11 })[0]!;
    const bytes = fileOf(list);
    const name = describeLayer(IDENTITY, 7, bytes.length).name;
    const step = Math.max(1, Math.floor(bytes.length / 400));
    for (let at = 0; at < bytes.length; at += step) {
      const damaged = bytes.slice();
      damaged[at]! ^= 1 << (at % 8);
      const readAll = async (): Promise<void> => {
        const file = await open(damaged);
        await file.counts();
        for (let block = 0; block < file.index.count; block++) await blockOf(file, block);
      };
      const error = await readAll().then(
        () => undefined,
        (e: unknown) => e,
      );
      expect(isFault(error, 'layer-corrupt'), `byte ${at}: ${error}`).toBe(true);
      expect((error as Error).message).toContain(name);
    }
    await expect(open(bytes.subarray(0, bytes.length - 1))).rejects.toThrow(name);
    await expect(open(new Uint8Array(10))).rejects.toThrow(/too short/);
  });

  test('is not to be found under the name of another', async () => {
    const bytes = fileOf(fc.sample(values, { numRuns: 1, seed: 5 })[0]!);
    for (const other of [
      { ...IDENTITY, lsnStart: 0x1001 },
      { ...IDENTITY, lsnEnd: 0x3000 },
      { ...IDENTITY, keys: { ...KEYS, end: { rel: 10, blk: 0 } } },
      { ...IDENTITY, kind: 'image' as const },
    ]) {
      const desc = describeLayer(other, 7, bytes.length);
      await expect(LayerFile.open(desc, sourceOf(bytes))).rejects.toThrow(/those of another layer/);
    }
  });
});

test('a name says all that a layer is', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('delta', 'dense', 'sparse'),
      fc.nat(0x1fffff),
      fc.nat(0xffffffff),
      fc.integer({ min: 0, max: 2 ** 53 - 2 }),
      fc.nat(0xffffffff),
      fc.integer(),
      (kind, rel, blk, lsn, generation, tail) => {
        const identity: LayerIdentity = {
          kind: kind === 'delta' ? 'delta' : 'image',
          sparse: kind === 'sparse',
          keys: { start: { rel, blk }, end: { rel: rel + 1, blk: 7 } },
          lsnStart: lsn,
          lsnEnd: lsn + 1,
          generation,
        };
        const desc = describeLayer(identity, tail, 99);
        expect(parseLayerName(desc.name, 99)).toEqual(desc);
        expect(isLayerName(desc.name)).toBe(true);
      },
    ),
  );
  for (const bad of ['', 'metadata', 'a-b__c-d', describeLayer(IDENTITY, 1, 1).name.slice(1)]) {
    expect(isLayerName(bad)).toBe(false);
    expect(() => parseLayerName(bad, 1)).toThrow(/not the name of a layer/);
  }
});

test('a filter knows its keys and few others', () => {
  const filter = KeyFilter.forKeys(20_000);
  for (let i = 0; i < 20_000; i++) filter.add(1024 + (i % 3), i * 7);
  const copy = KeyFilter.from(filter.bytes);
  for (let i = 0; i < 20_000; i++)
    expect(copy.mayHave(hashKey(1024 + (i % 3), i * 7), hashKey2(1024 + (i % 3), i * 7))).toBe(true);
  let strangers = 0;
  for (let i = 0; i < 50_000; i++) if (copy.mayHave(hashKey(1030, i), hashKey2(1030, i))) strangers++;
  expect(strangers / 50_000).toBeLessThan(0.03);
});
