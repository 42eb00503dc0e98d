// LSN: a byte position in a timeline's WAL, as Postgres's XLogRecPtr. A plain number, exact to 2^53 (9 PB of
// WAL); a larger one on a wire or a disk is an error that says so, but for all-ones, which means "the newest"
// in page requests and reads as Infinity. Text is Postgres's: high and low half in hex, `0/16B3748`.
//
// On a page (pd_lsn) and nowhere else the high half comes first; elsewhere an LSN is a little-endian u64 in
// Postgres's bytes and a big-endian u64 on the wire.

import { Fault } from './fault.ts';

export type Lsn = number & { readonly __brand: 'Lsn' };

export const INVALID_LSN = 0 as Lsn;
/** All ones on the wire: no upper bound. */
export const MAX_LSN = Infinity as Lsn;

const HIGH = 0x1_0000_0000;
const HIGH_LIMIT = 0x20_0000;

export function lsn(value: number): Lsn {
  if (value === Infinity) return MAX_LSN;
  if (!Number.isSafeInteger(value) || value < 0)
    throw new Fault('lsn-too-large', `LSN out of range: ${value}`);
  return value as Lsn;
}

export function lsnFromHalves(high: number, low: number): Lsn {
  if (high >= HIGH_LIMIT) {
    if (high === 0xffffffff && low === 0xffffffff) return MAX_LSN;
    throw new Fault('lsn-too-large', `LSN ${high.toString(16)}/${low.toString(16)} is past 2^53`, {
      hint: 'Positions past 9 PB of WAL are not supported; a value this high usually means damaged bytes.',
    });
  }
  return (high * HIGH + low) as Lsn;
}

export const lsnHigh = (l: number): number => (l === Infinity ? 0xffffffff : Math.floor(l / HIGH));
/** `>>>` takes the low 32 bits of any exact number; `%` of one past 2^31 would be a call of its own. */
export const lsnLow = (l: number): number => (l === Infinity ? 0xffffffff : l >>> 0);

const hex = (n: number): string => n.toString(16).toUpperCase();

export function formatLsn(l: number): string {
  return `${hex(lsnHigh(l))}/${hex(lsnLow(l))}`;
}

/** As Postgres 18 and pg_waldump print it: the low half padded. */
export function formatLsnPadded(l: number): string {
  return `${hex(lsnHigh(l))}/${hex(lsnLow(l)).padStart(8, '0')}`;
}

const PATTERN = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

export function parseLsn(text: string): Lsn {
  const match = PATTERN.exec(text.trim());
  if (!match) {
    throw new Fault('lsn-invalid', `not an LSN: "${text}"`, { hint: 'An LSN looks like 0/16B3748.' });
  }
  return lsnFromHalves(parseInt(match[1]!, 16), parseInt(match[2]!, 16));
}

/** Records start at multiples of eight. */
export const alignLsn = (l: number): Lsn => (l + (-l & 7)) as Lsn;

export function readLsnLE(view: DataView, offset: number): Lsn {
  return lsnFromHalves(view.getUint32(offset + 4, true), view.getUint32(offset, true));
}

export function writeLsnLE(view: DataView, offset: number, l: number): void {
  view.setUint32(offset, lsnLow(l), true);
  view.setUint32(offset + 4, lsnHigh(l), true);
}

export function readLsnBE(view: DataView, offset: number): Lsn {
  return lsnFromHalves(view.getUint32(offset), view.getUint32(offset + 4));
}

export function writeLsnBE(view: DataView, offset: number, l: number): void {
  view.setUint32(offset, lsnHigh(l));
  view.setUint32(offset + 4, lsnLow(l));
}
