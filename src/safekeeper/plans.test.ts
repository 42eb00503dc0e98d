// The plans: who uploads, what goes, what may be left to the object store, whom to fetch from.

import { describe, expect, test } from 'vitest';
import { timelineId } from '../base/ids.ts';
import type { Lsn } from '../base/lsn.ts';
import {
  backupNeeded,
  beginPartial,
  collectPartial,
  electUploader,
  finishPartial,
  partialSegmentOf,
  partialUploadNeeded,
  renamePartial,
  segmentsToUpload,
} from './backup-plan.ts';
import type { ControlState, PartialSegment } from './control-state.ts';
import { type EvictionView, whyResident } from './eviction-plan.ts';
import { bestSource, donors } from './recovery-plan.ts';
import { firstSegmentToKeep, isActive, removalHorizon } from './removal-plan.ts';
import type { PeerInfo, TimelineStatus } from './timeline-handle.ts';

const MIB = 1024 * 1024;
const L = (n: number): Lsn => n as Lsn;

function peer(nodeId: number, values: Partial<PeerInfo> = {}): PeerInfo {
  return {
    nodeId,
    term: 1,
    lastLogTerm: 1,
    flushLsn: L(100),
    commitLsn: L(100),
    backupLsn: L(0),
    remoteConsistentLsn: L(0),
    peerHorizonLsn: L(0),
    localStartLsn: L(0),
    pgAddress: '',
    httpAddress: '',
    ...values,
  };
}

describe('backup', () => {
  test('is needed while a compute writes, or while a whole segment is not uploaded', () => {
    expect(backupNeeded(1, L(0), L(0), MIB)).toBe(true);
    expect(backupNeeded(0, L(2 * MIB - 8), L(MIB), MIB)).toBe(false);
    expect(backupNeeded(0, L(2 * MIB), L(MIB), MIB)).toBe(true);
    expect(backupNeeded(0, L(MIB), L(3 * MIB), MIB)).toBe(false);
  });

  test('takes whole committed segments, in order, from where backup stands', () => {
    expect(segmentsToUpload(L(MIB + 500), L(4 * MIB + 8), MIB)).toEqual([
      { segno: 1, name: '000000010000000000000001', endLsn: 2 * MIB },
      { segno: 2, name: '000000010000000000000002', endLsn: 3 * MIB },
      { segno: 3, name: '000000010000000000000003', endLsn: 4 * MIB },
    ]);
    expect(segmentsToUpload(L(4 * MIB), L(4 * MIB + 8), MIB)).toEqual([]);
    expect(segmentsToUpload(L(9 * MIB), L(4 * MIB), MIB)).toEqual([]);
  });

  test('is done by one, chosen alike by all, among those that have the WAL and are not far behind', () => {
    const choice = { timelineId: timelineId('05'.padEnd(32, '0')), backupLsn: L(1000), maxLagBytes: 50 };
    const peers = [
      peer(7, { commitLsn: L(1960) }),
      peer(2, { commitLsn: L(2000) }),
      peer(3, { commitLsn: L(1940) }),
      peer(4, { commitLsn: L(9999), localStartLsn: L(1001) }),
    ];
    // 05 00 ... as a little-endian number is 5; the choice is between 2 and 7.
    expect(electUploader(peers, choice)).toBe(7);
    expect(electUploader([...peers].reverse(), choice)).toBe(7);
    expect(electUploader(peers, { ...choice, timelineId: timelineId('04'.padEnd(32, '0')) })).toBe(2);
    expect(electUploader(peers, { ...choice, timelineId: timelineId(`00${'04'.padEnd(30, '0')}`) })).toBe(2);
    expect(electUploader([peers[3]!], choice)).toBe(undefined);
    expect(electUploader([], choice)).toBe(undefined);
  });
});

describe('the partial segment', () => {
  const end = { flushLsn: L(0x2534868), commitLsn: L(0x2534410), lastLogTerm: 2 };
  const first = partialSegmentOf(end, 1, 16 * MIB);

  test('is named by segment, term, flush, commit and node', () => {
    expect(first.name).toBe('000000010000000000000002_2_0000000002534868_0000000002534410_sk1.partial');
  });

  test('is uploaded again when anything of that changed', () => {
    expect(partialUploadNeeded([], end)).toBe(true);
    expect(partialUploadNeeded([first], end)).toBe(true);
    const done = finishPartial(beginPartial([], first), first);
    expect(partialUploadNeeded(done, end)).toBe(false);
    for (const change of [{ flushLsn: L(0x2534870) }, { commitLsn: L(0x2534868) }, { lastLogTerm: 3 }]) {
      expect(partialUploadNeeded(done, { ...end, ...change })).toBe(true);
    }
  });

  test('is known before it is uploaded and forgotten after it is removed', () => {
    const second = partialSegmentOf({ ...end, flushLsn: L(0x2540000) }, 1, 16 * MIB);
    let segments: readonly PartialSegment[] = beginPartial([], first);
    expect(segments.map(s => s.status)).toEqual(['in-progress']);
    segments = finishPartial(segments, first);
    segments = beginPartial(segments, second);
    expect(segments.map(s => s.status)).toEqual(['uploaded', 'in-progress']);
    // Nothing is said to be gone, nor is the new one used, before it is there.
    expect(collectPartial(segments)).toMatchObject({ remove: [second.name] });
    segments = finishPartial(segments, second);
    expect(segments.map(s => [s.name, s.status])).toEqual([
      [first.name, 'deleting'],
      [second.name, 'uploaded'],
    ]);
    const { remove, keep } = collectPartial(segments);
    expect(remove).toEqual([first.name]);
    expect(keep.map(s => s.name)).toEqual([second.name]);
  });

  test('goes by the other node in a snapshot for it', () => {
    const done = finishPartial([], first);
    expect(renamePartial(done, 1, 12)).toEqual({
      segments: [{ ...first, status: 'uploaded', name: first.name.replace('_sk1.', '_sk12.') }],
      copy: { from: first.name, to: first.name.replace('_sk1.', '_sk12.') },
    });
    expect(renamePartial([], 1, 2)).toEqual({ segments: [], copy: undefined });
    expect(() => renamePartial(done, 3, 4)).toThrow(/is not of node 3/);
  });
});

const control = (values: object): ControlState =>
  ({
    server: { pgVersion: 170000, systemId: 1n, walSegSize: MIB },
    remoteConsistentLsn: L(9 * MIB),
    backupLsn: L(8 * MIB),
    commitLsn: L(9 * MIB + 500),
    partialSegments: [],
    ...values,
  }) as unknown as ControlState;

describe('removal', () => {
  const view = { control: control({}), flushLsn: L(9 * MIB + 800), laggardLsn: undefined };

  test('goes as far as everybody is through, by what is persisted', () => {
    expect(removalHorizon(view)).toBe(8 * MIB);
    expect(removalHorizon({ ...view, laggardLsn: L(3 * MIB) })).toBe(3 * MIB);
    expect(removalHorizon({ ...view, control: control({ remoteConsistentLsn: L(0) }) })).toBe(0);
    expect(removalHorizon({ ...view, flushLsn: L(5 * MIB) })).toBe(5 * MIB);
  });

  test('takes the segments before the one the horizon lies in', () => {
    expect(firstSegmentToKeep(view)).toBe(8);
    expect(firstSegmentToKeep({ ...view, control: control({ backupLsn: L(8 * MIB - 8) }) })).toBe(7);
    expect(firstSegmentToKeep({ ...view, control: control({ backupLsn: L(0) }) })).toBe(0);
  });

  test('a timeline is active while a compute is there, or pageserver or backup are behind', () => {
    const memory = {
      commitLsn: L(MIB + 8),
      backupLsn: L(MIB),
      remoteConsistentLsn: L(MIB + 8),
      peerHorizonLsn: L(0),
    };
    expect(isActive(memory, 0, MIB)).toBe(false);
    expect(isActive(memory, 1, MIB)).toBe(true);
    expect(isActive({ ...memory, remoteConsistentLsn: L(MIB) }, 0, MIB)).toBe(true);
    expect(isActive({ ...memory, backupLsn: L(MIB - 8) }, 0, MIB)).toBe(true);
  });
});

describe('eviction', () => {
  const end = { flushLsn: L(5000), commitLsn: L(5000), lastLogTerm: 3 };
  const uploaded = finishPartial([], partialSegmentOf(end, 1, MIB));
  const status = {
    control: control({ commitLsn: L(5000), partialSegments: uploaded }),
    memory: { commitLsn: L(5000) },
    flushLsn: L(5000),
    writeLsn: L(5000),
    lastLogTerm: 3,
    offloaded: false,
    poisoned: false,
  } as unknown as TimelineStatus;
  const idle: EvictionView = {
    status,
    proposers: 0,
    readers: 0,
    active: false,
    segments: 1,
    residentMs: 10_000,
  };

  test('waits for everything', () => {
    expect(whyResident(idle, 5000)).toBe(undefined);
    expect(whyResident({ ...idle, proposers: 1 }, 5000)).toMatch(/1 computes/);
    expect(whyResident({ ...idle, readers: 2 }, 5000)).toMatch(/2 readers/);
    expect(whyResident({ ...idle, active: true }, 5000)).toMatch(/active/);
    expect(whyResident({ ...idle, residentMs: 100 }, 5000)).toMatch(/not long ago/);
    expect(whyResident({ ...idle, segments: 2 }, 5000)).toMatch(/2 segments/);
    const but = (change: object): EvictionView => ({ ...idle, status: { ...status, ...change } });
    expect(whyResident(but({ offloaded: true }), 0)).toMatch(/already/);
    expect(whyResident(but({ poisoned: true }), 0)).toMatch(/poisoned/);
    expect(whyResident(but({ writeLsn: L(5008) }), 0)).toMatch(/past its last record/);
    expect(whyResident(but({ lastLogTerm: 4 }), 0)).toMatch(/not uploaded as it is/);
    expect(whyResident(but({ control: control({ partialSegments: uploaded }) }), 0)).toMatch(/not saved/);
  });
});

describe('recovery', () => {
  const me = { nodeId: 1, term: 5, lastLogTerm: 4, flushLsn: L(200), streamingComputes: 0 };

  test('is from those ahead whose term had a leader we can stand in for', () => {
    const peers = [
      peer(1, { term: 9, lastLogTerm: 9, flushLsn: L(900) }),
      peer(2, { term: 5, lastLogTerm: 5, flushLsn: L(100) }),
      peer(3, { term: 7, lastLogTerm: 7, flushLsn: L(150) }),
      peer(4, { term: 7, lastLogTerm: 7, flushLsn: L(170) }),
      peer(5, { term: 8, lastLogTerm: 6, flushLsn: L(900) }),
      peer(6, { term: 4, lastLogTerm: 4, flushLsn: L(900) }),
      peer(7, { term: 5, lastLogTerm: 4, flushLsn: L(200) }),
    ];
    expect(donors(me, peers).map(donor => donor.nodeId)).toEqual([4, 3, 2]);
    expect(donors({ ...me, streamingComputes: 1 }, peers)).toEqual([]);
  });

  test('a copy is pulled from the newest log, then the highest term, then the highest commit', () => {
    const source = (id: number, lastLogTerm: number, flushLsn: number, term: number, commitLsn: number) => ({
      id,
      lastLogTerm,
      flushLsn: L(flushLsn),
      term,
      commitLsn: L(commitLsn),
    });
    const sources = [
      source(1, 3, 900, 9, 900),
      source(2, 4, 100, 5, 50),
      source(3, 4, 100, 6, 40),
      source(4, 4, 100, 6, 60),
    ];
    expect(bestSource(sources)?.id).toBe(4);
    expect(bestSource(sources.slice(0, 2))?.id).toBe(2);
    expect(bestSource([])).toBe(undefined);
  });
});
