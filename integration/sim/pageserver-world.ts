// A pageserver's timelines over a simulated disk, beside the model of what they must answer (pageserver-model.ts).
// One seed, one history: values, flushes, compactions, images, GC, branches, restarts, and machines that stop in the
// middle of any of these; reads at every LSN that may be read, checked byte for byte.
//
// In place of the object store there is an index file per timeline, written after each change of layers; what it
// forgets is removed afterwards. After a crash a timeline is what its index says, and the log since is fed again.

import { expect } from 'vitest';
import { fromUtf8, utf8 } from '../../src/base/bytes.ts';
import { isFault } from '../../src/base/fault.ts';
import { timelineId } from '../../src/base/ids.ts';
import { applyEdit } from '../../src/pageserver/edit.ts';
import { ALL_KEYS, BLK_SIZE, isPageKey, REL_NAMES, REL_SIZES } from '../../src/pageserver/key.ts';
import type { LayerDesc } from '../../src/pageserver/layers/layer.ts';
import { isLayerName } from '../../src/pageserver/layers/layer-name.ts';
import { checkState } from '../../src/pageserver/timeline/invariants.ts';
import { type LayerStore, vaultStore } from '../../src/pageserver/timeline/store.ts';
import { type PageRequest, Timeline } from '../../src/pageserver/timeline/timeline.ts';
import {
  VALUE_BYTES,
  VALUE_EDIT,
  VALUE_IMAGE,
  VALUE_RECORD,
  VALUE_RECORD_INIT,
} from '../../src/pageserver/value.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import type { Vault } from '../../src/seal/vault.ts';
import { pg17 } from '../../src/xlog/dialects/17.ts';
import { SimDisk, SimStopped } from './disk.ts';
import { simEngine } from './engine.ts';
import { SimFileKeys } from './file-keys.ts';
import {
  type ModelPut,
  ModelTimeline,
  type ModelValue,
  randomOffset,
  randomPage,
  randomSlot,
  storedBytes,
} from './pageserver-model.ts';
import { SimRandom } from './random.ts';

const RELS = [1024, 1025, 1026, 1027];
const BLOCKS = 60;
const TIMELINES_MAX = 4;

interface Index {
  readonly layers: readonly LayerDesc[];
  readonly diskConsistentLsn: number;
  readonly prev: number;
  readonly gcCutoffLsn: number;
  readonly retained: readonly number[];
}

/** One timeline as it runs, and the index that a restart will find. */
class Running {
  readonly model: ModelTimeline;
  readonly vault: Vault;
  readonly timeline: Timeline;
  private last: Promise<void> = Promise.resolve();
  private readonly doomed: LayerDesc[] = [];

  constructor(world: World, model: ModelTimeline, parent: Running | undefined, index: Index) {
    this.model = model;
    this.vault = world.vaultOf(model.name);
    const store: LayerStore = vaultStore(this.vault, world.generation, ({ removed }) => {
      this.doomed.push(...removed);
      this.last = this.last.then(() => this.save());
      this.last.catch(() => undefined);
    });
    this.timeline = new Timeline({
      id: timelineId(model.name.padStart(32, '0')),
      engine: world.engine,
      redo: { dialect: pg17, applyEdit },
      store,
      layers: index.layers,
      lastRecordLsn: index.diskConsistentLsn,
      prevRecordLsn: index.prev,
      gcCutoffLsn: index.gcCutoffLsn,
      retained: index.retained,
      ...(parent ? { ancestor: { timeline: parent.timeline, lsn: model.branchLsn } } : {}),
    });
  }

  /** Layer files are durable already; the index comes after, and removals after the index. */
  async save(): Promise<void> {
    const { layers, diskConsistentLsn, diskConsistentPrev, gcCutoffLsn, retained } = this.timeline.state;
    const doomed = this.doomed.splice(0);
    const index: Index = {
      layers: [...layers.all()].map(layer => layer.desc),
      diskConsistentLsn,
      prev: diskConsistentPrev,
      gcCutoffLsn,
      retained,
    };
    await this.vault.writeFile('index', utf8(JSON.stringify(index)));
    for (const { name } of doomed) await this.vault.remove(name);
  }

  /** Every index asked for is written, every removal done. */
  saved(): Promise<void> {
    return this.last;
  }
}

export interface WorldOptions {
  readonly seed: number;
  readonly steps: number;
  readonly crashes?: boolean;
  readonly tell?: (line: string) => void;
}

/** What a run did: a run that did nothing proves nothing. */
export interface WorldReport {
  readonly counts: Record<string, number>;
}

export class World {
  engine = simEngine();
  generation = 1;
  private readonly random: SimRandom;
  private readonly disk: SimDisk;
  private readonly keys: SimFileKeys;
  private readonly options: WorldOptions;
  private readonly models: ModelTimeline[] = [];
  private made = 0;
  private running: Running[] = [];
  private readonly cutoffs = new Map<string, { cutoff: number; retained: number[] }>();
  readonly counts: Record<string, number> = {};

  constructor(options: WorldOptions) {
    this.options = options;
    this.random = new SimRandom(options.seed);
    this.disk = new SimDisk({ random: this.random.split('disk') });
    this.keys = new SimFileKeys('11'.repeat(16), this.random.split('keys'));
  }

  vaultOf(name: string): Vault {
    return openVault({
      disk: this.disk,
      directory: `timelines/${name}`,
      scope: { tenant: this.keys.tenant, timeline: name.padStart(32, '0') },
      keys: this.keys,
      random: this.random.split(`vault ${name} ${this.generation}`),
      chunkBytes: 4096,
    });
  }

  async run(): Promise<WorldReport> {
    await this.create(undefined, 0x1000);
    for (let step = 0; step < this.options.steps; step++) {
      await this.step();
      for (const { timeline } of this.running) checkState(timeline.state, timeline.ancestorLsn);
    }
    await this.readEverything();
    return { counts: this.counts };
  }

  /**
   * A history of `steps`, and then one piece of work in which the machine stops at the given change of the disk.
   * Answers whether it came to that; everything is read afterwards.
   */
  async stopWithin(what: 'flush' | 'compact' | 'images' | 'gc' | 'branch', change: number): Promise<boolean> {
    await this.create(undefined, 0x1000);
    for (let step = 0; step < this.options.steps; step++) await this.step();
    const [target] = this.running;
    const { model, timeline } = target!;
    await this.ingest(target!);
    if (what !== 'flush') await timeline.freezeAndFlush();
    const work = {
      flush: () => timeline.freezeAndFlush(),
      compact: () => timeline.compact({ forceLevel0: true }),
      images: () => timeline.compact({ forceImages: true }),
      gc: async () => {
        this.cutoffs.set(model.name, { cutoff: model.lastRecordLsn, retained: [] });
        const branches = this.models.filter(m => m.parent === model).map(m => m.branchLsn);
        await timeline.gc(model.lastRecordLsn, branches);
      },
      branch: () => this.create(target, model.lastRecordLsn),
    }[what];
    if (what === 'images') await timeline.compact({ forceLevel0: true });
    if (what === 'gc') await timeline.compact({ forceLevel0: true, forceImages: true });
    await Promise.all(this.running.map(running => running.saved()));
    this.disk.crashAt(change);
    const before = this.counts[`crash in ${what}`] ?? 0;
    try {
      await work();
      await Promise.all(this.running.map(running => running.saved()));
      this.disk.crashAt(Infinity);
    } catch (error) {
      if (!isStopped(error)) throw error;
      await this.restart(`crash in ${what}`);
    }
    for (const running of this.running) checkState(running.timeline.state, running.timeline.ancestorLsn);
    await this.readEverything();
    return (this.counts[`crash in ${what}`] ?? 0) > before;
  }

  private count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }

  private tell(line: string): void {
    this.options.tell?.(line);
  }

  // ---- steps ------------------------------------------------------------------------------------------------

  private async step(): Promise<void> {
    const { random } = this;
    const target = random.pick(this.running);
    const dice = random.below(100);
    if (dice < 45) return this.ingest(target);
    if (dice < 60) return this.mightCrash(target, 'flush', () => this.flush(target));
    if (dice < 72) return this.mightCrash(target, 'compact', () => this.compact(target));
    if (dice < 77) return this.mightCrash(target, 'gc', () => this.gc(target));
    if (dice < 80 && this.running.length < TIMELINES_MAX)
      return this.mightCrash(target, 'branch', () => this.branch(target));
    if (dice < 82) return this.restart('restart');
    if (dice < 84) return this.forget(target);
    return this.read(target);
  }

  private async ingest(target: Running): Promise<void> {
    const { random } = this;
    const { model } = target;
    const values: ModelValue[] = [];
    let lsn = model.lastRecordLsn;
    let prev = lsn;
    for (let record = 1 + random.below(6); record > 0; record--) {
      prev = lsn;
      lsn += 8 * (1 + random.below(200));
      for (let n = random.below(4); n > 0; n--) this.randomValue(model, lsn, values);
    }
    // The writer reads what it has put, before anybody else may.
    const half = values.slice(0, random.below(values.length + 1));
    for (const value of half) this.put(target, value);
    const probe = half.at(-1);
    const got =
      probe && isPageKey(probe.rel, probe.blk)
        ? await target.timeline.writer().getPage(probe.rel, probe.blk, probe.lsn)
        : undefined;
    for (const value of values.slice(half.length)) this.put(target, value);
    target.timeline.writer().advance(lsn, prev);
    model.add({ values: half, lsn: model.lastRecordLsn, prev: model.prevRecordLsn });
    if (probe && got) this.same(got, model.page(probe.rel, probe.blk, probe.lsn), `put to ${model.name}`);
    model.batches.pop();
    model.forget(half);
    model.add({ values, lsn, prev });
    this.count('batches');
    this.count('values', values.length);
  }

  private feed(target: Running, values: readonly ModelValue[], lsn: number, prev: number): void {
    for (const value of values) this.put(target, value);
    target.timeline.writer().advance(lsn, prev);
  }

  private put(target: Running, value: ModelValue): void {
    const { bytes, length } = storedBytes(value);
    const { rel, blk, lsn, put } = value;
    target.timeline.writer().put(rel, blk, lsn, put.kind, 0, bytes, 0, length);
  }

  private randomValue(model: ModelTimeline, lsn: number, values: ModelValue[]): void {
    const { random } = this;
    const rel = random.pick(RELS);
    if (random.chance(0.08)) {
      const blk = random.chance(0.2) ? BLK_SIZE : random.below(20);
      const put: ModelPut = { kind: VALUE_BYTES, bytes: random.bytes(random.below(40)) };
      values.push({ rel: REL_NAMES, blk, lsn, put });
      return;
    }
    if (random.chance(0.03)) {
      this.resize(model, rel, lsn, values);
      return;
    }
    // A few pages are written to over and over.
    const blk = random.chance(0.4) ? random.below(3) : random.below(BLOCKS);
    this.extend(model, rel, blk, lsn, values);
    values.push({ rel, blk, lsn, put: this.randomPut() });
  }

  private randomPut(): ModelPut {
    const { random } = this;
    const dice = random.below(100);
    if (dice < 8) return { kind: VALUE_IMAGE, page: randomPage(random) };
    if (dice < 16) return { kind: VALUE_RECORD_INIT, page: randomPage(random) };
    if (dice < 60) return { kind: VALUE_EDIT, slot: randomSlot(random), value: random.u32() };
    const bytes = random.bytes(1 + random.below(100));
    return { kind: VALUE_RECORD, offset: randomOffset(random, bytes.length), bytes };
  }

  private lengthOf(model: ModelTimeline, rel: number): { length: number; peak: number } {
    let known = model.lengths.get(rel);
    if (!known) {
      const at = model.lengthAt(rel, model.lastRecordLsn);
      known = at === Infinity ? { length: 0, peak: 0 } : { length: at, peak: BLOCKS };
      model.lengths.set(rel, known);
    }
    return known;
  }

  /** As ingest does: what a fork held before it was cut is put down as zeros before it grows over it again. */
  private extend(model: ModelTimeline, rel: number, blk: number, lsn: number, values: ModelValue[]): void {
    const known = this.lengthOf(model, rel);
    if (blk < known.length) return;
    for (let zero = known.length; zero <= blk && zero < known.peak; zero++) {
      values.push({ rel, blk: zero, lsn, put: { kind: VALUE_IMAGE, page: new Uint8Array(8192) } });
    }
    known.length = blk + 1;
    known.peak = Math.max(known.peak, known.length);
    this.putLength(rel, known, lsn, values);
  }

  private resize(model: ModelTimeline, rel: number, lsn: number, values: ModelValue[]): void {
    const known = this.lengthOf(model, rel);
    known.length = this.random.chance(0.3) ? 0 : this.random.below(known.length + 1);
    this.putLength(rel, known, lsn, values);
  }

  private putLength(
    rel: number,
    known: { length: number; peak: number },
    lsn: number,
    values: ModelValue[],
  ): void {
    const bytes = new Uint8Array(known.length === 0 ? 0 : 8);
    if (bytes.length > 0) {
      new DataView(bytes.buffer).setUint32(0, known.length, true);
      new DataView(bytes.buffer).setUint32(4, known.peak, true);
    }
    values.push({ rel: REL_SIZES, blk: rel, lsn, put: { kind: VALUE_BYTES, bytes } });
  }

  /** Reads that begin in memory go on while what they read there goes to the disk. */
  private async flush(target: Running): Promise<void> {
    const { random } = this;
    const lsn = target.model.lastRecordLsn;
    const reads = [this.read(target), this.read(random.pick(this.running))];
    if (random.chance(0.3)) reads.push(this.readAll(target, lsn));
    await Promise.all([...reads, target.timeline.freezeAndFlush()]);
  }

  private async compact(target: Running): Promise<void> {
    const { random } = this;
    const options = { forceLevel0: random.chance(0.3), forceImages: random.chance(0.15) };
    // Reads go on meanwhile.
    const work = target.timeline.compact(options);
    await Promise.all([work, this.read(target), this.read(random.pick(this.running))]);
    const { merged, hotPages, denseLayers } = await work;
    this.count('merged', merged);
    this.count('hotPages', hotPages);
    this.count('denseLayers', denseLayers);
  }

  private async gc(target: Running): Promise<void> {
    const { random } = this;
    const { model, timeline } = target;
    const known = this.cutoffs.get(model.name) ?? { cutoff: 0, retained: [] };
    const cutoff = Math.max(known.cutoff, random.pick(model.boundaries()));
    const leases = known.retained.filter(() => random.chance(0.8));
    if (random.chance(0.5) && this.isReadable(model, cutoff)) leases.push(cutoff);
    const branches = this.models.filter(m => m.parent === model).map(m => m.branchLsn);
    const retained = [...leases, ...branches];
    // From here on nobody may count on more.
    this.cutoffs.set(model.name, { cutoff, retained });
    const result = await timeline.gc(cutoff, retained);
    this.count('collected', result.removed.length);
  }

  private async branch(target: Running): Promise<void> {
    const { model } = target;
    const choices = model.boundaries().filter(lsn => this.isReadable(model, lsn) && lsn >= model.branchLsn);
    if (choices.length === 0) return;
    await this.create(target, this.random.pick(choices));
    this.count('branches');
  }

  private async create(parent: Running | undefined, lsn: number): Promise<void> {
    const name = `a${this.made++}`;
    const prev = parent?.model.prevAt(lsn) ?? 0;
    const model = new ModelTimeline(name, parent?.model, lsn, prev);
    this.models.push(model);
    const index: Index = { layers: [], diskConsistentLsn: lsn, prev, gcCutoffLsn: 0, retained: [] };
    const running = new Running(this, model, parent, index);
    this.running.push(running);
    await running.save();
  }

  /** The machine may stop anywhere in `work`. */
  private async mightCrash(target: Running, what: string, work: () => Promise<unknown>): Promise<void> {
    const crashes = (this.options.crashes ?? true) && this.random.chance(0.25);
    if (crashes) this.disk.crashAt(1 + this.random.below(25));
    try {
      await work();
      await Promise.all(this.running.map(running => running.saved()));
      this.disk.crashAt(Infinity);
      this.count(what);
      this.tell(`${what} ${target.model.name}`);
    } catch (error) {
      if (!isStopped(error)) throw error;
      await this.restart(`crash in ${what}`);
    }
  }

  private async restart(why: string): Promise<void> {
    this.tell(why);
    this.count(why);
    this.disk.crash();
    this.generation++;
    this.engine = simEngine({ random: this.random.split(`engine ${this.generation}`) });
    this.running = [];
    for (const model of [...this.models]) await this.reopen(model);
  }

  private async reopen(model: ModelTimeline): Promise<void> {
    const vault = this.vaultOf(model.name);
    let index: Index;
    try {
      index = JSON.parse(fromUtf8(await vault.readFile('index'))) as Index;
    } catch (error) {
      // A branch that the machine stopped in the middle of making.
      if (!isFault(error, 'file-missing')) throw error;
      this.models.splice(this.models.indexOf(model), 1);
      return;
    }
    await vault.sweep();
    const named = new Set(index.layers.map(layer => layer.name));
    const there = (await vault.list()).filter(isLayerName);
    for (const name of there) if (!named.has(name)) await vault.remove(name);
    for (const name of named) expect(there, 'the index names a layer that is not there').toContain(name);
    const parent = this.running.find(running => running.model === model.parent);
    const running = new Running(this, model, parent, index);
    this.running.push(running);
    for (const { values, lsn, prev } of model.batches) {
      if (lsn > index.diskConsistentLsn) this.feed(running, values, lsn, prev);
    }
    expect(running.timeline.lastRecordLsn).toBe(model.lastRecordLsn);
    expect(running.timeline.prevRecordLsn).toBe(model.prevRecordLsn);
  }

  private async forget(target: Running): Promise<void> {
    for (const layer of target.timeline.state.layers.all()) {
      if (this.random.chance(0.5)) await target.timeline.forgetOpen(layer.desc.name);
    }
    this.count('forgotten');
  }

  // ---- reads ------------------------------------------------------------------------------------------------

  private isReadable(model: ModelTimeline, lsn: number): boolean {
    if (model.parent && lsn < model.branchLsn) return this.isReadable(model.parent, lsn);
    const known = this.cutoffs.get(model.name);
    return known === undefined || lsn >= known.cutoff || known.retained.includes(lsn);
  }

  /** Some pages and bytes at one LSN. */
  private async read(target: Running): Promise<void> {
    const { random } = this;
    const { model, timeline } = target;
    const choices = model.boundaries().filter(lsn => this.isReadable(model, lsn));
    const lsn = random.chance(0.4) ? model.lastRecordLsn : random.pick(choices);
    timeline.checkReadable(lsn);
    if (random.chance(0.15)) return this.readAll(target, lsn);
    const rel = random.pick(RELS);
    const length = Math.min(model.lengthAt(rel, lsn), BLOCKS);
    if (length === 0) return;
    const blocks = Array.from({ length: 1 + random.below(12) }, () => random.below(length));
    const wanted = blocks.map(blk => model.page(rel, blk, lsn));
    const into = new Uint8Array(blocks.length * 8192);
    const requests = blocks.map((blk, i): PageRequest => ({ rel, blk, lsn, into, at: i * 8192 }));
    await timeline.getPages(requests);
    blocks.forEach((blk, i) => {
      this.same(into.subarray(i * 8192, (i + 1) * 8192), wanted[i]!, `${model.name} ${rel}/${blk} at ${lsn}`);
    });
    this.count('pages', blocks.length);
  }

  private same(got: Uint8Array, wanted: Uint8Array, what: string): void {
    if (Buffer.compare(got, wanted) === 0) return;
    const at = got.findIndex((byte, i) => byte !== wanted[i]);
    throw new Error(`${what}: byte ${at} of the page is ${got[at]}, not ${wanted[at]}`);
  }

  /** Every key at one LSN, by scan and by look-up. */
  private async readAll({ model, timeline }: Running, lsn: number): Promise<void> {
    const isLive = (rel: number, blk: number): boolean =>
      !isPageKey(rel, blk) || blk < model.lengthAt(rel, lsn);
    const keys = model.keysAt(lsn).filter(({ rel, blk }) => isLive(rel, blk));
    const seen: { rel: number; blk: number }[] = [];
    const wanted = keys.map(({ rel, blk }) =>
      isPageKey(rel, blk) ? model.page(rel, blk, lsn) : model.bytes(rel, blk, lsn)!,
    );
    await timeline.scan(ALL_KEYS, lsn, (rel, blk, bytes) => {
      if (!isLive(rel, blk)) return;
      const want = wanted[seen.length];
      expect({ rel, blk }, `scan of ${model.name} at ${lsn}`).toEqual(keys[seen.length]);
      this.same(bytes, want!, `scan of ${model.name} ${rel}/${blk} at ${lsn}`);
      seen.push({ rel, blk });
    });
    expect(seen.length).toBe(keys.length);
    for (let i = 0; i < keys.length; i++) {
      const { rel, blk } = keys[i]!;
      const got = isPageKey(rel, blk)
        ? await timeline.getPage(rel, blk, lsn)
        : await timeline.getBytes(rel, blk, lsn);
      this.same(got!, wanted[i]!, `${model.name} ${rel}/${blk} at ${lsn}`);
    }
    this.count('scans');
  }

  private async readEverything(): Promise<void> {
    for (const running of this.running) {
      const { model } = running;
      const lsns = model.boundaries().filter(lsn => this.isReadable(model, lsn));
      for (const lsn of lsns.filter((_, i) => i % Math.ceil(lsns.length / 10) === 0)) {
        await this.readAll(running, lsn);
      }
    }
  }
}

function isStopped(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) if (e instanceof SimStopped) return true;
  return false;
}
