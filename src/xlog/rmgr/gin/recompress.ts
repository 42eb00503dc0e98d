// Redo on a leaf of a GIN posting tree: the list of segment actions in INSERT and VACUUM_DATA_LEAF_PAGE records.
//
//   ginxlogRecompressDataLeaf:  0 nactions u16, then per action  segno u8 | action u8 | what the action needs
//     1 DELETE    nothing                         the segment goes
//     2 INSERT    a posting list, padded to two   a new segment before this one
//     3 REPLACE   a posting list, padded to two   in the place of this one
//     4 ADDITEMS  count u16, count TIDs           merged into this one
//
// Segment numbers are those of the page before, ascending. The new state is written from the front; from the first
// change on the old segments are read from a copy of the page's tail, so that nothing is overwritten unread. The
// unused space behind the segments is left as Postgres leaves it.
//
// A leaf from before 9.4 (no GIN_COMPRESSED) holds plain TIDs, maxoff of them, and becomes one segment first.
//
// Mirrors ginRedoRecompress of ginxlog.c.

import { BLCKSZ, type Page, pdLower, pdSpecial } from '../../page.ts';
import { copyBytes } from '../../page-items.ts';
import {
  GIN_COMPRESSED,
  GIN_DATA_START,
  ginFlags,
  ginMaxoff,
  setGinDataSize,
  setGinFlags,
  setGinMaxoff,
} from './page.ts';
import {
  decodePostingList,
  encodePostingList,
  mergeItems,
  POSTING_ITEMS_MAX,
  postingListSize,
  readItemPointers,
} from './posting-list.ts';

export const GIN_SEGMENT_DELETE = 1;
export const GIN_SEGMENT_INSERT = 2;
export const GIN_SEGMENT_REPLACE = 3;
export const GIN_SEGMENT_ADDITEMS = 4;

// Scratch of one call: the tail of the old page, a segment put together here, and the items of a merge.
const tail = new Uint8Array(BLCKSZ);
const tailView = new DataView(tail.buffer);
const built = new Uint8Array(BLCKSZ);
const builtView = new DataView(built.buffer);
const oldItems = new Float64Array(POSTING_ITEMS_MAX);
const newItems = new Float64Array(POSTING_ITEMS_MAX);
const mergedItems = new Float64Array(POSTING_ITEMS_MAX);

/** Where the action that lies at `at` ends. */
export function actionEnd(view: DataView, at: number): number {
  switch (view.getUint8(at + 1)) {
    case GIN_SEGMENT_INSERT:
    case GIN_SEGMENT_REPLACE:
      return at + 2 + postingListSize(view, at + 2);
    case GIN_SEGMENT_ADDITEMS:
      return at + 4 + 6 * view.getUint16(at + 2, true);
    case GIN_SEGMENT_DELETE:
      return at + 2;
    default:
      throw new RangeError(`unexpected GIN leaf action ${view.getUint8(at + 1)}`);
  }
}

function compressOldLeaf(p: Page): void {
  const count = ginMaxoff(p);
  let size = 0;
  if (count > 0) {
    if (GIN_DATA_START + 6 * count > pdSpecial(p)) throw new RangeError(`${count} items on an old leaf`);
    readItemPointers(p.view, GIN_DATA_START, count, oldItems);
    size = encodePostingList(oldItems, count, builtView, 0);
    copyBytes(p.bytes, GIN_DATA_START, built, 0, size);
  }
  setGinDataSize(p, size);
  setGinFlags(p, ginFlags(p) | GIN_COMPRESSED);
  setGinMaxoff(p, 0);
}

/** ADDITEMS: the old segment and the record's items as one new segment in `built`; its size. */
function addItems(old: DataView, segment: number, end: number, record: DataView, at: number): number {
  const count = record.getUint16(at + 2, true);
  if (count > POSTING_ITEMS_MAX) throw new RangeError(`${count} items added to one segment`);
  readItemPointers(record, at + 4, count, newItems);
  const oldCount = decodePostingList(old, segment, end, oldItems);
  return encodePostingList(
    mergedItems,
    mergeItems(newItems, count, oldItems, oldCount, mergedItems),
    builtView,
    0,
  );
}

/** Apply the actions that lie at `start` (nactions) to `end` of the record's bytes. */
export function ginRecompress(p: Page, bytes: Uint8Array, view: DataView, start: number, end: number): void {
  if ((ginFlags(p) & GIN_COMPRESSED) === 0) compressOldLeaf(p);

  let old = p.bytes;
  let oldView = p.view;
  let segment = GIN_DATA_START;
  let segmentsEnd = pdLower(p);
  let segno = 0;
  let write = GIN_DATA_START;

  let at = start + 2;
  for (let left = view.getUint16(start, true); left > 0; left--) {
    const target = view.getUint8(at);
    const action = view.getUint8(at + 1);
    const next = actionEnd(view, at);
    if (next > end) throw new RangeError('segment actions are cut short');

    for (; segno < target; segno++) {
      const size = segmentSize(oldView, segment, segmentsEnd);
      write = old === tail ? put(p, write, old, segment, size) : write + size;
      segment += size;
    }
    const atEnd = segment === segmentsEnd;
    if (atEnd && action !== GIN_SEGMENT_INSERT) throw new RangeError(`no segment ${target} on the page`);
    const merged = action === GIN_SEGMENT_ADDITEMS ? addItems(oldView, segment, segmentsEnd, view, at) : 0;
    if (!atEnd && old !== tail) {
      copyBytes(tail, 0, old, segment, segmentsEnd - segment);
      segmentsEnd -= segment;
      segment = 0;
      old = tail;
      oldView = tailView;
    }
    if (action === GIN_SEGMENT_ADDITEMS) write = put(p, write, built, 0, merged);
    else if (action !== GIN_SEGMENT_DELETE) write = put(p, write, bytes, at + 2, next - at - 2);
    if (action !== GIN_SEGMENT_INSERT) {
      segment += segmentSize(oldView, segment, segmentsEnd);
      segno++;
    }
    at = next;
  }
  if (old === tail) write = put(p, write, old, segment, segmentsEnd - segment);
  setGinDataSize(p, write - GIN_DATA_START);
}

/** Append to the new state; where it ends then. */
function put(p: Page, write: number, from: Uint8Array, offset: number, size: number): number {
  if (write + size > pdSpecial(p)) throw new RangeError('posting lists outgrow the page');
  copyBytes(p.bytes, write, from, offset, size);
  return write + size;
}

function segmentSize(view: DataView, at: number, end: number): number {
  const size = postingListSize(view, at);
  if (at + size > end) throw new RangeError(`segment of ${size} bytes, ${end - at} are left`);
  return size;
}
