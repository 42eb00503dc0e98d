// Every dialect there is, and how to find the right one: by major, by the magic of a WAL page, by a control file.
// Asked once, when a timeline or a directory is opened; the row is handed down from there.

import { Fault } from '../../base/fault.ts';
import type { Dialect, Flavour } from '../dialect.ts';
import { pg14 } from './14.ts';
import { pg15 } from './15.ts';
import { pg16 } from './16.ts';
import { pg17 } from './17.ts';
import { pg18 } from './18.ts';
import { pg14Neon, pg15Neon, pg16Neon, pg17Neon, pg18Neon } from './neon.ts';

export const STOCK_DIALECTS: readonly Dialect[] = [pg14, pg15, pg16, pg17, pg18];
export const NEON_DIALECTS: readonly Dialect[] = [pg14Neon, pg15Neon, pg16Neon, pg17Neon, pg18Neon];
export const ALL_DIALECTS: readonly Dialect[] = [...STOCK_DIALECTS, ...NEON_DIALECTS];

const KNOWN = `Known majors: ${STOCK_DIALECTS.map(d => d.major).join(', ')}.`;

function find(flavour: Flavour, what: string, matches: (dialect: Dialect) => boolean): Dialect {
  const dialect = ALL_DIALECTS.find(d => d.flavour === flavour && matches(d));
  if (dialect === undefined) throw new Fault('wal-unsupported', `${what} is not supported`, { hint: KNOWN });
  return dialect;
}

export const dialectOfMajor = (major: number, flavour: Flavour): Dialect =>
  find(flavour, `Postgres ${major}`, d => d.major === major);

/** By xlp_magic. */
export const dialectOfMagic = (magic: number, flavour: Flavour): Dialect =>
  find(flavour, `WAL page magic 0x${magic.toString(16).toUpperCase()}`, d => d.xlogPageMagic === magic);

/** By catalog_version_no of pg_control. */
export const dialectOfCatalogVersion = (catalogVersion: number, flavour: Flavour): Dialect =>
  find(flavour, `catalog version ${catalogVersion}`, d => d.catalogVersion === catalogVersion);

/**
 * By the number a client or Neon's wire speaks of: a major (17), or pg_version as server_version_num has it
 * (170005).
 */
export const dialectOfVersionNumber = (version: number, flavour: Flavour): Dialect =>
  dialectOfMajor(version >= 10000 ? Math.floor(version / 10000) : version, flavour);
