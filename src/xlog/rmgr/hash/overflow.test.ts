// What no workload of the redo suites reaches: a new bitmap page, the neighbour after a freed page, damage.

import { describe, expect, it } from 'vitest';
import { Builder, viewOf } from '../../../base/bytes.ts';
import { isFault } from '../../../base/fault.ts';
import { lsn } from '../../../base/lsn.ts';
import { dialectOfMajor } from '../../dialects/all.ts';
import { newPage, type Page, pageLsn, pdSpecial } from '../../page.ts';
import { decodeRecord, WalRecord } from '../../record.ts';
import { type RedoOutcome, redoBlock } from '../../redo.ts';
import { type BlockSpec, makeRecord } from '../../writer.ts';
import {
  HASHM_FIRSTFREE,
  HASHM_NMAPS,
  HASHO_NEXTBLKNO,
  HASHO_PREVBLKNO,
  hashInitMeta,
  hashInitPage,
  LH_OVERFLOW_PAGE,
  metaU32,
} from './page.ts';
import {
  RM_HASH_ID,
  XLOG_HASH_ADD_OVFL_PAGE,
  XLOG_HASH_INSERT,
  XLOG_HASH_SPLIT_PAGE,
  XLOG_HASH_SQUEEZE_PAGE,
} from './rows.ts';

const pg17 = dialectOfMajor(17, 'stock');
const END = lsn(0x2000);
const SPARES = 24 + 52;
const MAPP = 24 + 444;

const block = (id: number, blkno: number, more: Partial<BlockSpec> = {}): BlockSpec => ({
  id,
  spcOid: 1663,
  dbOid: 5,
  relNumber: 16384,
  blkno,
  ...more,
});
const u32 = (value: number): Uint8Array => new Builder().u32le(value).finish();

function record(info: number, main: Uint8Array, blocks: readonly BlockSpec[]): WalRecord {
  const bytes = makeRecord({ rmid: RM_HASH_ID, info, main, blocks }, pg17);
  return decodeRecord(new WalRecord(), bytes, viewOf(bytes), 0, lsn(0x1000), END, pg17.imageBits);
}

const redo = (page: Page, r: WalRecord, id: number): RedoOutcome => redoBlock(pg17, page, r, r.block(id));

function overflowPage(): Page {
  const page = newPage();
  hashInitPage(page, 3, 1, LH_OVERFLOW_PAGE);
  return page;
}

describe('an overflow page that needs a new bitmap page', () => {
  const main = new Builder().u16le(4096).u8(0).finish();
  const added = record(XLOG_HASH_ADD_OVFL_PAGE, main, [
    block(0, 40000, { willInit: true, data: u32(7) }),
    block(1, 39999),
    block(3, 40001, { willInit: true }),
    block(4, 0, { data: u32(32769) }),
  ]);

  it('makes the bitmap page', () => {
    const page = newPage();
    expect(redo(page, added, 3)).toBe('applied');
    expect(page.bytes.subarray(24, 24 + 4096).every(byte => byte === 0xff)).toBe(true);
    expect(page.bytes[24 + 4096]).toBe(0);
  });

  it('enters it on the metapage, and counts both pages', () => {
    const page = newPage();
    hashInitMeta(page, 0, 450, 307);
    expect(redo(page, added, 4)).toBe('applied');
    expect(metaU32(page, HASHM_FIRSTFREE)).toBe(32769);
    expect(metaU32(page, HASHM_NMAPS)).toBe(1);
    expect(metaU32(page, MAPP)).toBe(40001);
    expect(metaU32(page, SPARES + 4)).toBe(3);
  });
});

describe('a squeeze', () => {
  const main = new Builder().u32le(10).u32le(12).u16le(0).u8(1).u8(0).finish();
  const squeeze = record(XLOG_HASH_SQUEEZE_PAGE, main, [
    block(1, 3),
    block(2, 11),
    block(3, 10),
    block(4, 12),
  ]);

  it('links the pages on both sides of the freed one', () => {
    const before = overflowPage();
    const after = overflowPage();
    expect(redo(before, squeeze, 3)).toBe('applied');
    expect(redo(after, squeeze, 4)).toBe('applied');
    expect(before.view.getUint32(pdSpecial(before) + HASHO_NEXTBLKNO, true)).toBe(12);
    expect(after.view.getUint32(pdSpecial(after) + HASHO_PREVBLKNO, true)).toBe(10);
  });

  it('that moves nothing leaves the page it names, and its LSN, alone', () => {
    const page = overflowPage();
    const whole = page.bytes.slice();
    expect(redo(page, squeeze, 1)).toBe('unchanged');
    expect(page.bytes).toEqual(whole);
  });
});

describe('damage', () => {
  const fault = (work: () => unknown): unknown => {
    try {
      return work();
    } catch (error) {
      return error;
    }
  };

  it('a split without the image of its page is refused', () => {
    const split = record(XLOG_HASH_SPLIT_PAGE, new Uint8Array(0), [block(0, 5)]);
    expect(
      isFault(
        fault(() => redo(overflowPage(), split, 0)),
        'wal-redo',
      ),
    ).toBe(true);
  });

  it('a record cut short is refused', () => {
    const squeeze = record(XLOG_HASH_SQUEEZE_PAGE, new Uint8Array(4), [block(3, 10)]);
    expect(
      isFault(
        fault(() => redo(overflowPage(), squeeze, 3)),
        'wal-record',
      ),
    ).toBe(true);
  });

  it('a tuple where the page has no such place is refused', () => {
    const main = new Builder().u16le(9).finish();
    const tuple = new Builder().zeros(6).u16le(16).zeros(8).finish();
    const insert = record(XLOG_HASH_INSERT, main, [block(0, 5, { data: tuple }), block(1, 0)]);
    const page = overflowPage();
    expect(
      isFault(
        fault(() => redo(page, insert, 0)),
        'wal-redo',
      ),
    ).toBe(true);
    expect(pageLsn(page)).toBe(0);
  });
});
