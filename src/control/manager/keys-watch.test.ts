import { expect, test } from 'vitest';
import { SimBlobs } from '../../../integration/sim/blobs.ts';
import { SimClock } from '../../../integration/sim/clock.ts';
import { silentLog } from '../../../integration/sim/engine.ts';
import { SimKeys } from '../../../integration/sim/keys.ts';
import { SimRandom } from '../../../integration/sim/random.ts';
import { KeyAdmin } from '../../seal/key-admin.ts';
import { KeyCalls } from '../../seal/key-calls.ts';
import { KEY_TIMES } from '../../seal/key-state.ts';
import { blobKeyStore } from '../../seal/key-store.ts';
import { WatchedKeys } from './keys-watch.ts';

const T = '0123456789abcdef'.repeat(2);

function bench() {
  const clock = new SimClock();
  const random = new SimRandom(1);
  const service = new SimKeys({ random, clock });
  const cmk = service.make('mine');
  const audit = { line: () => undefined };
  const admin = new KeyAdmin({
    store: blobKeyStore(new SimBlobs({ random, clock, latencyMs: 5 })),
    calls: new KeyCalls({
      services: [service],
      clock,
      audit,
      who: 'manager',
      requestMs: KEY_TIMES.requestMs,
    }),
  });
  const keys = new WatchedKeys({
    ...{ admin, random, log: silentLog, times: KEY_TIMES, defaultCmk: cmk },
    told: () => undefined,
  });
  const drive = async <V>(work: Promise<V>): Promise<V> => {
    let over = false;
    work.finally(() => (over = true)).catch(() => undefined);
    await clock.run(clock.monotonic() + 600_000, () => over);
    return work;
  };
  return { clock, service, cmk, keys, drive };
}

test('the key of a project that nobody watches is asked once a poll, by who looks at it', async () => {
  const { clock, service, cmk, keys, drive } = bench();
  await drive(keys.bind(T, cmk));
  expect(keys.heard(T)).toBe('unknown');
  expect(await drive(keys.look(T))).toBe('usable');
  const { calls } = service;
  service.set('mine', 'disabled');
  expect(await drive(keys.look(T))).toBe('usable');
  expect(service.calls).toBe(calls);
  await drive(clock.sleep(KEY_TIMES.pollMs));
  expect(keys.heard(T)).toBe('unknown');
  expect(await drive(keys.look(T))).toBe('revoked');
  expect(keys.heard(T)).toBe('revoked');
  expect(keys.use(T)).toBe('unknown');
});

test('what was watched is known for a poll; a service that hangs is not waited for', async () => {
  const { clock, service, cmk, keys, drive } = bench();
  await drive(keys.bind(T, cmk));
  expect(await drive(keys.watch(T))).toBe('usable');
  keys.release(T);
  expect(keys.heard(T)).toBe('usable');
  await drive(clock.sleep(KEY_TIMES.pollMs));
  service.mood = 'hanging';
  const before = clock.monotonic();
  expect(await drive(keys.look(T))).toBe('unknown');
  expect(clock.monotonic() - before).toBeLessThan(3000);
  service.mood = 'down';
  expect(await drive(keys.look(T))).toBe('unknown');
});
