// The rules of a proposer, as functions: who makes a quorum, whose log goes on, where each safekeeper's log parts from
// ours, what is committed. `proposer.ts` asks; nothing here waits.
//
//   quorum    generation 0: more than half of the safekeepers we were told of
//             above:        more than half of the members, and of the new members during a change
//   donor     the voter with the newest last term, then the longest log: it has all that ever was committed
//   commit    what a quorum has flushed, of those that have come to the beginning of our term
//
// Invariants: a quorum of greetings meets every quorum of votes, so a term that somebody won is seen by the next one
// who stands; the commit position never goes back.
//
// Answers to pgxn/neon/walproposer.c (DetermineEpochStartLsn, SendProposerElected, GetAcknowledgedByQuorumWALPosition).

import { INVALID_LSN, type Lsn } from '../../base/lsn.ts';
import type { MembershipConfiguration } from '../../protocol/membership.ts';
import type { TermHistory, VoteResponse } from '../../protocol/walproposer.ts';

/** A safekeeper and how far it is. */
export interface Standing {
  /** Undefined before it has said so. */
  readonly nodeId: number | undefined;
  readonly lsn: number;
}

/** The highest position that a quorum has reached. */
export function quorumLsn(membership: MembershipConfiguration, all: readonly Standing[]): Lsn {
  if (membership.generation === 0) return middle(all.map(s => s.lsn));
  const of = (members: readonly { readonly id: number }[]): Lsn =>
    middle(members.map(m => all.find(s => s.nodeId === m.id)?.lsn ?? 0));
  const { members, newMembers } = membership;
  return Math.min(of(members), newMembers === undefined ? Infinity : of(newMembers)) as Lsn;
}

/** What more than half of them have reached. */
function middle(lsns: readonly number[]): Lsn {
  const sorted = lsns.toSorted((a, b) => b - a);
  return (sorted[Math.floor(sorted.length / 2)] ?? 0) as Lsn;
}

/** Whether those that are said to agree are enough. */
export const isQuorum = (
  membership: MembershipConfiguration,
  all: readonly { readonly nodeId: number | undefined; readonly agrees: boolean }[],
): boolean =>
  quorumLsn(
    membership,
    all.map(({ nodeId, agrees }) => ({ nodeId, lsn: agrees ? 1 : 0 })),
  ) === 1;

const lastTerm = (vote: VoteResponse): number => reached(vote.termHistory, vote.flushLsn).at(-1)?.term ?? 0;

const reached = (history: TermHistory, end: Lsn): TermHistory => history.filter(e => e.lsn <= end);

export interface Victory {
  /** Where our term begins. */
  readonly startLsn: Lsn;
  readonly history: TermHistory;
  readonly truncateLsn: Lsn;
}

/** What follows from the votes of a quorum; `freshLsn` is where a log begins that nobody has any of. */
export function winElection(term: number, votes: readonly VoteResponse[], freshLsn: Lsn): Victory {
  const donor = votes.reduce((best, vote) => {
    const newer = lastTerm(vote) - lastTerm(best);
    return newer > 0 || (newer === 0 && vote.flushLsn > best.flushLsn) ? vote : best;
  });
  const fresh = donor.flushLsn === INVALID_LSN;
  const startLsn = fresh ? freshLsn : donor.flushLsn;
  const before = fresh ? [] : reached(donor.termHistory, donor.flushLsn);
  return {
    startLsn,
    history: [...before, { term, lsn: startLsn }],
    truncateLsn: Math.max(...votes.map(v => v.truncateLsn)) as Lsn,
  };
}

/** Where a safekeeper's log stops being ours: streaming goes on from there. */
export function streamingStart(ours: TermHistory, vote: VoteResponse): Lsn {
  const theirs = reached(vote.termHistory, vote.flushLsn);
  let common = -1;
  while (
    ours[common + 1] !== undefined &&
    theirs[common + 1] !== undefined &&
    ours[common + 1]!.term === theirs[common + 1]!.term
  )
    common++;
  if (common < 0) return ours[0]!.lsn;
  if (common === ours.length - 1) return vote.flushLsn;
  return Math.min(ours[common + 1]!.lsn, theirs[common + 1]?.lsn ?? vote.flushLsn) as Lsn;
}
