// The values of one key that a read gathers, newest first, until one is a base or the page in hand is reached:
// what reconstruct.ts makes the page of. Columns that are used over and over, so that a read makes no object per
// value. `floor` is the LSN of a page already in hand: values up to it are in that page, and one of them ends
// the search as a base does.

import { isBase, type ValueSink } from './value.ts';

const NO_BYTES = new Uint8Array(0);

export class ValueList implements ValueSink {
  count = 0;
  /** A base was found, or the floor reached: no older value is needed. */
  complete = false;
  /** Values with this LSN or less are in the page in hand; -1 when there is none. */
  floor = -1;
  /** What comes now is from an image layer: it includes every value up to its LSN, whichever layer that was in. */
  fromImage = false;
  readonly lsn: number[] = [];
  readonly kind: number[] = [];
  readonly blockId: number[] = [];
  readonly bytes: Uint8Array[] = [];
  readonly offset: number[] = [];
  readonly length: number[] = [];

  reset(floor: number): void {
    // Let go of the layers' memory; the columns stay.
    for (let i = 0; i < this.count; i++) this.bytes[i] = NO_BYTES;
    this.count = 0;
    this.complete = false;
    this.floor = floor;
    this.fromImage = false;
  }

  add(
    lsn: number,
    kind: number,
    blockId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    stable: boolean,
  ): boolean {
    if (lsn <= this.floor) return (this.complete = true);
    if (this.fromImage) while (this.count > 0 && this.lsn[this.count - 1]! <= lsn) this.count--;
    const i = this.count++;
    this.lsn[i] = lsn;
    this.kind[i] = kind;
    this.blockId[i] = blockId;
    this.bytes[i] = stable ? bytes : copyOf(bytes, offset, length);
    this.offset[i] = stable ? offset : 0;
    this.length[i] = length;
    return isBase(kind) ? (this.complete = true) : false;
  }

  /** The newest value found, as a copy; undefined when there is none. */
  newest(): Uint8Array | undefined {
    if (this.count === 0) return undefined;
    return copyOf(this.bytes[0]!, this.offset[0]!, this.length[0]!);
  }
}

function copyOf(bytes: Uint8Array, offset: number, length: number): Uint8Array {
  const copy = new Uint8Array(length);
  copy.set(bytes.subarray(offset, offset + length));
  return copy;
}
