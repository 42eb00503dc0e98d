// The segments of a timeline that are kept locally, each a sealed log in the timeline's vault, and the handles to
// them: opened when first needed, shared by the writer and all readers, closed when idle. A log is opened once
// at a time only, because opening one cuts its torn tail.
//
//   name     000000010000000000000003    as Postgres names it, timeline 1; no `.partial`: whether a segment is
//                                        whole is told by its length
//   offsets  in a log are offsets in its segment; the first segment may begin in its middle
//
// Which segments there are is known from the list of names; nothing is opened for that.

import { assert } from '../base/assert.ts';
import { Fault } from '../base/fault.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { SealedLog, Vault } from '../seal/vault.ts';
import { parseSegmentFileName, segmentFileName, segmentStart } from '../xlog/segment.ts';

/** Postgres's timeline in Neon's world. */
const PG_TLI = 1;
/** Handles kept open for readers, besides the one written to. */
const OPEN_MAX = 4;

interface Handle {
  readonly segno: number;
  readonly log: SealedLog;
  users: number;
  /** Told when nobody uses it any more. */
  idle?: (() => void) | undefined;
}

export class Segments {
  readonly vault: Vault;
  readonly segmentSize: number;
  /** In order; a later one begins where the one before ends, but for what was lost. */
  private numbers: number[];
  private readonly handles = new Map<number, Promise<Handle>>();
  /** Being closed, which gives back the room that a log made ahead of itself: not to be opened before that is done. */
  private readonly closing = new Map<number, Promise<void>>();
  /** Written to: never closed for want of use. */
  private readonly dirty = new Set<number>();

  private constructor(vault: Vault, segmentSize: number, numbers: number[]) {
    this.vault = vault;
    this.segmentSize = segmentSize;
    this.numbers = numbers;
  }

  static async list(vault: Vault, segmentSize: number): Promise<Segments> {
    const numbers: number[] = [];
    for (const name of await vault.list()) {
      const segment = parseSegmentFileName(name, segmentSize);
      if (segment !== undefined && segment.tli === PG_TLI && !segment.partial) numbers.push(segment.segno);
    }
    return new Segments(
      vault,
      segmentSize,
      numbers.sort((a, b) => a - b),
    );
  }

  get all(): readonly number[] {
    return this.numbers;
  }

  has(segno: number): boolean {
    return this.numbers.includes(segno);
  }

  nameOf(segno: number): string {
    return segmentFileName(PG_TLI, segno, this.segmentSize);
  }

  /** What a person looks for: the name, and where in it. */
  describe(lsn: Lsn): string {
    const segno = Math.floor(lsn / this.segmentSize);
    return `${this.nameOf(segno)} at offset ${lsn - segno * this.segmentSize} (${formatLsn(lsn)})`;
  }

  /** A new segment, beginning at `origin`. */
  async create(segno: number, origin: number): Promise<SealedLog> {
    assert(!this.has(segno), `segment ${segno} exists`);
    assert(this.numbers.length === 0 || segno > this.numbers[this.numbers.length - 1]!, 'segments grow');
    const log = await this.vault.log(this.nameOf(segno), { create: true, origin });
    this.numbers.push(segno);
    this.handles.set(segno, Promise.resolve({ segno, log, users: 0 }));
    this.dirty.add(segno);
    return log;
  }

  /**
   * The log of a segment for the writer, who calls `release` when done with it. `atLeast`: shorter than this
   * means that durable bytes were lost, and is refused.
   */
  async hold(segno: number, atLeast?: number): Promise<SealedLog> {
    const handle = await this.open(segno, atLeast);
    this.dirty.add(segno);
    return handle.log;
  }

  release(segno: number): void {
    this.dirty.delete(segno);
  }

  /** Runs `work` on a segment's log; it stays open meanwhile. */
  async use<T>(segno: number, work: (log: SealedLog) => Promise<T>): Promise<T> {
    const handle = await this.open(segno);
    handle.users++;
    try {
      return await work(handle.log);
    } finally {
      if (--handle.users === 0) handle.idle?.();
      if (this.handles.size > OPEN_MAX) void this.closeIdle(OPEN_MAX).catch(() => {});
    }
  }

  private open(segno: number, atLeast?: number): Promise<Handle> {
    const known = this.handles.get(segno);
    if (known !== undefined) {
      // Least recently used goes first: keep the order of use.
      this.handles.delete(segno);
      this.handles.set(segno, known);
      return known;
    }
    if (!this.has(segno)) {
      throw new Fault('wal-missing', `segment ${this.nameOf(segno)} is not kept here any more`);
    }
    const opening = this.openAnew(segno, atLeast);
    this.handles.set(segno, opening);
    opening.catch(() => {
      if (this.handles.get(segno) === opening) this.handles.delete(segno);
    });
    return opening;
  }

  private async openAnew(segno: number, atLeast: number | undefined): Promise<Handle> {
    await this.closing.get(segno)?.catch(() => {});
    const options = { create: false, ...(atLeast === undefined ? {} : { atLeast }) };
    return { segno, log: await this.vault.log(this.nameOf(segno), options), users: 0 };
  }

  /** Closes handles that nobody uses until `keep` are left, those longest unused first. */
  async closeIdle(keep: number): Promise<void> {
    for (const [segno, opening] of [...this.handles]) {
      if (this.handles.size <= keep) return;
      if (this.dirty.has(segno)) continue;
      const handle = await opening.catch(() => undefined);
      if (handle === undefined || handle.users > 0 || this.handles.get(segno) !== opening) continue;
      this.handles.delete(segno);
      const closed = handle.log.close();
      this.closing.set(segno, closed);
      await closed.finally(() => this.closing.delete(segno));
    }
  }

  /** Removes a segment's file, durably. */
  async remove(segno: number): Promise<void> {
    const opening = this.handles.get(segno);
    this.handles.delete(segno);
    this.dirty.delete(segno);
    this.numbers = this.numbers.filter(n => n !== segno);
    await closeHandle(await opening?.catch(() => undefined));
    await this.vault.remove(this.nameOf(segno));
  }

  async close(): Promise<void> {
    const open = [...this.handles.values()];
    this.handles.clear();
    this.dirty.clear();
    for (const opening of open) await closeHandle(await opening.catch(() => undefined));
  }

  start(segno: number): Lsn {
    return segmentStart(segno, this.segmentSize);
  }
}

/** Closes a log once those who read from it are done; nobody new can come to it. */
async function closeHandle(handle: Handle | undefined): Promise<void> {
  if (handle === undefined) return;
  if (handle.users > 0) {
    await new Promise<void>(resolve => {
      handle.idle = resolve;
    });
  }
  await handle.log.close();
}
