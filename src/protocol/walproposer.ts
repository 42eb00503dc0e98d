// The messages between a compute's walproposer and a safekeeper, as values: the same for both versions of the
// wire form. One message travels in one CopyData.
//
//   proposer -> acceptor   greeting, vote-request, elected (never answered), append-request
//   acceptor -> proposer   greeting-reply, vote-response, append-response
//
// Terms and node ids are u64 on the wire and plain numbers here (a larger one than 2^53 is refused at the edge).
// Version 2 has no generations: it reads and writes generation 0 throughout.
//
// Answers to pgxn/neon/walproposer.h and the message structs of safekeeper/src/safekeeper.rs.

import type { TenantId, TimelineId } from '../base/ids.ts';
import type { Lsn } from '../base/lsn.ts';
import type { HotStandbyFeedback, PageserverFeedback } from './feedback.ts';
import type { Generation, MembershipConfiguration } from './membership.ts';

/** A proposer's election number; 0 before any, valid ones start at 1. */
export type Term = number;

export interface TermSwitch {
  readonly term: Term;
  /** Where this term's WAL begins. */
  readonly lsn: Lsn;
}

/** Terms and LSNs both rise strictly in term and never fall in LSN. */
export type TermHistory = readonly TermSwitch[];

/** At most this many WAL bytes in one AppendRequest (MAX_SEND_SIZE). */
export const APPEND_BYTES_MAX = 131072;

export interface ProposerGreeting {
  readonly kind: 'greeting';
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  readonly membership: MembershipConfiguration;
  /** PG_VERSION_NUM, such as 170005; 0 is unknown. */
  readonly pgVersion: number;
  /** 0 from `postgres --sync-safekeepers`, which does not know it. */
  readonly systemId: bigint;
  readonly walSegSize: number;
}

export interface VoteRequest {
  readonly kind: 'vote-request';
  readonly generation: Generation;
  readonly term: Term;
}

export interface ProposerElected {
  readonly kind: 'elected';
  readonly generation: Generation;
  readonly term: Term;
  /** Where the proposer will go on streaming; WAL past it must go. */
  readonly startStreamingAt: Lsn;
  readonly termHistory: TermHistory;
}

export interface AppendRequest {
  readonly kind: 'append-request';
  readonly generation: Generation;
  readonly term: Term;
  readonly beginLsn: Lsn;
  /** beginLsn + wal.length. */
  readonly endLsn: Lsn;
  readonly commitLsn: Lsn;
  readonly truncateLsn: Lsn;
  /** Empty is a heartbeat. */
  readonly wal: Uint8Array;
}

export interface AcceptorGreeting {
  readonly kind: 'greeting-reply';
  readonly nodeId: number;
  readonly membership: MembershipConfiguration;
  readonly term: Term;
}

export interface VoteResponse {
  readonly kind: 'vote-response';
  readonly generation: Generation;
  readonly term: Term;
  readonly voteGiven: boolean;
  readonly flushLsn: Lsn;
  readonly truncateLsn: Lsn;
  readonly termHistory: TermHistory;
}

export interface AppendResponse {
  readonly kind: 'append-response';
  readonly generation: Generation;
  readonly term: Term;
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
  readonly hotStandby: HotStandbyFeedback;
  readonly pageserverFeedback: PageserverFeedback | undefined;
}

export type ProposerMessage = ProposerGreeting | VoteRequest | ProposerElected | AppendRequest;
export type AcceptorMessage = AcceptorGreeting | VoteResponse | AppendResponse;
