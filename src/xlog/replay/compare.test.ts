// Clusters compared: what counts as a difference, and what is left out because no log promises it.

import { describe, expect, test } from 'vitest';
import { relPath } from '../../base/rel.ts';
import { pg17 } from '../dialects/17.ts';
import { BLCKSZ, newPage, type Page, pageInit, setPageLsn } from '../page.ts';
import { pageAddItem } from '../page-items.ts';
import { setMultiXactOffset } from '../slru-multixact.ts';
import { Cluster } from './cluster.ts';
import { ClusterComparison, type Comparison, describeDifference } from './compare.ts';

const NEXT_MULTI = 700;
const FSM = 1;
const VM = 2;
const INIT = 3;

/** A heap page with one tuple of this byte. */
function heapPage(byte: number): Page {
  const page = newPage();
  pageInit(page, 0);
  const tuple = new Uint8Array(64).fill(byte);
  tuple.fill(0, 0, 23);
  pageAddItem(page, tuple, 0, tuple.length, 1, false, true);
  return page;
}

function clusterOf(pages: readonly [forkNum: number, blkno: number, page: Page][]): Cluster {
  const cluster = new Cluster();
  for (const [forkNum, blkno, page] of pages) {
    cluster.findOrCreate(1663, 5, 16384, forkNum).extendTo(blkno).bytes.set(page.bytes);
  }
  return cluster;
}

const compare = (ours: Cluster, theirs: Cluster): Comparison =>
  new ClusterComparison(pg17, ours, theirs).run(NEXT_MULTI);

const zeros = newPage();
const path = relPath({ spcOid: 1663, dbOid: 5, relNumber: 16384, forkNum: 0 });

describe('pages', () => {
  test('the same are the same', () => {
    const pages: [number, number, Page][] = [[0, 0, heapPage(1)]];
    expect(compare(clusterOf(pages), clusterOf(pages))).toMatchObject({
      compared: 1,
      mismatched: 0,
    });
  });

  test('another tuple is a difference, with both sides', () => {
    const result = compare(clusterOf([[0, 0, heapPage(1)]]), clusterOf([[0, 0, heapPage(2)]]));
    expect(result).toMatchObject({ compared: 1, mismatched: 1 });
    const [difference] = result.differences;
    expect(difference).toMatchObject({ path, blkno: 0, what: 'page differs' });
    expect(describeDifference(difference!.ours!, difference!.theirs!)[0]).toMatch(/^byte 81\d\d: 01 01/);
  });

  test('another LSN, checksum or hint is none: the mask of the page’s manager hides them', () => {
    const [ours, theirs] = [heapPage(1), heapPage(1)];
    setPageLsn(theirs, 0x1234);
    theirs.view.setUint16(8, 77, true);
    theirs.view.setUint16(8192 - 64 + 20, 0x0100, true);
    expect(compare(clusterOf([[0, 0, ours]]), clusterOf([[0, 0, theirs]]))).toMatchObject({ mismatched: 0 });
  });

  test('a page that one side lacks is one of zeros', () => {
    expect(compare(clusterOf([]), clusterOf([[0, 2, zeros]]))).toMatchObject({ compared: 3, mismatched: 0 });
    expect(compare(clusterOf([[0, 2, zeros]]), clusterOf([]))).toMatchObject({ compared: 3, mismatched: 0 });
    expect(compare(clusterOf([]), clusterOf([[0, 2, heapPage(1)]]))).toMatchObject({ mismatched: 1 });
    expect(compare(clusterOf([[0, 2, heapPage(1)]]), clusterOf([]))).toMatchObject({ mismatched: 1 });
  });

  test('a page that is none of any manager is a difference, not an error', () => {
    const broken = heapPage(1);
    broken.view.setUint16(12, 9000, true);
    expect(compare(clusterOf([[0, 0, broken]]), clusterOf([[0, 0, heapPage(1)]]))).toMatchObject({
      mismatched: 1,
    });
  });
});

describe('what the log does not promise', () => {
  test('free space maps and unlogged relations are left out, their init forks are not', () => {
    const unlogged = (byte: number): Cluster =>
      clusterOf([
        [0, 0, heapPage(byte)],
        [INIT, 0, heapPage(9)],
        [FSM, 0, heapPage(byte)],
      ]);
    expect(compare(unlogged(1), unlogged(2))).toEqual({
      compared: 1,
      mismatched: 0,
      leftOut: 2,
      differences: [],
    });
  });

  test('a visibility map may claim less than the original, never more', () => {
    const map = (byte: number): Page => {
      const page = newPage();
      pageInit(page, 0);
      page.bytes[100] = byte;
      return page;
    };
    expect(compare(clusterOf([[VM, 0, map(1)]]), clusterOf([[VM, 0, map(3)]])).mismatched).toBe(0);
    expect(compare(clusterOf([[VM, 0, map(3)]]), clusterOf([[VM, 0, map(1)]])).mismatched).toBe(1);
  });

  test('the offset of the multixact to come', () => {
    const offsets = (multi: number): Cluster => {
      const cluster = new Cluster();
      setMultiXactOffset(cluster.slruPage(2, 0), multi, 55);
      return cluster;
    };
    expect(compare(offsets(NEXT_MULTI), new Cluster()).mismatched).toBe(0);
    expect(compare(offsets(NEXT_MULTI - 1), new Cluster()).mismatched).toBe(1);
  });
});

describe('files beside the relations', () => {
  test('SLRU pages, relation maps and two-phase states must be the same, and be there on both sides', () => {
    const ours = new Cluster();
    const theirs = new Cluster();
    ours.slruPage(0, 3).bytes[5] = 1;
    theirs.relmaps.set('global', new Uint8Array(512));
    ours.relmaps.set('base/5', new Uint8Array(512));
    theirs.relmaps.set('base/5', new Uint8Array(512).fill(1));
    ours.twophase.set(0x2f1, new Uint8Array(8));
    const { differences, mismatched } = compare(ours, theirs);
    expect(mismatched).toBe(4);
    expect(differences.map(({ path, what }) => `${path}: ${what}`).sort()).toEqual([
      'base/5/pg_filenode.map: contents differ',
      'global/pg_filenode.map: not made by replay',
      'pg_twophase/2f1: made by replay alone',
      'pg_xact: page differs',
    ]);
  });
});

test('differences in many places are told in part', () => {
  const a = new Uint8Array(BLCKSZ);
  const b = a.map((_, i) => (i % 100 < 3 ? 1 : 0));
  const lines = describeDifference(a, b, 3);
  expect(lines).toEqual([
    'byte 0: 00 00 00 | 01 01 01',
    'byte 100: 00 00 00 | 01 01 01',
    'byte 200: 00 00 00 | 01 01 01',
    '...',
  ]);
});
