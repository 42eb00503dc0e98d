// What is stored under a key at an LSN, and how it is told apart. The bytes of a value:
//
//   VALUE_IMAGE        a page, 8192 bytes, as it stands at that LSN                                     base
//   VALUE_RECORD       a WAL record that edits the page; its LSN is the record's end                    edit
//   VALUE_RECORD_INIT  a WAL record that makes the page anew (will-init, or an image to apply)          base
//   VALUE_EDIT         one of our own small edits: visibility bits, SLRU entries (edit.ts)              edit
//   VALUE_BYTES        the contents themselves: names, sizes                                            base
//
// A base ends the search for older values. `blockId` says which of a record's blocks the key is, so that redo
// need not look; it is 0 for the other kinds. Several values of one key at one LSN are kept in the order in which
// the record made them.

export const VALUE_IMAGE = 0;
export const VALUE_RECORD = 1;
export const VALUE_RECORD_INIT = 2;
export const VALUE_EDIT = 3;
export const VALUE_BYTES = 4;
export type ValueKind = 0 | 1 | 2 | 3 | 4;

export const isBase = (kind: number): boolean =>
  kind === VALUE_IMAGE || kind === VALUE_RECORD_INIT || kind === VALUE_BYTES;

/**
 * Takes the values of one key, newest first. `add` answers true when it needs no older ones: it has met a base.
 * The bytes are good only during the call, unless `stable` says that the buffer will not change.
 */
export interface ValueSink {
  add(
    lsn: number,
    kind: number,
    blockId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    stable: boolean,
  ): boolean;
}

/** Takes the values of a range of keys, in key order, each key's from the oldest to the newest. */
export interface ValueVisitor {
  visit(
    rel: number,
    blk: number,
    lsn: number,
    kind: number,
    blockId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void;
}
