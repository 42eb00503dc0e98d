// What verification images cannot show, because they are taken before it happens or masked: NSN and follow-right
// of a split's left half, also on top of a restored image, and of the pages of a split.

import { describe, expect, test } from 'vitest';
import type { Lsn } from '../../../base/lsn.ts';
import { pg17 } from '../../dialects/17.ts';
import { BLCKSZ, newPage, type Page, PD_SPECIAL, pageLsn, setPageLsn } from '../../page.ts';
import { pageAddItem, pageGetMaxOffsetNumber } from '../../page-items.ts';
import { WalRecord } from '../../record.ts';
import { redoBlock } from '../../redo.ts';
import { F_FOLLOW_RIGHT, F_LEAF, gistFlags, gistInitPage, setGistFlags, setGistNsn } from './page.ts';

const RM_GIST_ID = 14;
const PAGE_UPDATE = 0x00;
const DELETE = 0x10;
const PAGE_SPLIT = 0x30;
const END = 0x1_2345_6788 as Lsn;

const nsn = (p: Page): number => p.view.getUint32(8176, true) * 2 ** 32 + p.view.getUint32(8180, true);
const rightlink = (p: Page): number => p.view.getUint32(8184, true);

/** An index tuple of 16 bytes. */
function tuple(block: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(2, block, true);
  view.setUint16(4, 0xffff, true);
  view.setUint16(6, 16, true);
  return bytes;
}

interface Block {
  readonly id: number;
  readonly blkno: number;
  readonly data?: readonly Uint8Array[];
  readonly willInit?: boolean;
  readonly image?: Page;
}

function recordOf(info: number, main: Uint8Array, blocks: readonly Block[]): WalRecord {
  const record = new WalRecord();
  const pieces: Uint8Array[] = [];
  let at = 0;
  const put = (bytes: Uint8Array): number => {
    pieces.push(bytes);
    at += bytes.length;
    return at - bytes.length;
  };
  for (const { id, blkno, data = [], willInit = false, image } of blocks) {
    const block = record.blocks[id]!;
    Object.assign(block, { inUse: true, blkno, willInit, hasImage: false, applyImage: false });
    if (image !== undefined) {
      block.imageOffset = put(image.bytes.slice());
      Object.assign(block, { hasImage: true, applyImage: true, imageLength: BLCKSZ, holeLength: 0 });
    }
    block.dataOffset = at;
    for (const bytes of data) put(bytes);
    block.dataLength = at - block.dataOffset;
    block.hasData = block.dataLength > 0;
    record.maxBlockId = id;
  }
  record.mainOffset = put(main);
  record.mainLength = main.length;
  record.bytes = new Uint8Array(Buffer.concat(pieces));
  record.view = new DataView(record.bytes.buffer);
  return Object.assign(record, { rmid: RM_GIST_ID, info, endLsn: END });
}

function leftHalf(): Page {
  const page = newPage();
  gistInitPage(page, F_LEAF | F_FOLLOW_RIGHT);
  setGistNsn(page, 77);
  setPageLsn(page, 100);
  return page;
}

const updateMain = new Uint8Array([0, 0, 1, 0]);
const update = (image?: Page): WalRecord =>
  recordOf(PAGE_UPDATE, updateMain, [
    { id: 0, blkno: 3, data: [tuple(9)] },
    { id: 1, blkno: 9, ...(image === undefined ? {} : { image }) },
  ]);

test('a restored image that is no GiST page is refused when its follow-right flag is to be cleared', () => {
  const image = leftHalf();
  image.view.setUint16(PD_SPECIAL, 0xffff, true);
  const record = recordOf(PAGE_UPDATE, new Uint8Array(4), [
    { id: 0, blkno: 1 },
    { id: 1, blkno: 2, image },
  ]);
  expect(() => redoBlock(pg17, newPage(), record, record.block(1))).toThrow(
    expect.objectContaining({ code: 'wal-redo' }),
  );
});

describe('the left half of a split that is completed', () => {
  test('has its NSN set and follow-right cleared', () => {
    const page = leftHalf();
    const record = update();
    expect(redoBlock(pg17, page, record, record.block(1))).toBe('applied');
    expect([nsn(page), gistFlags(page), pageLsn(page)]).toEqual([END, F_LEAF, END]);
  });

  test('also where the record brings an image of it', () => {
    const page = newPage();
    const record = update(leftHalf());
    expect(redoBlock(pg17, page, record, record.block(1))).toBe('restored');
    expect([nsn(page), gistFlags(page), pageLsn(page)]).toEqual([END, F_LEAF, END]);
  });

  test('while an image of the updated page is taken as it is', () => {
    const page = newPage();
    const record = recordOf(PAGE_UPDATE, updateMain, [{ id: 0, blkno: 3, image: leftHalf() }]);
    redoBlock(pg17, page, record, record.block(0));
    expect([nsn(page), gistFlags(page)]).toEqual([77, F_LEAF | F_FOLLOW_RIGHT]);
  });
});

describe('the pages of a split', () => {
  function split(blknos: readonly number[], leaf: boolean): { record: WalRecord; pages: Page[] } {
    const main = new Uint8Array(24);
    const view = new DataView(main.buffer);
    view.setUint32(0, 555, true);
    view.setUint32(8, 4242, true);
    main[16] = leaf ? 1 : 0;
    view.setUint16(18, blknos.length, true);
    main[20] = 1;
    const record = recordOf(
      PAGE_SPLIT,
      main,
      blknos.map((blkno, i) => ({
        id: i + 1,
        blkno,
        willInit: true,
        data: [new Uint8Array([2, 0, 0, 0]), tuple(10 * i), tuple(10 * i + 1)],
      })),
    );
    const pages = blknos.map((_, i) => {
      const page = newPage();
      redoBlock(pg17, page, record, record.block(i + 1));
      return page;
    });
    return { record, pages };
  }

  test('are chained, the last to where the page led before', () => {
    const { pages } = split([5, 8, 6], true);
    expect(pages.map(rightlink)).toEqual([8, 6, 555]);
    expect(pages.map(nsn)).toEqual([4242, 4242, 4242]);
    expect(pages.map(gistFlags)).toEqual([F_LEAF | F_FOLLOW_RIGHT, F_LEAF | F_FOLLOW_RIGHT, F_LEAF]);
    expect(pages.map(pageGetMaxOffsetNumber)).toEqual([2, 2, 2]);
  });

  test('of the root: the root is no leaf, leads nowhere, and nobody follows right', () => {
    const { pages } = split([0, 1, 2], true);
    expect(pages.map(rightlink)).toEqual([0xffffffff, 2, 555]);
    expect(pages.map(gistFlags)).toEqual([0, F_LEAF, F_LEAF]);
  });

  test('of an inner page are no leaves', () => {
    expect(split([7, 9], false).pages.map(gistFlags)).toEqual([F_FOLLOW_RIGHT, 0]);
  });
});

test('pruned items are found where a major has their offset numbers', () => {
  const page = newPage();
  gistInitPage(page, F_LEAF);
  for (let i = 1; i <= 4; i++) pageAddItem(page, tuple(i), 0, 16, i, false, false);
  setGistFlags(page, F_LEAF | 16);
  // snapshotConflictHorizon, ntodelete, isCatalogRel and a byte of padding, then 1 and 3.
  const main = new Uint8Array([9, 0, 0, 0, 2, 0, 1, 0, 1, 0, 3, 0]);
  const record = recordOf(DELETE, main, [{ id: 0, blkno: 4 }]);
  redoBlock(pg17, page, record, record.block(0));
  expect(pageGetMaxOffsetNumber(page)).toBe(2);
  expect(gistFlags(page)).toBe(F_LEAF);
});
