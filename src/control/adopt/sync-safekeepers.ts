// Brings a quorum of safekeepers to one log, and writes nothing: for a branch whose last writer died with records under
// way. What any voter has may have been acknowledged, so the longest log is taken over by all and committed; what is
// cut off can only be what no quorum had.
//
//   elected at LSN ──► the others are given what they lack ──► a quorum has LSN: committed ──► told to the safekeepers
//
// The caller says when enough has heard of it (`settled`): the commit is told as long as we are there.
//
// Answers to `postgres --sync-safekeepers` (pgxn/neon/walproposer.c).

import { tenantId, timelineId } from '../../base/ids.ts';
import { INVALID_LSN, type Lsn } from '../../base/lsn.ts';
import type { AdoptWorld, StorageAt } from './contract.ts';
import { Proposer } from './proposer.ts';

/** A proposer that says 0 is heard by safekeepers of any server. */
const NO_SYSTEM = 0n;
const WAL_SEGMENT_SIZE = 16 * 1024 * 1024;

export interface SyncOptions {
  readonly storage: StorageAt;
  readonly timeline: string;
  /** Of Postgres, as 17. */
  readonly major: number;
  /** The newest term that any of them has voted in. */
  readonly term: number;
}

/** Resolves to where the log ends; `settled` is waited for first. */
export async function syncSafekeepers(
  options: SyncOptions,
  world: AdoptWorld,
  settled: (lsn: Lsn) => Promise<void>,
): Promise<Lsn> {
  const { storage, timeline, major, term } = options;
  const { clock, net, random, signal } = world;
  const proposer = new Proposer(
    {
      targets: storage.safekeepers,
      greeting: {
        tenantId: tenantId(storage.tenant),
        timelineId: timelineId(timeline),
        pgVersion: major * 10_000,
        systemId: NO_SYSTEM,
        walSegSize: WAL_SEGMENT_SIZE,
      },
      freshLsn: INVALID_LSN,
      lastTerm: term,
      saveTerm: async () => undefined,
    },
    { clock, net, random, token: storage.token },
  );
  const stop = (): void => proposer.close();
  signal.addEventListener('abort', stop, { once: true });
  try {
    signal.throwIfAborted();
    const lsn = await proposer.start();
    await Promise.race([proposer.committed(lsn).then(() => settled(lsn)), proposer.ended]);
    return lsn;
  } finally {
    signal.removeEventListener('abort', stop);
    proposer.close();
  }
}
