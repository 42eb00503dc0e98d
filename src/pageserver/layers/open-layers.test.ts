// A layer whose local copy is to go while somebody reads it.

import { expect, test } from 'vitest';
import type { LayerFile } from './layer-file.ts';
import { Layer, OpenLayers } from './open-layers.ts';

test('what was just written is proven as it is opened, and closed if it is not what it should be', async () => {
  const closed: string[] = [];
  const source = {
    size: 0,
    read: async () => new Uint8Array(0),
    close: async () => void closed.push('source'),
  };
  const layer = new Layer({ name: 'x' } as Layer['desc'], () => Promise.reject(new Error('not opened here')));
  const open = new OpenLayers({ openLayersMax: 10, openLayersBytesMax: 1000 }, () => 0);
  // It is proven as any other is, and does not count when it does not prove right.
  await expect(open.openWritten(layer, async () => source)).rejects.toMatchObject({ code: 'layer-corrupt' });
  expect([layer.file, open.count, closed]).toEqual([undefined, 0, ['source']]);
});

test('a layer that is being read is not closed for an eviction; once it is let go of, it is', async () => {
  let closed = 0;
  const file = { memoryBytes: 1, close: async () => void closed++ } as unknown as LayerFile;
  const layer = new Layer({ name: 'x' } as Layer['desc'], () => Promise.reject(new Error('not opened here')));
  layer.openFile = async () => file;
  const open = new OpenLayers({ openLayersMax: 10, openLayersBytesMax: 1000 }, () => 0);
  open.pin(layer);
  const loading = open.load(layer);
  expect(await open.forgetIdle(layer)).toBe(false);
  expect(await loading).toBe(file);
  expect([layer.file, closed]).toEqual([file, 0]);
  open.release(layer);
  expect(await open.forgetIdle(layer)).toBe(true);
  expect([layer.file, closed, open.count]).toEqual([undefined, 1, 0]);
  expect(await open.forgetIdle(layer)).toBe(true);
});
