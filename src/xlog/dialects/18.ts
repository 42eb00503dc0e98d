// Postgres 18, by its differences from 17: pg_control tells whether char is signed, which moves its checksum by
// four; dropped statistics in commit records grew from 12 to 16 bytes.

import { CONTROL_FILE_1800 } from '../control-file.ts';
import type { Dialect } from '../dialect.ts';
import { pg17 } from './17.ts';
import { stockManagers } from './managers.ts';

export const pg18: Dialect = {
  ...pg17,
  major: 18,
  xlogPageMagic: 0xd118,
  catalogVersion: 202506291,
  rmgrs: stockManagers(18),
  controlFile: CONTROL_FILE_1800,
  versionText: '18\n',
};
