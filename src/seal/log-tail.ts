// The last bytes appended to a log, in plaintext, for a reader that follows its writer: a pageserver takes in each
// commit as it comes, and need not read back from the disk, and open, what was in memory a moment ago.
//
//   ring     byte `offset` of the log lies at offset % TAIL_BYTES      holds [start, end), TAIL_BYTES of it at most
//
// It is kept from the first read near the end on, and given up when so much was appended without a read that nobody
// can be following. A copy: what was appended belongs to whoever received it. It goes with the keys (log-file.ts): a
// revoked tenant's WAL is not to be had here any more than on the disk.

/** Kept of each log that is followed. */
export const TAIL_BYTES = 512 * 1024;
/** Appended with no read: nobody follows. */
const UNREAD_BYTES_MAX = 4 * TAIL_BYTES;

export class LogTail {
  private ring: Uint8Array | undefined;
  private start = 0;
  private end = 0;
  private unread = 0;

  /** Somebody reads near the end of the log, which is `end`: what comes from now on is kept. */
  follow(end: number): void {
    this.unread = 0;
    if (this.ring !== undefined) return;
    this.ring = new Uint8Array(TAIL_BYTES);
    this.start = this.end = end;
  }

  append(piece: Uint8Array): void {
    if (this.ring === undefined) return;
    this.unread += piece.length;
    if (this.unread > UNREAD_BYTES_MAX) {
      this.drop();
      return;
    }
    this.end += piece.length;
    this.start = Math.max(this.start, this.end - TAIL_BYTES);
    const kept = piece.length <= TAIL_BYTES ? piece : piece.subarray(piece.length - TAIL_BYTES);
    const at = (this.end - kept.length) % TAIL_BYTES;
    const first = Math.min(kept.length, TAIL_BYTES - at);
    this.ring.set(kept.subarray(0, first), at);
    if (first < kept.length) this.ring.set(kept.subarray(first), 0);
  }

  /** A copy of these bytes, if all of them are kept. */
  read(offset: number, length: number): Uint8Array | undefined {
    const { ring } = this;
    if (ring === undefined || length <= 0 || offset < this.start || offset + length > this.end)
      return undefined;
    this.unread = 0;
    const out = new Uint8Array(length);
    const at = offset % TAIL_BYTES;
    const first = Math.min(length, TAIL_BYTES - at);
    out.set(ring.subarray(at, at + first));
    if (first < length) out.set(ring.subarray(0, length - first), first);
    return out;
  }

  /** The log ends at `length` from here on. */
  cut(length: number): void {
    this.end = Math.min(this.end, length);
    this.start = Math.min(this.start, this.end);
  }

  drop(): void {
    this.ring = undefined;
    this.start = this.end = 0;
  }
}
