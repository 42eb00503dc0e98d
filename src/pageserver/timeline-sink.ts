// A timeline and its ingest, as a receiver of WAL sees them. The ingest, with the names and sizes it keeps in memory, is
// loaded when a safekeeper has something: a branch that is never written costs none of it.

import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Log } from '../base/ports.ts';
import type { PageserverFeedback } from '../protocol/feedback.ts';
import type { Dialect } from '../xlog/dialect.ts';
import type { WalRecord } from '../xlog/record.ts';
import type { Ingest } from './ingest.ts';
import type { Timeline } from './timeline/timeline.ts';
import type { WalSink } from './wal-sink.ts';

export interface TimelineSinkOptions {
  readonly timeline: Timeline;
  readonly dialect: Dialect;
  /** Loaded once, and the same ever after. */
  readonly ingest: () => Promise<Ingest>;
  readonly log: Log;
  /** What the index in the object store holds, under a generation that is known to be current. */
  remoteConsistentLsn(): number;
  readonly standbyHorizon?: (lsn: number) => void;
  /** The timeline is to stop: a record cannot be taken in. */
  readonly fail?: (error: Error) => void;
}

export class TimelineSink implements WalSink {
  readonly dialect: Dialect;
  private readonly options: TimelineSinkOptions;
  private ingest!: Ingest;
  private readonly timeline: Timeline;
  /** Of the ingest's, those that were looked at. */
  private unknownRecords = 0;
  private readonly toldManagers = new Set<number>();

  constructor(options: TimelineSinkOptions) {
    this.options = options;
    this.timeline = options.timeline;
    this.dialect = options.dialect;
  }

  async open(): Promise<void> {
    this.ingest = await this.options.ingest();
  }

  get walSegmentSize(): number {
    return this.ingest.pgdata.walSegmentSize;
  }

  get lastRecordLsn(): number {
    return this.timeline.lastRecordLsn;
  }

  get awaited(): boolean {
    return this.timeline.awaited;
  }

  record(record: WalRecord): void | Promise<void> {
    return this.ingest.record(record);
  }

  commit(): void {
    this.ingest.advance();
    if (this.ingest.unknownRecords > this.unknownRecords) this.tellUnknown();
  }

  /** Once for each manager: an extension that logs its own records goes on doing so. */
  private tellUnknown(): void {
    const { unknownRecords, unknownRmid: manager } = this.ingest;
    this.unknownRecords = unknownRecords;
    if (this.toldManagers.has(manager)) return;
    this.toldManagers.add(manager);
    this.options.log.warn(
      'records of a resource manager that is not known: pages they change cannot be made',
      {
        manager,
        before: formatLsn(this.lastRecordLsn),
      },
    );
  }

  ready(signal: AbortSignal): Promise<void> {
    return this.ingest.writer.ready(signal);
  }

  feedback(): Omit<PageserverFeedback, 'replyTime' | 'lastReceivedLsn'> {
    const { isFirstShard, shard, pgdata } = this.ingest;
    return {
      currentTimelineSize: isFirstShard ? BigInt(pgdata.logicalSize) : 0n,
      diskConsistentLsn: this.timeline.diskConsistentLsn as Lsn,
      remoteConsistentLsn: this.options.remoteConsistentLsn() as Lsn,
      shardNumber: shard.number,
      corruptionDetected: false,
    };
  }

  standbyHorizon(lsn: number): void {
    this.options.standbyHorizon?.(lsn);
  }

  fail(error: Error): void {
    this.options.log.error('a record of the log cannot be taken in: the timeline is stopped', {
      after: formatLsn(this.lastRecordLsn),
      error,
    });
    (this.options.fail ?? (e => this.timeline.fail(e)))(error);
  }
}
