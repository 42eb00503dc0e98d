// One timeline: appends, failing disks, waiting, reading, offloading, upkeep.

import { describe, expect, test } from 'vitest';
import {
  append,
  Bench,
  elect,
  faultOf,
  HISTORY,
  keyOf,
  L,
  MIB,
  PG,
  response,
  START,
  wait,
  walOf,
} from '../../integration/safekeeper/timeline-bench.ts';
import { ModelWal } from '../../integration/sim/model-wal.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PageserverFeedback } from '../protocol/feedback.ts';
import type { AcceptorMessage } from '../protocol/walproposer.ts';
import { beginPartial, finishPartial, partialSegmentOf } from './backup-plan.ts';

describe('appends', () => {
  test('that come together share one sync, and the last is answered', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(40, 200);
    bench.flushes.length = 0;
    const replies: Promise<AcceptorMessage | undefined>[] = [];
    for (let i = 0; i < 40; i++)
      replies.push(append(session, wal, wal.boundaries[i]!, wal.boundaries[i + 1]!));
    const answers = await Promise.all(replies);
    expect(response(answers.at(-1)).flushLsn).toBe(wal.end);
    const told = answers.filter(answer => answer !== undefined);
    expect(told.length).toBeLessThan(5);
    expect(bench.flushes.length).toBe(told.length);
    expect(timeline.flushLsn).toBe(wal.end);
  });

  test('of two sessions are each answered', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const a = await elect(timeline);
    const b = await elect(timeline, 1, HISTORY, START);
    const wal = walOf(4, 200);
    const replies = await Promise.all([
      append(a, wal, wal.boundaries[0]!, wal.boundaries[1]!),
      append(b, wal, wal.boundaries[1]!, wal.boundaries[2]!),
      append(a, wal, wal.boundaries[2]!, wal.boundaries[3]!),
    ]);
    expect(replies.map(reply => reply?.kind)).toContain('append-response');
    expect(response(replies[1]).flushLsn).toBeGreaterThanOrEqual(wal.boundaries[2]!);
    expect(response(replies[2]).flushLsn).toBe(wal.boundaries[3]!);
  });

  test('are not answered while their sync is under way', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(2, 200);
    let synced = false;
    const writeTo = bench.disk.writeTo.bind(bench.disk);
    bench.disk.writeTo = (inode, path, offset, pieces, durably) => {
      writeTo(inode, path, offset, pieces, durably);
      synced ||= durably;
    };
    const reply = append(session, wal, wal.start, wal.end).then(answer => {
      expect(synced).toBe(true);
      return answer;
    });
    expect(response(await reply).flushLsn).toBe(wal.end);
  });

  test('are taken in while a sync is under way, and told after their own', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(4, 200);
    const [before, first, second, third] = wal.boundaries.slice(1) as [Lsn, Lsn, Lsn, Lsn];
    await append(session, wal, wal.start, before);
    const told: Lsn[] = [];
    const tell = (message: AcceptorMessage | undefined): void => void told.push(response(message).flushLsn);
    // The disk asks before each sync goes on.
    const syncs: (() => void)[] = [];
    const turn = bench.disk.turn.bind(bench.disk);
    let held = true;
    bench.disk.turn = async (boot, ms) => {
      await turn(boot, ms);
      if (held) await new Promise<void>(resolve => syncs.push(resolve));
    };
    const settled = async (): Promise<void> => {
      for (let i = 0; i < 50; i++) await undefined;
    };
    const replies = [append(session, wal, before, first).then(tell)];
    await settled();
    expect(syncs.length).toBe(1);
    replies.push(append(session, wal, first, second, first).then(tell));
    const bad = new ModelWal(second, { pgVersion: PG, segmentSize: MIB });
    bad.add(ModelWal.payload('bad', 0, 500));
    bad.bytes(bad.start, bad.end)[90]! ^= 1;
    const refused = faultOf(append(session, bad, bad.start, bad.end));
    await settled();
    // Taken in, checked, refused where it is no WAL; and nothing told, nothing else begun on the disk.
    expect(timeline.status()).toMatchObject({ writeLsn: second, flushLsn: before });
    expect(await refused).toMatch(/wal-crc/);
    expect([syncs.length, told]).toEqual([1, []]);
    syncs.shift()!();
    await settled();
    expect(told).toEqual([first]);
    expect(timeline.flushLsn).toBe(first);
    expect(syncs.length).toBe(1);
    held = false;
    syncs.shift()!();
    await Promise.all(replies);
    expect(told).toEqual([first, second]);
    const again = await elect(timeline, 1, HISTORY, second);
    expect(response(await append(again, wal, second, third, second)).flushLsn).toBe(third);
  });

  test('taken in while a sync is under way wait for nothing when it fails', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(2, 200);
    const [first, second] = wal.boundaries.slice(1) as [Lsn, Lsn];
    bench.disk.failSyncs(1);
    const replies = [append(session, wal, wal.start, first), append(session, wal, first, second)];
    for (const reply of replies) expect(await faultOf(reply)).toMatch(/timeline-poisoned/);
    expect(timeline.status()).toMatchObject({ poisoned: true, flushLsn: wal.start });
  });

  test('a batch does not grow without end', async () => {
    const bench = new Bench();
    await bench.load({ flushBytesMax: 1000 });
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(40, 200);
    bench.flushes.length = 0;
    const replies = [];
    for (let i = 0; i < 40; i++)
      replies.push(append(session, wal, wal.boundaries[i]!, wal.boundaries[i + 1]!));
    await Promise.all(replies);
    expect(bench.flushes.length).toBeGreaterThanOrEqual(8);
  });

  test('that are no WAL are refused, and the timeline goes on', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(6, 200);
    await append(session, wal, wal.start, wal.boundaries[2]!);
    const bad = new ModelWal(wal.boundaries[2]!, { pgVersion: PG, segmentSize: MIB });
    bad.add(ModelWal.payload('bad', 0, 500));
    bad.bytes(bad.start, bad.end)[90]! ^= 1;
    expect(await faultOf(append(session, bad, bad.start, bad.end))).toMatch(/wal-crc/);
    expect(await faultOf(append(session, wal, wal.boundaries[2]!, wal.end))).toMatch(/no elected message/);
    const again = await elect(timeline, 1, HISTORY, wal.boundaries[2]!);
    expect(response(await append(again, wal, wal.boundaries[2]!, wal.end)).flushLsn).toBe(wal.end);
  });

  test('received are kept when the session closes, though nobody waits', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(3, 200);
    void append(session, wal, wal.start, wal.end);
    await session.close();
    expect(timeline.flushLsn).toBe(wal.end);
    expect(timeline.proposers()).toEqual([]);
  });
});

describe('when the disk fails', () => {
  test('a failed sync ends the timeline for good, and no other', async () => {
    const bench = new Bench();
    const timeline = await bench.create(1);
    const other = await bench.create(2);
    const session = await elect(timeline);
    const wal = walOf(3, 200);
    await append(session, wal, wal.start, wal.boundaries[1]!);
    bench.disk.failSyncs(1);
    const waiting = faultOf(timeline.waitForFlush(wal.end, 1));
    expect(await faultOf(append(session, wal, wal.boundaries[1]!, wal.end))).toMatch(
      /timeline-poisoned: the timeline has stopped: sync .*input\/output error/,
    );
    expect(await waiting).toMatch(/timeline-poisoned/);
    expect(timeline.status()).toMatchObject({ poisoned: true, flushLsn: wal.boundaries[1]! });
    expect(await faultOf(append(session, wal, wal.boundaries[1]!, wal.end))).toMatch(/timeline-poisoned/);
    expect(() => timeline.connectProposer()).toThrow(/has stopped/);
    expect(await faultOf(timeline.readWal(START, 100))).toMatch(/timeline-poisoned/);
    const elsewhere = await elect(other);
    expect(response(await append(elsewhere, wal, wal.start, wal.end)).flushLsn).toBe(wal.end);
  });

  test('a full disk passes: nothing acknowledged is lost, and writing goes on when there is room', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(6, 200);
    await append(session, wal, wal.start, wal.boundaries[2]!);
    bench.capacityBytes = 0;
    expect(await faultOf(append(session, wal, wal.boundaries[2]!, wal.boundaries[4]!))).toMatch(/disk-full/);
    expect(timeline.status()).toMatchObject({ poisoned: false, flushLsn: wal.boundaries[2]! });
    const vote = timeline.connectProposer().process({ kind: 'vote-request', generation: 0, term: 2 });
    expect(await faultOf(vote)).toMatch(/disk-full/);
    expect(timeline.term).toBe(1);
    bench.capacityBytes = Infinity;
    const again = await elect(
      timeline,
      2,
      [...HISTORY, { term: 2, lsn: wal.boundaries[4]! }],
      wal.boundaries[4]!,
    );
    expect(response(await append(again, wal, wal.boundaries[4]!, wal.end, 0, 2)).flushLsn).toBe(wal.end);
    const reloaded = (await bench.load()).get(keyOf(1));
    expect(reloaded.flushLsn).toBe(wal.end);
  });

  test('a full disk in the middle of an election passes as well', async () => {
    for (let allowed = 0; allowed < 6; allowed++) {
      const bench = new Bench();
      const timeline = await bench.create();
      const session = await elect(timeline);
      const wal = walOf(6, 200);
      await append(session, wal, wal.start, wal.end);
      const cut = wal.boundaries[3]!;
      const history = [...HISTORY, { term: 2, lsn: cut }];
      let writes = 0;
      const writeTo = bench.disk.writeTo.bind(bench.disk);
      bench.disk.writeTo = (inode, path, offset, pieces, durably) => {
        bench.capacityBytes = writes++ < allowed ? Infinity : 0;
        writeTo(inode, path, offset, pieces, durably);
      };
      await elect(timeline, 2, history, cut).catch(() => {});
      writes = -1000;
      const again = await elect(timeline, 3, [...HISTORY, { term: 3, lsn: cut }], cut);
      const other = walOf(3, 300, cut);
      expect(response(await append(again, other, cut, other.end, 0, 3)).flushLsn).toBe(other.end);
      const bytes = await timeline.readWal(START, MIB);
      expect(Buffer.compare(bytes.subarray(0, cut - START), wal.bytes(START, cut))).toBe(0);
      expect(Buffer.compare(bytes.subarray(cut - START), other.bytes(cut, other.end))).toBe(0);
    }
  });

  test('a key that is switched off stops writing, and no longer', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(4, 200);
    await append(session, wal, wal.start, wal.boundaries[2]!);
    bench.keys.revoke();
    expect(await faultOf(append(session, wal, wal.boundaries[2]!, wal.end))).toMatch(/key-revoked/);
    bench.keys.restore();
    const again = await elect(timeline, 2, [...HISTORY, { term: 2, lsn: wal.end }], wal.end);
    await again.close();
    expect(timeline.status()).toMatchObject({ poisoned: false, flushLsn: wal.end });
  });
});

describe('waiting', () => {
  test('for commit and flush ends when they are reached, or by its signal', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(3, 200);
    const order: string[] = [];
    const flushed = timeline.waitForFlush(wal.end, 1).then(() => order.push('flush'));
    const committed = timeline.waitForCommit(wal.end).then(() => order.push('commit'));
    await append(session, wal, wal.start, wal.end);
    await flushed;
    await append(session, wal, wal.end, wal.end, wal.end);
    await committed;
    expect(order).toEqual(['flush', 'commit']);
    const stop = new AbortController();
    const never = timeline.waitForCommit(L(wal.end + 8), stop.signal);
    stop.abort(new Error('enough'));
    await expect(never).rejects.toThrow('enough');
  });

  test('for flush in a term ends when the term does', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    await elect(timeline);
    const waiting = timeline.waitForFlush(L(START + 8), 1);
    await timeline.termBump();
    expect(await faultOf(waiting)).toMatch(/term-changed: WAL of term 1 was asked for, the term is 2/);
    expect(await faultOf(timeline.readWal(START, 8, 1))).toMatch(/term-changed/);
  });
});

describe('reading', () => {
  test('gives what was written, by segments, up to flush', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(500, 3000);
    for (let at: number = START; at < wal.end; at += 100_000) {
      await append(session, wal, at, Math.min(at + 100_000, wal.end));
    }
    const parts: Uint8Array[] = [];
    for (let at: number = START; at < wal.end; ) {
      const part = await timeline.readWal(L(at), 300_000);
      expect(Math.floor(at / MIB)).toBe(Math.floor((at + part.length - 1) / MIB));
      parts.push(part);
      at += part.length;
    }
    expect(Buffer.compare(Buffer.concat(parts), wal.bytes(START, wal.end))).toBe(0);
    expect(await timeline.readWal(wal.end, 100)).toHaveLength(0);
    // Who read on in a term, for what was there, would read for ever: it was cut meanwhile.
    const { term } = timeline.status().control;
    expect(await faultOf(timeline.readWal(wal.end, 100, term))).toMatch(/was cut while it was read/);
    expect(await faultOf(timeline.readWal(L(wal.end + 8), 100))).toMatch(/wal-missing/);
  });

  test('before the beginning gives what a base backup would hold there', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(2, 200);
    await append(session, wal, wal.start, wal.end);
    const head = await timeline.readWal(L(3 * MIB), 8192);
    expect(head).toHaveLength(START - 3 * MIB);
    const view = new DataView(head.buffer, head.byteOffset);
    expect(view.getUint16(0, true)).toBe(0xd113);
    expect(view.getBigUint64(24, true)).toBe(42n);
    expect(view.getUint32(32, true)).toBe(MIB);
    expect(head.subarray(40).every(byte => byte === 0)).toBe(true);
    expect(await faultOf(timeline.readWal(L(3 * MIB - 8), 8))).toMatch(/before the timeline/);
  });

  test('what was removed here comes from the archive', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(800, 3000);
    for (let at: number = START; at < wal.end; at += 100_000) {
      await append(session, wal, at, Math.min(at + 100_000, wal.end));
    }
    await append(session, wal, wal.end, wal.end, wal.end);
    await timeline.checkpoint();
    const hold = timeline.holdRemoval();
    expect(await timeline.removeSegmentsBelow(5)).toBe(0);
    hold();
    expect(await timeline.removeSegmentsBelow(5)).toBe(2);
    expect(timeline.status().oldestLsn).toBe(5 * MIB);
    expect(timeline.segments().map(segment => segment.segno)).toEqual([5]);
    expect(await faultOf(timeline.readWal(L(4 * MIB), 100))).toMatch(/is not kept here any more/);
    timeline.setArchive({
      read: async (segno, offset, length) => wal.bytes(segno * MIB + offset, segno * MIB + offset + length),
      readPartial: async () => new Uint8Array(0),
    });
    const bytes = await timeline.readWal(L(4 * MIB + 500), 1000);
    expect(Buffer.compare(bytes, wal.bytes(4 * MIB + 500, 4 * MIB + 1500))).toBe(0);
  });
});

describe('readers', () => {
  const feedback = (shardNumber: number, lsn: number): PageserverFeedback => ({
    currentTimelineSize: 0n,
    lastReceivedLsn: L(lsn),
    diskConsistentLsn: L(lsn),
    remoteConsistentLsn: L(lsn),
    replyTime: 0n,
    shardNumber,
    corruptionDetected: false,
  });

  test("what standbys need goes with every answer, and a pageserver's position to every compute", async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(2, 200);
    const [a, b] = [timeline.connectReader(), timeline.connectReader()];
    a.hotStandby({ ts: 5n, xmin: 700n, catalogXmin: 0n });
    b.hotStandby({ ts: 9n, xmin: 600n, catalogXmin: 650n });
    a.standbyReply({
      writeLsn: L(1),
      flushLsn: L(1),
      applyLsn: L(900),
      replyTime: 0n,
      replyRequested: false,
    });
    const told = response(await append(session, wal, wal.start, wal.end));
    expect(told.hotStandby).toEqual({ ts: 9n, xmin: 600n, catalogXmin: 650n });
    expect(timeline.standbyHorizon()).toBe(900);
    b.close();
    expect(timeline.hotStandby()).toEqual({ ts: 5n, xmin: 700n, catalogXmin: 0n });

    const pageserver = timeline.connectReader();
    for (let i = 0; i < 100; i++) pageserver.pageserver(feedback(i % 2, START + i));
    expect((await session.nextFeedback()).lastReceivedLsn).toBe(START + 98);
    expect((await session.nextFeedback()).lastReceivedLsn).toBe(START + 99);
    const next = session.nextFeedback();
    pageserver.pageserver(feedback(3, START + 200));
    expect((await next).shardNumber).toBe(3);
    await timeline.checkpoint();
    expect(timeline.status().control.remoteConsistentLsn).toBe(START + 200);
    await session.close();
    await expect(session.nextFeedback()).rejects.toThrow(/closed/);
  });
});

describe('offloading', () => {
  test('drops local WAL when all of it is uploaded, and brings it back when somebody comes', async () => {
    const bench = new Bench();
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(30, 200);
    await append(session, wal, wal.start, wal.end);
    await append(session, wal, wal.end, wal.end, wal.end);
    await session.close();
    expect(await faultOf(timeline.offload())).toMatch(/timeline-busy/);
    const end = { flushLsn: wal.end, commitLsn: wal.end, lastLogTerm: 1 };
    const partial = partialSegmentOf(end, 1, MIB);
    await timeline.changeControl(c => ({ ...c, partialSegments: beginPartial(c.partialSegments, partial) }));
    await timeline.changeControl(c => ({ ...c, partialSegments: finishPartial(c.partialSegments, partial) }));
    await timeline.offload();
    expect(timeline.status()).toMatchObject({ offloaded: true, flushLsn: wal.end });
    expect(timeline.segments()).toEqual([]);

    const reloaded = (await bench.load()).get(keyOf(1));
    expect(reloaded.status()).toMatchObject({ offloaded: true, flushLsn: wal.end, lastLogTerm: 1 });
    const late = reloaded.connectProposer();
    expect(await faultOf(late.process({ kind: 'vote-request', generation: 0, term: 2 }))).toMatch(
      /wal-missing/,
    );
    reloaded.setArchive({
      read: async () => new Uint8Array(0),
      readPartial: async (segment, segno, offset, length) => {
        expect(segment.name).toBe(partial.name);
        return wal.bytes(segno * MIB + offset, segno * MIB + offset + length);
      },
    });
    const back = await elect(reloaded, 2, [...HISTORY, { term: 2, lsn: wal.end }], wal.end);
    expect(reloaded.status().offloaded).toBe(false);
    const more = walOf(2, 100, wal.end);
    expect(response(await append(back, more, more.start, more.end, 0, 2)).flushLsn).toBe(more.end);
    expect(Buffer.compare(await reloaded.readWal(START, 1000), wal.bytes(START, START + 1000))).toBe(0);
  });
});

describe('upkeep', () => {
  test('saves the control file when memory has been ahead of it for a while', async () => {
    const bench = new Bench();
    await bench.load({ controlFileSaveIntervalMs: 1000 });
    const timeline = await bench.create();
    const session = await elect(timeline);
    const wal = walOf(2, 100);
    await append(session, wal, wal.start, wal.end);
    await append(session, wal, wal.end, wal.end, wal.end);
    await bench.timelines.tick();
    expect(timeline.status().control.commitLsn).toBe(START);
    await wait(bench.clock, 1500);
    await bench.timelines.tick();
    expect(timeline.status().control.commitLsn).toBe(wal.end);
  });
});

/** Simulated time passes. */
