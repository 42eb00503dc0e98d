// The acceptor's state, what comes in and what goes out: the words of acceptor.ts, and what can be read off a
// state without deciding anything.
//
// Positions: flushLsn <= recordLsn <= writeLsn. writeLsn is past the last byte taken in; recordLsn is the end of
// the last whole record in it; flushLsn is recordLsn as of the last sync. What is told outside is flushLsn, so it
// is always a record boundary and always durable.

import { assert } from '../base/assert.ts';
import { formatLsn, INVALID_LSN, type Lsn } from '../base/lsn.ts';
import { NO_HOT_STANDBY } from '../protocol/feedback.ts';
import type { MembershipConfiguration } from '../protocol/membership.ts';
import type {
  AcceptorMessage,
  AppendResponse,
  ProposerMessage,
  Term,
  TermHistory,
} from '../protocol/walproposer.ts';
import type { ControlState } from './control-state.ts';
import { historyUpTo, lastLogTerm } from './term-history.ts';
import type { MembershipSwitch, MemoryState, PeerInfo } from './timeline-handle.ts';

export interface WalPositions {
  readonly writeLsn: Lsn;
  readonly recordLsn: Lsn;
  readonly flushLsn: Lsn;
}

/** A call that waits for an answer: which session it came from, and its number. */
export interface Caller {
  readonly session: number;
  readonly request: number;
}

export interface AcceptorState {
  readonly nodeId: number;
  /** As it is on disk once the effects so far are carried out. */
  readonly control: ControlState;
  /** Newer values of four fields of `control`, written with the next persist. */
  readonly memory: MemoryState;
  readonly wal: WalPositions;
  /**
   * No append is taken in before the next Elected: what stands past the last known boundary may be the leftover
   * of a truncation that a crash cut short, and only an elected proposer knows where the log is to go on.
   */
  readonly pendingTruncation: boolean;
  /** Where the term of the proposer last elected here begins; 0 since the start. */
  readonly termStartLsn: Lsn;
  /** The highest commit position that appends of this batch told of. */
  readonly announcedCommitLsn: Lsn;
  /** Appends taken in and not answered yet, in order. */
  readonly batch: readonly Caller[];
}

export type Input =
  | { readonly on: 'message'; readonly from: Caller; readonly message: ProposerMessage }
  /** The effect `write` was carried out: the last whole record in what is written ends at `recordLsn`. */
  | { readonly on: 'written'; readonly recordLsn: Lsn }
  /** Sync and answer: the whole batch, or its beginning, which the disk has taken while more came in. */
  | { readonly on: 'flush'; readonly upTo?: BatchPart }
  | { readonly on: 'peer'; readonly info: PeerInfo }
  | { readonly on: 'term-bump'; readonly from: Caller; readonly to: Term | undefined }
  | { readonly on: 'membership'; readonly from: Caller; readonly to: MembershipConfiguration }
  | { readonly on: 'backed-up'; readonly backupLsn: Lsn }
  | { readonly on: 'remote-consistent'; readonly lsn: Lsn }
  | { readonly on: 'checkpoint' }
  | { readonly on: 'control'; readonly change: (control: ControlState) => ControlState }
  /** WAL bytes that were refused by the decoder: what is written stays behind what was asked. */
  | { readonly on: 'write-refused' };

/** The beginning of a batch: so many callers, and the last record boundary in what they brought. */
export interface BatchPart {
  readonly callers: number;
  readonly recordLsn: Lsn;
}

export type Answer =
  | { readonly kind: 'message'; readonly message: AcceptorMessage }
  | { readonly kind: 'nothing' }
  | { readonly kind: 'term'; readonly previous: Term; readonly current: Term }
  | { readonly kind: 'membership'; readonly result: MembershipSwitch };

export type Effect =
  /** Bytes to append at `at`, the end of what is written. Need not be durable before `flush`. */
  | { readonly do: 'write'; readonly at: Lsn; readonly bytes: Uint8Array }
  /** The log ends at `to` from here on, durably; an empty log begins there. */
  | { readonly do: 'truncate'; readonly to: Lsn }
  /** All that is written up to `to`, a record boundary, is durable when done. */
  | { readonly do: 'flush'; readonly to: Lsn }
  /** The control file says this, durably, when done. */
  | { readonly do: 'persist'; readonly control: ControlState }
  | { readonly do: 'reply'; readonly to: Caller; readonly answer: Answer };

export const replyTo = (to: Caller, message: AcceptorMessage): Effect => ({
  do: 'reply',
  to,
  answer: { kind: 'message', message },
});

export const nothingTo = (to: Caller): Effect => ({ do: 'reply', to, answer: { kind: 'nothing' } });

export interface Step {
  readonly state: AcceptorState;
  readonly effects: readonly Effect[];
}

export type StepFunction = (state: AcceptorState, input: Input) => Step;

/** The state after a start: what is on disk, and where the search for the end of WAL came out. */
export function acceptorFrom(nodeId: number, control: ControlState, endOfWal: Lsn): AcceptorState {
  const { commitLsn } = control;
  assert(endOfWal >= commitLsn, `WAL ends at ${formatLsn(endOfWal)}, below commit ${formatLsn(commitLsn)}`);
  return {
    nodeId,
    control,
    memory: memoryOf(control),
    wal: { writeLsn: endOfWal, recordLsn: endOfWal, flushLsn: endOfWal },
    pendingTruncation: true,
    termStartLsn: INVALID_LSN,
    announcedCommitLsn: INVALID_LSN,
    batch: [],
  };
}

/** As told outside. A timeline without WAL yet stands at its start, so that commit never exceeds flush. */
export const flushLsnOf = (state: AcceptorState): Lsn =>
  Math.max(state.wal.flushLsn, state.control.timelineStartLsn) as Lsn;

/** Term switches of the WAL there is; the full history may reach further. */
export const termHistoryOf = (state: AcceptorState): TermHistory =>
  historyUpTo(state.control.termHistory, flushLsnOf(state));

export const lastLogTermOf = (state: AcceptorState): Term =>
  lastLogTerm(state.control.termHistory, flushLsnOf(state));

/** flushLsn is durable, commitLsn is the persisted one: all that it says survives a crash. */
export function appendResponse(state: AcceptorState): AppendResponse {
  return {
    ...termOnly(state),
    flushLsn: flushLsnOf(state),
    commitLsn: state.control.commitLsn,
  };
}

/** No positions: the proposer is told that it was replaced. */
export function termOnly(state: AcceptorState): AppendResponse {
  return {
    kind: 'append-response',
    generation: state.control.membership.generation,
    term: state.control.term,
    flushLsn: INVALID_LSN,
    commitLsn: INVALID_LSN,
    // The driver fills these in: they come from the readers of WAL, not from consensus.
    hotStandby: NO_HOT_STANDBY,
    pageserverFeedback: undefined,
  };
}

/** The control record with the newer values of memory in it: whenever anything is persisted, so are they. */
export const controlWithMemory = (state: AcceptorState): ControlState => ({
  ...state.control,
  ...state.memory,
});

/**
 * The state once one effect was carried out: what is true of the disk at that moment. The driver goes on from
 * here when a later effect of the step fails; when all succeed it takes the step's own state.
 */
export function settled(state: AcceptorState, effect: Effect): AcceptorState {
  const { wal } = state;
  switch (effect.do) {
    case 'write':
      return { ...state, wal: { ...wal, writeLsn: (effect.at + effect.bytes.length) as Lsn } };
    case 'flush':
      return { ...state, wal: { ...wal, flushLsn: effect.to } };
    case 'truncate': {
      // Where an empty log begins is told by the control record, which comes next.
      const empty = wal.writeLsn === INVALID_LSN;
      return empty
        ? state
        : { ...state, wal: { writeLsn: effect.to, recordLsn: effect.to, flushLsn: effect.to } };
    }
    case 'persist':
      return { ...state, control: effect.control, memory: memoryOf(effect.control) };
    case 'reply':
      return { ...state, batch: state.batch.filter(caller => caller.request !== effect.to.request) };
  }
}

/** After a setback: who waited was told, and only an elected proposer may go on writing. */
export const afterSetback = (state: AcceptorState): AcceptorState => ({
  ...state,
  pendingTruncation: true,
  batch: [],
  announcedCommitLsn: INVALID_LSN,
});

export function memoryOf(control: ControlState): MemoryState {
  const { commitLsn, backupLsn, peerHorizonLsn, remoteConsistentLsn } = control;
  return { commitLsn, backupLsn, peerHorizonLsn, remoteConsistentLsn };
}
