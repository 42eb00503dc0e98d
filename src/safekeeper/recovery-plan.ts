// Catching up without a compute: from which peer may WAL be fetched? Only from one that is ahead and whose leader
// we can stand in for: its term is the term of its last entry, so that term had an elected leader, whose log it
// holds; and our own term is not higher, or we would have to refuse. Otherwise only an election can tell which
// log is the one to keep, and that takes a compute.
//
// A compute that streams to us does this better; while there is one, nobody else does.
//
// Answers to recovery_needed of safekeeper/src/recovery.rs.

import type { Lsn } from '../base/lsn.ts';
import type { Term } from '../protocol/walproposer.ts';
import type { PeerInfo } from './timeline-handle.ts';

export interface RecoveryView {
  readonly nodeId: number;
  readonly term: Term;
  readonly lastLogTerm: Term;
  readonly flushLsn: Lsn;
  /** Computes past their election that stream to us. */
  readonly streamingComputes: number;
}

/** By last term, then by length: who has the newer log. */
const compareLogs = (
  a: { readonly lastLogTerm: Term; readonly flushLsn: Lsn },
  b: { readonly lastLogTerm: Term; readonly flushLsn: Lsn },
): number => a.lastLogTerm - b.lastLogTerm || a.flushLsn - b.flushLsn;

/** Peers to fetch from, the best first. */
export function donors(view: RecoveryView, peers: readonly PeerInfo[]): PeerInfo[] {
  if (view.streamingComputes > 0) return [];
  return peers
    .filter(
      peer =>
        peer.nodeId !== view.nodeId &&
        compareLogs(peer, view) > 0 &&
        peer.term === peer.lastLogTerm &&
        peer.term >= view.term,
    )
    .sort((a, b) => compareLogs(b, a));
}

/** From which of these to pull a timeline that is not here at all: the newest log, then term, then commit. */
export function bestSource<
  T extends {
    readonly lastLogTerm: Term;
    readonly flushLsn: Lsn;
    readonly term: Term;
    readonly commitLsn: Lsn;
  },
>(sources: readonly T[]): T | undefined {
  const newer = (a: T, b: T): number => compareLogs(b, a) || b.term - a.term || b.commitLsn - a.commitLsn;
  return [...sources].sort(newer)[0];
}
