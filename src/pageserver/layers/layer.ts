// What a layer is to those who read it: an immutable set of values over a range of keys and a range of LSNs.
//
//   delta  every value of its keys with an LSN in [lsnStart, lsnEnd). Level 0 covers all keys (one flush of
//          memory); level 1 covers a range of keys and the LSN ranges of the layers it was merged from
//   image  the value of each of its keys as it stood at lsnStart (lsnEnd is lsnStart + 1)
//
// A layer never changes once written. Its name tells all of this (layer-name.ts).

import type { KeyRange } from '../key.ts';
import type { ValueSink, ValueVisitor } from '../value.ts';

export interface LayerDesc {
  readonly name: string;
  readonly kind: 'delta' | 'image';
  readonly keys: KeyRange;
  readonly lsnStart: number;
  /** Exclusive. */
  readonly lsnEnd: number;
  /** Size of the file. */
  readonly bytes: number;
  /** Of the attachment that wrote it. */
  readonly generation: number;
  readonly isL0: boolean;
}

export interface LayerReader {
  readonly desc: LayerDesc;
  /**
   * Hand the values of a key below `lsnEnd` to the sink, newest first, until it has enough. Answers whether it
   * had. Synchronous when all it needs is at hand.
   */
  get(rel: number, blk: number, lsnEnd: number, sink: ValueSink): boolean | Promise<boolean>;
  /** Every value with a key in `range` and an LSN in [lsnStart, lsnEnd). */
  scan(range: KeyRange, lsnStart: number, lsnEnd: number, visitor: ValueVisitor): Promise<void>;
  close(): Promise<void>;
}
