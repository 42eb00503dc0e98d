import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BLCKSZ } from '../page.ts';
import { RELSEG_SIZE, RelationFile } from './relation-file.ts';

const tag = { spcOid: 1663, dbOid: 5, relNumber: 16384, forkNum: 0 };

/** `blocks` pages, each filled with its number. */
function bytesOf(blocks: number, tail = 0): Uint8Array {
  const bytes = new Uint8Array(blocks * BLCKSZ + tail);
  for (let blkno = 0; blkno < blocks; blkno++) bytes.fill(blkno + 1, blkno * BLCKSZ, (blkno + 1) * BLCKSZ);
  return bytes;
}

const firstByte = (file: RelationFile, blkno: number): number | undefined => file.page(blkno)?.bytes[0];

describe('a relation file', () => {
  test('has the pages of its segments, edited in the file’s own bytes', () => {
    const file = new RelationFile(tag);
    const bytes = bytesOf(3);
    file.loadSegment(0, bytes);
    expect(file.nblocks).toBe(3);
    expect([0, 1, 2, 3].map(blkno => firstByte(file, blkno))).toEqual([1, 2, 3, undefined]);
    expect(file.page(1)).toBe(file.page(1));
    file.page(1)!.view.setUint8(0, 77);
    expect(bytes[BLCKSZ]).toBe(77);
  });

  test('cuts off a partial last page', () => {
    const file = new RelationFile(tag);
    file.loadSegment(0, bytesOf(2, 100));
    expect(file.nblocks).toBe(2);
    expect(file.page(2)).toBeUndefined();
  });

  test('continues in later segments', () => {
    const file = new RelationFile(tag);
    file.loadSegment(1, bytesOf(2));
    expect(file.nblocks).toBe(RELSEG_SIZE + 2);
    expect(firstByte(file, RELSEG_SIZE + 1)).toBe(2);
    expect(firstByte(file, RELSEG_SIZE - 1)).toBe(0);
  });

  test('reads as zeros between its end and a block it is extended to', () => {
    const file = new RelationFile(tag);
    file.extendTo(5).bytes[0] = 9;
    expect(file.nblocks).toBe(6);
    expect([0, 4, 5, 6].map(blkno => firstByte(file, blkno))).toEqual([0, 0, 9, undefined]);
  });

  test('takes a block number out of the blue without memory for those before it', () => {
    const file = new RelationFile(tag);
    file.extendTo(0xfffffffe).bytes[0] = 1;
    expect(file.nblocks).toBe(0xffffffff);
    expect(firstByte(file, 0xfffffffe)).toBe(1);
    file.truncate(10);
    expect(file.page(0xfffffffe)).toBeUndefined();
  });

  test('forgets what is cut off: extended again it reads as zeros', () => {
    const file = new RelationFile(tag);
    file.loadSegment(0, bytesOf(4));
    file.page(2);
    file.truncate(2);
    expect([file.nblocks, firstByte(file, 1), file.page(2)]).toEqual([2, 2, undefined]);
    file.extendTo(3);
    expect([firstByte(file, 1), firstByte(file, 2), firstByte(file, 3)]).toEqual([2, 0, 0]);
    file.truncate(7);
    expect(file.nblocks).toBe(4);
  });

  test('copied is another, with the same pages', () => {
    const file = new RelationFile(tag);
    file.loadSegment(0, bytesOf(2));
    file.extendTo(2).bytes[0] = 3;
    const copy = file.copyAs({ ...tag, dbOid: 6 });
    file.page(0)!.bytes[0] = 99;
    expect(copy.tag.dbOid).toBe(6);
    expect([0, 1, 2, 3].map(blkno => firstByte(copy, blkno))).toEqual([1, 2, 3, undefined]);
  });

  test('is what a plain list of pages would be, whatever is done to it', () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('write' as const), blkno: fc.nat(2600), byte: fc.nat(255) }),
      fc.record({ do: fc.constant('truncate' as const), blkno: fc.nat(2600), byte: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), steps => {
        const file = new RelationFile(tag);
        file.loadSegment(0, bytesOf(3));
        let model = [1, 2, 3];
        for (const { do: what, blkno, byte } of steps) {
          if (what === 'truncate') {
            file.truncate(blkno);
            model = model.slice(0, blkno);
          } else {
            file.extendTo(blkno).bytes[0] = byte;
            while (model.length < blkno) model.push(0);
            model[blkno] = byte;
          }
        }
        expect(file.nblocks).toBe(model.length);
        expect(model.map((_, blkno) => firstByte(file, blkno))).toEqual(model);
      }),
    );
  });
});
