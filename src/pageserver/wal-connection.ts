// One connection to a safekeeper: connect, ask where it is, stream WAL from where we stand, hand each record to the
// timeline, tell it how far we are.
//
//   XLogData -> WalReader -> WalRecord -> sink.record ... sink.commit -> status ('z') back
//
// Records are taken in by slices of SLICE_MS: between two, whoever waits for a page has their turn, so that a flood of
// WAL costs a reader one slice at most. What is decoded and not committed is lost with the connection; the next one
// begins at the timeline's last record again.
//
// WAL is streamed from the end of the last record, moved past a page header that begins there: that header may never
// have been written (a branch whose compute starts at a page boundary).
//
// Answers to handle_walreceiver_connection of pageserver/src/tenant/timeline/walreceiver/walreceiver_connection.rs.

import { Violation } from '../base/assert.ts';
import { Fault } from '../base/fault.ts';
import { turn } from '../base/flow.ts';
import type { TenantId, TimelineId } from '../base/ids.ts';
import { alignLsn, formatLsn, type Lsn, parseLsn } from '../base/lsn.ts';
import type { Clock, Net, Random } from '../base/ports.ts';
import { type CopyStream, PqClient, ServerError } from '../protocol/pq-client.ts';
import { pageserverReply, pgTime, readWalSenderMessage } from '../protocol/replication.ts';
import { WalReader } from '../xlog/reader.ts';
import { WalRecord } from '../xlog/record.ts';
import {
  DEFAULT_SEGMENT_SIZE,
  LONG_PAGE_HEADER_SIZE,
  SHORT_PAGE_HEADER_SIZE,
  XLOG_BLCKSZ,
} from '../xlog/segment.ts';
import type { WalSink } from './wal-sink.ts';

/** Ingest holds the thread this long at most before others have their turn. */
const SLICE_MS = 0.25;
/** The clock is looked at after so many records. */
const SLICE_RECORDS = 16;
/**
 * How often the safekeeper is told how far we are. It tells the compute each time, which has to know for back pressure
 * alone: hundreds of megabytes there, a few here. A report for each commit cost all three as much as the commit's WAL.
 */
const REPLY_MS = 20;
/** A message carries at most 128 KiB of WAL. */
const BODY_BYTES_MAX = 16 * 1024 * 1024;

export interface WalSource {
  readonly safekeeperId: number;
  readonly host: string;
  readonly port: number;
}

export interface WalConnectionDeps {
  readonly clock: Clock;
  readonly net: Net;
  readonly random: Random;
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  readonly nodeId: number;
  readonly token: string | undefined;
  readonly tls: boolean;
  readonly availabilityZone: string | undefined;
  readonly connectTimeoutMs: number;
}

/** What happens on it, as it happens. */
export interface WalConnectionEvents {
  identified(commitLsn: Lsn): void;
  keepalive(commitLsn: Lsn): void;
  /** WAL up to here has come, this many bytes of it. */
  wal(streamingLsn: number, commitLsn: Lsn, bytes: number): void;
  ingested(records: number): void;
}

/** The safekeeper ended the stream: we have all there is, and nobody writes more. */
export class StreamEnded extends Error {
  override readonly name = 'StreamEnded';
}

/** Where WAL goes on after the record that ends at `lsn`. */
export function streamStart(lsn: number, segmentSize = DEFAULT_SEGMENT_SIZE): Lsn {
  const aligned = alignLsn(lsn);
  if (aligned % segmentSize === 0) return (aligned + LONG_PAGE_HEADER_SIZE) as Lsn;
  if (aligned % XLOG_BLCKSZ === 0) return (aligned + SHORT_PAGE_HEADER_SIZE) as Lsn;
  return aligned;
}

/** Runs until the connection ends; throws why. An aborted signal cuts it. */
export async function receiveWal(
  from: WalSource,
  sink: WalSink,
  events: WalConnectionEvents,
  deps: WalConnectionDeps,
  signal: AbortSignal,
): Promise<never> {
  const client = await connect(from, deps);
  const cut = (): void => client.destroy();
  signal.addEventListener('abort', cut, { once: true });
  try {
    signal.throwIfAborted();
    const { rows } = await client.query('IDENTIFY_SYSTEM');
    events.identified(parseLsn(rows[0]?.[2] ?? ''));
    const start = streamStart(sink.lastRecordLsn, sink.walSegmentSize);
    if (sink.lastRecordLsn === 0) throw new Violation('a timeline without a position cannot receive WAL');
    const copy = await client.copyBoth(`START_REPLICATION PHYSICAL ${formatLsn(start)}`);
    return await new Stream(copy, start, sink, events, deps).run(signal);
  } catch (error) {
    signal.throwIfAborted();
    throw ended(error);
  } finally {
    signal.removeEventListener('abort', cut);
    client.destroy();
  }
}

function connect(from: WalSource, deps: WalConnectionDeps): Promise<PqClient> {
  const options = [
    '-c',
    `timeline_id=${deps.timelineId}`,
    `tenant_id=${deps.tenantId}`,
    'protocol={"type":"vanilla"}',
    ...(deps.availabilityZone === undefined ? [] : [`availability_zone=${deps.availabilityZone}`]),
  ];
  return PqClient.connect(deps.net, deps.random, {
    host: from.host,
    port: from.port,
    password: deps.token,
    tls: deps.tls,
    connectTimeoutMs: deps.connectTimeoutMs,
    bodyBytesMax: BODY_BYTES_MAX,
    parameters: {
      user: 'no_user',
      database: 'no_db',
      application_name: `pageserver-${deps.nodeId}`,
      replication: 'true',
      options: options.map(escapeOption).join(' '),
    },
  });
}

const escapeOption = (word: string): string => word.replaceAll(/[\\ ]/g, '\\$&');

/** A clean end is told by SQLSTATE 00000 and its words. */
function ended(error: unknown): unknown {
  if (
    error instanceof ServerError &&
    error.sqlState === '00000' &&
    error.message.includes('ending streaming')
  )
    return new StreamEnded(error.message);
  return error;
}

class Stream {
  private readonly copy: CopyStream;
  private readonly sink: WalSink;
  private readonly events: WalConnectionEvents;
  private readonly deps: WalConnectionDeps;
  private readonly reader: WalReader;
  private readonly record = new WalRecord();
  private expected: number;
  /** Others have their turn then. */
  private sliceEndMs = 0;
  /** All before it is in. */
  private taken: number;
  private repliedMs = -Infinity;
  private replyIsDue = false;

  constructor(
    copy: CopyStream,
    start: Lsn,
    sink: WalSink,
    events: WalConnectionEvents,
    deps: WalConnectionDeps,
  ) {
    this.copy = copy;
    this.sink = sink;
    this.events = events;
    this.deps = deps;
    const segmentSize = sink.walSegmentSize ?? DEFAULT_SEGMENT_SIZE;
    this.reader = new WalReader({ start, dialect: sink.dialect, segmentSize, checkPrev: true });
    this.expected = this.taken = start;
  }

  async run(signal: AbortSignal): Promise<never> {
    for (;;) {
      const bytes = await this.copy.read();
      if (!bytes) throw new Fault('connection-closed', 'the safekeeper ended the stream');
      const message = readWalSenderMessage(bytes);
      switch (message.kind) {
        case 'keepalive':
          this.events.keepalive(message.endLsn);
          if (message.replyRequested) await this.reply(this.sink.lastRecordLsn);
          break;
        case 'wal':
          await this.take(message.startLsn, message.endLsn, message.wal, signal);
          // Everything of it was copied: values to memory, the beginning of the next record to the reader.
          this.copy.takeBack(bytes);
          break;
        case 'interpreted':
          throw new Fault(
            'protocol-violation',
            'the safekeeper sent interpreted records, which were not asked for',
          );
      }
    }
  }

  private async take(startLsn: number, commitLsn: Lsn, wal: Uint8Array, signal: AbortSignal): Promise<void> {
    if (startLsn !== this.expected) {
      throw new Fault(
        'protocol-violation',
        `WAL from ${formatLsn(startLsn)} came where ${formatLsn(this.expected)} was due`,
      );
    }
    this.expected = startLsn + wal.length;
    this.events.wal(this.expected, commitLsn, wal.length);
    await this.ingest(wal, signal);
    this.taken = this.expected;
    if (this.deps.clock.monotonic() - this.repliedMs >= REPLY_MS) await this.reply(this.taken);
    else if (!this.replyIsDue) void this.replyLater(signal);
  }

  /** What comes meanwhile is told with it. */
  private async replyLater(signal: AbortSignal): Promise<void> {
    this.replyIsDue = true;
    try {
      await this.deps.clock.sleep(REPLY_MS, signal);
      this.replyIsDue = false;
      await this.reply(this.taken);
    } catch {
      // The connection has ended: whoever reads from it knows.
    }
  }

  /** All of a chunk, slice by slice; what is left of a slice is the next chunk's. */
  private async ingest(wal: Uint8Array, signal: AbortSignal): Promise<void> {
    const { clock } = this.deps;
    this.reader.push(wal);
    for (let more = true; more; ) {
      await this.sink.ready(signal);
      more = await this.slice();
      if (clock.monotonic() < this.sliceEndMs) continue;
      await turn(clock);
      signal.throwIfAborted();
      this.sliceEndMs = clock.monotonic() + SLICE_MS;
    }
  }

  /** Records until the time is up, and a commit over them; false when the chunk is used up. */
  private async slice(): Promise<boolean> {
    const { reader, record, sink } = this;
    const { clock } = this.deps;
    let count = 0;
    try {
      while (reader.next(record)) {
        const pending = this.hand(record);
        if (pending) await pending;
        if (++count % SLICE_RECORDS === 0 && clock.monotonic() >= this.sliceEndMs) return true;
      }
      return false;
    } finally {
      // Whatever ended the slice: records that are in must not come a second time.
      if (count > 0) {
        sink.commit();
        this.events.ingested(count);
      }
    }
  }

  /** A record of committed WAL that cannot be applied will be no better the next time, and part of it may be in. */
  private hand(record: WalRecord): void | Promise<void> {
    try {
      return this.sink.record(record)?.catch((error: unknown) => this.poison(error));
    } catch (error) {
      return this.poison(error);
    }
  }

  private poison(error: unknown): never {
    this.sink.fail(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }

  private reply(receivedLsn: number): Promise<void> {
    this.repliedMs = this.deps.clock.monotonic();
    return this.copy.write(
      pageserverReply({
        ...this.sink.feedback(),
        lastReceivedLsn: receivedLsn as Lsn,
        replyTime: pgTime(this.deps.clock.now()),
      }),
    );
  }
}
