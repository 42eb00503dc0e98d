// Page edits that a record implies without naming the block: visibility bits that an update takes away, and what
// remains of a visibility or free space map when its relation is cut. Postgres makes them as it replays
// (visibilitymap_clear, visibilitymap_prepare_truncate, FreeSpaceMapPrepareTruncateRel); whoever keeps pages by
// block stores them as values of their own. SLRU entries are in slru.ts and slru-multixact.ts.
//
//   visibility map page: 24 header | 8168 bytes, 2 bits per heap block: 1 all-visible, 2 all-frozen
//   free space map page: 24 header | fp_next_slot i32 | 4095 inner nodes u8 | 4069 leaves u8
//     a binary tree of maxima, node n's children 2n+1 and 2n+2, one leaf per page below; the tree of pages is
//     three levels deep, each page stored right before its first child's subtree
//
// visibilitymap_clear leaves pd_lsn alone in Postgres; Neon's pageserver stamps the record's LSN, which the
// caller may do. The truncations stamp none in either. Neon zeroes the whole last free space map page instead of
// cutting it (a map that promises less than there is: legal, and forgetful); here it is cut as Postgres does.
// Postgres then carries the new maxima to the pages above (FreeSpaceMapVacuumRange), which needs pages a redo of
// one block does not see: a search that an upper page sends astray mends it, as it does after a crash.

import { BLCKSZ, PAGE_HEADER_SIZE, type Page } from './page.ts';

// ---- visibility map -----------------------------------------------------------------------------------------

export const VISIBILITYMAP_ALL_VISIBLE = 0x01;
export const VISIBILITYMAP_ALL_FROZEN = 0x02;
export const VISIBILITYMAP_VALID_BITS = 0x03;

const VM_MAP_SIZE = BLCKSZ - PAGE_HEADER_SIZE;
const HEAPBLOCKS_PER_BYTE = 4;
/** Heap blocks that one page of the map covers. */
export const VM_HEAPBLOCKS_PER_PAGE = VM_MAP_SIZE * HEAPBLOCKS_PER_BYTE;

/** HEAPBLK_TO_MAPBLOCK */
export const vmBlockOf = (heapBlk: number): number => Math.floor(heapBlk / VM_HEAPBLOCKS_PER_PAGE);

const vmByteAt = (heapBlk: number): number => PAGE_HEADER_SIZE + ((heapBlk % VM_HEAPBLOCKS_PER_PAGE) >> 2);
const vmShift = (heapBlk: number): number => (heapBlk % HEAPBLOCKS_PER_BYTE) * 2;

/** visibilitymap_get_status */
export const vmStatus = (page: Page, heapBlk: number): number =>
  (page.view.getUint8(vmByteAt(heapBlk)) >> vmShift(heapBlk)) & VISIBILITYMAP_VALID_BITS;

/** visibilitymap_clear; whether any bit was set. */
export function vmClear(page: Page, heapBlk: number, flags: number): boolean {
  const at = vmByteAt(heapBlk);
  const byte = page.view.getUint8(at);
  const kept = byte & ~(flags << vmShift(heapBlk));
  page.view.setUint8(at, kept);
  return kept !== byte;
}

/** How a map fork shrinks with its relation. */
export interface MapTruncation {
  /** The fork's new length in blocks, if it is longer than that. */
  readonly nblocks: number;
  /** The last block that stays and loses its tail, if the cut falls inside one. */
  readonly cutBlock?: number;
}

/** visibilitymap_prepare_truncate, for a relation cut to `heapBlocks` blocks. */
export function vmTruncation(heapBlocks: number): MapTruncation {
  const block = vmBlockOf(heapBlocks);
  return heapBlocks % VM_HEAPBLOCKS_PER_PAGE === 0
    ? { nblocks: block }
    : { nblocks: block + 1, cutBlock: block };
}

/** The cut block of the visibility map forgets what lies from `heapBlocks` on. */
export function vmTruncatePage(page: Page, heapBlocks: number): void {
  const at = vmByteAt(heapBlocks);
  page.bytes.fill(0, at + 1, BLCKSZ);
  page.view.setUint8(at, page.view.getUint8(at) & ((1 << vmShift(heapBlocks)) - 1));
}

// ---- free space map -----------------------------------------------------------------------------------------

const FP_NODES = PAGE_HEADER_SIZE + 4;
const NODES_PER_PAGE = BLCKSZ - FP_NODES;
const NON_LEAF_NODES_PER_PAGE = BLCKSZ / 2 - 1;
/** SlotsPerFSMPage: heap blocks that one bottom page covers, and children of an upper one. */
export const FSM_SLOTS_PER_PAGE = NODES_PER_PAGE - NON_LEAF_NODES_PER_PAGE;
export const FSM_TREE_DEPTH = 3;

/** fsm_logical_to_physical: where the page `logical` of a level lies in the fork; level 0 is the bottom. */
export function fsmLogicalToPhysical(level: number, logical: number): number {
  let leaf = logical * FSM_SLOTS_PER_PAGE ** level;
  let pages = 0;
  for (let l = 0; l < FSM_TREE_DEPTH; l++) {
    pages += leaf + 1;
    leaf = Math.floor(leaf / FSM_SLOTS_PER_PAGE);
  }
  return pages - level - 1;
}

/** The block of the free space map that holds a heap block's slot. */
export const fsmBlockOf = (heapBlk: number): number =>
  fsmLogicalToPhysical(0, Math.floor(heapBlk / FSM_SLOTS_PER_PAGE));

/** FreeSpaceMapPrepareTruncateRel, for a relation cut to `heapBlocks` blocks. */
export function fsmTruncation(heapBlocks: number): MapTruncation {
  const block = fsmBlockOf(heapBlocks);
  return heapBlocks % FSM_SLOTS_PER_PAGE === 0 ? { nblocks: block } : { nblocks: block + 1, cutBlock: block };
}

/** fsm_truncate_avail on the cut block: slots from `heapBlocks` on are emptied and the tree above follows. */
export function fsmTruncatePage(page: Page, heapBlocks: number): void {
  const { bytes } = page;
  const from = FP_NODES + NON_LEAF_NODES_PER_PAGE + (heapBlocks % FSM_SLOTS_PER_PAGE);
  let changed = false;
  for (let at = from; at < BLCKSZ && !changed; at++) changed = bytes[at] !== 0;
  if (!changed) return;
  bytes.fill(0, from, BLCKSZ);
  fsmRebuildPage(page);
}

/** fsm_rebuild_page: every inner node is the larger of its children, as far as it has any. */
export function fsmRebuildPage(page: Page): void {
  const { bytes } = page;
  for (let node = NON_LEAF_NODES_PER_PAGE - 1; node >= 0; node--) {
    const left = FP_NODES + 2 * node + 1;
    const a = left < BLCKSZ ? bytes[left]! : 0;
    const b = left + 1 < BLCKSZ ? bytes[left + 1]! : 0;
    bytes[FP_NODES + node] = Math.max(a, b);
  }
}
