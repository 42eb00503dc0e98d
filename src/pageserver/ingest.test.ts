import { describe, expect, test } from 'vitest';
import { SMALL_CHECKPOINT, SmallCluster } from '../../integration/pageserver/small-cluster.ts';
import { Builder } from '../base/bytes.ts';
import type { Lsn } from '../base/lsn.ts';
import { checkpointBytes } from '../xlog/checkpoint.ts';
import { VM_HEAPBLOCKS_PER_PAGE, vmStatus } from '../xlog/derived.ts';
import { pg17 } from '../xlog/dialects/17.ts';
import { newPage, pageInit, pageOver } from '../xlog/page.ts';
import { imageOf, type RecordSpec } from '../xlog/writer.ts';
import { Ingest } from './ingest.ts';
import { PgData } from './pgdata.ts';
import { VALUE_BYTES, VALUE_EDIT, VALUE_IMAGE } from './value.ts';

const REL = { spcOid: 1663, dbOid: 5, relNumber: 16384 };
const VM = { ...REL, forkNum: 2 };
const START = 0x1500_0000;

const checkpoint = (info: number, fullPageWrites: boolean, redo = START): RecordSpec => ({
  rmid: 0,
  info,
  main: checkpointBytes(pg17.controlFile, { ...SMALL_CHECKPOINT, fullPageWrites, redo: redo as Lsn }),
});
const noop = (xid = 0): RecordSpec => ({ rmid: 0, info: 0x20, xid, main: new Uint8Array(8) });
const commit = (xid: number): RecordSpec => ({
  rmid: 1,
  info: 0x00,
  xid,
  main: new Builder().u64le(BigInt(xid)).finish(),
});

/** A visibility map page with every bit set. */
function fullMap(blkno: number): RecordSpec {
  const page = newPage();
  pageInit(page, 0);
  page.bytes.fill(0xff, 24);
  page.view.setUint16(12, 8192, true);
  page.view.setUint16(14, 8192, true);
  return {
    rmid: 0,
    info: 0xb0,
    blocks: [{ id: 0, ...REL, forkNum: 2, blkno, image: imageOf(page.bytes, true) }],
  };
}

test('the record before the newest is where the newest begins, whatever each of them did', async () => {
  const cluster = await SmallCluster.make(pg17);
  const { ingest, memory } = cluster;
  await cluster.take(noop(), START);
  await cluster.take(noop(), START + 40);
  expect([memory.lastRecordLsn, memory.prevRecordLsn]).toEqual([START + 40, START]);
  await cluster.take(commit(1000), START + 80);
  expect([memory.lastRecordLsn, memory.prevRecordLsn]).toEqual([START + 80, START + 40]);
  expect(ingest.lastRecordLsn).toBe(START + 80);
  await expect(cluster.take(noop(), START + 80)).rejects.toThrow('in the order of the log');
});

test('the checkpoint is stored when it changed, not with every transaction', async () => {
  const cluster = await SmallCluster.make(pg17);
  const { pgdata } = cluster;
  for (let i = 0; i < 3000; i++) await cluster.take(noop(1000 + i), START + i * 40);
  expect(cluster.memory.counts.get(VALUE_BYTES)).toBeLessThan(5);
  const at = async (i: number): Promise<number> => (await pgdata.checkpoint(START + i * 40)).nextXid;
  for (const i of [0, 23, 24, 1500, 2999]) {
    expect(await at(i)).toBeGreaterThan(1000 + i);
    expect(await at(i)).toBeLessThanOrEqual(1000 + i + 1024);
  }
});

test('a commit costs an edit and a time, and once a page of pg_xact', async () => {
  const cluster = await SmallCluster.make(pg17);
  await cluster.take(commit(1000), START);
  cluster.memory.counts.clear();
  const before = cluster.memory.bytes;
  for (let i = 1; i <= 20; i++) await cluster.take(commit(1000 + i), START + i * 40);
  expect(Object.fromEntries(cluster.memory.counts)).toEqual({ [VALUE_EDIT]: 20, [VALUE_BYTES]: 20 });
  expect(cluster.memory.bytes - before).toBe(20 * (4 + 12));
});

describe('full-page writes', () => {
  test('the mode goes by checkpoints and by changes, each at its LSN', async () => {
    const cluster = await SmallCluster.make(pg17);
    const { memory } = cluster;
    const mode = (): unknown => memory.fullPageWrites && { ...memory.fullPageWrites };
    await cluster.take(checkpoint(0x10, true), START);
    expect(mode()).toEqual({ on: true, lsn: START });
    await cluster.take(checkpoint(0x00, true), START + 200);
    expect(mode()).toEqual({ on: true, lsn: START });
    await cluster.take({ rmid: 0, info: 0x80, main: Uint8Array.of(0) }, START + 400);
    expect(mode()).toEqual({ on: false, lsn: START + 400 });
    // One that began before the change and ended after it tells what was before.
    await cluster.take(checkpoint(0x10, true, START + 300), START + 500);
    await cluster.take(checkpoint(0x10, false, START + 560), START + 600);
    expect(mode()).toEqual({ on: false, lsn: START + 400 });
    // A base backup tells it, too.
    expect((await cluster.pgdata.checkpoint(START + 600)).fullPageWrites).toBe(false);
    // A server that starts anew tells its timeline again.
    memory.fullPageWrites = undefined;
    await new Ingest(new PgData(memory.timeline, pg17)).load();
    expect(mode()).toEqual({ on: false, lsn: START + 400 });
  });
});

describe('visibility bits', () => {
  const update = (oldBlk: number, newBlk: number): RecordSpec => {
    const main = new Uint8Array(14);
    main[7] = 0x03;
    const blocks = [
      { id: 0, ...REL, blkno: newBlk, willInit: true, data: new Uint8Array(30) },
      { id: 1, ...REL, blkno: oldBlk },
    ];
    return { rmid: 10, info: 0x20, xid: 1000, main, blocks };
  };

  test('of two heap blocks go with one edit if one map page has both, with two if not', async () => {
    const cluster = await SmallCluster.make(pg17);
    const { pgdata, memory } = cluster;
    await cluster.take(fullMap(0), START);
    await cluster.take(fullMap(1), START + 40);
    memory.counts.clear();
    await cluster.take(update(5, 9), START + 80);
    expect(memory.counts.get(VALUE_EDIT)).toBe(1);
    const far = VM_HEAPBLOCKS_PER_PAGE + 7;
    await cluster.take(update(6, far), START + 120);
    expect(memory.counts.get(VALUE_EDIT)).toBe(3);
    const [first, second] = await Promise.all([0, 1].map(blk => pgdata.getPage(VM, blk, START + 120)));
    const status = [4, 5, 6, 9].map(blk => vmStatus(pageOver(first!), blk));
    expect(status).toEqual([3, 0, 0, 0]);
    expect(vmStatus(pageOver(second!), far)).toBe(0);
    expect(vmStatus(pageOver(second!), far + 1)).toBe(3);
    const before = pageOver(await pgdata.getPage(VM, 0, START + 40));
    expect(vmStatus(before, 5)).toBe(3);
  });

  test('are no matter where there is no map, or none so long', async () => {
    const cluster = await SmallCluster.make(pg17);
    await cluster.take(update(5, 9), START);
    expect(cluster.memory.counts.has(VALUE_EDIT)).toBe(false);
    await cluster.take(fullMap(0), START + 40);
    await cluster.take(update(VM_HEAPBLOCKS_PER_PAGE + 1, VM_HEAPBLOCKS_PER_PAGE + 2), START + 80);
    expect(cluster.memory.counts.has(VALUE_EDIT)).toBe(false);
    expect(await cluster.pgdata.relSize(VM, START + 80)).toBe(1);
  });

  test('of a map page that was cut off and comes again begin at none', async () => {
    const cluster = await SmallCluster.make(pg17);
    await cluster.take(fullMap(0), START);
    const main = new Builder().u32le(0).u32le(1663).u32le(5).u32le(16384).u32le(7).finish();
    await cluster.take({ rmid: 2, info: 0x20, main }, START + 40);
    expect(await cluster.pgdata.relSize(VM, START + 40)).toBe(0);
    // VISIBLE names the map's page without making it anew.
    const visible: RecordSpec = {
      rmid: 9,
      info: 0x40,
      main: new Builder().u32le(7).u8(3).finish(),
      blocks: [
        { id: 0, ...REL, forkNum: 2, blkno: 0 },
        { id: 1, ...REL, blkno: 2 },
      ],
    };
    await cluster.take(visible, START + 80);
    const page = pageOver(await cluster.pgdata.getPage(VM, 0, START + 80));
    expect([1, 2, 3].map(blk => vmStatus(page, blk))).toEqual([0, 3, 0]);
  });
});

test('blocks that were skipped read as zeros, old values or not, and cost nothing where there were none', async () => {
  const cluster = await SmallCluster.make(pg17);
  const { pgdata, memory } = cluster;
  const main = { ...REL, forkNum: 0 };
  const image = (blkno: number): RecordSpec => {
    const page = newPage();
    page.bytes.fill(7);
    return { rmid: 0, info: 0xb0, blocks: [{ id: 0, ...REL, blkno, image: imageOf(page.bytes, true) }] };
  };
  await cluster.take(image(1000), START);
  expect(memory.counts.get(VALUE_IMAGE)).toBe(1);
  for (const blk of [5, 6, 7]) await cluster.take(image(blk), START + blk * 40);
  const cut = new Builder().u32le(2).u32le(1663).u32le(5).u32le(16384).u32le(1).finish();
  await cluster.take({ rmid: 2, info: 0x20, main: cut }, START + 400);
  memory.counts.clear();
  await cluster.take(image(6), START + 440);
  // Blocks 2 to 5, for they may have old values, and the page itself.
  expect(memory.counts.get(VALUE_IMAGE)).toBe(5);
  const bytes = await Promise.all(
    [4, 5, 6, 7].map(async blk => (await pgdata.getPage(main, blk, START + 440))[100]),
  );
  expect(bytes).toEqual([0, 0, 7, 0]);
  expect((await pgdata.getPage(main, 5, START + 399))[100]).toBe(7);
});

test('a record of an unknown manager is kept, and counted', async () => {
  const cluster = await SmallCluster.make(pg17);
  await cluster.take(
    { rmid: 200, info: 0x10, blocks: [{ id: 0, ...REL, blkno: 0, data: new Uint8Array(4) }] },
    START,
  );
  expect(cluster.ingest.unknownRecords).toBe(1);
  expect(cluster.ingest.unknownRmid).toBe(200);
  expect(await cluster.pgdata.relSize({ ...REL, forkNum: 0 }, START)).toBe(1);
});
