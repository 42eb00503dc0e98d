// What the sockets need to know of tenants: which shards of a timeline are open here, and how to read them.

import { Fault } from '../base/fault.ts';
import type { TenantId, TimelineId } from '../base/ids.ts';
import type { Lsn } from '../base/lsn.ts';
import type { PgData } from './pgdata.ts';
import { type ShardIdentity, shardOfBlock } from './shard.ts';
import type { Timeline } from './timeline/timeline.ts';

/** One shard of a timeline, open and active. */
export interface ServedTimeline {
  readonly shard: ShardIdentity;
  readonly timeline: Timeline;
  readonly pgdata: PgData;
  readonly isArchived: boolean;
  /** Base backups come without SLRUs: the compute asks for segments as it needs them. */
  readonly lazySlruDownload: boolean;
  /** Aborted when it is served no more: detached, split, deleted, or the process ends. The reason is a Fault. */
  readonly signal: AbortSignal;
  /** Whether a read at an LSN below the GC cutoff is kept possible by a lease, or by the grace after an attachment. */
  leased(lsn: Lsn): boolean;
  /** Take or renew a lease: milliseconds since 1970 until which it holds; a Fault when it is refused. */
  lease(lsn: Lsn): number;
  /** A Fault `key-revoked` while the tenant's keys may not be used: what is in memory is not answered from, either. */
  checkKeys(): void;
}

export interface ServedTimelines {
  /** Every shard of the timeline on this node; waits a while for one that is being made ready. */
  find(tenantId: TenantId, timelineId: TimelineId): Promise<readonly ServedTimeline[]>;
}

/**
 * The shards of one timeline, as one connection sees them; looked up anew when one of them is gone. Every request
 * passes here, so this is where a revoked key stops answers out of caches.
 */
export class ShardRouter {
  private readonly timelines: ServedTimelines;
  private readonly tenantId: TenantId;
  private readonly timelineId: TimelineId;
  private shards: readonly ServedTimeline[] = [];
  private sole: ServedTimeline | undefined;

  constructor(timelines: ServedTimelines, tenantId: TenantId, timelineId: TimelineId) {
    this.timelines = timelines;
    this.tenantId = tenantId;
    this.timelineId = timelineId;
  }

  async refresh(): Promise<void> {
    this.shards = await this.timelines.find(this.tenantId, this.timelineId);
    const first = this.shards[0];
    this.sole = this.shards.length === 1 && first!.shard.count < 2 ? first : undefined;
  }

  /** Shards that ended since they were looked up: `refresh` is due. */
  get stale(): boolean {
    if (this.sole) return this.sole.signal.aborted;
    return this.shards.length === 0 || this.shards.some(s => s.signal.aborted);
  }

  ofBlock(relNumber: number, forkNum: number, blkno: number): ServedTimeline {
    const found = this.sole ?? this.holding(relNumber, forkNum, blkno);
    found.checkKeys();
    return found;
  }

  private holding(relNumber: number, forkNum: number, blkno: number): ServedTimeline {
    for (const served of this.shards) {
      const { number, count, stripeSize } = served.shard;
      if (shardOfBlock(relNumber, forkNum, blkno, count, stripeSize) === number) return served;
    }
    throw this.elsewhere('the page');
  }

  zero(): ServedTimeline {
    const found = this.sole ?? this.shards.find(s => s.shard.number === 0);
    if (!found) throw this.elsewhere('shard 0');
    found.checkKeys();
    return found;
  }

  known(number: number, count: number): ServedTimeline {
    const found = this.shards.find(s => s.shard.number === number && s.shard.count === count);
    if (!found) throw this.elsewhere(`shard ${number} of ${count}`);
    found.checkKeys();
    return found;
  }

  private elsewhere(what: string): Fault {
    return new Fault(
      'reconnect-requested',
      `${what} of timeline ${this.timelineId} is not on this pageserver`,
      {
        hint: 'The tenant was moved or split: connect again by the newest connection string.',
      },
    );
  }
}
