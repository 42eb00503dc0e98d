// Term histories: which term wrote which stretch of a log, and how far two logs agree. An entry (term, lsn) says
// that this term's WAL begins at lsn and runs to the next entry. Since one term has one leader, and a leader
// never rewrites, equal (term, lsn) entries mean equal bytes up to there: that is what makes comparing histories
// the same as comparing logs.
//
//   proposer   (1, 100) (3, 250) ->               runs on without end
//   safekeeper (1, 100) (2, 220) | flush 240      the last common term is 1: they agree up to 220
//
// Answers to TermHistory of safekeeper/src/safekeeper.rs, and to SendProposerElected of walproposer.c, which
// computes the same point on its side; both must agree, or nothing is truncated.

import { Fault } from '../base/fault.ts';
import { formatLsn, INVALID_LSN, type Lsn } from '../base/lsn.ts';
import type { Term, TermHistory, TermSwitch } from '../protocol/walproposer.ts';

/** The entries that a log ending at `end` has reached. One that begins right at the end counts: its log is empty. */
export function historyUpTo(history: TermHistory, end: Lsn): TermHistory {
  let count = 0;
  while (count < history.length && history[count]!.lsn <= end) count++;
  return count === history.length ? history : history.slice(0, count);
}

/** The term of the last entry that a log ending at `end` has reached; 0 if none. */
export function lastLogTerm(history: TermHistory, end: Lsn): Term {
  const reached = historyUpTo(history, end);
  return reached.length === 0 ? 0 : reached[reached.length - 1]!.term;
}

/** The term that wrote the byte before `end`: the last entry that begins below it. 0 if none does. */
export function termBefore(history: TermHistory, end: Lsn): Term {
  let term = 0;
  for (const entry of history) if (entry.lsn < end) term = entry.term;
  return term;
}

/**
 * How far a safekeeper's log, which ends at `end`, agrees with the proposer's, which runs on without end. Where
 * no entry is common the whole of the proposer's log is to be streamed: the point is its beginning.
 */
export function highestCommonPoint(proposer: TermHistory, safekeeper: TermHistory, end: Lsn): Lsn {
  const reached = historyUpTo(safekeeper, end);
  let last = -1;
  while (last + 1 < proposer.length && last + 1 < reached.length) {
    const [theirs, ours] = [proposer[last + 1]!, reached[last + 1]!];
    if (theirs.term !== ours.term) break;
    if (theirs.lsn !== ours.lsn) {
      // Two beginnings of one term: two leaders of one term, or a history that was made up.
      throw bad(proposer, `term ${ours.term} begins at ${formatLsn(ours.lsn)} here`);
    }
    last++;
  }
  if (last < 0) return proposer[0]?.lsn ?? INVALID_LSN;
  if (last === proposer.length - 1) return end;
  const theirEnd = proposer[last + 1]!.lsn;
  const ourEnd = last + 1 < reached.length ? reached[last + 1]!.lsn : end;
  return Math.min(theirEnd, ourEnd) as Lsn;
}

/** An elected proposer's history: terms rise, positions never fall, and the last entry is its own. */
export function checkElectedHistory(history: TermHistory, term: Term): void {
  if (history.length === 0) throw bad(history, 'it is empty');
  if (history[history.length - 1]!.term !== term) throw bad(history, `its last term is not ${term}`);
  for (let i = 0; i < history.length; i++) {
    const entry = history[i]!;
    if (entry.lsn % 8 !== 0) throw bad(history, `${formatLsn(entry.lsn)} is no record boundary`);
    const before = history[i - 1];
    if (before !== undefined && (before.term >= entry.term || before.lsn > entry.lsn)) {
      throw bad(history, `${formatEntry(entry)} cannot follow ${formatEntry(before)}`);
    }
  }
}

const bad = (history: TermHistory, why: string): Fault =>
  new Fault('protocol-violation', `term history ${formatHistory(history)} is refused: ${why}`);

const formatEntry = (entry: TermSwitch): string => `(${entry.term}, ${formatLsn(entry.lsn)})`;

/** The last entries, for logs and messages. */
export function formatHistory(history: TermHistory): string {
  const shown = history.slice(-20).map(formatEntry).join(' ');
  return history.length > 20 ? `... ${shown}` : `[${shown}]`;
}
