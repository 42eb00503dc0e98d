// The promises of the safekeepers, checked from outside with knowledge of everything. A breach throws Breach,
// which ends the run.
//
// WHAT IS WHERE. A term has one leader, and a leader's WAL is written once; so the byte at an LSN is told by the
// term that wrote it, and a log is told by its term history and its end. `agree` compares two logs that way, and
// `checkBytes` reads the real bytes and compares them with what those leaders wrote.
//
//   leaders      one a term
//   elected      a new leader's log holds all that was committed before it            (keeping)
//   committed    what two leaders commit of one LSN is the same                       (agreement)
//   nodes        after every step: commit on a node is committed, and the same log;
//                term, persisted commit, and flush under one history never go back, over crashes too
//   told         what was told to a proposer is there after a crash; one vote a term
//   sealed       no plaintext of WAL in any byte ever written to a disk

import { Fault } from '../../src/base/fault.ts';
import { formatLsn, type Lsn } from '../../src/base/lsn.ts';
import type { AcceptorMessage, Term, TermHistory, TermSwitch } from '../../src/protocol/walproposer.ts';
import { type AcceptorState, flushLsnOf } from '../../src/safekeeper/acceptor-state.ts';
import { formatHistory } from '../../src/safekeeper/term-history.ts';
import type { TimelineStatus } from '../../src/safekeeper/timeline-handle.ts';
import { CANARY, type ModelWal } from './model-wal.ts';

/** A promise was broken: the run has found what it looked for. */
export class Breach extends Error {
  override readonly name = 'Breach';
  readonly rule: string;
  constructor(rule: string, message: string) {
    super(`${rule}: ${message}`);
    this.rule = rule;
  }
}

export interface Leader {
  readonly name: string;
  readonly term: Term;
  readonly history: TermHistory;
  readonly wal: ModelWal;
}

interface NodeMemory {
  term: Term;
  persistedCommitLsn: Lsn;
  /** Of the running process; a crash forgets it. */
  commitLsn: Lsn;
  generation: number;
  /** The last term of the history adopted, and the flush position told under it. */
  historyTerm: Term;
  toldFlushLsn: Lsn;
  flushLsn: Lsn;
  /** Where its log is being cut; Infinity when it is not. */
  cutLsn: number;
}

/** Which term wrote what of [0, end): entries without bytes are left out. */
function ranges(history: TermHistory, end: Lsn): TermSwitch[] {
  const found: TermSwitch[] = [];
  for (let i = 0; i < history.length; i++) {
    const entry = history[i]!;
    const to = Math.min(history[i + 1]?.lsn ?? end, end);
    if (entry.lsn < to) found.push(entry);
  }
  return found;
}

/** Two logs hold the same up to `end`. */
export function agree(a: TermHistory, b: TermHistory, end: Lsn): boolean {
  const [left, right] = [ranges(a, end), ranges(b, end)];
  return (
    left.length === right.length && left.every((e, i) => e.term === right[i]!.term && e.lsn === right[i]!.lsn)
  );
}

export class Checker {
  readonly leaders = new Map<Term, Leader & { readonly startLsn: Lsn }>();
  /** The highest position committed by anybody, and the log it is a position in. */
  committedLsn: Lsn;
  private committedHistory: TermHistory = [];
  /** The highest position committed in each term. */
  private readonly commits = new Map<Term, { readonly lsn: Lsn; readonly history: TermHistory }>();
  private readonly nodes = new Map<number, NodeMemory>();
  private readonly votes = new Map<string, string>();
  /** How often each promise was looked at. */
  readonly counts = { elections: 0, commits: 0, nodeChecks: 0, told: 0, bytesCompared: 0, writes: 0 };

  /** Told what happens, line by line; for those who look at one run. */
  readonly trace: (line: string) => void;

  constructor(startLsn: Lsn, trace: (line: string) => void = () => {}) {
    this.committedLsn = startLsn;
    this.trace = trace;
  }

  // -------------------------------------------------------------------------------------------------- leaders

  elected(leader: Leader, startLsn: Lsn): void {
    this.counts.elections++;
    this.trace(
      `${leader.name} is elected in term ${leader.term}, writes from ${formatLsn(startLsn)}: ${formatHistory(leader.history)}`,
    );
    const other = this.leaders.get(leader.term);
    if (other !== undefined) {
      throw new Breach(
        'one leader a term',
        `${other.name} and ${leader.name} were both elected in term ${leader.term}`,
      );
    }
    for (const [term, commit] of this.commits)
      if (term < leader.term) this.keeps(leader, startLsn, term, commit);
    this.leaders.set(leader.term, { ...leader, startLsn });
  }

  /** A log elected in a higher term holds what was committed in a lower one, whichever came first in time. */
  private keeps(
    leader: Leader,
    startLsn: Lsn,
    term: Term,
    commit: { readonly lsn: Lsn; readonly history: TermHistory },
  ): void {
    if (startLsn >= commit.lsn && agree(leader.history, commit.history, commit.lsn)) return;
    throw new Breach(
      'keeping',
      `${leader.name}, elected in term ${leader.term} to write from ${formatLsn(startLsn)}, does not have what was ` +
        `committed in term ${term} up to ${formatLsn(commit.lsn)}`,
    );
  }

  committed(by: { name: string; term: Term; history: TermHistory }, lsn: Lsn): void {
    this.counts.commits++;
    this.trace(`${by.name} commits ${formatLsn(lsn)} in term ${by.term}`);
    const leader = this.leaders.get(by.term);
    if (leader === undefined || lsn > leader.wal.end) {
      throw new Breach('agreement', `${by.name} committed ${formatLsn(lsn)}, which it never wrote`);
    }
    this.checkCommitted('agreement', by.name, by.history, Math.min(lsn, this.committedLsn) as Lsn);
    const commit = { lsn, history: by.history };
    this.commits.set(by.term, commit);
    for (const later of this.leaders.values()) {
      if (later.term > by.term) this.keeps(later, later.startLsn, by.term, commit);
    }
    if (lsn <= this.committedLsn) return;
    this.committedLsn = lsn;
    this.committedHistory = by.history;
  }

  private checkCommitted(rule: string, who: string, history: TermHistory, upTo: Lsn): void {
    if (agree(history, this.committedHistory, upTo)) return;
    throw new Breach(
      rule,
      `${who} has another log up to ${formatLsn(upTo)}: ${formatHistory(history)}, committed was ${formatHistory(this.committedHistory)}`,
    );
  }

  // ---------------------------------------------------------------------------------------------------- nodes

  /** After every step, each node that is up. */
  node(nodeId: number, status: TimelineStatus): void {
    this.counts.nodeChecks++;
    const { control, memory, flushLsn } = status;
    const last = this.memoryOf(nodeId);
    const back = (what: string, from: unknown, to: unknown): never => {
      throw new Breach('never back', `${what} of node ${nodeId} went from ${from} to ${to}`);
    };
    const position = (lsn: Lsn): string => formatLsn(lsn);
    if (control.term < last.term) back('term', last.term, control.term);
    if (control.membership.generation < last.generation) {
      back('generation', last.generation, control.membership.generation);
    }
    if (control.commitLsn < last.persistedCommitLsn) {
      back('persisted commit', position(last.persistedCommitLsn), position(control.commitLsn));
    }
    if (memory.commitLsn < last.commitLsn)
      back('commit', position(last.commitLsn), position(memory.commitLsn));
    const historyTerm = control.termHistory[control.termHistory.length - 1]?.term ?? 0;
    if (historyTerm < last.historyTerm) back('history', last.historyTerm, historyTerm);
    if (historyTerm === last.historyTerm) {
      if (flushLsn < last.toldFlushLsn) back('flush told', position(last.toldFlushLsn), position(flushLsn));
      if (flushLsn < last.flushLsn) back('flush', position(last.flushLsn), position(flushLsn));
    } else {
      last.toldFlushLsn = 0 as Lsn;
    }
    this.nodeCommit(nodeId, status);
    last.term = control.term;
    last.generation = control.membership.generation;
    last.persistedCommitLsn = control.commitLsn;
    last.commitLsn = memory.commitLsn;
    last.historyTerm = historyTerm;
    if (flushLsn <= last.cutLsn) last.cutLsn = Infinity;
    last.flushLsn = Math.min(flushLsn, last.cutLsn) as Lsn;
  }

  private nodeCommit(nodeId: number, { control, memory, flushLsn }: TimelineStatus): void {
    const { commitLsn } = memory;
    if (commitLsn === 0 || commitLsn === control.timelineStartLsn) return;
    if (commitLsn > this.committedLsn) {
      throw new Breach(
        'agreement',
        `node ${nodeId} has commit ${formatLsn(commitLsn)}, committed is ${formatLsn(this.committedLsn)}`,
      );
    }
    if (commitLsn > flushLsn) {
      throw new Breach(
        'agreement',
        `node ${nodeId} has commit ${formatLsn(commitLsn)} past flush ${formatLsn(flushLsn)}`,
      );
    }
    this.checkCommitted('agreement', `node ${nodeId}`, control.termHistory, commitLsn);
  }

  /** An elected proposer is about to cut a node's log: never what is committed. */
  truncates(nodeId: number, state: AcceptorState, to: Lsn): void {
    const end = flushLsnOf(state);
    this.trace(`sk${nodeId} cuts its log of ${formatLsn(end)} at ${formatLsn(to)}`);
    const shared = Math.min(end, this.committedLsn) as Lsn;
    if (to < shared && agree(state.control.termHistory, this.committedHistory, shared)) {
      throw new Breach(
        'keeping',
        `node ${nodeId} is to cut its log of ${formatLsn(end)} at ${formatLsn(to)}, committed is ${formatLsn(this.committedLsn)}`,
      );
    }
    const last = this.memoryOf(nodeId);
    last.toldFlushLsn = Math.min(last.toldFlushLsn, to) as Lsn;
    last.flushLsn = Math.min(last.flushLsn, to) as Lsn;
    last.cutLsn = to;
  }

  /** A node's process is gone: what it had in memory only may be forgotten, what it told may not. */
  forgotMemory(nodeId: number): void {
    const last = this.memoryOf(nodeId);
    last.commitLsn = last.persistedCommitLsn;
    last.flushLsn = last.toldFlushLsn;
    last.cutLsn = Infinity;
  }

  /** A node's copy was deleted on purpose. */
  removed(nodeId: number): void {
    this.nodes.delete(nodeId);
    // With its copy it forgets its votes. If it becomes a member again it is in another generation, and its term
    // is raised first.
    for (const vote of [...this.votes.keys()]) if (vote.startsWith(`${nodeId} `)) this.votes.delete(vote);
  }

  private memoryOf(nodeId: number): NodeMemory {
    let memory = this.nodes.get(nodeId);
    if (memory === undefined) {
      const zero = 0 as Lsn;
      memory = {
        term: 0,
        persistedCommitLsn: zero,
        commitLsn: zero,
        generation: 0,
        historyTerm: 0,
        toldFlushLsn: zero,
        flushLsn: zero,
        cutLsn: Infinity,
      };
      this.nodes.set(nodeId, memory);
    }
    return memory;
  }

  // ----------------------------------------------------------------------------------------------------- told

  /** A message left a node, on a link of its own. `historyTerm` is the last term of the node's history then. */
  told(nodeId: number, link: string, message: AcceptorMessage, historyTerm: Term): void {
    this.counts.told++;
    if (message.kind !== 'append-response') {
      const given =
        message.kind === 'vote-response'
          ? ` given ${message.voteGiven} flush ${formatLsn(message.flushLsn)}`
          : '';
      this.trace(`sk${nodeId} tells ${link}: ${message.kind} term ${message.term}${given}`);
    }
    const last = this.memoryOf(nodeId);
    if (message.term < last.term) {
      throw new Breach('never back', `node ${nodeId} told term ${message.term} after ${last.term}`);
    }
    if (message.kind === 'vote-response' && message.voteGiven) {
      const vote = `${nodeId} in term ${message.term}`;
      const before = this.votes.get(vote);
      if (before !== undefined) {
        throw new Breach('one vote a term', `node ${vote} voted on ${before} and on ${link}`);
      }
      this.votes.set(vote, link);
      // What the vote counts on must not be forgotten either.
      last.term = Math.max(last.term, message.term);
    }
    if (message.kind !== 'greeting-reply' && historyTerm >= last.historyTerm) {
      const told = historyTerm > last.historyTerm ? 0 : last.toldFlushLsn;
      // An answer from just before a cut may leave just after it began.
      last.toldFlushLsn = Math.max(told, Math.min(message.flushLsn, last.cutLsn)) as Lsn;
      last.historyTerm = historyTerm;
    }
    if (message.kind === 'append-response' && message.commitLsn > last.persistedCommitLsn) {
      last.persistedCommitLsn = message.commitLsn;
    }
  }

  // ---------------------------------------------------------------------------------------------------- bytes

  /** The bytes that a log with this history must hold at [from, to); undefined where no leader is known. */
  expected(
    history: TermHistory,
    from: Lsn,
    to: Lsn,
  ): { readonly to: Lsn; readonly bytes: Uint8Array } | undefined {
    for (let i = 0; i < history.length; i++) {
      const entry = history[i]!;
      const end = Math.min(history[i + 1]?.lsn ?? to, to) as Lsn;
      if (from < entry.lsn || from >= end) continue;
      const leader = this.leaders.get(entry.term);
      if (leader === undefined) return undefined;
      return { to: end, bytes: leader.wal.bytes(from, end) };
    }
    return undefined;
  }

  /** What the object store would have of a segment: committed bytes. */
  archived(from: Lsn, to: Lsn): Uint8Array {
    const parts: Uint8Array[] = [];
    for (let at = from; at < to; ) {
      const part = at < this.committedLsn ? this.expected(this.committedHistory, at, to) : undefined;
      if (part === undefined) throw new Fault('wal-missing', `${formatLsn(at)} is not in the object store`);
      parts.push(part.bytes);
      at = part.to;
    }
    return Buffer.concat(parts);
  }

  /** Reads a node's whole log and compares it with what its leaders wrote. */
  async checkBytes(
    nodeId: number,
    status: TimelineStatus,
    read: (from: Lsn, length: number) => Promise<Uint8Array>,
  ): Promise<void> {
    const { oldestLsn, flushLsn, termHistory } = status;
    for (let at = oldestLsn; at < flushLsn; ) {
      const wanted = this.expected(termHistory, at, flushLsn);
      if (wanted === undefined) {
        throw new Breach(
          'bytes',
          `node ${nodeId} has WAL at ${formatLsn(at)} that no leader wrote: ${formatHistory(termHistory)}`,
        );
      }
      for (let from = at; from < wanted.to; ) {
        const bytes = await read(from, wanted.to - from);
        const expected = wanted.bytes.subarray(from - at, from - at + bytes.length);
        if (bytes.length === 0 || Buffer.compare(bytes, expected) !== 0) {
          throw new Breach(
            'bytes',
            `node ${nodeId} has other bytes at ${formatLsn(from)} than the leader wrote`,
          );
        }
        this.counts.bytesCompared += bytes.length;
        from = (from + bytes.length) as Lsn;
      }
      at = wanted.to;
    }
  }

  /** Every byte written to any disk passes here. */
  written(path: string, bytes: Uint8Array): void {
    this.counts.writes++;
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (buffer.includes(CANARY)) throw new Breach('sealed', `plaintext of WAL in ${path}`);
  }
}
