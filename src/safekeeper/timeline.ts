// One timeline: the acceptor's driver (driver.ts), those who write to it, those who read from it, and its segments
// as they come and go. It is the TimelineHandle that sessions, HTTP and broker are given.
//
// Answers to Timeline and ManagerTimeline of safekeeper/src/timeline.rs.

import { assert } from '../base/assert.ts';
import { Fault } from '../base/fault.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Clock, Log } from '../base/ports.ts';
import type { HotStandbyFeedback, PageserverFeedback } from '../protocol/feedback.ts';
import type { MembershipConfiguration } from '../protocol/membership.ts';
import type { AcceptorMessage, ProposerMessage, Term } from '../protocol/walproposer.ts';
import type { Vault } from '../seal/vault.ts';
import {
  type AcceptorState,
  type Answer,
  acceptorFrom,
  controlWithMemory,
  flushLsnOf,
  lastLogTermOf,
  termHistoryOf,
} from './acceptor-state.ts';
import { ControlFile } from './control-file.ts';
import { type ControlState, sameControl } from './control-state.ts';
import { AcceptorDriver, type DiskMeter, REAL_RULES, type Rules } from './driver.ts';
import { Readers } from './readers.ts';
import { ProposerSession } from './session.ts';
import type {
  MembershipSwitch,
  PeerInfo,
  ProposerHandle,
  ReaderHandle,
  ReaderState,
  TimelineHandle,
  TimelineKey,
  TimelineStatus,
  WalArchive,
} from './timeline-handle.ts';
import { readThrough } from './wal-source.ts';
import { type SegmentInfo, WalStore } from './wal-store.ts';

export interface TimelineSettings {
  /** A batch of appends is synced when it holds as many bytes, though more may wait. */
  readonly flushBytesMax: number;
  /** The control file is saved this often while memory is ahead of it. */
  readonly controlFileSaveIntervalMs: number;
  /** After as long without a change an idle timeline lets go of its file handles and buffers. */
  readonly restAfterMs: number;
}

export const DEFAULT_TIMELINE_SETTINGS: TimelineSettings = {
  flushBytesMax: 4 * 1024 * 1024,
  controlFileSaveIntervalMs: 300_000,
  restAfterMs: 60_000,
};

export interface TimelineDeps {
  readonly nodeId: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly settings?: Partial<TimelineSettings>;
  readonly rules?: Rules;
  readonly meter?: DiskMeter;
}

/** What one timeline has done since it was loaded; the process's own counters are told as well. */
class Tally implements DiskMeter {
  writtenBytes = 0;
  writtenSeconds = 0;
  flushedSeconds = 0;
  /** Status messages of pageservers. */
  feedbacks = 0;
  private readonly all: DiskMeter | undefined;

  constructor(all: DiskMeter | undefined) {
    this.all = all;
  }

  wroteWal(bytes: number, seconds: number): void {
    this.writtenBytes += bytes;
    this.writtenSeconds += seconds;
    this.all?.wroteWal(bytes, seconds);
  }

  flushedWal(seconds: number): void {
    this.flushedSeconds += seconds;
    this.all?.flushedWal(seconds);
  }

  persistedControl(seconds: number): void {
    this.all?.persistedControl(seconds);
  }
}

export class Timeline implements TimelineHandle {
  readonly key: TimelineKey;
  readonly tally: Tally;
  private readonly nodeId: number;
  private readonly clock: Clock;
  private readonly settings: TimelineSettings;
  private readonly vault: Vault;
  private readonly log: Log;
  private readonly driver: AcceptorDriver;
  private archive: WalArchive | undefined;
  private readonly sessions = new Map<number, ProposerSession>();
  private nextSession = 1;
  private readonly readerSet = new Readers(feedback => this.onPageserverFeedback(feedback));
  private removalHolds = 0;

  private constructor(deps: TimelineDeps, vault: Vault, control: ControlFile, store: WalStore) {
    const { tenantId, timelineId, eviction } = control.state;
    this.key = { tenantId, timelineId };
    this.nodeId = deps.nodeId;
    this.clock = deps.clock;
    this.settings = { ...DEFAULT_TIMELINE_SETTINGS, ...deps.settings };
    this.vault = vault;
    this.log = deps.log.with({ tenant: tenantId, timeline: timelineId });
    this.tally = new Tally(deps.meter);
    const end = eviction.kind === 'offloaded' ? eviction.flushLsn : store.recordLsn;
    this.driver = new AcceptorDriver({
      rules: deps.rules ?? REAL_RULES,
      meter: this.tally,
      clock: deps.clock,
      log: this.log,
      flushBytesMax: this.settings.flushBytesMax,
      control,
      store,
      state: acceptorFrom(deps.nodeId, control.state, end),
      reopen: state => openStore(vault, state, control),
      complete: answer => this.complete(answer),
      onEnd: reason => {
        for (const session of this.sessions.values()) session.end(reason);
      },
    });
  }

  /** From what is on disk. Damage is a Fault that says where, and what to do. */
  static async load(deps: TimelineDeps, vault: Vault): Promise<Timeline> {
    const control = await ControlFile.load(vault);
    const store = await openStore(vault, control.state, control);
    const timeline = new Timeline(deps, vault, control, store);
    if (store.tornBytes > 0) {
      timeline.log.info('cut a torn tail of WAL', { bytes: store.tornBytes, end: formatLsn(store.writeLsn) });
    }
    await store.rest();
    return timeline;
  }

  get signal(): AbortSignal {
    return this.driver.signal;
  }

  private get state(): AcceptorState {
    return this.driver.state;
  }

  private get store(): WalStore {
    return this.driver.store;
  }

  /** Every AppendResponse carries what hot standbys need. */
  private complete(answer: Answer): Answer {
    if (answer.kind !== 'message' || answer.message.kind !== 'append-response') return answer;
    return { kind: 'message', message: { ...answer.message, hotStandby: this.hotStandby() } };
  }

  // ------------------------------------------------------------------------------------------------- sessions

  connectProposer(): ProposerHandle {
    this.signal.throwIfAborted();
    const id = this.nextSession++;
    const session = new ProposerSession(id, {
      process: message => this.process(id, message),
      settle: () => this.driver.perform({ on: 'flush' }),
      forget: () => void this.sessions.delete(id),
    });
    this.sessions.set(id, session);
    return session;
  }

  private async process(session: number, message: ProposerMessage): Promise<AcceptorMessage | undefined> {
    if (this.offloaded) await this.restore();
    const bytes = message.kind === 'append-request' ? message.wal.length : 0;
    const answer = await this.driver.ask(session, from => ({ on: 'message', from, message }), bytes);
    return answer.kind === 'message' ? answer.message : undefined;
  }

  connectReader(): ReaderHandle {
    this.signal.throwIfAborted();
    return this.readerSet.connect();
  }

  proposers(): readonly { readonly id: number; readonly status: 'voting' | 'streaming' }[] {
    return [...this.sessions.values()].map(({ id, status }) => ({ id, status }));
  }

  readers(): readonly ReaderState[] {
    return this.readerSet.all();
  }

  hotStandby(): HotStandbyFeedback {
    return this.readerSet.hotStandby();
  }

  standbyHorizon(): Lsn {
    return this.readerSet.standbyHorizon();
  }

  laggard(): Lsn | undefined {
    return this.readerSet.laggard();
  }

  private onPageserverFeedback(feedback: PageserverFeedback): void {
    this.tally.feedbacks++;
    for (const session of this.sessions.values()) session.feedback(feedback);
    if (feedback.remoteConsistentLsn <= this.state.memory.remoteConsistentLsn || this.signal.aborted) return;
    this.driver
      .perform({ on: 'remote-consistent', lsn: feedback.remoteConsistentLsn })
      .catch((error: unknown) =>
        this.log.warn('pageserver feedback was not taken in', { error: String(error) }),
      );
  }

  // --------------------------------------------------------------------------------------------------- status

  get commitLsn(): Lsn {
    return this.state.memory.commitLsn;
  }

  get flushLsn(): Lsn {
    return flushLsnOf(this.state);
  }

  get term(): Term {
    return this.state.control.term;
  }

  get offloaded(): boolean {
    return this.state.control.eviction.kind === 'offloaded';
  }

  status(): TimelineStatus {
    const { control, memory, wal, termStartLsn } = this.state;
    return {
      control,
      memory,
      flushLsn: flushLsnOf(this.state),
      writeLsn: wal.writeLsn,
      lastLogTerm: lastLogTermOf(this.state),
      termHistory: termHistoryOf(this.state),
      termStartLsn,
      oldestLsn: this.offloaded ? wal.flushLsn : this.store.oldestLsn,
      offloaded: this.offloaded,
      poisoned: this.driver.poisonedBy !== undefined,
    };
  }

  waitForCommit(lsn: Lsn, signal?: AbortSignal): Promise<void> {
    return this.driver.watch.wait(() => this.commitLsn >= lsn, signal);
  }

  waitForFlush(lsn: Lsn, term: Term, signal?: AbortSignal): Promise<void> {
    return this.driver.watch.wait(() => {
      this.checkTerm(term);
      return this.flushLsn >= lsn;
    }, signal);
  }

  changed(signal?: AbortSignal): Promise<void> {
    return this.driver.watch.next(signal);
  }

  private checkTerm(term: Term): void {
    if (this.term === term) return;
    throw new Fault('term-changed', `WAL of term ${term} was asked for, the term is ${this.term}`);
  }

  // ------------------------------------------------------------------------------------------------- reading

  async readWal(from: Lsn, length: number, term?: Term): Promise<Uint8Array> {
    this.signal.throwIfAborted();
    if (term !== undefined) this.checkTerm(term);
    const { cuts } = this.store;
    const bytes = await readThrough(
      { control: this.state.control, flushLsn: this.flushLsn, store: this.store, archive: this.archive },
      from,
      length,
    );
    if (term !== undefined) this.checkTerm(term);
    // Past commit, a truncation may have put other bytes where we read, or is about to; or has left none, and whoever
    // reads on until it has what it saw there would read for ever.
    const cut = (this.store.cuts !== cuts || cuts % 2 === 1) && from + bytes.length > this.commitLsn;
    if (cut || (term !== undefined && bytes.length === 0 && length > 0)) {
      throw new Fault('term-changed', `WAL at ${formatLsn(from)} was cut while it was read`);
    }
    return bytes;
  }

  setArchive(archive: WalArchive | undefined): void {
    this.archive = archive;
  }

  // ----------------------------------------------------------------------------------- operators, peers, backup

  async termBump(to?: Term): Promise<{ readonly previous: Term; readonly current: Term }> {
    const answer = await this.driver.ask(0, from => ({ on: 'term-bump', from, to }));
    assert(answer.kind === 'term', 'a term bump is answered by terms');
    return answer;
  }

  async switchMembership(to: MembershipConfiguration): Promise<MembershipSwitch> {
    const answer = await this.driver.ask(0, from => ({ on: 'membership', from, to }));
    assert(answer.kind === 'membership', 'a membership switch is answered by its result');
    return answer.result;
  }

  recordPeer(info: PeerInfo): Promise<void> {
    return this.driver.perform({ on: 'peer', info });
  }

  setBackupLsn(backupLsn: Lsn): Promise<void> {
    return this.driver.perform({ on: 'backed-up', backupLsn });
  }

  checkpoint(): Promise<void> {
    return this.driver.perform({ on: 'checkpoint' });
  }

  async changeControl(change: (control: ControlState) => ControlState): Promise<ControlState> {
    let changed: ControlState | undefined;
    await this.driver.perform({ on: 'control', change: control => (changed = change(control)) });
    assert(changed !== undefined, 'a change of control was carried out without being asked for');
    return changed;
  }

  async tick(): Promise<void> {
    if (this.signal.aborted || this.driver.busy) return;
    const now = this.clock.monotonic();
    const ahead = !sameControl(controlWithMemory(this.state), this.state.control);
    if (ahead && now - this.driver.savedMs >= this.settings.controlFileSaveIntervalMs)
      await this.checkpoint();
    if (!this.offloaded && now - this.driver.changedMs >= this.settings.restAfterMs) {
      this.driver.changedMs = Infinity;
      await this.driver.exclusive(() => this.store.rest());
    }
  }

  // ----------------------------------------------------------------------------------- segments that come and go

  segments(): readonly SegmentInfo[] {
    return this.offloaded ? [] : this.store.list();
  }

  holdRemoval(): () => void {
    this.removalHolds++;
    let held = true;
    return () => {
      if (held) this.removalHolds--;
      held = false;
    };
  }

  async removeSegmentsBelow(segno: number): Promise<number> {
    let count = 0;
    await this.driver.exclusive(async () => {
      if (this.removalHolds > 0 || this.offloaded) return;
      // After a start the end of WAL is searched from the persisted commit: its segment stays.
      const { commitLsn, server } = this.state.control;
      count = await this.store.removeBelow(Math.min(segno, Math.floor((commitLsn - 1) / server.walSegSize)));
    });
    return count;
  }

  offload(): Promise<void> {
    return this.driver.exclusive(async () => {
      if (this.offloaded) return;
      const { flushLsn, memory, control } = { ...this.state, flushLsn: this.flushLsn };
      const uploaded = control.partialSegments.find(segment => segment.status === 'uploaded');
      const all =
        this.removalHolds === 0 &&
        this.state.batch.length === 0 &&
        this.state.wal.writeLsn === flushLsn &&
        this.store.list().length === 1 &&
        uploaded?.flushLsn === flushLsn &&
        uploaded.commitLsn === memory.commitLsn &&
        uploaded.term === lastLogTermOf(this.state);
      if (!all)
        throw new Fault('timeline-busy', `not all WAL up to ${formatLsn(flushLsn)} is uploaded and at rest`);
      // First it is said, then it is done: a crash in between leaves files that are not needed, never the reverse.
      await this.driver.advance({
        on: 'control',
        change: c => ({ ...c, eviction: { kind: 'offloaded', flushLsn } }),
      });
      await this.store.removeAll();
      this.log.info('WAL is in the object store only', { flushLsn: formatLsn(flushLsn) });
    });
  }

  restore(): Promise<void> {
    return this.driver.exclusive(async () => {
      const { eviction, partialSegments, server, timelineStartLsn } = this.state.control;
      if (eviction.kind !== 'offloaded') return;
      const partial = partialSegments.find(segment => segment.status === 'uploaded');
      if (partial === undefined || this.archive === undefined) {
        throw new Fault('wal-missing', `WAL of timeline ${this.key.timelineId} is in the object store only`, {
          hint: 'Configure the object store (--remote-storage) that it was offloaded to.',
        });
      }
      const end = eviction.flushLsn;
      const segno = Math.floor((end - 1) / server.walSegSize);
      const start = segno * server.walSegSize;
      const origin = Math.max(0, timelineStartLsn - start);
      const length = end - start - origin;
      const whole = end % server.walSegSize === 0;
      const bytes = whole
        ? await this.archive.read(segno, origin, length)
        : await this.archive.readPartial(partial, segno, origin, length);
      await this.store.removeAll();
      await this.store.restore(segno, origin, bytes);
      await this.store.close();
      const control: ControlState = { ...controlWithMemory(this.state), eviction: { kind: 'present' } };
      const store = await openStore(this.vault, control, this.driver.control);
      assert(store.recordLsn === end, `restored WAL ends at ${formatLsn(store.recordLsn)}`);
      await this.driver.advance({ on: 'control', change: () => control });
      this.driver.become(acceptorFrom(this.nodeId, control, end), store);
      this.log.info('WAL is here again', { flushLsn: formatLsn(end) });
    });
  }

  async close(): Promise<void> {
    if (!this.signal.aborted) {
      await this.driver.perform({ on: 'flush' }).catch(() => {});
      this.driver.end(new Fault('shutting-down', `timeline ${this.key.timelineId} is closed`));
    }
    await this.driver.atRest();
  }
}

async function openStore(vault: Vault, control: ControlState, file: ControlFile): Promise<WalStore> {
  const offloaded = control.eviction.kind === 'offloaded';
  const store = await WalStore.open({
    vault,
    segmentSize: control.server.walSegSize,
    pgVersion: control.server.pgVersion,
    commitLsn: control.commitLsn,
    localStartLsn: control.localStartLsn,
    mark: () => file.generation,
    offloaded,
  });
  try {
    file.expectSince(store.marked);
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}
