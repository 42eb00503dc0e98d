// Jobs on real threads: the same bytes come back as from running them in place, errors keep what they are, and a
// pool that is closed or loses a thread says so.

import { afterAll, expect, test } from 'vitest';
import { SpareBuffers } from '../../src/base/spare-buffers.ts';
import { WorkerPool } from '../../src/host/pool.ts';
import { packMemoryLayer } from '../../src/pageserver/jobs/flush.ts';
import { Parcel } from '../../src/pageserver/jobs/parcel.ts';
import { inlinePool } from '../../src/pageserver/jobs.ts';
import { ALL_KEYS } from '../../src/pageserver/key.ts';
import { MemoryLayer } from '../../src/pageserver/layers/memory-layer.ts';
import { VALUE_IMAGE, VALUE_RECORD } from '../../src/pageserver/value.ts';
import { SimRandom } from '../sim/random.ts';

const ENTRY = new URL('../../src/worker.ts', import.meta.url);
const pool = new WorkerPool({ entry: ENTRY, workers: 2 });
afterAll(() => pool.close());

async function flushInput(seed: number, spares = new SpareBuffers(0)): Promise<Uint8Array> {
  const random = new SimRandom(seed);
  const layer = new MemoryLayer(100, { spares });
  for (let i = 0; i < 2000; i++) {
    const isImage = random.chance(0.02);
    const bytes = random.bytes(isImage ? 8192 : 1 + random.below(300));
    layer.put(
      1024,
      random.below(500),
      100 + i,
      isImage ? VALUE_IMAGE : VALUE_RECORD,
      0,
      bytes,
      0,
      bytes.length,
    );
  }
  layer.freeze(3000, 2900);
  const identity = {
    kind: 'delta' as const,
    sparse: false,
    keys: ALL_KEYS,
    lsnStart: 100,
    lsnEnd: 3000,
    generation: 1,
  };
  const input = await packMemoryLayer(layer, identity, async () => undefined, spares);
  layer.release();
  return input;
}

test('a thread makes the bytes that this thread makes', async () => {
  const seeds = Array.from({ length: 12 }, (_, i) => i);
  const there = await Promise.all(seeds.map(async seed => pool.run('flush', await flushInput(seed))));
  for (const seed of seeds) {
    const here = await inlinePool.run('flush', await flushInput(seed));
    expect(Buffer.compare(there[seed]!, here)).toBe(0);
  }
});

test('buffers that were used before make no difference', async () => {
  const spares = new SpareBuffers(64 * 1024 * 1024);
  let back = 0;
  for (let seed = 0; seed < 12; seed++) {
    const there = await pool.run('flush', await flushInput(seed, spares), input => {
      back++;
      spares.giveBack(input.fill(0xff));
    });
    expect(Buffer.compare(there, await inlinePool.run('flush', await flushInput(seed)))).toBe(0);
  }
  expect(back).toBe(12);
});

test('the input is given away', async () => {
  const input = await flushInput(1);
  await pool.run('flush', input);
  expect(input.length).toBe(0);
});

test('an error comes back as what it was', async () => {
  const header = {
    range: ALL_KEYS,
    runs: [{ name: 'some-layer', stored: [16] }],
    readable: { cutoff: 0, points: [] },
  };
  const job = pool.run('merge', Parcel.of(header, [new Uint8Array(16)]));
  await expect(job).rejects.toMatchObject({ name: 'Fault', code: 'layer-corrupt', kind: 'corrupt' });
  await expect(pool.run('merge', Parcel.of(header, [new Uint8Array(16)]))).rejects.toThrow(/some-layer/);
  await expect(pool.run('nothing', new Uint8Array(0))).rejects.toThrow(/no job nothing/);
});

test('a closed pool takes no jobs, and gives up those it has', async () => {
  const own = new WorkerPool({ entry: ENTRY, workers: 1 });
  const jobs = [1, 2, 3, 4].map(async seed => own.run('flush', await flushInput(seed)));
  const ended = Promise.allSettled(jobs);
  await new Promise(resolve => setTimeout(resolve, 5));
  await own.close();
  for (const result of await ended) {
    if (result.status === 'rejected')
      expect((result.reason as { code: string }).code).toMatch(/worker-failed|shutting-down/);
  }
  await expect(own.run('flush', await flushInput(1))).rejects.toMatchObject({ code: 'shutting-down' });
});
