// What no workload of the redo suites reaches: a split right behind the posting list that takes the new TID; and
// the vacuum cycle id, which Neon's computes pass on in the left half's image.

import { zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { Builder, concatBytes, viewOf } from '../../../base/bytes.ts';
import { isFault } from '../../../base/fault.ts';
import { lsn } from '../../../base/lsn.ts';
import type { Dialect } from '../../dialect.ts';
import { dialectOfMajor } from '../../dialects/all.ts';
import { addIndexTuple, formPosting, T_INFO, writeTid } from '../../index-tuple.ts';
import { newPage, type Page, pageOver, pdSpecial } from '../../page.ts';
import { itemIdLength, pageGetItemOffset, pageGetMaxOffsetNumber } from '../../page-items.ts';
import { decodeRecord, WalRecord } from '../../record.ts';
import { redoBlock } from '../../redo.ts';
import { type BlockSpec, type ImageSpec, imageOf, makeRecord } from '../../writer.ts';
import { BTP_INCOMPLETE_SPLIT, BTP_LEAF, BTPO_CYCLEID, BTPO_PREV, btPageInit, setBtpoFlags } from './page.ts';
import { RM_BTREE_ID, XLOG_BTREE_INSERT_POST, XLOG_BTREE_SPLIT_L, XLOG_BTREE_SPLIT_R } from './rows.ts';

const stock17 = dialectOfMajor(17, 'stock');
const neon17 = dialectOfMajor(17, 'neon');

const block = (id: number, blkno: number, more: Partial<BlockSpec> = {}): BlockSpec => ({
  id,
  spcOid: 1663,
  dbOid: 5,
  relNumber: 16384,
  blkno,
  ...more,
});

function record(info: number, main: Uint8Array, blocks: readonly BlockSpec[]): WalRecord {
  const bytes = makeRecord({ rmid: RM_BTREE_ID, info, main, blocks }, stock17);
  return decodeRecord(new WalRecord(), bytes, viewOf(bytes), 0, lsn(0x1000), lsn(0x2000), stock17.imageBits);
}

function tuple(key: number, heapTid: number): Uint8Array {
  const bytes = new Uint8Array(16).fill(key, 8);
  writeTid(viewOf(bytes), 0, heapTid);
  viewOf(bytes).setUint16(T_INFO, 16, true);
  return bytes;
}

/** A rightmost leaf: keys 1 and 2, a posting list of key 3 with TIDs 0x30001, 0x30003, 0x30005, keys 4 and 5. */
function leaf(): Page {
  const plain = newPage();
  btPageInit(plain);
  [0x30001, 0x30003, 0x30005].forEach((tid, i) => {
    addIndexTuple(plain, tuple(3, tid), 0, 16, i + 1);
  });
  const posting = formPosting(plain, 1, 3);
  const page = newPage();
  btPageInit(page);
  setBtpoFlags(page, BTP_LEAF);
  addIndexTuple(page, tuple(1, 0x10001), 0, 16, 1);
  addIndexTuple(page, tuple(2, 0x20001), 0, 16, 2);
  addIndexTuple(page, posting.bytes, 0, posting.size, 3);
  addIndexTuple(page, tuple(4, 0x40001), 0, 16, 4);
  addIndexTuple(page, tuple(5, 0x50001), 0, 16, 5);
  return page;
}

function items(page: Page): string[] {
  return Array.from({ length: pageGetMaxOffsetNumber(page) }, (_, i) => {
    const at = pageGetItemOffset(page, i + 1);
    return Buffer.from(page.bytes.subarray(at, at + itemIdLength(page, i + 1))).toString('hex');
  });
}

const newitem = tuple(3, 0x30002);
const hikey = tuple(9, 0);
const POSTINGOFF = 1;
const splitMain = (firstright: number, newitemoff: number, postingoff: number): Uint8Array =>
  new Builder().u32le(0).u16le(firstright).u16le(newitemoff).u16le(postingoff).u16le(0).finish().slice(0, 10);

function redo(dialect: Dialect, page: Page, r: WalRecord, id: number): Page {
  expect(redoBlock(dialect, page, r, r.block(id))).toBe('applied');
  return page;
}

describe('a split through a posting list', () => {
  // The judge: the same tuple inserted without a split, which Postgres's own images have vouched for.
  const inserted = redo(
    stock17,
    leaf(),
    record(XLOG_BTREE_INSERT_POST, new Builder().u16le(4).finish(), [
      block(0, 7, { data: concatBytes([Uint8Array.of(POSTINGOFF, 0), newitem]) }),
    ]),
    0,
  );
  const split = (info: number, firstright: number): Page =>
    redo(
      stock17,
      leaf(),
      record(info, splitMain(firstright, 4, POSTINGOFF), [
        block(0, 7, { data: concatBytes([newitem, hikey]) }),
        block(1, 8, { willInit: true, data: tuple(4, 0x40001) }),
      ]),
      0,
    );

  it('with the new tuple last on the left', () => {
    const left = split(XLOG_BTREE_SPLIT_L, 4);
    expect(items(left)).toEqual([Buffer.from(hikey).toString('hex'), ...items(inserted).slice(0, 4)]);
  });

  it('with the new tuple in the middle of the left', () => {
    const left = split(XLOG_BTREE_SPLIT_L, 5);
    expect(items(left)).toEqual([Buffer.from(hikey).toString('hex'), ...items(inserted).slice(0, 5)]);
  });

  it('with the list last on the left and the new tuple first on the right', () => {
    const left = split(XLOG_BTREE_SPLIT_R, 4);
    expect(items(left)).toEqual([Buffer.from(hikey).toString('hex'), ...items(inserted).slice(0, 3)]);
    expect(left.view.getUint16(pdSpecial(left) + 12, true)).toBe(BTP_LEAF | BTP_INCOMPLETE_SPLIT);
  });

  it('whose tuples do not add up to the data is refused', () => {
    const short = record(XLOG_BTREE_SPLIT_L, splitMain(4, 4, POSTINGOFF), [
      block(0, 7, { data: newitem }),
      block(1, 8, { willInit: true }),
    ]);
    let error: unknown;
    try {
      redoBlock(stock17, leaf(), short, short.block(0));
    } catch (thrown) {
      error = thrown;
    }
    expect(isFault(error, 'wal-redo')).toBe(true);
  });
});

describe('the cycle id of the right half', () => {
  const CYCLE = 0x1234;
  const left = leaf();
  left.view.setUint16(pdSpecial(left) + BTPO_CYCLEID, CYCLE, true);
  const zstd: ImageSpec = {
    bytes: zstdCompressSync(left.bytes),
    holeOffset: 0,
    holeLength: 0,
    compression: 'zstd',
    apply: true,
  };
  const whole: ImageSpec = { bytes: left.bytes, holeOffset: 0, holeLength: 0, apply: true };
  const right = (dialect: Dialect, image: ImageSpec | undefined): Page =>
    redo(
      dialect,
      pageOver(new Uint8Array(8192)),
      record(XLOG_BTREE_SPLIT_R, splitMain(4, 5, 0), [
        block(0, 7, image === undefined ? { data: hikey } : { image }),
        block(1, 8, { willInit: true, data: tuple(4, 0x40001) }),
      ]),
      1,
    );
  const cycleid = (page: Page): number => page.view.getUint16(pdSpecial(page) + BTPO_CYCLEID, true);

  it.each([
    ['without its hole', imageOf(left.bytes, true)],
    ['whole', whole],
    ['compressed', zstd],
  ])('is that of the left half in a Neon log, its image %s', (_, image) => {
    const page = right(neon17, image);
    expect(cycleid(page)).toBe(CYCLE);
    expect(page.view.getUint32(pdSpecial(page) + BTPO_PREV, true)).toBe(7);
  });

  it('is 0 where there is no image, and in a stock log', () => {
    expect(cycleid(right(neon17, undefined))).toBe(0);
    expect(cycleid(right(stock17, imageOf(left.bytes, true)))).toBe(0);
  });
});
