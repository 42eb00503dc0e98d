// A safekeeper's link to the broker, three loops that each begin anew a second after they broke:
//
//   push       every second, one message for each active timeline, on one stream
//   pull       what all safekeepers push, our own messages among it: into the peers and the timelines
//   discovery  somebody looks for a timeline that is here: answer, also when it is idle
//
// Answers to safekeeper/src/broker.rs.

import { type GrpcChannel, GrpcError, unary } from '../base/grpc.ts';
import type { Clock, Log } from '../base/ports.ts';
import {
  BROKER_SERVICE,
  MESSAGE_TYPE,
  readInfo,
  readTypedMessage,
  type SafekeeperTimelineInfo,
  writeInfo,
  writeSubscribeByFilter,
  writeSubscribeInfo,
  writeTypedMessage,
} from '../protocol/broker.ts';
import { active, type SafekeeperMetrics } from './metrics.ts';
import type { Peers } from './peers.ts';
import type { Timeline } from './timeline.ts';
import type { PeerInfo } from './timeline-handle.ts';
import type { Timelines } from './timelines.ts';

const PUSH_MS = 1000;
const RETRY_MS = 1000;

/** How others reach this node. */
export interface Advertised {
  readonly nodeId: number;
  readonly pgAddress: string;
  readonly httpAddress: string;
  readonly httpsAddress: string | undefined;
  readonly availabilityZone: string | undefined;
}

export interface BrokerClientDeps {
  readonly channel: GrpcChannel;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: SafekeeperMetrics;
  readonly timelines: Timelines;
  readonly peers: Peers;
  readonly advertised: Advertised;
  /** Off: only discovery is answered. */
  readonly push: boolean;
  /** Shown to brokers that ask for one. */
  readonly token: string | undefined;
}

export class BrokerClient {
  private readonly deps: BrokerClientDeps;
  private readonly stop = new AbortController();
  private broken = false;

  constructor(deps: BrokerClientDeps) {
    this.deps = deps;
  }

  start(): void {
    if (this.deps.push) void this.repeat('push', () => this.push());
    void this.repeat('pull', () => this.pull());
    void this.repeat('discovery', () => this.discover());
  }

  close(): void {
    this.stop.abort(new Error('the safekeeper is closing'));
    this.deps.channel.close();
  }

  private async repeat(loop: string, run: () => Promise<void>): Promise<void> {
    const { clock, log, metrics } = this.deps;
    while (!this.stop.signal.aborted) {
      try {
        await run();
      } catch (error) {
        if (this.stop.signal.aborted) return;
        metrics.brokerErrors.inc();
        // Said once while it lasts: a broker that is away is expected now and then.
        const why = error instanceof GrpcError ? error.message : String(error);
        if (!this.broken) log.info('the link to the broker broke; trying again', { loop, why });
        this.broken = true;
      }
      await clock.sleep(RETRY_MS, this.stop.signal).catch(() => {});
    }
  }

  private call(method: string): ReturnType<GrpcChannel['call']> {
    const { token, channel } = this.deps;
    const metadata = token ? { authorization: `Bearer ${token}` } : {};
    return channel.call(`${BROKER_SERVICE}/${method}`, { metadata, signal: this.stop.signal });
  }

  private linked(): void {
    if (this.broken) this.deps.log.info('the link to the broker stands again');
    this.broken = false;
  }

  private async push(): Promise<void> {
    const { timelines, clock, metrics } = this.deps;
    const call = this.call('PublishSafekeeperInfo');
    // The answer comes only when the stream ends: its error ends the loop.
    let ended: { readonly error: unknown } | undefined;
    const watching = drain(call.messages).then(
      () => (ended = { error: new GrpcError(0, 'the broker ended the stream') }),
      (error: unknown) => (ended = { error }),
    );
    try {
      for (;;) {
        for (const timeline of timelines.all()) {
          if (ended) throw ended.error;
          if (timeline.signal.aborted || !active(timeline)) continue;
          await call.send(writeInfo(this.infoOf(timeline)));
          metrics.brokerPushed.inc();
        }
        await Promise.race([clock.sleep(PUSH_MS, this.stop.signal), watching]);
        if (ended) throw ended.error;
      }
    } finally {
      call.cancel();
      await watching;
    }
  }

  private infoOf(timeline: Timeline): SafekeeperTimelineInfo {
    const { nodeId, pgAddress, httpAddress, httpsAddress, availabilityZone } = this.deps.advertised;
    const { memory, control, flushLsn, lastLogTerm } = timeline.status();
    return {
      safekeeperId: nodeId,
      id: timeline.key,
      lastLogTerm,
      term: timeline.term,
      flushLsn,
      commitLsn: memory.commitLsn,
      backupLsn: memory.backupLsn,
      remoteConsistentLsn: memory.remoteConsistentLsn,
      peerHorizonLsn: memory.peerHorizonLsn,
      localStartLsn: control.localStartLsn,
      safekeeperConnstr: pgAddress,
      httpConnstr: httpAddress,
      httpsConnstr: httpsAddress,
      availabilityZone,
      standbyHorizon: timeline.standbyHorizon(),
    };
  }

  private async pull(): Promise<void> {
    const call = this.call('SubscribeSafekeeperInfo');
    await call.send(writeSubscribeInfo(undefined));
    call.end();
    for await (const bytes of call.messages) {
      this.linked();
      await this.record(readInfo(bytes));
    }
  }

  /** What one safekeeper says of one timeline. */
  async record(info: SafekeeperTimelineInfo): Promise<void> {
    const { timelines, peers, metrics, log } = this.deps;
    const timeline = info.id && timelines.find(info.id);
    if (!timeline || timeline.signal.aborted) return;
    const peer = peerOf(info);
    metrics.brokerPulled.inc();
    peers.heard(timeline.key, peer);
    try {
      await timeline.recordPeer(peer);
    } catch (error) {
      if (!timeline.signal.aborted) log.warn('what a peer says was not taken in', { error });
    }
  }

  private async discover(): Promise<void> {
    const call = this.call('SubscribeByFilter');
    const types = [MESSAGE_TYPE.discoveryRequest];
    await call.send(writeSubscribeByFilter({ types, enabled: false, id: undefined }));
    call.end();
    for await (const bytes of call.messages) {
      const { discoveryRequest } = readTypedMessage(bytes);
      const timeline = discoveryRequest?.id && this.deps.timelines.find(discoveryRequest.id);
      if (timeline && !timeline.signal.aborted) await this.answer(timeline);
    }
  }

  private async answer(timeline: Timeline): Promise<void> {
    const { safekeeperId, id, commitLsn, safekeeperConnstr, availabilityZone } = this.infoOf(timeline);
    const discoveryResponse = {
      safekeeperId,
      id,
      commitLsn,
      safekeeperConnstr,
      availabilityZone,
      standbyHorizon: 0 as typeof commitLsn,
    };
    const message = writeTypedMessage({ type: MESSAGE_TYPE.discoveryResponse, discoveryResponse });
    await unary(this.call('PublishOne'), message);
  }
}

async function drain(messages: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of messages);
}

export function peerOf(info: SafekeeperTimelineInfo): PeerInfo {
  return {
    nodeId: info.safekeeperId,
    term: info.term,
    lastLogTerm: info.lastLogTerm,
    flushLsn: info.flushLsn,
    commitLsn: info.commitLsn,
    backupLsn: info.backupLsn,
    remoteConsistentLsn: info.remoteConsistentLsn,
    peerHorizonLsn: info.peerHorizonLsn,
    localStartLsn: info.localStartLsn,
    pgAddress: info.safekeeperConnstr,
    httpAddress: info.httpConnstr,
    ...(info.httpsConnstr === undefined ? {} : { httpsAddress: info.httpsConnstr }),
  };
}
