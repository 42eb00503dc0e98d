// Postgres 15, by its differences from 14: images may be compressed by LZ4 and Zstandard, and the bits of
// bimg_info moved to make room; CREATE DATABASE may go through the log, block by block; commit records carry
// dropped statistics.

import type { Dialect } from '../dialect.ts';
import { pg14 } from './14.ts';
import { stockManagers } from './managers.ts';

export const pg15: Dialect = {
  ...pg14,
  major: 15,
  xlogPageMagic: 0xd110,
  catalogVersion: 202209061,
  imageBits: { hasHole: 0x01, apply: 0x02, pglz: 0x04, lz4: 0x08, zstd: 0x10 },
  rmgrs: stockManagers(15),
  versionText: '15\n',
};
