// Pieces of record descriptions that several managers print, letter by letter as pg_waldump does, with times
// in UTC: times, LSNs, paths, invalidation messages. Cold code: bigint and strings are fine here.
//
//   SharedInvalidationMessage, 16 bytes:  0 id i8 (>= 0: a catalog cache) | 4 dbId u32 | 8 relId or catId u32
//
// Mirrors compat.c of pg_waldump (timestamptz_to_str), relpath.c, standby_desc_invalidations of standbydesc.c.

import { DEFAULTTABLESPACE_OID, FORK_NAMES, GLOBALTABLESPACE_OID, MAIN_FORKNUM } from '../../base/rel.ts';

const USECS_PER_SEC = 1_000_000n;
const SECS_PER_DAY = 86_400n;
/** Seconds from 1970-01-01 to 2000-01-01. */
const POSTGRES_EPOCH = 946_684_800n;

/** TABLESPACE_VERSION_DIRECTORY of each major: its releases' catalog version is part of every path. */
export const TABLESPACE_VERSION_DIRECTORY = {
  14: 'PG_14_202107181',
  15: 'PG_15_202209061',
  16: 'PG_16_202307071',
  17: 'PG_17_202406281',
  18: 'PG_18_202506291',
} as const;

/** timestamptz_to_str of microseconds since 2000-01-01, in UTC; the fraction keeps C's sign. */
export function timestamptzToStr(time: bigint): string {
  const seconds = time / USECS_PER_SEC + POSTGRES_EPOCH;
  const micros = time % USECS_PER_SEC;
  let days = seconds / SECS_PER_DAY;
  if (days * SECS_PER_DAY > seconds) days -= 1n;
  const [year, month, day] = civil(Number(days));
  const clock = Number(seconds - days * SECS_PER_DAY);
  const fraction = micros < 0n ? `-${String(-micros).padStart(5, '0')}` : String(micros).padStart(6, '0');
  const hms = [Math.floor(clock / 3600), Math.floor(clock / 60) % 60, clock % 60];
  return `${year}-${two(month)}-${two(day)} ${hms.map(two).join(':')}.${fraction} UTC`;
}

const two = (n: number): string => String(n).padStart(2, '0');

/** Days since 1970-01-01 to year, month and day, Gregorian: years begin in March here, so a leap day ends one. */
function civil(days: number): [number, number, number] {
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1;
  return [yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day];
}

const hex = (n: number): string => n.toString(16).toUpperCase();

/** LSN_FORMAT_ARGS with %X/%X of the eight bytes at `at`, whatever they hold. */
export function lsnAt(view: DataView, at: number): string {
  return `${hex(view.getUint32(at + 4, true))}/${hex(view.getUint32(at, true))}`;
}

/** relpathperm of the RelFileLocator at `at`. */
export function relPathAt(view: DataView, at: number, forkNum: number, versionDirectory: string): string {
  const spcOid = view.getUint32(at, true);
  const dbOid = view.getUint32(at + 4, true);
  const relNumber = view.getUint32(at + 8, true);
  const file = forkNum === MAIN_FORKNUM ? `${relNumber}` : `${relNumber}_${FORK_NAMES[forkNum]}`;
  if (spcOid === GLOBALTABLESPACE_OID) return `global/${file}`;
  if (spcOid === DEFAULTTABLESPACE_OID) return `base/${dbOid}/${file}`;
  return `pg_tblspc/${spcOid}/${versionDirectory}/${dbOid}/${file}`;
}

export const SIZE_OF_INVAL_MESSAGE = 16;

/** How one kind of invalidation message is printed, by its id; new majors add kinds. */
export type InvalNames = Readonly<Record<number, (view: DataView, at: number) => string>>;

export const invalNames14: InvalNames = {
  [-1]: (view, at) => ` catalog ${view.getUint32(at + 8, true)}`,
  [-2]: (view, at) => ` relcache ${view.getUint32(at + 8, true)}`,
  [-3]: () => ' smgr',
  [-4]: (view, at) => ` relmap db ${view.getUint32(at + 4, true)}`,
  [-5]: (view, at) => ` snapshot ${view.getUint32(at + 8, true)}`,
};
export const invalNames18: InvalNames = {
  ...invalNames14,
  [-6]: (view, at) => ` relsync ${view.getUint32(at + 8, true)}`,
};

/** standby_desc_invalidations; the caller has checked that `count` messages are there. */
export function describeInvalidations(
  view: DataView,
  at: number,
  count: number,
  relcacheInit: { readonly dbId: number; readonly tsId: number } | undefined,
  names: InvalNames,
): string {
  if (count <= 0) return '';
  let text = relcacheInit
    ? `; relcache init file inval dbid ${relcacheInit.dbId} tsid ${relcacheInit.tsId}`
    : '';
  text += '; inval msgs:';
  for (let i = 0; i < count; i++) {
    const message = at + i * SIZE_OF_INVAL_MESSAGE;
    const id = view.getInt8(message);
    if (id >= 0) text += ` catcache ${id}`;
    else text += names[id]?.(view, message) ?? ` unrecognized id ${id}`;
  }
  return text;
}

/** get_wal_level_string */
export const walLevelString = (level: number): string => ['minimal', 'replica', 'logical'][level] ?? '?';

export const onOff = (value: number): string => (value !== 0 ? 'on' : 'off');
export const trueFalse = (value: number): string => (value !== 0 ? 'true' : 'false');
