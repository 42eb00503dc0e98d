// Postgres 14: the row that the others start from.

import { CONTROL_FILE_1300 } from '../control-file.ts';
import type { Dialect } from '../dialect.ts';
import { stockManagers } from './managers.ts';

export const pg14: Dialect = {
  major: 14,
  flavour: 'stock',
  xlogPageMagic: 0xd10d,
  catalogVersion: 202107181,
  imageBits: { hasHole: 0x01, pglz: 0x02, apply: 0x04, lz4: 0, zstd: 0 },
  rmgrs: stockManagers(14),
  controlFile: CONTROL_FILE_1300,
  relmapFileSize: 512,
  slruPageNumberBytes: 4,
  twophaseFullXid: false,
  versionText: '14\n',
};
