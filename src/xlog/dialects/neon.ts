// Neon's builds of Postgres, each by its differences from the stock build of its major: heap records that carry
// t_cid (in Heap's own records in 14 and 15, in manager 134 from 16 on), and B-tree splits that carry an image
// while VACUUM runs. Page magic, catalog version and all else are the stock build's, so that a log does not say
// whose it is: flavour.ts finds out from its records.

import type { Dialect } from '../dialect.ts';
import { pg14 } from './14.ts';
import { pg15 } from './15.ts';
import { pg16 } from './16.ts';
import { pg17 } from './17.ts';
import { pg18 } from './18.ts';
import { neonManagers } from './managers.ts';

/** Neon's base backups of 14 and 15 write PG_VERSION without a newline. */
export const pg14Neon: Dialect = { ...pg14, flavour: 'neon', rmgrs: neonManagers(14), versionText: '14' };
export const pg15Neon: Dialect = { ...pg15, flavour: 'neon', rmgrs: neonManagers(15), versionText: '15' };
export const pg16Neon: Dialect = { ...pg16, flavour: 'neon', rmgrs: neonManagers(16) };
export const pg17Neon: Dialect = { ...pg17, flavour: 'neon', rmgrs: neonManagers(17) };
export const pg18Neon: Dialect = { ...pg18, flavour: 'neon', rmgrs: neonManagers(18) };
