// Two clusters compared: one that replay made, one that a Postgres left behind. Every block of every fork, every
// SLRU page, every relation map and two-phase file; masked as Postgres masks, by the kind of each page.
//
// Left out, and counted, because the log does not promise them: free space maps (changed without records) and
// the contents of unlogged relations (those with an init fork). Of a visibility map replay promises only that it
// claims no more than the original (CREATE DATABASE logs map pages without their contents): a bit that is set on
// our side alone is a difference. The pages an SP-GiST index used last, a hint on its metapage, are never logged.
// In the multixact offsets the entry of the next multixact to come is blank on both sides: late
// minors of Postgres write it in advance, earlier ones do not.

import { equalBytes } from '../../base/bytes.ts';
import { Fault } from '../../base/fault.ts';
import {
  FSM_FORKNUM,
  INIT_FORKNUM,
  MAIN_FORKNUM,
  relPath,
  SLRU_DIRECTORY,
  SLRU_MULTIXACT_OFFSETS,
  type SlruKind,
  VISIBILITYMAP_FORKNUM,
} from '../../base/rel.ts';
import type { Dialect } from '../dialect.ts';
import { BLCKSZ, newPage, PAGE_HEADER_SIZE, type Page } from '../page.ts';
import { pageKind, RMID_OF_KIND } from '../page-kind.ts';
import { maskPage } from '../rmgr.ts';
import { offsetPageOf, setMultiXactOffset } from '../slru-multixact.ts';
import type { Cluster } from './cluster.ts';
import type { RelationFile } from './relation-file.ts';
import { samePage } from './replayer.ts';

export interface Difference {
  /** The file in a data directory, and the block in it where there is one. */
  readonly path: string;
  readonly blkno?: number;
  readonly what: string;
  /** Masked bytes of both sides, for a block. */
  readonly ours?: Uint8Array;
  readonly theirs?: Uint8Array;
}

export interface Comparison {
  compared: number;
  mismatched: number;
  /** Blocks that the log does not promise. */
  leftOut: number;
  readonly differences: Difference[];
}

const DIFFERENCES_KEPT_MAX = 100;
const ZEROS = newPage();
/** SpGistMetaPageData.lastUsedPages: eight of block number and free space, after the magic number. */
const SPGIST_LAST_USED = PAGE_HEADER_SIZE + 4;
const SPGIST_LAST_USED_END = SPGIST_LAST_USED + 8 * 8;

export class ClusterComparison {
  private readonly dialect: Dialect;
  private readonly ours: Cluster;
  private readonly theirs: Cluster;
  private readonly a = newPage();
  private readonly b = newPage();
  readonly result: Comparison = { compared: 0, mismatched: 0, leftOut: 0, differences: [] };

  constructor(dialect: Dialect, ours: Cluster, theirs: Cluster) {
    this.dialect = dialect;
    this.ours = ours;
    this.theirs = theirs;
  }

  /** `nextMulti` is the next multixact to be made, from the control file. */
  run(nextMulti: number): Comparison {
    for (const file of this.theirs.relations()) this.relation(file);
    for (const file of this.ours.relations()) this.onlyOurs(file);
    for (let kind = 0; kind < SLRU_DIRECTORY.length; kind++) this.slru(kind as SlruKind, nextMulti);
    this.files(this.ours.relmaps, this.theirs.relmaps, directory => `${directory}/pg_filenode.map`);
    this.files(this.ours.twophase, this.theirs.twophase, xid => `pg_twophase/${xid.toString(16)}`);
    return this.result;
  }

  private isUnpromised(file: RelationFile): boolean {
    const { spcOid, dbOid, relNumber, forkNum } = file.tag;
    if (forkNum === FSM_FORKNUM) return true;
    if (forkNum !== MAIN_FORKNUM && forkNum !== VISIBILITYMAP_FORKNUM) return false;
    return (
      this.theirs.find(spcOid, dbOid, relNumber, INIT_FORKNUM) !== undefined ||
      this.ours.find(spcOid, dbOid, relNumber, INIT_FORKNUM) !== undefined
    );
  }

  private relation(theirs: RelationFile): void {
    if (this.isUnpromised(theirs)) {
      this.result.leftOut += theirs.nblocks;
      return;
    }
    const { spcOid, dbOid, relNumber, forkNum } = theirs.tag;
    const ours = this.ours.find(spcOid, dbOid, relNumber, forkNum);
    const blocks = Math.max(theirs.nblocks, ours?.nblocks ?? 0);
    // A page that was never written is zeros, whether the file reaches that far or not.
    for (let blkno = 0; blkno < blocks; blkno++) {
      this.block(theirs, blkno, ours?.page(blkno) ?? ZEROS, theirs.page(blkno) ?? ZEROS);
    }
  }

  private onlyOurs(ours: RelationFile): void {
    const { spcOid, dbOid, relNumber, forkNum } = ours.tag;
    if (this.theirs.find(spcOid, dbOid, relNumber, forkNum) !== undefined || this.isUnpromised(ours)) return;
    for (let blkno = 0; blkno < ours.nblocks; blkno++) this.block(ours, blkno, ours.page(blkno)!, ZEROS);
  }

  private block(file: RelationFile, blkno: number, ours: Page, theirs: Page): void {
    this.result.compared++;
    if (samePage(ours.bytes, theirs.bytes)) return;
    this.a.bytes.set(ours.bytes);
    this.b.bytes.set(theirs.bytes);
    let what = 'page differs';
    try {
      this.mask(file, blkno);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      what = error.message;
    }
    if (what === 'page differs' && samePage(this.a.bytes, this.b.bytes)) return;
    const path = relPath(file.tag);
    this.differ({ path, blkno, what, ours: this.a.bytes.slice(), theirs: this.b.bytes.slice() });
  }

  private mask(file: RelationFile, blkno: number): void {
    const { a, b } = this;
    if (file.tag.forkNum === VISIBILITYMAP_FORKNUM) {
      for (let at = 0; at < BLCKSZ; at++)
        b.bytes[at] = at < PAGE_HEADER_SIZE ? 0 : b.bytes[at]! & a.bytes[at]!;
      a.bytes.fill(0, 0, PAGE_HEADER_SIZE);
      return;
    }
    for (const page of [a, b]) {
      const kind = pageKind(page, blkno);
      const mask = kind === 'new' ? undefined : this.dialect.rmgrs[RMID_OF_KIND[kind]]!.mask;
      if (mask !== undefined) maskPage(mask, page, blkno);
      if (kind === 'spgist' && blkno === 0) page.bytes.fill(0, SPGIST_LAST_USED, SPGIST_LAST_USED_END);
    }
  }

  private slru(kind: SlruKind, nextMulti: number): void {
    const ours = this.ours.slrus[kind]!;
    const theirs = this.theirs.slrus[kind]!;
    for (const pageno of new Set([...ours.keys(), ...theirs.keys()])) {
      this.result.compared++;
      this.a.bytes.set((ours.get(pageno) ?? ZEROS).bytes);
      this.b.bytes.set((theirs.get(pageno) ?? ZEROS).bytes);
      if (kind === SLRU_MULTIXACT_OFFSETS && offsetPageOf(nextMulti) === pageno) {
        setMultiXactOffset(this.a, nextMulti, 0);
        setMultiXactOffset(this.b, nextMulti, 0);
      }
      if (samePage(this.a.bytes, this.b.bytes)) continue;
      this.differ({
        path: SLRU_DIRECTORY[kind]!,
        blkno: pageno,
        what: 'page differs',
        ours: this.a.bytes.slice(),
        theirs: this.b.bytes.slice(),
      });
    }
  }

  private files<K>(
    ours: ReadonlyMap<K, Uint8Array>,
    theirs: ReadonlyMap<K, Uint8Array>,
    path: (key: K) => string,
  ): void {
    for (const key of new Set([...ours.keys(), ...theirs.keys()])) {
      this.result.compared++;
      const a = ours.get(key);
      const b = theirs.get(key);
      if (a === undefined || b === undefined) {
        this.differ({
          path: path(key),
          what: a === undefined ? 'not made by replay' : 'made by replay alone',
        });
      } else if (!equalBytes(a, b)) {
        this.differ({ path: path(key), what: 'contents differ' });
      }
    }
  }

  private differ(difference: Difference): void {
    this.result.mismatched++;
    if (this.result.differences.length < DIFFERENCES_KEPT_MAX) this.result.differences.push(difference);
  }
}

/** Byte ranges in which two pages differ, as `at: ours | theirs` in hex, the first few. */
export function describeDifference(ours: Uint8Array, theirs: Uint8Array, rangesMax = 8): string[] {
  const lines: string[] = [];
  const hex = (bytes: Uint8Array): string => [...bytes].map(b => b.toString(16).padStart(2, '0')).join(' ');
  for (let at = 0; at < BLCKSZ && lines.length <= rangesMax; at++) {
    if (ours[at] === theirs[at]) continue;
    let end = at + 1;
    while (end < BLCKSZ && end - at < 16 && ours[end] !== theirs[end]) end++;
    if (lines.length === rangesMax) lines.push('...');
    else lines.push(`byte ${at}: ${hex(ours.subarray(at, end))} | ${hex(theirs.subarray(at, end))}`);
    at = end - 1;
  }
  return lines;
}
