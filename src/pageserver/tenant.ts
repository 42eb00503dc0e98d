// One attached tenant shard: its timelines, its manifest, its settings.
//
//   Attaching ──► Active ──► Stopping            Broken: what the store holds cannot be read, and waiting does not help
//
// Attaching reads the manifest and each timeline's index from the object store, nothing else: local files are a cache
// that may be gone. It is tried until it succeeds. A timeline that cannot be read harms no other but its children.
//
// A child reads through to its parent, so it is active only once its parent has the WAL up to the branch point.
//
// Answers to TenantShard of pageserver/src/tenant.rs.

import { Fault, isFault } from '../base/fault.ts';
import { Semaphore } from '../base/flow.ts';
import type { TimelineId } from '../base/ids.ts';
import type { Log } from '../base/ports.ts';
import type { Vault } from '../seal/vault.ts';
import { type LocationConf, permissionsOf, shardIdentity } from './location.ts';
import type { NodeDeps } from './node.ts';
import { findIndex, findManifest } from './remote/find.ts';
import type { IndexPart } from './remote/index-part.ts';
import { emptyManifest, encodeManifest, type Manifest, type Offloaded } from './remote/manifest.ts';
import {
  manifestName,
  shardText,
  type TenantShard,
  tenantDirectory,
  timelineDirectory,
  timelinesDirectory,
} from './remote/paths.ts';
import { mayPassInTime, retrying, unlessAborted } from './remote/retry.ts';
import type { Permissions } from './remote/upload-queue.ts';
import type { ShardIdentity } from './shard.ts';
import { effectiveSettings, type TenantSettings } from './tenant-config.ts';
import { TenantTimeline, type TimelineHome } from './tenant-timeline.ts';
import { resumeDeletion } from './timeline-delete.ts';

export type TenantPhase = 'Attaching' | 'Active' | 'Stopping' | 'Broken';

/** Indexes read at once while attaching. */
const READS_AT_ONCE = 16;
/** How long a parent may take to have the WAL that a child was branched at. */
const PARENT_WAIT_MS = 24 * 3600 * 1000;

/** What attaching found of one timeline. */
interface FoundTimeline {
  readonly id: TimelineId;
  readonly index: IndexPart;
}

export class Tenant implements TimelineHome {
  readonly deps: NodeDeps;
  readonly at: TenantShard;
  readonly log: Log;
  readonly vault: Vault;
  readonly timelines = new Map<TimelineId, TenantTimeline>();
  readonly offloaded = new Map<TimelineId, Offloaded>();
  /** Timelines that cannot be used, and why. */
  readonly damaged = new Map<TimelineId, Fault>();
  /** Timelines being made: where they branch off is kept for them already. */
  readonly making = new Map<
    TimelineId,
    { readonly ancestor: TimelineId | undefined; readonly lsn: number }
  >();
  /** Timelines being deleted, until nothing of them is left. */
  readonly deleting = new Map<TimelineId, Promise<void>>();
  conf: LocationConf;
  phase: TenantPhase = 'Attaching';
  brokenBy = '';
  readonly attachedMs: number;
  /** Resolves when it is active; rejects when it is stopped before that, or broken. */
  readonly ready: Promise<void>;
  /** One operation that changes which timelines there are and how they hang together. */
  readonly structure = new Semaphore(1);
  private manifest: Manifest;
  private readonly writing = new Semaphore(1);
  private readonly stopping = new AbortController();
  private readonly changed: (() => void)[] = [];

  constructor(deps: NodeDeps, at: TenantShard, conf: LocationConf) {
    this.deps = deps;
    this.at = at;
    this.conf = conf;
    this.log = deps.log.with({ tenant: shardText(at) });
    this.vault = deps.vault(tenantDirectory(at), { tenant: at.tenant });
    this.manifest = emptyManifest(conf.stripeSize);
    this.attachedMs = deps.clock.now();
    this.ready = this.attach();
    this.ready.catch(() => undefined);
  }

  // ------------------------------------------------------------------------------------------------- what it is

  get id(): string {
    return shardText(this.at);
  }
  get shard(): ShardIdentity {
    return shardIdentity(this.at, this.conf);
  }
  get generation(): number {
    return this.conf.generation;
  }
  get settings(): TenantSettings {
    return effectiveSettings(this.deps.tenantDefaults, this.conf.overrides);
  }
  get permissions(): Permissions {
    return permissionsOf(this.conf.mode);
  }
  get signal(): AbortSignal {
    return this.stopping.signal;
  }

  /** The timeline, or the Fault that says why not. */
  timeline(id: TimelineId): TenantTimeline {
    const timeline = this.timelines.get(id);
    if (timeline) return timeline;
    throw (
      this.damaged.get(id) ??
      new Fault('timeline-missing', `timeline ${id} was not found for tenant ${this.id}`, {
        hint: this.offloaded.has(id) ? 'It is archived and offloaded: unarchive it first.' : '',
      })
    );
  }

  children(id: TimelineId): TenantTimeline[] {
    return [...this.timelines.values()].filter(t => t.index.ancestor?.timeline === id);
  }

  /** Where timelines branch off from this one: loaded, being made, and offloaded. */
  branchPoints(id: TimelineId): number[] {
    const points = this.children(id).map(child => child.index.ancestor!.lsn);
    for (const { ancestor, lsn } of this.making.values()) if (ancestor === id) points.push(lsn);
    for (const { ancestor, ancestorRetainLsn } of this.offloaded.values()) {
      if (ancestor === id && ancestorRetainLsn !== undefined) points.push(ancestorRetainLsn);
    }
    return points.sort((a, b) => a - b);
  }

  // -------------------------------------------------------------------------------------------------- attaching

  private async attach(): Promise<void> {
    const { clock, random } = this.deps;
    const { signal } = this;
    const failed = (error: unknown, tries: number): void => {
      if (tries % 5 === 1) this.log.warn('attaching is tried again', { tries, error: String(error) });
    };
    try {
      const found = await retrying({ clock, random, signal, failed, repeat: mayPassInTime }, () =>
        this.find(),
      );
      await this.load(found);
      signal.throwIfAborted();
      this.phase = 'Active';
      // From now on no attachment before ours has a say in what the next one finds.
      if (this.permissions.upload) this.writeManifest().catch(error => this.noteUnwritten(error));
      this.log.info('tenant attached', { generation: this.generation, timelines: this.timelines.size });
      for (const timeline of this.timelines.values()) this.activate(timeline);
      for (const { id, index } of found) if (index.deletedAt !== undefined) resumeDeletion(this, id, index);
    } catch (error) {
      if (!signal.aborted) this.break(error as Error);
      throw error;
    }
  }

  private noteUnwritten(error: unknown): void {
    if (!this.signal.aborted) this.log.warn('the manifest is not written', { error: String(error) });
  }

  /** What the object store has for our generation. */
  private async find(): Promise<FoundTimeline[]> {
    const { blobs } = this.deps.remote;
    const manifest = await findManifest(blobs, this.vault, this.at, this.generation);
    this.manifest = manifest?.value ?? emptyManifest(this.conf.stripeSize);
    this.damaged.clear();
    this.offloaded.clear();
    for (const one of this.manifest.offloaded) this.offloaded.set(one.timeline, one);
    const reads = new Semaphore(READS_AT_ONCE);
    const found = await Promise.all(
      this.manifest.timelines.map(id => reads.run(() => this.findTimeline(id))),
    );
    return found.filter(one => one !== undefined);
  }

  private async findTimeline(id: TimelineId): Promise<FoundTimeline | undefined> {
    try {
      const vault = this.timelineVault(id);
      const found = await findIndex(this.deps.remote.blobs, vault, this.at, id, this.generation);
      if (!found) this.log.warn('the manifest names a timeline that has no index', { timeline: id });
      return found && { id, index: found.value };
    } catch (error) {
      if (!isFault(error) || mayPassInTime(error)) throw error;
      this.log.error('a timeline cannot be read', { timeline: id, error: error.message, hint: error.hint });
      this.damaged.set(id, error);
      return undefined;
    }
  }

  directoryOf(id: TimelineId): string {
    return timelineDirectory(this.at, id);
  }

  timelineVault(id: TimelineId): Vault {
    return this.deps.vault(this.directoryOf(id), { tenant: this.at.tenant, timeline: id });
  }

  /** Parents before children. */
  private async load(found: readonly FoundTimeline[]): Promise<void> {
    await this.removeStrangers();
    const live = found.filter(({ index }) => index.deletedAt === undefined);
    const byId = new Map(live.map(one => [one.id, one]));
    const pointsOf = (id: TimelineId): number[] => [
      ...live.filter(({ index }) => index.ancestor?.timeline === id).map(({ index }) => index.ancestor!.lsn),
      ...this.branchPoints(id),
    ];
    const loadOne = (id: TimelineId): TenantTimeline | undefined => {
      const one = byId.get(id);
      if (this.timelines.has(id) || !one) return this.timelines.get(id);
      const { ancestor } = one.index;
      const parent = ancestor && loadOne(ancestor.timeline);
      if (ancestor && !parent) {
        this.damaged.set(id, missingParent(id, ancestor.timeline));
        return undefined;
      }
      const timeline = this.open(one, parent, pointsOf(id));
      if (timeline) this.timelines.set(id, timeline);
      return timeline;
    };
    for (const { id } of live) loadOne(id);
    await Promise.all([...this.timelines.values()].map(timeline => timeline.start()));
  }

  private open(
    { id, index }: FoundTimeline,
    ancestor: TenantTimeline | undefined,
    branchPoints: readonly number[],
  ): TenantTimeline | undefined {
    const seed = { id, index, stored: true, branchPoints };
    try {
      return new TenantTimeline(this.deps, this, ancestor ? { ...seed, ancestor } : seed);
    } catch (cause) {
      // What an index says comes from outside: that it does not hold together is no broken promise of this process.
      const fault = new Fault('index-part', `timeline ${id}: ${(cause as Error).message}`, { cause });
      this.log.error('the index of a timeline does not hold together', {
        timeline: id,
        error: fault.message,
      });
      this.damaged.set(id, fault);
      return undefined;
    }
  }

  /** Directories of timelines that are none of ours are of no use. */
  private async removeStrangers(): Promise<void> {
    const { disk } = this.deps;
    const directory = timelinesDirectory(this.at);
    if (!(await disk.stat(directory))) return;
    const ours = new Set<string>(this.manifest.timelines);
    for (const name of await disk.list(directory)) {
      if (!ours.has(name)) await disk.removeTree(`${directory}/${name}`);
    }
  }

  /** Serves once its parent has the WAL it was branched at. */
  activate(timeline: TenantTimeline): void {
    const parent = timeline.ancestor;
    const lsn = timeline.index.ancestor?.lsn ?? 0;
    if (!parent || (parent.phase === 'Active' && parent.timeline.lastRecordLsn >= lsn)) {
      timeline.activate();
      this.wake();
      return;
    }
    void this.whenParentIsThere(timeline, parent, lsn);
  }

  private async whenParentIsThere(
    timeline: TenantTimeline,
    parent: TenantTimeline,
    lsn: number,
  ): Promise<void> {
    try {
      await parent.timeline.waitFor(lsn, PARENT_WAIT_MS, timeline.signal);
      timeline.activate();
      this.wake();
    } catch (error) {
      if (!timeline.signal.aborted) timeline.fail(error as Error);
    }
  }

  /** Stops serving, as if what the store holds could not be read. */
  breakForTest(): void {
    this.break(new Error('broken on purpose'));
  }

  private break(error: Error): void {
    this.phase = 'Broken';
    this.brokenBy = error.message;
    this.log.error('the tenant cannot be attached', { error: error.message });
  }

  // ----------------------------------------------------------------------------------------------------- waiting

  /** Those who wait for a timeline to be active look again. */
  private wake(): void {
    for (const look of this.changed.splice(0)) look();
  }

  /** Resolves when it is active; a Fault after `withinMs`. */
  async waitActive(withinMs: number): Promise<void> {
    if (this.phase === 'Active') return;
    if (this.phase === 'Broken')
      throw new Fault('tenant-broken', `tenant ${this.id} is broken: ${this.brokenBy}`);
    const late = new AbortController();
    const timer = this.deps.clock.sleep(withinMs, late.signal).then(() => {
      throw new Fault('tenant-busy', `tenant ${this.id} is not yet active`, {
        hint: 'It is being attached; try again.',
      });
    });
    timer.catch(() => undefined);
    await Promise.race([this.ready, timer]).finally(() => late.abort(new Error('no longer waited for')));
  }

  /** The timeline once it is active, waiting a while for it. */
  async activeTimeline(id: TimelineId, withinMs: number): Promise<TenantTimeline> {
    const { clock } = this.deps;
    const until = clock.monotonic() + withinMs;
    await this.waitActive(withinMs);
    for (;;) {
      const timeline = this.timeline(id);
      const left = until - clock.monotonic();
      if (timeline.phase !== 'Loading' || left <= 0) {
        timeline.checkActive();
        return timeline;
      }
      const again = new Promise<void>(resolve => this.changed.push(resolve));
      const done = new AbortController();
      await Promise.race([again, clock.sleep(left, done.signal).catch(() => undefined)]);
      done.abort(new Error('no longer waited for'));
    }
  }

  // ---------------------------------------------------------------------------------------------------- manifest

  /** What the store's manifest says; loaded and offloaded timelines both. */
  async currentManifest(): Promise<Manifest> {
    await this.writeManifest();
    return this.manifest;
  }

  /** Writes the manifest as it follows from what is loaded, offloaded, and being made whole. */
  async writeManifest(): Promise<void> {
    if (!this.permissions.upload) {
      throw new Fault(
        'generation-stale',
        `tenant ${this.id} is attached as stale: nothing may be changed here`,
        {
          hint: 'Ask the node that has the newest attachment.',
        },
      );
    }
    await this.writing.run(async () => {
      const { clock, random, remote } = this.deps;
      const { signal } = this;
      const timelines = [...this.timelines.keys(), ...this.damaged.keys(), ...this.deleting.keys()];
      // Only those may be among the others; there are thousands of others, and a branch waits for this.
      const someTwice = this.damaged.size > 0 || this.deleting.size > 0;
      const manifest: Manifest = {
        ...this.manifest,
        sequence: this.manifest.sequence + 1,
        stripeSize: this.conf.stripeSize,
        timelines: someTwice ? [...new Set(timelines)] : timelines,
        offloaded: [...this.offloaded.values()],
      };
      const name = manifestName(this.generation);
      const bytes = encodeManifest(manifest);
      const sealed = await this.vault.seal(name, bytes, { generation: this.generation });
      const key = `${tenantDirectory(this.at)}/${name}`;
      const retry = (work: () => Promise<void>): Promise<void> => retrying({ clock, random, signal }, work);
      await unlessAborted(remote.lasting.put(key, sealed, retry, signal), signal);
      this.manifest = manifest;
    });
  }

  // -------------------------------------------------------------------------------------------- changes, and the end

  /** Another mode, other settings, under the same generation. */
  update(conf: LocationConf): void {
    this.conf = conf;
    for (const timeline of this.timelines.values()) timeline.reconfigure();
  }

  /** Everything received is in the object store, as far as that is possible within the time. */
  async flush(withinMs: number): Promise<void> {
    const all = [...this.timelines.values()].filter(timeline => timeline.phase === 'Active');
    const done = await Promise.allSettled(all.map(timeline => timeline.flushAndUpload(withinMs)));
    for (const result of done) {
      if (result.status === 'rejected') {
        this.log.warn('a timeline is not flushed', { error: String(result.reason) });
      }
    }
  }

  /** `reason` is what those who read from it are told. */
  async stop(reason: Fault): Promise<void> {
    this.phase = 'Stopping';
    this.stopping.abort(reason);
    this.wake();
    await this.ready.catch(() => undefined);
    // Children first: they read through to their parents.
    const all = [...this.timelines.values()].sort((a, b) => depth(b) - depth(a));
    for (const timeline of all) await timeline.stop(reason);
    await Promise.allSettled(this.deleting.values());
  }
}

const depth = (timeline: TenantTimeline): number => (timeline.ancestor ? depth(timeline.ancestor) + 1 : 0);

const missingParent = (id: TimelineId, parent: TimelineId): Fault =>
  new Fault('timeline-missing', `timeline ${id} branches off from ${parent}, which cannot be read`, {
    hint: 'See the log for the parent; this one is whole again when that one is.',
  });
