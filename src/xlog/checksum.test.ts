import fc from 'fast-check';
import { expect, test } from 'vitest';
import { pageChecksum, pageChecksumHolds, setPageChecksum } from './checksum.ts';
import { BLCKSZ, newPage, type Page, pageInit } from './page.ts';

function filledPage(seed: number): Page {
  const page = newPage();
  pageInit(page, 16);
  for (let at = 24; at < BLCKSZ; at++) page.bytes[at] = Math.imul(at ^ seed, 0x9e3779b1) >>> 24;
  return page;
}

// The checksums themselves are judged by Postgres in integration/pg/formats.test.ts.

test('wherever the page lies in its buffer, whatever checksum it bears', () => {
  fc.assert(
    fc.property(
      fc.nat(1000),
      fc.nat(0xffffffff),
      fc.nat(64),
      fc.nat(0xffff),
      (seed, blkno, offset, stored) => {
        const page = filledPage(seed);
        const expected = pageChecksum(page.view, 0, blkno);
        expect(expected).toBeGreaterThan(0);
        expect(expected).toBeLessThanOrEqual(65535);
        const buffer = new Uint8Array(BLCKSZ + 64);
        buffer.set(page.bytes, offset);
        buffer[offset + 8] = stored & 0xff;
        buffer[offset + 9] = stored >> 8;
        expect(pageChecksum(new DataView(buffer.buffer), offset, blkno)).toBe(expected);
      },
    ),
  );
});

test('a flipped bit or another block number does not hold', () => {
  const page = filledPage(7);
  setPageChecksum(page, 42);
  expect(pageChecksumHolds(page, 42)).toBe(true);
  expect(pageChecksumHolds(page, 43)).toBe(false);
  for (let at = 0; at < BLCKSZ; at += 97) {
    page.bytes[at]! ^= 4;
    expect(pageChecksumHolds(page, 42), `byte ${at}`).toBe(false);
    page.bytes[at]! ^= 4;
  }
  expect(pageChecksumHolds(page, 42)).toBe(true);
});

test('a page never initialised has no checksum and must be zero throughout', () => {
  const page = newPage();
  setPageChecksum(page, 5);
  expect(page.bytes.every(byte => byte === 0)).toBe(true);
  expect(pageChecksumHolds(page, 5)).toBe(true);
  page.bytes[8000] = 1;
  expect(pageChecksumHolds(page, 5)).toBe(false);
});
