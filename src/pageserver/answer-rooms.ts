// Buffers in which answers of pages are put together, used over and over: at a hundred thousand pages a second they
// would be a gigabyte for the collector to find.
//
// Whoever takes one has it alone. It comes back when the socket has it no more; where an answer failed it is not given
// back, for a read of the same batch may still write to it.

/** A page with its frame and echo; a room is of so many, a power of two. */
const FRAME_BYTES = 8192 + 64;
/** Kept of all sizes together. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;

export class AnswerRooms {
  /** By the power of two. */
  private readonly free: Buffer[][] = [];
  private keptBytes = 0;

  take(bytes: number): Buffer {
    const size = sizeOf(bytes);
    const kept = this.free[size]?.pop();
    if (kept === undefined) return Buffer.allocUnsafeSlow(FRAME_BYTES << size).subarray(0, bytes);
    this.keptBytes -= kept.length;
    return kept.subarray(0, bytes);
  }

  giveBack(answers: Buffer): void {
    const { buffer } = answers;
    if (this.keptBytes + buffer.byteLength > KEPT_BYTES_MAX) return;
    this.keptBytes += buffer.byteLength;
    (this.free[sizeOf(buffer.byteLength)] ??= []).push(Buffer.from(buffer));
  }
}

const sizeOf = (bytes: number): number => Math.max(0, Math.ceil(Math.log2(bytes / FRAME_BYTES)));
