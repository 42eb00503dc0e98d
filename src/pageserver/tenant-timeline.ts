// One timeline as a tenant has it: the engine's timeline, what its values mean, its other half in the object store,
// the receiver that feeds it, its leases. The engine tells here what changed (LayerStore), page requests come in here
// (ServedTimeline).
//
//   Loading ──start──► Active ──stop──► Stopping          Broken: a promise of ours is broken, or bytes that only we had
//
// An index is written after each change of layers, and says where the timeline stands with them: one value of the
// state, so that what an attachment finds is always a moment that was. While a timeline is being made (bootstrap,
// import) its layers are sent and no index is: it appears whole, or not at all.
//
// Answers to Timeline of pageserver/src/tenant/timeline.rs.

import { Fault } from '../base/fault.ts';
import type { TimelineId } from '../base/ids.ts';
import type { Lsn } from '../base/lsn.ts';
import type { Log } from '../base/ports.ts';
import type { SealedSource, SealedWriter, Vault } from '../seal/vault.ts';
import { dialectOfMajor } from '../xlog/dialects/all.ts';
import { nextRecordStart } from './backup-control.ts';
import { applyEdit } from './edit.ts';
import { Ingest } from './ingest.ts';
import type { LayerDesc } from './layers/layer.ts';
import { parseLayerName } from './layers/layer-name.ts';
import { Leases } from './leases.ts';
import type { NodeDeps, ReceiverHandle } from './node.ts';
import { PgData } from './pgdata.ts';
import type { IndexPart } from './remote/index-part.ts';
import { type TenantShard, timelineDirectory } from './remote/paths.ts';
import { RemoteTimeline } from './remote/remote-timeline.ts';
import { mayPassInTime, retrying } from './remote/retry.ts';
import type { IndexChange, Permissions } from './remote/upload-queue.ts';
import type { ServedTimeline } from './served.ts';
import type { ShardIdentity } from './shard.ts';
import { engineSettingsOf, type TenantSettings } from './tenant-config.ts';
import type { LayerChange, LayerStore } from './timeline/store.ts';
import { Timeline } from './timeline/timeline.ts';

/** What a timeline needs to know of its tenant. */
export interface TimelineHome {
  readonly at: TenantShard;
  readonly shard: ShardIdentity;
  readonly generation: number;
  readonly settings: TenantSettings;
  readonly permissions: Permissions;
  /** When the tenant was attached: leases of before may be renewed for a while. */
  readonly attachedMs: number;
}

export type TimelinePhase = 'Loading' | 'Active' | 'Stopping' | 'Broken';

export interface TimelineSeed {
  readonly id: TimelineId;
  readonly index: IndexPart;
  /** Whether the object store has that index. */
  readonly stored: boolean;
  readonly ancestor?: TenantTimeline;
  /** Where its children branch off. */
  readonly branchPoints: readonly number[];
  /** Its layers come, and no index is written yet. */
  readonly making?: boolean;
}

const SEGMENT_SIZE = 16 * 1024 * 1024;

export class TenantTimeline implements ServedTimeline, LayerStore {
  readonly id: TimelineId;
  readonly home: TimelineHome;
  readonly shard: ShardIdentity;
  readonly ancestor: TenantTimeline | undefined;
  readonly timeline: Timeline;
  readonly pgdata: PgData;
  readonly remote: RemoteTimeline;
  readonly vault: Vault;
  readonly leases: Leases;
  readonly log: Log;
  receiver: ReceiverHandle | undefined;
  phase: TimelinePhase = 'Loading';
  brokenBy = '';
  /** GC would go up to here; known since it last looked. */
  plannedCutoffLsn: number;
  /** The oldest position a standby reads at, told since GC last looked; 0 for none. */
  standbyHorizon = 0;
  private readonly deps: NodeDeps;
  private readonly gone = new AbortController();
  private opening: Promise<Ingest> | undefined;
  private making: boolean;

  constructor(deps: NodeDeps, home: TimelineHome, seed: TimelineSeed) {
    const { id, index, stored, ancestor, branchPoints } = seed;
    this.deps = deps;
    this.home = home;
    this.shard = home.shard;
    this.id = id;
    this.ancestor = ancestor;
    this.making = seed.making ?? false;
    this.log = deps.log.with({ tenant: home.at.tenant, timeline: id });
    this.leases = new Leases(home.attachedMs, home.settings.lsn_lease_length);
    const directory = timelineDirectory(home.at, id);
    this.vault = deps.vault(directory, { tenant: home.at.tenant, timeline: id });
    this.remote = new RemoteTimeline(deps.remote, {
      at: home.at,
      timeline: id,
      vault: this.vault,
      generation: home.generation,
      index,
      stored,
      may: home.permissions,
      remoteConsistent: () => this.timeline.setRemoteConsistentLsn(this.remote.durableLsn),
      stale: () => this.log.warn('another attachment of the tenant took over'),
      fatal: error => this.fail(error as Error),
    });
    const dialect = dialectOfMajor(index.pgVersion, index.flavour);
    this.timeline = new Timeline({
      id,
      engine: deps.engine,
      redo: { dialect, applyEdit },
      store: this,
      layers: [...index.layers].map(([name, { bytes }]) => parseLayerName(name, bytes)),
      lastRecordLsn: index.diskConsistentLsn,
      prevRecordLsn: index.prevRecordLsn ?? 0,
      remoteConsistentLsn: stored ? index.diskConsistentLsn : 0,
      gcCutoffLsn: index.gcCutoffLsn,
      retained: retainedOf(index, branchPoints),
      uploads: home.permissions.upload,
      settings: engineSettingsOf(deps.engine.settings, home.settings),
      ...(ancestor ? { ancestor: { timeline: ancestor.timeline, lsn: index.ancestor!.lsn } } : {}),
      ...(index.fullPageWrites ? { fullPageWrites: index.fullPageWrites } : {}),
    });
    this.pgdata = new PgData(this.timeline, dialect);
    this.plannedCutoffLsn = index.gcCutoffLsn;
  }

  // ---------------------------------------------------------------------------------------------- what it is

  get generation(): number {
    return this.home.generation;
  }
  get index(): IndexPart {
    return this.remote.index;
  }
  get pgVersion(): number {
    return this.index.pgVersion;
  }
  get isArchived(): boolean {
    return this.index.archivedAt !== undefined;
  }
  get lazySlruDownload(): boolean {
    return this.home.settings.lazy_slru_download;
  }
  get signal(): AbortSignal {
    return this.gone.signal;
  }
  /** What safekeepers may be told: in the store, under a generation that was confirmed since. */
  get visibleRemoteConsistentLsn(): number {
    return this.remote.visibleLsn;
  }

  now(): number {
    return this.deps.clock.now();
  }

  // ------------------------------------------------------------------------------------------------ beginning, end

  /** Looks at the cache, and goes on with uploads and deletions. */
  async start(): Promise<void> {
    await this.remote.start();
  }

  /** Serves from now on; WAL comes as soon as a safekeeper has some. */
  activate(): void {
    if (this.phase !== 'Loading') return;
    this.phase = 'Active';
    if (this.deps.startReceiver && !this.isArchived) void this.receive(this.deps.startReceiver);
  }

  /** It is archived no more: WAL comes again. */
  resume(): void {
    if (this.phase === 'Active' && this.deps.startReceiver && !this.receiver)
      void this.receive(this.deps.startReceiver);
  }

  private async receive(start: NonNullable<NodeDeps['startReceiver']>): Promise<void> {
    // Who asked for the timeline has an answer first.
    await this.deps.clock.turn?.();
    if (this.signal.aborted || this.receiver || this.isArchived) return;
    this.receiver = start(this);
    // A cluster's size is to be known. A branch's catalog is its parent's until it is written or read, and not loaded.
    if (!this.ancestor) await this.warmIngest().catch(() => undefined);
  }

  /** As `openIngest`, in its turn and for as long as it takes; trouble that does not pass ends the timeline. */
  async warmIngest(): Promise<Ingest> {
    const { clock, random, warmups } = this.deps;
    const { signal } = this;
    const how = { clock, random, signal, repeat: mayPassInTime };
    try {
      return await warmups.run(() => retrying(how, () => this.openIngest()));
    } catch (error) {
      if (!signal.aborted) this.fail(error as Error);
      throw error;
    }
  }

  /** What takes in WAL; the newest state is loaded for it once. */
  openIngest(): Promise<Ingest> {
    this.opening ??= this.loadIngest().catch(error => {
      this.opening = undefined;
      throw error;
    });
    return this.opening;
  }

  /** What took in the log of an import goes on with what comes. */
  adoptIngest(ingest: Ingest): void {
    this.opening = Promise.resolve(ingest);
  }

  private async loadIngest(): Promise<Ingest> {
    const ingest = new Ingest(this.pgdata, this.shard);
    await ingest.load();
    return ingest;
  }

  /** Another way of being attached, or other settings. */
  reconfigure(): void {
    const { settings, permissions } = this.home;
    this.timeline.settings = engineSettingsOf(this.deps.engine.settings, settings);
    this.remote.permit(permissions);
  }

  /** No more WAL is taken in. */
  async stopReceiving(why: Fault): Promise<void> {
    const { receiver } = this;
    this.receiver = undefined;
    await receiver?.stop(why);
  }

  /** Everything received is in the store, unless that takes longer than `withinMs`. */
  async flushAndUpload(withinMs: number): Promise<void> {
    const { clock } = this.deps;
    const done = new AbortController();
    const late = clock.sleep(withinMs, done.signal).then(() => {
      throw new Fault('timeout', `timeline ${this.id} is not uploaded after ${withinMs} ms`);
    });
    late.catch(() => undefined);
    try {
      await Promise.race([
        late,
        this.timeline.freezeAndFlush().then(() => this.remote.waitUploaded(done.signal)),
      ]);
    } finally {
      done.abort(new Error('no longer waited for'));
    }
  }

  /** Who reads from it is told `why`; nothing of it is under way when this resolves. */
  async stop(why: Fault): Promise<void> {
    if (this.phase !== 'Broken') this.phase = 'Stopping';
    this.gone.abort(why);
    await this.stopReceiving(why);
    await this.timeline.close();
    await this.remote.stop();
  }

  fail(error: Error): void {
    if (this.phase === 'Stopping') return;
    this.phase = 'Broken';
    this.brokenBy = error.message;
    this.timeline.fail(error);
  }

  /** A Fault unless it is there to be asked. */
  checkActive(): void {
    if (this.phase === 'Active') return;
    if (this.phase === 'Broken') {
      throw new Fault('timeline-poisoned', `timeline ${this.id} is stopped: ${this.brokenBy}`);
    }
    const code = this.phase === 'Loading' ? 'timeline-busy' : 'shutting-down';
    throw new Fault(code, `timeline ${this.id} is ${this.phase.toLowerCase()}`);
  }

  // ---------------------------------------------------------------------------------- the engine's layers (LayerStore)

  create(name: string): Promise<SealedWriter> {
    return this.vault.create(name, { generation: this.generation });
  }

  open(desc: LayerDesc): Promise<SealedSource> {
    return this.remote.openLayer(desc.name);
  }

  openWritten(desc: LayerDesc): Promise<SealedSource> {
    return this.remote.openWritten(desc.name);
  }

  async discard(name: string): Promise<void> {
    await this.vault.remove(name).catch(error => this.log.debug('nothing to discard', { name, error }));
  }

  changed({ added, removed }: LayerChange): void {
    this.remote.layersMoved(
      added,
      removed.map(desc => desc.name),
    );
    if (!this.making) this.writeIndex();
  }

  /** Where it stands, as the next index is to say. */
  private position(): IndexChange {
    const { diskConsistentLsn, diskConsistentPrev, gcCutoffLsn, retained } = this.timeline.state;
    return {
      diskConsistentLsn,
      prevRecordLsn: diskConsistentPrev || undefined,
      gcCutoffLsn,
      retainedLsns: retained,
      fullPageWrites: this.timeline.fullPageWrites,
    };
  }

  /** Writes an index that says this, and where the timeline stands; its number, to wait for. */
  writeIndex(change: IndexChange = {}): number {
    return this.remote.changeIndex({ ...this.position(), ...change });
  }

  /** Its cluster is in, and history begins at `lsn`: from now on indexes are written, the first when all is flushed. */
  async finishMaking(lsn: number): Promise<void> {
    await this.timeline.freezeAndFlush();
    this.timeline.change({ gcCutoffLsn: lsn });
    this.plannedCutoffLsn = lsn;
    this.making = false;
    await this.remote.waitFor(this.writeIndex({ initdbLsn: lsn }), this.signal);
  }

  // ------------------------------------------------------------------------------------------- keys, leases (ServedTimeline)

  checkKeys(): void {
    this.vault.check();
  }

  leased(lsn: Lsn): boolean {
    // Before the end of an import there is only a part of the pages, whoever holds a lease.
    if (lsn < this.index.initdbLsn) return false;
    const now = this.deps.clock.now();
    return this.leases.inGrace(now) || this.leases.isLeased(nextRecordStart(lsn, SEGMENT_SIZE), now);
  }

  lease(lsn: Lsn, lengthMs = this.home.settings.lsn_lease_length): number {
    const { gcCutoffLsn: appliedLsn, retained } = this.timeline.state;
    const plannedLsn = this.plannedCutoffLsn;
    const at = nextRecordStart(lsn, SEGMENT_SIZE);
    return this.leases.take(at, lengthMs, this.deps.clock.now(), { appliedLsn, plannedLsn, retained });
  }
}

const retainedOf = (index: IndexPart, branchPoints: readonly number[]): number[] =>
  [...new Set([...index.retainedLsns, ...branchPoints])].sort((a, b) => a - b);
