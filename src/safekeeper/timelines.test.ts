// The map of timelines: made, loaded, deleted and damaged, each whatever becomes of the others.

import { describe, expect, test } from 'vitest';
import {
  append,
  Bench,
  elect,
  faultOf,
  keyOf,
  MIB,
  PG,
  START,
  walOf,
} from '../../integration/safekeeper/timeline-bench.ts';
import { Fault } from '../base/fault.ts';
import { formatLsn } from '../base/lsn.ts';

describe('many timelines', () => {
  test('are made once, found again, and deleted for good', async () => {
    const bench = new Bench();
    const first = await bench.create(1);
    expect(await bench.create(1)).toBe(first);
    await bench.create(2);
    const again = await bench.load();
    expect(again.all().map(timeline => timeline.key)).toEqual([keyOf(1), keyOf(2)]);
    expect(await again.delete(keyOf(1))).toEqual({ dirExisted: true });
    expect(await again.delete(keyOf(1))).toEqual({ dirExisted: false });
    expect(() => again.get(keyOf(1))).toThrow(/was deleted here/);
    expect(await faultOf(bench.create(1))).toMatch(/timeline-deleted/);
    expect((await bench.load()).all().map(timeline => timeline.key)).toEqual([keyOf(2)]);
    expect(bench.disk.files().every(([path]) => !path.includes(keyOf(1).timelineId))).toBe(true);
  });

  test('one being made or deleted when the machine stops is there whole or not at all', async () => {
    for (let step = 1; step < 60; step++) {
      const bench = new Bench();
      await bench.create(2);
      bench.disk.crashAt(step);
      const made = await bench.create(1).then(
        () => true,
        () => false,
      );
      if (made) await bench.timelines.delete(keyOf(2)).catch(() => {});
      bench.disk.crash();
      const after = await bench.load();
      expect(after.damaged(), `step ${step}`).toEqual([]);
      if (made) expect(after.find(keyOf(1))).toBeDefined();
    }
  });

  test.each([
    ['disk-failed', 'it can be deleted'],
    ['disk-full', 'it is opened when that has passed'],
  ] as const)('one in its place when the disk says %s is remembered: %s', async (code, _cure) => {
    const bench = new Bench();
    const timelines = await bench.load();
    const syncDirectory = bench.disk.syncDirectory.bind(bench.disk);
    let fails = 1;
    bench.disk.syncDirectory = async path => {
      if (path === keyOf(1).tenantId && fails-- > 0) throw new Fault(code, 'not now');
      await syncDirectory(path);
    };
    expect(await faultOf(bench.create(1))).toContain(code);
    expect(timelines.damaged().map(d => d.key)).toEqual([keyOf(1)]);
    expect(() => timelines.get(keyOf(1))).toThrow('not now');
    expect(await faultOf(bench.create(1))).toContain(code);
    if (code === 'disk-full') {
      await timelines.tick();
      expect(timelines.get(keyOf(1)).flushLsn).toBe(START);
      return;
    }
    await timelines.tick();
    expect(timelines.find(keyOf(1))).toBeUndefined();
    expect(await timelines.delete(keyOf(1))).toEqual({ dirExisted: true });
    expect(timelines.damaged()).toEqual([]);
  });

  test('a damaged control file is told by name and cure, and harms no other', async () => {
    const bench = new Bench();
    await bench.create(1);
    await bench.create(2);
    bench.disk.rot(`${keyOf(1).tenantId}/${keyOf(1).timelineId}/safekeeper.control`);
    const again = await bench.load();
    expect(again.all().map(timeline => timeline.key)).toEqual([keyOf(2)]);
    const fault = again.damaged()[0]!.fault;
    expect(fault.message).toContain(`${keyOf(1).timelineId}/safekeeper.control`);
    expect(fault.hint).toMatch(/pull_timeline/);
    expect(() => again.get(keyOf(1))).toThrow(/safekeeper.control/);
    expect(await faultOf(bench.create(1))).toMatch(/safekeeper-control/);
    await again.delete(keyOf(1));
    expect(again.damaged()).toEqual([]);
  });

  test('damaged WAL is told by segment and position, and harms no other', async () => {
    const bench = new Bench();
    const wal = walOf(20, 400);
    for (const n of [1, 2]) {
      const session = await elect(await bench.create(n));
      await append(session, wal, wal.start, wal.boundaries[10]!);
      await append(session, wal, wal.boundaries[10]!, wal.end, wal.boundaries[10]!);
      await session.close();
    }
    await bench.timelines.get(keyOf(1)).checkpoint();
    bench.disk.rot(`${keyOf(1).tenantId}/${keyOf(1).timelineId}/000000010000000000000003`, 900);
    const again = await bench.load();
    const fault = again.damaged()[0]!.fault;
    expect(fault.code).toBe('safekeeper-wal');
    expect(fault.message).toContain('000000010000000000000003');
    expect(fault.message).toContain(formatLsn(wal.boundaries[10]!));
    expect(fault.hint).toMatch(/pull_timeline/);
    expect(again.get(keyOf(2)).flushLsn).toBe(wal.end);
  });

  test('keys that cannot be had for now are no damage: loading is tried again', async () => {
    const bench = new Bench();
    await bench.create(1);
    bench.keys.revoke();
    const again = await bench.load();
    expect(again.damaged()).toHaveLength(1);
    bench.keys.restore();
    await again.tick();
    expect(again.damaged()).toEqual([]);
    expect(again.get(keyOf(1)).flushLsn).toBe(START);
  });

  test('an excluded copy goes, unless it knows better; a higher generation may come back', async () => {
    const bench = new Bench();
    await bench.load();
    const members = [1, 2, 3].map(id => ({ id, host: 'h', pgPort: 1 }));
    const seed = (generation: number) => ({
      key: keyOf(1),
      membership: { generation, members, newMembers: undefined },
      pgVersion: PG,
      systemId: 1n,
      walSegSize: MIB,
      startLsn: START,
    });
    await bench.timelines.create(seed(5));
    const without = (generation: number) => ({
      generation,
      members: members.slice(1),
      newMembers: undefined,
    });
    expect(await faultOf(bench.timelines.exclude(keyOf(1), without(4)))).toMatch(/generation-mismatch/);
    expect(await bench.timelines.exclude(keyOf(1), without(6))).toEqual({ dirExisted: true });
    expect(await faultOf(bench.timelines.create(seed(6)))).toMatch(/timeline-deleted/);
    expect((await bench.timelines.create(seed(7))).status().control.membership.generation).toBe(7);
  });

  test('a deleted tenant takes all with it, the damaged ones too, and none is made anew', async () => {
    const bench = new Bench();
    for (const n of [1, 2, 3]) await bench.create(n);
    bench.disk.rot(`${keyOf(2).tenantId}/${keyOf(2).timelineId}/safekeeper.control`);
    const all = await bench.load();
    const gone = await all.deleteTenant(keyOf(1).tenantId);
    expect([...gone.values()]).toEqual([1, 2, 3].map(() => ({ dirExisted: true })));
    expect(bench.disk.files()).toEqual([]);
    expect(await faultOf(bench.create(4))).toMatch(/timeline-deleted/);
  });
});
