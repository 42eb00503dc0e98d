// Keeps one timeline supplied with WAL: listens to the broker, holds at most one connection to a safekeeper, and
// changes it as the plan says (receiver-plan.ts).
//
//   broker --SubscribeByFilter--> plan.heard --+
//   connection ends, or tells of itself -------+--> look: plan.next --> drop the connection, make another
//   time passes -------------------------------+
//
// When nobody is known and somebody waits for WAL, safekeepers are asked to come forward (a discovery request), not
// more often than laggingWalTimeoutMs; and a subscription that was silent for 30 s meanwhile is made anew, for it may
// be stuck.
//
// Answers to connection_manager_loop_step of pageserver/src/tenant/timeline/walreceiver/connection_manager.rs.

import { Violation } from '../base/assert.ts';
import { type Fault, isFault } from '../base/fault.ts';
import { type GrpcChannel, unary } from '../base/grpc.ts';
import type { TenantId, TimelineId } from '../base/ids.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Clock, Log, Net, Random } from '../base/ports.ts';
import {
  BROKER_SERVICE,
  MESSAGE_TYPE,
  readTypedMessage,
  type TypedMessage,
  writeSubscribeByFilter,
  writeTypedMessage,
} from '../protocol/broker.ts';
import { type Candidate, ReceiverPlan, type ReceiverSettings, type Switch } from './receiver-plan.ts';
import { unlessAborted } from './remote/retry.ts';
import type { ServiceMetrics } from './service-metrics.ts';
import { receiveWal, StreamEnded, type WalConnectionDeps } from './wal-connection.ts';
import type { WalSink } from './wal-sink.ts';

export interface ReceiverDeps {
  readonly clock: Clock;
  readonly net: Net;
  readonly random: Random;
  readonly log: Log;
  readonly broker: GrpcChannel;
  readonly metrics: ServiceMetrics;
  readonly nodeId: number;
  /** Shown to safekeepers. */
  readonly token: string | undefined;
  readonly tls: boolean;
  readonly settings: ReceiverSettings;
}

export interface ReceiverStatus {
  readonly text: string;
  readonly source: string | undefined;
  readonly lastReceivedLsn: Lsn;
  readonly lastReceivedAtMs: number | undefined;
}

const SUBSCRIBE_RETRY_MIN_MS = 100;
const SUBSCRIBE_RETRY_MAX_MS = 3000;
const SILENCE_MS = 30_000;

export class WalReceiver {
  private readonly id: { readonly tenantId: TenantId; readonly timelineId: TimelineId };
  private readonly sink: WalSink;
  private readonly deps: ReceiverDeps;
  private readonly plan: ReceiverPlan;
  private readonly stopping = new AbortController();
  private readonly wake = new Wake();
  private running: Promise<unknown> | undefined;
  private connection: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;
  private resubscribe = new AbortController();
  private heardMs = 0;
  private discoveredMs = -Infinity;
  private lastReceivedLsn = 0;
  private lastReceivedAtMs: number | undefined;

  constructor(
    id: { readonly tenantId: TenantId; readonly timelineId: TimelineId },
    sink: WalSink,
    deps: ReceiverDeps,
  ) {
    this.id = id;
    this.sink = sink;
    this.deps = deps;
    this.plan = new ReceiverPlan(deps.settings);
  }

  start(): void {
    if (this.running) throw new Violation('a receiver is started once');
    this.heardMs = this.deps.clock.monotonic();
    this.running = Promise.all([this.subscribeForEver(), this.lookForEver()]);
  }

  /** Resolves when no more WAL is taken in. */
  async stop(reason: Fault): Promise<void> {
    this.stopping.abort(reason);
    this.resubscribe.abort(reason);
    this.wake.up();
    await this.running;
    await this.drop();
  }

  status(): ReceiverStatus {
    return {
      text: this.plan.describe(),
      source: this.plan.connection?.candidate.connstr,
      lastReceivedLsn: this.lastReceivedLsn as Lsn,
      lastReceivedAtMs: this.lastReceivedAtMs,
    };
  }

  private get stopped(): boolean {
    return this.stopping.signal.aborted;
  }

  // ---- the broker -------------------------------------------------------------------------------------------

  private async subscribeForEver(): Promise<void> {
    const { clock, log } = this.deps;
    let waitMs = SUBSCRIBE_RETRY_MIN_MS;
    while (!this.stopped) {
      try {
        await this.subscribe(() => (waitMs = SUBSCRIBE_RETRY_MIN_MS));
      } catch (error) {
        if (!this.stopped) log.info('the broker subscription ended', { error });
      }
      if (this.stopped) return;
      await clock.sleep(waitMs, this.stopping.signal).catch(() => {});
      waitMs = Math.min(waitMs * 2, SUBSCRIBE_RETRY_MAX_MS);
    }
  }

  private async subscribe(onMessage: () => void): Promise<void> {
    this.resubscribe = new AbortController();
    if (this.stopped) return;
    const call = this.deps.broker.call(`${BROKER_SERVICE}/SubscribeByFilter`, {
      signal: this.resubscribe.signal,
    });
    const types = [MESSAGE_TYPE.info, MESSAGE_TYPE.discoveryResponse];
    await call.send(writeSubscribeByFilter({ types, enabled: true, id: this.id }));
    call.end();
    for await (const bytes of call.messages) {
      onMessage();
      this.heard(readTypedMessage(bytes));
    }
  }

  private heard(message: TypedMessage): void {
    const said = message.info ?? message.discoveryResponse;
    if (!said) return;
    const { clock, log, metrics } = this.deps;
    this.heardMs = clock.monotonic();
    metrics.brokerUpdates.inc();
    if (said.standbyHorizon !== 0) this.sink.standbyHorizon?.(said.standbyHorizon);
    const { safekeeperId, commitLsn, safekeeperConnstr, availabilityZone } = said;
    const candidate: Candidate = { safekeeperId, commitLsn, connstr: safekeeperConnstr, availabilityZone };
    if (this.plan.heard(candidate, this.heardMs)) {
      log.info('a safekeeper came forward', { safekeeper: safekeeperId, at: safekeeperConnstr });
    }
    this.wake.up();
  }

  /** Nobody is known, and somebody waits: ask for safekeepers. */
  private async discover(nowMs: number): Promise<void> {
    if (!this.plan.idle || !this.sink.awaited) return;
    if (nowMs - this.heardMs > SILENCE_MS) {
      this.heardMs = nowMs;
      this.resubscribe.abort(new Error('nothing was heard from the broker for a while'));
    }
    if (nowMs - this.discoveredMs < this.deps.settings.laggingWalTimeoutMs) return;
    this.discoveredMs = nowMs;
    this.deps.log.info('nobody has our WAL: asking for safekeepers');
    const request = { type: MESSAGE_TYPE.discoveryRequest, discoveryRequest: { id: this.id } };
    const call = this.deps.broker.call(`${BROKER_SERVICE}/PublishOne`, { signal: this.stopping.signal });
    // Whether it arrived does not matter: it is asked again.
    await unary(call, writeTypedMessage(request)).catch(() => {});
  }

  // ---- the connection ---------------------------------------------------------------------------------------

  private async lookForEver(): Promise<void> {
    const { clock } = this.deps;
    while (!this.stopped) {
      const nowMs = clock.monotonic();
      const change = this.plan.next(nowMs, this.sink.lastRecordLsn);
      if (change) await this.change(change);
      else void this.discover(nowMs);
      await this.wake.wait(clock, this.plan.wakeInMs(clock.monotonic()) ?? IDLE_MS);
    }
  }

  private async change({ to, reason }: Switch): Promise<void> {
    await this.drop();
    if (this.stopped) return;
    const { clock, log, metrics } = this.deps;
    metrics.walreceiverSwitches.with(reason).inc();
    log.info('connecting to a safekeeper', { safekeeper: to.safekeeperId, at: to.connstr, reason });
    this.plan.started(to, clock.monotonic());
    const stop = new AbortController();
    this.connection = { stop, done: this.receive(to, stop.signal) };
  }

  private async drop(): Promise<void> {
    const { connection } = this;
    if (!connection) return;
    connection.stop.abort(new Error('the connection is given up for another'));
    await connection.done;
  }

  private async receive(from: Candidate, signal: AbortSignal): Promise<void> {
    const { log, metrics } = this.deps;
    metrics.walreceivers.inc();
    let complete = false;
    try {
      const { host, port } = parseConnstr(from.connstr);
      const source = { safekeeperId: from.safekeeperId, host, port };
      await unlessAborted(this.sink.open?.() ?? Promise.resolve(), signal);
      await receiveWal(source, this.sink, this.events(), this.connectionDeps(), signal);
    } catch (error) {
      const fields = { safekeeper: from.safekeeperId };
      complete = error instanceof StreamEnded;
      if (complete) log.info('the safekeeper has nothing more for us', fields);
      else if (!signal.aborted) report(log, error, fields);
    } finally {
      metrics.walreceivers.dec();
      this.connection = undefined;
      this.plan.ended(complete);
      this.wake.up();
    }
  }

  private connectionDeps(): WalConnectionDeps {
    const { clock, net, random, nodeId, token, tls, settings } = this.deps;
    const { connectTimeoutMs, availabilityZone } = settings;
    return { clock, net, random, nodeId, token, tls, connectTimeoutMs, availabilityZone, ...this.id };
  }

  private events(): Parameters<typeof receiveWal>[2] {
    const { plan } = this;
    const { clock, log, metrics } = this.deps;
    return {
      identified: lsn => {
        log.info('connected to a safekeeper', {
          commit: formatLsn(lsn),
          from: formatLsn(this.sink.lastRecordLsn),
        });
        plan.identified(lsn, clock.monotonic());
      },
      keepalive: lsn => plan.keepalive(lsn, clock.monotonic()),
      wal: (streaming, commit, bytes) => {
        plan.wal(streaming, commit, clock.monotonic());
        metrics.walBytesReceived.inc(bytes);
        this.lastReceivedLsn = streaming;
        this.lastReceivedAtMs = clock.now();
      },
      ingested: records => metrics.walRecordsIngested.inc(records),
    };
  }
}

/** Nothing to wait for but an event. Somebody may begin to wait for WAL, which is no event of ours. */
const IDLE_MS = 1000;

function report(log: Log, error: unknown, fields: Record<string, unknown>): void {
  // A safekeeper that goes away, or is not there yet, is everyday life.
  const everyday = isFault(error) && error.kind !== 'corrupt' && error.kind !== 'invalid';
  if (everyday) log.info('the connection to the safekeeper ended', { ...fields, error });
  else log.error('receiving WAL failed', { ...fields, error });
}

function parseConnstr(connstr: string): { host: string; port: number } {
  const colon = connstr.lastIndexOf(':');
  const host = connstr.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return { host, port: Number(connstr.slice(colon + 1)) };
}

/** Something happened: whoever waits looks again. */
class Wake {
  private pending = false;
  private waiting: AbortController | undefined;

  up(): void {
    this.pending = true;
    this.waiting?.abort(new Error('woken'));
  }

  async wait(clock: Clock, ms: number): Promise<void> {
    if (!this.pending) {
      this.waiting = new AbortController();
      await clock.sleep(ms, this.waiting.signal).catch(() => {});
      this.waiting = undefined;
    }
    this.pending = false;
  }
}
