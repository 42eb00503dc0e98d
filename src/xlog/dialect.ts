// A Postgres major (and flavour) as a row: everything in which one differs from another. Each row is the one
// before it, spread, plus its differences (dialects/14.ts ... 18.ts), so that a file of `dialects/` is the list
// of differences. The row is chosen once, when a timeline or a directory is opened, and handed down; nobody
// else asks for the number.

import type { Rmgr } from './rmgr.ts';

/** Bits of bimg_info, 0 where a major has none: 14 gave 0x02 and 0x04 other meanings than 15 and later. */
export interface ImageBits {
  readonly hasHole: number;
  readonly apply: number;
  readonly pglz: number;
  readonly lz4: number;
  readonly zstd: number;
}

export type Flavour = 'stock' | 'neon';

/** Where pg_control keeps what differs between majors. */
export interface ControlFileShape {
  readonly pgControlVersion: number;
  /** Offset of the checksum: the length of what it covers. */
  readonly crcOffset: number;
  /** CheckPoint.wal_level at 20, logicalDecodingEnabled and the like: fields that came later. */
  readonly checkpointHasWalLevel: boolean;
  /** default_char_signedness at 256, before the nonce (18). */
  readonly hasCharSignedness: boolean;
}

export interface Dialect {
  readonly major: number;
  readonly flavour: Flavour;
  readonly xlogPageMagic: number;
  readonly catalogVersion: number;
  readonly imageBits: ImageBits;
  /** By xl_rmid; undefined is an unknown (custom) manager. */
  readonly rmgrs: readonly (Rmgr | undefined)[];
  readonly controlFile: ControlFileShape;
  /** 512 or 524 bytes. */
  readonly relmapFileSize: number;
  /** Page numbers in CLOG and multixact ZEROPAGE records: u32, or i64 from 17 on. */
  readonly slruPageNumberBytes: 4 | 8;
  /** Two-phase state files are named by 32-bit xid, or by full xid from 17 on. */
  readonly twophaseFullXid: boolean;
  /** What PG_VERSION holds: "14" and "15" as Neon writes them have no newline, "16\n" and "17\n" have. */
  readonly versionText: string;
}
