// A tenant on several pageservers, in simulated time: nodes that stop in the middle of anything and come back with
// their disk or without, a control plane that moves the tenant and hands out generations, an object store that fails,
// loses answers, lists late and carries out puts late; and the model of what every page must be (pageserver-model.ts).
//
// WAL comes as from safekeepers: what was not told to be remote-consistent is fed again after every attachment. So a
// node may lose whatever it likes, but not what it told them is safe; and a timeline whose creation or deletion was
// answered is there, or is not, whoever has the tenant next.
//
// A node that was replaced goes on for a while as if it had not heard: nothing it does may be seen by the others.

import { expect } from 'vitest';
import { type Fault, isFault } from '../../src/base/fault.ts';
import { type TimelineId, timelineId } from '../../src/base/ids.ts';
import type { Disk } from '../../src/base/ports.ts';
import { detachAncestor } from '../../src/pageserver/detach-ancestor.ts';
import { evictLayer } from '../../src/pageserver/eviction.ts';
import type { Ingest } from '../../src/pageserver/ingest.ts';
import { BLK_SIZE, REL_NAMES, REL_SIZES } from '../../src/pageserver/key.ts';
import type { LocationConf } from '../../src/pageserver/location.ts';
import type { Tenant } from '../../src/pageserver/tenant.ts';
import { collectTimeline } from '../../src/pageserver/tenant-gc.ts';
import type { TenantTimeline } from '../../src/pageserver/tenant-timeline.ts';
import type { Tenants } from '../../src/pageserver/tenants.ts';
import { checkState } from '../../src/pageserver/timeline/invariants.ts';
import { setArchived } from '../../src/pageserver/timeline-archive.ts';
import { branchTimeline, makeCluster } from '../../src/pageserver/timeline-create.ts';
import { deleteTimeline } from '../../src/pageserver/timeline-delete.ts';
import type { ControlPlane } from '../../src/pageserver/upcalls.ts';
import { VALUE_BYTES, VALUE_EDIT, VALUE_IMAGE } from '../../src/pageserver/value.ts';
import { SimBlobs } from './blobs.ts';
import { SimClock } from './clock.ts';
import { SimDisk, SimStopped } from './disk.ts';
import { SMALL_ENGINE } from './engine.ts';
import {
  type ModelPut,
  ModelTimeline,
  type ModelValue,
  randomPage,
  randomSlot,
  storedBytes,
} from './pageserver-model.ts';
import { pageserverNode, WorldKeys } from './pageserver-node.ts';
import { SimRandom } from './random.ts';
import { AT, LateBlobs, MortalBlobs, TENANT } from './remote-world.ts';

const RELS = [1024, 1025, 1026];
const BLOCKS = 24;
const TIMELINES_MAX = 6;

/** A process: it may die, and is then never heard of again. */
interface Node {
  readonly tenants: Tenants;
  readonly disk: SimDisk;
  readonly blobs: MortalBlobs;
  /** Whatever of it still runs reaches nothing any more. */
  isOver: boolean;
}

/** The disk as one process reaches it: another one may have it later. */
function diskOf(disk: SimDisk, isOver: () => boolean): Disk {
  return new Proxy<Disk>(disk, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        if (isOver()) return Promise.reject(new SimStopped('the process is dead'));
        return Reflect.apply(value, target, args);
      };
    },
  });
}

interface Known {
  readonly id: TimelineId;
  readonly model: ModelTimeline;
  /** What safekeepers were told, at most: they keep no WAL before it. */
  told: number;
  /** Asked for, and not answered: there or not, as the store has it. */
  unsure: boolean;
}

export interface TenantsWorldOptions {
  readonly seed: number;
  readonly steps: number;
  readonly tell?: (line: string) => void;
}

export class TenantsWorld {
  readonly clock = new SimClock();
  readonly store: SimBlobs;
  readonly blobs: LateBlobs;
  readonly counts: Record<string, number> = {};
  private readonly options: TenantsWorldOptions;
  private readonly random: SimRandom;
  private readonly keys: WorldKeys;
  private readonly known = new Map<TimelineId, Known>();
  private node!: Node;
  private ghosts: Node[] = [];
  private generation = 0;
  private made = 0;

  constructor(options: TenantsWorldOptions) {
    this.options = options;
    this.random = new SimRandom(options.seed);
    this.keys = new WorldKeys(options.seed);
    this.store = new SimBlobs({ random: this.random.split('blobs'), clock: this.clock, latencyMs: 20 });
    this.store.failure = 20;
    this.store.lostAnswer = 20;
    this.store.lateListMs = 3000;
    this.blobs = new LateBlobs(this.store, this.clock, this.random.split('late'));
    this.blobs.late = 20;
  }

  private count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  private tell(line: string): void {
    this.options.tell?.(`${this.clock.monotonic().toFixed(0)} ${line}`);
  }

  async run(): Promise<void> {
    this.node = this.newNode(this.newDisk());
    await this.attach();
    await this.makeRoot();
    for (let step = 0; step < this.options.steps; step++) {
      await this.step();
      for (const { timeline } of this.tenant.timelines.values())
        checkState(timeline.state, timeline.ancestorLsn);
    }
    await this.finish();
  }

  private get tenant(): Tenant {
    return this.node.tenants.get(AT);
  }

  private newDisk(): SimDisk {
    return new SimDisk({ random: this.random.split(`disk ${this.made++}`) });
  }

  private newNode(disk: SimDisk): Node {
    const blobs = new MortalBlobs(this.blobs);
    const node = { disk, blobs, isOver: false } as Node;
    const { clock } = this;
    const controlPlane: ControlPlane = {
      standsAlone: false,
      reAttach: async () => [],
      validate: async claims => claims.map(({ generation }) => generation === this.generation),
    };
    const tenants = pageserverNode(
      { blobs, clock, seed: this.options.seed * 1000 + this.made++ },
      {
        keys: this.keys,
        disk: diskOf(disk, () => node.isOver),
        controlPlane,
        ripeMs: 6000,
        settings: { ...SMALL_ENGINE, background: false },
        tenantDefaults: { pitr_interval: 0, gc_horizon: 2000, lsn_lease_length: 0 },
      },
    );
    return Object.assign(node, { tenants });
  }

  /** Lets time pass until the work is over or the node is dead; undefined when it died. */
  private async drive<T>(work: Promise<T>): Promise<{ value: T } | undefined> {
    let settled: { value: T } | { error: unknown } | undefined;
    work.then(
      value => (settled = { value }),
      error => (settled = { error }),
    );
    const isOver = (): boolean => settled !== undefined || this.isDead();
    await this.clock.run(this.clock.monotonic() + 3_600_000, isOver);
    if (settled && 'value' in settled) return settled;
    if (this.isDead()) return undefined;
    if (!settled) throw new Error('nothing moves any more, and the work is not over');
    if (isStopped(settled.error)) return undefined;
    throw settled.error;
  }

  private isDead(): boolean {
    return this.node.blobs.isDead || this.node.disk.isStopped;
  }

  private async pass(ms: number): Promise<void> {
    this.clock.at(ms, () => undefined);
    await this.clock.run(this.clock.monotonic() + ms);
  }

  // -------------------------------------------------------------------------------------------------- attaching

  private conf(): LocationConf {
    return {
      mode: 'AttachedSingle',
      generation: this.generation,
      warm: false,
      stripeSize: 2048,
      overrides: {},
    };
  }

  /** The tenant on this node, under a new generation, with all the WAL that safekeepers have. */
  private async attach(): Promise<void> {
    this.generation++;
    await this.drive(this.node.tenants.upsert(AT, this.conf()));
    await this.drive(this.tenant.ready);
    expect(this.tenant.phase).toBe('Active');
    expect([...this.tenant.damaged].map(([, fault]) => fault.message)).toEqual([]);
    const there = this.tenant.timelines;
    for (const [id, known] of this.known) {
      if (known.unsure && !there.has(id)) this.known.delete(id);
      known.unsure = false;
    }
    const loaded = [...there.keys(), ...this.tenant.offloaded.keys()].sort();
    expect(loaded, 'what was answered is there, and nothing else').toEqual([...this.known.keys()].sort());
    for (const timeline of there.values()) this.catchUp(timeline);
    await this.drive(Promise.all([...there.keys()].map(id => this.tenant.activeTimeline(id, 60_000))));
    this.count('attach');
  }

  /** What safekeepers send: everything after what they were told is safe. */
  private catchUp(timeline: TenantTimeline): void {
    const { model, told } = this.known.get(timeline.id)!;
    const from = timeline.timeline.lastRecordLsn;
    expect(from, `${model.name}: what safekeepers were told is in the store`).toBeGreaterThanOrEqual(told);
    for (const { values, lsn, prev } of model.batches) if (lsn > from) feed(timeline, values, lsn, prev);
    expect(timeline.timeline.lastRecordLsn).toBe(model.lastRecordLsn);
  }

  private noteTold(): void {
    for (const known of this.known.values()) {
      const timeline = this.tenant.timelines.get(known.id);
      if (timeline) known.told = Math.max(known.told, timeline.visibleRemoteConsistentLsn);
    }
  }

  // ------------------------------------------------------------------------------------------------------ steps

  private async step(): Promise<void> {
    const { random } = this;
    const timelines = [...this.tenant.timelines.values()].filter(t => t.phase === 'Active' && !t.isArchived);
    if (timelines.length === 0) return this.move('nothing is left here', true);
    const target = random.pick(timelines);
    const dice = random.below(100);
    if (dice < 40) this.ingest(target);
    else if (dice < 50) await this.mortally('flush', () => target.timeline.freezeAndFlush());
    else if (dice < 58) await this.mortally('upload', () => target.flushAndUpload(600_000));
    else if (dice < 64) await this.mortally('compact', () => this.compact(target));
    else if (dice < 68) await this.mortally('gc', () => collectTimeline(this.tenant, target));
    else if (dice < 73) await this.branch(target);
    else if (dice < 75) await this.delete(target);
    else if (dice < 77) await this.detach(target);
    else if (dice < 79) await this.archive(target);
    else if (dice < 81) await this.evict(target);
    else if (dice < 83) await this.move('moved', false);
    else if (dice < 85) await this.move('restarted with its disk', true);
    else if (dice < 88) await this.ghostActs();
    else await this.read(target);
    this.noteTold();
    await this.pass(random.below(3000));
    this.noteTold();
  }

  private async mortally(what: string, work: () => Promise<unknown>): Promise<boolean> {
    const { random } = this;
    if (random.chance(0.25)) {
      if (random.chance(0.5)) this.node.disk.crashAt(1 + random.below(30));
      else this.node.blobs.diesAt = this.node.blobs.calls + 1 + random.below(12);
      this.node.blobs.happened = random.chance(0.5);
    }
    this.tell(what);
    let done: unknown;
    try {
      done = await this.drive(work());
    } catch (error) {
      if (!isRefused(error)) throw error;
      done = 'refused';
      this.count(`${what} refused`);
      this.tell(`refused: ${error.message}`);
    }
    // What it set off may still meet the end that was dealt.
    if (!this.isDead()) await this.pass(random.below(500));
    if (this.isDead()) {
      await this.move(`died in ${what}`, random.chance(0.5));
      return false;
    }
    this.node.disk.crashAt(Infinity);
    this.node.blobs.diesAt = Infinity;
    this.count(what);
    return done !== undefined && done !== 'refused';
  }

  /** Another process, with the disk of this one or an empty one. */
  private async move(why: string, sameDisk: boolean): Promise<void> {
    this.tell(why);
    this.count(sameDisk ? 'same disk' : 'new disk');
    const old = this.node;
    if (sameDisk || this.isDead()) {
      old.isOver = true;
      old.blobs.diesAt = 0;
      old.disk.crash();
    } else this.ghosts.push(old);
    this.node = this.newNode(sameDisk ? old.disk : this.newDisk());
    await this.attach();
  }

  /** A node that was replaced and has not heard of it. */
  private async ghostActs(): Promise<void> {
    const ghost = this.ghosts.at(-1);
    if (!ghost) return;
    const [timeline] = ghost.tenants.timelines();
    if (timeline?.phase !== 'Active') return;
    // The log is one and the same for all who follow it.
    const known = this.known.get(timeline.id);
    for (const { values, lsn, prev } of known?.model.batches ?? []) {
      if (lsn > timeline.timeline.lastRecordLsn) feed(timeline, values, lsn, prev);
    }
    await this.drive(
      timeline
        .flushAndUpload(60_000)
        .then(() => timeline.timeline.compact({ forceLevel0: true }))
        .catch(error => {
          if (!isFault(error)) throw error;
        }),
    );
    this.count('ghost');
  }

  // ---------------------------------------------------------------------------------------------------- writing

  private async makeRoot(): Promise<void> {
    const id = this.newId();
    const model = new ModelTimeline('root', undefined, 0, 0);
    const lsn = 0x1000;
    model.add({ values: this.randomValues(lsn), lsn, prev: 0 });
    this.known.set(id, { id, model, told: 0, unsure: true });
    const cluster = { id, pgVersion: 17, flavour: 'neon' as const };
    await this.drive(
      makeCluster(this.tenant, cluster, async timeline => {
        for (const batch of model.batches) feed(timeline, batch.values, batch.lsn, batch.prev);
        return {
          startLsn: 0 as never,
          endLsn: lsn as never,
          systemIdentifier: 1n,
          segmentSize: 0,
          ingest: {} as Ingest,
        };
      }),
    );
    this.known.get(id)!.unsure = false;
  }

  private newId(): TimelineId {
    return timelineId((++this.made).toString(16).padStart(32, '0'));
  }

  private ingest(target: TenantTimeline): void {
    const { random } = this;
    const { model } = this.known.get(target.id)!;
    for (let batches = 1 + random.below(3); batches > 0; batches--) {
      const prev = model.lastRecordLsn;
      const lsn = prev + 8 * (1 + random.below(100));
      const values = this.randomValues(lsn);
      model.add({ values, lsn, prev });
      feed(target, values, lsn, prev);
    }
    this.count('ingest');
  }

  private randomValues(lsn: number): ModelValue[] {
    const { random } = this;
    return Array.from({ length: random.below(6) }, (): ModelValue => {
      if (random.chance(0.1)) {
        const put: ModelPut = { kind: VALUE_BYTES, bytes: random.bytes(1 + random.below(40)) };
        return { rel: REL_NAMES, blk: random.chance(0.2) ? BLK_SIZE : random.below(10), lsn, put };
      }
      const put: ModelPut = random.chance(0.2)
        ? { kind: VALUE_IMAGE, page: randomPage(random) }
        : { kind: VALUE_EDIT, slot: randomSlot(random), value: random.u32() };
      return { rel: random.pick(RELS), blk: random.below(BLOCKS), lsn, put };
    }).concat(RELS.map(rel => lengthOf(rel, lsn)));
  }

  // --------------------------------------------------------------------------------------------------- timelines

  private async compact(target: TenantTimeline): Promise<void> {
    const { random } = this;
    await target.timeline.compact({ forceLevel0: random.chance(0.5), forceImages: random.chance(0.3) });
  }

  private async branch(target: TenantTimeline): Promise<void> {
    if (this.known.size >= TIMELINES_MAX) return;
    const { model } = this.known.get(target.id)!;
    const lowest = Math.max(target.plannedCutoffLsn, target.index.ancestor?.lsn ?? 0);
    const choices = model.boundaries().filter(lsn => lsn >= lowest);
    const lsn = this.random.pick(choices);
    const id = this.newId();
    const child = new ModelTimeline(id.slice(-4), model, lsn, model.prevAt(lsn));
    this.known.set(id, { id, model: child, told: 0, unsure: true });
    const made = await this.mortally('branch', () =>
      branchTimeline(this.tenant, { id, ancestor: target.id, lsn }),
    );
    const known = this.known.get(id);
    if (made && known) known.unsure = false;
    else if (known && !this.tenant.timelines.has(id)) this.known.delete(id);
  }

  private async delete(target: TenantTimeline): Promise<void> {
    if (this.known.size < 3) return;
    const known = this.known.get(target.id)!;
    known.unsure = true;
    const done = await this.mortally('delete', () => deleteTimeline(this.tenant, target.id));
    if (done) this.known.delete(target.id);
    else if (this.known.has(target.id)) known.unsure = false;
  }

  private async detach(target: TenantTimeline): Promise<void> {
    const behavior = this.random.chance(0.5) ? 'v1' : 'v2';
    this.tell(`${behavior} of ${target.id.slice(-4)}`);
    await this.mortally('detach', async () => {
      await detachAncestor(this.node.tenants, this.tenant, target.id, behavior);
    });
    // The tenant was loaded anew: what was only in memory comes again.
    await this.drive(this.tenant.ready);
    for (const timeline of this.tenant.timelines.values()) this.catchUp(timeline);
  }

  private async archive(target: TenantTimeline): Promise<void> {
    if (!(await this.mortally('archive', () => setArchived(this.tenant, target.id, true)))) return;
    await this.mortally('unarchive', () => setArchived(this.tenant, target.id, false));
  }

  private async evict(target: TenantTimeline): Promise<void> {
    for (const layer of [...target.timeline.state.layers.all()]) {
      if (this.random.chance(0.6)) await this.drive(evictLayer(target, layer.desc.name));
    }
    this.count('evict');
  }

  // ------------------------------------------------------------------------------------------------------- reads

  /** Any LSN from the cutoff on, of the timeline or of the ancestor whose history it is, and branch points. */
  private isReadable(timeline: TenantTimeline, lsn: number): boolean {
    const branchLsn = timeline.index.ancestor?.lsn ?? 0;
    if (timeline.ancestor && lsn < branchLsn) return this.isReadable(timeline.ancestor, lsn);
    return lsn >= timeline.timeline.gcCutoffLsn || this.tenant.branchPoints(timeline.id).includes(lsn);
  }

  private async read(target: TenantTimeline): Promise<void> {
    const { random } = this;
    const { model } = this.known.get(target.id)!;
    const choices = model.boundaries().filter(lsn => lsn > 0 && this.isReadable(target, lsn));
    const lsn = random.chance(0.4) ? model.lastRecordLsn : random.pick(choices);
    await this.check(target, lsn, 8);
    this.count('read');
  }

  private async check(target: TenantTimeline, lsn: number, pages: number): Promise<void> {
    const { random } = this;
    const { model } = this.known.get(target.id)!;
    for (let i = 0; i < pages; i++) {
      const rel = random.pick(RELS);
      const blk = random.below(BLOCKS);
      const got = await this.drive(target.timeline.getPage(rel, blk, lsn));
      const where = `seed ${this.options.seed}: ${model.name} ${rel}/${blk} at ${lsn}`;
      expect(got && Buffer.compare(got.value, model.page(rel, blk, lsn)), where).toBe(0);
    }
    const blk = random.below(10);
    const bytes = await this.drive(target.timeline.getBytes(REL_NAMES, blk, lsn));
    expect(bytes?.value ?? undefined).toEqual(model.bytes(REL_NAMES, blk, lsn));
  }

  /** All is uploaded; a machine without anything serves all of it; only what is named is left in the store. */
  private async finish(): Promise<void> {
    for (const timeline of this.tenant.timelines.values())
      await this.drive(timeline.flushAndUpload(3_600_000));
    await this.pass(120_000);
    await this.move('the last one', false);
    for (const timeline of this.tenant.timelines.values()) {
      const { model } = this.known.get(timeline.id)!;
      for (const lsn of model.boundaries().filter(lsn => lsn > 0 && this.isReadable(timeline, lsn))) {
        await this.check(timeline, lsn, 3);
      }
      for (const [name] of timeline.index.layers) {
        expect(this.store.objects.has(timeline.remote.cache.keyOf(name, AT.shard)), name).toBe(true);
      }
    }
    expect(TENANT).toBe(AT.tenant);
  }
}

function feed(timeline: TenantTimeline, values: readonly ModelValue[], lsn: number, prev: number): void {
  const writer = timeline.timeline.writer();
  for (const value of values) {
    const { bytes, length } = storedBytes(value);
    writer.put(value.rel, value.blk, lsn, value.put.kind, 0, bytes, 0, length);
  }
  writer.advance(lsn, prev);
}

/** Every fork has all of its blocks, always: this world is not about lengths. */
function lengthOf(rel: number, lsn: number): ModelValue {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, BLOCKS, true);
  new DataView(bytes.buffer).setUint32(4, BLOCKS, true);
  return { rel: REL_SIZES, blk: rel, lsn, put: { kind: VALUE_BYTES, bytes } };
}

const isStopped = (error: unknown): boolean =>
  error instanceof SimStopped ||
  (error instanceof Error && error.cause !== undefined && isStopped(error.cause)) ||
  (error instanceof Error && /machine|process (is dead|died)/.test(error.message));

/** A request that makes no sense just now, and says so. */
const isRefused = (error: unknown): error is Fault =>
  isFault(error) && ['conflict', 'invalid', 'unavailable', 'missing'].includes(error.kind);
