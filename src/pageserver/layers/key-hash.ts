// Two 32-bit hashes of a key, for tables and filters. `hashKey` finds slots; `hashKey2` is independent of it.

export function hashKey(rel: number, blk: number): number {
  let h = Math.imul(blk ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(rel, 0xc2b2ae35);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  return h ^ (h >>> 13);
}

export function hashKey2(rel: number, blk: number): number {
  let h = Math.imul(rel ^ 0x27d4eb2f, 0x165667b1) ^ Math.imul(blk, 0x9e3779b1);
  h ^= h >>> 16;
  h = Math.imul(h, 0x7feb352d);
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b);
  return h ^ (h >>> 16);
}
