// Leases: a compute that reads at one old LSN says so, and says it again before the time is over; meanwhile GC keeps
// what a read there needs. They are in memory alone. So after an attachment GC rests for as long as a lease lasts,
// the grace, in which those who hold leases renew them.
//
//   an LSN that is leased       its lease lasts max(what it was, now + length)
//   at or above both cutoffs    a new lease
//   below the planned cutoff    refused, for GC is about to go there; but not during the grace: GC rests
//   below the applied cutoff    refused: it is gone; during the grace, an LSN that GC kept for a lease of before counts
//                               as leased
//
// Answers to Timeline::make_lsn_lease and GcInfo of tenant/timeline.rs.

import { Fault } from '../base/fault.ts';
import { formatLsn } from '../base/lsn.ts';

export interface Cutoffs {
  /** GC went up to here. */
  readonly appliedLsn: number;
  /** GC would go up to here now. */
  readonly plannedLsn: number;
  /** What GC kept below the applied cutoff: branch points and leases. */
  readonly retained: readonly number[];
}

export class Leases {
  private readonly until = new Map<number, number>();
  /** Until then GC rests. */
  readonly graceUntilMs: number;

  constructor(nowMs: number, graceMs: number) {
    this.graceUntilMs = nowMs + graceMs;
  }

  inGrace(nowMs: number): boolean {
    return nowMs < this.graceUntilMs;
  }

  /** Milliseconds since the epoch until which it holds; a Fault when it is refused. */
  take(lsn: number, lengthMs: number, nowMs: number, cutoffs: Cutoffs): number {
    this.expire(nowMs);
    const held = this.until.get(lsn);
    if (held === undefined) this.refuse(lsn, nowMs, cutoffs);
    const validUntil = Math.max(held ?? 0, nowMs + lengthMs);
    this.until.set(lsn, validUntil);
    return validUntil;
  }

  private refuse(lsn: number, nowMs: number, { appliedLsn, plannedLsn, retained }: Cutoffs): void {
    const gone = (cutoff: number, which: string): Fault =>
      new Fault(
        'lsn-garbage-collected',
        `tried to request an lsn lease for an lsn below the ${which} gc cutoff. requested at ${formatLsn(lsn)} gc cutoff ${formatLsn(cutoff)}`,
        { hint: 'Raise pitr_interval or gc_horizon to keep more history, and lease it while it is there.' },
      );
    if (this.inGrace(nowMs)) {
      if (lsn < appliedLsn && !retained.includes(lsn)) throw gone(appliedLsn, 'latest');
      return;
    }
    if (lsn < appliedLsn) throw gone(appliedLsn, 'latest');
    if (lsn < plannedLsn) throw gone(plannedLsn, 'planned');
  }

  isLeased(lsn: number, nowMs: number): boolean {
    return (this.until.get(lsn) ?? 0) > nowMs;
  }

  /** Those in force, ascending. */
  lsns(nowMs: number): number[] {
    this.expire(nowMs);
    return [...this.until.keys()].sort((a, b) => a - b);
  }

  private expire(nowMs: number): void {
    for (const [lsn, until] of this.until) if (until <= nowMs) this.until.delete(lsn);
  }
}
