// What a receiver of WAL hands records to: a timeline with its ingest. Several records, then one `commit`; readers
// see them from then on.

import type { PageserverFeedback } from '../protocol/feedback.ts';
import type { Dialect } from '../xlog/dialect.ts';
import type { WalRecord } from '../xlog/record.ts';

export interface WalSink {
  readonly dialect: Dialect;
  /** Of the log, known once it is open; 16 MiB unless it says. */
  readonly walSegmentSize?: number;
  /** Before the first record of a connection: what records change is loaded. */
  open?(): Promise<void>;
  /** Every record up to here is in. */
  readonly lastRecordLsn: number;
  /** Somebody waits for WAL that is not here. */
  readonly awaited: boolean;
  /** The record is good during the call only, or until the promise settles. */
  record(record: WalRecord): void | Promise<void>;
  /** What was handed over is to be seen. */
  commit(): void;
  /** Back pressure: resolves when more may come. */
  ready(signal: AbortSignal): Promise<void>;
  feedback(): Omit<PageserverFeedback, 'replyTime' | 'lastReceivedLsn'>;
  /** A safekeeper's oldest position of a connected standby: reads there must stay possible. */
  standbyHorizon?(lsn: number): void;
  /** The log cannot be read or applied: a promise is broken, nothing more is taken in. */
  fail(error: Error): void;
}
