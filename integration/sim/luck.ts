// What a seed decides before anything happens: how many safekeepers and computes there are, how fast everything is,
// how bad it gets and in which way.

import type { Lsn } from '../../src/base/lsn.ts';
import type { SimRandom } from './random.ts';
import { SEGMENT_BYTES } from './safekeeper.ts';

export interface Luck {
  readonly nodes: number;
  readonly members: number;
  readonly generations: boolean;
  readonly pgVersion: number;
  readonly startLsn: Lsn;
  readonly troubleMs: number;
  readonly troubleEveryMs: number;
  readonly chaos: number;
  readonly writeMs: number;
  readonly recordBytesMax: number;
  readonly sendBytesMax: number;
  readonly windowBytes: number;
  readonly switches: number;
  readonly fetchBytes: number;
  readonly delayMs: number;
  /** Of the operator, to die after a step. */
  readonly deaths: number;
  /** Of a member that was replaced, to be told so. */
  readonly excludes: number;
  /** Safekeepers catch up with each other while no compute streams. */
  readonly peerRecovery: boolean;
  readonly mood: Mood;
}

/** What kind of trouble there is most of. */
export type Mood = 'all' | 'elections' | 'rounds' | 'members';

export function drawLuck(random: SimRandom, wanted?: Mood): Luck {
  const drawn = random.pick<Mood>(['all', 'all', 'elections', 'rounds', 'members']);
  const mood = wanted ?? drawn;
  const generations = mood === 'members' || (mood === 'all' && random.chance(0.5));
  const members = mood === 'elections' || mood === 'rounds' ? 3 : random.pick([3, 3, 3, 3, 5, 1, 2]);
  // Shortly before the end of a segment, so that little WAL is enough to go from one to the next.
  const before = 8 * random.below(random.chance(0.5) ? 1500 : 30_000);
  const start = (2 + random.below(5)) * SEGMENT_BYTES - before;
  const inPage = start % 8192;
  return {
    generations,
    members,
    nodes: members + (generations ? 1 + random.below(3) : 0),
    pgVersion: random.pick([140005, 150004, 160003, 170005]),
    startLsn: (start + (inPage < 40 ? 40 - inPage : 0)) as Lsn,
    troubleMs: 1500 + random.below(4000),
    troubleEveryMs: mood === 'all' ? random.pick([60, 120, 250, 500]) : random.pick([60, 120]),
    chaos: random.chance(0.3) ? 0.002 + 0.04 * random.unit() : 0,
    writeMs: random.pick([15, 40, 100]),
    recordBytesMax: mood === 'rounds' ? 300 : random.pick([300, 1500, 9000]),
    sendBytesMax: mood === 'rounds' ? 400 : random.pick([100, 700, 2000, 8000, 131072]),
    windowBytes: random.pick([3000, 20_000, 200_000]),
    switches: random.chance(0.05) ? 0.01 : 0,
    delayMs: mood === 'rounds' ? random.pick([3, 10]) : random.pick([1, 3, 10]),
    fetchBytes: mood === 'rounds' ? 200 : random.pick([600, 3000, 32_768]),
    deaths: random.pick([0, 0.05, 0.15]),
    excludes: random.pick([0, 0.5, 1]),
    peerRecovery: random.chance(0.4),
    mood,
  };
}
