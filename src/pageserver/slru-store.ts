// Which segments of each SLRU there are, and how many pages they have: now in memory, at any LSN in the timeline.
//
//   key (SLRU, page number)   the page: an image or edits (edit.ts)
//   key (SLRU, BLK_SIZE)      { first segment u32 | segments u32 | pages of the last u8 } ...   little-endian
//
// A run is consecutive segments of 32 pages each but for the last; an SLRU of many thousand segments is a run or
// two. A page past its segment's length may have old values under its key, from before the SLRU was cut and came
// around: whoever makes pages without a ZEROPAGE record, by an edit, first puts zeros down.
//
// Answers to slru.c (segments) and to put_slru_page_image, drop_slru_segment of Neon's pgdatadir_mapping.rs.

import { Fault } from '../base/fault.ts';
import { SLRU_DIRECTORY, SLRU_PAGES_PER_SEGMENT, type SlruKind } from '../base/rel.ts';
import { BLCKSZ } from '../xlog/page.ts';
import { slruSegmentOf } from '../xlog/slru.ts';
import { BLK_SIZE, relOfSlru } from './key.ts';
import type { TimelineWriter } from './timeline/timeline.ts';
import { VALUE_BYTES, VALUE_IMAGE } from './value.ts';

const RUN_SIZE = 9;
const ZERO_PAGE = new Uint8Array(BLCKSZ);

/** Segments and their lengths in pages, ascending. */
export type Segments = ReadonlyMap<number, number>;

export function writeSegments(segments: Segments): Uint8Array {
  const runs: { first: number; count: number; last: number }[] = [];
  for (const [segno, pages] of [...segments].sort(([a], [b]) => a - b)) {
    const run = runs[runs.length - 1];
    if (run !== undefined && run.first + run.count === segno && run.last === SLRU_PAGES_PER_SEGMENT) {
      run.count++;
      run.last = pages;
    } else {
      runs.push({ first: segno, count: 1, last: pages });
    }
  }
  const bytes = new Uint8Array(runs.length * RUN_SIZE);
  const view = new DataView(bytes.buffer);
  runs.forEach(({ first, count, last }, i) => {
    view.setUint32(i * RUN_SIZE, first, true);
    view.setUint32(i * RUN_SIZE + 4, count, true);
    view.setUint8(i * RUN_SIZE + 8, last);
  });
  return bytes;
}

export function readSegments(bytes: Uint8Array | undefined): Map<number, number> {
  const segments = new Map<number, number>();
  if (bytes === undefined) return segments;
  if (bytes.length % RUN_SIZE !== 0) throw new Fault('layer-corrupt', 'a list of SLRU segments is cut short');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; at += RUN_SIZE) {
    const first = view.getUint32(at, true);
    const count = view.getUint32(at + 4, true);
    for (let i = 0; i < count - 1; i++) segments.set(first + i, SLRU_PAGES_PER_SEGMENT);
    segments.set(first + count - 1, view.getUint8(at + 8));
  }
  return segments;
}

export class SlruStore {
  private readonly kinds: Map<number, number>[] = SLRU_DIRECTORY.map(() => new Map<number, number>());
  /** The page of each kind that was last found to be there. */
  private readonly lastPage = new Int32Array(SLRU_DIRECTORY.length).fill(-1);

  segments(kind: SlruKind): Segments {
    return this.kinds[kind]!;
  }

  load(kind: SlruKind, segments: Segments): void {
    this.kinds[kind] = new Map(segments);
  }

  hasPage(kind: SlruKind, pageno: number): boolean {
    if (this.lastPage[kind] === pageno) return true;
    const pages = this.kinds[kind]!.get(slruSegmentOf(pageno)) ?? 0;
    if (pageno % SLRU_PAGES_PER_SEGMENT >= pages) return false;
    this.lastPage[kind] = pageno;
    return true;
  }

  /** The page is about to be edited: made of zeros if it is not there. */
  ensurePage(writer: TimelineWriter, lsn: number, kind: SlruKind, pageno: number): void {
    if (!this.hasPage(kind, pageno)) this.putPage(writer, lsn, kind, pageno, ZERO_PAGE, 0);
  }

  zeroPage(writer: TimelineWriter, lsn: number, kind: SlruKind, pageno: number): void {
    this.putPage(writer, lsn, kind, pageno, ZERO_PAGE, 0);
  }

  /** Put the page that lies at `offset` of `bytes`; the segment is made or grows to hold it. */
  putPage(
    writer: TimelineWriter,
    lsn: number,
    kind: SlruKind,
    pageno: number,
    bytes: Uint8Array,
    offset: number,
  ): void {
    const rel = relOfSlru(kind);
    const segno = slruSegmentOf(pageno);
    const inSegment = pageno % SLRU_PAGES_PER_SEGMENT;
    const pages = this.kinds[kind]!.get(segno) ?? 0;
    for (let gap = pages; gap < inSegment; gap++) {
      const page = pageno - inSegment + gap;
      writer.put(rel, page, lsn, VALUE_IMAGE, 0, ZERO_PAGE, 0, BLCKSZ);
    }
    writer.put(rel, pageno, lsn, VALUE_IMAGE, 0, bytes, offset, BLCKSZ);
    if (inSegment < pages) return;
    this.kinds[kind]!.set(segno, inSegment + 1);
    this.store(writer, lsn, kind);
  }

  drop(writer: TimelineWriter, lsn: number, kind: SlruKind, segments: readonly number[]): void {
    let dropped = false;
    for (const segno of segments) dropped = this.kinds[kind]!.delete(segno) || dropped;
    if (!dropped) return;
    this.lastPage[kind] = -1;
    this.store(writer, lsn, kind);
  }

  dropAll(writer: TimelineWriter, lsn: number, kind: SlruKind): void {
    this.drop(writer, lsn, kind, [...this.kinds[kind]!.keys()]);
  }

  private store(writer: TimelineWriter, lsn: number, kind: SlruKind): void {
    const bytes = writeSegments(this.kinds[kind]!);
    writer.put(relOfSlru(kind), BLK_SIZE, lsn, VALUE_BYTES, 0, bytes, 0, bytes.length);
  }
}
