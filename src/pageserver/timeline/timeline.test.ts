import { expect, test } from 'vitest';
import { simEngine } from '../../../integration/sim/engine.ts';
import { timelineId } from '../../base/ids.ts';
import { pg17 } from '../../xlog/dialects/17.ts';
import { BLCKSZ } from '../../xlog/page.ts';
import { ALL_KEYS, BLK_SIZE } from '../key.ts';
import { VALUE_BYTES, VALUE_EDIT, VALUE_IMAGE } from '../value.ts';
import { Timeline, type TimelineOptions } from './timeline.ts';

/** An edit here is one byte: it is added to the page's first. */
const redo = {
  dialect: pg17,
  applyEdit: (page: { bytes: Uint8Array }, bytes: Uint8Array, offset: number) => {
    page.bytes[0]! += bytes[offset]!;
  },
};
const REL = 1024;
const id = timelineId('00'.repeat(16));

const make = (options: Partial<TimelineOptions> = {}): Timeline =>
  new Timeline({ id, engine: simEngine(), redo, lastRecordLsn: 100, prevRecordLsn: 0, ...options });

function image(timeline: Timeline, blk: number, lsn: number, byte: number): void {
  timeline.writer().put(REL, blk, lsn, VALUE_IMAGE, 0, new Uint8Array(BLCKSZ).fill(byte), 0, BLCKSZ);
}
function edit(timeline: Timeline, blk: number, lsn: number, add: number): void {
  timeline.writer().put(REL, blk, lsn, VALUE_EDIT, 0, Uint8Array.of(add), 0, 1);
}
const first = async (timeline: Timeline, blk: number, lsn: number): Promise<number> =>
  (await timeline.getPage(REL, blk, lsn))[0]!;

test('a page at each LSN is its image and the edits up to there; a page never written is zeros', async () => {
  const timeline = make();
  image(timeline, 0, 110, 10);
  edit(timeline, 0, 120, 1);
  edit(timeline, 0, 120, 2);
  edit(timeline, 0, 130, 4);
  timeline.writer().advance(130, 125);
  expect(await Promise.all([109, 110, 119, 120, 129, 130].map(lsn => first(timeline, 0, lsn)))).toEqual([
    0, 10, 10, 13, 13, 17,
  ]);
  expect(await timeline.getPage(REL, 1, 130)).toEqual(new Uint8Array(BLCKSZ));
  expect(timeline.prevRecordLsn).toBe(125);
});

test('nothing is read before the advance over it, but by the writer', async () => {
  const timeline = make();
  image(timeline, 0, 110, 10);
  await expect(timeline.getPage(REL, 0, 110)).rejects.toThrow(/above the last record/);
  expect((await timeline.writer().getPage(REL, 0, 110))[0]).toBe(10);
  expect(() => timeline.writer().advance(105, 100)).toThrow(/leaves a value/);
  timeline.writer().advance(110, 100);
  expect(() => image(timeline, 0, 110, 11)).toThrow(/at or below/);
});

test('a branch reads its parent up to the branch point and no further', async () => {
  const parent = make();
  image(parent, 0, 110, 10);
  edit(parent, 0, 120, 1);
  image(parent, 1, 120, 7);
  parent.writer().advance(120, 110);
  const child = make({ ancestor: { timeline: parent, lsn: 115 }, lastRecordLsn: 115, prevRecordLsn: 110 });
  edit(child, 0, 130, 100);
  child.writer().advance(130, 115);
  expect(await first(child, 0, 130)).toBe(110);
  expect(await first(child, 0, 115)).toBe(10);
  expect(await first(child, 1, 130)).toBe(0);
  expect(await first(parent, 0, 120)).toBe(11);
});

test('bytes and scans give the newest contents of each key', async () => {
  const parent = make();
  const put = (timeline: Timeline, blk: number, lsn: number, byte: number): void =>
    timeline.writer().put(1, blk, lsn, VALUE_BYTES, 0, Uint8Array.of(byte), 0, 1);
  put(parent, 5, 110, 1);
  put(parent, BLK_SIZE, 110, 2);
  put(parent, 5, 112, 3);
  parent.writer().advance(112, 110);
  const child = make({ ancestor: { timeline: parent, lsn: 111 }, lastRecordLsn: 111, prevRecordLsn: 110 });
  put(child, 6, 120, 9);
  image(child, 3, 120, 4);
  edit(child, 3, 121, 1);
  child.writer().advance(121, 120);
  expect(await child.getBytes(1, 5, 121)).toEqual(Uint8Array.of(1));
  expect(await child.getBytes(1, 7, 121)).toBeUndefined();
  const seen: [number, number, number, number][] = [];
  await child.scan(ALL_KEYS, 121, (rel, blk, bytes) => seen.push([rel, blk, bytes.length, bytes[0]!]));
  expect(seen).toEqual([
    [1, 5, 1, 1],
    [1, 6, 1, 9],
    [1, BLK_SIZE, 1, 2],
    [REL, 3, BLCKSZ, 5],
  ]);
});

test('who waits for an LSN is woken in order of need, times out, or is called off', async () => {
  const timeline = make();
  const woken: number[] = [];
  const waits = [140, 120, 130].map(lsn => timeline.waitFor(lsn, 10_000).then(() => woken.push(lsn)));
  const called = new AbortController();
  const off = timeline.waitFor(120, 10_000, called.signal);
  called.abort(new Error('called off'));
  await expect(off).rejects.toThrow('called off');
  timeline.writer().advance(130, 120);
  await Promise.resolve();
  await Promise.resolve();
  expect(woken).toEqual([120, 130]);
  timeline.writer().advance(150, 130);
  await Promise.all(waits);
  await timeline.waitFor(150, 0);
  timeline.fail(new Error('broken'));
  await expect(timeline.waitFor(160, 10)).rejects.toThrow(/broken/);
  await expect(timeline.getPage(REL, 0, 150)).rejects.toThrow(/broken/);
});

test('a wait that takes too long says where the timeline stands', async () => {
  let now = 0;
  const timeline = make({
    engine: simEngine({
      clock: { now: () => now, monotonic: () => now, sleep: async ms => void (now += ms) },
    }),
  });
  await expect(timeline.waitFor(0x200, 1000)).rejects.toThrow(
    /did not reach 0\/200 in 1000 ms: it is at 0\/64/,
  );
});
