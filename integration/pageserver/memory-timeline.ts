// A timeline that is nothing but values in memory: lists by key, walked from the newest. The simplest thing that
// answers as timeline.ts does; what values mean is tested on it, without layers, caches or flushes in between.

import type { Lsn } from '../../src/base/lsn.ts';
import { applyEdit } from '../../src/pageserver/edit.ts';
import { isPageKey, type KeyRange, packKey, unpackKey } from '../../src/pageserver/key.ts';
import type { ScanVisit, Timeline, TimelineWriter } from '../../src/pageserver/timeline/timeline.ts';
import {
  isBase,
  VALUE_EDIT,
  VALUE_IMAGE,
  VALUE_RECORD,
  VALUE_RECORD_INIT,
  type ValueKind,
} from '../../src/pageserver/value.ts';
import type { Dialect } from '../../src/xlog/dialect.ts';
import { BLCKSZ, newPage, type Page } from '../../src/xlog/page.ts';
import { decodeRecord, WalRecord } from '../../src/xlog/record.ts';
import { redoBlock } from '../../src/xlog/redo.ts';

interface Value {
  readonly lsn: number;
  readonly kind: ValueKind;
  readonly blockId: number;
  readonly bytes: Uint8Array;
}

export class MemoryTimeline {
  lastRecordLsn = 0;
  prevRecordLsn = 0;
  readonly ancestorLsn = 0;
  fullPageWrites: { on: boolean; lsn: number } | undefined;
  /** What was put, by kind: how many values, and their bytes, shared ones counted once. */
  readonly counts = new Map<ValueKind, number>();
  bytes = 0;
  private readonly dialect: Dialect;
  private readonly values = new Map<number, Value[]>();
  private readonly record = new WalRecord();

  constructor(dialect: Dialect) {
    this.dialect = dialect;
  }

  /** For those who want the real one. */
  get timeline(): Timeline {
    return this as unknown as Timeline;
  }

  /** The values of a key, oldest first. */
  list(rel: number, blk: number): readonly Value[] {
    return this.values.get(packKey(rel, blk)) ?? [];
  }

  writer(): TimelineWriter {
    let shared = { lsn: 0, bytes: new Uint8Array(0) };
    const putShared = (rel: number, blk: number, kind: ValueKind, blockId: number): void => {
      const { lsn, bytes } = shared;
      const list = this.values.get(packKey(rel, blk));
      if (list === undefined) this.values.set(packKey(rel, blk), [{ lsn, kind, blockId, bytes }]);
      else {
        if (list[list.length - 1]!.lsn > lsn)
          throw new Error('values of a key come in the order of their LSNs');
        list.push({ lsn, kind, blockId, bytes });
      }
      this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    };
    const beginShared = (lsn: number, bytes: Uint8Array, offset: number, length: number): void => {
      if (lsn <= this.lastRecordLsn) throw new Error('a value at or below the last record');
      shared = { lsn, bytes: bytes.slice(offset, offset + length) };
      this.bytes += length;
    };
    return {
      beginShared,
      putShared,
      put: (rel, blk, lsn, kind, blockId, bytes, offset, length) => {
        beginShared(lsn, bytes, offset, length);
        putShared(rel, blk, kind, blockId);
      },
      advance: (lsn, prev) => {
        this.lastRecordLsn = lsn;
        this.prevRecordLsn = prev;
      },
      fullPageWrites: (on, lsn) => {
        this.fullPageWrites = { on, lsn };
      },
      getBytes: (rel, blk, lsn) => this.getBytes(rel, blk, lsn),
      getPage: (rel, blk, lsn) => this.getPage(rel, blk, lsn),
      ready: async () => undefined,
    };
  }

  async getPage(rel: number, blk: number, lsn: number): Promise<Uint8Array> {
    const page = newPage();
    this.redo(this.values.get(packKey(rel, blk)) ?? [], lsn, page);
    return page.bytes;
  }

  async getPages(
    requests: readonly { rel: number; blk: number; lsn: number; into: Uint8Array; at: number }[],
  ): Promise<void> {
    for (const { rel, blk, lsn, into, at } of requests) into.set(await this.getPage(rel, blk, lsn), at);
  }

  async getBytes(rel: number, blk: number, lsn: number): Promise<Uint8Array | undefined> {
    return this.newest(this.values.get(packKey(rel, blk)) ?? [], lsn)?.bytes.slice();
  }

  async scan(range: KeyRange, lsn: number, visit: ScanVisit): Promise<void> {
    const start = packKey(range.start.rel, range.start.blk);
    const end = packKey(range.end.rel, range.end.blk);
    const keys = [...this.values.keys()].filter(key => key >= start && key < end).sort((a, b) => a - b);
    for (const key of keys) {
      const { rel, blk } = unpackKey(key);
      if (this.newest(this.values.get(key)!, lsn) === undefined) continue;
      if (isPageKey(rel, blk)) visit(rel, blk, await this.getPage(rel, blk, lsn));
      else visit(rel, blk, this.newest(this.values.get(key)!, lsn)!.bytes);
    }
  }

  private newest(values: readonly Value[], lsn: number): Value | undefined {
    for (let i = values.length - 1; i >= 0; i--) if (values[i]!.lsn <= lsn) return values[i];
    return undefined;
  }

  private redo(values: readonly Value[], lsn: number, page: Page): void {
    let end = values.length;
    while (end > 0 && values[end - 1]!.lsn > lsn) end--;
    let first = end - 1;
    while (first > 0 && !isBase(values[first]!.kind)) first--;
    for (let i = Math.max(first, 0); i < end; i++) this.apply(values[i]!, page);
  }

  private apply({ lsn, kind, blockId, bytes }: Value, page: Page): void {
    if (kind === VALUE_IMAGE) page.bytes.set(bytes.subarray(0, BLCKSZ));
    else if (kind === VALUE_EDIT) applyEdit(page, bytes, 0, bytes.length);
    else if (kind === VALUE_RECORD || kind === VALUE_RECORD_INIT) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      decodeRecord(this.record, bytes, view, 0, lsn as Lsn, lsn as Lsn, this.dialect.imageBits);
      redoBlock(this.dialect, page, this.record, this.record.block(blockId));
    } else throw new Error('plain bytes under a page key');
  }
}
