// The newest part of a log, in memory: what came from the origin and is on its way to the safekeepers. Bytes come at the
// end and go at the front; any part of what is there can be read.
//
//   |<- start        kept        end ->|         start and end are log positions; chunks as they came
//
// Pure.

import { assert } from '../../base/assert.ts';
import type { Lsn } from '../../base/lsn.ts';

interface Chunk {
  readonly lsn: number;
  readonly bytes: Uint8Array;
}

export class WalBuffer {
  private chunks: Chunk[] = [];
  /** Of `chunks`: the first that counts. */
  private first = 0;
  private from: number;
  private to: number;

  constructor(start: Lsn) {
    this.from = this.to = start;
  }

  get start(): Lsn {
    return this.from as Lsn;
  }

  get end(): Lsn {
    return this.to as Lsn;
  }

  get size(): number {
    return this.to - this.from;
  }

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.chunks.push({ lsn: this.to, bytes });
    this.to += bytes.length;
  }

  /** At most `max` bytes from `at` on; none only at the end. */
  read(at: Lsn, max: number): Uint8Array {
    assert(at >= this.from && at <= this.to, 'a position that is in the buffer');
    const length = Math.min(max, this.to - at);
    let i = this.find(at);
    const whole = this.chunks[i];
    if (whole === undefined || length === 0) return new Uint8Array(0);
    const skip = at - whole.lsn;
    if (whole.bytes.length - skip >= length) return whole.bytes.subarray(skip, skip + length);
    const bytes = new Uint8Array(length);
    for (let fill = 0; fill < length; i++) {
      const chunk = this.chunks[i]!;
      const offset = at + fill - chunk.lsn;
      const part = chunk.bytes.subarray(offset, offset + length - fill);
      bytes.set(part, fill);
      fill += part.length;
    }
    return bytes;
  }

  /** The chunk that holds `at`, by halves. */
  private find(at: number): number {
    let low = this.first;
    let high = this.chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.chunks[middle]!.lsn <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Whole chunks before `lsn` go. */
  trim(lsn: number): void {
    while (this.first < this.chunks.length) {
      const { lsn: at, bytes } = this.chunks[this.first]!;
      if (at + bytes.length > lsn) break;
      this.from = at + bytes.length;
      this.chunks[this.first++] = GONE;
    }
    if (this.first < COMPACT_COUNT || this.first * 2 < this.chunks.length) return;
    this.chunks = this.chunks.slice(this.first);
    this.first = 0;
  }
}

/** In the place of a chunk that is gone, until the list is made anew. */
const GONE: Chunk = { lsn: 0, bytes: new Uint8Array(0) };
const COMPACT_COUNT = 1024;
