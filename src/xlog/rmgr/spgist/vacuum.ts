// SP-GiST's page edits of vacuum. Each touches one page.
//
//   VACUUM_LEAF      main: nDead u16, nPlaceholder u16, nMove u16, nChain u16, state at 8, and from 16 offset
//                    numbers: to become dead; to become placeholders; moved from, then to; re-chained, then to what
//   VACUUM_ROOT      main: nDelete u16, state at 4, offset numbers from 12
//   VACUUM_REDIRECT  main: nToPlaceholder u16, firstPlaceholder u16, xid u32; offset numbers from 8 (14, 15), or
//                    isCatalogRel u8 at 8 and offset numbers from 10 (16 and later)
//
// Mirrors spgRedoVacuumLeaf, spgRedoVacuumRoot and spgRedoVacuumRedirect of spgxlog.c.

import type { Page } from '../../page.ts';
import { pageIndexMultiDelete } from '../../page-compact.ts';
import {
  getItemId,
  INVALID_OFFSET_NUMBER,
  itemIdAt,
  pageGetItemOffset,
  pageGetMaxOffsetNumber,
} from '../../page-items.ts';
import type { PageRedo } from '../../rmgr.ts';
import {
  addPlaceholders,
  addRedirections,
  deleteTuples,
  INVALID_BLOCK_NUMBER,
  redirectToPlaceholder,
  SPGIST_DEAD,
  SPGIST_PLACEHOLDER,
  setNextOffset,
} from './page.ts';

const VACUUM_LEAF_OFFSETS = 16;
const VACUUM_ROOT_OFFSETS = 12;
const VACUUM_REDIRECT_OFFSETS_14 = 8;
const VACUUM_REDIRECT_OFFSETS_16 = 10;

/** The tuples of `count` offset numbers become dead tuples of one state, which lead nowhere. */
const bury = (page: Page, view: DataView, at: number, count: number, state: number): void =>
  deleteTuples(page, view, at, count, state, state, 0, INVALID_BLOCK_NUMBER, INVALID_OFFSET_NUMBER);

/** spgRedoVacuumLeaf */
export const vacuumLeaf: PageRedo = (page, record) => {
  const { view, mainOffset } = record;
  const nDead = view.getUint16(mainOffset, true);
  const nPlaceholder = view.getUint16(mainOffset + 2, true);
  const nMove = view.getUint16(mainOffset + 4, true);
  const nChain = view.getUint16(mainOffset + 6, true);
  const toDead = mainOffset + VACUUM_LEAF_OFFSETS;
  const toPlaceholder = toDead + 2 * nDead;
  const moveSrc = toPlaceholder + 2 * nPlaceholder;
  const moveDest = moveSrc + 2 * nMove;
  const chainSrc = moveDest + 2 * nMove;
  const chainDest = chainSrc + 2 * nChain;

  bury(page, view, toDead, nDead, SPGIST_DEAD);
  bury(page, view, toPlaceholder, nPlaceholder, SPGIST_PLACEHOLDER);
  // A live tuple and a dead one trade line pointers, so that the chain's head keeps its offset number.
  for (let i = 0; i < nMove; i++) {
    swapItemIds(page, view.getUint16(moveSrc + 2 * i, true), view.getUint16(moveDest + 2 * i, true));
  }
  bury(page, view, moveSrc, nMove, SPGIST_PLACEHOLDER);
  for (let i = 0; i < nChain; i++) {
    setNextOffset(page, view.getUint16(chainSrc + 2 * i, true), view.getUint16(chainDest + 2 * i, true));
  }
};

function swapItemIds(page: Page, a: number, b: number): void {
  pageGetItemOffset(page, a);
  pageGetItemOffset(page, b);
  const itemId = getItemId(page, a);
  page.view.setUint32(itemIdAt(a), getItemId(page, b), true);
  page.view.setUint32(itemIdAt(b), itemId, true);
}

/** spgRedoVacuumRoot */
export const vacuumRoot: PageRedo = (page, record) => {
  const main = record.mainOffset;
  pageIndexMultiDelete(page, record.view, main + VACUUM_ROOT_OFFSETS, record.view.getUint16(main, true));
};

const tailOffsets = new DataView(new ArrayBuffer(8192));

/** The tuples from `first` on are placeholders and go, line pointers and all. */
function removePlaceholdersFrom(page: Page, first: number): void {
  const count = pageGetMaxOffsetNumber(page) - first + 1;
  if (count < 0) throw new RangeError(`first placeholder ${first} is past the last tuple`);
  for (let i = 0; i < count; i++) tailOffsets.setUint16(2 * i, first + i, true);
  addPlaceholders(page, -count);
  pageIndexMultiDelete(page, tailOffsets, 0, count);
}

/** spgRedoVacuumRedirect, with the offset numbers where a major has them. */
const vacuumRedirect =
  (offsets: number): PageRedo =>
  (page, record) => {
    const { view, mainOffset } = record;
    const count = view.getUint16(mainOffset, true);
    const firstPlaceholder = view.getUint16(mainOffset + 2, true);
    for (let i = 0; i < count; i++) {
      redirectToPlaceholder(page, view.getUint16(mainOffset + offsets + 2 * i, true));
    }
    addRedirections(page, -count);
    addPlaceholders(page, count);
    if (firstPlaceholder !== INVALID_OFFSET_NUMBER) removePlaceholdersFrom(page, firstPlaceholder);
  };

export const vacuumRedirect14 = vacuumRedirect(VACUUM_REDIRECT_OFFSETS_14);
export const vacuumRedirect16 = vacuumRedirect(VACUUM_REDIRECT_OFFSETS_16);
