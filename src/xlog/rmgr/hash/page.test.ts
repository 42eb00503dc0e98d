import { describe, expect, it } from 'vitest';
import { newPage, pdLower } from '../../page.ts';
import {
  clearBitmapBit,
  HASHM_HIGHMASK,
  HASHM_LOWMASK,
  HASHM_MAXBUCKET,
  HASHM_OVFLPOINT,
  hashInitBitmap,
  hashInitMeta,
  metaU32,
  setBitmapBit,
  spareIndex,
  totalBuckets,
} from './page.ts';

describe('splitpoints', () => {
  it('come one per power of two up to 512 buckets, then four per power of two', () => {
    const totals = Array.from({ length: 19 }, (_, phase) => totalBuckets(phase));
    expect(totals).toEqual([
      1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560,
    ]);
    expect(totalBuckets(97)).toBe(2 ** 31);
  });

  it('a number of buckets needs the first splitpoint that has as many', () => {
    for (let phase = 1, buckets = 1; buckets <= 5000; buckets++) {
      if (buckets > totalBuckets(phase)) phase++;
      expect(spareIndex(buckets)).toBe(buckets === 1 ? 0 : phase);
    }
    expect(spareIndex(0x40000000)).toBe(93);
    expect(totalBuckets(93)).toBe(0x40000000);
  });
});

describe('the metapage', () => {
  const shape = (numTuples: number, ffactor: number): number[] => {
    const page = newPage();
    hashInitMeta(page, numTuples, 450, ffactor);
    expect(pdLower(page)).toBe(4568);
    return [HASHM_MAXBUCKET, HASHM_HIGHMASK, HASHM_LOWMASK, HASHM_OVFLPOINT].map(field =>
      metaU32(page, field),
    );
  };

  it('begins with as many buckets as the tuples need, at least two', () => {
    expect(shape(0, 307)).toEqual([1, 3, 1, 1]);
    expect(shape(614, 307)).toEqual([1, 3, 1, 1]);
    expect(shape(1000, 307)).toEqual([3, 7, 3, 2]);
    expect(shape(200_000, 307)).toEqual([767, 1023, 511, 11]);
    expect(shape(1e12, 307)).toEqual([0x3fffffff, 0x7fffffff, 0x3fffffff, 93]);
  });
});

describe('a bitmap page', () => {
  it('has every bit set at first, and keeps all but the one that is changed', () => {
    const page = newPage();
    hashInitBitmap(page, 4096);
    const whole = page.bytes.slice();
    for (const bit of [0, 31, 32, 63, 32767]) {
      clearBitmapBit(page, bit);
      expect(page.bytes[24 + (bit >>> 3)]).toBe(0xff & ~(1 << (bit & 7)));
      setBitmapBit(page, bit);
      expect(page.bytes).toEqual(whole);
    }
  });
});
