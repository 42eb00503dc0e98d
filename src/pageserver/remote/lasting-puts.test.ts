import { expect, test } from 'vitest';
import { SimBlobs } from '../../../integration/sim/blobs.ts';
import { SimClock } from '../../../integration/sim/clock.ts';
import { SimRandom } from '../../../integration/sim/random.ts';
import { LateBlobs } from '../../../integration/sim/remote-world.ts';
import { Fault } from '../../base/fault.ts';
import type { Blobs } from '../../base/ports.ts';
import { LastingPuts } from './lasting-puts.ts';
import { retrying } from './retry.ts';

const SETTLE_MS = 6000;

function bench(options: { namesAreOld?: boolean; settleMs?: number } = {}) {
  const clock = new SimClock();
  const random = new SimRandom(1);
  const store = new SimBlobs({ random, clock, latencyMs: 5 });
  const blobs = new LateBlobs(store, clock, random);
  const { namesAreOld = false, settleMs = SETTLE_MS } = options;
  const lasting = new LastingPuts({ blobs, clock, settleMs, namesAreOld });
  const put = async (text: string): Promise<number> => {
    const began = clock.monotonic();
    await lasting.put('k', Buffer.from(text), work => retrying({ clock, random }, work));
    return clock.monotonic() - began;
  };
  const drive = async <T>(work: Promise<T>): Promise<T> => {
    let over = false;
    work.finally(() => (over = true)).catch(() => undefined);
    await clock.run(clock.monotonic() + 3_600_000, () => over);
    return work;
  };
  const inStore = (): string => Buffer.from(store.objects.get('k')!.bytes).toString();
  return { clock, store, blobs, lasting, put, drive, inStore };
}

test('what is answered is not waited for', async () => {
  const { put, drive, inStore } = bench();
  expect(await drive(put('a'))).toBeLessThan(100);
  expect(await drive(put('b'))).toBeLessThan(100);
  expect(inStore()).toBe('b');
});

test('what comes late comes before the next', async () => {
  const { put, drive, blobs, inStore, clock } = bench();
  for (let i = 0; i < 50; i++) {
    blobs.late = 500;
    await drive(put(`a${i}`));
    blobs.late = 0;
    await drive(put(`b${i}`));
    await clock.run(clock.monotonic() + 20_000);
    expect(inStore()).toBe(`b${i}`);
  }
});

test('a put that was given up and is still under way is waited for', async () => {
  const { clock, store, drive, inStore } = bench();
  let answer = (): void => undefined;
  const slow = {
    put: async (key: string, bytes: Uint8Array) => {
      if (bytes[0] === 97) await new Promise<void>(resolve => (answer = resolve));
      await store.put(key, bytes);
    },
  } as unknown as Blobs;
  const lasting = new LastingPuts({ blobs: slow, clock, settleMs: SETTLE_MS, namesAreOld: false });
  void lasting.put('k', Buffer.from('a'), work => work());
  await clock.run(clock.monotonic());
  const next = lasting.put('k', Buffer.from('b'), work => work());
  clock.at(1000, () => answer());
  await drive(next);
  expect(clock.monotonic()).toBeGreaterThanOrEqual(1000);
  expect(inStore()).toBe('b');
});

test('under names of before the first put waits; where nothing comes late, none does', async () => {
  const old = bench({ namesAreOld: true });
  expect(await old.drive(old.put('a'))).toBeGreaterThanOrEqual(SETTLE_MS);
  expect(await old.drive(old.put('b'))).toBeLessThan(100);
  const local = bench({ namesAreOld: true, settleMs: 0 });
  local.store.failure = 500;
  for (let i = 0; i < 10; i++) expect(await local.drive(local.put(`a${i}`))).toBeLessThan(3000);
});

test('who waits can be stopped', async () => {
  const { lasting } = bench({ namesAreOld: true });
  const stop = new AbortController();
  const work = lasting.put('k', Buffer.from('a'), run => run(), stop.signal);
  stop.abort(new Fault('shutting-down', 'over'));
  await expect(work).rejects.toMatchObject({ code: 'shutting-down' });
});
