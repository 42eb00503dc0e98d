// The proposer in place of Postgres: what walproposer.c does, rule by rule, over model links. It is written from
// that file and shares no code with the safekeeper, but for the messages and the quorum arithmetic.
//
//   connect to all, greet        -> terms of a majority -> own term = highest + 1
//   ask for votes                -> a majority          -> elected: donor = newest log, own WAL begins at its end
//   elected to each, then append -> flushed positions   -> commit = what a majority has, from its own term's start on
//
// WAL before its own start is fetched from the donor, in its own term. A safekeeper that connects late votes and is
// told of the election as well. Whatever must not be makes the process start anew (`Restart`), as FATAL does in C.

import { INVALID_LSN, type Lsn } from '../../src/base/lsn.ts';
import { type MembershipConfiguration, NO_MEMBERSHIP } from '../../src/protocol/membership.ts';
import type {
  AcceptorGreeting,
  AcceptorMessage,
  AppendResponse,
  ProposerMessage,
  Term,
  TermHistory,
  VoteResponse,
} from '../../src/protocol/walproposer.ts';
import { readAcceptorMessage, writeProposerMessage } from '../../src/protocol/walproposer-v3.ts';
import { hasQuorum, majority, majorityLsn, quorumLsn } from '../../src/safekeeper/membership.ts';
import { ModelWal } from './model-wal.ts';
import type { Link } from './net.ts';
import type { ProposerOptions } from './proposer-options.ts';

class Restart extends Error {}

type SlotState =
  | 'offline'
  | 'connecting'
  | 'greeting'
  | 'wait-voting'
  | 'wait-verdict'
  | 'wait-elected'
  | 'active';

interface Slot {
  readonly address: string;
  state: SlotState;
  link: Link | undefined;
  attempt: number;
  nodeId: number;
  vote: VoteResponse | undefined;
  greeting: AcceptorGreeting | undefined;
  streamingAt: Lsn;
  fetching: boolean;
  /** Kept over reconnections. */
  flushLsn: Lsn;
  commitLsn: Lsn;
  heardMs: number;
}

export class Proposer {
  readonly options: ProposerOptions;
  private readonly slots: Slot[];
  private phase: 'collecting-terms' | 'campaign' | 'elected' = 'collecting-terms';
  private stopped = false;
  private membership: MembershipConfiguration = NO_MEMBERSHIP;
  private greeted = 0;
  term: Term = 0;
  private history: TermHistory = [];
  private donor: Slot | undefined;
  private termStartLsn: Lsn = INVALID_LSN;
  private truncateLsn: Lsn = INVALID_LSN;
  private availableLsn: Lsn = INVALID_LSN;
  commitLsn: Lsn = INVALID_LSN;

  constructor(options: ProposerOptions) {
    this.options = options;
    this.slots = options.nodes.map(address => ({
      address,
      state: 'offline',
      link: undefined,
      attempt: 0,
      nodeId: 0,
      vote: undefined,
      greeting: undefined,
      streamingAt: INVALID_LSN,
      fetching: false,
      flushLsn: INVALID_LSN,
      commitLsn: INVALID_LSN,
      heardMs: 0,
    }));
  }

  start(): void {
    this.tick();
  }

  stop(): void {
    this.stopped = true;
    for (const slot of this.slots) {
      slot.attempt++;
      slot.link?.close();
    }
  }

  get isElected(): boolean {
    return this.phase === 'elected' && !this.stopped;
  }

  /** New WAL of the compute, up to the end of what it wrote. */
  produce(payload: Uint8Array): void {
    const { wal } = this.options.compute;
    if (!this.isElected || wal === undefined || this.options.sync) return;
    wal.add(payload);
    this.availableLsn = wal.end;
    this.guard(() => this.broadcast());
  }

  produceSwitch(): void {
    const { wal } = this.options.compute;
    if (!this.isElected || wal === undefined || this.options.sync) return;
    wal.addSwitch();
    this.availableLsn = wal.end;
    this.guard(() => this.broadcast());
  }

  /** Everything that may be fatal runs through here. */
  private guard(work: () => void): void {
    if (this.stopped) return;
    try {
      work();
    } catch (error) {
      if (error instanceof Restart) this.restart(error.message);
      else this.options.onBreach(error);
    }
  }

  private restart(why: string): void {
    if (this.stopped) return;
    this.stop();
    this.options.onRestart(why);
  }

  // -------------------------------------------------------------------------------------------------- connecting

  private tick(): void {
    if (this.stopped) return;
    const { clock, reconnectMs, timeoutMs } = this.options;
    this.guard(() => {
      for (const slot of this.slots) {
        if (slot.state !== 'offline' && clock.monotonic() - slot.heardMs > timeoutMs) this.shutDown(slot);
        if (slot.state === 'offline') this.connect(slot);
      }
      // Keepalive: an empty message where there is nothing to say.
      if (this.phase === 'elected') this.broadcast();
    });
    clock.at(reconnectMs, () => this.tick());
  }

  private connect(slot: Slot): void {
    const { net, name, useGenerations, clock } = this.options;
    const attempt = ++slot.attempt;
    slot.state = 'connecting';
    slot.heardMs = clock.monotonic();
    const purpose = useGenerations ? 'push' : 'push-and-create';
    net.connect(name, slot.address, purpose).then(
      link => {
        if (this.stopped || slot.attempt !== attempt) {
          link.close();
          return;
        }
        slot.link = link;
        this.send(slot, {
          kind: 'greeting',
          tenantId: this.options.key.tenantId,
          timelineId: this.options.key.timelineId,
          membership: NO_MEMBERSHIP,
          pgVersion: this.options.pgVersion,
          systemId: this.options.sync ? 0n : 1n,
          walSegSize: this.options.segmentSize,
        });
        slot.state = 'greeting';
        void this.listen(slot, link, attempt);
      },
      () => {
        if (slot.attempt === attempt) this.shutDown(slot);
      },
    );
  }

  private async listen(slot: Slot, link: Link, attempt: number): Promise<void> {
    for (;;) {
      const bytes = await link.receive();
      if (this.stopped || slot.attempt !== attempt) return;
      if (bytes === undefined) {
        this.shutDown(slot);
        return;
      }
      slot.heardMs = this.options.clock.monotonic();
      this.guard(() => this.onMessage(slot, readAcceptorMessage(bytes)));
    }
  }

  private shutDown(slot: Slot): void {
    slot.attempt++;
    slot.state = 'offline';
    slot.streamingAt = INVALID_LSN;
    slot.fetching = false;
    slot.vote = undefined;
    slot.link?.close();
    slot.link = undefined;
  }

  private send(slot: Slot, message: ProposerMessage): void {
    slot.link?.send(writeProposerMessage(message));
  }

  private onMessage(slot: Slot, message: AcceptorMessage): void {
    // A repeated or late message of another phase: in C the connection would be found out of step.
    if (message.kind === 'greeting-reply' && slot.state === 'greeting') this.onGreeting(slot, message);
    else if (message.kind === 'vote-response' && slot.state === 'wait-verdict') this.onVote(slot, message);
    else if (message.kind === 'append-response' && slot.state === 'active')
      this.onAppendResponse(slot, message);
    else this.shutDown(slot);
  }

  // --------------------------------------------------------------------------------------------------- election

  private get generations(): boolean {
    return this.options.useGenerations || this.membership.generation > 0;
  }

  /** Has a majority (of both sets, where there are two) come as far as `reached` says? */
  private quorum(reached: (slot: Slot) => boolean): boolean {
    const { rules } = this.options;
    if (!this.generations) {
      const needed = rules.majority ? majority(this.slots.length) : 1;
      return this.slots.filter(reached).length >= needed;
    }
    if (this.membership.generation === 0) return false;
    return hasQuorum(this.effective(), id => this.slots.some(slot => slot.nodeId === id && reached(slot)));
  }

  private effective(): MembershipConfiguration {
    const { newMembers } = this.membership;
    if (this.options.rules.bothSets || newMembers === undefined) return this.membership;
    return { ...this.membership, members: newMembers, newMembers: undefined };
  }

  private onGreeting(slot: Slot, greeting: AcceptorGreeting): void {
    slot.greeting = greeting;
    slot.nodeId = greeting.nodeId;
    if (greeting.membership.generation > this.membership.generation) {
      if (this.phase !== 'collecting-terms') throw new Restart('a newer membership');
      this.membership = greeting.membership;
    }
    slot.state = 'wait-voting';
    this.greeted++;
    if (this.phase === 'collecting-terms') {
      this.term = Math.max(this.term, greeting.term);
      if (!this.termsCollected()) return;
      this.term++;
      this.phase = 'campaign';
    } else if (greeting.term > this.term) {
      throw new Restart('a higher term in a greeting');
    }
    for (const other of this.slots) if (other.state === 'wait-voting') this.requestVote(other);
  }

  private termsCollected(): boolean {
    // As in C, connections are counted and not nodes where generations are not used: at worst the vote is lost.
    if (!this.generations)
      return this.greeted >= (this.options.rules.majority ? majority(this.slots.length) : 1);
    return this.quorum(slot => slot.state === 'wait-voting');
  }

  private requestVote(slot: Slot): void {
    slot.state = 'wait-verdict';
    this.send(slot, { kind: 'vote-request', generation: this.membership.generation, term: this.term });
  }

  private onVote(slot: Slot, vote: VoteResponse): void {
    if (!vote.voteGiven && (vote.term > this.term || this.phase === 'campaign'))
      throw new Restart('a vote was refused');
    slot.vote = vote;
    slot.state = 'wait-elected';
    if (this.phase !== 'campaign') {
      this.sendElected(slot);
      return;
    }
    if (!this.quorum(other => other.state === 'wait-elected')) return;
    this.phase = 'elected';
    this.becomeLeader();
  }

  private isCounted(slot: Slot): boolean {
    if (!this.generations) return true;
    const sets = [this.membership.members, this.membership.newMembers ?? []];
    return sets.some(set => set.some(member => member.id === slot.nodeId));
  }

  private becomeLeader(): void {
    const { compute, rules, sync, checker, name } = this.options;
    const lastTerm = (vote: VoteResponse): Term => vote.termHistory[vote.termHistory.length - 1]?.term ?? 0;
    for (const slot of this.slots) {
      if (slot.state !== 'wait-elected' || slot.vote === undefined || !this.isCounted(slot)) continue;
      const best = this.donor?.vote;
      const byTerm = best === undefined || !rules.donorByTermFirst ? 0 : lastTerm(slot.vote) - lastTerm(best);
      if (best === undefined || byTerm > 0 || (byTerm === 0 && slot.vote.flushLsn > best.flushLsn))
        this.donor = slot;
      this.truncateLsn = Math.max(this.truncateLsn, slot.vote.truncateLsn) as Lsn;
    }
    const vote = this.donor!.vote!;
    this.termStartLsn = vote.flushLsn;
    if (this.termStartLsn === INVALID_LSN) {
      if (sync) {
        this.finishSync(INVALID_LSN);
        return;
      }
      this.termStartLsn = this.truncateLsn = this.options.redoLsn;
    }
    this.availableLsn = this.termStartLsn;
    this.history = [...vote.termHistory, { term: this.term, lsn: this.termStartLsn }];
    // The compute's own writing goes on where nobody else has written since; otherwise it is another compute,
    // with a base backup of exactly this position.
    if (compute.wal === undefined || lastTerm(vote) !== compute.mineLastElectedTerm) {
      const { pgVersion, segmentSize } = this.options;
      compute.wal = new ModelWal(this.termStartLsn, { pgVersion, segmentSize });
    }
    compute.mineLastElectedTerm = this.term;
    checker.elected({ name, term: this.term, history: this.history, wal: compute.wal }, this.termStartLsn);
    if (this.truncateLsn === this.termStartLsn && sync) {
      this.finishSync(this.termStartLsn);
      return;
    }
    this.options.onElected?.();
    for (const slot of this.slots) if (slot.state === 'wait-elected') this.sendElected(slot);
    if (!sync && compute.wal.end > this.availableLsn) {
      this.availableLsn = compute.wal.end;
      this.broadcast();
    }
  }

  private sendElected(slot: Slot): void {
    const vote = slot.vote!;
    slot.streamingAt = this.startFor(vote);
    if (slot.streamingAt > this.availableLsn)
      throw new Restart('a safekeeper is ahead of the leader it elected');
    this.send(slot, {
      kind: 'elected',
      generation: this.membership.generation,
      term: this.term,
      startStreamingAt: slot.streamingAt,
      termHistory: this.history,
    });
    slot.state = 'active';
    this.sendAppends(slot);
  }

  /** Where this safekeeper's log and ours part; it computes the same. */
  private startFor(vote: VoteResponse): Lsn {
    const theirs = vote.termHistory;
    let i = 0;
    while (i < theirs.length && i < this.history.length && theirs[i]!.term === this.history[i]!.term) {
      if (theirs[i]!.lsn !== this.history[i]!.lsn) throw new Restart('one term begins at two positions');
      i++;
    }
    if (i === 0) return this.history[0]!.lsn;
    if (this.history[i - 1]!.term === this.term) return vote.flushLsn;
    const ourEnd = this.history[i]!.lsn;
    const theirEnd = theirs[i]?.lsn ?? vote.flushLsn;
    return Math.min(ourEnd, theirEnd) as Lsn;
  }

  // -------------------------------------------------------------------------------------------------- streaming

  private broadcast(): void {
    for (const slot of this.slots) if (slot.state === 'active') this.sendAppends(slot);
  }

  /** All there is to send, as far as the window allows; a heartbeat if that is nothing and something is due. */
  private sendAppends(slot: Slot, somethingDue = true): void {
    if (slot.fetching) return;
    let due = somethingDue;
    while (slot.state === 'active') {
      const from = slot.streamingAt;
      const room =
        this.options.windowBytes - Math.max(0, slot.flushLsn === INVALID_LSN ? 0 : from - slot.flushLsn);
      const to = Math.min(from + (room > 0 ? this.options.sendBytesMax : 0), this.availableLsn) as Lsn;
      if (to === from && !due) return;
      due = false;
      const { wal } = this.options.compute;
      if (to > from && (wal === undefined || from < wal.start)) {
        this.fetchFor(slot, from);
        return;
      }
      this.append(slot, from, to === from ? new Uint8Array(0) : wal!.bytes(from, to));
    }
  }

  private append(slot: Slot, beginLsn: Lsn, wal: Uint8Array): void {
    slot.streamingAt = (beginLsn + wal.length) as Lsn;
    this.send(slot, {
      kind: 'append-request',
      generation: this.membership.generation,
      term: this.term,
      beginLsn,
      endLsn: slot.streamingAt,
      commitLsn: this.commitLsn,
      truncateLsn: this.truncateLsn,
      wal,
    });
  }

  /** WAL from before our time: from the donor, in our term. */
  private fetchFor(slot: Slot, from: Lsn): void {
    const to = Math.min(
      from + this.options.fetchBytes(),
      this.termStartLsn,
      this.options.compute.wal?.start ?? Infinity,
    ) as Lsn;
    const source = this.bestDonor(to);
    if (source === undefined) return;
    slot.fetching = true;
    const { attempt } = slot;
    this.options.fetch(source.address, from, to - from, this.term).then(
      bytes => {
        if (this.stopped || slot.attempt !== attempt) return;
        slot.fetching = false;
        this.guard(() => {
          if (slot.state !== 'active' || bytes.length === 0) return;
          this.append(slot, from, bytes);
          this.sendAppends(slot, false);
        });
      },
      () => {
        if (this.stopped || slot.attempt !== attempt) return;
        this.shutDown(slot);
      },
    );
  }

  /** The voter that gave our start, while we are connected; or whoever has said it has that much. */
  private bestDonor(upTo: Lsn): Slot | undefined {
    if (this.donor?.state === 'active') return this.donor;
    return this.slots.find(slot => slot.state === 'active' && slot.flushLsn >= upTo);
  }

  private onAppendResponse(slot: Slot, response: AppendResponse): void {
    if (this.options.rules.ownGenerationOnly && response.generation !== this.membership.generation) {
      throw new Restart('another generation in a response');
    }
    if (response.term > this.term) throw new Restart('a higher term in a response');
    slot.flushLsn = response.flushLsn;
    slot.commitLsn = response.commitLsn;
    const commit = this.acknowledged();
    if (commit > this.commitLsn) {
      this.commitLsn = commit;
      const { checker, name } = this.options;
      checker.committed({ name, term: this.term, history: this.history }, commit);
      this.broadcast();
    } else {
      this.sendAppends(slot, false);
    }
    const least = this.slots.reduce((min, other) => Math.min(min, other.flushLsn), Infinity);
    this.truncateLsn = Math.max(this.truncateLsn, Math.min(least, this.commitLsn)) as Lsn;
    if (this.options.sync) this.checkSynced(commit);
  }

  /** Where a majority has flushed; those still in an earlier term's WAL do not count. */
  private acknowledged(): Lsn {
    const counted = (slot: Slot): Lsn =>
      !this.options.rules.commitOwnTermOnly || slot.flushLsn >= this.termStartLsn
        ? slot.flushLsn
        : INVALID_LSN;
    if (!this.generations) {
      const positions = this.slots.map(counted);
      return this.options.rules.majority ? majorityLsn(positions) : (Math.max(...positions) as Lsn);
    }
    return quorumLsn(this.effective(), id => {
      const slot = this.slots.find(other => other.nodeId === id);
      return slot === undefined ? INVALID_LSN : counted(slot);
    });
  }

  private checkSynced(commit: Lsn): void {
    for (const slot of this.slots) {
      if (slot.state !== 'offline' && slot.commitLsn < this.termStartLsn) return;
    }
    if (commit < this.termStartLsn) return;
    this.broadcast();
    this.finishSync(this.termStartLsn);
  }

  private finishSync(lsn: Lsn): void {
    this.stop();
    this.options.onSynced(lsn);
  }
}
