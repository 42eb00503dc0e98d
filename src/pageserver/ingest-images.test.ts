import { expect, test } from 'vitest';
import { SmallCluster } from '../../integration/pageserver/small-cluster.ts';
import { lsn as asLsn } from '../base/lsn.ts';
import { recordCrc } from '../xlog/crc32c.ts';
import { pg15 } from '../xlog/dialects/15.ts';
import { pg17 } from '../xlog/dialects/17.ts';
import { BLCKSZ, newPage, type Page, pageInit, pageLsn, pageOver } from '../xlog/page.ts';
import { decodeRecord, WalRecord } from '../xlog/record.ts';
import { redoBlock } from '../xlog/redo.ts';
import { type BlockSpec, imageOf, makeRecord, type RecordSpec } from '../xlog/writer.ts';
import { VALUE_IMAGE, VALUE_RECORD, VALUE_RECORD_INIT } from './value.ts';

const REL = { spcOid: 1663, dbOid: 5, relNumber: 16384 };
const RM_HEAP = 10;
const LZ4_LITERALS_MAX = 14;

const pageOf = (
  cluster: SmallCluster,
  blkno: number,
  lsn = cluster.memory.lastRecordLsn,
): Promise<Uint8Array> => cluster.pgdata.getPage({ ...REL, forkNum: 0 }, blkno, lsn);

/** A page with something in it and a hole in the middle. */
function somePage(seed: number): Page {
  const page = newPage();
  pageInit(page, 16);
  page.view.setUint16(12, 200, true);
  page.view.setUint16(14, 7000, true);
  for (let at = 24; at < 200; at++) page.bytes[at] = at * seed;
  for (let at = 7000; at < BLCKSZ; at++) page.bytes[at] = at + seed;
  return page;
}

/** The bytes as one LZ4 block of nothing but literals. */
function lz4(bytes: Uint8Array): Uint8Array {
  const out: number[] = [0xf0];
  let left = bytes.length - LZ4_LITERALS_MAX - 1;
  for (; left >= 255; left -= 255) out.push(255);
  out.push(left);
  return new Uint8Array([...out, ...bytes]);
}

const block = (id: number, blkno: number, more: Partial<BlockSpec>): BlockSpec => ({
  id,
  ...REL,
  blkno,
  ...more,
});

test('uncompressed images are stored as pages, stamped with the end of their record', async () => {
  const bench = await SmallCluster.make(pg17);
  const pages = [somePage(3), somePage(5)];
  const blocks = pages.map((page, i) => block(i, i, { image: imageOf(page.bytes, true), sameRel: i > 0 }));
  await bench.take({ rmid: 0, info: 0xb0, blocks }, 0x100);
  expect(bench.memory.counts.get(VALUE_IMAGE)).toBe(2);
  expect(bench.memory.counts.has(VALUE_RECORD_INIT)).toBe(false);
  for (const [i, page] of pages.entries()) {
    const stored = pageOver(await pageOf(bench, i));
    expect(pageLsn(stored)).toBe(0x100);
    expect(stored.bytes.subarray(8)).toEqual(page.bytes.subarray(8));
  }
});

test('compressed images are stored one by one, as records that redo reads', async () => {
  for (const dialect of [pg15, pg17]) {
    const bench = await SmallCluster.make(dialect);
    const pages = [somePage(7), somePage(9), somePage(11)];
    const blocks = pages.map((page, i) => {
      const image = imageOf(page.bytes, true);
      const packed = { ...image, bytes: lz4(image.bytes), compression: 'lz4' as const };
      return block(i, i, { image: packed, sameRel: i > 0 });
    });
    const { totalLength } = await bench.take({ rmid: 0, info: 0xb0, blocks }, 0x100);
    expect(bench.memory.counts.get(VALUE_RECORD_INIT)).toBe(3);
    for (const [i, page] of pages.entries()) {
      const stored = pageOver(await pageOf(bench, i));
      expect(pageLsn(stored)).toBe(0x100);
      expect(stored.bytes.subarray(8)).toEqual(page.bytes.subarray(8));
    }
    // A key carries its own image and not the others'.
    const { lengths } = values(bench, 0);
    expect(lengths[0]).toBeLessThan(totalLength / 2);
  }
});

test('pages of zeros cost nothing where nothing was before, and are written where something was', async () => {
  const bench = await SmallCluster.make(pg17);
  // As Neon's builds write it: no bytes, all of it hole.
  const zero = { bytes: new Uint8Array(0), holeOffset: 0, holeLength: BLCKSZ, apply: true };
  const blocks = [0, 1, 2, 3].map(i => block(i, i, { image: zero, sameRel: i > 0 }));
  await bench.take({ rmid: 0, info: 0xb0, blocks }, 0x100);
  expect(bench.memory.counts.has(VALUE_IMAGE)).toBe(false);
  expect(await bench.pgdata.relSize({ ...REL, forkNum: 0 }, 0x100)).toBe(4);
  await bench.take(
    { rmid: 0, info: 0xb0, blocks: [block(0, 2, { image: imageOf(somePage(2).bytes, true) })] },
    0x200,
  );
  await bench.take({ rmid: 0, info: 0xb0, blocks: [block(0, 2, { image: zero })] }, 0x300);
  expect((await pageOf(bench, 2, 0x200)).some(byte => byte !== 0)).toBe(true);
  expect((await pageOf(bench, 2, 0x300)).every(byte => byte === 0)).toBe(true);
});

test('an image for a hint that was not taken changes nothing', async () => {
  const bench = await SmallCluster.make(pg17);
  await bench.take(
    { rmid: 0, info: 0xb0, blocks: [block(0, 0, { image: imageOf(somePage(2).bytes, true) })] },
    0x100,
  );
  bench.memory.counts.clear();
  await bench.take({ rmid: 0, info: 0xa0, blocks: [block(0, 0, {})] }, 0x200);
  expect(bench.memory.counts.size).toBe(0);
});

test('images for checking are cut out; data, main data and images to apply stay', async () => {
  const bench = await SmallCluster.make(pg17);
  const main = Uint8Array.from({ length: 300 }, (_, i) => i);
  const spec: RecordSpec = {
    rmid: RM_HEAP,
    info: 0x20,
    xid: 77,
    origin: 3,
    toplevelXid: 70,
    main,
    blocks: [
      block(0, 1, { image: imageOf(somePage(2).bytes, false), data: new Uint8Array([1, 2, 3]) }),
      block(1, 2, { image: imageOf(somePage(3).bytes, true), data: new Uint8Array([4, 5]), sameRel: true }),
      block(4, 3, { image: imageOf(somePage(4).bytes, false), willInit: true, sameRel: true }),
      { ...block(5, 9, { data: new Uint8Array([6]) }), relNumber: 16385 },
    ],
  };
  const whole = makeRecord(spec, pg17);
  await bench.take(spec, 0x100);
  const { bytes, kinds } = values(bench, 1);
  expect(kinds).toEqual([VALUE_RECORD]);
  expect(values(bench, 2).kinds).toEqual([VALUE_RECORD_INIT]);
  expect(values(bench, 3).kinds).toEqual([VALUE_RECORD_INIT]);
  const stored = bytes[0]!;
  expect(stored.length).toBeLessThan(whole.length - 2000);
  const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
  expect(view.getUint32(20, true)).toBe(recordCrc(stored, view, 0, stored.length));
  const record = decodeRecord(new WalRecord(), stored, view, 0, asLsn(0xf8), asLsn(0x100), pg17.imageBits);
  expect(record).toMatchObject({
    rmid: RM_HEAP,
    info: 0x20,
    xid: 77,
    origin: 3,
    toplevelXid: 70,
    mainLength: 300,
  });
  expect(stored.subarray(record.mainOffset)).toEqual(main);
  const dataOf = (id: number): number[] => {
    const { dataOffset, dataLength } = record.block(id);
    return [...stored.subarray(dataOffset, dataOffset + dataLength)];
  };
  expect([0, 1, 4, 5].map(dataOf)).toEqual([[1, 2, 3], [4, 5], [], [6]]);
  expect([0, 1, 4, 5].map(id => record.block(id).hasImage)).toEqual([false, true, false, false]);
  expect([0, 1, 4, 5].map(id => record.block(id).blkno)).toEqual([1, 2, 3, 9]);
  expect(record.block(4)).toMatchObject({ willInit: true, relNumber: 16384 });
  expect(record.block(5).relNumber).toBe(16385);
  const page = newPage();
  redoBlock(pg17, page, record, record.block(1));
  expect(page.bytes.subarray(8)).toEqual(somePage(3).bytes.subarray(8));
});

/** What is stored under a block, oldest first. */
function values(
  bench: SmallCluster,
  blkno: number,
): { kinds: number[]; lengths: number[]; bytes: Uint8Array[] } {
  const fork = bench.pgdata.directory.find(REL.spcOid, REL.dbOid, REL.relNumber, 0)!;
  const list = bench.memory.list(fork.id, blkno);
  return {
    kinds: list.map(v => v.kind),
    lengths: list.map(v => v.bytes.length),
    bytes: list.map(v => v.bytes),
  };
}
