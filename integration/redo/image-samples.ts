// Stored records with packed images, and the digest of the page that Postgres unpacked from each.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import type { Dialect } from '../../src/xlog/dialect.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';

/** As stored. */
export interface StoredImage {
  readonly record: string;
  /** Which block's image. */
  readonly block: number;
  /** Of the 8192 bytes, the hole put back. */
  readonly sha256: string;
}

export interface ImageSample {
  readonly dialect: Dialect;
  readonly record: Uint8Array;
  readonly block: number;
  readonly sha256: string;
}

export const IMAGE_FILES = ['images-16.json.zst', 'images-17.json.zst'] as const;

export function loadImages(name: (typeof IMAGE_FILES)[number]): ImageSample[] {
  const packed = readFileSync(join(import.meta.dirname, '../fixtures', name));
  const stored = JSON.parse(zstdDecompressSync(packed).toString()) as {
    major: number;
    samples: StoredImage[];
  };
  const dialect = dialectOfMajor(stored.major, 'neon');
  return stored.samples.map(({ record, block, sha256 }) => ({
    dialect,
    record: new Uint8Array(Buffer.from(record, 'base64')),
    block,
    sha256,
  }));
}
