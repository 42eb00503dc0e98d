// A safekeeper that catches up with a peer while no compute streams: as recovery.ts does over HTTP and sockets, by
// calls that take time. The choice of the peer, the common point and the acceptor that is fed are the real ones.

import { INVALID_LSN, type Lsn } from '../../src/base/lsn.ts';
import { donors } from '../../src/safekeeper/recovery-plan.ts';
import { highestCommonPoint } from '../../src/safekeeper/term-history.ts';
import type { Timeline } from '../../src/safekeeper/timeline.ts';
import type { PeerInfo } from '../../src/safekeeper/timeline-handle.ts';
import type { SimClock } from './clock.ts';
import type { SimRandom } from './random.ts';
import type { SimSafekeeper } from './safekeeper.ts';

export interface PeerRecoveryWorld {
  readonly clock: SimClock;
  readonly random: SimRandom;
  readonly nodes: readonly SimSafekeeper[];
}

const FETCH_BYTES = 2000;

/** Fetches what the best peer has more; how many bytes came. Ends at the first sign of a change. */
export async function recoverFromPeer(
  node: SimSafekeeper,
  world: PeerRecoveryWorld,
  peers: PeerInfo[],
): Promise<number> {
  const { timeline } = node;
  if (timeline === undefined) return 0;
  const { control, flushLsn, lastLogTerm } = timeline.status();
  const streamingComputes = timeline.proposers().filter(proposer => proposer.status === 'streaming').length;
  const view = { nodeId: node.id, term: control.term, lastLogTerm, flushLsn, streamingComputes };
  const donor = donors(view, peers)[0];
  const source = world.nodes.find(other => other.id === donor?.nodeId)?.timeline;
  if (donor === undefined || source === undefined) return 0;
  await world.clock.sleep(world.random.below(20));
  const status = source.status();
  if (status.control.term !== donor.term || status.lastLogTerm !== donor.lastLogTerm) return 0;
  return feed(timeline, source, donor.term, world);
}

async function feed(
  timeline: Timeline,
  source: Timeline,
  term: number,
  world: PeerRecoveryWorld,
): Promise<number> {
  const { termHistory } = source.status();
  const session = timeline.connectProposer();
  try {
    const { generation } = timeline.status().control.membership;
    await session.process({ kind: 'vote-request', generation, term });
    const ours = timeline.status();
    const start = highestCommonPoint(termHistory, ours.termHistory, ours.flushLsn);
    await session.process({ kind: 'elected', generation, term, startStreamingAt: start, termHistory });
    let at = start;
    for (;;) {
      await world.clock.sleep(world.random.below(20));
      const wal = await source.readWal(at, FETCH_BYTES, term);
      if (wal.length === 0) return at - start;
      const endLsn = (at + wal.length) as Lsn;
      await session.process({
        kind: 'append-request',
        generation,
        term,
        beginLsn: at,
        endLsn,
        commitLsn: INVALID_LSN,
        truncateLsn: INVALID_LSN,
        wal,
      });
      at = endLsn;
    }
  } finally {
    await session.close();
  }
}
