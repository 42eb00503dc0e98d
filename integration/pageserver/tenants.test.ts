// Tenants from their creation by a real initdb to their end, over a simulated disk and object store: restarts with and
// without local files, on another machine, under newer generations; branches; deletion.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tenantId, timelineId, UNSHARDED } from '../../src/base/ids.ts';
import { hostClock } from '../../src/host/clock.ts';
import { hostInitdb } from '../../src/host/initdb.ts';
import { bootstrapTimeline } from '../../src/pageserver/bootstrap.ts';
import type { LocationConf } from '../../src/pageserver/location.ts';
import type { TenantTimeline } from '../../src/pageserver/tenant-timeline.ts';
import type { Tenants } from '../../src/pageserver/tenants.ts';
import { branchTimeline } from '../../src/pageserver/timeline-create.ts';
import { deleteTimeline } from '../../src/pageserver/timeline-delete.ts';
import { SimBlobs } from '../sim/blobs.ts';
import { SimDisk } from '../sim/disk.ts';
import { pageserverNode, WorldKeys } from '../sim/pageserver-node.ts';
import { SimRandom } from '../sim/random.ts';

const TENANT = tenantId('11'.repeat(16));
const AT = { tenant: TENANT, shard: UNSHARDED };
const ROOT = timelineId('aa'.repeat(16));
const CHILD = timelineId('bb'.repeat(16));
const GRANDCHILD = timelineId('cc'.repeat(16));

const conf = (generation: number, change: Partial<LocationConf> = {}): LocationConf => ({
  mode: 'AttachedSingle',
  generation,
  warm: false,
  stripeSize: 2048,
  overrides: {},
  ...change,
});

const keys = new WorldKeys(1);
const blobs = new SimBlobs({ random: new SimRandom(1) });
const world = { blobs, clock: hostClock, seed: 1 };
const newDisk = (): SimDisk => new SimDisk({ random: new SimRandom(2) });
const node = (disk: SimDisk): Tenants =>
  pageserverNode(world, { keys, disk, initdb: hostInitdb({ distribDir: undefined }) });

/** Every page of a few catalogs, as bytes: what must be the same wherever the timeline is. */
async function pagesOf({ pgdata, timeline }: TenantTimeline): Promise<string[]> {
  const lsn = timeline.lastRecordLsn;
  const snapshot = await pgdata.snapshot(lsn);
  const pages: string[] = [];
  for (const rel of snapshot.relations.slice(0, 60)) {
    const size = (await pgdata.relSize(rel, lsn)) ?? 0;
    for (let blkno = 0; blkno < Math.min(size, 3); blkno++) {
      const page = await pgdata.getPage(rel, blkno, lsn);
      pages.push(
        `${rel.relNumber}/${rel.forkNum}/${blkno} ${Buffer.from(page).toString('base64').slice(0, 400)}`,
      );
    }
  }
  return pages;
}

const keysUnder = (prefix: string): string[] =>
  [...blobs.objects.keys()].filter(key => key.startsWith(prefix));

describe.sequential('the life of a tenant', () => {
  const disk = newDisk();
  let tenants = node(disk);
  let wanted: string[] = [];
  let end = 0;

  beforeAll(async () => {
    await tenants.start();
  });
  afterAll(async () => {
    await tenants.close(0);
  });

  test('a tenant that nobody knew is attached, and is empty', async () => {
    await tenants.upsert(AT, conf(1));
    const tenant = await tenants.active(AT);
    expect(tenant.timelines.size).toBe(0);
  });

  test('a timeline is bootstrapped, asked twice it is the same one', async () => {
    const tenant = await tenants.active(AT);
    const request = { id: ROOT, pgVersion: 17, flavour: 'neon' as const, existingInitdb: undefined };
    const creating = bootstrapTimeline(tenant, request);
    await new Promise(resolve => setTimeout(resolve, 50));
    await expect(bootstrapTimeline(tenant, request)).rejects.toMatchObject({ code: 'timeline-busy' });
    const timeline = await creating;
    expect(await bootstrapTimeline(tenant, request)).toBe(timeline);
    await expect(bootstrapTimeline(tenant, { ...request, pgVersion: 16 })).rejects.toMatchObject({
      code: 'timeline-exists',
    });
    expect(timeline.phase).toBe('Active');
    end = timeline.timeline.lastRecordLsn;
    expect(timeline.timeline.prevRecordLsn).toBeGreaterThan(0);
    expect(timeline.remote.durableLsn).toBe(end);
    wanted = await pagesOf(timeline);
    expect(wanted.length).toBeGreaterThan(50);
    expect(keysUnder(`tenants/${TENANT}/timelines/${ROOT}/initdb.tar.zst`)).toHaveLength(1);
  });

  test('a branch is quick, reads through to its parent, and asked twice is the same one', async () => {
    const tenant = await tenants.active(AT);
    const began = performance.now();
    const child = await branchTimeline(tenant, { id: CHILD, ancestor: ROOT, lsn: undefined });
    const ms = performance.now() - began;
    expect(ms).toBeLessThan(50);
    expect(await branchTimeline(tenant, { id: CHILD, ancestor: ROOT, lsn: undefined })).toBe(child);
    expect(await branchTimeline(tenant, { id: CHILD, ancestor: ROOT, lsn: end })).toBe(child);
    await expect(branchTimeline(tenant, { id: CHILD, ancestor: ROOT, lsn: end - 8 })).rejects.toMatchObject({
      code: 'timeline-exists',
    });
    expect(await pagesOf(child)).toEqual(wanted);
    await branchTimeline(tenant, { id: GRANDCHILD, ancestor: CHILD, lsn: undefined });
  });

  test('a branch below what is kept is refused, with the words that clients look for', async () => {
    const tenant = await tenants.active(AT);
    const id = timelineId('dd'.repeat(16));
    await expect(branchTimeline(tenant, { id, ancestor: ROOT, lsn: 8 })).rejects.toThrow(
      /invalid branch start lsn: .*less than latest GC cutoff/,
    );
    await expect(branchTimeline(tenant, { id, ancestor: CHILD, lsn: 8 })).rejects.toThrow(
      /less than timeline ancestor lsn/,
    );
    expect(tenant.making.size).toBe(0);
  });

  const expectAll = async (): Promise<void> => {
    const tenant = await tenants.active(AT);
    expect([...tenant.timelines.keys()].sort()).toEqual([ROOT, CHILD, GRANDCHILD]);
    for (const id of [ROOT, CHILD, GRANDCHILD]) {
      const timeline = await tenant.activeTimeline(id, 5000);
      expect(timeline.timeline.lastRecordLsn).toBe(end);
      expect(await pagesOf(timeline)).toEqual(wanted);
    }
  };

  test('restarted with its disk: attached again under a higher generation, nothing is downloaded', async () => {
    await tenants.close(1000);
    tenants = node(disk);
    await tenants.start();
    expect(tenants.location(AT).generation).toBe(2);
    await expectAll();
    expect(tenants.deps.remote.cache.downloads).toBe(0);
  });

  test('restarted without its disk: the object store has all of it', async () => {
    await tenants.close(0);
    tenants = node(newDisk());
    await tenants.start();
    expect(tenants.attached()).toEqual([]);
    await tenants.upsert(AT, conf(7));
    await expectAll();
    expect(tenants.deps.remote.cache.downloads).toBeGreaterThan(0);
  });

  test('detached it is gone from here, attached again it is back', async () => {
    await tenants.detach(AT);
    await tenants.detach(AT);
    expect(() => tenants.get(AT)).toThrow(/not found/);
    await expect(tenants.find(TENANT, ROOT)).rejects.toMatchObject({ code: 'tenant-missing' });
    await tenants.upsert(AT, conf(8));
    await expectAll();
    await expect(tenants.upsert(AT, conf(7))).rejects.toThrow(/older than 8/);
  });

  test('a timeline with children is not deleted; without, nothing of it stays', async () => {
    const tenant = await tenants.active(AT);
    await expect(deleteTimeline(tenant, ROOT)).rejects.toMatchObject({ code: 'timeline-has-children' });
    for (const id of [GRANDCHILD, CHILD, ROOT]) {
      await deleteTimeline(tenant, id);
      expect(() => tenant.timeline(id)).toThrow(/was not found/);
      await tenant.deleting.get(id);
      expect(keysUnder(`tenants/${TENANT}/timelines/${id}`)).toEqual([]);
      expect(tenant.deleting.has(id)).toBe(false);
    }
    await tenants.reload(AT);
    expect((await tenants.active(AT)).timelines.size).toBe(0);
  });
});

test('a deletion that was interrupted is gone on with by the next attachment', async () => {
  const at = { tenant: tenantId('22'.repeat(16)), shard: UNSHARDED };
  const first = node(newDisk());
  await first.upsert(at, conf(1));
  const tenant = await first.active(at);
  await bootstrapTimeline(tenant, { id: ROOT, pgVersion: 16, flavour: 'neon', existingInitdb: undefined });
  blobs.before = verb => {
    if (verb === 'remove') throw new Error('the machine stopped');
  };
  await deleteTimeline(tenant, ROOT);
  await tenant.deleting.get(ROOT);
  expect(keysUnder(`tenants/${at.tenant}/timelines/${ROOT}`).length).toBeGreaterThan(2);
  blobs.before = () => undefined;

  const second = node(newDisk());
  await second.upsert(at, conf(2));
  const again = await second.active(at);
  expect(again.timelines.size).toBe(0);
  await again.deleting.get(ROOT);
  expect(keysUnder(`tenants/${at.tenant}/timelines/${ROOT}`)).toEqual([]);
  await second.close(0);
});
