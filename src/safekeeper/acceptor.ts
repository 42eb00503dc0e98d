// The acceptor: what a safekeeper decides, as a function. It holds the WAL of one timeline for whichever proposer
// (compute) a majority has elected, and promises three things:
//
//   votes      at most one proposer is elected in a term
//   agreement  what two acceptors hold of one term is the same bytes
//   keeping    what a majority acknowledged stays in every log elected later
//
// `step` takes the state and one input and gives the state after it and the effects that make it so. The driver
// (driver.ts) carries effects out in order and stops at the first that fails: nothing after it happened. A refused
// message is a thrown Fault: nothing happened at all. So every ordering promise is the order of an array:
//
//   vote      flush, persist(term), reply       elected   persist(term), truncate, persist(history), reply
//   append    write  ... flush, reply           switch    flush, reply(old), persist(membership), reply
//
// Appends are answered in batches: `write` at once, and one `flush` for all that gathered (input `flush`), or for
// the beginning of it, when more was taken in while the disk was at work. Only the last append of a session in what
// is flushed is answered with an AppendResponse; the others are answered by nothing.
//
// Answers to SafeKeeper::process_msg of safekeeper/src/safekeeper.rs and TimelineState of state.rs; the rules
// are those of section 3 of Raft's paper with log positions for indexes.

import { assert, unreachable } from '../base/assert.ts';
import { Fault } from '../base/fault.ts';
import { formatLsn, INVALID_LSN, type Lsn } from '../base/lsn.ts';
import { INVALID_GENERATION, type MembershipConfiguration } from '../protocol/membership.ts';
import {
  type AcceptorMessage,
  APPEND_BYTES_MAX,
  type AppendRequest,
  type ProposerElected,
  type ProposerGreeting,
  type ProposerMessage,
  type Term,
  type VoteRequest,
} from '../protocol/walproposer.ts';
import {
  type AcceptorState,
  appendResponse,
  type BatchPart,
  type Caller,
  controlWithMemory,
  type Effect,
  flushLsnOf,
  type Input,
  lastLogTermOf,
  memoryOf,
  nothingTo,
  replyTo,
  type Step,
  termHistoryOf,
  termOnly,
} from './acceptor-state.ts';
import { type ControlState, sameControl, sameHistory } from './control-state.ts';
import { checkMembership, isMember, notMember } from './membership.ts';
import { checkElectedHistory, formatHistory, highestCommonPoint } from './term-history.ts';
import type { MembershipSwitch, MemoryState, PeerInfo } from './timeline-handle.ts';

export function step(state: AcceptorState, input: Input): Step {
  switch (input.on) {
    case 'message':
      return onMessage(state, input.from, input.message);
    case 'written':
      return onWritten(state, input.recordLsn);
    case 'flush':
      return onFlush(state, input.upTo);
    case 'peer':
      return onPeer(state, input.info);
    case 'term-bump':
      return onTermBump(state, input.from, input.to);
    case 'membership':
      return onMembership(state, input.from, input.to);
    case 'backed-up':
      return raise(state, { backupLsn: input.backupLsn });
    case 'remote-consistent':
      return raise(state, { remoteConsistentLsn: input.lsn });
    case 'checkpoint':
      return persistAll(state, controlWithMemory(state));
    case 'control':
      return onControl(state, input.change);
    case 'write-refused':
      return { state: { ...state, pendingTruncation: true }, effects: [] };
    default:
      return unreachable(input);
  }
}

function onMessage(state: AcceptorState, from: Caller, message: ProposerMessage): Step {
  switch (message.kind) {
    case 'greeting':
      return onGreeting(state, from, message);
    case 'vote-request':
      return onVoteRequest(state, from, message);
    case 'elected':
      return onElected(state, from, message);
    case 'append-request':
      return onAppend(state, from, message);
    default:
      return unreachable(message);
  }
}

// ---------------------------------------------------------------------------------------------------- greeting

const majorOf = (pgVersion: number): number => Math.floor(pgVersion / 10000);

function onGreeting(state: AcceptorState, from: Caller, greeting: ProposerGreeting): Step {
  const { control } = state;
  checkGreeting(control, greeting);
  let next = control;
  // A compute that knows who it is says so; --sync-safekeepers does not and sends 0. Stock walreceivers compare
  // the identifier with their own pg_control, so the real one must be kept.
  const { systemId, pgVersion } = greeting;
  if (systemId !== 0n && (systemId !== control.server.systemId || pgVersion !== control.server.pgVersion)) {
    next = { ...next, server: { ...control.server, systemId, pgVersion } };
  }
  // The proposer may know a newer configuration than we do. It is adopted, or we could be left out of a quorum
  // we belong to; but only if we belong to it: an outsider that obeyed it would take part in votes it must not.
  const { membership } = greeting;
  if (membership.generation > control.membership.generation) {
    checkMembership(membership);
    if (!isMember(membership, state.nodeId)) throw notMember(state.nodeId, membership);
    next = { ...next, membership };
  }
  // As at any switch, what came under the old generation is answered under it.
  const effects: Effect[] = [];
  const synced = next === control ? state : closeBatch(state, effects);
  const reply: AcceptorMessage = {
    kind: 'greeting-reply',
    nodeId: state.nodeId,
    membership: next.membership,
    term: next.term,
  };
  if (next === control) return { state, effects: [replyTo(from, reply)] };
  const { server, membership: adopted } = next;
  const after = persist(synced, { ...controlWithMemory(synced), server, membership: adopted }, effects);
  return finish(after, effects, [replyTo(from, reply)]);
}

function checkGreeting(control: ControlState, greeting: ProposerGreeting): void {
  const refuse = (what: string, got: unknown, expected: unknown): never => {
    throw new Fault('protocol-violation', `greeting with ${what} ${got}, expected ${expected}`, {
      hint: 'The compute is configured for another timeline, or for another version of Postgres.',
    });
  };
  if (greeting.tenantId !== control.tenantId) refuse('tenant', greeting.tenantId, control.tenantId);
  if (greeting.timelineId !== control.timelineId) refuse('timeline', greeting.timelineId, control.timelineId);
  // WAL differs between majors: what we decode must be what the proposer writes.
  const known = control.server.pgVersion !== 0;
  if (known && majorOf(greeting.pgVersion) !== majorOf(control.server.pgVersion)) {
    refuse('Postgres version', greeting.pgVersion, control.server.pgVersion);
  }
  // With system id 0 it is `postgres --sync-safekeepers`, which reads no pg_control and says the default.
  if (greeting.systemId !== 0n && greeting.walSegSize !== control.server.walSegSize) {
    refuse('WAL segment size', greeting.walSegSize, control.server.walSegSize);
  }
}

// -------------------------------------------------------------------------------------------------------- vote

function onVoteRequest(state: AcceptorState, from: Caller, request: VoteRequest): Step {
  checkGeneration(state, request.generation, 'vote');
  const effects: Effect[] = [];
  // First sync what we hold. Once voted we refuse older proposers, and the new one streams from the end of our
  // log as we tell it here: it must not overlap with bytes that are still on their way to the disk, nor count
  // on bytes that a crash would take away.
  const synced = closeBatch(state, effects);
  // One vote a term: two proposers that campaign with the same number cannot both get a majority.
  const voteGiven = synced.control.term < request.term;
  const term = voteGiven ? request.term : synced.control.term;
  const reply: AcceptorMessage = {
    kind: 'vote-response',
    generation: synced.control.membership.generation,
    term,
    voteGiven,
    flushLsn: flushLsnOf(synced),
    truncateLsn: synced.memory.peerHorizonLsn,
    termHistory: termHistoryOf(synced),
  };
  if (!voteGiven) return finish(synced, effects, [replyTo(from, reply)]);
  // The vote is durable before it is told: a node that forgot it in a crash could give it again.
  const after = persist(synced, { ...controlWithMemory(synced), term }, effects);
  return finish(after, effects, [replyTo(from, reply)]);
}

// ----------------------------------------------------------------------------------------------------- elected

function onElected(state: AcceptorState, from: Caller, message: ProposerElected): Step {
  checkGeneration(state, message.generation, 'election');
  checkElectedHistory(message.termHistory, message.term);
  const effects: Effect[] = [];
  let next = closeBatch(state, effects);
  // Older than what we voted for: ignored. Its next append is answered with our term, which sends it away.
  if (next.control.term > message.term) return finish(next, effects, [nothingTo(from)]);

  const start = message.startStreamingAt;
  const common = highestCommonPoint(message.termHistory, termHistoryOf(next), flushLsnOf(next));
  // Both sides compute it; a difference means that the proposer knows an older log of ours (another connection
  // of its own has written since). It will reconnect and ask again; truncating now would lose what it counted.
  if (common !== start) {
    throw new Fault(
      'protocol-violation',
      `elected message of term ${message.term} starts at ${formatLsn(start)}, the logs agree up to ${formatLsn(common)}: ` +
        `proposer ${formatHistory(message.termHistory)}, here ${formatHistory(termHistoryOf(next))} flush ${formatLsn(flushLsnOf(next))}`,
      {
        hint: 'The proposer reconnects and computes its starting point anew; if it repeats, logs have diverged.',
      },
    );
  }
  // Committed WAL is never truncated: an elected log holds all of it, so no honest proposer asks for this.
  if (start < next.memory.commitLsn) {
    throw new Fault(
      'protocol-violation',
      `elected message of term ${message.term} would truncate committed WAL: start ${formatLsn(start)}, commit ${formatLsn(next.memory.commitLsn)}`,
    );
  }
  if (next.control.term < message.term) {
    // Elected elsewhere without our vote: from here on nobody of a lower term is listened to.
    next = persist(next, { ...controlWithMemory(next), term: message.term }, effects);
  }
  // WAL goes first, the history that describes it second. The other way round, a crash in between would leave
  // bytes of a lost term under the name of the new one.
  next = truncate(next, start, effects);
  next = persist(next, adoptHistory(controlWithMemory(next), message), effects);
  const termStartLsn = message.termHistory[message.termHistory.length - 1]!.lsn;
  return finish({ ...next, termStartLsn }, effects, [nothingTo(from)]);
}

function truncate(state: AcceptorState, to: Lsn, effects: Effect[]): AcceptorState {
  const { writeLsn, recordLsn, flushLsn } = state.wal;
  assert(to >= state.memory.commitLsn, 'never truncate below commit');
  assert(writeLsn === INVALID_LSN || to <= recordLsn, 'truncation to a position that was never written');
  const clean = !state.pendingTruncation && to === writeLsn && to === flushLsn;
  if (!clean) effects.push({ do: 'truncate', to });
  return { ...state, wal: { writeLsn: to, recordLsn: to, flushLsn: to }, pendingTruncation: false };
}

/** The control record once this proposer's history is ours. The first one also says where the timeline begins. */
function adoptHistory(control: ControlState, message: ProposerElected): ControlState {
  const first = message.termHistory[0]!.lsn;
  const start = control.timelineStartLsn === INVALID_LSN ? first : control.timelineStartLsn;
  const atLeastStart = (lsn: Lsn): Lsn => Math.max(lsn, start) as Lsn;
  return {
    ...control,
    timelineStartLsn: start,
    peerHorizonLsn: control.peerHorizonLsn === INVALID_LSN ? start : control.peerHorizonLsn,
    localStartLsn: control.localStartLsn === INVALID_LSN ? message.startStreamingAt : control.localStartLsn,
    // Known before the first record is acknowledged: after a crash the end of WAL is searched from here, past
    // the hole before the timeline's first byte.
    commitLsn: atLeastStart(control.commitLsn),
    // Or backup would begin with segment 0, and the pageserver would be asked for all before the beginning.
    backupLsn: atLeastStart(control.backupLsn),
    remoteConsistentLsn: atLeastStart(control.remoteConsistentLsn),
    termHistory: message.termHistory,
  };
}

// ------------------------------------------------------------------------------------------------------ append

function onAppend(state: AcceptorState, from: Caller, request: AppendRequest): Step {
  checkGeneration(state, request.generation, 'append');
  const { control, wal } = state;
  if (control.term < request.term) {
    throw new Fault(
      'protocol-violation',
      `append of term ${request.term} before its election, here term ${control.term}`,
    );
  }
  // A proposer never raises its own term, so our higher one tells it that it was replaced. No positions: they
  // belong to another history than the one it would read them by.
  if (control.term > request.term) {
    return { state, effects: [replyTo(from, termOnly(state))] };
  }
  checkAppend(state, request);
  const effects: Effect[] = [];
  // Zero bytes are a heartbeat: checked and answered as any append, or the proposer takes us for dead.
  if (request.wal.length > 0) effects.push({ do: 'write', at: request.beginLsn, bytes: request.wal });
  const next: AcceptorState = {
    ...state,
    wal: { ...wal, writeLsn: request.endLsn },
    announcedCommitLsn: Math.max(state.announcedCommitLsn, request.commitLsn) as Lsn,
    // The proposer's value may lag behind ours, which we told it at its election; it never goes back.
    memory: {
      ...state.memory,
      peerHorizonLsn: Math.max(state.memory.peerHorizonLsn, request.truncateLsn) as Lsn,
    },
    batch: [...state.batch, from],
  };
  return { state: next, effects };
}

function checkAppend(state: AcceptorState, request: AppendRequest): void {
  const { beginLsn, endLsn, commitLsn, truncateLsn, wal } = request;
  const refuse = (why: string): never => {
    throw new Fault('protocol-violation', `append at ${formatLsn(beginLsn)}: ${why}`);
  };
  if (endLsn - beginLsn !== wal.length) refuse(`${wal.length} bytes do not end at ${formatLsn(endLsn)}`);
  if (wal.length > APPEND_BYTES_MAX) refuse(`${wal.length} bytes, at most ${APPEND_BYTES_MAX}`);
  if (commitLsn % 8 !== 0) refuse(`commit ${formatLsn(commitLsn)} is no record boundary`);
  if (truncateLsn % 8 !== 0) refuse(`truncate ${formatLsn(truncateLsn)} is no record boundary`);
  // Voted is not elected: before the elected message of this very term our log may hold another term's end, and
  // our history would name these bytes by another term.
  const { termHistory } = state.control;
  if (termHistory[termHistory.length - 1]?.term !== request.term)
    refuse(`no election of term ${request.term} here`);
  if (state.pendingTruncation) refuse('no elected message since the start, or since a step failed');
  // No gaps and no overwrites. Rewriting is met in practice: a proposer reconnects and writes on while packets
  // of its former connection still arrive.
  if (beginLsn !== state.wal.writeLsn) refuse(`WAL is written up to ${formatLsn(state.wal.writeLsn)}`);
}

function onWritten(state: AcceptorState, recordLsn: Lsn): Step {
  const { wal } = state;
  assert(recordLsn >= wal.recordLsn, `record boundary went back from ${formatLsn(wal.recordLsn)}`);
  assert(recordLsn <= wal.writeLsn, `record boundary ${formatLsn(recordLsn)} is past what is written`);
  return { state: { ...state, wal: { ...wal, recordLsn } }, effects: [] };
}

function onFlush(state: AcceptorState, upTo?: BatchPart): Step {
  const effects: Effect[] = [];
  return finish(closeBatch(state, effects, upTo), effects);
}

/** Sync what is written, take over the commit position told with it, and answer the batch; or the part of it. */
function closeBatch(state: AcceptorState, effects: Effect[], upTo?: BatchPart): AcceptorState {
  const { wal, batch } = state;
  const to = upTo?.recordLsn ?? wal.recordLsn;
  assert(to <= wal.recordLsn, `a flush to ${formatLsn(to)}, past the last record`);
  let next = state;
  if (wal.flushLsn < to) {
    effects.push({ do: 'flush', to });
    next = { ...next, wal: { ...wal, flushLsn: to } };
  }
  // After a setback nobody waits any more.
  const answered = upTo === undefined ? batch : batch.slice(0, upTo.callers);
  if (answered.length === 0) return next;
  next = advanceCommit(next, next.announcedCommitLsn, effects);
  const response = appendResponse(next);
  const last = new Map(answered.map(caller => [caller.session, caller]));
  for (const caller of answered) {
    effects.push(last.get(caller.session) === caller ? replyTo(caller, response) : nothingTo(caller));
  }
  const waiting = batch.slice(answered.length);
  // What those who still wait told of commit may lie past what is durable yet: it is looked at again with them.
  const announcedCommitLsn = waiting.length === 0 ? INVALID_LSN : next.announcedCommitLsn;
  return { ...next, batch: waiting, announcedCommitLsn };
}

/**
 * commit := what is known to be committed and is durable here; it never goes back. Whoever told the candidate
 * had our log's history (the same term, or the same last term): committed there is committed here.
 */
function advanceCommit(state: AcceptorState, candidate: Lsn, effects: Effect[]): AcceptorState {
  const known = Math.max(candidate, state.memory.commitLsn);
  const commitLsn = Math.min(known, flushLsnOf(state)) as Lsn;
  assert(commitLsn >= state.memory.commitLsn, 'commit went back');
  const next = { ...state, memory: { ...state.memory, commitLsn } };
  // --sync-safekeepers waits until every safekeeper has told a commit at its term's start, and what is told is
  // the persisted one: it goes out now and not with the next lazy save.
  const reached = commitLsn >= state.termStartLsn && state.control.commitLsn < state.termStartLsn;
  return reached ? persist(next, controlWithMemory(next), effects) : next;
}

// ----------------------------------------------------------------------------------- peers, operators, lazy saves

function onPeer(state: AcceptorState, info: PeerInfo): Step {
  const effects: Effect[] = [];
  // Equal last terms: the shorter log is the beginning of the longer, so what is committed there is committed
  // here as far as we have it. (Stricter than need be; comparing histories would allow more.)
  const sameLog = info.commitLsn !== INVALID_LSN && info.lastLogTerm === lastLogTermOf(state);
  const next = sameLog ? advanceCommit(state, info.commitLsn, effects) : state;
  const { backupLsn, remoteConsistentLsn, peerHorizonLsn } = info;
  return finish(raised(next, { backupLsn, remoteConsistentLsn, peerHorizonLsn }), effects);
}

/** An operator's fence: every proposer of a lower or equal term is sent away at its next message. */
function onTermBump(state: AcceptorState, from: Caller, to: Term | undefined): Step {
  const previous = state.control.term;
  const current = to === undefined ? previous + 1 : Math.max(previous, to);
  const reply: Effect = { do: 'reply', to: from, answer: { kind: 'term', previous, current } };
  const effects: Effect[] = [];
  const synced = closeBatch(state, effects);
  if (current === previous) return finish(synced, effects, [reply]);
  return finish(persist(synced, { ...controlWithMemory(synced), term: current }, effects), effects, [reply]);
}

function onMembership(state: AcceptorState, from: Caller, to: MembershipConfiguration): Step {
  checkMembership(to);
  const effects: Effect[] = [];
  // What came under the old generation is answered under it, before the switch; after it, none can be: whoever
  // drives the change counts on the positions we tell here being all there ever was of the old generation.
  let next = closeBatch(state, effects);
  const previous = next.control.membership;
  const switched = to.generation > previous.generation;
  if (switched) {
    if (!isMember(to, state.nodeId)) throw notMember(state.nodeId, to);
    next = persist(next, { ...controlWithMemory(next), membership: to }, effects);
  }
  const result: MembershipSwitch = {
    previous,
    current: next.control.membership,
    switched,
    term: next.control.term,
    lastLogTerm: lastLogTermOf(next),
    flushLsn: flushLsnOf(next),
  };
  return finish(next, effects, [{ do: 'reply', to: from, answer: { kind: 'membership', result } }]);
}

/** The operator's PATCH, and the bookkeeping of backup and eviction: anything but what would break a promise. */
function onControl(state: AcceptorState, change: (control: ControlState) => ControlState): Step {
  const before = controlWithMemory(state);
  const after = change(before);
  const refuse = (why: string): never => {
    throw new Fault('config-invalid', `this change of the control file is refused: ${why}`);
  };
  if (after.tenantId !== before.tenantId || after.timelineId !== before.timelineId)
    refuse('it is another timeline');
  if (after.term < before.term) refuse(`term ${after.term} is below ${before.term}`);
  if (after.membership.generation < before.membership.generation)
    refuse('the generation is below the one known');
  if (!sameHistory(after.termHistory, before.termHistory)) refuse('the term history is what the WAL here is');
  if (after.commitLsn < before.commitLsn)
    refuse(`commit ${formatLsn(after.commitLsn)} is below what is acknowledged`);
  if (after.commitLsn > flushLsnOf(state))
    refuse(`commit ${formatLsn(after.commitLsn)} is past the end of WAL`);
  return persistAll(state, { ...after, termHistory: before.termHistory });
}

function raised(state: AcceptorState, values: Partial<MemoryState>): AcceptorState {
  const memory = { ...state.memory };
  for (const key of Object.keys(values) as (keyof MemoryState)[]) {
    const value = values[key] ?? INVALID_LSN;
    // "No limit" is no position: whoever says that has not understood the question.
    if (Number.isFinite(value)) memory[key] = Math.max(memory[key], value) as Lsn;
  }
  return { ...state, memory };
}

const raise = (state: AcceptorState, values: Partial<MemoryState>): Step => finish(raised(state, values), []);

/**
 * The last effects of a step. If a value of memory has run a whole segment ahead of the control file, that is
 * saved too, after the replies and off their way: so a restart has little to search and removal is not held up.
 */
function finish(state: AcceptorState, effects: Effect[], replies: readonly Effect[] = []): Step {
  const all = [...effects, ...replies];
  const segment = state.control.server.walSegSize;
  const lags = (key: keyof MemoryState): boolean => state.memory[key] - state.control[key] >= segment;
  if (!lags('commitLsn') && !lags('backupLsn') && !lags('remoteConsistentLsn') && !lags('peerHorizonLsn')) {
    return { state, effects: all };
  }
  const saved = persist(state, controlWithMemory(state), all);
  return { state: saved, effects: all };
}

/** Unless nothing would change: proposers that reconnect send what we know already. */
function persist(state: AcceptorState, control: ControlState, effects: Effect[]): AcceptorState {
  if (sameControl(control, state.control)) return state;
  effects.push({ do: 'persist', control });
  return { ...state, control, memory: memoryOf(control) };
}

function persistAll(state: AcceptorState, control: ControlState): Step {
  const effects: Effect[] = [];
  return finish(persist(state, control, effects), effects);
}

// ----------------------------------------------------------------------------------------------------- helpers

/**
 * A proposer of another generation counts its quorum over other members: its majority and ours need not meet.
 * It must not be served, nor may it serve us; it learns the configuration from the greeting when it reconnects.
 */
function checkGeneration(state: AcceptorState, generation: number, what: string): void {
  const own = state.control.membership.generation;
  if (generation === own) return;
  throw new Fault(
    'generation-mismatch',
    `${what} of generation ${generation} is refused, here generation ${own}`,
    {
      hint:
        generation === INVALID_GENERATION
          ? 'The compute speaks protocol 2 or has no generation set, and this timeline uses generations.'
          : 'The compute learns the configuration when it reconnects.',
    },
  );
}
