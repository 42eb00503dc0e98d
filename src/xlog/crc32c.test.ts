// CRC-32C both ways, ours and the processor's, against the definition, one bit at a time.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { viewOf } from '../base/bytes.ts';
import { CRC32C_INIT, crc32c, crc32cFinish, crc32cUpdate, recordCrc } from './crc32c.ts';

function bitByBit(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

const tables = (bytes: Uint8Array, start = 0, end = bytes.length): number =>
  crc32cFinish(crc32cUpdate(CRC32C_INIT, viewOf(bytes), start, end));

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('crc32c', () => {
  // RFC 3720, B.4.
  test.each<[string, Uint8Array, number]>([
    ['nothing', new Uint8Array(0), 0],
    ['123456789', ascii('123456789'), 0xe3069283],
    ['32 zeros', new Uint8Array(32), 0x8a9136aa],
    ['32 ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ['0 to 31', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    ['31 to 0', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
  ])('of %s is as published', (_, bytes, crc) => {
    expect([tables(bytes), crc32c(bytes), bitByBit(bytes)]).toEqual([crc, crc, crc]);
  });

  test('is the same by tables and by the processor, of every length around the change', () => {
    const bytes = Uint8Array.from({ length: 2200 }, (_, i) => (i * 2654435761) >>> 24);
    for (let length = 0; length <= 2100; length += length < 64 ? 1 : 13) {
      const expected = bitByBit(bytes.subarray(3, 3 + length));
      expect([length, tables(bytes, 3, 3 + length), crc32c(bytes, 3, 3 + length)]).toEqual([
        length,
        expected,
        expected,
      ]);
    }
  });

  test('may be fed in pieces', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1500 }), fc.array(fc.nat(), { maxLength: 6 }), (bytes, cuts) => {
        const ends = [...cuts.map(cut => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
        let state = CRC32C_INIT;
        let at = 0;
        for (const end of ends) {
          state = crc32cUpdate(state, viewOf(bytes), at, end);
          at = end;
        }
        expect(crc32cFinish(state)).toBe(bitByBit(bytes));
      }),
    );
  });

  test('of a record covers its body, then its header up to xl_crc, wherever it lies', () => {
    fc.assert(
      fc.property(fc.integer({ min: 24, max: 1200 }), fc.nat(40), (length, offset) => {
        const bytes = Uint8Array.from({ length: offset + length + 9 }, (_, i) => (i * 7919) & 0xff);
        const record = bytes.subarray(offset, offset + length);
        const covered = Uint8Array.from([...record.subarray(24), ...record.subarray(0, 20)]);
        expect(recordCrc(bytes, viewOf(bytes), offset, length)).toBe(bitByBit(covered));
      }),
    );
  });
});
