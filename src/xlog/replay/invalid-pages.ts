// References to pages that were not there when a record wanted to edit them. Each must be explained later by a
// drop or a cut of its relation; what is left at the end tells of a log or a base that lacks something.
// Mirrors the invalid-page table of xlogutils.c.

import { formatLsn } from '../../base/lsn.ts';
import { MAIN_FORKNUM, type RelFileLocator, relKey } from '../../base/rel.ts';
import type { WalRecord } from '../record.ts';

const REMAINING_SHOWN_MAX = 20;

export class InvalidPages {
  /** By fork, then block: the LSN of the first record that missed it. */
  private readonly missing = new Map<string, Map<number, string>>();

  add(fork: string, blkno: number, record: WalRecord): void {
    let blocks = this.missing.get(fork);
    if (blocks === undefined) this.missing.set(fork, (blocks = new Map()));
    if (!blocks.has(blkno)) blocks.set(blkno, formatLsn(record.lsn));
  }

  /** The fork is cut to `nblocks`. */
  forgetFrom(rel: RelFileLocator, forkNum: number, nblocks: number): void {
    const blocks = this.missing.get(relKey(rel.spcOid, rel.dbOid, rel.relNumber, forkNum));
    for (const blkno of blocks?.keys() ?? []) if (blkno >= nblocks) blocks!.delete(blkno);
  }

  forgetRelation(rel: RelFileLocator): void {
    for (let fork = MAIN_FORKNUM; fork < 4; fork++) this.forgetFrom(rel, fork, 0);
  }

  forgetDatabase(spcOid: number, dbOid: number): void {
    for (const fork of this.missing.keys())
      if (fork.startsWith(`${spcOid}/${dbOid}/`)) this.missing.delete(fork);
  }

  /** What nothing explained. */
  remaining(): string[] {
    const all: string[] = [];
    for (const [fork, blocks] of this.missing) {
      for (const [blkno, lsn] of blocks) {
        if (all.length < REMAINING_SHOWN_MAX) all.push(`${fork} block ${blkno}, missed at ${lsn}`);
      }
    }
    return all;
  }
}
