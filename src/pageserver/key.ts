// The key space of a timeline: what a value is stored under. A key is two numbers, `rel` and `blk`, ordered by
// rel and then blk; both are unsigned 32-bit on disk.
//
//   rel 1             names: everything that is found by name and not by block (names.ts). blk = 32-bit hash of
//                     the name; the value lists every (name, contents) with that hash.
//                     blk 0xFFFFFFFF = when the newest commit was (lsn-by-time.ts)
//   rel 2..5          SLRUs: clog, multixact members, multixact offsets, commit timestamps. blk = page number;
//                     blk 0xFFFFFFFF = the list of segments there are, with their lengths (slru-store.ts)
//   rel 6             lengths of relation forks: blk = the fork's id (directory.ts). All in one range, so that a
//                     start reads them in one scan
//   rel 1024 and up   one relation fork each, by a small id given out per timeline in the order of creation
//                     (directory.ts). blk = block number
//
// A fork's id never changes. A branch goes on counting where its parent stood at the branch point; both may then
// give out the same id for different forks, which cannot meet: a read falls through to the parent only below the
// branch point.
//
// Hot paths pass the two numbers; nobody makes an object or a string per key.

import type { SlruKind } from '../base/rel.ts';

export const REL_NAMES = 1;
const REL_SLRU_FIRST = 2;
export const REL_SIZES = 6;
export const REL_RELATIONS_FIRST = 1024;
/** Ids must leave the key exact in one double where a table wants it so: rel * 2^32 + blk < 2^53. */
export const REL_MAX = 0x1f_ffff;

/** Not a block: the segments of an SLRU, the time of the newest commit. No fork reaches this many blocks. */
export const BLK_SIZE = 0xffff_ffff;

export const relOfSlru = (kind: SlruKind): number => REL_SLRU_FIRST + kind;
export const isSlruRel = (rel: number): boolean => rel >= REL_SLRU_FIRST && rel < REL_SLRU_FIRST + 4;
export const slruOfRel = (rel: number): SlruKind => (rel - REL_SLRU_FIRST) as SlruKind;
export const isRelationRel = (rel: number): boolean => rel >= REL_RELATIONS_FIRST;

/** Pages are redone and cut to 8192 bytes; names and sizes are bytes that mean themselves. */
export const isPageKey = (rel: number, blk: number): boolean =>
  blk !== BLK_SIZE && rel !== REL_NAMES && rel !== REL_SIZES;

export const compareKeys = (relA: number, blkA: number, relB: number, blkB: number): number =>
  relA !== relB ? relA - relB : blkA - blkB;

/** One double that sorts as the key does; for tables and logs, not for loops. */
export const packKey = (rel: number, blk: number): number => rel * 0x1_0000_0000 + blk;
export const unpackKey = (packed: number): { rel: number; blk: number } => ({
  rel: Math.floor(packed / 0x1_0000_0000),
  blk: packed % 0x1_0000_0000,
});

/** A range of keys, `end` excluded. */
export interface KeyRange {
  readonly start: { readonly rel: number; readonly blk: number };
  readonly end: { readonly rel: number; readonly blk: number };
}

export const ALL_KEYS: KeyRange = { start: { rel: 0, blk: 0 }, end: { rel: REL_MAX + 1, blk: 0 } };

export const formatKey = (rel: number, blk: number): string =>
  `${rel.toString(16).padStart(8, '0')}${blk.toString(16).padStart(8, '0')}`;

/** FNV-1a over the name's UTF-16 units: where a name is filed. */
export function nameHash(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) {
    hash ^= name.charCodeAt(i);
    hash = Math.imul(hash, 0x01000193);
  }
  hash >>>= 0;
  // The last value is BLK_SIZE, which means something else.
  return hash === BLK_SIZE ? 0 : hash;
}
