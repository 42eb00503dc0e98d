import { expect, test } from 'vitest';
import type { Lsn } from '../../base/lsn.ts';
import { NO_MEMBERSHIP } from '../../protocol/membership.ts';
import type { TermHistory, VoteResponse } from '../../protocol/walproposer.ts';
import { isQuorum, quorumLsn, streamingStart, winElection } from './election.ts';

const history = (...entries: [term: number, lsn: number][]): TermHistory =>
  entries.map(([term, lsn]) => ({ term, lsn: lsn as Lsn }));

const vote = (flushLsn: number, termHistory: TermHistory, truncateLsn = 0): VoteResponse => ({
  kind: 'vote-response',
  generation: 0,
  term: 9,
  voteGiven: true,
  flushLsn: flushLsn as Lsn,
  truncateLsn: truncateLsn as Lsn,
  termHistory,
});

const standings = (...all: [nodeId: number, lsn: number][]) => all.map(([nodeId, lsn]) => ({ nodeId, lsn }));
const member = (id: number) => ({ id, host: 'h', pgPort: 1 });

test('a quorum is more than half of those configured, or of the members and the new members', () => {
  expect(quorumLsn(NO_MEMBERSHIP, standings([1, 30], [2, 10], [3, 20]))).toBe(20);
  expect(quorumLsn(NO_MEMBERSHIP, standings([1, 30], [2, 0], [3, 0]))).toBe(0);
  expect(quorumLsn(NO_MEMBERSHIP, standings([1, 30], [2, 20]))).toBe(20);
  expect(quorumLsn(NO_MEMBERSHIP, standings([1, 30]))).toBe(30);
  const three = { generation: 4, members: [member(1), member(2), member(3)], newMembers: undefined };
  expect(quorumLsn(three, standings([1, 30], [4, 99], [5, 99]))).toBe(0);
  expect(quorumLsn(three, standings([1, 30], [3, 20], [5, 99]))).toBe(20);
  const joint = { ...three, newMembers: [member(3), member(4), member(5)] };
  expect(quorumLsn(joint, standings([1, 30], [2, 30], [3, 10], [4, 0], [5, 0]))).toBe(0);
  expect(quorumLsn(joint, standings([1, 30], [2, 30], [3, 10], [4, 20], [5, 0]))).toBe(10);
  expect(
    isQuorum(
      NO_MEMBERSHIP,
      [1, 2, 3].map(nodeId => ({ nodeId, agrees: nodeId < 3 })),
    ),
  ).toBe(true);
  expect(
    isQuorum(
      NO_MEMBERSHIP,
      [1, 2, 3].map(nodeId => ({ nodeId, agrees: nodeId < 2 })),
    ),
  ).toBe(false);
});

test('a log that nobody has begins where it is said to', () => {
  const won = winElection(3, [vote(0, []), vote(0, [])], 0x1000 as Lsn);
  expect(won).toEqual({ startLsn: 0x1000, history: history([3, 0x1000]), truncateLsn: 0 });
});

test('the donor has the newest term, then the longest log', () => {
  const old = vote(900, history([1, 100]), 70);
  const long = vote(500, history([1, 100], [2, 400]), 50);
  const short = vote(450, history([1, 100], [2, 400]));
  const won = winElection(5, [old, short, long], 0 as Lsn);
  expect(won).toEqual({ startLsn: 500, history: history([1, 100], [2, 400], [5, 500]), truncateLsn: 70 });
});

test('what a safekeeper never reached of a term does not count', () => {
  const never = vote(300, history([1, 100], [7, 400]));
  const real = vote(350, history([1, 100], [2, 200]));
  expect(winElection(8, [never, real], 0 as Lsn).history).toEqual(history([1, 100], [2, 200], [8, 350]));
});

test.each([
  ['nothing in common', history([5, 100]), vote(0, []), 100],
  ['the same log, shorter', history([1, 100], [5, 500]), vote(300, history([1, 100])), 300],
  ['longer in an old term', history([1, 100], [5, 500]), vote(900, history([1, 100])), 500],
  [
    'it parted in between',
    history([1, 100], [3, 200], [5, 500]),
    vote(900, history([1, 100], [2, 150])),
    150,
  ],
  ['already in our term', history([1, 100], [5, 500]), vote(700, history([1, 100], [5, 500])), 700],
] as const)('streaming goes on where the logs part: %s', (_, ours, theirs, at) => {
  expect(streamingStart(ours, theirs)).toBe(at);
});
