// START_WAL_PUSH: a compute's walproposer pushes WAL. Messages go to the timeline as they come, without waiting for
// the ones before, so that one sync serves all that arrived during the last; replies go back in order. What is
// taken in and not yet answered is bounded: past IN_FLIGHT_BYTES_MAX nothing more is read, and TCP holds the
// compute back.
//
//   read -> parse -> process ---------> reply -> write
//                       feedback of pageservers -> the last AppendResponse again, with it attached
//
// The first message must be a greeting; it finds the timeline, or makes it where that is allowed.
//
// Answers to handle_start_wal_push of safekeeper/src/receive_wal.rs.

import { Fault, isFault } from '../base/fault.ts';
import { formatLsn, INVALID_LSN } from '../base/lsn.ts';
import type { Clock, Log, Traces } from '../base/ports.ts';
import { NO_MEMBERSHIP } from '../protocol/membership.ts';
import { CloseSilently, CopyEnded, type PqConnection } from '../protocol/pq-serve.ts';
import type {
  AcceptorMessage,
  AppendRequest,
  AppendResponse,
  ProposerGreeting,
  ProposerMessage,
} from '../protocol/walproposer.ts';
import * as v2 from '../protocol/walproposer-v2.ts';
import * as v3 from '../protocol/walproposer-v3.ts';
import type { SafekeeperMetrics } from './metrics.ts';
import type { ProposerHandle, TimelineHandle, TimelineKey } from './timeline-handle.ts';
import type { Timelines } from './timelines.ts';

/** A greeting with members and an elected message with a long history are the longest besides an append. */
const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;
/** Appends read and not answered yet: enough to fill two syncs. */
const IN_FLIGHT_BYTES_MAX = 8 * 1024 * 1024;

interface Codec {
  readProposerMessage(bytes: Uint8Array): ProposerMessage;
  writeAcceptorMessage(message: AcceptorMessage): Uint8Array;
}

const CODECS: Readonly<Record<number, Codec>> = { 2: v2, 3: v3 };

export interface WalPush {
  readonly key: TimelineKey;
  readonly protoVersion: number;
  readonly allowTimelineCreation: boolean;
}

export interface WalServiceDeps {
  readonly clock: Clock;
  readonly timelines: Timelines;
  readonly metrics: SafekeeperMetrics;
  readonly log: Log;
  readonly traces?: Traces | undefined;
}

/** Serves one compute until it leaves; throws as PqHandler.query does. */
export async function receiveWal(pq: PqConnection, push: WalPush, deps: WalServiceDeps): Promise<void> {
  const codec = CODECS[push.protoVersion];
  if (!codec) {
    throw new Fault('protocol-violation', `walproposer protocol ${push.protoVersion} is not known`, {
      hint: 'Set neon.safekeeper_proto_version to 2 or 3 in the compute.',
    });
  }
  await pq.startCopyBoth(MESSAGE_BYTES_MAX);
  const greeting = codec.readProposerMessage(await pq.readCopyData());
  if (greeting.kind !== 'greeting') {
    throw new Fault('protocol-violation', `a ${greeting.kind} came where a greeting was due`);
  }
  const timeline = await findTimeline(greeting, push, deps);
  await new WalReceiver(pq, codec, timeline, deps).run(greeting);
}

async function findTimeline(
  greeting: ProposerGreeting,
  push: WalPush,
  { timelines, log }: WalServiceDeps,
): Promise<TimelineHandle> {
  const { key } = push;
  if (greeting.tenantId !== key.tenantId || greeting.timelineId !== key.timelineId) {
    throw new Fault('protocol-violation', 'the greeting is for another timeline than the connection', {
      hint: `The connection is for ${key.tenantId}/${key.timelineId}.`,
    });
  }
  const found = timelines.find(key);
  if (found) return found;
  if (!push.allowTimelineCreation) {
    try {
      return timelines.get(key);
    } catch (error) {
      // It may be on its way to be made by a controller: the compute comes again.
      if (isFault(error, 'timeline-missing')) throw new CloseSilently(error.message);
      throw error;
    }
  }
  const { pgVersion, systemId, walSegSize } = greeting;
  const seed = { key, membership: NO_MEMBERSHIP, pgVersion, systemId, walSegSize, startLsn: INVALID_LSN };
  const timeline = await timelines.create(seed);
  log.info('timeline made by the greeting of a compute', { tenant: key.tenantId, timeline: key.timelineId });
  return timeline;
}

class WalReceiver {
  private readonly pq: PqConnection;
  private readonly codec: Codec;
  private readonly timeline: TimelineHandle;
  private readonly deps: WalServiceDeps;
  private readonly session: ProposerHandle;
  private readonly stop = new AbortController();
  private lastAppend: AppendResponse | undefined;
  private inFlightBytes = 0;
  private roomAgain: (() => void) | undefined;

  constructor(pq: PqConnection, codec: Codec, timeline: TimelineHandle, deps: WalServiceDeps) {
    this.pq = pq;
    this.codec = codec;
    this.timeline = timeline;
    this.deps = deps;
    this.session = timeline.connectProposer();
  }

  async run(greeting: ProposerGreeting): Promise<void> {
    const { timeline, pq } = this;
    const onEnd = (): void => pq.interrupt(timeline.signal.reason);
    timeline.signal.addEventListener('abort', onEnd, { once: true });
    this.deps.metrics.walReceivers.inc();
    void this.relayFeedback();
    try {
      this.take(greeting, 0);
      for (;;) {
        const bytes = await pq.readCopyData();
        this.take(this.codec.readProposerMessage(bytes), bytes.length);
        if (this.inFlightBytes > IN_FLIGHT_BYTES_MAX) await this.room();
      }
    } catch (error) {
      throw isFault(error, 'shutting-down') ? new CloseSilently(error.message) : error;
    } finally {
      timeline.signal.removeEventListener('abort', onEnd);
      this.stop.abort(new CopyEnded('eof'));
      this.roomAgain?.();
      this.deps.metrics.walReceivers.dec();
      await this.session.close();
    }
  }

  /** Starts a message on its way; a failure interrupts the reading. */
  private take(message: ProposerMessage, bytes: number): void {
    const { metrics, traces } = this.deps;
    this.inFlightBytes += bytes;
    const traced = traces && message.kind === 'append-request' ? this.tracer(traces, message) : undefined;
    this.session
      .process(message)
      .then(
        reply => {
          metrics.message(message.kind, 'success');
          traced?.();
          return reply && this.send(reply);
        },
        (error: unknown) => {
          metrics.message(message.kind, 'error');
          traced?.(error);
          throw error;
        },
      )
      .then(
        () => this.release(bytes),
        (error: unknown) => {
          this.release(bytes);
          this.pq.interrupt(error);
        },
      );
  }

  /** From an append's arrival until it is durable. */
  private tracer(traces: Traces, append: AppendRequest): (error?: unknown) => void {
    const { clock } = this.deps;
    const began = clock.monotonic();
    const { tenantId, timelineId } = this.timeline.key;
    const attributes = {
      ...{ tenant: tenantId, timeline: timelineId, term: Number(append.term) },
      ...{ begin_lsn: formatLsn(append.beginLsn), bytes: append.wal.length },
    };
    return error => traces.span('Append', clock.monotonic() - began, attributes, error);
  }

  private release(bytes: number): void {
    this.inFlightBytes -= bytes;
    if (this.inFlightBytes <= IN_FLIGHT_BYTES_MAX / 2) this.roomAgain?.();
  }

  private room(): Promise<void> {
    return new Promise(resolve => {
      this.roomAgain = () => {
        this.roomAgain = undefined;
        resolve();
      };
    });
  }

  private send(reply: AcceptorMessage): Promise<void> {
    if (reply.kind === 'append-response') this.lastAppend = reply;
    return this.pq.sendCopyData(this.codec.writeAcceptorMessage(reply));
  }

  /** Feedback travels on an AppendResponse; before the first one there is nothing to attach it to. */
  private async relayFeedback(): Promise<void> {
    try {
      for (;;) {
        const feedback = await this.session.nextFeedback(this.stop.signal);
        if (this.lastAppend) await this.send({ ...this.lastAppend, pageserverFeedback: feedback });
      }
    } catch (error) {
      if (!this.stop.signal.aborted) this.pq.interrupt(error);
    }
  }
}
