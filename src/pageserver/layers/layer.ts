// What a layer is: an immutable file of values over a range of keys and a range of LSNs.
//
//   delta    every value of its keys with an LSN in [lsnStart, lsnEnd). Level 0 covers all keys (one flush of
//            memory); level 1 covers a range of keys and the LSNs of the layers it was merged from
//   image    what its keys hold at lsnStart (lsnEnd is lsnStart + 1). A dense one has every key of its range
//            that holds anything then, so that what is older is not needed at or above its LSN; a sparse one has
//            the pages that had gathered too many deltas, and says nothing of the others
//
// A layer never changes once written. Its name tells all but its size (layer-name.ts).

import { ALL_KEYS, type KeyRange, packKey } from '../key.ts';

export interface LayerDesc {
  readonly name: string;
  readonly kind: 'delta' | 'image';
  /** An image layer that has not every key of its range. */
  readonly sparse: boolean;
  readonly keys: KeyRange;
  readonly lsnStart: number;
  /** Exclusive. */
  readonly lsnEnd: number;
  /** Size of the file's contents. */
  readonly bytes: number;
  /** Of the attachment that wrote it. */
  readonly generation: number;
  readonly isL0: boolean;
}

export const isDense = (desc: LayerDesc): boolean => desc.kind === 'image' && !desc.sparse;

export const rangeStart = (range: KeyRange): number => packKey(range.start.rel, range.start.blk);
export const rangeEnd = (range: KeyRange): number => packKey(range.end.rel, range.end.blk);

export const overlaps = (a: KeyRange, b: KeyRange): boolean =>
  rangeStart(a) < rangeEnd(b) && rangeStart(b) < rangeEnd(a);

export const coversAllKeys = (range: KeyRange): boolean =>
  rangeStart(range) === rangeStart(ALL_KEYS) && rangeEnd(range) === rangeEnd(ALL_KEYS);
