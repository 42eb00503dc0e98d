// A layer whose local copy is to go while somebody reads it.

import { expect, test } from 'vitest';
import type { LayerFile } from './layer-file.ts';
import { Layer, OpenLayers } from './open-layers.ts';

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
