// The one writer of a timeline: values into the open memory layer, synchronously, and back pressure.

import { assert } from '../../base/assert.ts';
import { newPage } from '../../xlog/page.ts';
import type { ValueKind } from '../value.ts';
import type { Timeline } from './timeline.ts';

/** One per timeline, used by ingest and import alone. Everything but `ready` and the reads is synchronous. */
export interface TimelineWriter {
  /** The bytes are copied. LSNs never go down, and are above lastRecordLsn. */
  put(
    rel: number,
    blk: number,
    lsn: number,
    kind: ValueKind,
    blockId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void;
  /** Bytes that several keys share (a record of several blocks): taken in once, then `putShared` for each key. */
  beginShared(lsn: number, bytes: Uint8Array, offset: number, length: number): void;
  putShared(rel: number, blk: number, kind: ValueKind, blockId: number): void;
  /** Every record up to `lsn` is in; `prev` is where the newest of them begins. Wakes who waits. */
  advance(lsn: number, prev: number): void;
  /** XLOG_FPW_CHANGE or a checkpoint told whether the log carries full-page images from `lsn` on. */
  fullPageWrites(on: boolean, lsn: number): void;
  /** As the timeline's reads, but over everything that was put. */
  getBytes(rel: number, blk: number, lsn: number): Promise<Uint8Array | undefined>;
  getPage(rel: number, blk: number, lsn: number): Promise<Uint8Array>;
  /** Back pressure: resolves when more may be put. Ask between batches. */
  ready(signal?: AbortSignal): Promise<void>;
}

export class Writer implements TimelineWriter {
  private readonly timeline: Timeline;
  /** The newest LSN put. */
  private newest = 0;

  constructor(timeline: Timeline) {
    this.timeline = timeline;
  }

  /** Are there values that were not advanced over? The open layer is then not to be frozen. */
  get isMidway(): boolean {
    return this.newest > this.timeline.state.lastRecordLsn;
  }

  put(
    rel: number,
    blk: number,
    lsn: number,
    kind: ValueKind,
    blockId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    this.beginShared(lsn, bytes, offset, length);
    this.timeline.state.open.putShared(rel, blk, kind, blockId);
  }

  beginShared(lsn: number, bytes: Uint8Array, offset: number, length: number): void {
    const { state } = this.timeline;
    assert(lsn > state.lastRecordLsn && lsn >= this.newest, 'a value at or below the last record');
    this.newest = lsn;
    state.open.beginShared(lsn, bytes, offset, length);
  }

  putShared(rel: number, blk: number, kind: ValueKind, blockId: number): void {
    this.timeline.state.open.putShared(rel, blk, kind, blockId);
  }

  advance(lsn: number, prev: number): void {
    assert(lsn >= this.newest, 'an advance that leaves a value above it');
    this.timeline.advance(lsn, prev);
  }

  fullPageWrites(on: boolean, lsn: number): void {
    if (this.timeline.fullPageWrites?.on !== on) this.timeline.fullPageWrites = { on, lsn };
  }

  getBytes(rel: number, blk: number, lsn: number): Promise<Uint8Array | undefined> {
    return this.timeline.reader.bytes(this.timeline, rel, blk, lsn);
  }

  async getPage(rel: number, blk: number, lsn: number): Promise<Uint8Array> {
    const page = newPage().bytes;
    await this.timeline.reader.page(this.timeline, rel, blk, lsn, page, 0);
    return page;
  }

  ready(signal?: AbortSignal): Promise<void> {
    return this.timeline.pressure.ready(signal);
  }
}
