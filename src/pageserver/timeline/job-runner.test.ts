// Jobs a few at a time: in order, and none fails unheard.

import { expect, test } from 'vitest';
import { inOrder } from './job-runner.ts';

const after = (turns: number): Promise<void> =>
  turns === 0 ? Promise.resolve() : new Promise(done => setImmediate(done)).then(() => after(turns - 1));

test('results come in the order of the jobs, a few of which are under way', async () => {
  let underWay = 0;
  let most = 0;
  const jobs = Array.from({ length: 10 }, (_, i) => async () => {
    most = Math.max(most, ++underWay);
    await after(10 - i);
    underWay--;
    return i;
  });
  const taken: number[] = [];
  await inOrder(jobs, async i => void taken.push(i));
  expect(taken).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(most).toBeGreaterThan(1);
});

test('a job that fails before its turn is told in its turn, and ends nothing else', async () => {
  const unheard: unknown[] = [];
  const hear = (error: unknown): void => void unheard.push(error);
  process.on('unhandledRejection', hear);
  try {
    const taken: number[] = [];
    const jobs = [
      () => after(20).then(() => 0),
      () => Promise.reject(new Error('early')),
      () => after(30).then(() => Promise.reject(new Error('later'))),
    ];
    await expect(inOrder(jobs, async i => void taken.push(i))).rejects.toThrow('early');
    expect(taken).toEqual([0]);
    await after(5);
    expect(unheard).toEqual([]);
  } finally {
    process.off('unhandledRejection', hear);
  }
});
