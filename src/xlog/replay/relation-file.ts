// One fork of one relation, in memory: its pages and its length, loaded from segment files and changed by redo.
//
// Pages of loaded files lie in the files' own bytes; a Page (bytes and view) is made when a block is first asked
// for. Blocks past the end do not exist until something extends the fork; blocks in between read as zeros.
//
// Pages are kept in chunks without gaps: an array with gaps becomes a hash table in the engine. A block number out
// of the blue costs one chunk, however high it is.

import type { RelTag } from '../../base/rel.ts';
import { BLCKSZ, newPage, type Page, pageOver } from '../page.ts';

/** Blocks in one segment file: 1 GiB. */
export const RELSEG_SIZE = 131072;

const CHUNK_BITS = 10;
const CHUNK_SIZE = 1 << CHUNK_BITS;
type Chunk = (Page | undefined)[];

export class RelationFile {
  readonly tag: RelTag;
  private readonly chunks: (Chunk | undefined)[] = [];
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
    return this.chunks[blkno >>> CHUNK_BITS]?.[blkno & (CHUNK_SIZE - 1)] ?? this.materialise(blkno);
  }

  /** The page of a block, the fork extended to hold it. */
  extendTo(blkno: number): Page {
    if (blkno >= this.nblocks) this.nblocks = blkno + 1;
    return this.chunks[blkno >>> CHUNK_BITS]?.[blkno & (CHUNK_SIZE - 1)] ?? this.materialise(blkno);
  }

  truncate(nblocks: number): void {
    if (nblocks >= this.nblocks) return;
    this.nblocks = nblocks;
    this.chunks.length = Math.min(this.chunks.length, Math.ceil(nblocks / CHUNK_SIZE));
    this.chunks[nblocks >>> CHUNK_BITS]?.fill(undefined, nblocks & (CHUNK_SIZE - 1));
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
      copy.keep(blkno, pageOver(this.page(blkno)!.bytes.slice()));
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
    return this.keep(blkno, page);
  }

  private keep(blkno: number, page: Page): Page {
    const chunk = (this.chunks[blkno >>> CHUNK_BITS] ??= new Array<Page | undefined>(CHUNK_SIZE).fill(
      undefined,
    ));
    chunk[blkno & (CHUNK_SIZE - 1)] = page;
    return page;
  }
}
