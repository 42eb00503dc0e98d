// The storage broker: publish and subscribe in memory, between safekeepers and pageservers. Nothing is kept; a
// subscriber sees what is published after it came, its own messages among it (safekeepers take that as the proof
// that their link works).
//
//   PublishSafekeeperInfo --+                 +-- all subscribers
//                           +--> one bus -----+
//   PublishOne -------------+                 +-- subscribers of exactly that tenant and timeline
//
// A message is passed on as it came, byte for byte, so that fields of newer releases survive us; only its id is
// read, to find who wants it. A subscriber that does not keep up loses its oldest messages, counted, and nobody
// else is held up: each has a bounded queue, and one write takes all that has gathered in it.
//
// Answers to storage_broker/src/bin/storage_broker.rs.

import { concatBytes, EMPTY_BYTES } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import {
  GRPC_STATUS,
  GrpcError,
  type GrpcHandler,
  type GrpcMethods,
  type GrpcServerCall,
  grpcFrame,
  only,
} from '../base/grpc.ts';
import type { HttpApi } from '../base/http.ts';
import { type Cell, Metrics } from '../base/metrics.ts';
import { watchApi } from '../base/watch-api.ts';
import {
  BROKER_SERVICE,
  MESSAGE_TYPE,
  readSubscribeByFilter,
  readSubscribeInfo,
  type TenantTimelineId,
} from '../protocol/broker.ts';
import { bearerToken, type TokenVerifier } from '../protocol/jwt.ts';
import { ProtoReader, ProtoWriter } from '../protocol/protobuf.ts';

export interface BrokerSettings {
  /** Messages that may wait for a subscriber of one timeline. */
  readonly timelineChanSize: number;
  /** Messages that may wait for a subscriber of all timelines. */
  readonly allKeysChanSize: number;
}

export const BROKER_DEFAULTS: BrokerSettings = { timelineChanSize: 32, allKeysChanSize: 16_384 };

/** One write carries at most so much of a queue. */
const WRITE_BYTES_MAX = 256 * 1024;

/** A message on the bus: both ways it may be delivered, made when first wanted. */
class BusMessage {
  readonly type: number;
  private readonly inner: Uint8Array;
  private bare: Uint8Array | undefined;
  private typed: Uint8Array | undefined;

  constructor(type: number, inner: Uint8Array) {
    this.type = type;
    this.inner = inner;
  }

  /** As SubscribeSafekeeperInfo delivers it. */
  bareFrame(): Uint8Array {
    return (this.bare ??= grpcFrame(this.inner));
  }

  /** As SubscribeByFilter delivers it: in the field of TypedMessage that has the number of its type. */
  typedFrame(): Uint8Array {
    this.typed ??= grpcFrame(
      new ProtoWriter(this.inner.length + 16).uint(1, this.type).alwaysBytes(this.type, this.inner).finish(),
    );
    return this.typed;
  }
}

class Subscriber {
  private queue: Uint8Array[] = [];
  private head = 0;
  private readonly limit: number;
  private wake: (() => void) | undefined;
  private readonly wanted: (m: BusMessage) => Uint8Array | undefined;
  private readonly dropped: Cell;

  constructor(limit: number, wanted: (m: BusMessage) => Uint8Array | undefined, dropped: Cell) {
    this.limit = limit;
    this.wanted = wanted;
    this.dropped = dropped;
  }

  /** True when the message was for it. */
  offer(message: BusMessage): boolean {
    const frame = this.wanted(message);
    if (!frame) return false;
    this.queue.push(frame);
    if (this.queue.length - this.head > this.limit) {
      this.queue[this.head++] = EMPTY_BYTES;
      this.dropped.inc();
    }
    this.wake?.();
    return true;
  }

  /** What has gathered, of at most WRITE_BYTES_MAX; waits for the first. */
  async take(signal: AbortSignal): Promise<Uint8Array> {
    while (this.head === this.queue.length) {
      await new Promise<void>((resolve, reject) => {
        const leave = (): void => reject(signal.reason as Error);
        if (signal.aborted) return leave();
        signal.addEventListener('abort', leave, { once: true });
        this.wake = () => {
          signal.removeEventListener('abort', leave);
          resolve();
        };
      });
      this.wake = undefined;
    }
    let end = this.head;
    for (let bytes = 0; end < this.queue.length && bytes < WRITE_BYTES_MAX; end++) {
      bytes += this.queue[end]!.length;
    }
    const frames = this.queue.slice(this.head, end);
    this.head = end;
    if (this.head === this.queue.length) {
      this.queue = [];
      this.head = 0;
    } else if (this.head > 1024) {
      this.queue = this.queue.slice(this.head);
      this.head = 0;
    }
    return frames.length === 1 ? frames[0]! : concatBytes(frames);
  }
}

const invalid = (message: string): GrpcError => new GrpcError(GRPC_STATUS.invalidArgument, message);

const keyOf = (id: TenantTimelineId): string => id.tenantId + id.timelineId;

export class Broker {
  readonly metrics = new Metrics();
  private readonly settings: BrokerSettings;
  private readonly tokens: TokenVerifier | undefined;
  private readonly everyone = new Set<Subscriber>();
  private readonly byTimeline = new Map<string, Set<Subscriber>>();
  private readonly count: ReturnType<typeof declare>;

  /** With `tokens`, callers must show one: a safekeeper's or a pageserver's. */
  constructor(settings: Partial<BrokerSettings> = {}, tokens?: TokenVerifier) {
    this.settings = { ...BROKER_DEFAULTS, ...settings };
    this.tokens = tokens;
    this.count = declare(this.metrics);
  }

  methods(): GrpcMethods {
    const method = (name: string, handler: GrpcHandler): [string, GrpcHandler] => [
      `${BROKER_SERVICE}/${name}`,
      async call => {
        await this.admit(call);
        await handler(call);
      },
    ];
    return new Map([
      method('PublishSafekeeperInfo', call => this.publishMany(call)),
      method('PublishOne', call => this.publishOne(call)),
      method('SubscribeSafekeeperInfo', call => this.subscribeInfo(call)),
      method('SubscribeByFilter', call => this.subscribeByFilter(call)),
    ]);
  }

  private async admit(call: GrpcServerCall): Promise<void> {
    if (!this.tokens) return;
    try {
      const { scope } = await this.tokens.verify(bearerToken(call.metadata['authorization']));
      if (ADMITTED.has(scope)) return;
    } catch (error) {
      throw new GrpcError(GRPC_STATUS.unauthenticated, error instanceof Fault ? error.message : 'no token');
    }
    throw new GrpcError(GRPC_STATUS.permissionDenied, 'this token does not open the broker');
  }

  private publish(type: number, inner: Uint8Array): void {
    this.count.processed.inc();
    const message = new BusMessage(type, inner);
    for (const subscriber of this.everyone) if (subscriber.offer(message)) this.count.broadcasted.inc();
    const key = routeOf(type, inner);
    const own = key === undefined ? undefined : this.byTimeline.get(key);
    if (own) for (const subscriber of own) if (subscriber.offer(message)) this.count.broadcasted.inc();
  }

  private async publishMany(call: GrpcServerCall): Promise<void> {
    this.count.publishers.inc();
    try {
      // A head at once: some clients wait for it before they begin to send.
      call.open();
      for await (const bytes of call.messages) this.publish(MESSAGE_TYPE.info, bytes);
      await call.send(EMPTY_BYTES);
    } catch (error) {
      throw error instanceof Fault ? invalid(error.message) : error;
    } finally {
      this.count.publishers.dec();
    }
  }

  private async publishOne(call: GrpcServerCall): Promise<void> {
    const { type, inner } = openTyped(await only(call));
    this.count.oneOff.inc();
    try {
      this.publish(type, inner);
    } catch (error) {
      throw error instanceof Fault ? invalid(error.message) : error;
    }
    await call.send(EMPTY_BYTES);
  }

  private async subscribeInfo(call: GrpcServerCall): Promise<void> {
    const { missingKey, id } = parsed(readSubscribeInfo, await only(call));
    if (missingKey) throw invalid('missing subscription key');
    const wanted = (m: BusMessage): Uint8Array | undefined =>
      m.type === MESSAGE_TYPE.info ? m.bareFrame() : undefined;
    await this.deliver(call, id, wanted);
  }

  private async subscribeByFilter(call: GrpcServerCall): Promise<void> {
    const filter = parsed(readSubscribeByFilter, await only(call));
    if (filter.enabled && !filter.id) throw invalid('the filter is enabled, but names no timeline');
    const types = new Set(filter.types);
    const wanted = (m: BusMessage): Uint8Array | undefined =>
      types.has(m.type) ? m.typedFrame() : undefined;
    await this.deliver(call, filter.enabled ? filter.id : undefined, wanted);
  }

  private async deliver(
    call: GrpcServerCall,
    id: TenantTimelineId | undefined,
    wanted: (m: BusMessage) => Uint8Array | undefined,
  ): Promise<void> {
    const limit = id ? this.settings.timelineChanSize : this.settings.allKeysChanSize;
    const subscriber = new Subscriber(limit, wanted, this.count.dropped);
    const leave = this.join(subscriber, id);
    try {
      call.open();
      for (;;) await call.sendFramed(await subscriber.take(call.signal));
    } finally {
      leave();
    }
  }

  private join(subscriber: Subscriber, id: TenantTimelineId | undefined): () => void {
    if (!id) {
      this.everyone.add(subscriber);
      this.count.allSubscribers.inc();
      return () => {
        this.everyone.delete(subscriber);
        this.count.allSubscribers.dec();
      };
    }
    const key = keyOf(id);
    const set = this.byTimeline.get(key) ?? new Set();
    this.byTimeline.set(key, set.add(subscriber));
    this.count.timelineSubscribers.inc();
    return () => {
      set.delete(subscriber);
      if (set.size === 0 && this.byTimeline.get(key) === set) this.byTimeline.delete(key);
      this.count.timelineSubscribers.dec();
    };
  }

  /** What the port answers besides gRPC. */
  api(version: string): HttpApi {
    return watchApi('Lakebed storage broker', version, this.metrics);
  }
}

const ADMITTED: ReadonlySet<string> = new Set(['safekeeperdata', 'pageserverapi', 'admin', 'infra']);

function declare(m: Metrics) {
  const gauge = (name: string, help: string): Cell => m.gauge(`storage_broker_${name}`, help).with();
  const counter = (name: string, help: string): Cell => m.counter(`storage_broker_${name}`, help).with();
  return {
    publishers: gauge('active_publishers', 'Open publishing streams.'),
    timelineSubscribers: gauge('per_timeline_active_subscribers', 'Subscribers of one timeline each.'),
    allSubscribers: gauge('all_keys_active_subscribers', 'Subscribers of all timelines.'),
    processed: counter('processed_messages_total', 'Messages published, by either door.'),
    broadcasted: counter('broadcasted_messages_total', 'Messages put into queues of subscribers.'),
    dropped: counter(
      'broadcast_dropped_messages_total',
      'Messages dropped for subscribers that did not keep up.',
    ),
    oneOff: counter('published_oneoff_messages_total', 'Messages published one at a time.'),
  };
}

function parsed<T>(read: (bytes: Uint8Array) => T, bytes: Uint8Array): T {
  try {
    return read(bytes);
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : String(error));
  }
}

/** The type of a TypedMessage and the message inside that belongs to it. */
function openTyped(bytes: Uint8Array): { type: number; inner: Uint8Array } {
  let type = 0;
  const inner = new Map<number, Uint8Array>();
  parsed(all => {
    const r = new ProtoReader(all);
    while (r.next()) {
      if (r.field === 1) type = r.uint();
      else if (r.field >= MESSAGE_TYPE.info && r.field <= MESSAGE_TYPE.discoveryResponse)
        inner.set(r.field, r.bytes());
      else r.skip();
    }
  }, bytes);
  const found = inner.get(type);
  if (!found)
    throw invalid(type === 0 ? 'the message has no type' : `the message of type ${type} is missing`);
  return { type, inner: found };
}

/** In which field each kind of message carries its id. */
const ID_FIELD: Readonly<Record<number, number>> = {
  [MESSAGE_TYPE.info]: 2,
  [MESSAGE_TYPE.discoveryRequest]: 1,
  [MESSAGE_TYPE.discoveryResponse]: 2,
};

/** The key of the timeline that a message is about; a Fault when its id is none. */
function routeOf(type: number, inner: Uint8Array): string | undefined {
  const r = new ProtoReader(inner);
  let key: string | undefined;
  while (r.next()) {
    if (r.field !== ID_FIELD[type]) {
      r.skip();
      continue;
    }
    const id = r.message();
    let tenant = '';
    let timeline = '';
    while (id.next()) {
      if (id.field === 1) tenant = id.id();
      else if (id.field === 2) timeline = id.id();
      else id.skip();
    }
    if (!tenant || !timeline) throw new Fault('protocol-violation', 'a tenant or timeline id is missing');
    key = tenant + timeline;
  }
  return key;
}
