import { expect, test } from 'vitest';
import { ALL_KEYS } from '../key.ts';
import { VALUE_RECORD } from '../value.ts';
import { DELTA_BLOCK_BYTES } from './block.ts';
import { BlockCache } from './block-cache.ts';
import { layerTail, SectionBuilder } from './layer-builder.ts';
import { describeLayer, type LayerIdentity } from './layer-name.ts';
import { Layer, OpenLayers } from './open-layers.ts';

const KEYS = 400;

/** A layer of many blocks in memory, that counts what is asked of it. */
class Counted {
  reads: [offset: number, length: number][] = [];
  opened = 0;
  closed = 0;
  damagedFrom = Infinity;
  readonly layer: Layer;
  private readonly bytes: Uint8Array;

  constructor(lsn = 100) {
    const identity: LayerIdentity = {
      kind: 'delta',
      sparse: false,
      keys: ALL_KEYS,
      lsnStart: lsn,
      lsnEnd: lsn + 1,
      generation: 1,
    };
    const builder = new SectionBuilder(DELTA_BLOCK_BYTES);
    for (let blk = 0; blk < KEYS; blk++) {
      const bytes = Uint8Array.from({ length: 5000 }, (_, i) => (blk * 7919 + i * i * 31) >> 3);
      builder.visit(1024, blk, lsn, VALUE_RECORD, 0, bytes, 0, bytes.length);
    }
    const section = builder.finish();
    this.bytes = new Uint8Array(Buffer.concat([...section.data, layerTail(identity, [section])]));
    this.layer = new Layer(describeLayer(identity, lsn, this.bytes.length), async () => {
      this.opened++;
      return {
        size: this.bytes.length,
        read: async (offset, length) => {
          this.reads.push([offset, length]);
          if (offset <= this.damagedFrom && this.damagedFrom < offset + length) throw new Error('damaged');
          return this.bytes.slice(offset, offset + length);
        },
        close: async () => void this.closed++,
      };
    });
  }
}

const limits = (openLayersMax: number, openLayersBytesMax = 1e9) => ({ openLayersMax, openLayersBytesMax });

test('blocks asked for together are read together, and none twice', async () => {
  const counted = new Counted();
  const open = new OpenLayers(limits(10), () => 0);
  const { layer } = counted;
  open.pin(layer);
  const file = await open.load(layer);
  const cache = new BlockCache(1e8);
  counted.reads = [];
  const wanted = [3, 4, 5, 4, 30, 31, 3];
  const blocks = await Promise.all(wanted.map(block => cache.fetch(layer, block)));
  blocks.forEach((block, i) => {
    expect([block.relOf(0), block.blkOf(0)]).toEqual([
      file.index.rel[wanted[i]!],
      file.index.blk[wanted[i]!],
    ]);
  });
  const { offset } = file.index;
  expect(counted.reads).toEqual([
    [offset[3]!, offset[6]! - offset[3]!],
    [offset[30]!, offset[32]! - offset[30]!],
  ]);
  expect(cache.get(layer, 4)).toBe(blocks[1]);
  expect(cache.get(layer, 6)).toBeUndefined();
});

test('a damaged block spoils none of its neighbours', async () => {
  const counted = new Counted();
  const open = new OpenLayers(limits(10), () => 0);
  open.pin(counted.layer);
  const file = await open.load(counted.layer);
  counted.damagedFrom = file.index.offset[8]! + 3;
  const cache = new BlockCache(1e8);
  const results = await Promise.allSettled([6, 7, 8, 9].map(block => cache.fetch(counted.layer, block)));
  expect(results.map(result => result.status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
  counted.damagedFrom = Infinity;
  expect((await cache.fetch(counted.layer, 8)).blkOf(0)).toBe(file.index.blk[8]);
});

test('the cache of blocks keeps to its limit, and what is used', async () => {
  const counted = new Counted();
  const open = new OpenLayers(limits(10), () => 0);
  open.pin(counted.layer);
  const { index } = await open.load(counted.layer);
  const bytesMax = 20 * DELTA_BLOCK_BYTES;
  const cache = new BlockCache(bytesMax);
  await cache.fetch(counted.layer, 0);
  for (let block = 1; block < index.count; block++) {
    await cache.fetch(counted.layer, block);
    expect(cache.get(counted.layer, 0), `after block ${block}`).toBeDefined();
  }
  let kept = 0;
  for (let block = 0; block < index.count; block++)
    kept += cache.get(counted.layer, block)?.bytes.length ?? 0;
  expect(kept).toBeLessThanOrEqual(bytesMax * 1.5);
});

test('no more layers are open than may be, but for those in use', async () => {
  const all = Array.from({ length: 8 }, (_, i) => new Counted(100 + i));
  const open = new OpenLayers(limits(3), () => 0);
  open.pin(all[0]!.layer);
  await open.load(all[0]!.layer);
  for (const { layer } of all.slice(1)) {
    open.pin(layer);
    await open.load(layer);
    open.release(layer);
  }
  expect(open.count).toBeLessThanOrEqual(4);
  expect(all[0]!.closed).toBe(0);
  expect(all.reduce((sum, one) => sum + one.closed, 0)).toBe(8 - open.count);
  expect(open.bytes).toBe(all.reduce((sum, { layer }) => sum + (layer.file?.memoryBytes ?? 0), 0));
});

test('a layer is opened once for all who ask, and closed when the last of them is done', async () => {
  const counted = new Counted();
  const open = new OpenLayers(limits(3), () => 0);
  const { layer } = counted;
  for (let i = 0; i < 3; i++) open.pin(layer);
  await Promise.all([open.load(layer), open.load(layer), open.load(layer)]);
  expect(counted.opened).toBe(1);
  open.retire(layer);
  open.release(layer);
  open.release(layer);
  expect(counted.closed).toBe(0);
  open.release(layer);
  expect(counted.closed).toBe(1);
  expect(open.count).toBe(0);
});
