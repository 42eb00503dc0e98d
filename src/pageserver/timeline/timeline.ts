// One timeline (branch) of a tenant: values go in by its one writer, pages come out at any LSN.
//
//   writer:  put, put ... advance      synchronous; a batch of records becomes visible with `advance`
//   readers: waitFor(lsn), then getPage / getBytes / scan at that LSN
//
// A read asks memory, then the layers, newest first, and goes on in the ancestor at min(lsn, ancestorLsn) when
// this timeline has no base for the key. A page that was never written is zeros.
//
// No read sees a value above its LSN, and no read above lastRecordLsn is answered: it would see half a record.
// (The writer alone may read what it has put and not yet advanced over: `TimelineWriter.getBytes`, `getPage`.)

import { assert, Violation } from '../../base/assert.ts';
import { Fault } from '../../base/fault.ts';
import type { TimelineId } from '../../base/ids.ts';
import { formatLsn } from '../../base/lsn.ts';
import type { Clock } from '../../base/ports.ts';
import { BLCKSZ, newPage, type Page, pageOver } from '../../xlog/page.ts';
import { isPageKey, type KeyRange, packKey } from '../key.ts';
import { MemoryLayer } from '../layers/memory-layer.ts';
import { type PageRedo, Reconstructor } from '../reconstruct.ts';
import { isBase, type ValueKind, type ValueVisitor } from '../value.ts';
import { ValueList } from '../value-list.ts';
import type { TimelineState } from './state.ts';
import { Waiters } from './waiters.ts';

/** The newest contents of each key of a range, in key order: bytes, or the page. Good only during the call. */
export type ScanVisit = (rel: number, blk: number, bytes: Uint8Array) => void;

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

export interface FullPageWrites {
  readonly on: boolean;
  /** Since when. */
  readonly lsn: number;
}

export interface TimelineOptions {
  readonly id: TimelineId;
  readonly clock: Clock;
  readonly redo: PageRedo;
  readonly ancestor?: { readonly timeline: Timeline; readonly lsn: number };
  /** Where it stands: 0 and 0 for one that is about to be imported, the branch point for a new branch. */
  readonly lastRecordLsn: number;
  readonly prevRecordLsn: number;
  readonly remoteConsistentLsn?: number;
  readonly gcCutoffLsn?: number;
  readonly fullPageWrites?: FullPageWrites;
}

export class Timeline {
  readonly id: TimelineId;
  readonly ancestor: Timeline | undefined;
  readonly ancestorLsn: number;
  /** Whether the log carries full-page images, as far as it told. */
  fullPageWrites: FullPageWrites | undefined;
  state: TimelineState;

  private readonly waiters: Waiters;
  private readonly reconstructor: Reconstructor;
  private readonly lists: ValueList[] = [];
  private poison: Error | undefined;
  private theWriter: Writer | undefined;

  constructor(options: TimelineOptions) {
    this.id = options.id;
    this.ancestor = options.ancestor?.timeline;
    this.ancestorLsn = options.ancestor?.lsn ?? 0;
    this.fullPageWrites = options.fullPageWrites;
    this.waiters = new Waiters(options.clock);
    this.reconstructor = new Reconstructor(options.redo);
    const { lastRecordLsn, prevRecordLsn } = options;
    this.state = {
      open: new MemoryLayer(lastRecordLsn + 1),
      frozen: [],
      lastRecordLsn,
      prevRecordLsn,
      diskConsistentLsn: lastRecordLsn,
      remoteConsistentLsn: options.remoteConsistentLsn ?? 0,
      gcCutoffLsn: options.gcCutoffLsn ?? 0,
    };
  }

  get lastRecordLsn(): number {
    return this.state.lastRecordLsn;
  }
  get prevRecordLsn(): number {
    return this.state.prevRecordLsn;
  }
  get diskConsistentLsn(): number {
    return this.state.diskConsistentLsn;
  }
  get remoteConsistentLsn(): number {
    return this.state.remoteConsistentLsn;
  }

  /** Somebody waits for WAL that is not here yet. */
  get awaited(): boolean {
    return this.waiters.count > 0;
  }

  writer(): TimelineWriter {
    this.theWriter ??= new Writer(this);
    return this.theWriter;
  }

  /** Resolves when every record up to `lsn` is in. */
  waitFor(lsn: number, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    if (this.poison) return Promise.reject(this.poison);
    if (lsn <= this.state.lastRecordLsn) return Promise.resolve();
    const late = (): Fault =>
      new Fault(
        'timeout',
        `timeline ${this.id} did not reach ${formatLsn(lsn)} in ${timeoutMs} ms: it is at ${formatLsn(this.state.lastRecordLsn)}`,
        { hint: 'The pageserver is behind the safekeepers, or the WAL up to there was never committed.' },
      );
    return this.waiters.wait(lsn, timeoutMs, late, signal);
  }

  /** The page as it stands at `lsn`: 8192 bytes of the caller's own. */
  async getPage(rel: number, blk: number, lsn: number): Promise<Uint8Array> {
    this.checkRead(lsn);
    const page = newPage();
    this.readPage(rel, blk, lsn, page);
    return page.bytes;
  }

  /** Many pages at once, in one plan; each is written to its place in `into`. */
  async getPages(requests: readonly PageRequest[]): Promise<void> {
    for (const { rel, blk, lsn, into, at } of requests) {
      this.checkRead(lsn);
      this.readPage(rel, blk, lsn, pageOver(into.subarray(at, at + BLCKSZ)));
    }
  }

  /** The newest plain bytes at or below `lsn`. */
  async getBytes(rel: number, blk: number, lsn: number): Promise<Uint8Array | undefined> {
    this.checkRead(lsn);
    return this.readBytes(rel, blk, lsn);
  }

  /** The contents of every key of `range` that has any at `lsn`, in key order. */
  async scan(range: KeyRange, lsn: number, visit: ScanVisit): Promise<void> {
    this.checkRead(lsn);
    const chains = new Map<number, ValueList>();
    this.gather(range, lsn, chains);
    const page = newPage();
    for (const packed of [...chains.keys()].sort((a, b) => a - b)) {
      const rel = Math.floor(packed / 0x1_0000_0000);
      const blk = packed % 0x1_0000_0000;
      const chain = chains.get(packed)!;
      if (!isPageKey(rel, blk)) {
        visit(rel, blk, chain.newest()!);
        continue;
      }
      this.reconstructor.page(chain, page);
      visit(rel, blk, page.bytes);
    }
  }

  /** A promise of ours is broken, or bytes that only we have are damaged: nothing more is answered. */
  fail(error: Error): void {
    this.poison ??= new Fault('timeline-poisoned', `timeline ${this.id} is stopped: ${error.message}`, {
      cause: error,
      hint: 'Restart the pageserver; the timeline is rebuilt from the object store and the safekeepers.',
    });
    this.waiters.failAll(this.poison);
  }

  // ---- for the writer ---------------------------------------------------------------------------------------

  advance(lsn: number, prev: number): void {
    const { state } = this;
    assert(lsn >= state.lastRecordLsn, 'the last record LSN never goes back');
    this.state = { ...state, lastRecordLsn: lsn, prevRecordLsn: prev };
    this.waiters.wake(lsn);
  }

  readPage(rel: number, blk: number, lsn: number, page: Page): void {
    const values = this.lists.pop() ?? new ValueList();
    values.reset(-1);
    this.collect(rel, blk, lsn, values);
    this.reconstructor.page(values, page);
    this.lists.push(values);
  }

  readBytes(rel: number, blk: number, lsn: number): Uint8Array | undefined {
    const values = this.lists.pop() ?? new ValueList();
    values.reset(-1);
    this.collect(rel, blk, lsn, values);
    const bytes = values.newest();
    this.lists.push(values);
    return bytes;
  }

  // -----------------------------------------------------------------------------------------------------------

  private checkRead(lsn: number): void {
    if (this.poison) throw this.poison;
    if (lsn > this.state.lastRecordLsn)
      throw new Violation(
        `a read at ${formatLsn(lsn)}, above the last record at ${formatLsn(this.state.lastRecordLsn)}: wait for it first`,
      );
  }

  private collect(rel: number, blk: number, lsn: number, values: ValueList): boolean {
    const { open, frozen } = this.state;
    if (open.get(rel, blk, lsn + 1, values)) return true;
    for (let i = frozen.length - 1; i >= 0; i--) if (frozen[i]!.get(rel, blk, lsn + 1, values)) return true;
    return this.ancestor?.collect(rel, blk, Math.min(lsn, this.ancestorLsn), values) ?? false;
  }

  /** Every key's chain, newest first; those of the ancestor below ours. */
  private gather(range: KeyRange, lsn: number, chains: Map<number, ValueList>): void {
    for (const layer of [this.state.open, ...this.state.frozen.toReversed()]) {
      const found = new KeyedValues();
      layer.scan(range, 0, lsn + 1, found);
      found.newestFirst(chains);
    }
    this.ancestor?.gather(range, Math.min(lsn, this.ancestorLsn), chains);
  }
}

export interface PageRequest {
  readonly rel: number;
  readonly blk: number;
  readonly lsn: number;
  readonly into: Uint8Array;
  readonly at: number;
}

/** A scan comes oldest first within a key; chains want the newest first. */
class KeyedValues implements ValueVisitor {
  private readonly keys = new Map<number, Parameters<ValueList['add']>[]>();

  visit(
    rel: number,
    blk: number,
    lsn: number,
    kind: number,
    blockId: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    const packed = packKey(rel, blk);
    let values = this.keys.get(packed);
    if (!values) this.keys.set(packed, (values = []));
    if (isBase(kind)) values.length = 0;
    values.push([lsn, kind, blockId, bytes, offset, length, false]);
  }

  newestFirst(chains: Map<number, ValueList>): void {
    for (const [packed, values] of this.keys) {
      let chain = chains.get(packed);
      if (!chain) chains.set(packed, (chain = new ValueList()));
      for (let i = values.length - 1; i >= 0 && !chain.complete; i--) chain.add(...values[i]!);
    }
  }
}

class Writer implements TimelineWriter {
  private readonly timeline: Timeline;
  private floor = 0;

  constructor(timeline: Timeline) {
    this.timeline = timeline;
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
    this.putShared(rel, blk, kind, blockId);
  }

  beginShared(lsn: number, bytes: Uint8Array, offset: number, length: number): void {
    const { state } = this.timeline;
    assert(lsn > state.lastRecordLsn && lsn >= this.floor, 'a value at or below the last record');
    this.floor = lsn;
    state.open.beginShared(lsn, bytes, offset, length);
  }

  putShared(rel: number, blk: number, kind: ValueKind, blockId: number): void {
    this.timeline.state.open.putShared(rel, blk, kind, blockId);
  }

  advance(lsn: number, prev: number): void {
    assert(lsn >= this.floor, 'an advance that leaves a value above it');
    this.timeline.advance(lsn, prev);
  }

  fullPageWrites(on: boolean, lsn: number): void {
    if (this.timeline.fullPageWrites?.on !== on) this.timeline.fullPageWrites = { on, lsn };
  }

  async getBytes(rel: number, blk: number, lsn: number): Promise<Uint8Array | undefined> {
    return this.timeline.readBytes(rel, blk, lsn);
  }

  async getPage(rel: number, blk: number, lsn: number): Promise<Uint8Array> {
    const page = newPage();
    this.timeline.readPage(rel, blk, lsn, page);
    return page.bytes;
  }

  async ready(): Promise<void> {}
}
