// What a proposer is given: the rules it follows, the world it lives in, how fast it is.

import type { Lsn } from '../../src/base/lsn.ts';
import type { Term } from '../../src/protocol/walproposer.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import type { Checker } from './checker.ts';
import type { SimClock } from './clock.ts';
import type { ModelWal } from './model-wal.ts';
import type { SimNet } from './net.ts';
import type { SimRandom } from './random.ts';

/** Rules of the leader; each is switched off by a negative control. */
export interface ProposerRules {
  /** A leader may not commit by a previous term's entries alone. */
  readonly commitOwnTermOnly: boolean;
  /** The donor is the one with the newest log: by last term first, by length second. */
  readonly donorByTermFirst: boolean;
  /** In a joint configuration both sets must agree. */
  readonly bothSets: boolean;
  /** A majority, not fewer. */
  readonly majority: boolean;
  /** An answer of another generation is not counted. */
  readonly ownGenerationOnly: boolean;
}

export const PROPOSER_RULES: ProposerRules = {
  commitOwnTermOnly: true,
  donorByTermFirst: true,
  bothSets: true,
  majority: true,
  ownGenerationOnly: true,
};

export interface ProposerOptions {
  /** Unique: part of what it writes. */
  readonly name: string;
  readonly key: TimelineKey;
  readonly clock: SimClock;
  readonly random: SimRandom;
  readonly net: SimNet;
  readonly checker: Checker;
  readonly rules: ProposerRules;
  readonly nodes: readonly string[];
  readonly useGenerations: boolean;
  /** --sync-safekeepers: no WAL of its own, ends when all are level. */
  readonly sync: boolean;
  readonly pgVersion: number;
  readonly segmentSize: number;
  /** Where the base backup begins: the first leader's start. */
  readonly redoLsn: Lsn;
  readonly sendBytesMax: number;
  readonly windowBytes: number;
  readonly reconnectMs: number;
  readonly timeoutMs: number;
  /** WAL of the compute, kept over restarts of the proposer: its own writing goes on. */
  readonly compute: ComputeState;
  /** Fetched from a donor at once. */
  readonly fetchBytes: () => number;
  readonly fetch: (address: string, from: Lsn, length: number, term: Term) => Promise<Uint8Array>;
  readonly onRestart: (why: string) => void;
  readonly onSynced: (lsn: Lsn) => void;
  /** The votes are in, and nobody is told yet. */
  readonly onElected?: () => void;
  readonly onBreach: (error: unknown) => void;
}

export interface ComputeState {
  wal: ModelWal | undefined;
  mineLastElectedTerm: Term;
}
