// Which shard of a tenant holds a block: the arithmetic is base's, because safekeepers cut their streams by it, too.

export { DEFAULT_STRIPE_SIZE, ONE_SHARD, type ShardIdentity, shardOfBlock } from '../base/shard.ts';
