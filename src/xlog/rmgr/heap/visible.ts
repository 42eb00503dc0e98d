// Redo of VISIBLE: block 0 is a page of the visibility map, block 1 the heap page whose bits are set there.
//
//   main: horizon u32, flags u8    1 all-visible, 2 all-frozen [, 4 a catalog's: 16 and later]
//   map page: 24 bytes of header, then two bits per heap block, four blocks a byte, 32672 blocks a page
//
// The heap page's pd_lsn moves with the bit, as in every Neon build and wherever checksums or wal_log_hints are on;
// a stock server with neither leaves it, which no log can tell (and comparisons mask).
//
// The map grows without a word in the log, so its page may still be zeros here; the edit then begins it.
// Mirrors heap_xlog_visible of heapam_xlog.c (heapam.c until 17) and visibilitymap_set of visibilitymap.c.

import { BLCKSZ, PAGE_HEADER_SIZE, pageInit, pageIsNew } from '../../page.ts';
import { pageSetAllVisible } from '../../page-items.ts';
import { type PageRedo, redoFault, UNCHANGED } from '../../rmgr.ts';
import { mainData } from './structs.ts';

const VISIBILITYMAP_VALID_BITS = 0x03;
const HEAPBLOCKS_PER_BYTE = 4;
/** HEAPBLOCKS_PER_PAGE: 32672 */
const HEAPBLOCKS_PER_PAGE = (BLCKSZ - PAGE_HEADER_SIZE) * HEAPBLOCKS_PER_BYTE;

/** Block 0. Bits that are set already leave the page alone, pd_lsn included. */
export const visibleMapRedo: PageRedo = (page, record, block) => {
  const flags = record.view.getUint8(mainData(record, 5) + 4) & VISIBILITYMAP_VALID_BITS;
  const heapBlk = record.block(1).blkno;
  if (Math.floor(heapBlk / HEAPBLOCKS_PER_PAGE) !== block.blkno) {
    throw redoFault(record, block, `heap block ${heapBlk} is not on this page of the map`);
  }
  if (pageIsNew(page)) pageInit(page, 0);
  const at = PAGE_HEADER_SIZE + Math.floor((heapBlk % HEAPBLOCKS_PER_PAGE) / HEAPBLOCKS_PER_BYTE);
  const shift = 2 * (heapBlk % HEAPBLOCKS_PER_BYTE);
  const byte = page.bytes[at]!;
  if (((byte >>> shift) & VISIBILITYMAP_VALID_BITS) === flags) return UNCHANGED;
  page.bytes[at] = byte | (flags << shift);
  return undefined;
};

/** Block 1. */
export const visibleHeapRedo: PageRedo = page => pageSetAllVisible(page);
