// Which relation forks there are, under which id their blocks are stored, and how long they are: now, and at any
// LSN that memory can tell.
//
//   name  rel/<spc>/<db>/<relNumber>.<fork>     id u32 | created at LSN u64            (names.ts)
//   key   (REL_SIZES, id)                       length u32 | peak u32, in blocks | 1 u8 if the fork is dropped
//   name  next-relation-id                      u32: ids from here on were never given out
//
// Ids are given out once each, until half of them are gone; from then on those of forks dropped long ago come again.
// To what is stored that is no more than a cut to nothing: the peak stays, and hides what lies below.
//
// The peak is the longest that the fork ever was. Blocks between the length and the peak have old values under
// their keys: when a cut fork grows again, they are put down as zeros first; blocks past the peak never had any
// and cost nothing. (Neon writes zeros for every block in a gap.)
//
// What is known about the past: forks dropped since the directory was loaded are remembered, up to a limit. For
// LSNs from `exactFrom` on an answer is final; before that "not known" sends the asker to the stored names.
// A fork that is there now was there under this id ever since it was created.

import { Fault } from '../base/fault.ts';
import { relKey } from '../base/rel.ts';
import { REL_MAX, REL_RELATIONS_FIRST, REL_SIZES } from './key.ts';
import { type Named, type Names, NEXT_RELATION_ID_NAME, relationName } from './names.ts';
import type { TimelineWriter } from './timeline/timeline.ts';
import { VALUE_BYTES } from './value.ts';

const FORKS = 4;
/** Ids are set aside so many at a time; what a stopped server has not used is lost. */
const IDS_AHEAD = 16;
const DROPPED_KEPT_MAX = 20_000;
/** A small table in front of the maps, by file number: power of two. */
const CACHE_SIZE = 256;

const RELATION_ENTRY_SIZE = 12;
const SIZE_ENTRY_SIZE = 8;
const DROPPED_ENTRY_SIZE = 9;

export class RelFork implements Named {
  readonly spcOid: number;
  readonly dbOid: number;
  readonly relNumber: number;
  readonly forkNum: number;
  readonly id: number;
  readonly createdLsn: number;
  droppedLsn = Infinity;
  nblocks = 0;
  peak = 0;
  /** The length is what it is since here. */
  sizeLsn: number;
  /** The last cut, as far as it is known: the length it left, and below which block old values lie. */
  cutLsn: number;
  cutBlocks = 0;
  cutPeak = 0;
  nextNamed: Named | undefined = undefined;

  constructor(
    tag: { spcOid: number; dbOid: number; relNumber: number; forkNum: number },
    id: number,
    createdLsn: number,
  ) {
    this.spcOid = tag.spcOid;
    this.dbOid = tag.dbOid;
    this.relNumber = tag.relNumber;
    this.forkNum = tag.forkNum;
    this.id = id;
    this.createdLsn = createdLsn;
    this.sizeLsn = createdLsn;
    this.cutLsn = createdLsn;
  }

  name(): string {
    return relationName(this.spcOid, this.dbOid, this.relNumber, this.forkNum);
  }

  /**
   * Whether the length at `lsn` must be asked of the timeline before block `blkno` is read there: past its length
   * at that time a fork reads as zeros, whatever its keys hold from before a cut.
   */
  lengthMatters(blkno: number, lsn: number): boolean {
    if (lsn >= this.sizeLsn) return false;
    return lsn < this.cutLsn || (blkno >= this.cutBlocks && blkno < this.cutPeak);
  }

  contents(): Uint8Array {
    const bytes = new Uint8Array(RELATION_ENTRY_SIZE);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, this.id, true);
    view.setFloat64(4, this.createdLsn, true);
    return bytes;
  }
}

export interface RelationEntry {
  readonly id: number;
  readonly createdLsn: number;
}

export function readRelationEntry(bytes: Uint8Array): RelationEntry {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { id: view.getUint32(0, true), createdLsn: view.getFloat64(4, true) };
}

export interface SizeEntry {
  readonly nblocks: number;
  readonly peak: number;
  readonly dropped: boolean;
}

export function readSizeEntry(bytes: Uint8Array): SizeEntry {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const dropped = bytes.length === DROPPED_ENTRY_SIZE;
  return { nblocks: view.getUint32(0, true), peak: view.getUint32(4, true), dropped };
}

/** How many ids there are, and how many are given out before dropped ones come again. */
export interface IdLimits {
  readonly last: number;
  readonly fresh: number;
}

const ID_LIMITS: IdLimits = { last: REL_MAX, fresh: Math.floor((REL_RELATIONS_FIRST + REL_MAX) / 2) };

/** Memory does not reach back that far. */
export const NOT_KNOWN = 'not known';

type Databases = Map<number, Map<number, RelFork>>;

export class Directory {
  /** Length of all forks, in blocks. */
  blocks = 0;
  forks = 0;
  /** What is not here, and not among the dropped ones, was not there from this LSN on. */
  exactFrom = 0;

  private readonly names: Names;
  private readonly spaces = new Map<number, Databases>();
  private readonly cache: (RelFork | undefined)[] = new Array(CACHE_SIZE).fill(undefined);
  private readonly byId = new Map<number, RelFork>();
  private readonly dropped = new Map<string, RelFork[]>();
  private droppedCount = 0;
  private nextId = REL_RELATIONS_FIRST;
  private idsReserved = REL_RELATIONS_FIRST;
  /** Ids of dropped forks and their peaks, in the order of their drops as far as it is known; taken up to `freeAt`. */
  private readonly freeIds: number[] = [];
  private readonly freePeaks: number[] = [];
  private freeAt = 0;
  private readonly limits: IdLimits;
  private readonly scratch = new Uint8Array(DROPPED_ENTRY_SIZE);
  private readonly view = new DataView(this.scratch.buffer);

  constructor(names: Names, limits: IdLimits = ID_LIMITS) {
    this.names = names;
    this.limits = limits;
  }

  // ---- now --------------------------------------------------------------------------------------------------

  find(spcOid: number, dbOid: number, relNumber: number, forkNum: number): RelFork | undefined {
    const slot = (relNumber * FORKS + forkNum) & (CACHE_SIZE - 1);
    const cached = this.cache[slot];
    if (
      cached !== undefined &&
      cached.relNumber === relNumber &&
      cached.forkNum === forkNum &&
      cached.dbOid === dbOid &&
      cached.spcOid === spcOid
    ) {
      return cached;
    }
    const found = this.spaces
      .get(spcOid)
      ?.get(dbOid)
      ?.get(relNumber * FORKS + forkNum);
    if (found !== undefined) this.cache[slot] = found;
    return found;
  }

  create(
    writer: TimelineWriter,
    lsn: number,
    spcOid: number,
    dbOid: number,
    relNumber: number,
    forkNum: number,
  ): RelFork {
    const again = this.nextId > this.limits.fresh && this.freeAt < this.freeIds.length;
    const id = again ? this.freeIds[this.freeAt]! : this.newId(writer, lsn);
    const fork = new RelFork({ spcOid, dbOid, relNumber, forkNum }, id, lsn);
    if (again) fork.peak = fork.cutPeak = this.freePeaks[this.freeAt++]!;
    this.add(fork);
    this.names.putNamed(writer, lsn, fork);
    this.storeSize(writer, lsn, fork);
    return fork;
  }

  drop(writer: TimelineWriter, lsn: number, fork: RelFork): void {
    fork.droppedLsn = lsn;
    this.names.remove(writer, lsn, fork.name());
    this.view.setUint32(0, 0, true);
    this.view.setUint32(4, fork.peak, true);
    this.view.setUint8(8, 1);
    writer.put(REL_SIZES, fork.id, lsn, VALUE_BYTES, 0, this.scratch, 0, DROPPED_ENTRY_SIZE);
    this.free(fork.id, fork.peak);
    this.spaces
      .get(fork.spcOid)!
      .get(fork.dbOid)!
      .delete(fork.relNumber * FORKS + fork.forkNum);
    this.cache[(fork.relNumber * FORKS + fork.forkNum) & (CACHE_SIZE - 1)] = undefined;
    this.byId.delete(fork.id);
    this.blocks -= fork.nblocks;
    this.forks--;
    this.remember(fork);
  }

  /** A new length; `storeSize` writes it, once per record. */
  resize(fork: RelFork, lsn: number, nblocks: number): void {
    this.blocks += nblocks - fork.nblocks;
    if (nblocks < fork.nblocks) {
      fork.cutLsn = lsn;
      fork.cutBlocks = nblocks;
      fork.cutPeak = fork.peak;
    }
    fork.nblocks = nblocks;
    fork.sizeLsn = lsn;
    if (nblocks > fork.peak) fork.peak = nblocks;
  }

  storeSize(writer: TimelineWriter, lsn: number, fork: RelFork): void {
    this.view.setUint32(0, fork.nblocks, true);
    this.view.setUint32(4, fork.peak, true);
    writer.put(REL_SIZES, fork.id, lsn, VALUE_BYTES, 0, this.scratch, 0, SIZE_ENTRY_SIZE);
  }

  /** Forks of one database in one tablespace, as a copy. */
  forksOf(spcOid: number, dbOid: number): RelFork[] {
    return [...(this.spaces.get(spcOid)?.get(dbOid)?.values() ?? [])];
  }

  /** Tablespaces in which a database has forks. */
  spacesOf(dbOid: number): number[] {
    return [...this.spaces]
      .filter(([, databases]) => (databases.get(dbOid)?.size ?? 0) > 0)
      .map(([spc]) => spc);
  }

  *all(): Iterable<RelFork> {
    for (const databases of this.spaces.values())
      for (const forks of databases.values()) yield* forks.values();
  }

  // ---- then -------------------------------------------------------------------------------------------------

  /** The fork as of an LSN: undefined when there was none. */
  at(
    spcOid: number,
    dbOid: number,
    relNumber: number,
    forkNum: number,
    lsn: number,
  ): RelFork | undefined | typeof NOT_KNOWN {
    const fork = this.find(spcOid, dbOid, relNumber, forkNum);
    if (fork !== undefined && fork.createdLsn <= lsn) return fork;
    const earlier = this.dropped.get(relKey(spcOid, dbOid, relNumber, forkNum));
    for (let i = (earlier?.length ?? 0) - 1; i >= 0; i--) {
      const { createdLsn, droppedLsn } = earlier![i]!;
      if (createdLsn <= lsn && lsn < droppedLsn) return earlier![i];
    }
    return lsn >= this.exactFrom ? undefined : NOT_KNOWN;
  }

  /** Forks of one database in one tablespace as of an LSN at or after `exactFrom`. */
  forksAt(spcOid: number, dbOid: number, lsn: number): RelFork[] {
    const found = this.forksOf(spcOid, dbOid).filter(fork => fork.createdLsn <= lsn);
    for (const forks of this.dropped.values()) {
      for (const fork of forks) {
        if (fork.spcOid !== spcOid || fork.dbOid !== dbOid) break;
        if (fork.createdLsn <= lsn && lsn < fork.droppedLsn) found.push(fork);
      }
    }
    return found;
  }

  // ---- load -------------------------------------------------------------------------------------------------

  loadRelation(
    tag: { spcOid: number; dbOid: number; relNumber: number; forkNum: number },
    entry: RelationEntry,
    lsn: number,
  ): void {
    const fork = new RelFork(tag, entry.id, entry.createdLsn);
    fork.sizeLsn = lsn;
    fork.cutLsn = lsn;
    this.add(fork);
    this.names.loadNamed(fork);
  }

  loadSize(id: number, size: SizeEntry): void {
    if (size.dropped) this.free(id, size.peak);
    const fork = size.dropped ? undefined : this.byId.get(id);
    if (fork === undefined) return;
    fork.nblocks = fork.cutBlocks = size.nblocks;
    fork.peak = fork.cutPeak = size.peak;
    this.blocks += size.nblocks;
  }

  /** Everything is loaded, as of `lsn`. */
  loaded(lsn: number): void {
    const stored = this.names.get(NEXT_RELATION_ID_NAME);
    if (stored !== undefined) {
      this.nextId = this.idsReserved = new DataView(stored.buffer, stored.byteOffset, 4).getUint32(0, true);
    }
    this.exactFrom = lsn;
  }

  // -----------------------------------------------------------------------------------------------------------

  private add(fork: RelFork): void {
    let databases = this.spaces.get(fork.spcOid);
    if (databases === undefined) this.spaces.set(fork.spcOid, (databases = new Map()));
    let forks = databases.get(fork.dbOid);
    if (forks === undefined) databases.set(fork.dbOid, (forks = new Map()));
    forks.set(fork.relNumber * FORKS + fork.forkNum, fork);
    this.byId.set(fork.id, fork);
    this.forks++;
  }

  private free(id: number, peak: number): void {
    this.freeIds.push(id);
    this.freePeaks.push(peak);
  }

  private newId(writer: TimelineWriter, lsn: number): number {
    if (this.nextId > this.limits.last) {
      throw new Fault('ids-exhausted', `the cluster has ${this.forks} relation forks, and can have no more`, {
        hint: 'Drop relations, or spread them over several tenants.',
      });
    }
    if (this.nextId === this.idsReserved) {
      this.idsReserved += IDS_AHEAD;
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, this.idsReserved, true);
      this.names.put(writer, lsn, NEXT_RELATION_ID_NAME, bytes);
    }
    return this.nextId++;
  }

  private remember(fork: RelFork): void {
    const key = relKey(fork.spcOid, fork.dbOid, fork.relNumber, fork.forkNum);
    const earlier = this.dropped.get(key);
    if (earlier === undefined) this.dropped.set(key, [fork]);
    else earlier.push(fork);
    if (++this.droppedCount > DROPPED_KEPT_MAX) this.forgetHalf();
  }

  /** The half that was dropped first is forgotten: what was there before is asked of the timeline from now on. */
  private forgetHalf(): void {
    const all = [...this.dropped.values()].flat().sort((a, b) => a.droppedLsn - b.droppedLsn);
    const kept = all.slice(Math.floor(all.length / 2));
    this.exactFrom = Math.max(this.exactFrom, all[Math.floor(all.length / 2) - 1]!.droppedLsn);
    this.dropped.clear();
    this.droppedCount = 0;
    for (const fork of kept) this.remember(fork);
  }
}
