// A hash index page: the special space at its end, the metapage, bitmap pages, and how each is made.
//
//   HashPageOpaqueData, at pd_special:  0 hasho_prevblkno u32 | 4 hasho_nextblkno u32 | 8 hasho_bucket u32
//                                      12 hasho_flag u16 | 14 hasho_page_id u16 (0xff80)
//   (a primary bucket page keeps in hasho_prevblkno the highest bucket as of its last split)
//
//   HashMetaPageData, at 24 of block 0: 0 magic u32 | 4 version u32 | 8 ntuples f64 | 16 ffactor u16 | 18 bsize u16
//                                      20 bmsize u16 | 22 bmshift u16 | 24 maxbucket u32 | 28 highmask u32
//                                      32 lowmask u32 | 36 ovflpoint u32 | 40 firstfree u32 | 44 nmaps u32
//                                      48 procid u32 | 52 spares u32[98] | 444 mapp u32[1024]      (4544 bytes)
//   A bitmap page: bits from 24 on, 1 for an overflow page in use, in u32 words, lowest bit first.
//
//   Bucket pages are allocated in ever larger groups, "splitpoints": one per power of two up to 512 buckets, then
//   four phases per power of two. spares[i] counts the overflow pages allocated before splitpoint i.
//
// Mirrors hash.h, _hash_initbuf and _hash_init_metabuffer of hashpage.c, _hash_initbitmapbuffer of hashovfl.c,
// _hash_spareindex of hashutil.c and hash_mask of hash_xlog.c.

import {
  maskLpFlags,
  maskPageContent,
  maskPageHintBits,
  maskPageLsnAndChecksum,
  maskUnusedSpace,
} from '../../bufmask.ts';
import { PAGE_HEADER_SIZE, type Page, pageInit, pdSpecial, setPdLower } from '../../page.ts';

export const HASHO_PREVBLKNO = 0;
export const HASHO_NEXTBLKNO = 4;
export const HASHO_BUCKET = 8;
export const HASHO_FLAG = 12;
export const HASHO_PAGE_ID = 14;
const SIZE_OF_HASH_PAGE_OPAQUE = 16;
const PAGE_ID = 0xff80;

export const LH_UNUSED_PAGE = 0;
export const LH_OVERFLOW_PAGE = 0x0001;
export const LH_BUCKET_PAGE = 0x0002;
export const LH_BITMAP_PAGE = 0x0004;
export const LH_META_PAGE = 0x0008;
export const LH_BUCKET_BEING_POPULATED = 0x0010;
export const LH_BUCKET_BEING_SPLIT = 0x0020;
export const LH_BUCKET_NEEDS_SPLIT_CLEANUP = 0x0040;
export const LH_PAGE_HAS_DEAD_TUPLES = 0x0080;
export const LH_PAGE_TYPE = 0x000f;

export const INVALID_BLOCK_NUMBER = 0xffffffff;
export const INVALID_BUCKET = 0xffffffff;

// Offsets on the metapage, page header included.
const META = PAGE_HEADER_SIZE;
export const HASHM_NTUPLES = META + 8;
export const HASHM_MAXBUCKET = META + 24;
export const HASHM_HIGHMASK = META + 28;
export const HASHM_LOWMASK = META + 32;
export const HASHM_OVFLPOINT = META + 36;
export const HASHM_FIRSTFREE = META + 40;
export const HASHM_NMAPS = META + 44;
const HASHM_SPARES = META + 52;
const HASHM_MAPP = META + 444;
const SIZE_OF_HASH_META_PAGE = 4544;

const HASH_MAGIC = 0x6440640;
const HASH_VERSION = 4;
const HASH_MAX_BITMAPS = 1024;
const HASH_MAX_SPLITPOINTS = 98;
const HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE = 10;
const HASH_SPLITPOINT_PHASE_BITS = 2;
const HASH_SPLITPOINT_PHASE_MASK = 3;
const HASH_MAX_BUCKETS = 0x40000000;

export const hashoFlag = (page: Page): number => page.view.getUint16(pdSpecial(page) + HASHO_FLAG, true);

export function setHashoFlag(page: Page, flag: number): void {
  page.view.setUint16(pdSpecial(page) + HASHO_FLAG, flag, true);
}

export function setHashoPrevblkno(page: Page, blkno: number): void {
  page.view.setUint32(pdSpecial(page) + HASHO_PREVBLKNO, blkno, true);
}

export function setHashoNextblkno(page: Page, blkno: number): void {
  page.view.setUint32(pdSpecial(page) + HASHO_NEXTBLKNO, blkno, true);
}

/** _hash_initbuf: an empty page of the kind that `flag` says; nothing follows it yet. */
export function hashInitPage(page: Page, prevblkno: number, bucket: number, flag: number): void {
  pageInit(page, SIZE_OF_HASH_PAGE_OPAQUE);
  const opaque = pdSpecial(page);
  page.view.setUint32(opaque + HASHO_PREVBLKNO, prevblkno, true);
  page.view.setUint32(opaque + HASHO_NEXTBLKNO, INVALID_BLOCK_NUMBER, true);
  page.view.setUint32(opaque + HASHO_BUCKET, bucket, true);
  page.view.setUint16(opaque + HASHO_FLAG, flag, true);
  page.view.setUint16(opaque + HASHO_PAGE_ID, PAGE_ID, true);
}

/** _hash_initbitmapbuffer: every page that it speaks for counts as in use. */
export function hashInitBitmap(page: Page, bmsize: number): void {
  hashInitPage(page, INVALID_BLOCK_NUMBER, INVALID_BUCKET, LH_BITMAP_PAGE);
  page.bytes.fill(0xff, PAGE_HEADER_SIZE, PAGE_HEADER_SIZE + bmsize);
  setPdLower(page, PAGE_HEADER_SIZE + bmsize);
}

export function setBitmapBit(page: Page, bit: number): void {
  const at = PAGE_HEADER_SIZE + 4 * (bit >>> 5);
  page.view.setUint32(at, (page.view.getUint32(at, true) | (1 << (bit & 31))) >>> 0, true);
}

export function clearBitmapBit(page: Page, bit: number): void {
  const at = PAGE_HEADER_SIZE + 4 * (bit >>> 5);
  page.view.setUint32(at, (page.view.getUint32(at, true) & ~(1 << (bit & 31))) >>> 0, true);
}

// ---- the metapage -------------------------------------------------------------------------------------------

const ceilLog2 = (n: number): number => (n < 2 ? 0 : 32 - Math.clz32(n - 1));

/** _hash_spareindex: the splitpoint phase that `buckets` buckets need. */
export function spareIndex(buckets: number): number {
  const group = ceilLog2(buckets);
  if (group < HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE) return group;
  return (
    HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE +
    ((group - HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE) << HASH_SPLITPOINT_PHASE_BITS) +
    (((buckets - 1) >>> (group - (HASH_SPLITPOINT_PHASE_BITS + 1))) & HASH_SPLITPOINT_PHASE_MASK)
  );
}

/** _hash_get_totalbuckets: how many buckets there are once splitpoint phase `phase` is allocated. */
export function totalBuckets(phase: number): number {
  if (phase < HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE) return 1 << phase;
  const past = phase - HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE;
  const group = HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE + (past >>> HASH_SPLITPOINT_PHASE_BITS);
  const before = 2 ** (group - 1);
  return before + (before >>> HASH_SPLITPOINT_PHASE_BITS) * ((past & HASH_SPLITPOINT_PHASE_MASK) + 1);
}

function initialBuckets(numTuples: number, ffactor: number): number {
  const wanted = numTuples / ffactor;
  if (wanted <= 2) return 2;
  if (wanted >= HASH_MAX_BUCKETS) return HASH_MAX_BUCKETS;
  return totalBuckets(spareIndex(Math.trunc(wanted)));
}

/** _hash_init_metabuffer */
export function hashInitMeta(page: Page, numTuples: number, procid: number, ffactor: number): void {
  const buckets = initialBuckets(numTuples, ffactor);
  const spare = spareIndex(buckets);
  const highmask = 2 ** ceilLog2(buckets + 1) - 1;
  hashInitPage(page, INVALID_BLOCK_NUMBER, INVALID_BUCKET, LH_META_PAGE);
  const { view } = page;
  const bsize = pdSpecial(page) - PAGE_HEADER_SIZE;
  const shift = 31 - Math.clz32(bsize);
  view.setUint32(META, HASH_MAGIC, true);
  view.setUint32(META + 4, HASH_VERSION, true);
  view.setUint16(META + 16, ffactor, true);
  view.setUint16(META + 18, bsize, true);
  view.setUint16(META + 20, 1 << shift, true);
  view.setUint16(META + 22, shift + 3, true);
  view.setUint32(HASHM_MAXBUCKET, buckets - 1, true);
  view.setUint32(HASHM_HIGHMASK, highmask, true);
  view.setUint32(HASHM_LOWMASK, highmask >>> 1, true);
  view.setUint32(HASHM_OVFLPOINT, spare, true);
  view.setUint32(META + 48, procid, true);
  setSpares(page, spare, 1);
  setPdLower(page, META + SIZE_OF_HASH_META_PAGE);
}

export const metaU32 = (page: Page, field: number): number => page.view.getUint32(field, true);

export function setMetaU32(page: Page, field: number, value: number): void {
  page.view.setUint32(field, value, true);
}

export function addNtuples(page: Page, count: number): void {
  page.view.setFloat64(HASHM_NTUPLES, page.view.getFloat64(HASHM_NTUPLES, true) + count, true);
}

function sparesAt(splitpoint: number): number {
  if (splitpoint >= HASH_MAX_SPLITPOINTS) throw new RangeError(`no splitpoint ${splitpoint}`);
  return HASHM_SPARES + 4 * splitpoint;
}

export function setSpares(page: Page, splitpoint: number, count: number): void {
  setMetaU32(page, sparesAt(splitpoint), count);
}

/** One more overflow page at the current splitpoint. */
export function incrementSpares(page: Page): void {
  const at = sparesAt(metaU32(page, HASHM_OVFLPOINT));
  setMetaU32(page, at, metaU32(page, at) + 1);
}

/** One more bitmap page, at `blkno`. */
export function addBitmapPage(page: Page, blkno: number): void {
  const nmaps = metaU32(page, HASHM_NMAPS);
  if (nmaps >= HASH_MAX_BITMAPS) throw new RangeError(`no room for bitmap page ${nmaps}`);
  setMetaU32(page, HASHM_MAPP + 4 * nmaps, blkno);
  setMetaU32(page, HASHM_NMAPS, nmaps + 1);
}

/** hash_mask */
export function hashMask(page: Page): void {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  maskUnusedSpace(page);
  const type = hashoFlag(page) & LH_PAGE_TYPE;
  if (type === LH_UNUSED_PAGE) maskPageContent(page);
  else if (type === LH_BUCKET_PAGE || type === LH_OVERFLOW_PAGE) maskLpFlags(page);
  setHashoFlag(page, hashoFlag(page) & ~LH_PAGE_HAS_DEAD_TUPLES);
}
