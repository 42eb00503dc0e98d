// What replay of heap records does not promise: hint bits, command ids, the token of a speculative insertion,
// unused space and padding. Mirrors heap_mask of heapam_xlog.c (heapam.c until 17) and neon_rm_mask.

import { maskPageHintBits, maskPageLsnAndChecksum, maskUnusedSpace } from '../../bufmask.ts';
import { maxAlign } from '../../page.ts';
import { getItemId, LP_NORMAL, pageGetMaxOffsetNumber } from '../../page-items.ts';
import type { PageMask } from '../../rmgr.ts';
import {
  HEAP_XACT_MASK,
  HEAP_XMAX_COMMITTED,
  HEAP_XMAX_INVALID,
  HEAP_XMIN_FROZEN,
  SPEC_TOKEN_OFFSET_NUMBER,
  setCtid,
  T_CID,
  T_CTID,
  T_INFOMASK,
} from '../../tuple.ts';

export const heapMask: PageMask = (page, blkno) => {
  maskPageLsnAndChecksum(page);
  maskPageHintBits(page);
  maskUnusedSpace(page);
  const { bytes, view } = page;
  const max = pageGetMaxOffsetNumber(page);
  for (let offnum = 1; offnum <= max; offnum++) {
    const itemId = getItemId(page, offnum);
    const tuple = itemId & 0x7fff;
    if (((itemId >>> 15) & 3) === LP_NORMAL) {
      const infomask = view.getUint16(tuple + T_INFOMASK, true);
      const frozen = (infomask & HEAP_XMIN_FROZEN) === HEAP_XMIN_FROZEN;
      const hidden = frozen ? HEAP_XMAX_INVALID | HEAP_XMAX_COMMITTED : HEAP_XACT_MASK;
      view.setUint16(tuple + T_INFOMASK, infomask & ~hidden, true);
      view.setUint32(tuple + T_CID, 0, true);
      if (view.getUint16(tuple + T_CTID + 4, true) === SPEC_TOKEN_OFFSET_NUMBER) {
        setCtid(view, tuple, blkno, offnum);
      }
    }
    const length = itemId >>> 17;
    if ((length & 7) !== 0) bytes.fill(0, tuple + length, tuple + maxAlign(length));
  }
};
