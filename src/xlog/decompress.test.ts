// pglz.ts and lz4.ts: what an encoder packed comes out again, and nothing that is no such stream comes out at all.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { lz4Decompress } from './lz4.ts';
import { pglzDecompress } from './pglz.ts';
import { lz4Encode, pglzEncode } from './test-encoders.ts';

const GUARD = 64;
const fill = (length: number, byte: number): number[] => new Array<number>(length).fill(byte);

type Decompress = typeof pglzDecompress;

/** Decompress into the middle of a guarded buffer: the bytes, or -1; a byte written outside throws. */
function run(decompress: Decompress, packed: Uint8Array, size: number): Uint8Array | -1 {
  const source = new Uint8Array(GUARD + packed.length + GUARD).fill(0x11);
  source.set(packed, GUARD);
  const arena = new Uint8Array(size + GUARD).fill(0xa5);
  const written = decompress(source, GUARD, GUARD + packed.length, arena, size);
  for (let i = 0; i < GUARD; i++) if (arena[size + i] !== 0xa5) throw new Error('written past the target');
  if (written > size) throw new Error(`${written} bytes written to ${size}`);
  return written === -1 ? -1 : arena.slice(0, written);
}

/** Bytes as pages have them: runs, repeated rows, noise. */
const pageLike: fc.Arbitrary<Uint8Array> = fc
  .array(
    fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 80 }),
      fc
        .tuple(fc.uint8Array({ minLength: 1, maxLength: 12 }), fc.integer({ min: 2, max: 400 }))
        .map(([row, times]) =>
          Uint8Array.from({ length: row.length * times }, (_, i) => row[i % row.length]!),
        ),
    ),
    { minLength: 1, maxLength: 20 },
  )
  .map(pieces => Uint8Array.from(pieces.flatMap(piece => [...piece])).slice(0, 8192));

describe.each([
  ['pglz', pglzDecompress, pglzEncode],
  ['lz4', lz4Decompress, lz4Encode],
] as const)('%s', (_, decompress, encode) => {
  test('gives back what was packed', () => {
    fc.assert(
      fc.property(pageLike, bytes => {
        expect(run(decompress, encode(bytes), bytes.length)).toEqual(bytes);
      }),
      { numRuns: 300 },
    );
  });

  test('packs pages at all, so that matches are met', () => {
    const page = new Uint8Array(8192);
    for (let i = 0; i < 8192; i += 64) page.set([1, 2, 3, i & 0xff, i >> 8], i);
    expect(encode(page).length).toBeLessThan(3000);
    expect(run(decompress, encode(page), 8192)).toEqual(page);
  });

  test('a stream cut short, or for more bytes than are wanted, is never taken for whole', () => {
    fc.assert(
      fc.property(pageLike, fc.nat(), (bytes, seed) => {
        const packed = encode(bytes);
        const cut = run(decompress, packed.slice(0, seed % packed.length), bytes.length);
        expect(cut === -1 || cut.length < bytes.length).toBe(true);
        if (bytes.length > 1) {
          const small = run(decompress, packed, bytes.length - 1);
          expect(small === -1 || small.length < bytes.length).toBe(true);
        }
      }),
    );
  });

  test('damaged and random streams are refused or give no more than was asked for', () => {
    fc.assert(
      fc.property(pageLike, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 5 }), (bytes, damage) => {
        const packed = encode(bytes);
        for (const [at, byte] of damage) packed[at % packed.length] = byte;
        run(decompress, packed, bytes.length);
      }),
    );
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 400 }),
        fc.nat(8192),
        (bytes, size) => void run(decompress, bytes, size),
      ),
    );
  });
});

describe('pglz by hand', () => {
  test.each<[string, number[], number, number[] | -1]>([
    ['literals', [0x00, 1, 2, 3], 3, [1, 2, 3]],
    ['a match that overlaps itself', [0x02, 7, 0x00 | 2, 1], 6, fill(6, 7)],
    ['a match with a length byte', [0x02, 7, 0x0f, 1, 10], 29, fill(29, 7)],
    ['an offset of twelve bits', [0x00, ...fill(8, 1), 0x01, 0x00, 8], 11, fill(11, 1)],
    ['a match before the beginning', [0x02, 7, 0x00, 2], 10, -1],
    ['a match at no distance', [0x02, 7, 0x00, 0], 10, -1],
    ['a match cut short', [0x02, 7, 0x00], 10, -1],
    ['a length byte that is missing', [0x02, 7, 0x0f, 1], 40, -1],
    ['bytes left over', [0x00, 1, 2, 3, 4], 3, -1],
  ])('%s', (_, packed, size, expected) => {
    const result = run(pglzDecompress, Uint8Array.from(packed), size);
    expect(result === -1 ? -1 : [...result]).toEqual(expected);
  });
});

describe('lz4 by hand', () => {
  test.each<[string, number[], number, number[] | -1]>([
    ['literals', [0x30, 1, 2, 3], 3, [1, 2, 3]],
    ['more literals than a nibble tells', [0xf0, 5, ...fill(20, 9)], 20, fill(20, 9)],
    ['a match that overlaps itself', [0x10, 7, 1, 0, 0x00], 5, fill(5, 7)],
    ['a match longer than a nibble tells', [0x1f, 7, 1, 0, 255, 2, 0x00], 277, fill(277, 7)],
    ['a match before the beginning', [0x10, 7, 2, 0, 0x00], 5, -1],
    ['a match at no distance', [0x10, 7, 0, 0, 0x00], 5, -1],
    ['an offset cut short', [0x10, 7, 1], 5, -1],
    ['lengths that never end', [0xf0, 255, 255], 500, -1],
    ['literals that are not there', [0x50, 1, 2], 5, -1],
    ['nothing', [], 0, -1],
  ])('%s', (_, packed, size, expected) => {
    const result = run(lz4Decompress, Uint8Array.from(packed), size);
    expect(result === -1 ? -1 : [...result]).toEqual(expected);
  });
});
