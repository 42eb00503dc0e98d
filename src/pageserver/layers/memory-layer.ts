// The newest part of a timeline, in memory: open while WAL comes in, frozen while it is written out.
//
// Values lie as bytes in an arena of chunks, each record once, however many keys it has. Each value of a key is an
// entry: a row across parallel typed arrays (columns), linked to the key's entry before it. A hash table with open
// addressing leads from a key to its newest entry. No object is made per value, so ten million of them cost the
// collector nothing.
//
//   table   rel u32 | blk u32 | head i32            slots, power of two, at most 3/5 full; head: newest entry + 1
//   entry   lsn f64 | chunk u32 | offset u32 | length u32 | kind and block id u16 | previous entry i32
//
// When its values are on the disk its memory is given back at once, not left to the collector, which would search the
// whole heap for it every 64 MB: but not under a read that waits with some of it in hand (`pin`).
//
// Entries of one key have rising LSNs (equal ones in the order of arrival), so a walk along the links is newest
// first. Everything here is synchronous.

import { assert } from '../../base/assert.ts';
import { SpareBuffers } from '../../base/spare-buffers.ts';
import { type KeyRange, packKey } from '../key.ts';
import type { ValueKind, ValueSink, ValueVisitor } from '../value.ts';
import { hashKey } from './key-hash.ts';

/** Chunks double up to this: an idle timeline costs little, a busy one few allocations. */
const CHUNK_MAX = 1024 * 1024;
const CHUNK_FIRST = 16 * 1024;
const TABLE_SLOTS_FIRST = 256;
const ENTRIES_FIRST = 256;
const ENTRY_BYTES = 26;
const SLOT_BYTES = 12;
const NO_SPARES = new SpareBuffers(0);

/** A layer as it lies in memory, for a flush to copy; entries and chunks are cut to what is filled. */
export interface MemoryColumns {
  readonly entries: number;
  readonly keys: number;
  readonly slotRel: Uint32Array;
  readonly slotBlk: Uint32Array;
  readonly slotHead: Int32Array;
  readonly lsn: Float64Array;
  readonly chunk: Uint32Array;
  readonly offset: Uint32Array;
  readonly length: Uint32Array;
  readonly meta: Uint16Array;
  readonly previous: Int32Array;
  readonly chunks: readonly Uint8Array[];
}

export class MemoryLayer {
  readonly lsnStart: number;
  /** Just past the newest value. */
  lsnEnd: number;
  /** Distinct keys. */
  keys = 0;
  entries = 0;
  lastPrev = 0;
  private frozen = false;
  private pins = 0;
  private released = false;
  private gone = false;

  private readonly spares: SpareBuffers;
  private readonly chunks: Uint8Array[] = [];
  private chunkFill = 0;
  private chunkSize = 0;
  private chunkBytes = 0;
  private arenaBytes = 0;

  private slots = TABLE_SLOTS_FIRST;
  private slotRel: Uint32Array = new Uint32Array(TABLE_SLOTS_FIRST);
  private slotBlk: Uint32Array = new Uint32Array(TABLE_SLOTS_FIRST);
  private slotHead: Int32Array = new Int32Array(TABLE_SLOTS_FIRST);

  private lsn: Float64Array = new Float64Array(ENTRIES_FIRST);
  private chunk: Uint32Array = new Uint32Array(ENTRIES_FIRST);
  private offset: Uint32Array = new Uint32Array(ENTRIES_FIRST);
  private lengths: Uint32Array = new Uint32Array(ENTRIES_FIRST);
  private meta: Uint16Array = new Uint16Array(ENTRIES_FIRST);
  private previous: Int32Array = new Int32Array(ENTRIES_FIRST);

  private sharedChunk = 0;
  private sharedOffset = 0;
  private sharedLength = 0;
  private sharedLsn = 0;

  /**
   * `like` is the layer before, if this one will grow as large: the columns then have their size from the start, and
   * need not be copied as they grow. Large buffers come from `spares`, and go there.
   */
  constructor(
    lsnStart: number,
    {
      like,
      spares = NO_SPARES,
    }: { readonly like?: MemoryLayer | undefined; readonly spares?: SpareBuffers } = {},
  ) {
    this.lsnStart = lsnStart;
    this.lsnEnd = lsnStart;
    this.spares = spares;
    if (like === undefined) return;
    const { slots } = like;
    this.slots = slots;
    this.slotRel = new Uint32Array(spares.take(slots * 4), 0, slots);
    this.slotBlk = new Uint32Array(spares.take(slots * 4), 0, slots);
    this.slotHead = new Int32Array(spares.take(slots * 4), 0, slots).fill(0);
    const entries = like.lsn.length;
    this.lsn = new Float64Array(spares.take(entries * 8), 0, entries);
    this.chunk = new Uint32Array(spares.take(entries * 4), 0, entries);
    this.offset = new Uint32Array(spares.take(entries * 4), 0, entries);
    this.lengths = new Uint32Array(spares.take(entries * 4), 0, entries);
    this.meta = new Uint16Array(spares.take(entries * 2), 0, entries);
    this.previous = new Int32Array(spares.take(entries * 4), 0, entries);
  }

  columns(): MemoryColumns {
    const { entries, keys, slotRel, slotBlk, slotHead } = this;
    const last = this.chunks.length - 1;
    return {
      entries,
      keys,
      slotRel,
      slotBlk,
      slotHead,
      lsn: this.lsn.subarray(0, entries),
      chunk: this.chunk.subarray(0, entries),
      offset: this.offset.subarray(0, entries),
      length: this.lengths.subarray(0, entries),
      meta: this.meta.subarray(0, entries),
      previous: this.previous.subarray(0, entries),
      chunks: this.chunks.map((chunk, i) => (i === last ? chunk.subarray(0, this.chunkFill) : chunk)),
    };
  }

  /** A frozen layer over columns that were copied from one. */
  static over(columns: MemoryColumns, lsnStart: number, lsnEnd: number): MemoryLayer {
    const layer = new MemoryLayer(lsnStart);
    layer.entries = columns.entries;
    layer.keys = columns.keys;
    layer.slots = columns.slotRel.length;
    layer.slotRel = columns.slotRel;
    layer.slotBlk = columns.slotBlk;
    layer.slotHead = columns.slotHead;
    layer.lsn = columns.lsn;
    layer.chunk = columns.chunk;
    layer.offset = columns.offset;
    layer.lengths = columns.length;
    layer.meta = columns.meta;
    layer.previous = columns.previous;
    layer.chunks.push(...columns.chunks);
    layer.freeze(lsnEnd, 0);
    return layer;
  }

  /** Memory in use: what the limits are about. */
  get bytes(): number {
    return this.chunkBytes + this.entries * ENTRY_BYTES + this.keys * 2 * SLOT_BYTES;
  }

  /** Bytes of values alone: what a delta layer of this will hold. */
  get valueBytes(): number {
    return this.arenaBytes;
  }

  put(
    rel: number,
    blk: number,
    lsn: number,
    kind: ValueKind,
    blockId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    this.beginShared(lsn, bytes, offset, length);
    this.putShared(rel, blk, kind, blockId);
  }

  /** Take in bytes that several keys will share (a record of several blocks). */
  beginShared(lsn: number, bytes: Uint8Array, offset: number, length: number): void {
    assert(lsn >= this.lsnStart, 'a value older than its layer');
    assert(!this.frozen, 'a value for a frozen layer');
    if (this.chunkFill + length > this.chunkSize || this.chunks.length === 0) this.newChunk(length);
    const at = this.chunkFill;
    const chunk = this.chunks[this.chunks.length - 1]!;
    if (length <= 64) for (let i = 0; i < length; i++) chunk[at + i] = bytes[offset + i]!;
    else chunk.set(bytes.subarray(offset, offset + length), at);
    this.chunkFill = at + length;
    this.arenaBytes += length;
    this.sharedChunk = this.chunks.length - 1;
    this.sharedOffset = at;
    this.sharedLength = length;
    this.sharedLsn = lsn;
  }

  putShared(rel: number, blk: number, kind: ValueKind, blockId: number): void {
    const slot = this.slotFor(rel, blk);
    const head = this.slotHead[slot]! - 1;
    const lsn = this.sharedLsn;
    assert(head < 0 || this.lsn[head]! <= lsn, 'values of a key come in the order of their LSNs');
    const entry = this.entries++;
    if (entry === this.lsn.length) this.growEntries();
    this.lsn[entry] = lsn;
    this.chunk[entry] = this.sharedChunk;
    this.offset[entry] = this.sharedOffset;
    this.lengths[entry] = this.sharedLength;
    this.meta[entry] = (kind << 8) | blockId;
    this.previous[entry] = head;
    this.slotHead[slot] = entry + 1;
    if (lsn >= this.lsnEnd) this.lsnEnd = lsn + 1;
  }

  /** Nothing comes after `lsnEnd`: every record below it is in, and the newest of them begins at `lastPrev`. */
  freeze(lsnEnd: number, lastPrev: number): void {
    assert(lsnEnd >= this.lsnEnd, 'a memory layer ends past its newest value');
    this.lsnEnd = lsnEnd;
    this.lastPrev = lastPrev;
    this.frozen = true;
  }

  /** Somebody waits with values of it in hand. */
  pin(): void {
    assert(!this.gone, 'a memory layer is pinned while it is there');
    this.pins++;
  }

  unpin(): void {
    if (--this.pins === 0 && this.released) this.giveBack();
  }

  /** Its values are to be had elsewhere: the memory goes as soon as nobody has any of it in hand. */
  release(): void {
    assert(this.frozen && !this.released, 'a memory layer is released once, when all of it is written');
    this.released = true;
    if (this.pins === 0) this.giveBack();
  }

  private giveBack(): void {
    this.gone = true;
    const columns = [this.lsn, this.chunk, this.offset, this.lengths, this.meta, this.previous];
    for (const array of [...this.chunks, ...columns, this.slotRel, this.slotBlk, this.slotHead])
      this.spares.giveBack(array);
    this.chunks.length = 0;
  }

  /** Values of a key below `lsnEnd`, newest first, until the sink has enough; whether it had. */
  get(rel: number, blk: number, lsnEnd: number, sink: ValueSink): boolean {
    assert(!this.gone, 'a memory layer is read while it is there');
    const slot = this.find(rel, blk);
    if (slot < 0) return false;
    for (let e = this.slotHead[slot]! - 1; e >= 0; e = this.previous[e]!) {
      if (this.lsn[e]! >= lsnEnd) continue;
      const meta = this.meta[e]!;
      const bytes = this.chunks[this.chunk[e]!]!;
      if (sink.add(this.lsn[e]!, meta >> 8, meta & 0xff, bytes, this.offset[e]!, this.lengths[e]!, true))
        return true;
    }
    return false;
  }

  /** Every value in ranges of keys and LSNs, in the order of keys, each key's from the oldest on. */
  scan(range: KeyRange, lsnStart: number, lsnEnd: number, visitor: ValueVisitor): void {
    assert(!this.gone, 'a memory layer is read while it is there');
    const chain: number[] = [];
    for (const key of this.sortedKeys(range)) {
      const rel = Math.floor(key / 0x1_0000_0000);
      const blk = key % 0x1_0000_0000;
      const slot = this.find(rel, blk);
      chain.length = 0;
      for (let e = this.slotHead[slot]! - 1; e >= 0; e = this.previous[e]!) {
        if (this.lsn[e]! >= lsnStart && this.lsn[e]! < lsnEnd) chain.push(e);
      }
      for (let i = chain.length - 1; i >= 0; i--) {
        const e = chain[i]!;
        const meta = this.meta[e]!;
        const bytes = this.chunks[this.chunk[e]!]!;
        visitor.visit(
          rel,
          blk,
          this.lsn[e]!,
          meta >> 8,
          meta & 0xff,
          bytes,
          this.offset[e]!,
          this.lengths[e]!,
        );
      }
    }
  }

  /** The keys in a range, packed, in order. */
  sortedKeys(range: KeyRange): Float64Array {
    const start = packKey(range.start.rel, range.start.blk);
    const end = packKey(range.end.rel, range.end.blk);
    const packed = new Float64Array(this.keys);
    let count = 0;
    for (let slot = 0; slot < this.slots; slot++) {
      if (this.slotHead[slot] === 0) continue;
      const key = packKey(this.slotRel[slot]!, this.slotBlk[slot]!);
      if (key >= start && key < end) packed[count++] = key;
    }
    return packed.subarray(0, count).sort();
  }

  private newChunk(length: number): void {
    const usual = Math.min(CHUNK_MAX, Math.max(CHUNK_FIRST, this.chunkSize * 2));
    const chunk = new Uint8Array(this.spares.take(Math.max(usual, length)));
    this.chunkSize = chunk.length;
    this.chunks.push(chunk);
    this.chunkBytes += this.chunkSize;
    this.chunkFill = 0;
    // A large value does not make the chunks after it large.
    if (length > usual) this.chunkSize = usual;
  }

  private find(rel: number, blk: number): number {
    const mask = this.slots - 1;
    for (let slot = hashKey(rel, blk) & mask; ; slot = (slot + 1) & mask) {
      if (this.slotHead[slot] === 0) return -1;
      if (this.slotBlk[slot] === blk && this.slotRel[slot] === rel) return slot;
    }
  }

  private slotFor(rel: number, blk: number): number {
    const mask = this.slots - 1;
    let slot = hashKey(rel, blk) & mask;
    while (this.slotHead[slot] !== 0) {
      if (this.slotBlk[slot] === blk && this.slotRel[slot] === rel) return slot;
      slot = (slot + 1) & mask;
    }
    if ((this.keys + 1) * 5 > this.slots * 3) {
      this.growTable();
      return this.slotFor(rel, blk);
    }
    this.keys++;
    this.slotRel[slot] = rel;
    this.slotBlk[slot] = blk;
    return slot;
  }

  private growTable(): void {
    const { slots, slotRel, slotBlk, slotHead } = this;
    this.slots = slots * 2;
    this.slotRel = new Uint32Array(this.slots);
    this.slotBlk = new Uint32Array(this.slots);
    this.slotHead = new Int32Array(this.slots);
    const mask = this.slots - 1;
    for (let old = 0; old < slots; old++) {
      if (slotHead[old] === 0) continue;
      let slot = hashKey(slotRel[old]!, slotBlk[old]!) & mask;
      while (this.slotHead[slot] !== 0) slot = (slot + 1) & mask;
      this.slotRel[slot] = slotRel[old]!;
      this.slotBlk[slot] = slotBlk[old]!;
      this.slotHead[slot] = slotHead[old]!;
    }
  }

  private growEntries(): void {
    const grown = <T extends Float64Array | Uint32Array | Uint16Array | Int32Array>(old: T): T => {
      const bigger = new (old.constructor as new (length: number) => T)(old.length * 2);
      bigger.set(old as never);
      return bigger;
    };
    this.lsn = grown(this.lsn);
    this.chunk = grown(this.chunk);
    this.offset = grown(this.offset);
    this.lengths = grown(this.lengths);
    this.meta = grown(this.meta);
    this.previous = grown(this.previous);
  }
}
