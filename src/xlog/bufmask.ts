// What replay does not promise, hidden before two pages are compared: the shared pieces of the managers' masks.
// Mirrors src/backend/access/common/bufmask.c. A comparison masks the same and no more.

import { Fault } from '../base/fault.ts';
import {
  BLCKSZ,
  PAGE_HEADER_SIZE,
  type Page,
  PD_ALL_VISIBLE,
  PD_CHECKSUM,
  PD_FLAGS,
  PD_HAS_FREE_LINES,
  PD_PAGE_FULL,
  PD_PRUNE_XID,
  pageIsNew,
  pdFlags,
  pdLower,
  pdSpecial,
  pdUpper,
} from './page.ts';

/** MASK_MARKER of bufmask.h. */
const MASK_MARKER = 0;

/** mask_page_lsn_and_checksum */
export function maskPageLsnAndChecksum(page: Page): void {
  page.view.setUint32(0, MASK_MARKER, true);
  page.view.setUint32(4, MASK_MARKER, true);
  page.view.setUint16(PD_CHECKSUM, MASK_MARKER, true);
}

/** mask_page_hint_bits */
export function maskPageHintBits(page: Page): void {
  page.view.setUint32(PD_PRUNE_XID, MASK_MARKER, true);
  page.view.setUint16(PD_FLAGS, pdFlags(page) & ~(PD_PAGE_FULL | PD_HAS_FREE_LINES | PD_ALL_VISIBLE), true);
}

/** mask_unused_space */
export function maskUnusedSpace(page: Page): void {
  const lower = pdLower(page);
  const upper = pdUpper(page);
  const special = pdSpecial(page);
  if (lower > upper || special < upper || lower < PAGE_HEADER_SIZE || special > BLCKSZ) {
    throw new Fault('wal-redo', `invalid page: pd_lower ${lower} pd_upper ${upper} pd_special ${special}`);
  }
  page.bytes.fill(MASK_MARKER, lower, upper);
}

/** mask_lp_flags: every used line pointer counts as unused. */
export function maskLpFlags(page: Page): void {
  const lower = pageIsNew(page) ? 0 : pdLower(page);
  for (let at = PAGE_HEADER_SIZE; at < lower; at += 4) {
    const itemId = page.view.getUint32(at, true);
    if (((itemId >>> 15) & 3) !== 0) page.view.setUint32(at, itemId & ~(3 << 15), true);
  }
}

/** mask_page_content: all but the header, and the header's sizes too. */
export function maskPageContent(page: Page): void {
  page.bytes.fill(MASK_MARKER, PAGE_HEADER_SIZE, BLCKSZ);
  page.bytes.fill(MASK_MARKER, 12, 16);
}
