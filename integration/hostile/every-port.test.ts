// Garbage, giants, dribblers and a crowd of 5,000 at every port of every daemon, plain and TLS: each connection gets an
// error or is cut, memory stays bounded, and a client that pushes WAL and reads pages meanwhile does not notice.
//
// LAKEBED_CROWD sets how many idle connections there are; LAKEBED_LONG=1 also waits for the minute after which a
// Postgres port gives up a client that does not log in.

import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import { frame, PROTOCOL_3_0, startupPacket, TAG } from '../../src/protocol/pq-frame.ts';
import { selfSigned } from '../certificate.ts';
import { ModelLog, type PatientReader } from '../pageserver/model-log.ts';
import { type DaemonSet, startDaemons } from '../pg/one-of-each.ts';
import { freePort } from '../safekeeper/neon-postgres.ts';
import { Pusher } from '../safekeeper/pusher.ts';
import { SimRandom } from '../sim/random.ts';
import { makeTimeline, readerOf, TENANT, TIMELINE } from '../upgrade/small-storage.ts';

const CROWD = Number(process.env['LAKEBED_CROWD'] ?? 5000);
const LONG = process.env['LAKEBED_LONG'] === '1';
const MIB = 1024 * 1024;

type Speaks = 'postgres' | 'http' | 'grpc' | 'https' | 'grpc-tls';
interface Port {
  readonly name: string;
  readonly speaks: Speaks;
  readonly port: number;
}

let dir: string;
let daemons: DaemonSet;
let ports: Port[] = [];
let pusher: Pusher;
let log: ModelLog;
let reader: PatientReader;
const random = new SimRandom(17);

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-hostile-'));
  const [cert, key] = [join(dir, 'server.crt'), join(dir, 'server.key')];
  selfSigned({ key, cert });
  const [brokerTls, skTls, psTls] = [await freePort(), await freePort(), await freePort()];
  const ssl = ['--ssl-cert-file', cert, '--ssl-key-file', key];
  daemons = await startDaemons(dir, {
    broker: ['--listen-https-addr', `127.0.0.1:${brokerTls}`, ...ssl],
    safekeeper: ['--listen-https', `127.0.0.1:${skTls}`, ...ssl],
    pageserver: `listen_https_addr = '127.0.0.1:${psTls}'\nssl_cert_file = '${cert}'\nssl_key_file = '${key}'`,
  });
  const { broker, safekeeper, safekeeperHttp, pageserver, pageserverHttp } = daemons.ports;
  ports = [
    { name: 'broker', speaks: 'grpc', port: broker },
    { name: 'broker, TLS', speaks: 'grpc-tls', port: brokerTls },
    { name: 'safekeeper, Postgres', speaks: 'postgres', port: safekeeper },
    { name: 'safekeeper, HTTP', speaks: 'http', port: safekeeperHttp },
    { name: 'safekeeper, HTTPS', speaks: 'https', port: skTls },
    { name: 'pageserver, Postgres', speaks: 'postgres', port: pageserver },
    { name: 'pageserver, HTTP', speaks: 'http', port: pageserverHttp },
    { name: 'pageserver, HTTPS', speaks: 'https', port: psTls },
  ];
  const { last, prev } = await makeTimeline(daemons);
  log = new ModelLog(last, prev);
  pusher = new Pusher({
    targets: [{ host: '127.0.0.1', port: safekeeper }],
    key: { tenantId: tenantId(TENANT), timelineId: timelineId(TIMELINE) },
    log,
  });
  await pusher.elect();
  reader = readerOf(daemons);
});
afterAll(async () => {
  reader?.close();
  pusher?.close();
  await daemons?.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** WAL is taken, and comes back as the right page, on the connections of before. */
async function goesOn(): Promise<void> {
  const { term } = pusher;
  for (let i = 0; i < 5; i++) pusher.write(log.next(random));
  const { end } = log;
  await pusher.committed(end);
  expect(pusher.term).toBe(term);
  const { rel, blk } = log.begun.at(-1)!;
  expect(Buffer.compare(await reader.page(rel, blk, end), log.model.page(rel, blk, end))).toBe(0);
  expect(reader.retries).toBe(0);
  expect(daemons.all.every(d => d.running)).toBe(true);
  expect((await fetch(`${daemons.brokerHttp}/status`)).status).toBe(200);
}

const HTTPS = ['brokerHttp', 'safekeeperHttp', 'pageserverHttp'] as const;

async function metrics(name: string): Promise<number[]> {
  return Promise.all(
    HTTPS.map(async which => {
      const text = await (await fetch(`${daemons[which]}/metrics`)).text();
      return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)![1]);
    }),
  );
}
const rss = (): Promise<number[]> => metrics('process_resident_memory_bytes');

async function bounded(work: () => Promise<void>, growth: number): Promise<void> {
  const before = await rss();
  await work();
  const after = await rss();
  for (const [i, bytes] of after.entries()) expect(bytes - before[i]!, HTTPS[i]).toBeLessThan(growth);
}

/** Sends bytes and waits until the other end hangs up; what it said. */
function thrown(port: number, bytes: Uint8Array, timeoutMs = 30_000): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    const said: Buffer[] = [];
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`port ${port} held on to it`));
    }, timeoutMs);
    socket.on('data', piece => said.push(piece));
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(Buffer.concat(said));
    });
    socket.end(bytes);
  });
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const hello = startupPacket(PROTOCOL_3_0, [
  'user',
  'x',
  'options',
  `tenant_id=${TENANT} timeline_id=${TIMELINE}`,
]);
const query = (text: string): Uint8Array => frame(TAG.query, Buffer.from(`${text}\0`));

/** How a client of each kind begins. */
const BEGINNINGS: Readonly<Record<Speaks, readonly Uint8Array[]>> = {
  postgres: [
    hello,
    Buffer.concat([hello, query(`pagestream_v3 ${TENANT} ${TIMELINE}`)]),
    Buffer.concat([hello, query('IDENTIFY_SYSTEM')]),
    new Uint8Array([0, 0, 0, 8, 4, 210, 22, 47]),
  ],
  http: [
    Buffer.from('GET /v1/status HTTP/1.1\r\nHost: x\r\n'),
    Buffer.from('POST /v1/tenant HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n'),
  ],
  grpc: [PREFACE, Buffer.concat([PREFACE, new Uint8Array([0, 0, 0, 4, 0, 0, 0, 0, 0])])],
  https: [new Uint8Array([0x16, 3, 1])],
  'grpc-tls': [new Uint8Array([0x16, 3, 1])],
};

/** What claims to be gigabytes, in each language. */
const GIANTS: Readonly<Record<Speaks, readonly Uint8Array[]>> = {
  postgres: [
    new Uint8Array([0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
    Buffer.concat([hello, new Uint8Array([TAG.query, 0x7f, 0xff, 0xff, 0xff])]),
    Buffer.concat([
      hello,
      query(`pagestream_v3 ${TENANT} ${TIMELINE}`),
      new Uint8Array([TAG.copyData, 0x7f, 0xff, 0xff, 0xff]),
    ]),
  ],
  http: [
    Buffer.from(`GET /v1/status HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(200_000)}\r\n\r\n`),
    Buffer.from(`GET /${'a'.repeat(200_000)} HTTP/1.1\r\nHost: x\r\n\r\n`),
    Buffer.from(
      'PUT /v1/tenant/config HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7FFFFFFFFFFFFFFF0\r\n',
    ),
  ],
  grpc: [
    // A frame of 16 MiB, and a message of 2 GiB in a stream of the broker's own method.
    Buffer.concat([PREFACE, new Uint8Array([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])]),
  ],
  https: [new Uint8Array([0x16, 3, 1, 0xff, 0xff])],
  'grpc-tls': [new Uint8Array([0x16, 3, 1, 0xff, 0xff])],
};

describe('garbage', () => {
  test('random bytes', async () => {
    await bounded(async () => {
      for (let i = 0; i < 60; i++) {
        const bytes = random.bytes(1 + random.below(3000));
        await Promise.all(ports.map(({ port }) => thrown(port, bytes)));
      }
    }, 96 * MIB);
    await goesOn();
  });

  test('a good beginning and a random end', async () => {
    await bounded(async () => {
      for (let i = 0; i < 40; i++) {
        const junk = random.bytes(1 + random.below(500));
        await Promise.all(
          ports.map(({ port, speaks }) => {
            const beginnings = BEGINNINGS[speaks];
            return thrown(port, Buffer.concat([beginnings[i % beginnings.length]!, junk]));
          }),
        );
      }
    }, 96 * MIB);
    await goesOn();
  });

  test("one language at another's port", async () => {
    for (const { port } of ports) {
      for (const beginnings of Object.values(BEGINNINGS)) {
        for (const beginning of beginnings) await thrown(port, beginning);
      }
    }
    await goesOn();
  });
});

describe('giants', () => {
  test('what claims gigabytes costs nothing', async () => {
    await bounded(async () => {
      for (let i = 0; i < 15; i++) {
        await Promise.all(
          ports.flatMap(({ port, speaks }) => GIANTS[speaks].map(giant => thrown(port, giant))),
        );
      }
    }, 64 * MIB);
    await goesOn();
  });

  test('heads of HTTP that are too long are told so; bodies too', async () => {
    for (const { port, speaks } of ports) {
      if (speaks !== 'http' && speaks !== 'grpc') continue;
      expect((await thrown(port, GIANTS.http[0]!)).toString()).toMatch(/^HTTP\/1\.1 4\d\d/);
    }
    const body = `"${'a'.repeat(20_000_000)}"`;
    const reply = await fetch(`${daemons.pageserverHttp}/v1/tenant/config`, { method: 'PUT', body });
    expect(reply.status).toBe(413);
    await goesOn();
  });

  test('a message of a gigabyte to the broker is refused by its length', async () => {
    const { grpcChannel } = await import('../../src/host/grpc.ts');
    const { BROKER_SERVICE } = await import('../../src/protocol/broker.ts');
    const http2 = await import('node:http2');
    const channel = grpcChannel(daemons.brokerHttp);
    channel.close();
    const session = http2.connect(daemons.brokerHttp);
    const status = await new Promise(done => {
      const stream = session.request({
        ':method': 'POST',
        ':path': `${BROKER_SERVICE}/PublishOne`,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      stream.on('trailers', trailers => done(Number(trailers['grpc-status'])));
      stream.on('response', head => head['grpc-status'] !== undefined && done(Number(head['grpc-status'])));
      stream.on('error', () => done(-1));
      stream.resume();
      stream.write(Buffer.from([0, 0x40, 0, 0, 0, 1, 2, 3]));
    });
    expect(status).toBeGreaterThan(0);
    session.destroy();
    await goesOn();
  });
});

/** A byte now and then, for ever; resolves with how long it was let. */
function dribble(port: number, bytes: Uint8Array): Promise<number> {
  return new Promise(resolve => {
    const began = performance.now();
    const socket = connect(port, '127.0.0.1');
    let at = 0;
    const timer = setInterval(() => {
      if (!socket.writable) return;
      socket.write(bytes.subarray(at % bytes.length, (at % bytes.length) + 1));
      at++;
    }, 700);
    socket.on('error', () => {});
    socket.resume();
    socket.on('close', () => {
      clearInterval(timer);
      resolve(performance.now() - began);
    });
  });
}

describe('dribblers', () => {
  test('a head that never ends is cut', async () => {
    const head = Buffer.from(`GET /v1/status HTTP/1.1\r\n${'X: y\r\n'.repeat(1000)}`);
    const client = Buffer.concat([
      new Uint8Array([0x16, 3, 1, 1, 0x40, 1, 0, 1, 0x3c, 3, 3]),
      Buffer.alloc(300),
    ]);
    const slow = ports.filter(p => p.speaks !== 'postgres');
    const times = await Promise.all(
      slow.map(({ port, speaks }) =>
        dribble(port, speaks === 'https' || speaks === 'grpc-tls' ? client : head),
      ),
    );
    for (const [i, ms] of times.entries()) expect(ms, slow[i]!.name).toBeLessThan(45_000);
    await goesOn();
  }, 90_000);

  test.skipIf(!LONG)(
    'a client that does not log in is cut after a minute',
    async () => {
      const slow = ports.filter(p => p.speaks === 'postgres');
      const long = startupPacket(PROTOCOL_3_0, ['user', 'x'.repeat(300)]);
      const times = await Promise.all(slow.map(({ port }) => dribble(port, long)));
      for (const [i, ms] of times.entries()) {
        expect(ms, slow[i]!.name).toBeGreaterThan(50_000);
        expect(ms, slow[i]!.name).toBeLessThan(75_000);
      }
      await goesOn();
    },
    120_000,
  );
});

test(`${CROWD} idle connections`, async () => {
  const sockets: Socket[] = [];
  const fds = async (): Promise<number> => (await metrics('process_open_fds')).reduce((sum, n) => sum + n, 0);
  const before = await fds();
  await bounded(async () => {
    for (let i = 0; i < CROWD; i++) {
      const { port, speaks } = ports[i % ports.length]!;
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      // Some say hello and fall silent.
      if (speaks === 'postgres' && i % 3 === 0) socket.write(hello);
      sockets.push(socket);
      if (i % 100 === 0) await new Promise(done => setTimeout(done, 5));
    }
    for (const end = performance.now() + 30_000; (await fds()) - before < CROWD * 0.9; ) {
      if (performance.now() > end) throw new Error('they were not let in');
      await new Promise(done => setTimeout(done, 20));
    }
    await goesOn();
  }, 250 * MIB);
  for (const socket of sockets) socket.destroy();
  for (const end = performance.now() + 30_000; (await fds()) - before > 20; ) {
    if (performance.now() > end) throw new Error('they are still held');
    await new Promise(done => setTimeout(done, 20));
  }
  await goesOn();
});
