// A timeline's objects in the store: whoever removes all of them leaves none behind, whatever is under way.

import { expect, test } from 'vitest';
import { SimBlobs } from '../../integration/sim/blobs.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { tenantId, timelineId } from '../base/ids.ts';
import type { Vault } from '../seal/vault.ts';
import type { TimelineKey } from './timeline-handle.ts';
import { WalRemote } from './wal-remote.ts';

const keyOf = (n: number): TimelineKey => ({
  tenantId: tenantId('1a'.repeat(16)),
  timelineId: timelineId(n.toString(16).padStart(32, '0')),
});
const BYTES = new Uint8Array(100);
const FILE = { size: BYTES.length, read: async () => BYTES, close: async () => {} };
const VAULT = { copyOut: async () => FILE } as unknown as Vault;

test('what is on its way up is waited for, and removed with the rest', async () => {
  const blobs = new SimBlobs({ random: new SimRandom(1) });
  const put = blobs.put.bind(blobs);
  let arrive = (): void => {};
  const arrived = new Promise<void>(resolve => {
    arrive = resolve;
  });
  blobs.put = async (key, bytes) => {
    if (key.endsWith('2')) await arrived;
    await put(key, bytes);
  };
  const remote = new WalRemote(blobs, () => VAULT);
  const [key, other] = [keyOf(1), keyOf(9)];
  await remote.putSegment(key, '000000010000000000000001');
  const late = remote.putSegment(key, '000000010000000000000002');
  await remote.putSegment(other, '000000010000000000000001');
  const removed = remote.removeAll(key);
  setTimeout(arrive, 20);
  await Promise.all([late, removed]);
  expect([...blobs.objects.keys()]).toEqual([
    `${other.tenantId}/${other.timelineId}/000000010000000000000001`,
  ]);
});

test('an upload that fails is no reason to keep the rest', async () => {
  const blobs = new SimBlobs({ random: new SimRandom(1) });
  const remote = new WalRemote(blobs, () => VAULT);
  await remote.putSegment(keyOf(1), '000000010000000000000001');
  blobs.put = async () => {
    throw new Error('no');
  };
  const failed = remote.putSegment(keyOf(1), '000000010000000000000002');
  const removed = remote.removeAll(keyOf(1));
  await expect(failed).rejects.toThrow('no');
  await removed;
  expect(blobs.objects.size).toBe(0);
});
