import { expect, test } from 'vitest';
import { SpareBuffers } from './spare-buffers.ts';

const MiB = 1024 * 1024;
const view = (buffer: ArrayBuffer): Uint8Array => new Uint8Array(buffer);

test('what is given back is taken again, if it fits and is not far too large', () => {
  const spares = new SpareBuffers(16 * MiB);
  const one = spares.take(MiB);
  const four = spares.take(4 * MiB);
  spares.giveBack(view(four));
  spares.giveBack(view(one));
  expect(spares.take(MiB)).toBe(one);
  expect(spares.take(2 * MiB)).not.toBe(four);
  expect(spares.take(3 * MiB)).toBe(four);
  expect(spares.take(3 * MiB)).not.toBe(four);
});

test('small ones, and more than may be kept, are freed', () => {
  const spares = new SpareBuffers(2 * MiB);
  const [small, first, second, third] = [1000, MiB, MiB, MiB].map(bytes => spares.take(bytes));
  for (const buffer of [small!, first!, second!, third!]) spares.giveBack(view(buffer));
  expect([small, first, second, third].map(buffer => buffer!.byteLength)).toEqual([0, MiB, MiB, 0]);
  spares.drop();
  expect(first!.byteLength).toBe(0);
  expect(spares.take(MiB).byteLength).toBe(MiB);
});
