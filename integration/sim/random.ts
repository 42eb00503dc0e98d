// Chance from a seed: the same seed draws the same numbers for ever. `split` gives a stream of its own to each
// part of a simulation, so that one part drawing more does not change another's luck.
//
// The generator is xoshiro128** (Blackman, Vigna), seeded through splitmix32; it is for tests, never for keys
// that matter.

import type { Random } from '../../src/base/ports.ts';

function splitmix32(state: number): () => number {
  let s = state >>> 0;
  return () => {
    s = (s + 0x9e3779b9) >>> 0;
    let z = s;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
}

/** FNV-1a of a name: where a split stream starts. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

const rotl = (x: number, k: number): number => (x << k) | (x >>> (32 - k));

export class SimRandom implements Random {
  readonly seed: number;
  private readonly s: Int32Array;

  constructor(seed: number) {
    this.seed = seed;
    const next = splitmix32(seed);
    this.s = Int32Array.from([next(), next(), next(), next()]);
  }

  split(name: string): SimRandom {
    return new SimRandom((this.seed ^ hashOf(name)) >>> 0);
  }

  u32(): number {
    const s = this.s;
    const result = Math.imul(rotl(Math.imul(s[1]!, 5), 7), 9);
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = rotl(s[3]!, 11);
    return result >>> 0;
  }

  /** In [0, 1). */
  unit(): number {
    return this.u32() / 2 ** 32;
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  below(limit: number): number {
    return Math.floor((this.u32() * 2 ** 21 + (this.u32() >>> 11)) * 2 ** -53 * limit);
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  bytes(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    for (let i = 0; i < count; ) {
      for (let word = this.u32(), k = 0; k < 4 && i < count; k++, word >>>= 8) bytes[i++] = word;
    }
    return bytes;
  }
}
