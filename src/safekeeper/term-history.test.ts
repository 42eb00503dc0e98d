import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isFault } from '../base/fault.ts';
import type { Lsn } from '../base/lsn.ts';
import type { TermHistory } from '../protocol/walproposer.ts';
import { hasQuorum, isMember, majority, majorityLsn, quorumLsn } from './membership.ts';
import { checkElectedHistory, highestCommonPoint, historyUpTo, lastLogTerm } from './term-history.ts';

const H = (...entries: [number, number][]): TermHistory =>
  entries.map(([term, lsn]) => ({ term, lsn: lsn as Lsn }));
const L = (n: number): Lsn => n as Lsn;

describe('how far two logs agree', () => {
  // The cases of Neon's safekeeper.rs, and the ones between them.
  test.each([
    ['nothing in common: the whole log', H([1, 100], [3, 250]), H([2, 100]), 300, 100],
    ['no log at all', H([1, 100]), H(), 0, 100],
    ['the same term: all that the safekeeper has', H([1, 100], [2, 200]), H([1, 100], [2, 200]), 300, 300],
    ['the proposer ended the common term first', H([1, 100], [3, 250]), H([1, 100]), 300, 250],
    ['the safekeeper ended it first', H([1, 100], [3, 250]), H([1, 100], [2, 220]), 240, 220],
    ['the safekeeper is behind the common term', H([1, 100], [3, 250]), H([1, 100]), 200, 200],
    ['adopted ahead of its log', H([1, 100], [2, 200], [4, 400]), H([1, 100], [2, 200], [3, 300]), 150, 150],
    ['a term that begins right at the end', H([1, 100], [2, 200]), H([1, 100], [2, 200]), 200, 200],
    [
      'several in common',
      H([1, 10], [2, 20], [3, 30], [5, 50]),
      H([1, 10], [2, 20], [3, 30], [4, 40]),
      60,
      40,
    ],
  ])('%s', (_, proposer, safekeeper, end, expected) => {
    expect(highestCommonPoint(proposer, safekeeper, L(end))).toBe(expected);
  });

  test('one term with two beginnings is refused', () => {
    const compare = (): Lsn => highestCommonPoint(H([1, 100], [2, 200]), H([1, 100], [2, 208]), L(300));
    expect(compare).toThrow(/term 2 begins at 0\/D0 here/);
  });

  test('is never past either log, and both hold the same before it', () => {
    // Logs as term per position, grown from a common beginning and then apart.
    const terms = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 30 });
    fc.assert(
      fc.property(terms, terms, terms, (common, a, b) => {
        const grow = (start: number[], steps: number[], parity: number): number[] => {
          const log = [...start];
          let term = start.at(-1) ?? 0;
          for (const step of steps) {
            // Terms of the two sides are never the same after they part: one leader a term.
            if (step > 2 || log.length === start.length) term = term + 1 + ((term + 1 + parity) % 2);
            log.push(term);
          }
          return log;
        };
        const shared: number[] = [];
        for (const step of common) shared.push((shared.at(-1) ?? 2) + (step > 2 ? 2 : 0));
        const proposer = grow(shared, a.length > 0 ? a : [1], 0);
        const safekeeper = grow(shared, b, 1);
        const history = (log: number[]): TermHistory =>
          log.flatMap((term, at) => (log[at - 1] === term ? [] : [{ term, lsn: L(at * 8) }]));
        const point = highestCommonPoint(history(proposer), history(safekeeper), L(safekeeper.length * 8));
        expect(point / 8).toBeLessThanOrEqual(safekeeper.length);
        expect(safekeeper.slice(0, point / 8)).toEqual(proposer.slice(0, point / 8));
        if (shared.length > 0) expect(point / 8).toBeGreaterThanOrEqual(shared.length);
      }),
    );
  });
});

describe('what a log has reached', () => {
  test('an entry counts from its own position on', () => {
    const history = H([1, 100], [2, 200], [5, 200], [7, 300]);
    expect(historyUpTo(history, L(199))).toEqual(H([1, 100]));
    expect(historyUpTo(history, L(200))).toEqual(H([1, 100], [2, 200], [5, 200]));
    expect(lastLogTerm(history, L(99))).toBe(0);
    expect(lastLogTerm(history, L(299))).toBe(5);
    expect(lastLogTerm(history, L(900))).toBe(7);
    expect(lastLogTerm([], L(900))).toBe(0);
  });

  test('histories that cannot be are refused', () => {
    const refused = (history: TermHistory, term: number): boolean => {
      try {
        checkElectedHistory(history, term);
        return false;
      } catch (error) {
        return isFault(error, 'protocol-violation');
      }
    };
    expect(refused(H([1, 96], [2, 96], [5, 200]), 5)).toBe(false);
    expect(refused(H(), 1)).toBe(true);
    expect(refused(H([1, 96]), 2)).toBe(true);
    expect(refused(H([2, 96], [2, 200]), 2)).toBe(true);
    expect(refused(H([1, 200], [2, 96]), 2)).toBe(true);
    expect(refused(H([1, 97]), 1)).toBe(true);
  });
});

describe('quorums', () => {
  const set = (...ids: number[]) => ids.map(id => ({ id, host: 'h', pgPort: 1 }));
  const plain = { generation: 1, members: set(1, 2, 3), newMembers: undefined };
  const joint = { generation: 2, members: set(1, 2, 3), newMembers: set(3, 4, 5) };

  test('are majorities', () => {
    expect([1, 2, 3, 4, 5].map(majority)).toEqual([1, 2, 2, 3, 3]);
    expect(hasQuorum(plain, id => id < 3)).toBe(true);
    expect(hasQuorum(plain, id => id === 3 || id > 3)).toBe(false);
  });

  test('of both sets, where there are two', () => {
    expect(hasQuorum(joint, id => id <= 3)).toBe(false);
    expect(hasQuorum(joint, id => id >= 3)).toBe(false);
    expect(hasQuorum(joint, id => id === 1 || id === 3 || id === 4)).toBe(true);
    expect(isMember(joint, 5)).toBe(true);
    expect(isMember(joint, 6)).toBe(false);
  });

  test('a position is what a majority of each set has reached', () => {
    const reached = (id: number): Lsn => L([0, 50, 40, 30, 20, 10][id]!);
    expect(quorumLsn(plain, reached)).toBe(40);
    expect(quorumLsn(joint, reached)).toBe(20);
    expect(majorityLsn([])).toBe(0);
    expect(majorityLsn([L(7)])).toBe(7);
  });
});
