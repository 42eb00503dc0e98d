// What heap records do beyond their pages: bits of the visibility map that they take away. The map's block is not
// among the record's blocks; a flag in the record implies the change.
//
//   INSERT, MULTI_INSERT, DELETE   flag 1: block 0 loses both bits
//   UPDATE, HOT_UPDATE             flag 1: the old tuple's block, flag 2: the new one's
//   LOCK, LOCK_UPDATED             flag 1: block 0 loses all-frozen alone
//
// Mirrors the calls of visibilitymap_clear in heapam_xlog.c (heapam.c until 17) and neon_rmgr.c, which happen
// whether or not the heap page itself still needs the record.

import type { RelFileLocator } from '../../../base/rel.ts';
import type { BlockRef } from '../../record.ts';
import type { RecordEffects } from '../../rmgr.ts';
import {
  type HeapLayout,
  INSERT_FLAGS,
  INSERT_SIZE,
  MULTI_INSERT_FLAGS,
  mainData,
  XLH_DELETE_ALL_VISIBLE_CLEARED,
  XLH_INSERT_ALL_VISIBLE_CLEARED,
  XLH_LOCK_ALL_FROZEN_CLEARED,
  XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED,
  XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED,
} from './structs.ts';

export const VISIBILITYMAP_ALL_FROZEN = 0x02;
export const VISIBILITYMAP_VALID_BITS = 0x03;

const relOf = ({ spcOid, dbOid, relNumber }: BlockRef): RelFileLocator => ({ spcOid, dbOid, relNumber });

/** Clear `bits` of block 0 if the flag byte at `flagsAt` of main data of `size` bytes has `flag`. */
function clearing(flagsAt: number, size: number, flag: number, bits: number): RecordEffects {
  return (record, emit) => {
    if ((record.view.getUint8(mainData(record, size) + flagsAt) & flag) === 0) return;
    const block = record.block(0);
    emit({ kind: 'vm-clear', rel: relOf(block), heapBlk: block.blkno, flags: bits });
  };
}

export const insertEffects: RecordEffects = clearing(
  INSERT_FLAGS,
  INSERT_SIZE,
  XLH_INSERT_ALL_VISIBLE_CLEARED,
  VISIBILITYMAP_VALID_BITS,
);

export const multiInsertEffects: RecordEffects = clearing(
  MULTI_INSERT_FLAGS,
  1,
  XLH_INSERT_ALL_VISIBLE_CLEARED,
  VISIBILITYMAP_VALID_BITS,
);

export const deleteEffects = ({ delete: layout }: HeapLayout): RecordEffects =>
  clearing(layout.flags, layout.size, XLH_DELETE_ALL_VISIBLE_CLEARED, VISIBILITYMAP_VALID_BITS);

export const lockEffects = ({ lock: layout }: HeapLayout): RecordEffects =>
  clearing(layout.flags, layout.size, XLH_LOCK_ALL_FROZEN_CLEARED, VISIBILITYMAP_ALL_FROZEN);

export const lockUpdatedEffects: RecordEffects = clearing(
  7,
  8,
  XLH_LOCK_ALL_FROZEN_CLEARED,
  VISIBILITYMAP_ALL_FROZEN,
);

export function updateEffects({ update }: HeapLayout): RecordEffects {
  return (record, emit) => {
    const flags = record.view.getUint8(mainData(record, update.size) + update.flags);
    const oldCleared = (flags & XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED) !== 0;
    const newCleared = (flags & XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED) !== 0;
    if (!oldCleared && !newCleared) return;
    const block = record.block(0);
    const rel = relOf(block);
    const oldBlk = record.hasBlock(1) ? record.block(1).blkno : block.blkno;
    const bits = VISIBILITYMAP_VALID_BITS;
    if (oldCleared && newCleared && oldBlk !== block.blkno) {
      emit({ kind: 'vm-clear', rel, heapBlk: oldBlk, heapBlk2: block.blkno, flags: bits });
    } else {
      emit({ kind: 'vm-clear', rel, heapBlk: oldCleared ? oldBlk : block.blkno, flags: bits });
    }
  };
}
