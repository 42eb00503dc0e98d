// Receiving WAL over real sockets, from safekeepers of the test's own and through the real broker: every record once,
// in order, whichever of them dies, lies or ends the stream.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fault } from '../base/fault.ts';
import { type GrpcChannel, unary } from '../base/grpc.ts';
import { tenantId, timelineId } from '../base/ids.ts';
import { lsn as asLsn, formatLsn, INVALID_LSN, type Lsn } from '../base/lsn.ts';
import { Metrics } from '../base/metrics.ts';
import type { Connection, Listener, Log } from '../base/ports.ts';
import { Broker } from '../control/broker.ts';
import { hostClock } from '../host/clock.ts';
import { grpcChannel, listenGrpc } from '../host/grpc.ts';
import { hostNet } from '../host/net.ts';
import { hostRandom } from '../host/random.ts';
import {
  BROKER_SERVICE,
  type DiscoveryResponse,
  MESSAGE_TYPE,
  readTypedMessage,
  type TypedMessage,
  writeSubscribeByFilter,
  writeTypedMessage,
} from '../protocol/broker.ts';
import { parseSafekeeperCommand } from '../protocol/commands.ts';
import type { PageserverFeedback } from '../protocol/feedback.ts';
import { commandComplete, dataRow, rowDescription, textColumn } from '../protocol/pq-messages.ts';
import { EndStreaming, type PqConnection, servePq } from '../protocol/pq-serve.ts';
import { keepalive, readWalReceiverMessage, xlogDataHeader } from '../protocol/replication.ts';
import { dialectOfMajor } from '../xlog/dialects/all.ts';
import type { WalRecord } from '../xlog/record.ts';
import { WalWriter } from '../xlog/writer.ts';
import { WalReceiver } from './receiver.ts';
import { RECEIVER_DEFAULTS } from './receiver-plan.ts';
import { ServiceMetrics } from './service-metrics.ts';
import { streamStart } from './wal-connection.ts';
import type { WalSink } from './wal-sink.ts';

const ID = { tenantId: tenantId('11'.repeat(16)), timelineId: timelineId('22'.repeat(16)) };
const dialect = dialectOfMajor(17, 'neon');
const quiet: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => quiet };
const net = hostNet();

/** A log that all safekeepers of a test share. */
class SharedLog {
  readonly start = asLsn(0x2000000);
  private readonly writer = new WalWriter({ start: this.start, dialect });
  bytes = new Uint8Array(0);
  readonly ends: number[] = [];

  write(count: number): Lsn {
    for (let i = 0; i < count; i++) {
      const main = new Uint8Array(1 + hostRandom.below(i % 50 === 0 ? 40_000 : 300));
      this.ends.push(this.writer.append({ rmid: 10, info: 0, xid: 700 + i, main }).end);
    }
    this.bytes = Buffer.concat([this.bytes, this.writer.take()]);
    return this.writer.position;
  }

  at(from: number, to: number): Uint8Array {
    return this.bytes.slice(from - this.start, to - this.start);
  }
}

class FakeSafekeeper {
  readonly id: number;
  readonly log: SharedLog;
  commitLsn: Lsn;
  /** It sends no WAL past here. */
  stuckAt = Infinity;
  /** A byte that it has wrong. */
  rottenAt = -1;
  endWhenIdle = false;
  readonly feedback: PageserverFeedback[] = [];
  readonly starts: number[] = [];
  private listener: Listener | undefined;

  constructor(id: number, log: SharedLog, commitLsn: Lsn) {
    this.id = id;
    this.log = log;
    this.commitLsn = commitLsn;
  }

  async listen(): Promise<void> {
    const handler = (connection: Connection): void =>
      void servePq(
        connection,
        { startup() {}, query: (text, pq) => this.query(text, pq) },
        { tls: false, password: false },
      );
    this.listener = await net.listen({ host: '127.0.0.1', port: 0 }, handler);
  }

  async die(): Promise<void> {
    await this.listener?.close();
    this.listener = undefined;
  }

  info(): TypedMessage {
    const discoveryResponse: DiscoveryResponse = {
      safekeeperId: this.id,
      id: ID,
      commitLsn: this.commitLsn,
      safekeeperConnstr: `127.0.0.1:${this.listener?.port ?? 1}`,
      availabilityZone: undefined,
      standbyHorizon: INVALID_LSN,
    };
    return { type: MESSAGE_TYPE.discoveryResponse, discoveryResponse };
  }

  private async query(text: string, pq: PqConnection): Promise<void> {
    const command = parseSafekeeperCommand(text);
    if (command.kind === 'identify-system') {
      await pq.send(rowDescription([textColumn('systemid'), textColumn('timeline'), textColumn('xlogpos')]));
      await pq.send(dataRow(['1', '1', formatLsn(this.commitLsn)]));
      return pq.send(commandComplete('IDENTIFY_SYSTEM'));
    }
    if (command.kind !== 'start-replication') throw new Fault('command-unknown', text);
    this.starts.push(command.startLsn);
    await pq.startCopyBoth(100_000);
    void this.listenTo(pq).catch(() => pq.destroy());
    await this.stream(pq, command.startLsn);
  }

  private async stream(pq: PqConnection, start: number): Promise<void> {
    for (let at = start; ; ) {
      const end = Math.min(this.commitLsn, this.stuckAt, at + 1 + hostRandom.below(100_000));
      if (end > at) {
        const bytes = this.log.at(at, end);
        if (this.rottenAt >= at && this.rottenAt < end) bytes[this.rottenAt - at]! ^= 0xff;
        await pq.sendCopyData(xlogDataHeader(at, this.commitLsn, Date.now()), bytes);
        at = end;
      } else {
        if (this.endWhenIdle) throw new EndStreaming(`ending streaming to x at ${formatLsn(at)}`);
        await pq.sendCopyData(keepalive(this.commitLsn, Date.now(), true));
        await hostClock.sleep(30);
      }
    }
  }

  private async listenTo(pq: PqConnection): Promise<never> {
    for (;;) {
      const message = readWalReceiverMessage(await pq.readCopyData());
      if (message?.kind === 'pageserver') this.feedback.push(message.feedback);
    }
  }
}

class Sink implements WalSink {
  readonly dialect = dialect;
  lastRecordLsn: number;
  awaited = false;
  readonly ends: number[] = [];
  failed: Error | undefined;
  failAt = -1;
  private pending = 0;

  constructor(start: number) {
    this.lastRecordLsn = start;
  }
  record(record: WalRecord): void | Promise<void> {
    if (this.ends.length === this.failAt) throw new Error('cannot be applied');
    this.ends.push(record.endLsn);
    this.pending = record.endLsn;
    if (this.ends.length % 100 === 0) return Promise.resolve();
  }
  commit(): void {
    this.lastRecordLsn = this.pending;
  }
  async ready(): Promise<void> {}
  feedback(): ReturnType<WalSink['feedback']> {
    const at = asLsn(this.lastRecordLsn);
    return {
      currentTimelineSize: 5n,
      diskConsistentLsn: at,
      remoteConsistentLsn: at,
      shardNumber: 0,
      corruptionDetected: false,
    };
  }
  fail(error: Error): void {
    this.failed = error;
  }
}

let log: SharedLog;
let sink: Sink;
let sks: FakeSafekeeper[];
let broker: Listener;
let channel: GrpcChannel;
let receiver: WalReceiver | undefined;
let publishing: NodeJS.Timeout | undefined;

async function publish(message: TypedMessage): Promise<void> {
  await unary(channel.call(`${BROKER_SERVICE}/PublishOne`), writeTypedMessage(message));
}

function start(settings: Partial<typeof RECEIVER_DEFAULTS> = {}): void {
  receiver = new WalReceiver(ID, sink, {
    clock: hostClock,
    net,
    random: hostRandom,
    log: quiet,
    broker: channel,
    metrics: new ServiceMetrics(new Metrics()),
    nodeId: 1,
    token: undefined,
    tls: false,
    settings: { ...RECEIVER_DEFAULTS, ...settings },
  });
  receiver.start();
}
const publishAll = (): void => {
  publishing = setInterval(() => {
    for (const sk of sks) void publish(sk.info()).catch(() => {});
  }, 50);
};
const caughtUp = (): Promise<void> =>
  expect.poll(() => sink.lastRecordLsn, { timeout: 10_000 }).toBe(log.ends.at(-1)) as Promise<void>;
function commitAll(): void {
  for (const sk of sks) sk.commitLsn = asLsn(log.ends.at(-1)!);
}

beforeEach(async () => {
  log = new SharedLog();
  sink = new Sink(log.start);
  const end = log.write(2000);
  sks = [1, 2, 3].map(id => new FakeSafekeeper(id, log, end));
  for (const sk of sks) await sk.listen();
  const service = new Broker();
  broker = await listenGrpc(service.methods(), service.api('1'), {
    host: '127.0.0.1',
    port: 0,
    keepaliveMs: 1000,
  });
  channel = grpcChannel(`http://127.0.0.1:${broker.port}`);
});
afterEach(async () => {
  clearInterval(publishing);
  await receiver?.stop(new Fault('shutting-down', 'the test is over'));
  for (const sk of sks) await sk.die();
  channel.close();
  await broker.close();
});

test('where WAL goes on', () => {
  expect([0x2000001, 0x2000000, 0x2002000, 0x2002028].map(lsn => streamStart(lsn))).toEqual([
    0x2000008, 0x2000028, 0x2002018, 0x2002028,
  ]);
});

describe('receiver', () => {
  test('every record, once and in order, and the safekeeper is told', async () => {
    start();
    publishAll();
    await caughtUp();
    log.write(3000);
    commitAll();
    await caughtUp();
    expect(sink.ends).toEqual(log.ends);
    const { feedback } = sks.find(sk => sk.feedback.length > 0)!;
    const last = log.ends.at(-1);
    await expect
      .poll(() => feedback.at(-1))
      .toMatchObject({ lastReceivedLsn: last, diskConsistentLsn: last, currentTimelineSize: 5n });
    expect(receiver!.status()).toMatchObject({
      lastReceivedLsn: last,
      text: expect.stringContaining('streaming WAL from node'),
    });
  });

  test('safekeepers die one after the other', async () => {
    start();
    publishAll();
    await caughtUp();
    for (let i = 0; i < 2; i++) {
      const current = sks.find(
        sk =>
          receiver!.status().source ===
          `127.0.0.1:${sk.info().discoveryResponse!.safekeeperConnstr.split(':')[1]}`,
      )!;
      await current.die();
      sks = sks.filter(sk => sk !== current);
      log.write(1000);
      commitAll();
      await caughtUp();
    }
    expect(sink.ends).toEqual(log.ends);
  });

  test('a safekeeper whose disk rots is left for another', async () => {
    for (const sk of sks.slice(0, 2)) sk.rottenAt = log.ends[1500]! - 5;
    start();
    publishAll();
    await caughtUp();
    expect(sink.ends).toEqual(log.ends);
    expect(sink.failed).toBeUndefined();
  });

  test('one that is stuck is left for one that has more', async () => {
    const [stuck, ...others] = sks as [FakeSafekeeper, FakeSafekeeper, FakeSafekeeper];
    stuck.stuckAt = log.ends[700]!;
    stuck.commitLsn = asLsn(stuck.stuckAt);
    sks = [stuck];
    start({ laggingWalTimeoutMs: 500 });
    publishAll();
    await expect.poll(() => sink.lastRecordLsn).toBe(stuck.stuckAt);
    sks.push(...others);
    await caughtUp();
    expect(sink.ends).toEqual(log.ends);
  });

  test('the stream ends well, and begins again when there is more', async () => {
    sks = [sks[0]!];
    sks[0]!.endWhenIdle = true;
    start();
    publishAll();
    await caughtUp();
    await expect.poll(() => receiver!.status().text).toContain('disconnected');
    log.write(500);
    commitAll();
    await caughtUp();
    expect(sink.ends).toEqual(log.ends);
    expect(sks[0]!.starts.length).toBeGreaterThan(1);
  });

  test('who waits makes safekeepers come forward', async () => {
    const asked: string[] = [];
    const subscription = channel.call(`${BROKER_SERVICE}/SubscribeByFilter`);
    await subscription.send(
      writeSubscribeByFilter({ types: [MESSAGE_TYPE.discoveryRequest], enabled: false, id: undefined }),
    );
    subscription.end();
    void (async () => {
      for await (const bytes of subscription.messages) {
        asked.push(readTypedMessage(bytes).discoveryRequest!.id!.timelineId);
        await publish(sks[0]!.info());
      }
    })().catch(() => {});
    start();
    await hostClock.sleep(1500);
    expect(asked).toEqual([]);
    sink.awaited = true;
    await caughtUp();
    expect(asked).toEqual([ID.timelineId]);
    subscription.cancel();
  });

  test('a record that cannot be applied stops the timeline; the ones before it are in', async () => {
    sink.failAt = 1234;
    start();
    publishAll();
    await expect.poll(() => sink.failed?.message).toBe('cannot be applied');
    expect(sink.lastRecordLsn).toBe(log.ends[1233]);
  });

  test('the broker goes away and comes back', async () => {
    start();
    publishAll();
    await caughtUp();
    const { port } = broker;
    await broker.close();
    log.write(500);
    commitAll();
    await caughtUp();
    const service = new Broker();
    broker = await listenGrpc(service.methods(), service.api('1'), {
      host: '127.0.0.1',
      port,
      keepaliveMs: 1000,
    });
    const gone = sks.find(sk =>
      receiver!.status().source!.endsWith(`:${sk.info().discoveryResponse!.safekeeperConnstr.split(':')[1]}`),
    )!;
    sks = sks.filter(sk => sk !== gone);
    await gone.die();
    log.write(500);
    commitAll();
    await caughtUp();
    expect(sink.ends).toEqual(log.ends);
  });
});
