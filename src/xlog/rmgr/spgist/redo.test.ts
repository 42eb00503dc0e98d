// SP-GiST where two roles of an operation fall on one page, which real logs seldom show, and the dead tuples that
// a deletion in any order leaves.

import { describe, expect, test } from 'vitest';
import { readTidBlock } from '../../index-tuple.ts';
import { newPage, type Page } from '../../page.ts';
import { pageAddItem, pageGetItemOffset, pageGetMaxOffsetNumber } from '../../page-items.ts';
import { WalRecord } from '../../record.ts';
import { redoOf } from '../../rmgr.ts';
import {
  addDeadTuple,
  deleteTuples,
  SPGIST_DEAD,
  SPGIST_LEAF,
  SPGIST_PLACEHOLDER,
  SPGIST_REDIRECT,
  spgInitPage,
  tupleState,
  updateNodeLink,
} from './page.ts';
import { spgist14, spgist17, XLOG_SPGIST_ADD_NODE, XLOG_SPGIST_VACUUM_REDIRECT } from './rows.ts';

const OLD = 11;
const NEW = 12;

/** An inner tuple of `nodes` nodes with 8 bytes of prefix. */
function inner(nodes: number): Uint8Array {
  const bytes = new Uint8Array(16 + 8 * nodes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, ((8 << 16) | (nodes << 3)) >>> 0, true);
  view.setUint16(4, bytes.length, true);
  for (let i = 0; i < nodes; i++) view.setUint16(16 + 8 * i + 6, 8, true);
  return bytes;
}

function innerPage(...tuples: Uint8Array[]): Page {
  const page = newPage();
  spgInitPage(page, 0);
  for (const [i, bytes] of tuples.entries()) pageAddItem(page, bytes, 0, bytes.length, i + 1, false, false);
  return page;
}

/** Downlink of a node: block and offset number. */
function link(page: Page, offnum: number, node: number): [number, number] {
  const at = pageGetItemOffset(page, offnum) + 16 + 8 * node;
  return [readTidBlock(page.view, at), page.view.getUint16(at + 4, true)];
}

const counts = (page: Page): number[] => [page.view.getUint16(8186, true), page.view.getUint16(8188, true)];
const states = (page: Page): number[] =>
  Array.from({ length: pageGetMaxOffsetNumber(page) }, (_, i) =>
    tupleState(page, pageGetItemOffset(page, i + 1)),
  );

function recordOf(main: Uint8Array, blknos: readonly number[]): WalRecord {
  const record = new WalRecord();
  Object.assign(record, { bytes: main, view: new DataView(main.buffer), mainLength: main.length });
  for (const [id, blkno] of blknos.entries()) {
    Object.assign(record.blocks[id]!, { inUse: true, blkno });
    record.maxBlockId = id;
  }
  return record;
}

/** The tuple at 1 of the old page grows into one at 2 of the new; the parent is at 2 of its page, its node 1. */
function addNode(parentBlk: number, blknos: readonly number[]): WalRecord {
  const main = new Uint8Array(20 + 40);
  const view = new DataView(main.buffer);
  view.setUint16(0, 1, true);
  view.setUint16(2, 2, true);
  view.setInt8(5, parentBlk);
  view.setUint16(6, parentBlk === 1 ? 1 : 2, true);
  view.setUint16(8, 1, true);
  view.setUint32(12, 4711, true);
  main.set(inner(3), 20);
  return recordOf(main, blknos);
}

function run(record: WalRecord, blockId: number, page: Page): void {
  redoOf(spgist17.ops[XLOG_SPGIST_ADD_NODE]!, blockId)!(page, record, record.block(blockId));
}

describe('ADD_NODE', () => {
  test('the parent is on the old page', () => {
    const record = addNode(0, [OLD, NEW]);
    const old = innerPage(inner(2), inner(2));
    const moved = innerPage(inner(2));
    run(record, 0, old);
    run(record, 1, moved);
    expect(states(old)).toEqual([SPGIST_REDIRECT, 0]);
    expect(link(old, 2, 1)).toEqual([NEW, 2]);
    const redirect = pageGetItemOffset(old, 1);
    expect(readTidBlock(old.view, redirect + 6)).toBe(NEW);
    expect(old.view.getUint32(redirect + 12, true)).toBe(4711);
    expect(counts(old)).toEqual([1, 0]);
    expect(link(moved, 1, 1)).toEqual([0, 0]);
    expect(pageGetMaxOffsetNumber(moved)).toBe(2);
  });

  test('the parent is on the new page', () => {
    const record = addNode(1, [OLD, NEW]);
    const old = innerPage(inner(2), inner(2));
    const moved = innerPage(inner(2));
    run(record, 0, old);
    run(record, 1, moved);
    expect(link(moved, 1, 1)).toEqual([NEW, 2]);
    expect(link(old, 2, 1)).toEqual([0, 0]);
  });

  test('the parent is on a page of its own', () => {
    const record = addNode(2, [OLD, NEW, 13]);
    const parent = innerPage(inner(2), inner(2));
    run(record, 2, parent);
    expect(link(parent, 2, 1)).toEqual([NEW, 2]);
    expect(link(parent, 2, 0)).toEqual([0, 0]);
  });

  test('in place there is no second block', () => {
    const page = innerPage(inner(2), inner(2));
    run(addNode(-1, [OLD]), 0, page);
    expect(states(page)).toEqual([0, 0]);
    expect((page.view.getUint32(pageGetItemOffset(page, 1), true) >>> 3) & 0x1fff).toBe(3);
  });

  test('in an index that is being built the old tuple leaves a placeholder', () => {
    const record = addNode(0, [OLD, NEW]);
    record.bytes[16] = 1;
    const old = innerPage(inner(2), inner(2));
    run(record, 0, old);
    expect(states(old)).toEqual([SPGIST_PLACEHOLDER, 0]);
    expect(counts(old)).toEqual([0, 1]);
  });
});

describe('dead tuples', () => {
  function leafPage(count: number): Page {
    const page = newPage();
    spgInitPage(page, SPGIST_LEAF);
    for (let offnum = 1; offnum <= count; offnum++) addDeadTuple(page, offnum, SPGIST_DEAD, 0, 0, 0);
    return page;
  }

  test('the first listed gets the first state, wherever it lies on the page', () => {
    const page = leafPage(6);
    const listed = new DataView(new Uint8Array([5, 0, 2, 0, 4, 0]).buffer);
    deleteTuples(page, listed, 0, 3, SPGIST_REDIRECT, SPGIST_PLACEHOLDER, 99, 42, 7);
    expect(states(page)).toEqual([
      SPGIST_DEAD,
      SPGIST_PLACEHOLDER,
      SPGIST_DEAD,
      SPGIST_PLACEHOLDER,
      SPGIST_REDIRECT,
      SPGIST_DEAD,
    ]);
    expect(counts(page)).toEqual([1, 2]);
    expect(readTidBlock(page.view, pageGetItemOffset(page, 5) + 6)).toBe(42);
    expect(readTidBlock(page.view, pageGetItemOffset(page, 2) + 6)).toBe(0xffffffff);
  });

  test('one that is not on the page is refused, and the next call starts clean', () => {
    const listed = new DataView(new Uint8Array([1, 0, 9, 0]).buffer);
    expect(() => deleteTuples(leafPage(3), listed, 0, 2, SPGIST_DEAD, SPGIST_DEAD, 0, 0, 0)).toThrow(
      RangeError,
    );
    const page = leafPage(3);
    deleteTuples(
      page,
      new DataView(new Uint8Array([3, 0]).buffer),
      0,
      1,
      SPGIST_PLACEHOLDER,
      SPGIST_DEAD,
      0,
      0,
      0,
    );
    expect(states(page)).toEqual([SPGIST_DEAD, SPGIST_DEAD, SPGIST_PLACEHOLDER]);
  });

  test.each([
    ['14', spgist14, 8],
    ['17', spgist17, 10],
  ])('redirects turn into placeholders, those at the end go: as %s logs it', (_major, rmgr, offsets) => {
    const page = leafPage(2);
    for (const offnum of [3, 4, 5]) addDeadTuple(page, offnum, SPGIST_REDIRECT, 7, 8, 9);
    // Redirects 3 and 4 and 5 become placeholders; from 4 on they are removed.
    const main = new Uint8Array(offsets + 6);
    main[0] = 3;
    main[2] = 4;
    main.set([3, 0, 4, 0, 5, 0], offsets);
    const record = recordOf(main, [OLD]);
    redoOf(rmgr.ops[XLOG_SPGIST_VACUUM_REDIRECT]!, 0)!(page, record, record.block(0));
    expect(states(page)).toEqual([SPGIST_DEAD, SPGIST_DEAD, SPGIST_PLACEHOLDER]);
    expect(counts(page)).toEqual([0, 1]);
  });
});

test('a node that is not there is refused', () => {
  expect(() => updateNodeLink(innerPage(inner(2)), 1, 2, 1, 1)).toThrow('no node 2');
});
