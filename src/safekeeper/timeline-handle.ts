// What a timeline offers to the sessions, the HTTP API, backup, recovery and the broker: the one interface
// between the consensus core (timeline.ts carries it out) and everything with a socket.
//
// Messages of proposers go in by `process`, one call a message, in the order they came; calls need not wait for
// each other. A reply is given out only when everything it says is durable. Appends that arrive while a sync is
// under way share the next one: of the appends of one session in a batch only the last is answered, the others
// resolve to undefined (as elected messages do). A Fault means: tell the client, close the connection; the
// timeline goes on. After `timeline-poisoned` (a failed sync, a broken promise) nothing more is accepted.
//
// Answers to Timeline and SharedState of safekeeper/src/timeline.rs.

import type { TenantId, TimelineId } from '../base/ids.ts';
import type { Lsn } from '../base/lsn.ts';
import type { HotStandbyFeedback, PageserverFeedback } from '../protocol/feedback.ts';
import type { Generation, MembershipConfiguration } from '../protocol/membership.ts';
import type { AcceptorMessage, ProposerMessage, Term, TermHistory } from '../protocol/walproposer.ts';
import type { ControlState, PartialSegment } from './control-state.ts';

export interface TimelineKey {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
}

/** A peer as the broker tells of it; ourselves among them. */
export interface PeerInfo {
  readonly nodeId: number;
  readonly term: Term;
  readonly lastLogTerm: Term;
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
  readonly backupLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  readonly peerHorizonLsn: Lsn;
  readonly localStartLsn: Lsn;
  readonly pgAddress: string;
  readonly httpAddress: string;
  readonly httpsAddress?: string;
}

/** Values newer than the control file's; a crash forgets them. */
export interface MemoryState {
  readonly commitLsn: Lsn;
  readonly backupLsn: Lsn;
  readonly peerHorizonLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
}

export interface TimelineStatus {
  /** As persisted. */
  readonly control: ControlState;
  readonly memory: MemoryState;
  /** As reported outside: a record boundary, durable. */
  readonly flushLsn: Lsn;
  /** Past the last byte taken in, durable or not. */
  readonly writeLsn: Lsn;
  readonly lastLogTerm: Term;
  /** Of the WAL there is: control.termHistory up to flushLsn. */
  readonly termHistory: TermHistory;
  /** Where the term being streamed begins; 0 until an elected proposer came by since the start. */
  readonly termStartLsn: Lsn;
  /** The first byte of WAL kept locally. */
  readonly oldestLsn: Lsn;
  readonly offloaded: boolean;
  readonly poisoned: boolean;
}

export interface MembershipSwitch {
  readonly previous: MembershipConfiguration;
  readonly current: MembershipConfiguration;
  /** False: the generation was not higher, nothing was done. */
  readonly switched: boolean;
  /** Voted for up to here. The new members' terms must be raised to the highest of the old ones': see rfc 035. */
  readonly term: Term;
  readonly lastLogTerm: Term;
  readonly flushLsn: Lsn;
}

/** Stands for one connected reader of WAL; close it when the connection ends. */
export interface ReaderHandle {
  readonly id: number;
  /** The reader's kind and last feedback, for status. */
  state(): ReaderState;
  pageserver(feedback: PageserverFeedback): void;
  standbyReply(reply: StandbyReply): void;
  hotStandby(feedback: HotStandbyFeedback): void;
  /** Where it reads: WAL from here on is held back from removal when so configured. */
  position(lsn: Lsn): void;
  close(): void;
}

export interface StandbyReply {
  readonly writeLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly applyLsn: Lsn;
  /** Microseconds since 2000-01-01. */
  readonly replyTime: bigint;
  readonly replyRequested: boolean;
}

export interface ReaderState {
  readonly id: number;
  readonly kind: 'unknown' | 'pageserver' | 'standby';
  readonly position: Lsn;
  readonly pageserver: PageserverFeedback | undefined;
  readonly standbyReply: StandbyReply | undefined;
  readonly hotStandby: HotStandbyFeedback | undefined;
}

/** Stands for one connected compute (or a recovery acting for one). */
export interface ProposerHandle {
  readonly id: number;
  readonly status: 'voting' | 'streaming';
  /**
   * Resolves with the reply when all it says is durable; undefined where none is due. May be called again before
   * the last call resolved; replies resolve in the order of the calls.
   */
  process(message: ProposerMessage): Promise<AcceptorMessage | undefined>;
  /** The next pageserver feedback to relay, by attaching it to the last AppendResponse sent. */
  nextFeedback(signal?: AbortSignal): Promise<PageserverFeedback>;
  /** Flushes what was appended and not yet synced, then forgets the session. */
  close(): Promise<void>;
}

/** WAL that is not here any more: read from the object store. */
export interface WalArchive {
  /** Exactly `length` bytes of the whole segment `segno` from `offset`. */
  read(segno: number, offset: number, length: number): Promise<Uint8Array>;
  /** Exactly `length` bytes from `offset` of the segment that was uploaded before it was whole. */
  readPartial(partial: PartialSegment, segno: number, offset: number, length: number): Promise<Uint8Array>;
}

export interface TimelineHandle {
  readonly key: TimelineKey;
  /** Aborted when the timeline is closed, deleted or poisoned; the reason is a Fault. */
  readonly signal: AbortSignal;

  connectProposer(): ProposerHandle;
  connectReader(): ReaderHandle;
  proposers(): readonly { readonly id: number; readonly status: 'voting' | 'streaming' }[];
  readers(): readonly ReaderState[];
  /** The minimum over standbys, as every AppendResponse carries it. */
  hotStandby(): HotStandbyFeedback;
  /** The least apply position over standbys (the broker's standby_horizon); 0 without any. */
  standbyHorizon(): Lsn;

  status(): TimelineStatus;
  readonly commitLsn: Lsn;
  readonly flushLsn: Lsn;
  readonly term: Term;
  /** Resolves when commitLsn >= lsn. Rejects with the signal's reason, or when the timeline closes. */
  waitForCommit(lsn: Lsn, signal?: AbortSignal): Promise<void>;
  /** Resolves when flushLsn >= lsn; a Fault when the term is, or becomes, another than `term`. */
  waitForFlush(lsn: Lsn, term: Term, signal?: AbortSignal): Promise<void>;
  /** Resolves at the next change of anything status() tells. */
  changed(signal?: AbortSignal): Promise<void>;

  /**
   * WAL from `from`: at most `length` bytes, fewer at the end of a segment, never past flushLsn. With `term`, a
   * Fault if the term is another, before or after reading. What lies before the timeline's start in its first
   * segment is made up as a base backup would; what was removed locally comes from the archive. The bytes are the
   * caller's own.
   */
  readWal(from: Lsn, length: number, term?: Term): Promise<Uint8Array>;
  setArchive(archive: WalArchive | undefined): void;

  termBump(to?: Term): Promise<{ readonly previous: Term; readonly current: Term }>;
  switchMembership(to: MembershipConfiguration): Promise<MembershipSwitch>;
  /** What a peer says of itself by the broker. */
  recordPeer(info: PeerInfo): Promise<void>;
  setBackupLsn(lsn: Lsn): Promise<void>;
  /** Forces the in-memory values into the control file. */
  checkpoint(): Promise<void>;
  /** Changes the control file in one durable step: the PATCH call, and partial-backup bookkeeping. */
  changeControl(change: (control: ControlState) => ControlState): Promise<ControlState>;

  /** Segments kept locally, in order. `length` is its last byte's offset, the segment's size when complete. */
  segments(): readonly { readonly segno: number; readonly origin: number; readonly length: number }[];
  /** Held, no WAL is removed: while a snapshot is streamed. Call the result to let go. */
  holdRemoval(): () => void;
  /** Removes segments below `segno`, as removal.ts allows; returns how many went. */
  removeSegmentsBelow(segno: number): Promise<number>;
  /** Drops local WAL when all of it is uploaded; a Fault `conflict` when it is not. */
  offload(): Promise<void>;
  /** Makes WAL local again, from the archive. Called by itself when a proposer or a reader comes. */
  restore(): Promise<void>;
  /** To be called now and then: saves the control file when that is due, lets an idle timeline rest. */
  tick(): Promise<void>;

  close(): Promise<void>;
}

/** How a timeline begins, as create and implicit creation say. */
export interface TimelineSeed {
  readonly key: TimelineKey;
  readonly membership: MembershipConfiguration;
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly walSegSize: number;
  /** 0: not known yet, the first elected proposer says. */
  readonly startLsn: Lsn;
  /** startLsn unless given. */
  readonly commitLsn?: Lsn;
}

export type { Generation };
