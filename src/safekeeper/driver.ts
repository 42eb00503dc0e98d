// Carries out what the acceptor decides: one control file, one WAL store, one queue. Everything that changes them
// waits in the queue and is done one after the other, so that every decision is taken on what is true of the disk.
//
//   input -> queue -> step(state, input) -> audit -> effects, in order -> reply
//
// When no append waits any more (or `flushBytesMax` are taken in) the disk is set to work: a sync of all that is
// written. While it is under way appends, and nothing else, are still taken in: checked, and sealed for the sync
// after it. When the disk is done, the step `flush` says what that makes true, for the part of the batch that was
// written when it began, and tells it. So disk and processor are both at work while there is work, one append alone
// waits for nothing, and nothing is told that its own sync does not cover.
//
//   queue     a b c | d e f g | h ...
//   taken in        | . . . . | . .        d to g while the disk syncs a to c
//   disk      ------a b c-----d e f g----
//   step            flush(a b c)   flush(d e f g)
//
// The control file is saved in the same way where nobody waits for it: a `persist` after the last reply of `flush`
// is carried out beside what follows, and the state has it when the disk has.
//
// WHEN AN EFFECT FAILS nothing after it happened, and the state is what the effects before it made (`settled`):
//   refused bytes       (the decoder says they are no WAL) that message's caller is told; the log is as it was
//   no room, no key     a Fault that may pass: everybody who waited is told; bytes not synced stay in memory and go
//                       out with the next flush. From a truncation on, what the disk holds is read anew before
//                       anything else is done
//   anything else       poison: nothing is taken any more until the timeline is loaded again. Above all a failed
//                       sync is never tried again, because the next one could succeed and mean nothing
//
// Answers to Timeline::process_msg (timeline.rs) and WalAcceptor (receive_wal.rs) of safekeeper/src.

import { Fault, isFault } from '../base/fault.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Clock, Log } from '../base/ports.ts';
import { step } from './acceptor.ts';
import {
  type AcceptorState,
  type Answer,
  acceptorFrom,
  afterSetback,
  type BatchPart,
  type Caller,
  type Effect,
  type Input,
  type StepFunction,
  settled,
} from './acceptor-state.ts';
import { AUDIT, type Audit } from './audit.ts';
import type { ControlFile } from './control-file.ts';
import type { ControlState } from './control-state.ts';
import { isBadWal } from './wal-scan.ts';
import type { WalStore } from './wal-store.ts';
import { Watch } from './watch.ts';

/** The rules a timeline runs by; the simulator breaks them one at a time to see itself find out. */
export interface Rules {
  readonly step: StepFunction;
  readonly audit: Audit;
}

export const REAL_RULES: Rules = { step, audit: AUDIT };

/** Told of what the disk did, for counters. */
export interface DiskMeter {
  wroteWal(bytes: number, seconds: number): void;
  flushedWal(seconds: number): void;
  persistedControl(seconds: number): void;
}

/** Of one batch: heartbeats have no bytes, and many of them are no reason to answer late. */
const BATCH_APPENDS_MAX = 512;

export interface DriverOptions {
  readonly rules: Rules;
  readonly clock: Clock;
  readonly log: Log;
  /** A batch of appends is synced when it holds as many bytes, though more may wait. */
  readonly flushBytesMax: number;
  readonly control: ControlFile;
  readonly store: WalStore;
  readonly state: AcceptorState;
  /** The WAL as the disk has it. */
  readonly reopen: (control: ControlState) => Promise<WalStore>;
  /** Fills in what an answer says besides consensus. */
  readonly complete: (answer: Answer) => Answer;
  readonly onEnd: (reason: Fault) => void;
  readonly meter?: DiskMeter | undefined;
}

interface Done {
  settle(): void;
  fail(error: unknown): void;
}

type Job = Done &
  (
    | { readonly kind: 'input'; readonly input: Input; readonly bytes: number }
    | { readonly kind: 'task'; run(): Promise<void> }
  );

/** A sync under way, and what it is for. */
interface Flight {
  readonly part: BatchPart;
  isOver: boolean;
  failure: { readonly error: unknown } | undefined;
}

/** The control file being saved, with nobody waiting for it. */
interface Saving {
  readonly effect: Effect & { readonly do: 'persist' };
  readonly before: ControlState;
  readonly done: Promise<void>;
  isOver: boolean;
  failure: { readonly error: unknown } | undefined;
}

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

export class AcceptorDriver {
  readonly control: ControlFile;
  /** Changed by `become` alone. */
  state: AcceptorState;
  store: WalStore;
  readonly watch = new Watch();
  poisonedBy: Fault | undefined;
  /** By the monotonic clock: when the control file was saved last, when anything changed last. */
  savedMs: number;
  changedMs: number;

  private readonly options: DriverOptions;
  private readonly log: Log;
  private readonly ending = new AbortController();
  private readonly queue: Job[] = [];
  private running = false;
  /** Of the batch, but for what is in flight. */
  private batchBytes = 0;
  private flight: Flight | undefined;
  private saving: Saving | undefined;
  /** Ends the wait for a flight or for something to do beside it. */
  private wake: (() => void) | undefined;
  /** A truncation was not finished: the disk knows more than we do. */
  private stale = false;
  private readonly callers = new Map<number, Waiting>();
  private nextRequest = 1;

  constructor(options: DriverOptions) {
    this.options = options;
    this.control = options.control;
    this.store = options.store;
    this.state = options.state;
    this.log = options.log;
    this.savedMs = this.changedMs = options.clock.monotonic();
  }

  get signal(): AbortSignal {
    return this.ending.signal;
  }

  get busy(): boolean {
    return this.running;
  }

  /** One input without an answer; resolves when its effects are carried out. */
  perform(input: Input, bytes = 0): Promise<void> {
    return this.enqueue(done => ({ kind: 'input', input, bytes, ...done }));
  }

  /** Work that must not meet a step halfway. */
  exclusive(run: () => Promise<void>): Promise<void> {
    return this.enqueue(done => ({ kind: 'task', run, ...done }));
  }

  private enqueue(job: (done: Done) => Job): Promise<void> {
    return new Promise((resolve, reject) => {
      this.signal.throwIfAborted();
      this.queue.push(job({ settle: resolve, fail: reject }));
      if (!this.running) void this.pump();
      else this.wake?.();
    });
  }

  /** An input that is answered by a `reply` effect. */
  ask(session: number, make: (from: Caller) => Input, bytes = 0): Promise<Answer> {
    const request = this.nextRequest++;
    return new Promise((resolve, reject) => {
      this.callers.set(request, { resolve, reject });
      this.perform(make({ session, request }), bytes).catch((error: unknown) => {
        // The batch may have been told already.
        this.callers.delete(request);
        reject(error);
      });
    });
  }

  private async pump(): Promise<void> {
    this.running = true;
    while (!this.signal.aborted) {
      const { flight, saving } = this;
      if (saving?.isOver) this.saved(saving);
      else if (flight?.isOver) await this.land(flight);
      else {
        const job = this.nextJob();
        if (job !== undefined) await this.work(job);
        else if (flight !== undefined) await this.somethingToDo();
        else if (this.state.batch.length > 0) await this.closeBatch();
        else if (saving !== undefined) await this.somethingToDo();
        else break;
      }
    }
    this.running = false;
  }

  private async closeBatch(): Promise<void> {
    if (this.state.wal.recordLsn > this.state.wal.flushLsn) this.launch(0);
    else await this.answer(undefined);
  }

  /** What is done next: anything in its turn; beside the disk's work only appends, and never too many. */
  private nextJob(): Job | undefined {
    const waiting = this.state.batch.length - (this.flight?.part.callers ?? 0);
    if (this.batchBytes >= this.options.flushBytesMax || waiting >= BATCH_APPENDS_MAX) return undefined;
    const alone = this.flight === undefined && this.saving === undefined;
    if (!alone && !isAppend(this.queue[0])) return undefined;
    return this.queue.shift();
  }

  private async work(job: Job): Promise<void> {
    try {
      if (this.stale) await this.readAnew();
      if (job.kind === 'task') await job.run();
      else await this.advance(job.input, job.bytes);
      job.settle();
    } catch (error) {
      this.setback(error);
      job.fail(error instanceof EffectFailed ? error.cause : error);
    }
    if (this.state.batch.length === 0) this.batchBytes = 0;
    this.watch.notify();
  }

  /** What the flight made true. Before that is told the disk is set to work again, on what came in meanwhile. */
  private async land({ part, failure }: Flight): Promise<void> {
    const { batch, wal } = this.state;
    if (failure === undefined) {
      this.flight = undefined;
      if (batch.length > part.callers && wal.recordLsn > part.recordLsn) this.launch(part.callers);
    }
    await this.answer(part);
    if (failure !== undefined) this.flight = undefined;
  }

  /** Sets the disk to work on all that is written, for the batch without its first callers. */
  private launch(answered: number): void {
    const began = this.options.clock.monotonic();
    const part = { callers: this.state.batch.length - answered, recordLsn: this.state.wal.recordLsn };
    const flight: Flight = { part, isOver: false, failure: undefined };
    this.flight = flight;
    this.batchBytes = 0;
    const land = (failure: Flight['failure']): void => {
      if (failure === undefined) this.options.meter?.flushedWal(this.secondsSince(began));
      flight.failure = failure;
      flight.isOver = true;
      this.wake?.();
    };
    this.store.flush().then(
      () => land(undefined),
      (error: unknown) => land({ error }),
    );
  }

  /** Begins to save the control file; its part of the state comes when that is done. */
  private save(effect: Saving['effect'], before: ControlState): void {
    const end = (failure: Saving['failure']): void => {
      saving.failure = failure;
      saving.isOver = true;
      this.wake?.();
    };
    const done = this.persist(effect.control).then(
      () => end(undefined),
      (error: unknown) => end({ error }),
    );
    const saving: Saving = { effect, before, done, isOver: false, failure: undefined };
    this.saving = saving;
  }

  private saved({ effect, before, failure }: Saving): void {
    this.saving = undefined;
    if (failure !== undefined) this.setback(new EffectFailed(effect, failure.error, false));
    // A step that persisted since then had to wait, and said all of this and more.
    else if (this.state.control === before) this.state = { ...this.state, control: effect.control };
    this.watch.notify();
  }

  private somethingToDo(): Promise<void> {
    return new Promise(resolve => {
      this.wake = () => {
        this.wake = undefined;
        resolve();
      };
    });
  }

  /** The disk is done, or has nothing to do: what that makes true, and who is told. */
  private async answer(part: BatchPart | undefined): Promise<void> {
    try {
      await this.advance({ on: 'flush', ...(part && { upTo: part }) });
    } catch (error) {
      this.setback(error);
    }
    if (this.state.batch.length === 0) this.batchBytes = 0;
    this.watch.notify();
  }

  // ------------------------------------------------------------------------------------------------- one step

  /** One step, inside the queue's turn: from a task, or by the queue itself. */
  async advance(input: Input, bytes = 0): Promise<void> {
    const before = this.state;
    const next = this.options.rules.step(before, input);
    this.options.rules.audit.step(before, input, next);
    this.batchBytes += bytes;
    let recordLsn: Lsn | undefined;
    let cutting = false;
    const last = next.effects[next.effects.length - 1];
    const aside = input.on === 'flush' && last?.do === 'persist' ? last : undefined;
    for (const effect of next.effects) {
      if (effect === aside) continue;
      cutting ||= effect.do === 'truncate';
      try {
        recordLsn = (await this.carryOut(effect)) ?? recordLsn;
      } catch (error) {
        throw new EffectFailed(effect, error, cutting);
      }
      this.state = settled(this.state, effect);
    }
    const { control } = this.state;
    this.state = aside === undefined ? next.state : { ...next.state, control };
    if (aside !== undefined && this.saving === undefined) this.save(aside, control);
    this.changedMs = this.options.clock.monotonic();
    if (recordLsn !== undefined) await this.advance({ on: 'written', recordLsn });
  }

  private secondsSince(beganMs: number): number {
    return (this.options.clock.monotonic() - beganMs) / 1000;
  }

  private async carryOut(effect: Effect): Promise<Lsn | undefined> {
    const began = this.options.clock.monotonic();
    switch (effect.do) {
      case 'write':
        return this.write(effect.at, effect.bytes, began);
      case 'flush':
        await this.flush(effect.to, began);
        break;
      case 'truncate':
        this.log.info('WAL ends where the elected proposer goes on', { lsn: formatLsn(effect.to) });
        await this.store.truncate(effect.to);
        break;
      case 'persist':
        await this.saving?.done;
        await this.persist(effect.control);
        break;
      case 'reply':
        this.reply(effect.to, effect.answer);
        break;
    }
    return undefined;
  }

  private async persist(control: ControlState): Promise<void> {
    const began = this.options.clock.monotonic();
    await this.control.persist(control);
    this.savedMs = this.options.clock.monotonic();
    this.options.meter?.persistedControl(this.secondsSince(began));
  }

  /** What a flight did, or failed to do; else the disk's work begins and ends here. */
  private async flush(to: Lsn, beganMs: number): Promise<void> {
    if (this.store.durableLsn >= to) return;
    const failure = this.flight?.failure;
    if (failure !== undefined) throw failure.error;
    await this.store.flush();
    this.options.meter?.flushedWal(this.secondsSince(beganMs));
  }

  private async write(at: Lsn, bytes: Uint8Array, beganMs: number): Promise<Lsn> {
    const recordLsn = await this.store.write(at, bytes);
    this.options.meter?.wroteWal(bytes.length, this.secondsSince(beganMs));
    return recordLsn;
  }

  private reply(to: Caller, answer: Answer): void {
    const caller = this.callers.get(to.request);
    if (caller === undefined) return;
    this.callers.delete(to.request);
    if (answer.kind === 'message') {
      const durable =
        this.state.control.eviction.kind === 'offloaded' ? this.state.wal.flushLsn : this.store.durableLsn;
      const told = Math.max(durable, this.control.state.timelineStartLsn) as Lsn;
      this.options.rules.audit.told(answer.message, this.control.state, told);
    }
    caller.resolve(this.options.complete(answer));
  }

  /** Something failed: what may pass is told to those who wait, anything else ends the timeline. */
  private setback(error: unknown): void {
    if (!(error instanceof EffectFailed)) {
      // A step that refused: a Fault, and nothing happened. A broken promise ends the timeline; so does a disk
      // that cannot be read anew.
      if (!isFault(error) || (this.stale && !mayPass(error))) this.poison(error);
      return;
    }
    const { effect, cause } = error;
    if (effect.do === 'write' && isBadWal(cause)) {
      this.state = this.options.rules.step(this.state, { on: 'write-refused' }).state;
      return;
    }
    if (!mayPass(cause)) {
      this.poison(cause);
      return;
    }
    this.stale ||= error.cutting;
    this.log.warn('a step was not carried out', { effect: effect.do, error: cause.message });
    const { batch } = this.state;
    this.state = afterSetback(this.state);
    for (const caller of batch) {
      this.callers.get(caller.request)?.reject(cause);
      this.callers.delete(caller.request);
    }
  }

  /** As after a start, but for what memory still knows. */
  private async readAnew(): Promise<void> {
    const control = this.control.state;
    await this.store.close();
    this.store = await this.options.reopen(control);
    const fresh = acceptorFrom(this.state.nodeId, control, this.store.recordLsn);
    this.state = { ...fresh, memory: this.state.memory };
    this.stale = false;
  }

  private poison(cause: unknown): void {
    const message = cause instanceof Error ? cause.message : String(cause);
    this.log.error('the timeline takes nothing any more', { error: message });
    this.poisonedBy = new Fault('timeline-poisoned', `the timeline has stopped: ${message}`, {
      hint: 'Nothing acknowledged is lost. Look at the disk, then restart the safekeeper; other timelines go on.',
      cause,
    });
    this.end(this.poisonedBy);
  }

  /** Nothing is taken any more; everybody who waits is told why. */
  end(reason: Fault): void {
    if (this.signal.aborted) return;
    this.ending.abort(reason);
    for (const job of this.queue.splice(0)) job.fail(reason);
    for (const caller of this.callers.values()) caller.reject(reason);
    this.callers.clear();
    this.watch.end(reason);
    this.options.onEnd(reason);
  }

  /** After the end: the disk has finished what was begun, and nothing comes after it. */
  async atRest(): Promise<void> {
    await this.saving?.done;
    await this.store.close();
  }

  /** Another state and store, from inside a task: what was offloaded is here again. */
  become(state: AcceptorState, store: WalStore): void {
    this.state = state;
    this.store = store;
  }
}

const isAppend = (job: Job | undefined): job is Job =>
  job?.kind === 'input' && job.input.on === 'message' && job.input.message.kind === 'append-request';

/** Which effect failed, and with what. Seen by callers as its cause. */
class EffectFailed extends Error {
  override readonly name = 'EffectFailed';
  readonly effect: Effect;
  /** It was a truncation, or came after one. */
  readonly cutting: boolean;
  constructor(effect: Effect, cause: unknown, cutting: boolean) {
    super(`${effect.do}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.effect = effect;
    this.cutting = cutting;
  }
}

/** The same may succeed later: no room on the disk now, no key. */
const mayPass = (error: unknown): error is Fault =>
  isFault(error) && (error.kind === 'unavailable' || error.kind === 'denied');
