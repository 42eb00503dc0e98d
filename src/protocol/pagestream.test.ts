import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromHex, toHex } from '../base/bytes.ts';
import { type Lsn, lsn, MAX_LSN } from '../base/lsn.ts';
import * as p from './pagestream.ts';

const hex = (text: string): Uint8Array => fromHex(text.replace(/\s+/g, ''));
const rel = { spcOid: 1663, dbOid: 5, relNumber: 16384, forkNum: 1 };

const GOLDEN: [string, 2 | 3, p.PagestreamRequest][] = [
  [
    '02 ffffffffffffffff 0000000001000028 0000067f 00000005 00004000 01 00000009',
    2,
    { kind: 'get-page', reqid: 0n, requestLsn: MAX_LSN, notModifiedSince: lsn(0x1000028), rel, blkno: 9 },
  ],
  [
    '02 000000000000002a ffffffffffffffff 0000000001000028 0000067f 00000005 00004000 01 00000009',
    3,
    { kind: 'get-page', reqid: 42n, requestLsn: MAX_LSN, notModifiedSince: lsn(0x1000028), rel, blkno: 9 },
  ],
  [
    '00 0000000000000010 0000000000000008 0000067f 00000005 00004000 01',
    2,
    { kind: 'exists', reqid: 0n, requestLsn: lsn(16), notModifiedSince: lsn(8), rel },
  ],
  [
    '03 0000000000000010 0000000000000008 00000005',
    2,
    { kind: 'db-size', reqid: 0n, requestLsn: lsn(16), notModifiedSince: lsn(8), dbOid: 5 },
  ],
  [
    '04 0000000000000001 0000000000000010 0000000000000008 02 00000007',
    3,
    { kind: 'get-slru-segment', reqid: 1n, requestLsn: lsn(16), notModifiedSince: lsn(8), slru: 2, segno: 7 },
  ],
];

describe('requests', () => {
  test.each(GOLDEN)('%s in version %i', (bytes, version, request) => {
    expect(p.readPagestreamRequest(hex(bytes), version)).toEqual(request);
    expect(toHex(p.writePagestreamRequest(request, version))).toBe(toHex(hex(bytes)));
  });

  test('bytes left over, unknown tags and short messages are violations', () => {
    const [bytes] = GOLDEN[0]!;
    expect(() => p.readPagestreamRequest(hex(`${bytes} 00`), 2)).toThrow(/left behind/);
    expect(() => p.readPagestreamRequest(hex(`63${bytes.slice(2)}`), 2)).toThrow(/unknown tag/);
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 60 }),
        fc.constantFrom(2 as const, 3 as const),
        (any, version) => {
          try {
            p.readPagestreamRequest(any, version);
          } catch (error) {
            expect((error as Error).name).toBe('Fault');
          }
        },
      ),
    );
  });
});

describe('answers', () => {
  const header = { reqid: 9n, requestLsn: lsn(16) as Lsn, notModifiedSince: lsn(8) as Lsn };
  const getPage = { kind: 'get-page' as const, ...header, rel, blkno: 3 };
  const page = new Uint8Array(8192).map((_, i) => i);

  test('version 3 echoes the request, version 2 nothing', () => {
    const v3 = p.getPageAnswer(getPage, 3, page);
    expect(v3.length).toBe(1 + 24 + 17 + 8192);
    expect(toHex(v3.subarray(0, 42))).toBe(
      toHex(
        hex('66 0000000000000009 0000000000000010 0000000000000008 0000067f 00000005 00004000 01 00000003'),
      ),
    );
    expect(p.getPageAnswer(getPage, 2, page).length).toBe(1 + 8192);
  });

  test.each([2, 3] as const)('every kind is read back in version %i', version => {
    const read = (bytes: Uint8Array, r: p.PagestreamRequest): p.PagestreamAnswer =>
      p.readPagestreamAnswer(bytes, r, version);
    const exists = { kind: 'exists' as const, ...header, rel };
    const nblocks = { kind: 'nblocks' as const, ...header, rel };
    const dbSize = { kind: 'db-size' as const, ...header, dbOid: 5 };
    const slru = { kind: 'get-slru-segment' as const, ...header, slru: 1, segno: 2 };
    expect(read(p.existsAnswer(exists, version, true), exists)).toEqual({ kind: 'exists', exists: true });
    expect(read(p.nblocksAnswer(nblocks, version, 77), nblocks)).toEqual({ kind: 'nblocks', blocks: 77 });
    expect(read(p.getPageAnswer(getPage, version, page), getPage)).toEqual({ kind: 'get-page', page });
    expect(read(p.dbSizeAnswer(dbSize, version, 1n << 40n), dbSize)).toEqual({
      kind: 'db-size',
      bytes: 1n << 40n,
    });
    const two = new Uint8Array(16384).fill(5);
    expect(read(p.slruSegmentAnswer(slru, version, two), slru)).toEqual({
      kind: 'get-slru-segment',
      segment: two,
    });
    expect(read(p.errorAnswer(getPage, version, 'no such page'), getPage)).toEqual({
      kind: 'error',
      message: 'no such page',
    });
  });

  test('an answer to another request is a violation', () => {
    const other = { ...getPage, blkno: 4 };
    expect(() => p.readPagestreamAnswer(p.getPageAnswer(getPage, 3, page), other, 3)).toThrow(
      /not to request/,
    );
  });
});
