// The broker and both ends of our gRPC, judged by grpc-js with code generated from the interface's own language.

import { mkdtempSync, rmSync } from 'node:fs';
import http2 from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GRPC_STATUS, type GrpcError, unary } from '../../src/base/grpc.ts';
import type { TenantId, TimelineId } from '../../src/base/ids.ts';
import { lsn } from '../../src/base/lsn.ts';
import type { Listener } from '../../src/base/ports.ts';
import { Broker } from '../../src/control/broker.ts';
import { grpcChannel, listenGrpc } from '../../src/host/grpc.ts';
import { hostLog } from '../../src/host/log.ts';
import { ReloadingCertificate } from '../../src/host/tls.ts';
import * as wire from '../../src/protocol/broker.ts';
import { selfSigned } from '../certificate.ts';

const definition = loadSync(join(import.meta.dirname, 'broker.proto'), {
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
// biome-ignore lint/suspicious/noExplicitAny: the generated package has no types
const { BrokerService } = (grpc.loadPackageDefinition(definition) as any).storage_broker;

const T = '00112233445566778899aabbccddeeff' as TenantId;
const L = 'ffeeddccbbaa99887766554433221100' as TimelineId;
const L2 = '0123456789abcdef0123456789abcdef' as TimelineId;
const rawId = (timeline: string = L): { tenant_id: Buffer; timeline_id: Buffer } => ({
  tenant_id: Buffer.from(T, 'hex'),
  timeline_id: Buffer.from(timeline, 'hex'),
});

const INFO: wire.SafekeeperTimelineInfo = {
  safekeeperId: 7,
  id: { tenantId: T, timelineId: L },
  lastLogTerm: 3,
  flushLsn: lsn(2 ** 40 + 8),
  commitLsn: lsn(2 ** 40),
  backupLsn: lsn(0),
  remoteConsistentLsn: lsn(1),
  peerHorizonLsn: lsn(2),
  localStartLsn: lsn(3),
  safekeeperConnstr: 'host:5454',
  availabilityZone: '',
  term: 4,
  httpConnstr: 'host:7676',
  standbyHorizon: lsn(0),
  httpsConnstr: undefined,
};
const RAW_INFO = {
  safekeeper_id: 7,
  tenant_timeline_id: rawId(),
  last_log_term: 3,
  flush_lsn: 2 ** 40 + 8,
  commit_lsn: 2 ** 40,
  backup_lsn: 0,
  remote_consistent_lsn: 1,
  peer_horizon_lsn: 2,
  local_start_lsn: 3,
  safekeeper_connstr: 'host:5454',
  availability_zone: '',
  term: 4,
  http_connstr: 'host:7676',
  standby_horizon: 0,
};

let broker: Broker;
let listener: Listener;
let endpoint: string;
const cleanups: (() => void)[] = [];
beforeAll(async () => {
  broker = new Broker();
  listener = await listenGrpc(broker.methods(), broker.api('1'), {
    host: '127.0.0.1',
    port: 0,
    keepaliveMs: 500,
  });
  endpoint = `127.0.0.1:${listener.port}`;
});
afterAll(async () => {
  for (const clean of cleanups) clean();
  await listener.close();
});

// biome-ignore lint/suspicious/noExplicitAny: the generated client has no types
function theirs(): any {
  const client = new BrokerService(endpoint, grpc.credentials.createInsecure());
  cleanups.push(() => client.close());
  return client;
}
function ours(): ReturnType<typeof grpcChannel> {
  const channel = grpcChannel(`http://${endpoint}`);
  cleanups.push(() => channel.close());
  return channel;
}

/** Collects what a stream of theirs gives. */
function collected(stream: grpc.ClientReadableStream<unknown>): {
  stream: grpc.ClientReadableStream<unknown>;
  got: unknown[];
  error: () => grpc.ServiceError | undefined;
} {
  const got: unknown[] = [];
  let error: grpc.ServiceError | undefined;
  stream.on('data', m => got.push(m));
  stream.on('error', e => (error = e as grpc.ServiceError));
  return { stream, got, error: () => error };
}
const until = async (what: () => boolean): Promise<void> => {
  const end = performance.now() + 10_000;
  while (!what()) {
    if (performance.now() > end) throw new Error('waited in vain');
    await new Promise(done => setTimeout(done, 5));
  }
};
const metric = (name: string): number =>
  Number(new RegExp(`^storage_broker_${name} (\\d+)$`, 'm').exec(broker.metrics.exposition())?.[1]);

describe('with grpc-js as the client', () => {
  test('subscribers of all, of one timeline, and by filter each get theirs', async () => {
    const client = theirs();
    const all = collected(client.SubscribeSafekeeperInfo({ all: {} }));
    const one = collected(client.SubscribeSafekeeperInfo({ tenant_timeline_id: rawId() }));
    const other = collected(client.SubscribeSafekeeperInfo({ tenant_timeline_id: rawId(L2) }));
    const filtered = collected(
      client.SubscribeByFilter({
        types: [{ type: 'SAFEKEEPER_TIMELINE_INFO' }, { type: 'SAFEKEEPER_DISCOVERY_RESPONSE' }],
        tenant_timeline_id: { enabled: true, tenant_timeline_id: rawId() },
      }),
    );
    const requests = collected(
      client.SubscribeByFilter({ types: [{ type: 'SAFEKEEPER_DISCOVERY_REQUEST' }] }),
    );
    const nothing = collected(client.SubscribeByFilter({ types: [] }));
    await until(
      () => metric('all_keys_active_subscribers') === 3 && metric('per_timeline_active_subscribers') === 3,
    );

    const stream = client.PublishSafekeeperInfo(() => {});
    stream.write(RAW_INFO);
    const one_off = (m: unknown): Promise<void> =>
      new Promise((done, fail) => client.PublishOne(m, (e: Error | null) => (e ? fail(e) : done())));
    await one_off({
      type: 'SAFEKEEPER_DISCOVERY_REQUEST',
      safekeeper_discovery_request: { tenant_timeline_id: rawId() },
    });
    await one_off({
      type: 'SAFEKEEPER_DISCOVERY_RESPONSE',
      safekeeper_discovery_response: {
        safekeeper_id: 9,
        tenant_timeline_id: rawId(),
        commit_lsn: 5,
        standby_horizon: 6,
      },
    });
    await until(() => filtered.got.length === 2 && requests.got.length === 1 && all.got.length === 1);
    expect(all.got[0]).toMatchObject(RAW_INFO);
    expect(one.got[0]).toMatchObject(RAW_INFO);
    expect(other.got).toEqual([]);
    expect(nothing.got).toEqual([]);
    expect(filtered.got).toMatchObject(
      expect.arrayContaining([
        expect.objectContaining({
          type: 'SAFEKEEPER_TIMELINE_INFO',
          safekeeper_timeline_info: expect.objectContaining({ safekeeper_id: 7 }),
        }),
        expect.objectContaining({
          type: 'SAFEKEEPER_DISCOVERY_RESPONSE',
          safekeeper_discovery_response: expect.objectContaining({
            safekeeper_id: 9,
            commit_lsn: 5,
            standby_horizon: 6,
          }),
        }),
      ]),
    );
    expect(requests.got).toMatchObject([{ safekeeper_discovery_request: { tenant_timeline_id: rawId() } }]);
    for (const s of [all, one, other, filtered, requests, nothing]) s.stream.cancel();
    stream.cancel();
    await until(() => metric('all_keys_active_subscribers') === 0 && metric('active_publishers') === 0);
  });

  test('a publisher ends its stream and gets Empty', async () => {
    const client = theirs();
    const answer = await new Promise((done, fail) => {
      const stream = client.PublishSafekeeperInfo((e: Error | null, m: unknown) => (e ? fail(e) : done(m)));
      stream.write(RAW_INFO);
      stream.end();
    });
    expect(answer).toEqual({});
  });

  test.each([
    ['SubscribeSafekeeperInfo', {}, /missing subscription key/],
    ['SubscribeByFilter', { types: [], tenant_timeline_id: { enabled: true } }, /names no timeline/],
    [
      'SubscribeSafekeeperInfo',
      { tenant_timeline_id: { tenant_id: Buffer.alloc(15), timeline_id: Buffer.alloc(16) } },
      /15 bytes/,
    ],
  ])('%s %j is refused', async (name, request, message) => {
    const stream = collected(theirs()[name](request));
    await until(() => stream.error() !== undefined);
    expect(stream.error()).toMatchObject({
      code: grpc.status.INVALID_ARGUMENT,
      details: expect.stringMatching(message),
    });
  });

  test.each([
    [{ type: 'UNKNOWN' }],
    [{ type: 'SAFEKEEPER_TIMELINE_INFO' }],
    [{ type: 'SAFEKEEPER_DISCOVERY_REQUEST', safekeeper_timeline_info: RAW_INFO }],
    [
      {
        type: 'SAFEKEEPER_DISCOVERY_REQUEST',
        safekeeper_discovery_request: { tenant_timeline_id: { tenant_id: Buffer.alloc(3) } },
      },
    ],
  ])('PublishOne %j is refused', async message => {
    const error = await new Promise<grpc.ServiceError>(done => theirs().PublishOne(message, done));
    expect(error.code).toBe(grpc.status.INVALID_ARGUMENT);
  });

  test('an id of a wrong length ends a publishing stream', async () => {
    const error = await new Promise<grpc.ServiceError>(done => {
      const stream = theirs().PublishSafekeeperInfo(done);
      stream.write({ tenant_timeline_id: { tenant_id: Buffer.alloc(15), timeline_id: Buffer.alloc(16) } });
    });
    expect(error.code).toBe(grpc.status.INVALID_ARGUMENT);
  });

  test('an unknown method is unimplemented', async () => {
    const client = new grpc.Client(endpoint, grpc.credentials.createInsecure());
    const same = (b: Buffer): Buffer => b;
    const error = await new Promise<grpc.ServiceError | null>(done =>
      client.makeUnaryRequest('/storage_broker.BrokerService/Nope', same, same, Buffer.alloc(0), done),
    );
    expect(error?.code).toBe(grpc.status.UNIMPLEMENTED);
    client.close();
  });
});

describe('with our own client', () => {
  test('our codec and theirs agree', async () => {
    const channel = ours();
    const got: wire.TypedMessage[] = [];
    const subscription = channel.call(`${wire.BROKER_SERVICE}/SubscribeByFilter`);
    await subscription.send(
      wire.writeSubscribeByFilter({ types: [wire.MESSAGE_TYPE.info], enabled: true, id: INFO.id }),
    );
    subscription.end();
    const reading = (async () => {
      for await (const m of subscription.messages) {
        got.push(wire.readTypedMessage(m));
        if (got.length === 2) break;
      }
    })();
    await until(() => metric('per_timeline_active_subscribers') === 1);
    const stream = theirs().PublishSafekeeperInfo(() => {});
    stream.write(RAW_INFO);
    await unary(
      channel.call(`${wire.BROKER_SERVICE}/PublishOne`),
      wire.writeTypedMessage({ type: 2, info: INFO }),
    );
    await reading;
    expect(got).toEqual([
      { type: 2, info: INFO },
      { type: 2, info: INFO },
    ]);
    subscription.cancel();
    await until(() => metric('per_timeline_active_subscribers') === 0);
  });

  test('refusals come with their status', async () => {
    const call = ours().call(`${wire.BROKER_SERVICE}/PublishOne`);
    const error = (await unary(call, new Uint8Array([8, 0])).catch(e => e)) as GrpcError;
    expect(error).toMatchObject({ name: 'GrpcError', status: GRPC_STATUS.invalidArgument });
  });

  test('nobody there is unavailable, and a server that comes back is found again', async () => {
    const second = await listenGrpc(broker.methods(), broker.api('1'), {
      host: '127.0.0.1',
      port: 0,
      keepaliveMs: 500,
    });
    const channel = grpcChannel(`http://127.0.0.1:${second.port}`);
    const publish = (): Promise<Uint8Array> =>
      unary(
        channel.call(`${wire.BROKER_SERVICE}/PublishOne`),
        wire.writeTypedMessage({ type: 2, info: INFO }),
      );
    await publish();
    await second.close();
    await expect(publish()).rejects.toMatchObject({ status: GRPC_STATUS.unavailable });
    const third = await listenGrpc(broker.methods(), broker.api('1'), {
      host: '127.0.0.1',
      port: second.port,
      keepaliveMs: 500,
    });
    await publish();
    channel.close();
    await third.close();
  });

  test('against a server of grpc-js', async () => {
    const server = new grpc.Server();
    server.addService(BrokerService.service, {
      SubscribeSafekeeperInfo: (call: grpc.ServerWritableStream<unknown, unknown>) => {
        expect(call.request).toMatchObject({ subscription_key: 'all' });
        for (let i = 0; i < 3; i++) call.write({ ...RAW_INFO, term: i + 1 });
        call.end();
      },
      PublishSafekeeperInfo: (
        call: grpc.ServerReadableStream<unknown, unknown>,
        done: (e: null, m: unknown) => void,
      ) => {
        call.on('data', () => {});
        call.on('end', () => done(null, {}));
      },
      PublishOne: (_: unknown, done: grpc.sendUnaryData<unknown>) =>
        done({ code: grpc.status.NOT_FOUND, details: 'none ä' }),
      SubscribeByFilter: () => {},
    });
    const port = await new Promise<number>((done, fail) =>
      server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (e, p) =>
        e ? fail(e) : done(p),
      ),
    );
    const channel = grpcChannel(`http://127.0.0.1:${port}`);
    const call = channel.call(`${wire.BROKER_SERVICE}/SubscribeSafekeeperInfo`);
    await call.send(wire.writeSubscribeInfo(undefined));
    call.end();
    const terms: number[] = [];
    for await (const m of call.messages) terms.push(wire.readInfo(m).term);
    expect(terms).toEqual([1, 2, 3]);
    const publishing = channel.call(`${wire.BROKER_SERVICE}/PublishSafekeeperInfo`);
    for (let i = 0; i < 10; i++) await publishing.send(wire.writeInfo(INFO));
    publishing.end();
    for await (const m of publishing.messages) expect(m.length).toBe(0);
    const refused = unary(channel.call(`${wire.BROKER_SERVICE}/PublishOne`), new Uint8Array(0));
    await expect(refused).rejects.toMatchObject({ status: GRPC_STATUS.notFound, message: 'none ä' });
    channel.close();
    server.forceShutdown();
  });
});

describe('one port', () => {
  test('/status and /metrics over HTTP/1', async () => {
    const status = await fetch(`http://${endpoint}/status`);
    expect([status.status, await status.text()]).toEqual([200, '']);
    expect(await (await fetch(`http://${endpoint}/metrics`)).text()).toContain(
      'storage_broker_processed_messages_total',
    );
    expect((await fetch(`http://${endpoint}/other`)).status).toBe(404);
    const doc = (await (await fetch(`http://${endpoint}/openapi.json`)).json()) as { paths: object };
    expect(Object.keys(doc.paths)).toContain('/metrics');
  });

  test('/status and /metrics over plain HTTP/2', async () => {
    const session = http2.connect(`http://${endpoint}`);
    const get = (path: string): Promise<number> =>
      new Promise((done, fail) => {
        const stream = session.request({ ':path': path });
        stream.on('response', headers => done(Number(headers[':status'])));
        stream.on('error', fail);
        stream.resume();
      });
    expect(await Promise.all([get('/status'), get('/metrics'), get('/other')])).toEqual([200, 200, 404]);
    session.destroy();
  });

  test('both over TLS, by ALPN', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'lakebed-broker-tls-'));
    const [keyFile, certFile] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
    selfSigned({ key: keyFile, cert: certFile });
    const tls = new ReloadingCertificate(
      { keyFile, certFile },
      60_000,
      hostLog({ format: 'plain', write: () => {} }),
    );
    const secure = await listenGrpc(broker.methods(), broker.api('1'), {
      host: '127.0.0.1',
      port: 0,
      keepaliveMs: 500,
      tls,
    });
    const channel = grpcChannel(`https://localhost:${secure.port}`, { ca: tls.pem.cert });
    await unary(
      channel.call(`${wire.BROKER_SERVICE}/PublishOne`),
      wire.writeTypedMessage({ type: 2, info: INFO }),
    );
    channel.close();
    const session = http2.connect(`https://localhost:${secure.port}`, { ca: tls.pem.cert });
    const status = await new Promise(done =>
      session.request({ ':path': '/status' }).on('response', h => done(h[':status'])),
    );
    expect(status).toBe(200);
    session.destroy();
    const { request } = await import('node:https');
    const plain = await new Promise(done =>
      request(`https://localhost:${secure.port}/status`, { ca: tls.pem.cert }, res =>
        done(res.statusCode),
      ).end(),
    );
    expect(plain).toBe(200);
    tls.close();
    await secure.close();
    rmSync(dir, { recursive: true });
  });
});

describe('overload', () => {
  test('a stuck subscriber loses its oldest messages; others lose nothing', async () => {
    const client = theirs();
    const before = metric('broadcast_dropped_messages_total');
    const stuck = client.SubscribeSafekeeperInfo({ all: {} }) as grpc.ClientReadableStream<unknown>;
    stuck.pause();
    let got = 0;
    const COUNT = 60_000;
    const channel = ours();
    const call = channel.call(`${wire.BROKER_SERVICE}/SubscribeSafekeeperInfo`);
    await call.send(wire.writeSubscribeInfo(undefined));
    call.end();
    const counting = (async () => {
      for await (const _ of call.messages) if (++got === COUNT) break;
    })();
    await until(() => metric('all_keys_active_subscribers') === 2);
    const publishing = channel.call(`${wire.BROKER_SERVICE}/PublishSafekeeperInfo`);
    const message = wire.writeInfo({ ...INFO, safekeeperConnstr: 'x'.repeat(400) });
    for (let i = 0; i < COUNT; i++) {
      await publishing.send(message);
      if (i % 500 === 0) await until(() => got > i - 5000);
    }
    await counting;
    expect(got).toBe(COUNT);
    expect(metric('broadcast_dropped_messages_total')).toBeGreaterThan(before);
    publishing.end();
    stuck.on('error', () => {});
    stuck.cancel();
    channel.close();
  });
});

test('a connection that is given up in the moment it comes about harms nobody', async () => {
  // As short as can be: some are given up before they are there, some after, and some in between.
  const call = (channel: ReturnType<typeof grpcChannel>): Promise<unknown> =>
    unary(
      channel.call(`${wire.BROKER_SERVICE}/PublishOne`),
      wire.writeTypedMessage({ type: 2, info: INFO }),
    ).catch(() => undefined);
  for (let i = 0; i < 40; i++) {
    const channel = grpcChannel(`http://${endpoint}`, { connectTimeoutMs: i % 8 });
    await call(channel);
    channel.close();
  }
  const channel = ours();
  await unary(
    channel.call(`${wire.BROKER_SERVICE}/PublishOne`),
    wire.writeTypedMessage({ type: 2, info: INFO }),
  );
});
