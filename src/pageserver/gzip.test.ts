import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { gzip } from './gzip.ts';

async function* of(...pieces: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}

async function zipped(...pieces: Uint8Array[]): Promise<Buffer> {
  const out: Uint8Array[] = [];
  for await (const piece of gzip(of(...pieces))) out.push(piece);
  return Buffer.concat(out);
}

test('gunzip gives back what went in', async () => {
  const text = Buffer.from('pages and pages and pages '.repeat(5000));
  const noise = new Uint8Array(100_000).map((_, i) => Math.imul(i, 0x9e3779b1) >>> 24);
  const zeros = new Uint8Array(1_000_000);
  const packed = await zipped(text, new Uint8Array(0), noise, zeros);
  expect(Buffer.compare(gunzipSync(packed), Buffer.concat([text, noise, zeros]))).toBe(0);
  expect(packed.length).toBeLessThan(150_000);
});

test('nothing at all is an empty file', async () => {
  expect(gunzipSync(await zipped())).toHaveLength(0);
});
