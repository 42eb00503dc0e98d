// Hash index records in words, exactly as pg_waldump prints them. Majors differ only in VACUUM_ONE_PAGE: 14 and
// 15 say latestRemovedXid, 16 snapshotConflictHorizon, 17 and 18 add isCatalogRel.
//
// Record layouts stand in build.ts, overflow.ts and tuples.ts. SPLIT_PAGE and SPLIT_CLEANUP have no description.
//
// Mirrors hash_desc of src/backend/access/rmgrdesc/hashdesc.c.

import type { WalRecord } from '../../record.ts';
import { mainAt } from '../main-data.ts';
import { XLH_SPLIT_META_UPDATE_MASKS, XLH_SPLIT_META_UPDATE_SPLITPOINT } from './build.ts';
import { vacuumNtuples14, vacuumNtuples16 } from './tuples.ts';

const field = (r: WalRecord, at: number, size: number): number =>
  mainAt(r, at + size, 'a hash record of its kind') + at;
const u8 = (r: WalRecord, at: number): number => r.view.getUint8(field(r, at, 1));
const u16 = (r: WalRecord, at: number): number => r.view.getUint16(field(r, at, 2), true);
const u32 = (r: WalRecord, at: number): number => r.view.getUint32(field(r, at, 4), true);
const f64 = (r: WalRecord, at: number): string => formatG(r.view.getFloat64(field(r, at, 8), true));
const flag = (value: number): string => (value !== 0 ? 'T' : 'F');

type Describe = (record: WalRecord) => string;

export const describeInitMetaPage: Describe = r => `num_tuples ${f64(r, 0)}, fillfactor ${u16(r, 12)}`;
export const describeInitBitmapPage: Describe = r => `bmsize ${u16(r, 0)}`;
export const describeInsert: Describe = r => `off ${u16(r, 0)}`;
export const describeAddOvflPage: Describe = r => `bmsize ${u16(r, 0)}, bmpage_found ${flag(u8(r, 2))}`;
export const describeSplitAllocatePage: Describe = r =>
  `new_bucket ${u32(r, 0)}, ` +
  `meta_page_masks_updated ${flag(u8(r, 8) & XLH_SPLIT_META_UPDATE_MASKS)}, ` +
  `issplitpoint_changed ${flag(u8(r, 8) & XLH_SPLIT_META_UPDATE_SPLITPOINT)}`;
export const describeSplitComplete: Describe = r =>
  `old_bucket_flag ${u16(r, 0)}, new_bucket_flag ${u16(r, 2)}`;
export const describeMovePageContents: Describe = r => `ntups ${u16(r, 0)}, is_primary ${flag(u8(r, 2))}`;
export const describeSqueezePage: Describe = r =>
  `prevblkno ${u32(r, 0)}, nextblkno ${u32(r, 4)}, ntups ${u16(r, 8)}, is_primary ${flag(u8(r, 10))}`;
export const describeDelete: Describe = r =>
  `clear_dead_marking ${flag(u8(r, 0))}, is_primary ${flag(u8(r, 1))}`;
export const describeUpdateMetaPage: Describe = r => `ntuples ${f64(r, 0)}`;

export const describeVacuumOnePage14: Describe = r =>
  `ntuples ${vacuumNtuples14(r)}, latestRemovedXid ${u32(r, 0)}`;
export const describeVacuumOnePage16: Describe = r =>
  `ntuples ${vacuumNtuples16(r)}, snapshotConflictHorizon ${u32(r, 0)}`;
export const describeVacuumOnePage17: Describe = r =>
  `${describeVacuumOnePage16(r)}, isCatalogRel ${flag(u8(r, 6))}`;

const SIGNIFICANT_DIGITS = 6;

/** C's %g: six significant digits, no zeros at the end, an exponent where it is below -4 or above 5. */
export function formatG(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  if (value === 0) return `${sign}0`;
  // A tie shows only in the exact decimal expansion, and C gives it to the even digit.
  const [mantissa, exponent] = Math.abs(value).toExponential(100).split('e');
  const expansion = mantissa!.replace('.', '');
  const half = '5'.padEnd(expansion.length - SIGNIFICANT_DIGITS, '0');
  const rest = expansion.slice(SIGNIFICANT_DIGITS);
  let digits = Number(expansion.slice(0, SIGNIFICANT_DIGITS));
  let power = Number(exponent);
  if (rest > half || (rest === half && digits % 2 === 1)) digits++;
  if (digits === 10 ** SIGNIFICANT_DIGITS) {
    digits /= 10;
    power++;
  }
  const text = String(digits);
  if (power < -4 || power >= SIGNIFICANT_DIGITS) {
    const shown = String(Math.abs(power)).padStart(2, '0');
    return `${sign}${placePoint(text, 1)}e${power < 0 ? '-' : '+'}${shown}`;
  }
  return sign + (power < 0 ? placePoint('0'.repeat(-power) + text, 1) : placePoint(text, power + 1));
}

/** A point behind the first `whole` digits, unless only zeros follow. */
function placePoint(digits: string, whole: number): string {
  const fraction = digits.slice(whole).replace(/0+$/, '');
  return fraction === '' ? digits.slice(0, whole) : `${digits.slice(0, whole)}.${fraction}`;
}
