// How far garbage collection may go: history is kept for a stretch of WAL (gc_horizon) and for a stretch of time
// (pitr_interval), whichever is longer, and for a hot standby that lags, up to a limit. Branch points and leases are
// kept on their own, wherever they are (plan/gc.ts).
//
//        space cutoff          time cutoff      standby         last record
//   ----------+---------------------+--------------+----------------+          cutoff = the least of the three
//
// A time that cannot be told (no commit so old is known) keeps everything, unless pitr_interval is 0.
//
// Answers to GcCutoffs, find_gc_cutoffs and gc of tenant/timeline.rs.

import type { LsnForTimestamp } from './lsn-by-time.ts';

export interface HistorySettings {
  readonly gcHorizon: number;
  readonly pitrIntervalMs: number;
}

export interface History {
  readonly lastRecordLsn: number;
  readonly appliedCutoffLsn: number;
  /** What lsn-by-time.ts says of now - pitr_interval; undefined when that is 0 and it was not asked. */
  readonly atPitr: LsnForTimestamp | undefined;
  /** The oldest position that a standby reads at; 0 for none. */
  readonly standbyHorizon: number;
}

export interface GcCutoffs {
  readonly spaceLsn: number;
  /** Undefined: nobody knows; everything is kept. */
  readonly timeLsn: number | undefined;
  readonly cutoffLsn: number;
}

/** A standby further behind than this is not waited for. */
export const STANDBY_LAG_MAX = 10 * 1024 ** 3;

export function gcCutoffs(settings: HistorySettings, history: History): GcCutoffs {
  const { lastRecordLsn, appliedCutoffLsn } = history;
  const spaceLsn = Math.max(0, lastRecordLsn - settings.gcHorizon);
  const timeLsn = settings.pitrIntervalMs === 0 ? lastRecordLsn : timeCutoff(history);
  const wanted = Math.min(spaceLsn, timeLsn ?? appliedCutoffLsn, standbyCutoff(history));
  // Records begin and end at multiples of eight, and what is gone does not come back.
  return { spaceLsn, timeLsn, cutoffLsn: Math.max(appliedCutoffLsn, wanted - (wanted % 8)) };
}

function timeCutoff({ atPitr, lastRecordLsn }: History): number | undefined {
  switch (atPitr?.kind) {
    case 'present':
      return atPitr.lsn;
    case 'future':
      return lastRecordLsn;
    default:
      return undefined;
  }
}

function standbyCutoff({ standbyHorizon, lastRecordLsn }: History): number {
  const lags = lastRecordLsn - standbyHorizon;
  return standbyHorizon === 0 || lags > STANDBY_LAG_MAX ? Infinity : standbyHorizon;
}
