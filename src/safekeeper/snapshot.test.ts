// Snapshots of a timeline, sent and taken in between two safekeepers on simulated disks: nothing but one log ever
// arrives, whatever happens on the way.

import { describe, expect, test } from 'vitest';
import { SimClock } from '../../integration/sim/clock.ts';
import { SimDisk } from '../../integration/sim/disk.ts';
import { SimFileKeys } from '../../integration/sim/file-keys.ts';
import { ModelWal } from '../../integration/sim/model-wal.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { tenantId, timelineId } from '../base/ids.ts';
import type { Lsn } from '../base/lsn.ts';
import type { Log } from '../base/ports.ts';
import { NO_MEMBERSHIP } from '../protocol/membership.ts';
import type { TermHistory } from '../protocol/walproposer.ts';
import { openVault } from '../seal/disk-vault.ts';
import { planSnapshot, receiveSnapshot, sendSnapshot } from './snapshot.ts';
import type { Timeline } from './timeline.ts';
import type { PeerInfo } from './timeline-handle.ts';
import { Timelines } from './timelines.ts';

const MIB = 1024 * 1024;
const PG = 170005;
const START = (3 * MIB + 0x128) as Lsn;
const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => SILENT };
const key = { tenantId: tenantId('1a'.repeat(16)), timelineId: timelineId('2b'.repeat(16)) };

async function safekeeper(nodeId: number): Promise<Timelines> {
  const random = new SimRandom(nodeId);
  const disk = new SimDisk({ random: random.split('disk') });
  const keys = new SimFileKeys(key.tenantId, random.split('kek'));
  return Timelines.load({
    nodeId,
    clock: new SimClock(),
    log: SILENT,
    disk,
    random,
    vault: (directory, scope) => openVault({ disk, directory, scope, keys, random }),
  });
}

const BEGINNING: TermHistory = [
  { term: 0, lsn: START },
  { term: 1, lsn: START },
];

async function lead(timeline: Timeline, term: number, termHistory: TermHistory, start: Lsn) {
  const session = timeline.connectProposer();
  await session.process({ kind: 'vote-request', generation: 0, term });
  const elected = () =>
    session.process({ kind: 'elected', generation: 0, term, startStreamingAt: start, termHistory });
  const append = (wal: ModelWal, from: number, to: number) =>
    session.process({
      kind: 'append-request',
      generation: 0,
      term,
      beginLsn: from as Lsn,
      endLsn: to as Lsn,
      commitLsn: 0 as Lsn,
      truncateLsn: 0 as Lsn,
      wal: wal.bytes(from, to),
    });
  return { elected, append };
}

/** A timeline of term 1 with some megabytes of WAL. */
async function filled(): Promise<{ timeline: Timeline; wal: ModelWal }> {
  const timelines = await safekeeper(1);
  const timeline = await timelines.create({
    key,
    membership: NO_MEMBERSHIP,
    pgVersion: PG,
    systemId: 42n,
    walSegSize: MIB,
    startLsn: START,
  });
  const wal = new ModelWal(START, { pgVersion: PG, segmentSize: MIB });
  for (let i = 0; wal.end < 7 * MIB; i++) wal.add(ModelWal.payload('s', i, 8000));
  const leader = await lead(timeline, 1, BEGINNING, START);
  await leader.elected();
  for (let at: number = START; at < wal.end; ) {
    const to = Math.min(at + 131072, wal.end);
    await leader.append(wal, at, to);
    at = to;
  }
  expect(timeline.flushLsn).toBe(wal.end);
  return { timeline, wal };
}

/** Takes the archive in on another safekeeper; `meanwhile` is done once some of it is under way. */
async function pulled(timeline: Timeline, meanwhile?: () => Promise<unknown>): Promise<Timeline> {
  const target = await safekeeper(2);
  const plan = await planSnapshot(timeline, 1, 2, undefined);
  async function* archive(): AsyncGenerator<Uint8Array> {
    let pieces = 0;
    for await (const piece of sendSnapshot(timeline, plan)) {
      yield piece;
      if (++pieces === 6) await meanwhile?.();
    }
  }
  return target.install(key, 0, async vault => {
    await receiveSnapshot(key, archive(), vault);
  });
}

describe('a snapshot', () => {
  test('is the same log, with the same history', async () => {
    const { timeline, wal } = await filled();
    const copy = await pulled(timeline);
    expect(copy.flushLsn).toBe(wal.end);
    expect(copy.status().control.termHistory).toEqual(BEGINNING);
    for (let at: number = START; at < wal.end; ) {
      const bytes = await copy.readWal(at as Lsn, Math.min(MIB, wal.end - at));
      expect(Buffer.compare(bytes, wal.bytes(at, at + bytes.length))).toBe(0);
      at += bytes.length;
    }
  });

  test('is cut off when the term changes on the way', async () => {
    const { timeline } = await filled();
    await expect(pulled(timeline, () => timeline.termBump())).rejects.toThrow(/term/);
  });

  test('is cut off when the leader voted for before takes over on the way: the term is the same', async () => {
    const { timeline, wal } = await filled();
    // A vote, and its election only while the archive is under way; the new leader parts from the log near its end.
    const fork = wal.boundaries.findLast(at => at < 6 * MIB + 500_000)! as Lsn;
    const history: TermHistory = [...BEGINNING, { term: 2, lsn: fork }];
    const leader = await lead(timeline, 2, history, fork);
    const other = new ModelWal(fork, { pgVersion: PG, segmentSize: MIB });
    for (let i = 0; other.end < 7 * MIB + 100_000; i++) other.add(ModelWal.payload('o', i, 8000));
    const takeOver = async () => {
      await leader.elected();
      for (let at: number = fork; at < other.end; ) {
        const to = Math.min(at + 131072, other.end);
        await leader.append(other, at, to);
        at = to;
      }
    };
    await expect(pulled(timeline, takeOver)).rejects.toThrow(/changed hands during the snapshot/);
    // And once more, when it is over.
    const copy = await pulled(timeline);
    expect(copy.status().control.termHistory).toEqual(history);
    expect(copy.flushLsn).toBe(other.end);
  });

  test('of more than 1000 segments is refused', async () => {
    const { timeline } = await filled();
    const status = timeline.status();
    const flushLsn = (status.flushLsn + 1001 * MIB) as Lsn;
    const long = Object.create(timeline, { status: { value: () => ({ ...status, flushLsn }) } }) as Timeline;
    await expect(planSnapshot(long, 1, 2, undefined)).rejects.toThrow(/1006 segments to send, 1000 at most/);
  });

  test('keeps WAL from being removed until it is over', async () => {
    const { timeline } = await filled();
    const leader = await lead(timeline, 1, BEGINNING, timeline.flushLsn);
    await leader.elected();
    const plan = await planSnapshot(timeline, 1, 2, undefined);
    const archive = sendSnapshot(timeline, plan);
    await archive.next();
    const before = timeline.segments().length;
    expect(await timeline.removeSegmentsBelow(6)).toBe(0);
    expect(timeline.segments()).toHaveLength(before);
    await archive.return(undefined);
    // Commit is where the timeline begins: the segment that holds it stays in any case.
    expect(await timeline.removeSegmentsBelow(6)).toBe(0);
    await timeline.recordPeer(committedBy(timeline));
    await timeline.checkpoint();
    expect(await timeline.removeSegmentsBelow(6)).toBe(3);
  });
});

/** A peer that knows all of the log to be committed. */
function committedBy(timeline: Timeline): PeerInfo {
  const { control, flushLsn, lastLogTerm } = timeline.status();
  const at = { backupLsn: flushLsn, peerHorizonLsn: flushLsn, remoteConsistentLsn: flushLsn };
  return {
    nodeId: 9,
    term: control.term,
    lastLogTerm,
    flushLsn,
    commitLsn: flushLsn,
    ...at,
    localStartLsn: START,
    pgAddress: '',
    httpAddress: '',
  };
}
