// Garbage, giants, dribblers and crowds on every port: the connection gets an error or is cut, memory stays bounded,
// and the timeline beside it does not notice.

import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Lsn, lsn } from '../../src/base/lsn.ts';
import { NO_MEMBERSHIP } from '../../src/protocol/membership.ts';
import { copyData, frame, PROTOCOL_3_0, startupPacket, TAG } from '../../src/protocol/pq-frame.ts';
import type { ProposerMessage } from '../../src/protocol/walproposer.ts';
import * as v2 from '../../src/protocol/walproposer-v2.ts';
import * as v3 from '../../src/protocol/walproposer-v3.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { ModelWal } from '../sim/model-wal.ts';
import { SimRandom } from '../sim/random.ts';
import { type Cluster, startCluster, until } from './processes.ts';
import { ComputeLog, Pusher } from './pusher.ts';

const key = { tenantId: '1'.padStart(32, '0'), timelineId: '2'.padStart(32, '0') } as TimelineKey;
const CROWD = Number(process.env['LAKEBED_CROWD'] ?? 2000);

let cluster: Cluster;
let push: Pusher;
let log: ComputeLog;
beforeAll(async () => {
  cluster = await startCluster(1);
  log = new ComputeLog(lsn(0x14ebd08));
  push = new Pusher({ targets: [{ host: '127.0.0.1', port: cluster.sks[0]!.port }], key, log });
  await push.elect();
});
afterAll(async () => {
  push.close();
  await cluster.remove();
});

/** The timeline goes on, on the same connection as before: nobody had to be elected again. */
async function goesOn(): Promise<void> {
  const { term } = push;
  await push.committed(push.write(ModelWal.payload('h', 1, 1000)));
  expect(push.term).toBe(term);
  expect(cluster.sks[0]!.running && cluster.broker.running).toBe(true);
}

const rss = (): Promise<number> => cluster.sks[0]!.metric('process_resident_memory_bytes');

/** Sends bytes, and waits until the other end hangs up. */
function thrown(port: number, bytes: Uint8Array, timeoutMs = 20_000): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    const said: Buffer[] = [];
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error('the server held on to it'));
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

const brokerPort = (): number => Number(new URL(cluster.broker.options.statusUrl).port);
const helloTo = (k: TimelineKey): Uint8Array =>
  startupPacket(PROTOCOL_3_0, [
    'user',
    'x',
    'options',
    `tenant_id=${k.tenantId} timeline_id=${k.timelineId}`,
  ]);
const hello = helloTo(key);
/** A timeline that may come to harm: a vote whose term was damaged is still a vote. */
const victim = { ...key, timelineId: '3'.padStart(32, '0') } as TimelineKey;
const query = (text: string): Uint8Array => frame(TAG.query, Buffer.from(`${text}\0`));

describe('garbage', () => {
  test('random bytes on every port', async () => {
    const random = new SimRandom(1);
    const [sk] = cluster.sks;
    for (let i = 0; i < 150; i++) {
      const bytes = random.bytes(1 + random.below(3000));
      for (const port of [sk!.port, sk!.httpPort, brokerPort()]) await thrown(port, bytes);
    }
    await goesOn();
  });

  test('a good beginning and a random end', async () => {
    const random = new SimRandom(2);
    const [sk] = cluster.sks;
    const push3 = query("START_WAL_PUSH (proto_version '3')");
    for (let i = 0; i < 150; i++) {
      const junk = random.bytes(1 + random.below(500));
      const bytes = Buffer.concat([hello, ...(i % 2 ? [push3] : []), junk]);
      await thrown(sk!.port, bytes);
      await thrown(
        sk!.httpPort,
        Buffer.concat([Buffer.from('GET /v1/status HTTP/1.1\r\nHost: x\r\n'), junk]),
      );
      await thrown(brokerPort(), Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), junk]));
    }
    await goesOn();
  });

  test('messages of a walproposer, damaged', async () => {
    const random = new SimRandom(3);
    const messages = (generation: number, version: 2 | 3): ProposerMessage[] => [
      {
        kind: 'greeting',
        ...victim,
        membership: NO_MEMBERSHIP,
        pgVersion: 170005,
        systemId: log.systemId,
        walSegSize: 16777216,
      },
      { kind: 'vote-request', generation, term: version === 3 ? 0 : 1 },
      {
        kind: 'elected',
        generation,
        term: 1,
        startStreamingAt: log.start,
        termHistory: [{ term: 1, lsn: log.start }],
      },
      {
        kind: 'append-request',
        generation,
        term: 1,
        beginLsn: log.start,
        endLsn: (log.start + 64) as Lsn,
        commitLsn: log.start,
        truncateLsn: lsn(0),
        wal: new Uint8Array(64),
      },
    ];
    for (let i = 0; i < 300; i++) {
      const version = i % 2 ? 2 : 3;
      const codec = version === 3 ? v3 : v2;
      const pieces: Uint8Array[] = [helloTo(victim), query(`START_WAL_PUSH (proto_version '${version}')`)];
      // The first is left whole half of the time, so that the others are looked at.
      for (const [n, message] of messages(0, version).entries()) {
        const bytes = codec.writeProposerMessage(message);
        if (n > 0 || random.below(2) === 0) damage(bytes, random);
        pieces.push(copyData(random.below(8) === 0 ? bytes.subarray(0, random.below(bytes.length)) : bytes));
      }
      const said = await thrown(cluster.sks[0]!.port, Buffer.concat(pieces));
      expect(said.length).toBeGreaterThan(0);
    }
    await goesOn();
  });

  test('bytes that are no WAL are refused before they are kept', async () => {
    const before = await cluster.sks[0]!.status(key);
    const greet = messageOf({
      kind: 'greeting',
      ...key,
      membership: NO_MEMBERSHIP,
      pgVersion: 170005,
      systemId: log.systemId,
      walSegSize: 16777216,
    });
    const append = messageOf({
      kind: 'append-request',
      generation: 0,
      term: push.term,
      beginLsn: log.end,
      endLsn: (log.end + 8192) as Lsn,
      commitLsn: lsn(0),
      truncateLsn: lsn(0),
      wal: new SimRandom(4).bytes(8192),
    });
    const bytes = Buffer.concat([hello, query("START_WAL_PUSH (proto_version '3')"), greet, append]);
    const said = await thrown(cluster.sks[0]!.port, bytes);
    expect(said.toString('latin1')).toMatch(/XX000|22023|XX001/);
    expect((await cluster.sks[0]!.status(key)).flush_lsn).toBe(before.flush_lsn);
    await goesOn();
  });
});

const messageOf = (m: ProposerMessage): Uint8Array => copyData(v3.writeProposerMessage(m));

function damage(bytes: Uint8Array, random: SimRandom): void {
  for (let n = 1 + random.below(4); n > 0; n--) bytes[random.below(bytes.length)] = random.below(256);
}

describe('giants', () => {
  test('a message that claims two gigabytes costs nothing', async () => {
    const before = await rss();
    const [sk] = cluster.sks;
    const giant = new Uint8Array([TAG.copyData, 0x7f, 0xff, 0xff, 0xff]);
    for (let i = 0; i < 50; i++) {
      const said = await thrown(
        sk!.port,
        Buffer.concat([hello, query("START_WAL_PUSH (proto_version '3')"), giant]),
      );
      expect(said.toString('latin1')).toContain('not acceptable here');
    }
    expect((await rss()) - before).toBeLessThan(64 * 1024 * 1024);
    await goesOn();
  });

  test('heads and bodies of HTTP have limits', async () => {
    const [sk] = cluster.sks;
    const head = `GET /v1/status HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(100_000)}\r\n\r\n`;
    expect((await thrown(sk!.httpPort, Buffer.from(head))).toString()).toMatch(/^HTTP\/1\.1 4\d\d/);
    const body = await fetch(`${sk!.host}/v1/pull_timeline`, {
      method: 'POST',
      body: `"${'a'.repeat(20_000_000)}"`,
    });
    expect(body.status).toBe(413);
    await goesOn();
  });
});

describe('crowds', () => {
  test(`${CROWD} idle connections`, async () => {
    const before = await rss();
    const [sk] = cluster.sks;
    const sockets: Socket[] = [];
    for (let i = 0; i < CROWD; i++) {
      const socket = connect([sk!.port, sk!.httpPort, brokerPort()][i % 3]!, '127.0.0.1');
      socket.on('error', () => {});
      if (i % 3 === 0 && i % 2 === 0) socket.write(hello);
      sockets.push(socket);
      if (i % 100 === 0) await new Promise(done => setTimeout(done, 5));
    }
    await until(async () => (await sk!.metric('process_open_fds')) > CROWD / 2);
    await goesOn();
    expect((await rss()) - before).toBeLessThan(200 * 1024 * 1024);
    for (const socket of sockets) socket.destroy();
    await until(async () => (await sk!.metric('process_open_fds')) < 200);
    await goesOn();
  });

  test('dribblers: a request head that never ends is cut', async () => {
    const [sk] = cluster.sks;
    const socket = connect(sk!.httpPort, '127.0.0.1');
    socket.on('error', () => {});
    const closed = new Promise<number>(done => {
      const began = performance.now();
      socket.on('close', () => done(performance.now() - began));
    });
    socket.resume();
    socket.write('GET /v1/status HTTP/1.1\r\n');
    const timer = setInterval(() => socket.writable && socket.write('X: y\r\n'), 500);
    expect(await closed).toBeLessThan(40_000);
    clearInterval(timer);
    await goesOn();
  }, 60_000);
});
