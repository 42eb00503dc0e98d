// Which shard of a tenant holds a block. Compute and storage reckon it alike, or a compute asks the wrong one.
//
//   hash  = combine(mm(relNode), mm(blkno / stripe))     mm: the finaliser of murmurhash3, 32 bits
//   shard = hash mod count
//
// Fewer than two shards are shard 0. Blocks of init forks, and whatever is no block of a relation, belong to shard 0.
//
// Answers to key_to_shard_number of libs/pageserver_api/src/shard.rs and get_shard_number of pgxn/neon/libpagestore.c.

import type { ShardIndex } from './ids.ts';
import { INIT_FORKNUM } from './rel.ts';

/** A shard and how blocks are dealt out: `stripeSize` is in pages of 8 KiB. */
export interface ShardIdentity extends ShardIndex {
  readonly stripeSize: number;
}

/** 16 MiB. */
export const DEFAULT_STRIPE_SIZE = 2048;

export const ONE_SHARD: ShardIdentity = { number: 0, count: 0, stripeSize: DEFAULT_STRIPE_SIZE };

function murmur(value: number): number {
  let h = value | 0;
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  h ^= h >>> 16;
  return h;
}

const combine = (a: number, b: number): number => a ^ (b + 0x9e3779b9 + (a << 6) + (a >>> 2));

export function shardOfBlock(
  relNumber: number,
  forkNum: number,
  blkno: number,
  count: number,
  stripeSize: number,
): number {
  if (count < 2 || forkNum === INIT_FORKNUM) return 0;
  const hash = combine(murmur(relNumber), murmur(Math.floor(blkno / stripeSize)));
  return (hash >>> 0) % count;
}
