// A broker's full house: safekeepers that subscribe to everything, pageservers with a stream for each timeline on one
// connection, one subscriber that never reads, and a publisher that tells of every timeline in rounds, as safekeepers
// do every second. For the suite, which asks that nobody but the stuck one loses anything, and for the bench.

import http2 from 'node:http2';
import type { GrpcChannel } from '../../src/base/grpc.ts';
import { grpcFrame } from '../../src/base/grpc.ts';
import type { TenantId, TimelineId } from '../../src/base/ids.ts';
import { lsn } from '../../src/base/lsn.ts';
import { grpcChannel } from '../../src/host/grpc.ts';
import * as wire from '../../src/protocol/broker.ts';

export interface CrowdShape {
  readonly timelines: number;
  /** Subscribers of everything. */
  readonly safekeepers: number;
  /** Connections with streams of single timelines; all timelines are spread over them. */
  readonly pageservers: number;
  readonly withStuck: boolean;
}

/** A hundred connections at once, to a broker that shares the machine. */
const CONNECT_MS = 60_000;

const id = (n: number): string => n.toString(16).padStart(32, '0');
const TENANT = id(1) as TenantId;

const messageOf = (n: number, round: number): Uint8Array =>
  wire.writeInfo({
    safekeeperId: 1,
    id: { tenantId: TENANT, timelineId: id(n + 1) as TimelineId },
    lastLogTerm: 1,
    flushLsn: lsn(0x1000000 + round * 8),
    commitLsn: lsn(0x1000000 + round * 8),
    backupLsn: lsn(0),
    remoteConsistentLsn: lsn(0),
    peerHorizonLsn: lsn(0),
    localStartLsn: lsn(0),
    safekeeperConnstr: 'safekeeper-1.storage.svc:5454',
    availabilityZone: 'zone-a',
    term: 1,
    httpConnstr: 'safekeeper-1.storage.svc:7676',
    standbyHorizon: lsn(0),
    httpsConnstr: undefined,
  });

export class Crowd {
  private readonly shape: CrowdShape;
  private readonly url: string;
  private readonly channels: GrpcChannel[] = [];
  private stuck: http2.ClientHttp2Session | undefined;
  private publishing: ReturnType<GrpcChannel['call']> | undefined;
  private wake: () => void = () => {};
  private round = 0;
  /** Messages of each subscriber of everything, and of each single timeline. */
  readonly byAll: number[];
  readonly byTimeline: Uint32Array;
  /** Subscribers that were cut off. */
  readonly failures: unknown[] = [];
  private received = 0;

  constructor(port: number, shape: CrowdShape) {
    this.url = `http://127.0.0.1:${port}`;
    this.shape = shape;
    this.byAll = Array(shape.safekeepers).fill(0);
    this.byTimeline = new Uint32Array(shape.timelines);
  }

  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    return Number(new RegExp(`^storage_broker_${name} (\\d+)$`, 'm').exec(text)?.[1]);
  }

  async gather(): Promise<void> {
    const { timelines, safekeepers, pageservers, withStuck } = this.shape;
    if (withStuck) this.subscribeAndNeverRead();
    for (let i = 0; i < safekeepers; i++) {
      const count = (): void => void this.byAll[i]!++;
      void this.listen(this.channel(), 'SubscribeSafekeeperInfo', wire.writeSubscribeInfo(undefined), count);
    }
    for (let i = 0; i < pageservers; i++) {
      const channel = this.channel();
      for (let n = i; n < timelines; n += pageservers) {
        const filter = wire.writeSubscribeByFilter({
          types: [wire.MESSAGE_TYPE.info],
          enabled: true,
          id: { tenantId: TENANT, timelineId: id(n + 1) as TimelineId },
        });
        void this.listen(channel, 'SubscribeByFilter', filter, () => void this.byTimeline[n]!++);
      }
    }
    const all = safekeepers + (withStuck ? 1 : 0);
    while (
      (await this.metric('all_keys_active_subscribers')) < all ||
      (await this.metric('per_timeline_active_subscribers')) < timelines
    ) {
      if (this.failures.length > 0) throw this.failures[0];
      await new Promise(done => setTimeout(done, 50));
    }
    this.publishing = this.channel().call(`${wire.BROKER_SERVICE}/PublishSafekeeperInfo`);
  }

  private channel(): GrpcChannel {
    const channel = grpcChannel(this.url, { connectTimeoutMs: CONNECT_MS });
    this.channels.push(channel);
    return channel;
  }

  private async listen(
    channel: GrpcChannel,
    method: string,
    request: Uint8Array,
    count: () => void,
  ): Promise<void> {
    const call = channel.call(`${wire.BROKER_SERVICE}/${method}`);
    try {
      await call.send(request);
      call.end();
      for await (const _ of call.messages) {
        count();
        this.received++;
        this.wake();
      }
    } catch (error) {
      this.failures.push(error);
    }
  }

  /** A client whose application hangs: its connection lives, and nothing is ever read from it. */
  private subscribeAndNeverRead(): void {
    this.stuck = http2.connect(this.url);
    this.stuck.on('error', () => {});
    const stream = this.stuck.request({
      ':method': 'POST',
      ':path': `${wire.BROKER_SERVICE}/SubscribeSafekeeperInfo`,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.on('error', () => {});
    stream.pause();
    stream.end(grpcFrame(wire.writeSubscribeInfo(undefined)));
  }

  /** What a round delivers, but to the stuck one. */
  get deliveriesPerRound(): number {
    return this.shape.timelines * (this.shape.safekeepers + 1);
  }

  /** A message for every timeline; resolves when everybody has theirs. */
  async tellAll(): Promise<void> {
    const wanted = this.received + this.deliveriesPerRound;
    this.round++;
    for (let n = 0; n < this.shape.timelines; n++) await this.publishing!.send(messageOf(n, this.round));
    while (this.received < wanted) {
      if (this.failures.length > 0) throw this.failures[0];
      await new Promise<void>(done => {
        this.wake = done;
        setTimeout(done, 1000).unref();
      });
    }
    this.wake = () => {};
  }

  leave(): void {
    this.publishing?.end();
    for (const channel of this.channels) channel.close();
    this.stuck?.destroy();
  }
}
