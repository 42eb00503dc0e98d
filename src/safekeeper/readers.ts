// Who reads a timeline's WAL, and what they say of themselves: pageservers how far they are, hot standbys which
// transactions they still need. What they say is gathered here and relayed to the computes.
//
//   hot standby feedback   the minimum of what is set, over standbys; goes with every AppendResponse
//   pageserver feedback    each one as it comes, to every connected compute; the newest of a shard replaces what
//                          a slow compute has not taken yet, so nothing piles up
//
// Answers to WalSenders of safekeeper/src/send_wal.rs.

import { INVALID_LSN, type Lsn } from '../base/lsn.ts';
import { type HotStandbyFeedback, NO_HOT_STANDBY, type PageserverFeedback } from '../protocol/feedback.ts';
import type { ReaderHandle, ReaderState, StandbyReply } from './timeline-handle.ts';

type Mutable = { -readonly [K in keyof ReaderState]: ReaderState[K] };

export class Readers {
  private readonly readers = new Map<number, Mutable>();
  private nextId = 1;
  private readonly onPageserver: (feedback: PageserverFeedback) => void;

  constructor(onPageserver: (feedback: PageserverFeedback) => void) {
    this.onPageserver = onPageserver;
  }

  connect(): ReaderHandle {
    const id = this.nextId++;
    const state: Mutable = {
      id,
      kind: 'unknown',
      position: INVALID_LSN,
      pageserver: undefined,
      standbyReply: undefined,
      hotStandby: undefined,
    };
    this.readers.set(id, state);
    return {
      id,
      state: () => ({ ...state }),
      pageserver: feedback => {
        state.kind = 'pageserver';
        state.pageserver = feedback;
        this.onPageserver(feedback);
      },
      standbyReply: (reply: StandbyReply) => {
        state.kind = 'standby';
        state.standbyReply = reply;
      },
      hotStandby: feedback => {
        state.kind = 'standby';
        state.hotStandby = feedback;
      },
      position: lsn => {
        state.position = lsn;
      },
      close: () => void this.readers.delete(id),
    };
  }

  all(): ReaderState[] {
    return [...this.readers.values()].map(state => ({ ...state }));
  }

  /** The oldest transaction any standby needs; 0 where none says. The time is the newest of those that say. */
  hotStandby(): HotStandbyFeedback {
    let { ts, xmin, catalogXmin } = NO_HOT_STANDBY;
    for (const { hotStandby } of this.readers.values()) {
      if (hotStandby === undefined || (hotStandby.xmin === 0n && hotStandby.catalogXmin === 0n)) continue;
      if (hotStandby.ts > ts) ts = hotStandby.ts;
      xmin = leastSet(xmin, hotStandby.xmin);
      catalogXmin = leastSet(catalogXmin, hotStandby.catalogXmin);
    }
    return { ts, xmin, catalogXmin };
  }

  /** Least apply position over standbys; 0 without any. */
  standbyHorizon(): Lsn {
    let least = INVALID_LSN;
    for (const { standbyReply } of this.readers.values()) {
      const lsn = standbyReply?.applyLsn ?? INVALID_LSN;
      if (lsn !== INVALID_LSN && (least === INVALID_LSN || lsn < least)) least = lsn;
    }
    return least;
  }

  /** Where the slowest pageserver is; undefined without any. */
  laggard(): Lsn | undefined {
    let least: Lsn | undefined;
    for (const { pageserver } of this.readers.values()) {
      if (pageserver === undefined) continue;
      if (least === undefined || pageserver.lastReceivedLsn < least) least = pageserver.lastReceivedLsn;
    }
    return least;
  }
}

const leastSet = (a: bigint, b: bigint): bigint => (a === 0n ? b : b === 0n ? a : a < b ? a : b);

/** Feedback on its way to one compute: the newest of each shard, in the order the shards first spoke. */
export class FeedbackBox {
  private readonly newest = new Map<number, PageserverFeedback>();

  put(feedback: PageserverFeedback): void {
    this.newest.set(feedback.shardNumber, feedback);
  }

  take(): PageserverFeedback | undefined {
    const first = this.newest.entries().next().value;
    if (first === undefined) return undefined;
    this.newest.delete(first[0]);
    return first[1];
  }

  get empty(): boolean {
    return this.newest.size === 0;
  }
}
