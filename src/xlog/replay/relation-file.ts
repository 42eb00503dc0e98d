// One fork of one relation, in memory: its pages and its length, loaded from segment files and changed by redo.
//
// Pages of loaded files lie in the files' own bytes; a Page (bytes and view) is made when a block is first asked
// for. Blocks past the end do not exist until something extends the fork; blocks in between read as zeros.

import type { RelTag } from '../../base/rel.ts';
import { BLCKSZ, newPage, type Page, pageOver } from '../page.ts';

/** Blocks in one segment file: 1 GiB. */
export const RELSEG_SIZE = 131072;

export class RelationFile {
  readonly tag: RelTag;
  private readonly pages: (Page | undefined)[] = [];
  private readonly segments: (Uint8Array | undefined)[] = [];
  /** Length in blocks. */
  nblocks = 0;

  constructor(tag: RelTag) {
    this.tag = tag;
  }

  /** Take over the bytes of segment file `segno`; a partial last page is cut off. */
  loadSegment(segno: number, bytes: Uint8Array): void {
    this.segments[segno] = bytes;
    this.nblocks = Math.max(this.nblocks, segno * RELSEG_SIZE + Math.floor(bytes.length / BLCKSZ));
  }

  /** The page of a block below the end; undefined at or past the end. */
  page(blkno: number): Page | undefined {
    if (blkno >= this.nblocks) return undefined;
    return this.pages[blkno] ?? this.materialise(blkno);
  }

  /** The page of a block, the fork extended to hold it. */
  extendTo(blkno: number): Page {
    if (blkno >= this.nblocks) this.nblocks = blkno + 1;
    return this.pages[blkno] ?? this.materialise(blkno);
  }

  truncate(nblocks: number): void {
    if (nblocks >= this.nblocks) return;
    this.nblocks = nblocks;
    this.pages.length = Math.min(this.pages.length, nblocks);
    const last = Math.floor(nblocks / RELSEG_SIZE);
    this.segments.length = Math.min(this.segments.length, last + 1);
    const segment = this.segments[last];
    if (segment !== undefined) this.segments[last] = segment.subarray(0, (nblocks % RELSEG_SIZE) * BLCKSZ);
  }

  /** An independent copy under another name (CREATE DATABASE by file copy). */
  copyAs(tag: RelTag): RelationFile {
    const copy = new RelationFile(tag);
    copy.nblocks = this.nblocks;
    for (let blkno = 0; blkno < this.nblocks; blkno++) {
      copy.pages[blkno] = pageOver(this.page(blkno)!.bytes.slice());
    }
    return copy;
  }

  private materialise(blkno: number): Page {
    const segment = this.segments[Math.floor(blkno / RELSEG_SIZE)];
    const at = (blkno % RELSEG_SIZE) * BLCKSZ;
    const page =
      segment !== undefined && at + BLCKSZ <= segment.length
        ? pageOver(segment.subarray(at, at + BLCKSZ))
        : newPage();
    this.pages[blkno] = page;
    return page;
  }
}
