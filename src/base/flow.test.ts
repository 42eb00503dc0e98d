import { expect, test } from 'vitest';
import { Gate, Semaphore, SingleFlight } from './flow.ts';

/** Work that ends when told to. */
function piece(log: string[], name: string): { work: () => Promise<string>; end: () => void } {
  let end = (): void => undefined;
  const ended = new Promise<void>(resolve => (end = resolve));
  return {
    work: async () => {
      log.push(`+${name}`);
      await ended;
      log.push(`-${name}`);
      return name;
    },
    end: () => end(),
  };
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 10; i++) await undefined;
};

test('a semaphore lets in so many, in order, and the wide one alone', async () => {
  const log: string[] = [];
  const semaphore = new Semaphore(3);
  const [a, b, wide, c] = ['a', 'b', 'wide', 'c'].map(name => piece(log, name));
  const all = [
    semaphore.run(a!.work),
    semaphore.run(b!.work),
    semaphore.run(wide!.work, 100),
    semaphore.run(c!.work),
  ];
  await settle();
  expect(log).toEqual(['+a', '+b']);
  expect([semaphore.inUse, semaphore.waiting]).toEqual([2, 2]);
  a!.end();
  await settle();
  expect(log).toEqual(['+a', '+b', '-a']);
  b!.end();
  await settle();
  expect(log.at(-1)).toBe('+wide');
  wide!.end();
  await settle();
  expect(log.at(-1)).toBe('+c');
  c!.end();
  await Promise.all(all);
  expect(semaphore.inUse).toBe(0);
});

test('work that fails leaves the semaphore', async () => {
  const semaphore = new Semaphore(1);
  await expect(semaphore.run(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await semaphore.run(async () => 1)).toBe(1);
});

test('of many who ask at once, one fetches; a failure is not kept', async () => {
  const flights = new SingleFlight<number>();
  let fetched = 0;
  const fetch = async (): Promise<number> => {
    await settle();
    if (++fetched === 1) throw new Error('first fails');
    return fetched;
  };
  const first = await Promise.allSettled([flights.run('k', fetch), flights.run('k', fetch)]);
  expect(first.map(r => r.status)).toEqual(['rejected', 'rejected']);
  expect(await Promise.all([flights.run('k', fetch), flights.run('k', fetch)])).toEqual([2, 2]);
  expect(await flights.run('k', fetch)).toBe(3);
});

test('a gate waits for who is inside and lets nobody in any more', async () => {
  const log: string[] = [];
  const gate = new Gate('the room');
  const a = piece(log, 'a');
  const working = gate.run(a.work);
  let closed = false;
  const closing = gate.close().then(() => (closed = true));
  await settle();
  expect(closed).toBe(false);
  await expect(gate.run(a.work)).rejects.toThrow('the room is shutting down');
  a.end();
  await Promise.all([working, closing]);
  expect(closed).toBe(true);
});
