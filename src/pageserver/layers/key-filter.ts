// Which keys a layer may have: a Bloom filter cut into groups of 512 bits. All bits of a key lie in one group, so
// that a question costs one cache line. Ten bits a key and six probes let about one stranger in eighty pass.
//
//   group g of G:  floor(h1 * G / 2^32)            (h1, h2: the two hashes of key-hash.ts)
//   probe i:       bits 9i .. of h2 stepped by an odd part of itself, modulo 512
//
// On disk: the bits alone, as little-endian words.

import { assert } from '../../base/assert.ts';
import { hashKey, hashKey2 } from './key-hash.ts';

const BITS_PER_KEY = 10;
const PROBES = 6;
const GROUP_BITS = 512;
const GROUP_WORDS = GROUP_BITS / 32;
const TWO_32 = 0x1_0000_0000;

export class KeyFilter {
  private readonly words: Uint32Array;
  private readonly groups: number;

  private constructor(words: Uint32Array) {
    assert(words.length > 0 && words.length % GROUP_WORDS === 0, 'a key filter has whole groups');
    this.words = words;
    this.groups = words.length / GROUP_WORDS;
  }

  static forKeys(count: number): KeyFilter {
    const groups = Math.max(1, Math.ceil((count * BITS_PER_KEY) / GROUP_BITS));
    return new KeyFilter(new Uint32Array(groups * GROUP_WORDS));
  }

  /** Over a copy of the bytes. */
  static from(bytes: Uint8Array): KeyFilter {
    const copy = new Uint8Array(bytes);
    return new KeyFilter(new Uint32Array(copy.buffer, 0, copy.length >> 2));
  }

  get bytes(): Uint8Array {
    return new Uint8Array(this.words.buffer);
  }

  add(rel: number, blk: number): void {
    const h2 = hashKey2(rel, blk);
    const base = this.groupOf(hashKey(rel, blk));
    const step = (h2 >>> 9) | 1;
    for (let i = 0, bit = h2; i < PROBES; i++, bit += step) {
      const at = bit & (GROUP_BITS - 1);
      this.words[base + (at >> 5)]! |= 1 << (at & 31);
    }
  }

  /** False: certainly not. `h1` and `h2` are the key's hashes. */
  mayHave(h1: number, h2: number): boolean {
    const base = this.groupOf(h1);
    const step = (h2 >>> 9) | 1;
    for (let i = 0, bit = h2; i < PROBES; i++, bit += step) {
      const at = bit & (GROUP_BITS - 1);
      if ((this.words[base + (at >> 5)]! & (1 << (at & 31))) === 0) return false;
    }
    return true;
  }

  private groupOf(h1: number): number {
    return Math.floor(((h1 >>> 0) * this.groups) / TWO_32) * GROUP_WORDS;
  }
}
