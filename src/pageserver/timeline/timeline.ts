// One timeline (branch) of a tenant: values go in by its one writer, pages come out at any LSN.
//
//   writer:  put, put ... advance      synchronous; a batch of records becomes visible with `advance`
//   readers: waitFor(lsn), then getPage / getPages / getBytes / scan at that LSN
//   upkeep:  freezeAndFlush, compact, gc: by themselves as the settings say, or when asked
//
// A read asks memory, then the layers, newest first, and goes on in the ancestor at min(lsn, ancestorLsn) when
// this timeline has no base for the key. A page that was never written is zeros.
//
// No read sees a value above its LSN, and no read above lastRecordLsn is answered: it would see half a record.
// (The writer alone may read what it has put and not yet advanced over: `TimelineWriter.getBytes`, `getPage`.)

import { Violation } from '../../base/assert.ts';
import { Fault } from '../../base/fault.ts';
import type { TimelineId } from '../../base/ids.ts';
import { formatLsn } from '../../base/lsn.ts';
import { BLCKSZ } from '../../xlog/page.ts';
import type { Engine } from '../engine.ts';
import type { EngineSettings } from '../engine-settings.ts';
import type { KeyRange } from '../key.ts';
import type { LayerDesc } from '../layers/layer.ts';
import { LayerMap } from '../layers/layer-map.ts';
import { MemoryLayer } from '../layers/memory-layer.ts';
import { Layer } from '../layers/open-layers.ts';
import { newOwner } from '../page-cache.ts';
import type { PageRedo } from '../reconstruct.ts';
import type { GcResult } from './collect.ts';
import { Flusher } from './flush.ts';
import { checkState, checkSuccessor } from './invariants.ts';
import { type Limit, Pressure } from './pressure.ts';
import { Reader } from './reader.ts';
import { type ScanVisit, scan } from './scan.ts';
import type { TimelineState } from './state.ts';
import type { LayerStore } from './store.ts';
import { type CompactOptions, type CompactOutcome, Upkeep } from './upkeep.ts';
import { Waiters } from './waiters.ts';
import { type TimelineWriter, Writer } from './writer.ts';

export type { ScanVisit } from './scan.ts';
export type { TimelineWriter } from './writer.ts';

export interface FullPageWrites {
  readonly on: boolean;
  /** Since when. */
  readonly lsn: number;
}

export interface PageRequest {
  readonly rel: number;
  readonly blk: number;
  readonly lsn: number;
  /** The page goes here, 8192 bytes from `at` on. */
  readonly into: Uint8Array;
  readonly at: number;
}

export interface TimelineOptions {
  readonly id: TimelineId;
  readonly engine: Engine;
  readonly redo: PageRedo;
  /** Where layers are kept; without it everything stays in memory. */
  readonly store?: LayerStore;
  /** What the index says there is. */
  readonly layers?: readonly LayerDesc[];
  readonly ancestor?: { readonly timeline: Timeline; readonly lsn: number };
  /**
   * Where it stands: the disk-consistent LSN of the index, with the start of its last record; the branch point
   * for a new branch; 0 and 0 for one that is about to be imported.
   */
  readonly lastRecordLsn: number;
  readonly prevRecordLsn: number;
  readonly remoteConsistentLsn?: number;
  readonly gcCutoffLsn?: number;
  readonly retained?: readonly number[];
  readonly fullPageWrites?: FullPageWrites;
  /** An object store follows: the writer is held back when it lags (`setRemoteConsistentLsn`). */
  readonly uploads?: boolean;
  /** Its tenant's own settings, where they differ from the process's; `settings` may be replaced later. */
  readonly settings?: EngineSettings;
}

export class Timeline {
  readonly id: TimelineId;
  readonly engine: Engine;
  settings: EngineSettings;
  readonly redo: PageRedo;
  readonly store: LayerStore | undefined;
  readonly ancestor: Timeline | undefined;
  readonly ancestorLsn: number;
  uploads: boolean;
  /** Whether the log carries full-page images, as far as it told. */
  fullPageWrites: FullPageWrites | undefined;
  state: TimelineState;
  /** Layers that did not prove right, and of which there is no other copy: upkeep goes around them. */
  readonly damaged = new Set<string>();
  /** In the page cache. */
  readonly owner = newOwner();
  readonly reader: Reader;
  readonly pressure: Pressure;
  readonly upkeep: Upkeep;

  private readonly waiters: Waiters;
  private readonly flusher: Flusher;
  private readonly theWriter: Writer;
  private poison: Fault | undefined;
  private memoryBytes = 0;

  constructor(options: TimelineOptions) {
    const { engine, store, lastRecordLsn, prevRecordLsn } = options;
    this.id = options.id;
    this.engine = engine;
    this.settings = options.settings ?? engine.settings;
    this.redo = options.redo;
    this.store = store;
    this.ancestor = options.ancestor?.timeline;
    this.ancestorLsn = options.ancestor?.lsn ?? 0;
    this.uploads = options.uploads ?? false;
    this.fullPageWrites = options.fullPageWrites;
    this.waiters = new Waiters(engine.clock);
    this.reader = new Reader(engine, options.redo);
    this.pressure = new Pressure(this);
    this.upkeep = new Upkeep(this);
    this.flusher = new Flusher(this);
    this.theWriter = new Writer(this);
    const layers = (options.layers ?? []).map(desc => new Layer(desc, d => this.storeOrThrow().open(d)));
    this.state = {
      open: new MemoryLayer(lastRecordLsn + 1, { spares: engine.spares }),
      frozen: [],
      layers: LayerMap.EMPTY.edited(layers),
      lastRecordLsn,
      prevRecordLsn,
      diskConsistentLsn: lastRecordLsn,
      diskConsistentPrev: prevRecordLsn,
      remoteConsistentLsn: options.remoteConsistentLsn ?? 0,
      gcCutoffLsn: options.gcCutoffLsn ?? 0,
      retained: options.retained ?? [],
    };
    checkState(this.state, this.ancestorLsn);
    engine.timelines.add(this);
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
  get gcCutoffLsn(): number {
    return this.state.gcCutoffLsn;
  }

  writer(): TimelineWriter {
    return this.theWriter;
  }

  // ---- reads ------------------------------------------------------------------------------------------------

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

  /** Does anybody wait for WAL that is not in? */
  get awaited(): boolean {
    return this.waiters.count > 0;
  }

  /** The page as it stands at `lsn`: 8192 bytes of the caller's own. */
  async getPage(rel: number, blk: number, lsn: number): Promise<Uint8Array> {
    this.checkRead(lsn);
    this.engine.openLayers.tick();
    const page = new Uint8Array(BLCKSZ);
    await this.reader.page(this, rel, blk, lsn, page, 0);
    return page;
  }

  /**
   * Many pages at once, each written to its place: all look-ups are planned before any is waited for. Answers
   * nothing when everything was at hand, else a promise; one that fails fails all.
   */
  getPages(requests: readonly PageRequest[]): Promise<void> | undefined {
    this.engine.openLayers.tick();
    let waiting: Promise<void>[] | undefined;
    for (let i = 0; i < requests.length; i++) {
      const { rel, blk, lsn, into, at } = requests[i]!;
      this.checkRead(lsn);
      const later = this.reader.page(this, rel, blk, lsn, into, at);
      if (later !== undefined) (waiting ??= []).push(later);
    }
    return waiting === undefined ? undefined : settle(waiting);
  }

  /** The newest plain bytes at or below `lsn`. */
  async getBytes(rel: number, blk: number, lsn: number): Promise<Uint8Array | undefined> {
    this.checkRead(lsn);
    this.engine.openLayers.tick();
    return this.reader.bytes(this, rel, blk, lsn);
  }

  /** The contents of every key of `range` that has any at `lsn`, in key order. */
  async scan(range: KeyRange, lsn: number, visit: ScanVisit): Promise<void> {
    this.checkRead(lsn);
    this.engine.openLayers.tick();
    await scan(this, range, lsn, visit);
  }

  /**
   * May reads ask for this LSN? Below the GC cutoff only retained points may; the history before a branch is its
   * parent's.
   */
  checkReadable(lsn: number): void {
    const { gcCutoffLsn, retained } = this.state;
    if (this.ancestor !== undefined && lsn < this.ancestorLsn) {
      this.ancestor.checkReadable(lsn);
      return;
    }
    if (lsn >= gcCutoffLsn || retained.includes(lsn)) return;
    throw new Fault(
      'lsn-collected',
      `timeline ${this.id} no longer has ${formatLsn(lsn)}: its history begins at ${formatLsn(gcCutoffLsn)}`,
      { hint: 'Raise pitr_interval or gc_horizon, or lease the LSN, to keep more history.' },
    );
  }

  // ---- upkeep -----------------------------------------------------------------------------------------------

  /** Everything up to the last record is in layers on disk when it resolves. */
  freezeAndFlush(): Promise<void> {
    this.storeOrThrow();
    return this.flusher.freezeAndFlush();
  }

  /** Merge level 0 if there is enough of it, image what deserves it. */
  compact(options?: CompactOptions): Promise<CompactOutcome> {
    return this.upkeep.compact(options);
  }

  /** Forget what no read at or above `cutoff`, nor at one of `retained` (branch points, leases), can need. */
  gc(cutoff: number, retained: readonly number[]): Promise<GcResult> {
    return this.upkeep.gc(cutoff, retained);
  }

  /** The object store has everything up to here, and its index says so. */
  setRemoteConsistentLsn(lsn: number): void {
    if (lsn > this.state.remoteConsistentLsn) this.change({ remoteConsistentLsn: lsn });
  }

  /** A local copy is about to be removed: close it, the next read opens it anew; false while a read works with it. */
  async forgetOpen(name: string): Promise<boolean> {
    const layer = this.state.layers.get(name);
    return layer === undefined || this.engine.openLayers.forgetIdle(layer);
  }

  /** Reads and flushes under way end; nothing new begins. What is in memory and not flushed is given up. */
  async close(): Promise<void> {
    this.stop(new Fault('shutting-down', `timeline ${this.id} is closed`));
    await Promise.all([this.upkeep.idle(), this.flusher.idle()]);
    for (const layer of this.state.layers.all()) this.engine.openLayers.retire(layer);
    this.engine.memoryBytes -= this.memoryBytes;
    this.memoryBytes = 0;
    this.engine.timelines.delete(this);
  }

  /** A promise of ours is broken, or bytes that only we have are damaged: nothing more is answered. */
  fail(error: Error): void {
    this.engine.log.error('timeline stopped', { timeline: this.id, error });
    this.stop(
      new Fault('timeline-poisoned', `timeline ${this.id} is stopped: ${error.message}`, {
        cause: error,
        hint: 'Restart the pageserver; the timeline is rebuilt from the object store and the safekeepers.',
      }),
    );
  }

  get isAlive(): boolean {
    return this.poison === undefined;
  }

  checkAlive(): void {
    if (this.poison) throw this.poison;
  }

  private stop(reason: Fault): void {
    this.poison ??= reason;
    this.waiters.failAll(this.poison);
    this.flusher.stop();
  }

  // ---- for the engine's other parts -------------------------------------------------------------------------

  /** Replace the state; what must hold of it is checked. */
  change(part: Partial<TimelineState>): void {
    const next = { ...this.state, ...part };
    checkSuccessor(this.state, next);
    this.state = next;
    this.countMemory();
  }

  advance(lsn: number, prev: number): void {
    this.change({ lastRecordLsn: lsn, prevRecordLsn: prev });
    this.waiters.wake(lsn);
    this.flusher.advanced();
  }

  /** A layer that was just written, open: reads should not wait for that when it takes the place of others. */
  async writtenLayer(desc: LayerDesc): Promise<Layer> {
    const { engine } = this;
    const store = this.storeOrThrow();
    const layer = new Layer(desc, d => store.open(d));
    await engine.openLayers
      .openWritten(layer, d => (store.openWritten ? store.openWritten(d) : store.open(d)))
      .catch(error => engine.log.debug('a new layer is opened later', { layer: desc.name, error }));
    return layer;
  }

  /** New layers in, old ones out, in one change of state. */
  replaceLayers(added: readonly Layer[], removed: readonly Layer[]): void {
    this.checkAlive();
    if (added.length === 0 && removed.length === 0) return;
    this.change({ layers: this.state.layers.edited(added, removed) });
    for (const layer of removed) this.engine.openLayers.retire(layer);
    this.storeOrThrow().changed({
      added: added.map(layer => layer.desc),
      removed: removed.map(layer => layer.desc),
    });
  }

  /**
   * An error says that a layer is damaged; its message names it. The store may have another copy, and then it is
   * worth another try; if not, upkeep goes around the layer from now on.
   */
  async mend(error: Fault): Promise<boolean> {
    for (let at: Timeline | undefined = this; at !== undefined; at = at.ancestor) {
      for (const layer of at.state.layers.all()) {
        if (!error.message.includes(layer.desc.name)) continue;
        await this.engine.openLayers.forget(layer);
        if (await at.store?.damaged?.(layer.desc, error)) return true;
        if (at.damaged.has(layer.desc.name)) continue;
        at.damaged.add(layer.desc.name);
        this.engine.log.error('a layer is damaged', { timeline: at.id, layer: layer.desc.name, error });
      }
    }
    return false;
  }

  /** Values were put that no advance covers yet. */
  get isMidway(): boolean {
    return this.theWriter.isMidway;
  }

  /** The writer waits at a limit: do what frees it. */
  relieve(limit: Limit): void {
    if (limit === 'memory') this.engine.relieveMemory();
    else if (limit === 'l0') this.upkeep.start(true);
  }

  /** Everything frozen is on disk. */
  flushed(): void {
    if (this.settings.background && this.settings.compactInBackground && this.upkeep.isLevel0Due)
      this.upkeep.start();
  }

  /** Make room: freeze what is open, and write it out. */
  flushSoon(): void {
    this.flusher.freeze();
    this.flusher.start();
  }

  storeOrThrow(): LayerStore {
    if (this.store === undefined) throw new Violation(`timeline ${this.id} has nowhere to keep layers`);
    return this.store;
  }

  private checkRead(lsn: number): void {
    if (this.poison) throw this.poison;
    if (lsn > this.state.lastRecordLsn)
      throw new Violation(
        `a read at ${formatLsn(lsn)}, above the last record at ${formatLsn(this.state.lastRecordLsn)}: wait for it first`,
      );
  }

  private countMemory(): void {
    const { open, frozen } = this.state;
    let bytes = open.bytes;
    for (let i = 0; i < frozen.length; i++) bytes += frozen[i]!.bytes;
    this.engine.memoryBytes += bytes - this.memoryBytes;
    this.memoryBytes = bytes;
  }
}

/** Wait for all, so that none fails unheard; then fail as the first that did. */
async function settle(waiting: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(waiting))
    if (result.status === 'rejected') throw result.reason;
}
