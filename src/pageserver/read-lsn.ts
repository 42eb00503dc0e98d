// At which LSN a page request is answered, and whether WAL must be waited for.
//
//   request_lsn         read as of here; all ones is the newest (a primary), replicas and static computes name theirs
//   not_modified_since  the client's word: what it asks for did not change in (not_modified_since, request_lsn]
//
//   request_lsn < not_modified_since, or 0          the request makes no sense
//   request_lsn below the GC cutoff, and no lease   the version may be gone
//   not_modified_since > last record                wait for it, read there
//   else                                            read at min(last record, request_lsn), no waiting
//
// Answers to effective_request_lsn of pageserver/src/page_service.rs.

import { Fault } from '../base/fault.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';

/** What a timeline still has. */
export interface Readable {
  readonly lastRecordLsn: number;
  readonly gcCutoffLsn: number;
  /** A lease keeps what lies below the cutoff, or leases cannot have been renewed yet since the attachment. */
  leased(lsn: Lsn): boolean;
}

/** Above `lastRecordLsn`: wait for it first. */
export function readLsn(requestLsn: Lsn, notModifiedSince: Lsn, at: Readable): Lsn {
  if (requestLsn < notModifiedSince) {
    throw new Fault(
      'lsn-invalid',
      `invalid request with request LSN ${formatLsn(requestLsn)} and not_modified_since ${formatLsn(notModifiedSince)}`,
    );
  }
  if (requestLsn === 0) throw new Fault('lsn-invalid', 'invalid LSN(0) in request');
  if (requestLsn < at.gcCutoffLsn && !at.leased(requestLsn)) throw collected(requestLsn, at.gcCutoffLsn);
  if (notModifiedSince > at.lastRecordLsn) return notModifiedSince;
  return Math.min(at.lastRecordLsn, requestLsn) as Lsn;
}

export const collected = (lsn: number, cutoff: number): Fault =>
  new Fault(
    'lsn-collected',
    `tried to request a page version that was garbage collected. requested at ${formatLsn(lsn)} gc cutoff ${formatLsn(cutoff)}`,
    { hint: 'Read at a newer LSN, or hold a lease on it while it is needed.' },
  );
