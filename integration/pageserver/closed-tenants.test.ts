// A start when the keys of some tenant are not to be had: the key service does not answer, or refuses. The others are
// served, the tenant is told of as closed and not as unknown, and it is attached once its keys are back; but not over
// what somebody said of it meanwhile.

import { expect, test } from 'vitest';
import { Fault } from '../../src/base/fault.ts';
import { type TenantId, tenantId, UNSHARDED } from '../../src/base/ids.ts';
import type { LocationConf } from '../../src/pageserver/location.ts';
import { SimBlobs } from '../sim/blobs.ts';
import { SimClock } from '../sim/clock.ts';
import { SimDisk } from '../sim/disk.ts';
import { pageserverNode, WorldKeys } from '../sim/pageserver-node.ts';
import { SimRandom } from '../sim/random.ts';

const OURS = tenantId('11'.repeat(16));
const OTHER = tenantId('22'.repeat(16));
const at = (tenant: TenantId) => ({ tenant, shard: UNSHARDED });
const conf = (generation: number): LocationConf => ({
  mode: 'AttachedSingle',
  generation,
  warm: false,
  stripeSize: 2048,
  overrides: {},
});

const clock = new SimClock();
const world = { blobs: new SimBlobs({ random: new SimRandom(1) }), clock, seed: 1 };
const keys = new WorldKeys(1);

async function runs<T>(work: Promise<T>, ms: number): Promise<T> {
  let done = false;
  const ended = work.finally(() => (done = true));
  ended.catch(() => undefined);
  await clock.run(clock.monotonic() + ms, () => done);
  return ended;
}

/** A disk on which both tenants are attached. */
async function withBoth(): Promise<SimDisk> {
  const disk = new SimDisk({ random: new SimRandom(2) });
  const first = pageserverNode(world, { keys, disk });
  await runs(first.start(), 60_000);
  for (const tenant of [OURS, OTHER]) await runs(first.upsert(at(tenant), conf(1)), 60_000);
  await runs(first.close(0), 60_000);
  return disk;
}

const stateOf = (find: () => unknown): string => {
  try {
    find();
    return 'attached';
  } catch (error) {
    return (error as Fault).code;
  }
};

test('a key service that does not answer holds up its tenant alone', async () => {
  let answer = (): void => undefined;
  const answered = new Promise<void>(resolve => (answer = resolve));
  const claimKeys = (tenant: TenantId): Promise<void> => (tenant === OURS ? answered : Promise.resolve());
  const node = pageserverNode(world, { keys, disk: await withBoth(), claimKeys });
  await runs(node.start(), 6000);
  expect(stateOf(() => node.get(at(OTHER)))).toBe('attached');
  expect(stateOf(() => node.get(at(OURS)))).toBe('tenant-busy');
  answer();
  await clock.run(clock.monotonic() + 100);
  expect(stateOf(() => node.get(at(OURS)))).toBe('attached');
  expect(node.get(at(OURS)).generation).toBe(2);
  await runs(node.close(0), 60_000);
});

test('a refused key closes its tenant; it comes back by itself, or as somebody says meanwhile', async () => {
  const refused = new Set<TenantId>([OURS, OTHER]);
  const claimKeys = async (tenant: TenantId): Promise<void> => {
    if (refused.has(tenant)) throw new Fault('key-revoked', 'switched off');
  };
  const node = pageserverNode(world, { keys, disk: await withBoth(), claimKeys });
  await runs(node.start(), 1000);
  for (const tenant of [OURS, OTHER]) expect(stateOf(() => node.get(at(tenant)))).toBe('key-revoked');
  await expect(runs(node.upsert(at(OTHER), conf(7)), 100)).rejects.toThrow('switched off');
  refused.delete(OTHER);
  await runs(node.upsert(at(OTHER), conf(7)), 100);
  refused.delete(OURS);
  await clock.run(clock.monotonic() + 20_000);
  expect(node.get(at(OURS)).generation).toBe(2);
  expect(node.get(at(OTHER)).generation).toBe(7);
  refused.add(OURS);
  await runs(node.detach(at(OURS)), 100);
  expect(stateOf(() => node.get(at(OURS)))).toBe('tenant-missing');
  await runs(node.close(0), 60_000);
});
