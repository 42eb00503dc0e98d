// SP-GiST's records in words, as pg_waldump of each major prints them. Mirrors spgdesc.c.
//
// 16 renamed newestredirectxid to snapshotConflictHorizon; 17 prints isCatalogRel, which 16 already logs.

import type { WalRecord } from '../../record.ts';

const u16 = (record: WalRecord, at: number): number => record.view.getUint16(record.mainOffset + at, true);

/** A word for a flag byte, if it is set. */
const word = (record: WalRecord, at: number, text: string): string =>
  record.view.getUint8(record.mainOffset + at) !== 0 ? ` (${text})` : '';

export const describeAddLeaf = (r: WalRecord): string =>
  `off: ${u16(r, 2)}, headoff: ${u16(r, 4)}, parentoff: ${u16(r, 6)}, nodeI: ${u16(r, 8)}` +
  word(r, 0, 'newpage') +
  word(r, 1, 'nulls');

export const describeMoveLeafs = (r: WalRecord): string =>
  `nmoves: ${u16(r, 0)}, parentoff: ${u16(r, 6)}, nodeI: ${u16(r, 8)}` +
  word(r, 2, 'newpage') +
  word(r, 3, 'replacedead') +
  word(r, 4, 'nulls');

export function describeAddNode(r: WalRecord): string {
  const parentBlk = r.view.getInt8(r.mainOffset + 5);
  return (
    `off: ${u16(r, 0)}, newoff: ${u16(r, 2)}, parentBlk: ${parentBlk}, parentoff: ${u16(r, 6)}, ` +
    `nodeI: ${u16(r, 8)}${word(r, 4, 'newpage')}`
  );
}

export const describeSplitTuple = (r: WalRecord): string =>
  `prefixoff: ${u16(r, 0)}, postfixoff: ${u16(r, 2)}${word(r, 4, 'newpage')}${word(r, 5, 'same')}`;

export const describePickSplit = (r: WalRecord): string =>
  `ndelete: ${u16(r, 2)}, ninsert: ${u16(r, 4)}, inneroff: ${u16(r, 8)}, parentoff: ${u16(r, 14)}, ` +
  `nodeI: ${u16(r, 16)}${word(r, 12, 'innerIsParent')}${word(r, 11, 'nulls')}${word(r, 0, 'isRootSplit')}`;

export const describeVacuumLeaf = (r: WalRecord): string =>
  `ndead: ${u16(r, 0)}, nplaceholder: ${u16(r, 2)}, nmove: ${u16(r, 4)}, nchain: ${u16(r, 6)}`;

export const describeVacuumRoot = (r: WalRecord): string => `ndelete: ${u16(r, 0)}`;

const vacuumRedirectText = (r: WalRecord, xidName: string): string =>
  `ntoplaceholder: ${u16(r, 0)}, firstplaceholder: ${u16(r, 2)}, ` +
  `${xidName}: ${r.view.getUint32(r.mainOffset + 4, true)}`;

export const describeVacuumRedirect14 = (r: WalRecord): string => vacuumRedirectText(r, 'newestredirectxid');
export const describeVacuumRedirect16 = (r: WalRecord): string =>
  vacuumRedirectText(r, 'snapshotConflictHorizon');
export const describeVacuumRedirect17 = (r: WalRecord): string =>
  `${describeVacuumRedirect16(r)}, isCatalogRel: ${r.view.getUint8(r.mainOffset + 8) !== 0 ? 'T' : 'F'}`;
