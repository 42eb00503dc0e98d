import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Lsn } from '../../base/lsn.ts';
import { WalBuffer } from './wal-buffer.ts';

/** A byte by its position, so that every read can be checked. */
const bytesAt = (from: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => ((from + i) * 31) & 0xff);

test('any part of what is kept can be read, whatever came and went', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 40 }), fc.nat(100), fc.nat(60)), { maxLength: 60 }),
      steps => {
        const buffer = new WalBuffer(1000 as Lsn);
        for (const [length, at, max] of steps) {
          buffer.push(bytesAt(buffer.end, length));
          if (at % 7 === 0) buffer.trim(buffer.start + Math.min(at, buffer.size));
          const from = (buffer.start + (buffer.size === 0 ? 0 : at % buffer.size)) as Lsn;
          const read = buffer.read(from, max);
          expect(read).toEqual(bytesAt(from, Math.min(max, buffer.end - from)));
        }
      },
    ),
  );
});

test('trimming thousands of chunks keeps what is behind them', () => {
  const buffer = new WalBuffer(0 as Lsn);
  for (let i = 0; i < 5000; i++) {
    buffer.push(bytesAt(buffer.end, 10));
    buffer.trim(buffer.end - 500);
  }
  expect(buffer.end).toBe(50_000);
  expect(buffer.size).toBeGreaterThanOrEqual(500);
  expect(buffer.read((50_000 - 500) as Lsn, 500)).toEqual(bytesAt(49_500, 500));
});
