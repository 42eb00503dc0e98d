// START_REPLICATION: WAL streamed to a pageserver, a standby, a compute that fetches what it lacks, or a peer.
//
//   without a term   up to commit_lsn: what a quorum has
//   with a term      up to flush_lsn, for the leader of that term and nobody else: ends as soon as the term changes
//
// Each chunk is contiguous with the one before, lies in one segment, is at most CHUNK_BYTES_MAX long, and ends at a
// page boundary unless it ends where WAL ends: a receiver may stop at any chunk and find itself where Postgres
// would write next. Who is far behind is sent several chunks of one read. After a second without WAL a keepalive asks
// for a reply.
//
// Sending and listening go on side by side; whichever ends first ends both. A pageserver that has everything in
// its object store, while no compute is connected, is sent home with the words it knows.
//
// Answers to handle_start_replication, WalSender and ReplyReader of safekeeper/src/send_wal.rs.

import { giveBack } from '../base/bytes.ts';
import { isFault } from '../base/fault.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Clock } from '../base/ports.ts';
import { CloseSilently, EndStreaming, type PqConnection } from '../protocol/pq-serve.ts';
import { keepalive, readWalReceiverMessage, xlogDataHeader } from '../protocol/replication.ts';
import type { Term } from '../protocol/walproposer.ts';
import type { SafekeeperMetrics } from './metrics.ts';
import type { ReaderHandle, TimelineHandle } from './timeline-handle.ts';
import { WalEnd } from './wal-end.ts';

const CHUNK_BYTES_MAX = 128 * 1024;
const READ_BYTES_MAX = 512 * 1024;
const PAGE_BYTES = 8192;
/** Replies of receivers are short. */
const REPLY_BYTES_MAX = 64 * 1024;

export interface WalStream {
  readonly startLsn: Lsn;
  readonly term: Term | undefined;
  readonly applicationName: string;
}

export interface SendDeps {
  readonly clock: Clock;
  readonly metrics: SafekeeperMetrics;
}

/** Streams until one side ends it; throws as PqHandler.query does. */
export async function sendWal(
  pq: PqConnection,
  timeline: TimelineHandle,
  stream: WalStream,
  reader: ReaderHandle,
  deps: SendDeps,
): Promise<never> {
  return sideBySide(pq, timeline, reader, deps, signal =>
    vanilla(pq, timeline, stream, reader, deps, signal),
  );
}

/** Runs a sender beside the listener to its receiver's replies. */
export async function sideBySide(
  pq: PqConnection,
  timeline: TimelineHandle,
  reader: ReaderHandle,
  deps: SendDeps,
  send: (signal: AbortSignal) => Promise<never>,
): Promise<never> {
  await pq.startCopyBoth(REPLY_BYTES_MAX);
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, timeline.signal]);
  deps.metrics.walReaders.inc();
  const sending = send(signal).catch((error: unknown) => {
    pq.interrupt(error);
    throw error;
  });
  try {
    return await listen(pq, reader, deps);
  } catch (error) {
    if (isFault(error, 'shutting-down')) throw new CloseSilently(error.message);
    throw error;
  } finally {
    stop.abort();
    await sending.catch(() => {});
    deps.metrics.walReaders.dec();
  }
}

async function listen(pq: PqConnection, reader: ReaderHandle, { metrics }: SendDeps): Promise<never> {
  for (;;) {
    const message = readWalReceiverMessage(await pq.readCopyData());
    switch (message?.kind) {
      case 'pageserver':
        metrics.feedbacks.inc();
        reader.pageserver(message.feedback);
        break;
      case 'standby-reply':
        reader.standbyReply(message);
        break;
      case 'hot-standby':
        reader.hotStandby(message);
        break;
    }
  }
}

async function vanilla(
  pq: PqConnection,
  timeline: TimelineHandle,
  { startLsn, term, applicationName }: WalStream,
  reader: ReaderHandle,
  { clock }: SendDeps,
  signal: AbortSignal,
): Promise<never> {
  const end = new WalEnd(timeline, term, clock);
  for (let at = startLsn; ; ) {
    if (!(await end.past(at, signal))) {
      endIfDone(timeline, reader, term, at, applicationName);
      await pq.sendCopyData(keepalive(end.now, clock.now(), true));
      continue;
    }
    const available = end.now;
    // A term may change while it is sent: its chunks are read one by one.
    const readMax = term === undefined ? READ_BYTES_MAX : CHUNK_BYTES_MAX;
    const wal = await timeline.readWal(at, chunkLength(at, available, readMax), term);
    signal.throwIfAborted();
    for (let sent = 0; sent < wal.length; ) {
      const chunk = wal.subarray(sent, sent + chunkLength(at, at + wal.length - sent));
      await pq.lendCopyData(xlogDataHeader(at, available, clock.now()), chunk);
      sent += chunk.length;
      at = (at + chunk.length) as Lsn;
      reader.position(at);
    }
    giveBack(wal);
  }
}

/** Up to a page boundary, unless WAL ends before. */
export function chunkLength(at: number, available: number, max = CHUNK_BYTES_MAX): number {
  const limit = at + max;
  if (available <= limit) return available - at;
  return limit - (limit % PAGE_BYTES) - at;
}

/** Nothing came for a second: has this pageserver all there is, with nobody left to write more? */
export function endIfDone(
  timeline: TimelineHandle,
  reader: ReaderHandle,
  term: Term | undefined,
  at: Lsn,
  applicationName: string,
): void {
  const { kind, pageserver } = reader.state();
  if (term !== undefined || kind === 'standby' || timeline.proposers().length > 0) return;
  const { commitLsn } = timeline;
  if (commitLsn === 0 || (pageserver?.remoteConsistentLsn ?? 0) >= commitLsn) {
    throw new EndStreaming(`ending streaming to ${applicationName || 'a reader'} at ${formatLsn(at)}`);
  }
}
