// Is the simulator blind? With any one of the rules switched off it must find a broken promise. Each row says in
// which mood to look, and within how many seeds it must be found; what it was and after how many is printed.

import { describe, expect, test } from 'vitest';
import type { Mood } from './luck.ts';
import { MUTANTS } from './mutants.ts';
import { runSeed } from './world.ts';

interface Control {
  readonly mood?: Mood;
  readonly within: number;
  /** Promises one of which is found broken; any, where not said. */
  readonly broken?: readonly string[];
}

/** What the checker sees of consensus itself. */
const CONSENSUS = ['one vote a term', 'one leader a term', 'keeping', 'agreement', 'bytes', 'never back'];

const CONTROLS: Readonly<Record<string, Control>> = {
  'the term is persisted before the vote is told': { within: 50, broken: CONSENSUS },
  'one vote a term': { within: 20, broken: CONSENSUS },
  'a vote is told after a sync': { within: 100, broken: CONSENSUS },
  'an append is told after its sync': { within: 20, broken: CONSENSUS },
  'an append is told after its own sync, not the one before': { within: 200, broken: CONSENSUS },
  'an elected leader truncates': { within: 150, broken: CONSENSUS },
  'WAL is cut before its new history is persisted': {
    within: 200,
    broken: ['bytes', 'agreement', 'keeping'],
  },
  'the history is persisted at the election': { within: 50, broken: CONSENSUS },
  'an append of a lower term is refused': { within: 200, broken: CONSENSUS },
  'an append waits for the election of its term': { within: 600, broken: CONSENSUS },
  'a message of another generation is refused': { mood: 'members', within: 200, broken: CONSENSUS },
  'commit is no further than what is durable here': { within: 50, broken: CONSENSUS },
  'a leader may not commit by entries of previous terms alone': {
    mood: 'rounds',
    within: 600,
    broken: CONSENSUS,
  },
  'the donor has the newest log by term': { mood: 'rounds', within: 100, broken: CONSENSUS },
  'a majority votes and acknowledges': { within: 50, broken: CONSENSUS },
  'a joint configuration needs both majorities': {
    mood: 'members',
    within: 300,
    broken: CONSENSUS,
  },
  'new members have what the old ones had before they take over': {
    mood: 'members',
    within: 300,
    broken: CONSENSUS,
  },
  'a sync keeps': { within: 10 },
};

describe('without this rule a promise is broken', () => {
  test('every rule has its control', () => {
    expect(Object.keys(MUTANTS).sort()).toEqual(Object.keys(CONTROLS).sort());
  });

  for (const [name, control] of Object.entries(CONTROLS)) {
    test(name, { timeout: 300_000 }, async () => {
      let found: string | undefined;
      let seed = 0;
      while (found === undefined && seed < control.within) {
        const { breach } = await runSeed(++seed, MUTANTS[name]!, control.mood);
        if (breach === undefined || control.broken?.includes(breach.rule) === false) continue;
        found = breach.rule;
      }
      expect(found, `not found within ${control.within} seeds`).toBeDefined();
      console.log(`without "${name}": "${found}" is broken within ${seed} seeds`);
    });
  }
});
