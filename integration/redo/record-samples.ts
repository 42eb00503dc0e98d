// Stored samples: records of every operation the recordings hold, with the pages they edit as they stood before.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import type { Dialect } from '../../src/xlog/dialect.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';

/** As stored. */
export interface RecordSample {
  /** rmid * 256 + operation bits. */
  readonly key: number;
  readonly end: number;
  readonly record: string;
  readonly pages: readonly { readonly id: number; readonly page: string }[];
}

export interface Sample {
  readonly dialect: Dialect;
  readonly end: number;
  readonly record: Uint8Array;
  /** By block id. */
  readonly pages: ReadonlyMap<number, Uint8Array>;
}

export const SAMPLE_FILES = [
  'records-v15-neon.json.zst',
  'records-v16-neon.json.zst',
  'records-v17-neon.json.zst',
] as const;

const fromBase64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));

export function loadSamples(): Sample[] {
  return SAMPLE_FILES.flatMap(name => {
    const packed = readFileSync(join(import.meta.dirname, '../fixtures', name));
    const stored = JSON.parse(zstdDecompressSync(packed).toString()) as {
      major: number;
      samples: RecordSample[];
    };
    const dialect = dialectOfMajor(stored.major, 'neon');
    return stored.samples.map(s => ({
      dialect,
      end: s.end,
      record: fromBase64(s.record),
      pages: new Map(s.pages.map(p => [p.id, fromBase64(p.page)])),
    }));
  });
}
