// The WAL of one timeline on disk: written at its end only, cut only where an elected proposer says, read
// anywhere. It counts in LSNs and knows where records end.
//
//   |  segment 3 (from its middle)  |  segment 4  |  segment 5 ...   |
//      ^ oldestLsn                                   ^ recordLsn  ^ writeLsn
//
// `write` takes bytes in (checked by the decoder, kept in memory), `flush` makes all of them durable with one
// write and one sync a segment, first segments first. While a flush runs more may be written, and nothing else be
// done. `truncate` works from the end backwards, so that at every moment what is left is the beginning of what was.
// A crash may lose what was not flushed, no more.
//
// At the start the end of WAL is searched from the committed position: on through whole records as far as they
// are there. What is torn after that was told to nobody and is cut off. Bytes that are whole under their seal
// and yet no WAL are not a torn tail: that is a damaged log, a Fault `safekeeper-wal` that names the file and
// the position, and nothing is touched.
//
// A failed write leaves the positions as they were; only creating a segment may fail there. A failed flush may be
// tried again when the Fault says so (a full disk). After anything else the timeline stops (timeline.ts).
//
// Answers to PhysicalStorage of safekeeper/src/wal_storage.rs and find_end_of_wal of postgres_ffi.

import { assert } from '../base/assert.ts';
import { EMPTY_BYTES } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import { formatLsn, INVALID_LSN, type Lsn } from '../base/lsn.ts';
import type { SealedLog, Vault } from '../seal/vault.ts';
import { segmentOf, segmentOffset } from '../xlog/segment.ts';
import { Segments } from './segments.ts';
import { isBadWal, WalScan } from './wal-scan.ts';

const SCAN_BYTES = 256 * 1024;

export interface WalStoreOptions {
  readonly vault: Vault;
  readonly segmentSize: number;
  readonly pgVersion: number;
  /** As persisted: everything before it is here and durable. */
  readonly commitLsn: Lsn;
  readonly localStartLsn: Lsn;
  /** Noted in every frame of WAL: the generation of the control record on the disk. */
  readonly mark?: () => number;
  /** WAL is in the object store only: what lies here is left over and not looked at. */
  readonly offloaded?: boolean;
}

export interface SegmentInfo {
  readonly segno: number;
  readonly origin: number;
  readonly length: number;
}

export class WalStore {
  private readonly segments: Segments;
  private readonly pgVersion: number;
  private localStartLsn: Lsn;
  private scan: WalScan | undefined;
  /** Logs being written, in order: all but the last are full and wait for the flush. */
  private writing: { readonly segno: number; readonly log: SealedLog }[] = [];
  /** Past the last byte taken in; 0 until the first truncation says where an empty log begins. */
  writeLsn: Lsn = INVALID_LSN;
  recordLsn: Lsn = INVALID_LSN;
  /** All before this is synced. */
  durableLsn: Lsn = INVALID_LSN;
  /**
   * Rises as a truncation that cuts something begins, and as it ends: what was read across one is not to be trusted, nor
   * what was read within, while it is odd.
   */
  cuts = 0;
  /** The highest mark found at the start. */
  marked = 0;
  private readonly mark: () => number;
  /** Bytes cut off at the start, for the log. */
  tornBytes = 0;

  private constructor(segments: Segments, options: WalStoreOptions) {
    this.segments = segments;
    this.pgVersion = options.pgVersion;
    this.localStartLsn = options.localStartLsn;
    this.mark = options.mark ?? (() => 0);
  }

  static async open(options: WalStoreOptions): Promise<WalStore> {
    const segments = await Segments.list(options.vault, options.segmentSize);
    const store = new WalStore(segments, options);
    try {
      if (options.offloaded !== true) await store.findEnd(options.commitLsn);
    } catch (error) {
      await segments.close();
      throw error;
    }
    return store;
  }

  private get segmentSize(): number {
    return this.segments.segmentSize;
  }

  // ------------------------------------------------------------------------------------------- the end of WAL

  private async findEnd(commitLsn: Lsn): Promise<void> {
    const last = this.segments.all[this.segments.all.length - 1];
    if (commitLsn === INVALID_LSN) {
      // Nobody was ever elected here, so nothing can be here.
      if (last !== undefined) throw this.lost(last, commitLsn, 'belongs to no election');
      return;
    }
    const began = commitLsn > this.localStartLsn;
    // The segment of the last committed byte; where nothing is written yet, the one that will be.
    const first = segmentOf(began ? commitLsn - 1 : commitLsn, this.segmentSize);
    if (!this.segments.has(first)) {
      if (began || (last !== undefined && last > first)) throw this.lost(first, commitLsn, 'is missing');
      this.setPositions(commitLsn);
      return;
    }
    const end = await this.scanFrom(first, commitLsn, began);
    await this.cutTo(end);
    this.setPositions(end);
  }

  /** Reads on from the committed position; the end of the last whole record. */
  private async scanFrom(first: number, commitLsn: Lsn, began: boolean): Promise<Lsn> {
    const scan = new WalScan(commitLsn, this.segmentSize, this.pgVersion);
    let at = commitLsn as number;
    for (let segno = first; this.segments.has(segno); segno++) {
      const start = this.segments.start(segno);
      const atLeast = segno === first && began ? commitLsn - start : undefined;
      const log = await this.openForScan(segno, commitLsn, atLeast);
      this.marked = Math.max(this.marked, log.mark);
      while (at - start < log.length) {
        const bytes = await log.read(at - start, Math.min(SCAN_BYTES, log.length - (at - start)));
        this.pushScan(scan, bytes);
        at += bytes.length;
      }
      this.segments.release(segno);
      if (log.length < this.segmentSize) break;
    }
    this.tornBytes = at - scan.boundary;
    return scan.boundary;
  }

  private async openForScan(segno: number, commitLsn: Lsn, atLeast: number | undefined): Promise<SealedLog> {
    try {
      return await this.segments.hold(segno, atLeast);
    } catch (error) {
      if (!isFault(error) || error.kind !== 'corrupt') throw error;
      throw this.lost(segno, commitLsn, `is damaged: ${error.message}`, error);
    }
  }

  private pushScan(scan: WalScan, bytes: Uint8Array): void {
    const from = scan.position;
    try {
      scan.push(bytes);
    } catch (error) {
      if (!isBadWal(error)) throw error;
      throw new Fault(
        'safekeeper-wal',
        `WAL is damaged in ${this.segments.describe(scan.boundary)}, read from ${formatLsn(from)}: ${error.message}`,
        { hint: CURE, cause: error },
      );
    }
  }

  private lost(segno: number, commitLsn: Lsn, what: string, cause?: unknown): Fault {
    return new Fault(
      'safekeeper-wal',
      `WAL segment ${this.segments.nameOf(segno)} ${what}; WAL is committed up to ${formatLsn(commitLsn)}`,
      { hint: CURE, ...(cause === undefined ? {} : { cause }) },
    );
  }

  private setPositions(lsn: Lsn): void {
    this.writeLsn = lsn;
    this.recordLsn = lsn;
    this.durableLsn = lsn;
  }

  // ---------------------------------------------------------------------------------------------------- write

  /** Takes bytes in at the end; where the last whole record ends then. A Fault of xlog: they are no WAL. */
  async write(at: Lsn, bytes: Uint8Array): Promise<Lsn> {
    assert(at === this.writeLsn && at !== INVALID_LSN, `a write at ${formatLsn(at)}, not at the end`);
    const end = (at + bytes.length) as Lsn;
    await this.makeRoom(at, end);
    // A scan begins at a record boundary: it is dropped only when the log ends at one.
    this.scan ??= new WalScan(this.recordLsn, this.segmentSize, this.pgVersion);
    assert(this.scan.position === at, 'the scan is elsewhere than the end of WAL');
    this.recordLsn = this.push(bytes);
    this.writeLsn = end;
    for (let from = 0; from < bytes.length; ) {
      const lsn = at + from;
      const to = Math.min(bytes.length, from + this.segmentSize - segmentOffset(lsn, this.segmentSize));
      const segno = segmentOf(lsn, this.segmentSize);
      const log = this.writing.find(dirty => dirty.segno === segno)!.log;
      log.setMark(this.mark());
      log.append([from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to)]);
      from = to;
    }
    return this.recordLsn;
  }

  private push(bytes: Uint8Array): Lsn {
    try {
      return this.scan!.push(bytes);
    } catch (error) {
      this.scan = undefined;
      throw error;
    }
  }

  /** Every segment of [at, end) is open for writing. The only I/O of a write, before anything has changed. */
  private async makeRoom(at: number, end: number): Promise<void> {
    for (
      let segno = segmentOf(at, this.segmentSize);
      segno <= segmentOf(end - 1, this.segmentSize);
      segno++
    ) {
      if (this.writing.some(dirty => dirty.segno === segno)) continue;
      const start = this.segments.start(segno);
      const log = this.segments.has(segno)
        ? await this.segments.hold(segno)
        : await this.segments.create(segno, Math.max(0, at - start));
      assert(log.length === Math.max(0, at - start), `${log.name} ends at ${log.length}, not where WAL does`);
      this.writing.push({ segno, log });
    }
  }

  /** All that was taken in before is durable when resolved; one at a time. What comes in meanwhile waits for the next. */
  async flush(): Promise<void> {
    const end = this.writeLsn;
    for (;;) {
      const first = this.writing[0];
      if (first === undefined || this.segments.start(first.segno) >= end) break;
      const { segno, log } = first;
      await log.flush();
      const due = Math.min(this.segmentSize, end - this.segments.start(segno));
      assert(log.durable >= due, `${log.name} flushed and not durable`);
      if (log.durable < this.segmentSize) break;
      this.writing.shift();
      this.segments.release(segno);
    }
    this.durableLsn = end;
  }

  // ------------------------------------------------------------------------------------------------- truncate

  /** WAL ends at `to` from here on; an empty log begins there. */
  async truncate(to: Lsn): Promise<void> {
    assert(to !== INVALID_LSN, 'a log begins somewhere');
    assert(this.writeLsn === INVALID_LSN || to <= this.writeLsn, 'truncation past the end');
    if (this.writeLsn === INVALID_LSN) this.localStartLsn = to;
    const shortens = to < this.writeLsn;
    if (shortens) this.cuts++;
    this.scan = undefined;
    await this.cutTo(to);
    this.setPositions(to);
    if (shortens) this.cuts++;
  }

  /** Removes from the end backwards. */
  private async cutTo(to: Lsn): Promise<void> {
    const last = to === 0 ? -1 : segmentOf(to - 1, this.segmentSize);
    await this.removeAfter(last);
    this.writing = this.writing.filter(dirty => dirty.segno <= last);
    if (!this.segments.has(last)) return;
    const offset = to - this.segments.start(last);
    const log = await this.segments.hold(last);
    if (offset < log.origin || offset > log.length) {
      throw new Fault('safekeeper-wal', `WAL ${log.name} holds ${log.origin}..${log.length}, not ${offset}`, {
        hint: CURE,
      });
    }
    if (log.length > offset) await log.truncate(offset);
    if (!this.writing.some(dirty => dirty.segno === last)) this.segments.release(last);
  }

  private async removeAfter(segno: number): Promise<void> {
    for (const later of [...this.segments.all].reverse()) {
      if (later <= segno) return;
      await this.segments.remove(later);
    }
  }

  // ----------------------------------------------------------------------------------------------------- read

  /** The first byte kept locally; the end of WAL when there is none. */
  get oldestLsn(): Lsn {
    const first = this.segments.all[0];
    if (first === undefined) return this.writeLsn;
    return Math.max(this.segments.start(first), this.originOf(first) + this.segments.start(first)) as Lsn;
  }

  /** Only the segment where this node's WAL begins can begin in its middle. */
  private originOf(segno: number): number {
    const start = this.segments.start(segno);
    return this.localStartLsn > start && this.localStartLsn < start + this.segmentSize
      ? this.localStartLsn - start
      : 0;
  }

  /** Is the byte at `lsn` kept here? */
  holds(lsn: Lsn): boolean {
    const segno = segmentOf(lsn, this.segmentSize);
    return (
      lsn < this.writeLsn &&
      this.segments.has(segno) &&
      lsn >= this.segments.start(segno) + this.originOf(segno)
    );
  }

  /** Bytes from `from`: at most `length`, fewer at the end of a segment. What is not flushed is not read. */
  async read(from: Lsn, length: number): Promise<Uint8Array> {
    const segno = segmentOf(from, this.segmentSize);
    const offset = segmentOffset(from, this.segmentSize);
    const count = Math.min(length, this.segmentSize - offset, this.durableLsn - from);
    if (count <= 0) return EMPTY_BYTES;
    return this.segments.use(segno, log => log.read(offset, count));
  }

  list(): readonly SegmentInfo[] {
    return this.segments.all.map(segno => {
      const length = Math.min(this.segmentSize, this.durableLsn - this.segments.start(segno));
      return { segno, origin: this.originOf(segno), length: Math.max(length, 0) };
    });
  }

  /** Removes whole segments below `segno`, oldest first; how many. The one that WAL ends in stays. */
  async removeBelow(segno: number): Promise<number> {
    let count = 0;
    for (const old of [...this.segments.all]) {
      if (old >= segno || old >= segmentOf(this.durableLsn - 1, this.segmentSize)) break;
      await this.segments.remove(old);
      count++;
    }
    return count;
  }

  /** Every segment: they are in the object store. */
  async removeAll(): Promise<void> {
    assert(this.durableLsn === this.writeLsn, 'removal of WAL that is not durable');
    this.scan = undefined;
    this.writing = [];
    await this.removeAfter(-1);
  }

  /** Puts a segment back that was only in the object store: the one that WAL ends in. */
  async restore(segno: number, origin: number, bytes: Uint8Array): Promise<void> {
    assert(this.segments.all.length === 0, 'a restore over WAL that is here');
    const log = await this.segments.create(segno, origin);
    log.append([bytes]);
    await log.flush();
    this.segments.release(segno);
  }

  /** Lets go of memory and file handles that an idle timeline does not need. */
  async rest(): Promise<void> {
    if (this.durableLsn !== this.writeLsn || this.recordLsn !== this.writeLsn) return;
    this.scan = undefined;
    for (const dirty of this.writing) this.segments.release(dirty.segno);
    this.writing = [];
    await this.segments.closeIdle(0);
  }

  async close(): Promise<void> {
    await this.segments.close();
  }
}

const CURE =
  'Other timelines are not affected. Delete this timeline here alone (only_local=true) and fetch it from a peer (pull_timeline), or put back a copy of its directory.';
