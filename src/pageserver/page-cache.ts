// Pages made once and kept, with the LSN up to which each is true: a later read rolls the page forward by what came
// since, and does no redo twice. One cache for the whole process, of a fixed number of pages; when it is full, a
// clock hand goes round and takes the first page not used since it came by last. A new page has not been used yet:
// a scan of a large table does not push out what is read over and over.
//
//   slot    owner u32 | rel u32 | blk u32 | LSN f64 | used u8 | 8192 bytes of a slab     columns, no object each
//   table   open addressing, slot number + 1, at most half full
//
// `owner` is a timeline's number here (`newOwner`): a branch has pages of its own.

import { BLCKSZ } from '../xlog/page.ts';
import { hashKey } from './layers/key-hash.ts';

const SLAB_PAGES = 256;

let lastOwner = 0;

/** A number for a timeline, never used again. */
export const newOwner = (): number => ++lastOwner;

export class PageCache {
  readonly capacity: number;
  private readonly owner: Uint32Array;
  private readonly rel: Uint32Array;
  private readonly blk: Uint32Array;
  private readonly lsn: Float64Array;
  private readonly used: Uint8Array;
  private readonly slabs: Uint8Array[] = [];
  private readonly table: Uint32Array;
  private readonly mask: number;
  private filled = 0;
  private hand = 0;
  hits = 0;
  misses = 0;

  constructor(pages: number) {
    this.capacity = Math.max(1, pages);
    this.owner = new Uint32Array(this.capacity);
    this.rel = new Uint32Array(this.capacity);
    this.blk = new Uint32Array(this.capacity);
    this.lsn = new Float64Array(this.capacity);
    this.used = new Uint8Array(this.capacity);
    let size = 16;
    while (size < this.capacity * 2) size *= 2;
    this.table = new Uint32Array(size);
    this.mask = size - 1;
  }

  get pages(): number {
    return this.filled;
  }

  /**
   * If the page is here and no newer than `lsn`, it is copied to `into` at `at`; answers the LSN up to which it
   * is true, or -1.
   */
  read(owner: number, rel: number, blk: number, lsn: number, into: Uint8Array, at: number): number {
    const slot = this.find(owner, rel, blk);
    if (slot < 0 || this.lsn[slot]! > lsn) {
      this.misses++;
      return -1;
    }
    this.hits++;
    this.used[slot] = 1;
    const slab = this.slabs[Math.floor(slot / SLAB_PAGES)]!;
    const from = (slot % SLAB_PAGES) * BLCKSZ;
    into.set(slab.subarray(from, from + BLCKSZ), at);
    return this.lsn[slot]!;
  }

  /** Nothing changed the page up to `lsn`: what is here is true until then. */
  confirm(owner: number, rel: number, blk: number, lsn: number, from: number): void {
    const slot = this.find(owner, rel, blk);
    if (slot >= 0 && this.lsn[slot] === from && lsn > from) this.lsn[slot] = lsn;
  }

  /** The page as it stands at `lsn`; one that is here already and newer stays. */
  store(owner: number, rel: number, blk: number, lsn: number, bytes: Uint8Array, at: number): void {
    let slot = this.find(owner, rel, blk);
    if (slot < 0) {
      slot = this.take();
      this.owner[slot] = owner;
      this.rel[slot] = rel;
      this.blk[slot] = blk;
      this.lsn[slot] = -1;
      this.insert(slot);
    }
    if (this.lsn[slot]! > lsn) return;
    this.lsn[slot] = lsn;
    const slab = this.slabs[Math.floor(slot / SLAB_PAGES)]!;
    slab.set(bytes.subarray(at, at + BLCKSZ), (slot % SLAB_PAGES) * BLCKSZ);
  }

  private start(owner: number, rel: number, blk: number): number {
    return (hashKey(rel, blk) ^ Math.imul(owner, 0x9e3779b1)) & this.mask;
  }

  private find(owner: number, rel: number, blk: number): number {
    for (let i = this.start(owner, rel, blk); ; i = (i + 1) & this.mask) {
      const slot = this.table[i]! - 1;
      if (slot < 0) return -1;
      if (this.blk[slot] === blk && this.rel[slot] === rel && this.owner[slot] === owner) return slot;
    }
  }

  private insert(slot: number): void {
    let i = this.start(this.owner[slot]!, this.rel[slot]!, this.blk[slot]!);
    while (this.table[i] !== 0) i = (i + 1) & this.mask;
    this.table[i] = slot + 1;
  }

  /** A slot to fill: a new one while there are any, then one that was not used of late. */
  private take(): number {
    if (this.filled < this.capacity) {
      if (this.filled % SLAB_PAGES === 0) {
        const pages = Math.min(SLAB_PAGES, this.capacity - this.filled);
        this.slabs.push(new Uint8Array(pages * BLCKSZ));
      }
      return this.filled++;
    }
    while (this.used[this.hand] === 1) {
      this.used[this.hand] = 0;
      this.hand = (this.hand + 1) % this.capacity;
    }
    const slot = this.hand;
    this.hand = (this.hand + 1) % this.capacity;
    this.erase(slot);
    return slot;
  }

  /** Takes a slot out of the table, and moves up those that had to step over it. */
  private erase(slot: number): void {
    let hole = this.start(this.owner[slot]!, this.rel[slot]!, this.blk[slot]!);
    while (this.table[hole] !== slot + 1) hole = (hole + 1) & this.mask;
    for (let i = (hole + 1) & this.mask; this.table[i] !== 0; i = (i + 1) & this.mask) {
      const other = this.table[i]! - 1;
      const home = this.start(this.owner[other]!, this.rel[other]!, this.blk[other]!);
      if (((i - home) & this.mask) < ((i - hole) & this.mask)) continue;
      this.table[hole] = other + 1;
      hole = i;
    }
    this.table[hole] = 0;
  }
}
