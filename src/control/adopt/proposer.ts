// A proposer of our own: gets elected by a quorum of safekeepers and gives them a log that somebody else writes.
//
//   greetings of a quorum -> a term that nobody has stood for -> recorded -> votes of a quorum -> elected
//   push(bytes) -> buffer -> AppendRequests to each safekeeper from where it is -> commit = what a quorum has flushed
//
// It differs from a compute's walproposer in three things. The log is the origin's: an election never changes it, only
// where to go on. A term is recorded before it is stood for, so that a term above the recorded one is somebody else's:
// a compute or another adopter took the timeline over, and this one ends (`TakenOver`) without having voted anybody
// down. And a safekeeper that was away longer than the buffer reaches is given its part by another safekeeper, so the
// origin need not keep its log for the slowest.
//
// Invariants: `commitLsn` never goes back; nothing is appended before the safekeeper was told of the election; the
// buffer holds everything from the commit position on; memory is bounded by UNCOMMITTED_MAX + KEEP_BYTES.
//
// Answers to pgxn/neon/walproposer.c.

import { Fault } from '../../base/fault.ts';
import { formatLsn, INVALID_LSN, type Lsn } from '../../base/lsn.ts';
import { type MembershipConfiguration, NO_MEMBERSHIP } from '../../protocol/membership.ts';
import {
  type AcceptorGreeting,
  type AcceptorMessage,
  APPEND_BYTES_MAX,
  type AppendResponse,
  type ProposerGreeting,
  type VoteResponse,
} from '../../protocol/walproposer.ts';
import { AcceptorLink, type LinkDeps, type LinkOwner } from './acceptor-link.ts';
import type { HostPort } from './contract.ts';
import { readDonor } from './donor.ts';
import { isQuorum, quorumLsn, streamingStart, type Victory, winElection } from './election.ts';
import { WalBuffer } from './wal-buffer.ts';

/** On its way to one safekeeper and not flushed there yet. */
const WINDOW_BYTES = 8 * 1024 * 1024;
/** Taken from the origin and not on a quorum yet: past this nothing more is read. */
const UNCOMMITTED_MAX = 32 * 1024 * 1024;
const KEEP_BYTES = 32 * 1024 * 1024;
const HEARTBEAT_MS = 1000;
const DONOR_RETRY_MS = 200;

/** Another proposer stands or stood on this timeline. */
export class TakenOver extends Fault {
  readonly term: number;
  constructor(term: number) {
    super('term-changed', `another writer took the timeline over, in term ${term}`, {
      hint: 'A compute writes on it now, or another adopter. To follow the origin further, adopt it anew.',
    });
    this.term = term;
  }
}

export interface ProposerOptions {
  readonly targets: readonly HostPort[];
  readonly greeting: Omit<ProposerGreeting, 'kind' | 'membership'>;
  /** Where the log begins that no safekeeper has any of. */
  readonly freshLsn: Lsn;
  /** The last term that was stood for. */
  readonly lastTerm: number;
  /** Kept behind the commit position, for safekeepers that were away for a moment. */
  readonly keepBytes?: number;
  /** Durable when it resolves. */
  saveTerm(term: number): Promise<void>;
  onElected?(term: number, startLsn: Lsn): void;
  onCommit?(): void;
}

export class Proposer implements LinkOwner {
  readonly greeting: ProposerGreeting;
  private readonly options: ProposerOptions;
  private readonly deps: LinkDeps;
  private readonly links: readonly AcceptorLink[];
  private readonly closing = new AbortController();
  private phase: 'greeting' | 'recording' | 'voting' | 'elected' | 'closed' = 'greeting';
  private membership: MembershipConfiguration = NO_MEMBERSHIP;
  private victory: Victory | undefined;
  private buffer: WalBuffer | undefined;
  private truncateLsn: Lsn = INVALID_LSN;
  private readonly elected = Promise.withResolvers<Lsn>();
  private readonly over = Promise.withResolvers<never>();
  private waiting: (() => void)[] = [];
  term: number;
  commitLsn: Lsn = INVALID_LSN;

  constructor(options: ProposerOptions, deps: LinkDeps) {
    this.options = options;
    this.deps = deps;
    this.term = options.lastTerm;
    this.greeting = { kind: 'greeting', membership: NO_MEMBERSHIP, ...options.greeting };
    this.links = options.targets.map(target => new AcceptorLink(target, this, deps));
    // Whoever waits for either hears of it; nobody has to.
    this.over.promise.catch(() => {});
    this.elected.promise.catch(() => {});
  }

  /** Where the log is to be taken from, once a quorum has voted for us. However long it takes. */
  start(): Promise<Lsn> {
    for (const link of this.links) link.run().catch((error: Error) => this.fail(error));
    this.beat().catch((error: Error) => this.fail(error));
    return this.elected.promise;
  }

  /** Rejects when it cannot go on. */
  get ended(): Promise<never> {
    return this.over.promise;
  }

  get endLsn(): Lsn {
    return this.buffer?.end ?? INVALID_LSN;
  }

  /** Flushed by each, in the order of the targets. */
  get flushed(): readonly Lsn[] {
    return this.links.map(link => link.flushLsn);
  }

  get pageserverLsn(): Lsn {
    return Math.max(...this.links.map(link => link.pageserverLsn)) as Lsn;
  }

  /** Why a quorum is not there, in words; undefined while there is no trouble. */
  get trouble(): string | undefined {
    const silent = this.links.filter(link => link.greeted === undefined && link.trouble !== undefined);
    return silent.length === 0 ? undefined : silent.map(l => `${l.name}: ${l.trouble}`).join('; ');
  }

  // ---- the log ----------------------------------------------------------------------------------------------

  /** The next bytes of the log. */
  push(bytes: Uint8Array): void {
    this.buffer!.push(bytes);
    for (const link of this.links) this.pump(link);
  }

  /** Back pressure: resolves when more may be pushed. */
  async room(): Promise<void> {
    const uncommitted = (): number => this.endLsn - Math.max(this.commitLsn, this.victory?.startLsn ?? 0);
    while (uncommitted() > UNCOMMITTED_MAX) await Promise.race([this.progress(), this.ended]);
  }

  /** Everything up to here is on a quorum. */
  async committed(lsn: Lsn): Promise<void> {
    while (this.commitLsn < lsn) await Promise.race([this.progress(), this.ended]);
  }

  private progress(): Promise<void> {
    return new Promise(resolve => this.waiting.push(resolve));
  }

  close(): void {
    this.phase = 'closed';
    this.closing.abort(new Fault('shutting-down', 'the proposer is closed'));
    for (const link of this.links) link.close();
    const closed = new Fault('shutting-down', 'the proposer is closed');
    this.elected.reject(closed);
    this.over.reject(closed);
  }

  private fail(error: Error): void {
    this.elected.reject(error);
    this.over.reject(error);
    this.close();
  }

  // ---- what safekeepers say ---------------------------------------------------------------------------------

  heard(link: AcceptorLink, message: AcceptorMessage): void {
    try {
      if (message.kind === 'greeting-reply') this.onGreeting(link, message);
      else if (message.kind === 'vote-response') this.onVote(link, message);
      else this.onAppended(link, message);
    } catch (error) {
      // No other connection would make it better.
      this.fail(error as Error);
      throw error;
    }
  }

  private onGreeting(link: AcceptorLink, { nodeId, term, membership }: AcceptorGreeting): void {
    link.nodeId = nodeId;
    link.greeted = term;
    const isNewer = membership.generation > this.membership.generation;
    if (isNewer) this.membership = membership;
    if (this.phase === 'greeting') this.stand();
    else if (isNewer) this.campaignAgain();
    else if (this.phase !== 'recording') {
      if (term > this.term) throw new TakenOver(term);
      this.askForVote(link);
    }
  }

  /** A quorum greeted us: a term that none of them has voted in. */
  private stand(): void {
    const greeted = this.links.map(l => ({ nodeId: l.nodeId, agrees: l.greeted !== undefined }));
    if (!isQuorum(this.membership, greeted)) return;
    const highest = Math.max(...this.links.map(l => l.greeted ?? 0));
    if (highest > this.term) throw new TakenOver(highest);
    this.phase = 'recording';
    const term = this.term + 1;
    this.options
      .saveTerm(term)
      .then(() => {
        if (this.phase !== 'recording') return;
        this.term = term;
        this.phase = 'voting';
        for (const link of this.links) if (link.greeted !== undefined) this.askForVote(link);
      })
      .catch((error: Error) => this.fail(error));
  }

  private askForVote(link: AcceptorLink): void {
    const { generation } = this.membership;
    void link.send({ kind: 'vote-request', generation, term: this.term });
  }

  private onVote(link: AcceptorLink, vote: VoteResponse): void {
    if (vote.term > this.term) throw new TakenOver(vote.term);
    link.vote = vote;
    if (vote.generation !== this.membership.generation) this.campaignAgain();
    else if (this.phase === 'elected') this.begin(link);
    // It voted for us already, on a connection that broke: the next term, then.
    else if (!vote.voteGiven) this.campaignAgain();
    else if (this.phase === 'voting') this.count();
  }

  private campaignAgain(): void {
    if (this.phase === 'closed') return;
    this.phase = 'greeting';
    for (const link of this.links) {
      link.flushLsn = INVALID_LSN;
      link.cut();
    }
  }

  private count(): void {
    const votes = this.links.map(l => ({ nodeId: l.nodeId, agrees: l.vote?.voteGiven === true }));
    if (isQuorum(this.membership, votes)) this.win();
  }

  private win(): void {
    const votes = this.links.flatMap(l => (l.vote?.voteGiven ? [l.vote] : []));
    const victory = winElection(this.term, votes, this.options.freshLsn);
    const { startLsn } = victory;
    this.buffer ??= new WalBuffer(startLsn);
    if (startLsn < this.buffer.start || startLsn > this.buffer.end) {
      throw new Fault(
        'wal-missing',
        `the safekeepers go on at ${formatLsn(startLsn)}, outside of what was sent`,
        {
          hint: 'Start the adoption again: it asks the origin for what is missing.',
        },
      );
    }
    this.victory = victory;
    this.truncateLsn = Math.max(this.truncateLsn, victory.truncateLsn) as Lsn;
    this.phase = 'elected';
    this.options.onElected?.(this.term, startLsn);
    for (const link of this.links) if (link.vote !== undefined) this.begin(link);
    this.elected.resolve(startLsn);
  }

  // ---- what they are told -----------------------------------------------------------------------------------

  /** Tell of the election, and stream from where the logs part. */
  private begin(link: AcceptorLink): void {
    const { generation } = this.membership;
    const { history: termHistory } = this.victory!;
    const startStreamingAt = streamingStart(termHistory, link.vote!);
    void link.send({ kind: 'elected', generation, term: this.term, startStreamingAt, termHistory });
    link.begin(startStreamingAt);
    this.pump(link);
  }

  private pump(link: AcceptorLink): void {
    if (link.sending || this.phase !== 'elected') return;
    link.sending = true;
    this.stream(link).catch((error: Error) => this.fail(error));
  }

  private async stream(link: AcceptorLink): Promise<void> {
    const buffer = this.buffer!;
    try {
      while (this.phase === 'elected' && link.at !== undefined) {
        const { at } = link;
        if (at < buffer.start) await this.catchUp(link);
        else if (link.inFlightBytes > WINDOW_BYTES) return;
        else if (at < buffer.end || link.toldCommitLsn !== this.commitLsn)
          await this.append(link, buffer.read(at, APPEND_BYTES_MAX));
        else return;
      }
    } finally {
      link.sending = false;
    }
  }

  private append(link: AcceptorLink, wal: Uint8Array): Promise<void> {
    const { commitLsn, truncateLsn, term } = this;
    const beginLsn = link.at!;
    const endLsn = (beginLsn + wal.length) as Lsn;
    link.at = endLsn;
    link.toldCommitLsn = commitLsn;
    const { generation } = this.membership;
    return link.send({
      kind: 'append-request',
      generation,
      term,
      beginLsn,
      endLsn,
      commitLsn,
      truncateLsn,
      wal,
    });
  }

  /** From another safekeeper, until what it wants is in the buffer. */
  private async catchUp(link: AcceptorLink): Promise<void> {
    let at = link.at!;
    const donor = this.links.find(l => l !== link && l.at !== undefined && l.flushLsn > at);
    try {
      if (donor === undefined) throw new Fault('wal-missing', 'nobody has it');
      const request = { from: donor.target, greeting: this.greeting, term: this.term, start: at };
      for await (const wal of readDonor(request, this.deps)) {
        if (this.phase !== 'elected' || link.at !== at) return;
        await this.append(link, wal);
        at = (at + wal.length) as Lsn;
        while (link.at === at && link.inFlightBytes > WINDOW_BYTES) await link.changed();
        if (at >= this.buffer!.start) return;
      }
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      link.trouble = `catching up from ${formatLsn(at)}: ${error.message}`;
      await this.deps.clock.sleep(DONOR_RETRY_MS);
    }
  }

  private onAppended(link: AcceptorLink, message: AppendResponse): void {
    if (message.term > this.term) throw new TakenOver(message.term);
    if (link.at === undefined || message.term < this.term) return;
    if (message.flushLsn > link.flushLsn) link.flushLsn = message.flushLsn;
    const { pageserverFeedback: feedback } = message;
    if (feedback !== undefined && feedback.lastReceivedLsn > link.pageserverLsn)
      link.pageserverLsn = feedback.lastReceivedLsn;
    const { startLsn } = this.victory!;
    const standings = this.links.map(({ nodeId, flushLsn }) => ({
      nodeId,
      lsn: flushLsn >= startLsn ? flushLsn : 0,
    }));
    const commitLsn = quorumLsn(this.membership, standings);
    if (commitLsn > this.commitLsn) this.commit(commitLsn);
    this.pump(link);
  }

  private commit(commitLsn: Lsn): void {
    this.commitLsn = commitLsn;
    const everywhere = Math.min(commitLsn, ...this.flushed);
    if (everywhere > this.truncateLsn) this.truncateLsn = everywhere as Lsn;
    this.buffer!.trim(commitLsn - (this.options.keepBytes ?? KEEP_BYTES));
    for (const resolve of this.waiting.splice(0)) resolve();
    this.options.onCommit?.();
    for (const link of this.links) this.pump(link);
  }

  /** Heartbeats: safekeepers and we notice each other's end by silence. */
  private async beat(): Promise<void> {
    const { signal } = this.closing;
    while (!signal.aborted) {
      await this.deps.clock.sleep(HEARTBEAT_MS / 2, signal).catch(() => {});
      for (const link of this.links) {
        if (!link.heartbeatDue(HEARTBEAT_MS) || this.phase !== 'elected') continue;
        if (link.at !== undefined && !link.sending) void this.append(link, new Uint8Array(0));
      }
    }
  }
}
