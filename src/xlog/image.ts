// A full-page image restored: decompressed where it is compressed, and the hole of zeros put back.
//
//   image bytes [0, holeOffset) | holeLength zeros | image bytes [holeOffset, rest)
//
// Mirrors RestoreBlockImage of xlogreader.c. pglz and lz4 are ours (pglz.ts, lz4.ts); zstd is Node's.

import { zstdDecompressSync } from 'node:zlib';
import { Fault } from '../base/fault.ts';
import { formatLsn } from '../base/lsn.ts';
import { lz4Decompress } from './lz4.ts';
import { BLCKSZ } from './page.ts';
import { pglzDecompress } from './pglz.ts';
import type { BlockRef, WalRecord } from './record.ts';

const scratch = new Uint8Array(BLCKSZ);

/** Write the image of `block` over the 8192 bytes of `page`. */
export function restoreImage(page: Uint8Array, record: WalRecord, block: BlockRef): void {
  const { holeOffset, holeLength, imageOffset } = block;
  let source = record.bytes;
  let from = imageOffset;
  if (block.compression !== 'none') {
    source = decompress(record, block, BLCKSZ - holeLength);
    from = 0;
  }
  if (holeLength === 0) {
    copy(page, 0, source, from, BLCKSZ);
    return;
  }
  copy(page, 0, source, from, holeOffset);
  page.fill(0, holeOffset, holeOffset + holeLength);
  copy(page, holeOffset + holeLength, source, from + holeOffset, BLCKSZ - holeOffset - holeLength);
}

function copy(target: Uint8Array, at: number, source: Uint8Array, from: number, length: number): void {
  if (length > 0) target.set(source.subarray(from, from + length), at);
}

function decompress(record: WalRecord, block: BlockRef, size: number): Uint8Array {
  const start = block.imageOffset;
  const end = start + block.imageLength;
  let written = -1;
  switch (block.compression) {
    case 'pglz':
      written = pglzDecompress(record.bytes, start, end, scratch, size);
      break;
    case 'lz4':
      written = lz4Decompress(record.bytes, start, end, scratch, size);
      break;
    case 'zstd':
      return unzstd(record, block, size);
  }
  if (written !== size)
    throw badImage(record, block, `${block.compression} gave ${written} bytes, not ${size}`);
  return scratch;
}

function unzstd(record: WalRecord, block: BlockRef, size: number): Uint8Array {
  const bytes = record.bytes.subarray(block.imageOffset, block.imageOffset + block.imageLength);
  let image: Uint8Array;
  try {
    image = zstdDecompressSync(bytes, { maxOutputLength: BLCKSZ });
  } catch (cause) {
    throw badImage(record, block, 'zstd refuses it', cause);
  }
  if (image.length !== size) throw badImage(record, block, `zstd gave ${image.length} bytes, not ${size}`);
  return image;
}

function badImage(record: WalRecord, block: BlockRef, reason: string, cause?: unknown): Fault {
  return new Fault(
    'wal-image',
    `bad page image in WAL record at ${formatLsn(record.lsn)}, block ${block.id}: ${reason}`,
    cause === undefined ? {} : { cause },
  );
}
