// Relation maps and two-phase state files: what is refused. What is read and written is judged by Postgres in
// integration/pg/formats.test.ts.

import { describe, expect, test } from 'vitest';
import { crc32c } from './crc32c.ts';
import { readRelmap, relmapPath, writeRelmap } from './relmap.ts';
import {
  parseTwophaseFileName,
  prepareOfTwophaseFile,
  readTwophaseHeader,
  twophaseFile,
  twophaseFileName,
} from './twophase.ts';

describe('relation maps', () => {
  const mappings = [
    { mapOid: 1259, relNumber: 16384 },
    { mapOid: 1249, relNumber: 1249 },
  ];

  test.each([512, 524])('of %i bytes', size => {
    const bytes = writeRelmap(mappings, size);
    expect(bytes.length).toBe(size);
    expect(readRelmap(bytes)).toEqual(mappings);
    const most = size === 512 ? 62 : 64;
    const many = Array.from({ length: most }, (_, i) => ({ mapOid: i + 1, relNumber: i + 1000 }));
    expect(readRelmap(writeRelmap(many, size))).toEqual(many);
    expect(() => writeRelmap([...many, mappings[0]!], size)).toThrow('do not fit');
    for (const at of [8, 100, size === 512 ? 504 : 520]) {
      bytes[at]! ^= 1;
      expect(() => readRelmap(bytes)).toThrow('incorrect checksum');
      bytes[at]! ^= 1;
    }
    for (const at of [0, 7]) {
      bytes[at]! ^= 0x80;
      expect(() => readRelmap(bytes)).toThrow('invalid data');
      bytes[at]! ^= 0x80;
    }
  });

  test('of another size', () => {
    expect(() => readRelmap(new Uint8Array(520))).toThrow('512 or 524 bytes, not 520');
  });

  test('lie in global or beside their database', () => {
    expect(relmapPath(1664, 0)).toBe('global/pg_filenode.map');
    expect(relmapPath(1663, 5)).toBe('base/5/pg_filenode.map');
  });
});

describe('two-phase state files', () => {
  const old = { twophaseFullXid: false };
  const full = { twophaseFullXid: true };

  test('names', () => {
    expect(twophaseFileName(0x2abc, old)).toBe('00002ABC');
    expect(twophaseFileName(0x5_0000_2abc, old)).toBe('00002ABC');
    expect(twophaseFileName(0x5_0000_2abc, full)).toBe('0000000500002ABC');
    expect(parseTwophaseFileName('00002ABC', old)).toBe(0x2abc);
    expect(parseTwophaseFileName('0000000500002ABC', full)).toBe(0x5_0000_2abc);
    expect(parseTwophaseFileName('00002ABC', full)).toBeUndefined();
    expect(parseTwophaseFileName('FFFFFFFFFFFFFFFF', full)).toBeUndefined();
  });

  function prepare(length: number): Uint8Array {
    const bytes = Uint8Array.from({ length }, (_, i) => i);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 0x57f94534, true);
    view.setUint32(4, length + 4, true);
    view.setUint32(8, 742, true);
    view.setUint32(12, 5, true);
    view.setBigInt64(16, 812_345_678_901_234n, true);
    view.setUint32(24, 10, true);
    return bytes;
  }

  test('payload and checksum', () => {
    const payload = prepare(120);
    const file = twophaseFile(payload);
    expect(file.length).toBe(124);
    expect(new DataView(file.buffer).getUint32(120, true)).toBe(crc32c(payload));
    expect(prepareOfTwophaseFile(file)).toEqual(payload);
    expect(readTwophaseHeader(file)).toEqual({
      xid: 742,
      database: 5,
      preparedAt: 812_345_678_901_234,
      owner: 10,
    });
  });

  test('damage', () => {
    const file = twophaseFile(prepare(120));
    expect(() => prepareOfTwophaseFile(file.subarray(0, 123))).toThrow('incorrect size');
    expect(() => prepareOfTwophaseFile(file.subarray(0, 116))).toThrow('says 124 bytes, has 116');
    expect(() => readTwophaseHeader(file.subarray(0, 20))).toThrow('incorrect size');
    file[60]! ^= 1;
    expect(() => prepareOfTwophaseFile(file)).toThrow('incorrect checksum');
    file[0]! ^= 1;
    expect(() => prepareOfTwophaseFile(file)).toThrow('invalid magic');
  });
});
