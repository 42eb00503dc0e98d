// Packed full-page images, judged by what Postgres unpacked from the very same bytes: pglz, lz4 and zstd, with a
// hole and without, to be restored and for checking only. Stored captures, so that every machine can judge them.

import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { viewOf } from '../../src/base/bytes.ts';
import { lsn } from '../../src/base/lsn.ts';
import { restoreImage } from '../../src/xlog/image.ts';
import { decodeRecord, WalRecord } from '../../src/xlog/record.ts';
import { IMAGE_FILES, loadImages } from './image-samples.ts';

describe.each(IMAGE_FILES)('%s', name => {
  test('every image comes out as Postgres has it', () => {
    const met = new Map<string, number>();
    const wrong: string[] = [];
    for (const { dialect, record: bytes, block: id, sha256 } of loadImages(name)) {
      const record = decodeRecord(
        new WalRecord(),
        bytes,
        viewOf(bytes),
        0,
        lsn(8),
        lsn(8),
        dialect.imageBits,
      );
      const block = record.block(id);
      const page = new Uint8Array(8192).fill(0xee);
      restoreImage(page, record, block);
      const what = `${block.compression} ${block.applyImage ? 'restored' : 'checked'}`;
      met.set(what, (met.get(what) ?? 0) + 1);
      if (createHash('sha256').update(page).digest('hex') !== sha256)
        wrong.push(`${what}: rmgr ${record.rmid} info 0x${record.info.toString(16)} block ${id}`);
    }
    expect(wrong).toEqual([]);
    const kinds = ['pglz', 'lz4', 'zstd'].flatMap(method => [`${method} checked`, `${method} restored`]);
    expect([...met.keys()].sort()).toEqual(kinds.sort());
    expect(Math.min(...met.values())).toBeGreaterThan(5);
  });
});
