// Postgres 16, by its differences from 15: relation maps of 64 entries; deletion records of indexes and heap
// tell a snapshot conflict horizon and whether they concern a catalog; freeze plans.

import type { Dialect } from '../dialect.ts';
import { pg15 } from './15.ts';
import { stockManagers } from './managers.ts';

export const pg16: Dialect = {
  ...pg15,
  major: 16,
  xlogPageMagic: 0xd113,
  catalogVersion: 202307071,
  rmgrs: stockManagers(16),
  relmapFileSize: 524,
  versionText: '16\n',
};
