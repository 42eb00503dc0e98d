// Large buffers that are used again. Memory fresh from the kernel costs a fault for every page of it that is touched,
// on a virtual machine several times what copying into it costs: a log that comes in at full rate stood still for that,
// 6 ms a megabyte.
//
// What is taken is not zeroed. What is given back nobody may look at any more.

import { giveBackBuffer } from './bytes.ts';

/** Smaller ones are had soon enough. */
const KEPT_BYTES_MIN = 256 * 1024;
/** Taken for less by at most so much: the rest would lie idle. */
const WASTE_MAX = 1.5;

export class SpareBuffers {
  private readonly kept: ArrayBuffer[] = [];
  private keptBytes = 0;
  private readonly keptBytesMax: number;

  constructor(keptBytesMax: number) {
    this.keptBytesMax = keptBytesMax;
  }

  /** Of so many bytes at least. */
  take(bytes: number): ArrayBuffer {
    let best = -1;
    let bestBytes = bytes * WASTE_MAX;
    for (let i = 0; i < this.kept.length; i++) {
      const { byteLength } = this.kept[i]!;
      if (byteLength < bytes || byteLength > bestBytes) continue;
      best = i;
      bestBytes = byteLength;
      if (byteLength === bytes) break;
    }
    if (best < 0) return new ArrayBuffer(bytes);
    const [buffer] = this.kept.splice(best, 1);
    this.keptBytes -= buffer!.byteLength;
    return buffer!;
  }

  giveBack(view: ArrayBufferView): void {
    const { buffer } = view;
    const { byteLength } = buffer;
    if (!(buffer instanceof ArrayBuffer)) return;
    if (byteLength < KEPT_BYTES_MIN || this.keptBytes + byteLength > this.keptBytesMax) {
      giveBackBuffer(view);
      return;
    }
    this.kept.push(buffer);
    this.keptBytes += byteLength;
  }

  /** Nobody will want any soon. */
  drop(): void {
    for (const buffer of this.kept) giveBackBuffer(new Uint8Array(buffer));
    this.kept.length = 0;
    this.keptBytes = 0;
  }
}
