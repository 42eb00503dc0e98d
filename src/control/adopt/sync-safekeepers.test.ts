// Safekeepers of different lengths, in this process, on a real disk and real sockets.

import { afterEach, beforeEach, expect, test } from 'vitest';
import { type InProcess, startInProcess } from '../../../integration/safekeeper/in-process.ts';
import { addressOf, KEY, proposerTo, SERVER, START } from '../../../integration/safekeeper/proposers.ts';
import { ModelWal } from '../../../integration/sim/model-wal.ts';
import type { Lsn } from '../../base/lsn.ts';
import { hostClock } from '../../host/clock.ts';
import { hostNet } from '../../host/net.ts';
import { hostRandom } from '../../host/random.ts';
import type { AdoptWorld } from './contract.ts';
import { syncSafekeepers } from './sync-safekeepers.ts';

let safekeepers: InProcess[];
beforeEach(async () => {
  safekeepers = await Promise.all([1, 2, 3].map(id => startInProcess(id)));
});
afterEach(async () => {
  for (const safekeeper of safekeepers) await safekeeper.stop();
});

const statusOf = (safekeeper: InProcess) => safekeeper.timelines.find(KEY)!.status();

/** A writer that these alone hear, in its term; where what it wrote ends. */
async function write(wal: ModelWal, hearing: readonly InProcess[], lastTerm: number): Promise<Lsn> {
  const proposer = proposerTo(hearing, { lastTerm });
  const from = await proposer.start();
  for (let i = 0; i < 50; i++) wal.add(new Uint8Array(500).fill(i));
  proposer.push(wal.bytes(from, wal.end).slice());
  await proposer.committed(wal.end);
  while (!hearing.every(s => statusOf(s).flushLsn === wal.end)) await hostClock.sleep(5);
  proposer.close();
  return wal.end;
}

const worldOf = (signal: AbortSignal): AdoptWorld => ({
  clock: hostClock,
  random: hostRandom,
  net: hostNet(),
  http: undefined as never,
  environment: () => undefined,
  signal,
});

const optionsWith = (term: number) => ({
  storage: { safekeepers: safekeepers.map(addressOf), tenant: KEY.tenantId, token: undefined } as never,
  timeline: KEY.timelineId as string,
  major: 17,
  term,
});

test('records that not all of them have are on all of them, and committed', async () => {
  const wal = new ModelWal(START, SERVER);
  await write(wal, safekeepers, 0);
  // Two: whichever two vote first, one of them has the records.
  const end = await write(wal, safekeepers.slice(0, 2), 1);
  expect(safekeepers.map(s => statusOf(s).flushLsn === end)).toEqual([true, true, false]);

  let told: Lsn | undefined;
  const settled = async (lsn: Lsn): Promise<void> => {
    told = lsn;
    while (!safekeepers.every(s => statusOf(s).memory.commitLsn === lsn)) await hostClock.sleep(5);
  };
  expect(await syncSafekeepers(optionsWith(2), worldOf(new AbortController().signal), settled)).toBe(end);
  expect(told).toBe(end);
  expect(safekeepers.map(s => statusOf(s).flushLsn)).toEqual([end, end, end]);
  expect(statusOf(safekeepers[0]!).control.server).toMatchObject({ systemId: 77n });
});

test('a quorum that is away is waited for, and no longer than we are wanted', async () => {
  const wal = new ModelWal(START, SERVER);
  await write(wal, safekeepers, 0);
  for (const safekeeper of safekeepers.slice(1)) await safekeeper.stop();
  const stop = new AbortController();
  const synced = syncSafekeepers(optionsWith(1), worldOf(stop.signal), async () => undefined);
  setTimeout(() => stop.abort(new Error('enough')), 300);
  await expect(synced).rejects.toThrow('closed');
  safekeepers.splice(1);
});
