// A data block of a layer: 16 or 32 KiB of values, sorted by key and then by LSN (those of one key at one LSN in the
// order in which the log made them). Stored:
//
//    0  crc32c      u32   of all that follows
//    4  codec       u8    0 as it is, 1 zstd | 3 bytes of zeros
//    8  raw length  u32
//   12  the raw block, compressed where that saves an eighth
//
// Raw, everything little-endian:
//
//    0  keys u32 = K | values u32 = V
//    8  K x { rel u32, blk u32, first u32 }         `first`: the key's first value; its last is before the next's
//    .  V x LSN low u32 | V x LSN high u32 | V x end u32 | V x meta u16 (kind << 8 | block id)
//    .  the values' bytes, one after the other; value i lies from end[i - 1] to end[i]
//
// Columns, because zstd finds more in them. A value larger than a block has a block of its own; the values of one
// key may go on in the next block.

import { constants as zlib, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { assert } from '../../base/assert.ts';
import { Fault } from '../../base/fault.ts';
import { crc32c } from '../../xlog/crc32c.ts';
import type { ValueSink, ValueVisitor } from '../value.ts';

/** Raw bytes after which a block is ended. Images: two pages and what describes them. */
export const IMAGE_BLOCK_BYTES = 16 * 1024 + 512;
/** Deltas: each call of zstd costs 10 us before the first byte, and merges make three for each block. */
export const DELTA_BLOCK_BYTES = 32 * 1024;
const STORED_HEADER = 12;
const RAW_HEADER = 8;
const KEY_ROW = 12;
const VALUE_ROW = 14;
const CODEC_PLAIN = 0;
const CODEC_ZSTD = 1;
/** No value is larger: the longest WAL record is 1020 MiB, and its block must fit in what a length can say. */
const RAW_BYTES_MAX = 0x7fff_ffff;
const TWO_32 = 0x1_0000_0000;

const ZSTD_OPTIONS = { params: { [zlib.ZSTD_c_compressionLevel]: 1 } };

/** The stored form of a raw block; as it is where `compress` is not wanted or does not help. */
export function storeBlock(raw: Uint8Array, compress = true): Uint8Array {
  const packed = compress ? zstdCompressSync(raw, ZSTD_OPTIONS) : raw;
  const codec = packed.length <= raw.length - (raw.length >> 3) ? CODEC_ZSTD : CODEC_PLAIN;
  const payload = codec === CODEC_ZSTD ? packed : raw;
  const stored = new Uint8Array(STORED_HEADER + payload.length);
  const view = new DataView(stored.buffer);
  stored[4] = codec;
  view.setUint32(8, raw.length, true);
  stored.set(payload, STORED_HEADER);
  view.setUint32(0, crc32c(stored, 4), true);
  return stored;
}

/** The raw block again, proven; `where` names the layer in the error. */
export function loadBlock(stored: Uint8Array, where: string): Uint8Array {
  if (stored.length < STORED_HEADER) throw badBlock(where, `${stored.length} bytes are no block`);
  const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
  if (crc32c(stored, 4) !== view.getUint32(0, true)) throw badBlock(where, 'its checksum differs');
  const rawLength = view.getUint32(8, true);
  if (stored[4] === CODEC_PLAIN) {
    if (rawLength !== stored.length - STORED_HEADER) throw badBlock(where, 'its length differs');
    return stored.subarray(STORED_HEADER);
  }
  if (stored[4] !== CODEC_ZSTD || rawLength > RAW_BYTES_MAX) throw badBlock(where, `codec ${stored[4]}`);
  let raw: Uint8Array;
  try {
    raw = zstdDecompressSync(stored.subarray(STORED_HEADER), {
      maxOutputLength: Math.max(1, rawLength),
      chunkSize: Math.max(64, rawLength),
    });
  } catch (cause) {
    throw badBlock(where, 'zstd refuses it', cause);
  }
  if (raw.length !== rawLength) throw badBlock(where, 'its length differs');
  // Not the Buffer, whose `slice` would share memory.
  return new Uint8Array(raw.buffer, raw.byteOffset, raw.length);
}

export const badBlock = (where: string, reason: string, cause?: unknown): Fault =>
  new Fault('layer-corrupt', `layer ${where}: a damaged block: ${reason}`, {
    hint: 'The file was changed after it was written. Take it from the object store again.',
    ...(cause === undefined ? {} : { cause }),
  });

/** Gathers values, which come in order, until there is a block's worth. */
export class BlockBuilder {
  private keyCount = 0;
  private valueCount = 0;
  private dataBytes = 0;
  private rel = new Uint32Array(256);
  private blk = new Uint32Array(256);
  private first = new Uint32Array(256);
  private lsn = new Float64Array(256);
  private end = new Uint32Array(256);
  private meta = new Uint16Array(256);
  private data: Uint8Array;
  private readonly blockBytes: number;

  constructor(blockBytes: number) {
    this.blockBytes = blockBytes;
    this.data = new Uint8Array(2 * blockBytes);
  }

  get isEmpty(): boolean {
    return this.valueCount === 0;
  }

  get rawBytes(): number {
    return RAW_HEADER + this.keyCount * KEY_ROW + this.valueCount * VALUE_ROW + this.dataBytes;
  }

  /** Would a value of this length make the block too large? */
  isFullFor(length: number): boolean {
    return this.valueCount > 0 && this.rawBytes + KEY_ROW + VALUE_ROW + length > this.blockBytes;
  }

  get firstRel(): number {
    return this.rel[0]!;
  }
  get firstBlk(): number {
    return this.blk[0]!;
  }
  get firstLsn(): number {
    return this.lsn[0]!;
  }

  add(
    rel: number,
    blk: number,
    lsn: number,
    kind: number,
    blockId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    const k = this.keyCount - 1;
    if (k < 0 || this.rel[k] !== rel || this.blk[k] !== blk) this.beginKey(rel, blk);
    const v = this.valueCount++;
    if (v === this.lsn.length) this.growValues();
    const at = this.dataBytes;
    if (at + length > this.data.length) this.growData(at + length);
    this.lsn[v] = lsn;
    this.meta[v] = (kind << 8) | blockId;
    this.end[v] = at + length;
    this.dataBytes = at + length;
    if (length <= 64) for (let i = 0; i < length; i++) this.data[at + i] = bytes[offset + i]!;
    else this.data.set(bytes.subarray(offset, offset + length), at);
  }

  /** The raw block; the builder is empty again. */
  take(): Uint8Array {
    const { keyCount: K, valueCount: V } = this;
    const raw = new Uint8Array(this.rawBytes);
    const view = new DataView(raw.buffer);
    view.setUint32(0, K, true);
    view.setUint32(4, V, true);
    let at = RAW_HEADER;
    for (let k = 0; k < K; k++, at += KEY_ROW) {
      view.setUint32(at, this.rel[k]!, true);
      view.setUint32(at + 4, this.blk[k]!, true);
      view.setUint32(at + 8, this.first[k]!, true);
    }
    for (let v = 0; v < V; v++) {
      const lsn = this.lsn[v]!;
      const high = Math.floor(lsn / TWO_32);
      view.setUint32(at + v * 4, lsn - high * TWO_32, true);
      view.setUint32(at + (V + v) * 4, high, true);
      view.setUint32(at + (2 * V + v) * 4, this.end[v]!, true);
      view.setUint16(at + 12 * V + v * 2, this.meta[v]!, true);
    }
    raw.set(this.data.subarray(0, this.dataBytes), at + V * VALUE_ROW);
    this.keyCount = 0;
    this.valueCount = 0;
    this.dataBytes = 0;
    if (this.data.length > 64 * this.blockBytes) this.data = new Uint8Array(2 * this.blockBytes);
    return raw;
  }

  private beginKey(rel: number, blk: number): void {
    const k = this.keyCount++;
    if (k === this.rel.length) {
      this.rel = grown(this.rel);
      this.blk = grown(this.blk);
      this.first = grown(this.first);
    }
    this.rel[k] = rel;
    this.blk[k] = blk;
    this.first[k] = this.valueCount;
  }

  private growValues(): void {
    this.lsn = grown(this.lsn);
    this.end = grown(this.end);
    this.meta = grown(this.meta);
  }

  private growData(wanted: number): void {
    assert(wanted < RAW_BYTES_MAX - 64 * 1024, 'a value too large for a block');
    const data = new Uint8Array(Math.max(wanted, this.data.length * 2));
    data.set(this.data.subarray(0, this.dataBytes));
    this.data = data;
  }
}

function grown<T extends Uint32Array | Float64Array | Uint16Array>(old: T): T {
  const bigger = new (old.constructor as new (length: number) => T)(old.length * 2);
  bigger.set(old as never);
  return bigger;
}

/** A raw block, read in place. */
export class Block {
  readonly bytes: Uint8Array;
  readonly keyCount: number;
  readonly valueCount: number;
  private readonly view: DataView;
  private readonly values: number;
  private readonly data: number;

  constructor(raw: Uint8Array, where: string) {
    if (raw.length < RAW_HEADER) throw badBlock(where, 'it has no header');
    this.bytes = raw;
    this.view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    this.keyCount = this.view.getUint32(0, true);
    this.valueCount = this.view.getUint32(4, true);
    this.values = RAW_HEADER + this.keyCount * KEY_ROW;
    this.data = this.values + this.valueCount * VALUE_ROW;
    const sound = this.keyCount > 0 && this.keyCount <= this.valueCount && this.data <= raw.length;
    if (!sound || this.data + this.endOf(this.valueCount - 1) !== raw.length)
      throw badBlock(where, 'its parts do not add up');
  }

  relOf(key: number): number {
    return this.view.getUint32(RAW_HEADER + key * KEY_ROW, true);
  }
  blkOf(key: number): number {
    return this.view.getUint32(RAW_HEADER + key * KEY_ROW + 4, true);
  }
  /** The first value of a key; of one past the last key, the count of all. */
  firstValue(key: number): number {
    return key === this.keyCount
      ? this.valueCount
      : this.view.getUint32(RAW_HEADER + key * KEY_ROW + 8, true);
  }
  lsnOf(value: number): number {
    const { view, values, valueCount } = this;
    return (
      view.getUint32(values + value * 4, true) +
      view.getUint32(values + (valueCount + value) * 4, true) * TWO_32
    );
  }
  metaOf(value: number): number {
    return this.view.getUint16(this.values + 12 * this.valueCount + value * 2, true);
  }
  /** Where a value's bytes begin in `bytes`. */
  offsetOf(value: number): number {
    return this.data + (value === 0 ? 0 : this.endOf(value - 1));
  }
  lengthOf(value: number): number {
    return this.data + this.endOf(value) - this.offsetOf(value);
  }
  private endOf(value: number): number {
    return this.view.getUint32(this.values + (2 * this.valueCount + value) * 4, true);
  }

  /** The first key that is not below the given one: its index, or the count of keys. */
  lowerBound(rel: number, blk: number): number {
    let low = 0;
    let high = this.keyCount;
    while (low < high) {
      const middle = (low + high) >> 1;
      const r = this.relOf(middle);
      if (r < rel || (r === rel && this.blkOf(middle) < blk)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Values of a key below `lsnEnd`, newest first, until the sink has enough; whether it had. */
  get(rel: number, blk: number, lsnEnd: number, sink: ValueSink): boolean {
    const key = this.lowerBound(rel, blk);
    if (key === this.keyCount || this.relOf(key) !== rel || this.blkOf(key) !== blk) return false;
    const from = this.firstValue(key);
    for (let v = this.firstValue(key + 1) - 1; v >= from; v--) {
      const lsn = this.lsnOf(v);
      if (lsn >= lsnEnd) continue;
      const meta = this.metaOf(v);
      if (sink.add(lsn, meta >> 8, meta & 0xff, this.bytes, this.offsetOf(v), this.lengthOf(v), true))
        return true;
    }
    return false;
  }

  /** Every value of key `key`, oldest first. */
  visitKey(key: number, visitor: ValueVisitor): void {
    const rel = this.relOf(key);
    const blk = this.blkOf(key);
    const end = this.firstValue(key + 1);
    for (let v = this.firstValue(key); v < end; v++) {
      const meta = this.metaOf(v);
      const { bytes } = this;
      visitor.visit(
        rel,
        blk,
        this.lsnOf(v),
        meta >> 8,
        meta & 0xff,
        bytes,
        this.offsetOf(v),
        this.lengthOf(v),
      );
    }
  }
}
