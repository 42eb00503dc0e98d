// A client that pushes WAL as a compute does, over real connections: it is elected by a majority, streams to all,
// and counts as committed what a majority has flushed in its own term. For suites that kill safekeepers under
// load and for benches; the rules are those of walproposer.c, written anew (the simulator has its own).
//
//   const pusher = new Pusher({ targets, key, log })     log: what the compute wrote, over all its elections
//   await pusher.elect()                                 the log is cut to where the donor ends
//   pusher.write(payload) ... await pusher.committed(lsn)

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { INVALID_LSN, type Lsn } from '../../src/base/lsn.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import { NO_MEMBERSHIP } from '../../src/protocol/membership.ts';
import { type CopyStream, PqClient } from '../../src/protocol/pq-client.ts';
import type {
  AcceptorMessage,
  ProposerMessage,
  TermHistory,
  VoteResponse,
} from '../../src/protocol/walproposer.ts';
import { APPEND_BYTES_MAX } from '../../src/protocol/walproposer.ts';
import { readAcceptorMessage, writeProposerMessage } from '../../src/protocol/walproposer-v3.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { segmentFileName } from '../../src/xlog/segment.ts';
import { ModelWal } from '../sim/model-wal.ts';

export interface WalSource {
  readonly start: Lsn;
  readonly end: Lsn;
  bytes(from: number, to: number): Uint8Array;
}

/** What a Pusher pushes: where it begins, what is in it, and that it may be cut by an election. */
export interface PushedLog extends WalSource {
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segmentSize: number;
  /** Where the first leader begins. */
  readonly redoLsn: Lsn;
  /** From here on the log is written anew. */
  cut(at: Lsn): void;
  add(payload: Uint8Array): Lsn;
}

/** What a compute wrote, as pieces of one log: each election cuts it and begins a new piece. */
export class ComputeLog implements PushedLog {
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segmentSize: number;
  private readonly pieces: { readonly wal: ModelWal; end: Lsn }[] = [];
  readonly redoLsn: Lsn;

  constructor(redoLsn: Lsn, options: { pgVersion?: number; systemId?: bigint; segmentSize?: number } = {}) {
    this.redoLsn = redoLsn;
    this.pgVersion = options.pgVersion ?? 170005;
    this.systemId = options.systemId ?? 7_460_338_342_930_325_313n;
    this.segmentSize = options.segmentSize ?? 16 * 1024 * 1024;
    this.cut(redoLsn);
  }

  get start(): Lsn {
    return this.redoLsn;
  }

  get end(): Lsn {
    return this.pieces.at(-1)!.wal.end;
  }

  cut(at: Lsn): void {
    while (this.pieces.length > 0 && this.pieces.at(-1)!.wal.start >= at) this.pieces.pop();
    const last = this.pieces.at(-1);
    if (last) last.end = at;
    this.pieces.push({ wal: new ModelWal(at, this), end: Infinity as Lsn });
  }

  add(payload: Uint8Array): Lsn {
    return this.pieces.at(-1)!.wal.add(payload);
  }

  bytes(from: number, to: number): Uint8Array {
    const found: Uint8Array[] = [];
    let at = from;
    for (const { wal, end } of this.pieces) {
      const upTo = Math.min(to, end, wal.end);
      if (at >= wal.start && at < upTo) {
        found.push(wal.bytes(at, upTo));
        at = upTo;
      }
    }
    if (at !== to) throw new Error(`the log has nothing at ${at}`);
    return found.length === 1 ? found[0]! : Buffer.concat(found);
  }
}

/** The log of a Postgres that is stopped, read from its pg_wal. */
export class FileLog implements PushedLog {
  readonly pgVersion = 170005;
  readonly systemId: bigint;
  readonly segmentSize = 16 * 1024 * 1024;
  readonly redoLsn: Lsn;
  readonly end: Lsn;
  private readonly directory: string;

  constructor(directory: string, redoLsn: Lsn, end: Lsn, systemId: bigint) {
    this.directory = directory;
    this.redoLsn = redoLsn;
    this.end = end;
    this.systemId = systemId;
  }

  get start(): Lsn {
    return this.redoLsn;
  }

  bytes(from: number, to: number): Uint8Array {
    const pieces: Uint8Array[] = [];
    for (let at = from; at < to; ) {
      const segno = Math.floor(at / this.segmentSize);
      const start = segno * this.segmentSize;
      const file = readFileSync(join(this.directory, segmentFileName(1, segno, this.segmentSize)));
      const upTo = Math.min(to, start + this.segmentSize);
      pieces.push(file.subarray(at - start, upTo - start));
      at = upTo;
    }
    return Buffer.concat(pieces);
  }

  cut(): void {
    // It is what it is.
  }

  add(): never {
    throw new Error('this log is finished');
  }
}

export interface Target {
  readonly host: string;
  readonly port: number;
}

export interface PusherOptions {
  readonly targets: readonly Target[];
  readonly key: TimelineKey;
  readonly log: PushedLog;
  readonly appendBytesMax?: number;
  /** Bytes on their way to one safekeeper. */
  readonly windowBytes?: number;
  readonly password?: string;
  readonly onAck?: (target: number, flushLsn: Lsn) => void;
}

interface Slot {
  readonly index: number;
  client: PqClient | undefined;
  copy: CopyStream | undefined;
  term: number | undefined;
  vote: VoteResponse | undefined;
  /** Next byte to send; undefined before it was told of the election. */
  at: Lsn | undefined;
  flushLsn: Lsn;
  toldCommit: Lsn;
  sending: boolean;
}

class Restart extends Error {}

export class Pusher {
  private readonly options: PusherOptions;
  private slots: Slot[] = [];
  private epoch = 0;
  private stopped = false;
  term = 0;
  private history: TermHistory = [];
  termStartLsn: Lsn = INVALID_LSN;
  commitLsn: Lsn = INVALID_LSN;
  private elected = false;
  private waiters: { lsn: number; wake: () => void; fail: (e: Error) => void }[] = [];
  private onElected: (() => void) | undefined;
  private onFailed: ((error: Error) => void) | undefined;

  constructor(options: PusherOptions) {
    this.options = options;
  }

  /** Resolves once elected, however many attempts it takes. */
  async elect(timeoutMs = 60_000): Promise<void> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      try {
        await this.campaign(Math.max(1, end - performance.now()));
        return;
      } catch (error) {
        if (performance.now() >= end || this.stopped) throw error;
        await new Promise(done => setTimeout(done, 20));
      }
    }
  }

  private campaign(timeoutMs: number): Promise<void> {
    this.disconnect();
    this.elected = false;
    this.term = 0;
    const epoch = ++this.epoch;
    this.slots = this.options.targets.map((_, index) => ({
      index,
      client: undefined,
      copy: undefined,
      term: undefined,
      vote: undefined,
      at: undefined,
      flushLsn: INVALID_LSN,
      toldCommit: INVALID_LSN,
      sending: false,
    }));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no election in time')), timeoutMs);
      this.onElected = () => {
        clearTimeout(timer);
        resolve();
      };
      this.onFailed = error => {
        clearTimeout(timer);
        reject(error);
      };
      for (const slot of this.slots) void this.keepConnected(slot, epoch);
    });
  }

  private async keepConnected(slot: Slot, epoch: number): Promise<void> {
    while (!this.stopped && this.epoch === epoch) {
      try {
        await this.talk(slot, epoch);
      } catch (error) {
        if (error instanceof Restart && this.epoch === epoch) {
          this.epoch++;
          this.disconnect();
          this.onFailed?.(error);
          for (const w of this.waiters.splice(0)) w.fail(error);
          return;
        }
      }
      slot.client?.destroy();
      slot.client = slot.copy = undefined;
      slot.at = undefined;
      await new Promise(done => setTimeout(done, 20));
    }
  }

  private async talk(slot: Slot, epoch: number): Promise<void> {
    const { key, log, targets, password } = this.options;
    const client = await PqClient.connect(hostNet(), hostRandom, {
      ...targets[slot.index]!,
      password,
      parameters: {
        user: 'x',
        database: 'x',
        options: `-c timeline_id=${key.timelineId} tenant_id=${key.tenantId}`,
      },
    });
    if (this.epoch !== epoch || this.stopped) {
      client.destroy();
      return;
    }
    slot.client = client;
    const copy = await client.copyBoth("START_WAL_PUSH (proto_version '3', allow_timeline_creation 'true')");
    slot.copy = copy;
    await this.tell(slot, {
      kind: 'greeting',
      ...key,
      membership: NO_MEMBERSHIP,
      pgVersion: log.pgVersion,
      systemId: log.systemId,
      walSegSize: log.segmentSize,
    });
    for (let bytes = await copy.read(); bytes; bytes = await copy.read()) {
      if (this.epoch !== epoch || this.stopped) return;
      this.hear(slot, readAcceptorMessage(bytes));
    }
  }

  private tell(slot: Slot, message: ProposerMessage): Promise<void> {
    return slot.copy!.write(writeProposerMessage(message));
  }

  private quietly(promise: Promise<void>): void {
    promise.catch(() => {});
  }

  private get majority(): number {
    return Math.floor(this.slots.length / 2) + 1;
  }

  private hear(slot: Slot, message: AcceptorMessage): void {
    switch (message.kind) {
      case 'greeting-reply':
        this.onGreeting(slot, message.term);
        break;
      case 'vote-response':
        this.onVote(slot, message);
        break;
      case 'append-response':
        if (message.term > this.term) throw new Restart(`there is term ${message.term}`);
        this.onAppended(slot, message.flushLsn);
    }
  }

  private onGreeting(slot: Slot, term: number): void {
    slot.term = term;
    if (this.term === 0) {
      const greeted = this.slots.filter(s => s.term !== undefined);
      if (greeted.length < this.majority) return;
      this.term = Math.max(...greeted.map(s => s.term!)) + 1;
      for (const s of greeted) this.askForVote(s);
    } else {
      if (term > this.term) throw new Restart(`there is term ${term}`);
      this.askForVote(slot);
    }
  }

  private askForVote(slot: Slot): void {
    this.quietly(this.tell(slot, { kind: 'vote-request', generation: 0, term: this.term }));
  }

  private onVote(slot: Slot, vote: VoteResponse): void {
    if (vote.term > this.term || (!vote.voteGiven && !this.elected))
      throw new Restart('the vote was refused');
    slot.vote = vote;
    if (this.elected) {
      this.begin(slot);
      return;
    }
    const votes = this.slots.filter(s => s.vote?.voteGiven);
    if (votes.length < this.majority) return;
    this.win(votes.map(s => s.vote!));
    for (const s of this.slots) if (s.vote) this.begin(s);
    this.onElected?.();
  }

  private win(votes: readonly VoteResponse[]): void {
    const last = (v: VoteResponse): number =>
      v.termHistory.filter(e => e.lsn <= v.flushLsn).at(-1)?.term ?? 0;
    const donor = [...votes].sort((a, b) => last(b) - last(a) || b.flushLsn - a.flushLsn)[0]!;
    const { log } = this.options;
    this.termStartLsn = donor.flushLsn === 0 ? log.redoLsn : donor.flushLsn;
    const before = donor.flushLsn === 0 ? [] : donor.termHistory.filter(e => e.lsn <= donor.flushLsn);
    this.history = [...before, { term: this.term, lsn: this.termStartLsn }];
    log.cut(this.termStartLsn);
    this.elected = true;
  }

  /** Tell of the election, and stream from where the logs part. */
  private begin(slot: Slot): void {
    const vote = slot.vote!;
    const startStreamingAt = commonPoint(this.history, vote.termHistory, vote.flushLsn);
    const elected = { generation: 0, term: this.term, startStreamingAt, termHistory: this.history };
    this.quietly(this.tell(slot, { kind: 'elected', ...elected }));
    slot.at = startStreamingAt;
    slot.flushLsn = startStreamingAt;
    slot.toldCommit = -1 as Lsn;
    void this.stream(slot);
  }

  private async stream(slot: Slot): Promise<void> {
    if (slot.sending) return;
    slot.sending = true;
    const { log } = this.options;
    const { copy } = slot;
    const max = this.options.appendBytesMax ?? APPEND_BYTES_MAX;
    const window = this.options.windowBytes ?? 8 * 1024 * 1024;
    try {
      while (slot.copy === copy && slot.at !== undefined && !this.stopped) {
        const at = slot.at;
        const end = Math.min(log.end, at + max) as Lsn;
        if ((end === at && slot.toldCommit === this.commitLsn) || at - slot.flushLsn > window) break;
        slot.at = end;
        slot.toldCommit = this.commitLsn;
        await this.tell(slot, {
          kind: 'append-request',
          generation: 0,
          term: this.term,
          beginLsn: at,
          endLsn: end,
          commitLsn: this.commitLsn,
          truncateLsn: INVALID_LSN,
          wal: log.bytes(at, end),
        });
      }
    } catch {
      // The reading side finds the connection broken, and makes a new one.
    } finally {
      slot.sending = false;
    }
  }

  private onAppended(slot: Slot, flushLsn: Lsn): void {
    if (flushLsn > slot.flushLsn) slot.flushLsn = flushLsn;
    this.options.onAck?.(slot.index, flushLsn);
    const flushed = this.slots
      .map(s => (s.flushLsn >= this.termStartLsn ? s.flushLsn : 0))
      .sort((a, b) => b - a);
    const commit = flushed[this.majority - 1]!;
    if (commit > this.commitLsn) {
      this.commitLsn = commit as Lsn;
      this.waiters = this.waiters.filter(w => {
        if (w.lsn <= commit) w.wake();
        return w.lsn > commit;
      });
      for (const s of this.slots) if (s.at !== undefined) void this.stream(s);
    } else void this.stream(slot);
  }

  /** Write a record, and send it on its way; where it ends. */
  write(payload: Uint8Array): Lsn {
    const end = this.options.log.add(payload);
    for (const s of this.slots) if (s.at !== undefined) void this.stream(s);
    return end;
  }

  /** Rejects when the election was lost meanwhile. */
  committed(lsn: Lsn): Promise<void> {
    if (this.commitLsn >= lsn) return Promise.resolve();
    return new Promise((wake, fail) => this.waiters.push({ lsn, wake, fail }));
  }

  /** Flushed by each safekeeper, as far as was heard. */
  flushed(): Lsn[] {
    return this.slots.map(s => s.flushLsn);
  }

  private disconnect(): void {
    for (const slot of this.slots) slot.client?.destroy();
  }

  close(): void {
    this.stopped = true;
    this.epoch++;
    this.disconnect();
    for (const w of this.waiters.splice(0)) w.fail(new Error('closed'));
  }
}

/** Where to begin streaming, as SendProposerElected of walproposer.c finds it. */
function commonPoint(ours: TermHistory, theirs: TermHistory, theirEnd: Lsn): Lsn {
  const reached = theirs.filter(e => e.lsn <= theirEnd);
  let i = -1;
  while (ours[i + 1] && reached[i + 1] && ours[i + 1]!.term === reached[i + 1]!.term) i++;
  if (i < 0) return ours[0]!.lsn;
  if (i === ours.length - 1) return theirEnd;
  return Math.min(ours[i + 1]!.lsn, reached[i + 1]?.lsn ?? theirEnd) as Lsn;
}
