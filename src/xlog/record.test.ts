// Records decoded: whatever the writer made comes apart again, and headers that lie are refused in a sentence,
// without a byte read past the record.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Builder, viewOf } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { lsn } from '../base/lsn.ts';
import { pg14 } from './dialects/14.ts';
import { pg17 } from './dialects/17.ts';
import { decodeRecord, WalRecord, XLR_MAX_BLOCK_ID } from './record.ts';
import { type BlockSpec, imageOf, makeRecord, type RecordSpec } from './writer.ts';

const { imageBits } = pg17;

/** Decode a record that ends where its buffer ends: a read past it is a RangeError, and fails the test. */
function decode(bytes: Uint8Array, into = new WalRecord(), bits = imageBits): WalRecord {
  const exact = bytes.slice();
  return decodeRecord(into, exact, viewOf(exact), 0, lsn(0x1000028), lsn(0x1000060), bits);
}

const oid = fc.integer({ min: 1, max: 0xffffffff });
const bytesUpTo = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength });

const blocks: fc.Arbitrary<BlockSpec[]> = fc
  .uniqueArray(fc.nat(XLR_MAX_BLOCK_ID), { maxLength: 5 })
  .chain(ids =>
    fc.tuple(
      ...ids
        .sort((a, b) => a - b)
        .map((id, i) =>
          fc.record({
            id: fc.constant(id),
            spcOid: oid,
            dbOid: oid,
            relNumber: oid,
            forkNum: fc.nat(3),
            blkno: fc.integer({ min: 0, max: 0xfffffffe }),
            willInit: fc.boolean(),
            sameRel: i === 0 ? fc.constant(false) : fc.boolean(),
            data: bytesUpTo(60),
          }),
        ),
    ),
  );

const specs: fc.Arbitrary<RecordSpec> = fc.record(
  {
    rmid: fc.nat(255),
    info: fc.nat(255),
    xid: fc.integer({ min: 0, max: 0xffffffff }),
    origin: fc.nat(0xffff),
    toplevelXid: oid,
    blocks,
    main: bytesUpTo(600),
  },
  { requiredKeys: ['rmid', 'info'] },
);

describe('a record', () => {
  test('comes apart as it was put together, in an object used before', () => {
    const record = new WalRecord();
    const piece = (at: number, length: number): Uint8Array => record.bytes.slice(at, at + length);
    fc.assert(
      fc.property(specs, spec => {
        decode(makeRecord(spec, pg17), record);
        const { rmid, info, xid = 0, origin = 0, toplevelXid = 0 } = spec;
        expect(record).toMatchObject({ rmid, info, xid, origin, toplevelXid });
        expect(piece(record.mainOffset, record.mainLength)).toEqual(spec.main ?? new Uint8Array(0));
        let locator = { spcOid: 0, dbOid: 0, relNumber: 0 };
        for (const { id, spcOid, dbOid, relNumber, forkNum, blkno, willInit, sameRel, data } of spec.blocks ??
          []) {
          if (sameRel !== true) locator = { spcOid, dbOid, relNumber };
          const block = record.block(id);
          expect(block).toMatchObject({ ...locator, forkNum, blkno, willInit, hasImage: false });
          expect(piece(block.dataOffset, block.dataLength)).toEqual(data);
        }
        const used = record.blocks.filter(block => record.hasBlock(block.id)).map(block => block.id);
        expect(used).toEqual((spec.blocks ?? []).map(block => block.id));
      }),
    );
  });

  test('in another place of a larger buffer reads the same', () => {
    const bytes = makeRecord({ rmid: 10, info: 0, main: Uint8Array.of(1, 2, 3) }, pg17);
    const larger = new Uint8Array(1000).fill(0xff);
    larger.set(bytes, 333);
    const record = decodeRecord(new WalRecord(), larger, viewOf(larger), 333, lsn(8), lsn(64), imageBits);
    expect([...larger.subarray(record.mainOffset, record.mainOffset + record.mainLength)]).toEqual([1, 2, 3]);
  });

  test('cut short anywhere is refused', () => {
    const page = new Uint8Array(8192).fill(3);
    const block = { id: 0, spcOid: 1, dbOid: 2, relNumber: 3, blkno: 4, data: Uint8Array.of(9, 9) };
    const whole = makeRecord(
      {
        rmid: 10,
        info: 0,
        origin: 3,
        blocks: [{ ...block, image: imageOf(page, true) }],
        main: page.slice(0, 300),
      },
      pg17,
    );
    for (let length = 0; length < whole.length; length += length < 100 ? 1 : 97) {
      const cut = whole.slice(0, length);
      // Once as it is, and once with a length that says that all is well: a bare header is then a sound record.
      expect(() => decode(cut)).toThrow(Fault);
      if (length <= 24) continue;
      viewOf(cut).setUint32(0, length, true);
      expect(() => decode(cut)).toThrow(/bad WAL record at 0\/1000028/);
    }
  });

  test('any record cut anywhere is refused, or adds up by chance: what it names lies inside it', () => {
    fc.assert(
      fc.property(specs, fc.nat(), (spec, seed) => {
        const whole = makeRecord(spec, pg17);
        const cut = whole.slice(0, 24 + (seed % (whole.length - 23)));
        viewOf(cut).setUint32(0, cut.length, true);
        let record: WalRecord;
        try {
          record = decode(cut);
        } catch (error) {
          expect(error).toMatchObject({ code: 'wal-record' });
          return;
        }
        let at = 24;
        for (const block of record.blocks.filter(b => record.hasBlock(b.id))) {
          expect(block.imageOffset).toBeGreaterThanOrEqual(at);
          expect(block.dataOffset).toBe(block.imageOffset + block.imageLength);
          at = block.dataOffset + block.dataLength;
        }
        expect(record.mainOffset).toBeGreaterThanOrEqual(at);
        expect(record.mainOffset + record.mainLength).toBe(cut.length);
      }),
      { numRuns: 1000 },
    );
  });
});

/** A record of hand-made headers and payload. */
function crafted(body: (out: Builder) => Builder): Uint8Array {
  const out = body(new Builder(64).u32le(0).u32le(0).zeros(8).u8(0).u8(10).zeros(6)).finish();
  viewOf(out).setUint32(0, out.length, true);
  return out;
}

const rel = (out: Builder): Builder => out.u32le(1663).u32le(5).u32le(16384).u32le(0);
const IMAGE = 0x10;
const DATA = 0x20;
const SAME_REL = 0x80;

describe('hostile headers', () => {
  test.each<[string, RegExp, (out: Builder) => Builder]>([
    ['an unknown id', /unknown header id 200/, out => out.u8(200)],
    [
      'a block after a higher one',
      /block id 0 out of order/,
      out => rel(rel(out.u8(1).u8(0).u16le(0)).u8(0).u8(0).u16le(0)),
    ],
    [
      'a block twice',
      /block id 3 out of order/,
      out => rel(rel(out.u8(3).u8(0).u16le(0)).u8(3).u8(0).u16le(0)),
    ],
    [
      'the first block like the one before',
      /same-relation flag/,
      out => out.u8(0).u8(SAME_REL).u16le(0).u32le(1),
    ],
    ['data of no length', /data flag and length 0/, out => rel(out.u8(0).u8(DATA).u16le(0))],
    ['length without data', /data flag and length 8/, out => rel(out.u8(0).u8(0).u16le(8)).zeros(8)],
    [
      'more data than there is',
      /announce 500 bytes, 3 are there/,
      out => rel(out.u8(0).u8(DATA).u16le(500)).zeros(3),
    ],
    ['a fork that is none', /fork 9/, out => rel(out.u8(0).u8(9).u16le(0))],
    ['main data longer than the record', /announce 255 bytes/, out => out.u8(255).u8(255).zeros(9)],
    [
      'main data of four gigabytes',
      /announce 4294967295 bytes/,
      out => out.u8(254).u32le(0xffffffff).zeros(30),
    ],
    ['bytes that nothing announces', /announce 2 bytes, 6 are there/, out => out.u8(255).u8(2).zeros(6)],
    ['a block header cut short', /headers cut short/, out => out.u8(0).u8(0)],
    ['a relation cut short', /headers cut short/, out => out.u8(0).u8(0).u16le(0).u32le(1)],
    ['an origin cut short', /headers cut short/, out => out.u8(253).u8(1)],
    ['a top-level xid cut short', /headers cut short/, out => out.u8(252).u8(1)],
    ['a long length cut short', /headers cut short/, out => out.u8(254).u8(1)],
    ['a short length cut short', /headers cut short/, out => out.u8(255)],
    ['an image header cut short', /headers cut short/, out => out.u8(0).u8(IMAGE).u16le(0).u16le(10)],
    [
      'an image larger than a page',
      /image of 9000 bytes/,
      out => rel(out.u8(0).u8(IMAGE).u16le(0).u16le(9000).u16le(0).u8(2)).zeros(9000),
    ],
    [
      'a hole that leaves the page',
      /hole 4192 at 8000/,
      out => rel(out.u8(0).u8(IMAGE).u16le(0).u16le(4000).u16le(8000).u8(3)).zeros(4000),
    ],
    [
      'a hole without its flag',
      /hole 4192 at 0/,
      out => rel(out.u8(0).u8(IMAGE).u16le(0).u16le(4000).u16le(0).u8(2)).zeros(4000),
    ],
    [
      'a page that is all hole, without the flag',
      /image of 0 bytes with hole 8192/,
      out => rel(out.u8(0).u8(IMAGE).u16le(0).u16le(0).u16le(0).u8(2)),
    ],
    [
      'a hole flag over a whole page',
      /image of 8192 bytes with hole 0 at 24/,
      out => rel(out.u8(0).u8(IMAGE).u16le(0).u16le(8192).u16le(24).u8(3)).zeros(8192),
    ],
    [
      'a packed image with a hole of no length',
      /hole 0 at 24/,
      out => rel(out.u8(0).u8(IMAGE).u16le(0).u16le(10).u16le(24).u8(7).u16le(0)).zeros(10),
    ],
    [
      'an image packed in two ways',
      /image of flags 0x0c/,
      out => rel(out.u8(0).u8(IMAGE).u16le(0).u16le(10).u16le(0).u8(0x0c)).zeros(10),
    ],
    [
      'image flags of no major',
      /image of flags 0x22/,
      out => rel(out.u8(0).u8(IMAGE).u16le(0).u16le(8192).u16le(0).u8(0x22)).zeros(8192),
    ],
    [
      'a hole at the page header',
      /hole 4192 at 0/,
      out => rel(out.u8(0).u8(IMAGE).u16le(0).u16le(4000).u16le(0).u8(3)).zeros(4000),
    ],
    [
      'a packed image as large as a page',
      /image of 8192 bytes/,
      out => rel(out.u8(0).u8(IMAGE).u16le(0).u16le(8192).u16le(0).u8(6)).zeros(8192),
    ],
    [
      'a packed image whose hole length is missing',
      /headers cut short/,
      out => out.u8(0).u8(IMAGE).u16le(0).u16le(10).u16le(24).u8(7),
    ],
  ])('%s: refused', (_, message, body) => {
    expect(() => decode(crafted(body))).toThrow(message);
  });

  test('a record shorter than its header, or longer than its buffer', () => {
    const bytes = makeRecord({ rmid: 0, info: 0 }, pg17);
    for (const length of [0, 23, bytes.length + 1, 0xffffffff]) {
      viewOf(bytes).setUint32(0, length, true);
      expect(() => decode(bytes)).toThrow(`length ${length} does not fit`);
    }
  });

  test('random bytes behind a sound header are decoded or refused, whatever major reads them', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), body => {
        const bytes = crafted(out => out.raw(body));
        for (const bits of [pg14.imageBits, imageBits]) {
          try {
            const record = decode(bytes, new WalRecord(), bits);
            expect(record.mainOffset + record.mainLength).toBe(bytes.length);
          } catch (error) {
            expect(error).toMatchObject({ code: expect.stringMatching(/^(wal-record|lsn-too-large)$/) });
          }
        }
      }),
      { numRuns: 2000 },
    );
  });
});
