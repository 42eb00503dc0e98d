// The file of a layer, delta or image:
//
//   block 0 | block 1 | ...         data blocks as in block.ts, in the order of their keys
//   counts                          per key: how many edits since its newest base (plan/images.ts asks)
//   filter                          which keys may be here (key-filter.ts)
//   index                           where each block lies, and its first key and LSN
//   footer                          128 bytes, below; the last thing written, the first read
//
// Footer, little-endian:
//
//     0  "LBLAYER1"                      8
//     8  version u16 | kind u8 (0 delta, 1 dense image, 2 sparse image) | 0 u8 | blocks u32
//    16  first key rel u32, blk u32 | end key rel u32, blk u32
//    32  LSN start u64 | LSN end u64
//    48  keys f64 | values f64 | end of the data f64
//    72  counts: offset f64, length u32, crc32c u32
//    88  filter: likewise
//   104  index: likewise
//   120  0 u32 | crc32c of the footer up to here u32
//
// Index and counts are columns, compressed with zstd:
//   index   N x rel u32 | N x blk u32 | N x LSN low u32 | N x LSN high u32 | N x stored length u32
//   counts  K x rel u32 | K x (blk less the blk before) u32 | K x (edits << 1 | has a base) u32
//
// A reader refuses a version it does not know; a newer build reads every older one.

import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { Fault } from '../../base/fault.ts';
import { readLsnLE, writeLsnLE } from '../../base/lsn.ts';
import { crc32c } from '../../xlog/crc32c.ts';
import type { KeyRange } from '../key.ts';
import type { LayerIdentity } from './layer-name.ts';

export const FOOTER_BYTES = 128;
const MAGIC = 'LBLAYER1';
const VERSION = 1;
const KINDS = ['delta', 'dense', 'sparse'] as const;
const TWO_32 = 0x1_0000_0000;

export interface SectionPlace {
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
}

export interface Footer {
  readonly kind: (typeof KINDS)[number];
  readonly keys: KeyRange;
  readonly lsnStart: number;
  readonly lsnEnd: number;
  readonly blocks: number;
  readonly keyCount: number;
  readonly valueCount: number;
  readonly dataEnd: number;
  readonly counts: SectionPlace;
  readonly filter: SectionPlace;
  readonly index: SectionPlace;
}

export const footerKind = (layer: Pick<LayerIdentity, 'kind' | 'sparse'>): Footer['kind'] =>
  layer.kind === 'delta' ? 'delta' : layer.sparse ? 'sparse' : 'dense';

export function encodeFooter(footer: Footer): Uint8Array {
  const bytes = new Uint8Array(FOOTER_BYTES);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < MAGIC.length; i++) bytes[i] = MAGIC.charCodeAt(i);
  view.setUint16(8, VERSION, true);
  bytes[10] = KINDS.indexOf(footer.kind);
  view.setUint32(12, footer.blocks, true);
  view.setUint32(16, footer.keys.start.rel, true);
  view.setUint32(20, footer.keys.start.blk, true);
  view.setUint32(24, footer.keys.end.rel, true);
  view.setUint32(28, footer.keys.end.blk, true);
  writeLsnLE(view, 32, footer.lsnStart);
  writeLsnLE(view, 40, footer.lsnEnd);
  view.setFloat64(48, footer.keyCount, true);
  view.setFloat64(56, footer.valueCount, true);
  view.setFloat64(64, footer.dataEnd, true);
  writePlace(view, 72, footer.counts);
  writePlace(view, 88, footer.filter);
  writePlace(view, 104, footer.index);
  view.setUint32(124, crc32c(bytes, 0, 124), true);
  return bytes;
}

function writePlace(view: DataView, at: number, place: SectionPlace): void {
  view.setFloat64(at, place.offset, true);
  view.setUint32(at + 8, place.length, true);
  view.setUint32(at + 12, place.crc, true);
}

const readPlace = (view: DataView, at: number): SectionPlace => ({
  offset: view.getFloat64(at, true),
  length: view.getUint32(at + 8, true),
  crc: view.getUint32(at + 12, true),
});

export function decodeFooter(bytes: Uint8Array, where: string): Footer {
  if (bytes.length !== FOOTER_BYTES) throw badLayer(where, 'it is too short for a layer');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < MAGIC.length; i++) {
    if (bytes[i] !== MAGIC.charCodeAt(i)) throw badLayer(where, 'it does not end as a layer does');
  }
  if (crc32c(bytes, 0, 124) !== view.getUint32(124, true))
    throw badLayer(where, "its footer's checksum differs");
  const version = view.getUint16(8, true);
  const kind = KINDS[bytes[10]!];
  if (version !== VERSION || kind === undefined) {
    throw new Fault('layer-corrupt', `layer ${where}: format ${version}.${bytes[10]} is not known here`, {
      hint: 'A newer build wrote it: run that one.',
    });
  }
  return {
    kind,
    keys: {
      start: { rel: view.getUint32(16, true), blk: view.getUint32(20, true) },
      end: { rel: view.getUint32(24, true), blk: view.getUint32(28, true) },
    },
    lsnStart: readLsnLE(view, 32),
    lsnEnd: readLsnLE(view, 40),
    blocks: view.getUint32(12, true),
    keyCount: view.getFloat64(48, true),
    valueCount: view.getFloat64(56, true),
    dataEnd: view.getFloat64(64, true),
    counts: readPlace(view, 72),
    filter: readPlace(view, 88),
    index: readPlace(view, 104),
  };
}

export const badLayer = (where: string, reason: string, cause?: unknown): Fault =>
  new Fault('layer-corrupt', `layer ${where}: ${reason}`, {
    hint: 'The file is not what was written. Take it from the object store again.',
    ...(cause === undefined ? {} : { cause }),
  });

// ---- index --------------------------------------------------------------------------------------------------

export class BlockIndex {
  readonly count: number;
  readonly rel: Uint32Array;
  readonly blk: Uint32Array;
  readonly lsn: Float64Array;
  readonly stored: Uint32Array;
  /** Where each block begins; one more than there are blocks: the end. */
  readonly offset: Float64Array;

  constructor(count: number) {
    this.count = count;
    this.rel = new Uint32Array(count);
    this.blk = new Uint32Array(count);
    this.lsn = new Float64Array(count);
    this.stored = new Uint32Array(count);
    this.offset = new Float64Array(count + 1);
  }

  get memoryBytes(): number {
    return this.count * 28 + 8;
  }

  /** After the stored lengths are in. */
  settle(): this {
    for (let i = 0; i < this.count; i++) this.offset[i + 1] = this.offset[i]! + this.stored[i]!;
    return this;
  }

  /**
   * The last block that begins below (rel, blk, lsn): where the newest value of that key below that LSN is, if
   * there is one; -1 when every block begins later. The search may be told to begin at block `from`.
   */
  lastBefore(rel: number, blk: number, lsn: number, from = 0): number {
    let low = from;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      const r = this.rel[middle]!;
      const b = this.blk[middle]!;
      const before = r !== rel ? r < rel : b !== blk ? b < blk : this.lsn[middle]! < lsn;
      if (before) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Does the block begin with this key, so that the one before it may hold older values of it? */
  beginsWith(block: number, rel: number, blk: number): boolean {
    return this.blk[block] === blk && this.rel[block] === rel;
  }
}

export function encodeIndex(index: BlockIndex): Uint8Array {
  const n = index.count;
  const raw = new Uint8Array(n * 20);
  const view = new DataView(raw.buffer);
  for (let i = 0; i < n; i++) {
    const lsn = index.lsn[i]!;
    const high = Math.floor(lsn / TWO_32);
    view.setUint32(i * 4, index.rel[i]!, true);
    view.setUint32((n + i) * 4, index.blk[i]!, true);
    view.setUint32((2 * n + i) * 4, lsn - high * TWO_32, true);
    view.setUint32((3 * n + i) * 4, high, true);
    view.setUint32((4 * n + i) * 4, index.stored[i]!, true);
  }
  return zstdCompressSync(raw);
}

export function decodeIndex(bytes: Uint8Array, count: number, where: string): BlockIndex {
  const raw = unpack(bytes, count * 20, where, 'index');
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const index = new BlockIndex(count);
  for (let i = 0; i < count; i++) {
    index.rel[i] = view.getUint32(i * 4, true);
    index.blk[i] = view.getUint32((count + i) * 4, true);
    index.lsn[i] =
      view.getUint32((2 * count + i) * 4, true) + view.getUint32((3 * count + i) * 4, true) * TWO_32;
    index.stored[i] = view.getUint32((4 * count + i) * 4, true);
  }
  return index.settle();
}

// ---- counts -------------------------------------------------------------------------------------------------

/** Per key of a layer: edits since its newest base, and whether it has one. */
export class KeyCounts {
  readonly count: number;
  readonly rel: Uint32Array;
  readonly blk: Uint32Array;
  /** edits << 1 | has a base */
  readonly edits: Uint32Array;

  constructor(count: number) {
    this.count = count;
    this.rel = new Uint32Array(count);
    this.blk = new Uint32Array(count);
    this.edits = new Uint32Array(count);
  }
}

export function encodeCounts(counts: KeyCounts): Uint8Array {
  const n = counts.count;
  const raw = new Uint8Array(n * 12);
  const view = new DataView(raw.buffer);
  for (let i = 0, before = 0; i < n; before = counts.blk[i]!, i++) {
    view.setUint32(i * 4, counts.rel[i]!, true);
    view.setUint32((n + i) * 4, counts.blk[i]! - before, true);
    view.setUint32((2 * n + i) * 4, counts.edits[i]!, true);
  }
  return zstdCompressSync(raw);
}

export function decodeCounts(bytes: Uint8Array, count: number, where: string): KeyCounts {
  const raw = unpack(bytes, count * 12, where, 'counts');
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const counts = new KeyCounts(count);
  for (let i = 0, before = 0; i < count; before = counts.blk[i]!, i++) {
    counts.rel[i] = view.getUint32(i * 4, true);
    counts.blk[i] = before + view.getUint32((count + i) * 4, true);
    counts.edits[i] = view.getUint32((2 * count + i) * 4, true);
  }
  return counts;
}

function unpack(bytes: Uint8Array, length: number, where: string, what: string): Uint8Array {
  if (length === 0) return new Uint8Array(0);
  let raw: Uint8Array;
  try {
    raw = zstdDecompressSync(bytes, { maxOutputLength: length });
  } catch (cause) {
    throw badLayer(where, `its ${what} cannot be unpacked`, cause);
  }
  if (raw.length !== length) throw badLayer(where, `its ${what} has another length`);
  return raw;
}
