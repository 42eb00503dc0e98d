import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BLCKSZ } from '../xlog/page.ts';
import { newOwner, PageCache } from './page-cache.ts';

const page = (byte: number): Uint8Array => new Uint8Array(BLCKSZ).fill(byte);

test('what it gives is what was stored, however much was pushed out', () => {
  const step = fc.record({
    store: fc.boolean(),
    owner: fc.integer({ min: 1, max: 3 }),
    blk: fc.nat(30),
    lsn: fc.nat(50),
    byte: fc.nat(255),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), fc.integer({ min: 1, max: 20 }), (steps, capacity) => {
      const cache = new PageCache(capacity);
      const model = new Map<string, { lsn: number; byte: number }>();
      const into = page(0);
      for (const { store, owner, blk, lsn, byte } of steps) {
        const key = `${owner}/${blk}`;
        const known = model.get(key);
        if (store) {
          cache.store(owner, 1024, blk, lsn, page(byte), 0);
          // One that is here and newer stays; one that was pushed out no longer counts.
          const got = cache.read(owner, 1024, blk, Infinity, into, 0);
          expect(got >= lsn).toBe(true);
          if (got === lsn) model.set(key, { lsn, byte: into[0]! });
          else expect(known).toEqual({ lsn: got, byte: into[0] });
        } else {
          const got = cache.read(owner, 1024, blk, lsn, into, 0);
          if (got < 0) continue;
          expect(got).toBe(known!.lsn);
          expect(got).toBeLessThanOrEqual(lsn);
          expect(into).toEqual(page(known!.byte));
        }
      }
      expect(cache.pages).toBeLessThanOrEqual(capacity);
    }),
    { numRuns: 100 },
  );
});

test('pages in use outlive those that are not', () => {
  const cache = new PageCache(64);
  const owner = newOwner();
  const into = page(0);
  for (let blk = 0; blk < 1000; blk++) {
    cache.store(owner, 1024, blk, 10, page(blk % 256), 0);
    cache.read(owner, 1024, 0, 10, into, 0);
  }
  expect(cache.read(owner, 1024, 0, 10, into, 0)).toBe(10);
  expect(cache.read(owner, 1024, 1, 10, into, 0)).toBe(-1);
});

test('a page that nothing changed is true until later', () => {
  const cache = new PageCache(4);
  const into = page(0);
  cache.store(1, 1024, 0, 10, page(7), 0);
  cache.confirm(1, 1024, 0, 20, 10);
  expect(cache.read(1, 1024, 0, 15, into, 0)).toBe(-1);
  expect(cache.read(1, 1024, 0, 20, into, 0)).toBe(20);
  cache.confirm(1, 1024, 0, 30, 10);
  expect(cache.read(1, 1024, 0, 30, into, 0)).toBe(20);
});
