import { expect, test } from 'vitest';
import { INIT_FORKNUM, MAIN_FORKNUM } from '../base/rel.ts';
import { shardOfBlock } from './shard.ts';

test('a block lies where Neon puts it', () => {
  // The vector of shard.rs.
  expect(shardOfBlock(0x400c, MAIN_FORKNUM, 0x7d06, 10, 32768)).toBe(8);
});

test('few shards, init forks and neighbours in a stripe', () => {
  expect(shardOfBlock(0x400c, MAIN_FORKNUM, 0x7d06, 0, 2048)).toBe(0);
  expect(shardOfBlock(0x400c, MAIN_FORKNUM, 0x7d06, 1, 2048)).toBe(0);
  expect(shardOfBlock(0x400c, INIT_FORKNUM, 0x7d06, 10, 32768)).toBe(0);
  const stripe = new Set<number>();
  for (let blk = 2048; blk < 4096; blk++) stripe.add(shardOfBlock(16384, MAIN_FORKNUM, blk, 4, 2048));
  expect(stripe.size).toBe(1);
});

test('every shard gets its share', () => {
  const counts = [0, 0, 0, 0];
  for (let rel = 16384; rel < 16484; rel++) {
    for (let stripe = 0; stripe < 100; stripe++) counts[shardOfBlock(rel, MAIN_FORKNUM, stripe, 4, 1)]!++;
  }
  for (const count of counts) expect(Math.abs(count - 2500)).toBeLessThan(250);
});
