// The last bytes appended to a log, in plaintext, for a reader that follows its writer: a pageserver takes in each
// commit as it comes, and need not read back from the disk, and open, what was in memory a moment ago.
//
//   ring     byte `offset` of the log lies at offset % ring      holds [start, end), as long as the ring at most
//
// It is kept from the first read near the end on, grows with what comes between two reads, and is given up when so much
// was appended without a read that nobody can be following. A copy: what was appended belongs to whoever received it. It
// goes with the keys (log-file.ts): a revoked tenant's WAL is not to be had here any more than on the disk.

/** Kept of each log that is followed, at most; and at first. */
export const TAIL_BYTES = 512 * 1024;
const FIRST_BYTES = 32 * 1024;
const GROWTH = 4;
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
    this.ring = new Uint8Array(FIRST_BYTES);
    this.start = this.end = end;
  }

  append(piece: Uint8Array): void {
    if (this.ring === undefined) return;
    this.unread += piece.length;
    if (this.unread > UNREAD_BYTES_MAX) {
      this.drop();
      return;
    }
    while (this.unread > this.ring.length && this.ring.length < TAIL_BYTES) this.ring = this.grown(this.ring);
    const { ring } = this;
    this.end += piece.length;
    this.start = Math.max(this.start, this.end - ring.length);
    const kept = piece.length <= ring.length ? piece : piece.subarray(piece.length - ring.length);
    put(ring, kept, this.end - kept.length);
  }

  private grown(ring: Uint8Array): Uint8Array {
    const larger = new Uint8Array(Math.min(TAIL_BYTES, ring.length * GROWTH));
    put(larger, copyOf(ring, this.start, this.end - this.start), this.start);
    return larger;
  }

  /** A copy of these bytes, if all of them are kept. */
  read(offset: number, length: number): Uint8Array | undefined {
    const { ring } = this;
    if (ring === undefined || length <= 0 || offset < this.start || offset + length > this.end)
      return undefined;
    this.unread = 0;
    return copyOf(ring, offset, length);
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

function put(ring: Uint8Array, bytes: Uint8Array, offset: number): void {
  const at = offset % ring.length;
  const first = Math.min(bytes.length, ring.length - at);
  ring.set(bytes.subarray(0, first), at);
  if (first < bytes.length) ring.set(bytes.subarray(first), 0);
}

function copyOf(ring: Uint8Array, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const at = offset % ring.length;
  const first = Math.min(length, ring.length - at);
  bytes.set(ring.subarray(at, at + first));
  if (first < length) bytes.set(ring.subarray(0, length - first), first);
  return bytes;
}
