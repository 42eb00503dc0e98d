// Generic (20): what extensions write that have no manager of their own (bloom indexes, for one). A record names
// up to four blocks; each block's data is a list of page regions, written over the page one after the other:
//
//   0 offset u16 | 2 length u16 | 4 bytes ...          until the block's data ends
//
// The gap between pd_lower and pd_upper is not in the record and becomes zeroes. There is one operation,
// whatever xl_info says. Mirrors generic_xlog.c and genericdesc.c (which looks at the record's main data, where a
// generic record has nothing: the description is empty). Alike in 14 to 18.

import { maskPageLsnAndChecksum, maskUnusedSpace } from '../bufmask.ts';
import { BLCKSZ, type Page, pdLower, pdUpper } from '../page.ts';
import { copyBytes } from '../page-items.ts';
import type { BlockRef, WalRecord } from '../record.ts';
import { type Rmgr, redoFault } from '../rmgr.ts';

export const RM_GENERIC_ID = 20;

const FRAGMENT_HEADER_SIZE = 4;

/** generic_redo, with applyPageRedo */
function applyDelta(page: Page, record: WalRecord, block: BlockRef): void {
  const end = block.dataOffset + block.dataLength;
  let at = block.dataOffset;
  while (at < end) {
    if (at + FRAGMENT_HEADER_SIZE > end) throw redoFault(record, block, 'delta cut short');
    const offset = record.view.getUint16(at, true);
    const length = record.view.getUint16(at + 2, true);
    at += FRAGMENT_HEADER_SIZE;
    if (at + length > end || offset + length > BLCKSZ) {
      throw redoFault(record, block, `delta of ${length} bytes at ${offset} does not fit`);
    }
    copyBytes(page.bytes, offset, record.bytes, at, length);
    at += length;
  }
  const lower = pdLower(page);
  const upper = pdUpper(page);
  if (lower > upper || upper > BLCKSZ) {
    throw redoFault(record, block, `invalid page: pd_lower ${lower} pd_upper ${upper}`);
  }
  page.bytes.fill(0, lower, upper);
}

/** generic_mask */
export function genericMask(page: Page): void {
  maskPageLsnAndChecksum(page);
  maskUnusedSpace(page);
}

/** generic_desc */
function describeDelta(record: WalRecord): string {
  const end = record.mainOffset + record.mainLength;
  const regions: string[] = [];
  for (let at = record.mainOffset; at + FRAGMENT_HEADER_SIZE <= end; ) {
    const length = record.view.getUint16(at + 2, true);
    regions.push(`offset ${record.view.getUint16(at, true)}, length ${length}`);
    at += FRAGMENT_HEADER_SIZE + length;
  }
  return regions.join('; ');
}

export const generic14: Rmgr = {
  id: RM_GENERIC_ID,
  name: 'Generic',
  opMask: 0x00,
  mask: genericMask,
  ops: { 0: { name: 'Generic', redoEvery: applyDelta, describe: describeDelta } },
};

export const generic15 = generic14;
export const generic16 = generic15;
export const generic17 = generic16;
export const generic18 = generic17;
