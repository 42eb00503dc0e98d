// The Postgres port of a pageserver over real sockets, with a store of its own behind it: order, batches, waiting,
// errors, permission. Whether the pages are right is asked elsewhere.

import { generateKeyPairSync } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { concatBytes, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { type TenantId, type TimelineId, tenantId, timelineId } from '../base/ids.ts';
import { MAX_LSN } from '../base/lsn.ts';
import { Metrics } from '../base/metrics.ts';
import type { Listener, Log } from '../base/ports.ts';
import type { RelTag } from '../base/rel.ts';
import { hostClock } from '../host/clock.ts';
import { hostNet } from '../host/net.ts';
import { hostRandom } from '../host/random.ts';
import { signToken, TokenVerifier } from '../protocol/jwt.ts';
import {
  type PagestreamAnswer,
  type PagestreamRequest,
  type PagestreamVersion,
  readPagestreamAnswer,
  writePagestreamRequest,
} from '../protocol/pagestream.ts';
import { type CopyStream, PqClient, ServerError } from '../protocol/pq-client.ts';
import { FrameReader, frame, PROTOCOL_3_0, startupPacket, TAG } from '../protocol/pq-frame.ts';
import { AnswerRooms } from './answer-rooms.ts';
import { listenPages } from './page-port.ts';
import type { PageServiceDeps } from './page-service.ts';
import type { PageWanted, PgData } from './pgdata.ts';
import type { ServedTimeline } from './served.ts';
import { ServiceMetrics } from './service-metrics.ts';
import { ONE_SHARD, type ShardIdentity, shardOfBlock } from './shard.ts';
import type { Timeline } from './timeline/timeline.ts';
import { Waiters } from './timeline/waiters.ts';

const TENANT = tenantId('11'.repeat(16));
const TIMELINE = timelineId('22'.repeat(16));
const REL: RelTag = { spcOid: 1663, dbOid: 5, relNumber: 16384, forkNum: 0 };
const quiet: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => quiet };

/** What page a request got: who it is, in its first bytes. */
const stamp = (relNumber: number, blkno: number, lsn: number): string => `${relNumber}/${blkno}@${lsn}`;

class Store {
  readonly stop = new AbortController();
  readonly waiters = new Waiters(hostClock);
  readonly batches: number[] = [];
  state = { lastRecordLsn: 1000, gcCutoffLsn: 100 };
  readonly shard: ShardIdentity;

  constructor(shard: ShardIdentity = ONE_SHARD) {
    this.shard = shard;
  }

  advance(lsn: number): void {
    this.state = { ...this.state, lastRecordLsn: lsn };
    this.waiters.wake(lsn);
  }

  get served(): ServedTimeline {
    const store = this;
    const timeline = {
      get state() {
        return store.state;
      },
      get lastRecordLsn() {
        return store.state.lastRecordLsn;
      },
      waitFor: (lsn: number, ms: number, signal?: AbortSignal) =>
        lsn <= store.state.lastRecordLsn
          ? Promise.resolve()
          : store.waiters.wait(lsn, ms, () => new Fault('timeout', 'too late'), signal),
    };
    return {
      shard: this.shard,
      timeline: timeline as unknown as Timeline,
      pgdata: this as unknown as PgData,
      isArchived: false,
      lazySlruDownload: false,
      signal: this.stop.signal,
      leased: lsn => lsn === 50,
      lease: lsn => {
        if (lsn < 100) throw new Fault('lsn-collected', 'gone');
        return 1_700_000_000_000;
      },
      checkKeys: () => undefined,
    };
  }

  async getPages(wanted: readonly PageWanted[]): Promise<void> {
    this.batches.push(wanted.length);
    await hostClock.turn!();
    for (const { rel, blkno, lsn, into, at } of wanted) {
      if (rel.relNumber === 666) throw new Fault('layer-corrupt', 'layer x is damaged');
      if (rel.relNumber === 404) throw new Fault('relation-missing', 'no such relation');
      into.fill(0, at, at + 8192);
      into.set(utf8(stamp(rel.relNumber, blkno, lsn)), at);
    }
  }
  async relExists(rel: RelTag): Promise<boolean> {
    return rel.relNumber !== 404;
  }
  async relSize(rel: RelTag): Promise<number | undefined> {
    return rel.relNumber === 404 ? undefined : 77;
  }
  async dbSize(): Promise<number> {
    return 5_000_000_000;
  }
  async slruSegment(_kind: number, segno: number): Promise<Uint8Array | undefined> {
    return segno === 0 ? new Uint8Array(3 * 8192).fill(9) : undefined;
  }
}

let listener: Listener;
let stores: Store[];
const clients: PqClient[] = [];

async function serve(options: Partial<PageServiceDeps> = {}): Promise<void> {
  const find = async (tenant: TenantId, timeline: TimelineId): Promise<ServedTimeline[]> => {
    if (tenant !== TENANT) throw new Fault('tenant-missing', 'no such tenant');
    if (timeline !== TIMELINE) throw new Fault('timeline-missing', 'no such timeline');
    const live = stores.filter(s => !s.stop.signal.aborted);
    if (live.length === 0) throw new Fault('shutting-down', 'going down');
    return live.map(s => s.served);
  };
  listener = await listenPages(
    { net: hostNet(), host: '127.0.0.1', port: 0, tls: false },
    {
      clock: hostClock,
      log: quiet,
      metrics: new ServiceMetrics(new Metrics()),
      timelines: { find },
      waitLsnTimeoutMs: 5000,
      maxBatchSize: 32,
      rooms: new AnswerRooms(),
      tokens: undefined,
      async *backup(_, o) {
        yield utf8(`backup at ${o.lsn} prev ${o.prevLsn} full ${o.full} replica ${o.replica} `);
        for (let i = 0; i < 5; i++) yield utf8('x'.repeat(50_000));
      },
      ...options,
    },
  );
}

async function connect(password?: string): Promise<PqClient> {
  const client = await PqClient.connect(hostNet(), hostRandom, {
    host: '127.0.0.1',
    port: listener.port,
    parameters: { user: 'cloud_admin' },
    password,
  });
  clients.push(client);
  return client;
}

beforeEach(() => {
  stores = [new Store()];
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await listener.close();
});

type Body = PagestreamRequest extends infer R
  ? R extends PagestreamRequest
    ? Omit<R, 'reqid' | 'requestLsn' | 'notModifiedSince'>
    : never
  : never;
let reqid = 0n;
const ask = (body: Body, requestLsn: number = MAX_LSN, since = 8): PagestreamRequest =>
  ({ ...body, reqid: ++reqid, requestLsn, notModifiedSince: since }) as PagestreamRequest;
const page = (blkno: number, requestLsn?: number, since?: number, rel: RelTag = REL): PagestreamRequest =>
  ask({ kind: 'get-page', rel, blkno }, requestLsn, since);

class Stream {
  readonly copy: CopyStream;
  readonly version: PagestreamVersion;
  constructor(copy: CopyStream, version: PagestreamVersion) {
    this.copy = copy;
    this.version = version;
  }
  static async open(version: PagestreamVersion = 3): Promise<Stream> {
    const client = await connect();
    return new Stream(await client.copyBoth(`pagestream_v${version} ${TENANT} ${TIMELINE}`), version);
  }
  async send(...requests: PagestreamRequest[]): Promise<void> {
    const frames = requests.map(r => frame(TAG.copyData, writePagestreamRequest(r, this.version)));
    await (this.copy as unknown as { connection: { write(b: Uint8Array): Promise<void> } }).connection.write(
      concatBytes(frames),
    );
  }
  async answer(request: PagestreamRequest): Promise<PagestreamAnswer> {
    return readPagestreamAnswer(
      (await this.copy.read())!,
      { ...request, reqid: this.version === 3 ? request.reqid : 0n },
      this.version,
    );
  }
  async ask(request: PagestreamRequest): Promise<PagestreamAnswer> {
    await this.send(request);
    return this.answer(request);
  }
}

const textOf = (answer: PagestreamAnswer): string => {
  if (answer.kind !== 'get-page')
    return JSON.stringify(answer, (_, v) => (typeof v === 'bigint' ? String(v) : v));
  return Buffer.from(answer.page.subarray(0, answer.page.indexOf(0))).toString();
};

describe('pagestream', () => {
  test.each([2, 3] as const)(
    'version %i: a flood of pages is answered in order, in batches',
    async version => {
      await serve();
      const stream = await Stream.open(version);
      const requests = Array.from({ length: 500 }, (_, i) => page(i));
      await stream.send(...requests);
      for (const [i, request] of requests.entries())
        expect(textOf(await stream.answer(request))).toBe(stamp(16384, i, 1000));
      const { batches } = stores[0]!;
      expect(Math.max(...batches)).toBe(32);
      expect(batches.length).toBeLessThan(100);
    },
  );

  test.each([2, 3] as const)('version %i: every kind of request', async version => {
    await serve();
    const stream = await Stream.open(version);
    const gone = { ...REL, relNumber: 404 };
    const answers: string[] = [];
    for (const request of [
      ask({ kind: 'exists', rel: REL }),
      ask({ kind: 'exists', rel: gone }),
      ask({ kind: 'nblocks', rel: REL }),
      ask({ kind: 'nblocks', rel: { ...gone, forkNum: 2 } }),
      ask({ kind: 'db-size', dbOid: 5 }),
    ]) {
      answers.push(textOf(await stream.ask(request)));
    }
    expect(answers).toEqual([
      '{"kind":"exists","exists":true}',
      '{"kind":"exists","exists":false}',
      '{"kind":"nblocks","blocks":77}',
      '{"kind":"nblocks","blocks":0}',
      '{"kind":"db-size","bytes":"5000000000"}',
    ]);
    const segment = await stream.ask(ask({ kind: 'get-slru-segment', slru: 0, segno: 0 }));
    expect(segment.kind === 'get-slru-segment' && segment.segment.length).toBe(3 * 8192);
    const map = await stream.ask(page(3, undefined, undefined, { ...gone, forkNum: 1 }));
    expect(map.kind === 'get-page' && map.page.every(b => b === 0)).toBe(true);
    for (const request of [
      ask({ kind: 'nblocks', rel: gone }),
      ask({ kind: 'nblocks', rel: { ...REL, relNumber: 0 } }),
      ask({ kind: 'exists', rel: { ...REL, relNumber: 0 } }),
      ask({ kind: 'get-slru-segment', slru: 0, segno: 7 }),
      ask({ kind: 'get-slru-segment', slru: 9, segno: 0 }),
      page(0, undefined, undefined, { ...REL, relNumber: 0 }),
      page(0, 10, 20),
      page(0, 0, 0),
      page(0, 99, 8),
    ]) {
      expect((await stream.ask(request)).kind).toBe('error');
    }
    expect(textOf(await stream.ask(page(1, 50, 8)))).toBe(stamp(16384, 1, 50));
    expect(textOf(await stream.ask(page(1, 500, 8)))).toBe(stamp(16384, 1, 500));
    expect(textOf(await stream.ask(page(1, 5000, 8)))).toBe(stamp(16384, 1, 1000));
  });

  test('one bad page in a batch spoils no other', async () => {
    await serve();
    const stream = await Stream.open();
    const requests = [
      page(1),
      page(2, undefined, undefined, { ...REL, relNumber: 666 }),
      page(3),
      ask({ kind: 'nblocks', rel: REL }),
      page(4, 10, 20),
      page(5),
    ];
    await stream.send(...requests);
    const kinds: string[] = [];
    for (const request of requests) kinds.push(textOf(await stream.answer(request)));
    expect(kinds).toEqual([
      stamp(16384, 1, 1000),
      '{"kind":"error","message":"layer x is damaged"}',
      stamp(16384, 3, 1000),
      '{"kind":"nblocks","blocks":77}',
      expect.stringContaining('invalid request with request LSN'),
      stamp(16384, 5, 1000),
    ]);
  });

  test('a request for WAL that is not here waits, and so do those behind it', async () => {
    await serve();
    const stream = await Stream.open();
    const requests = [page(1, MAX_LSN, 1500), page(2), ask({ kind: 'nblocks', rel: REL }, MAX_LSN, 2000)];
    await stream.send(...requests);
    await expect.poll(() => stores[0]!.waiters.count).toBe(1);
    stores[0]!.advance(1600);
    expect(textOf(await stream.answer(requests[0]!))).toBe(stamp(16384, 1, 1500));
    expect(textOf(await stream.answer(requests[1]!))).toMatch(/^16384\/2@1\d00$/);
    await expect.poll(() => stores[0]!.waiters.count).toBe(1);
    stores[0]!.advance(2000);
    expect((await stream.answer(requests[2]!)).kind).toBe('nblocks');
  });

  test('a wait that is too long is an error, and the stream goes on', async () => {
    await serve({ waitLsnTimeoutMs: 200 });
    const stream = await Stream.open();
    expect(await stream.ask(page(1, MAX_LSN, 1500))).toEqual({ kind: 'error', message: 'too late' });
    expect((await stream.ask(page(1))).kind).toBe('get-page');
  });

  test('who hangs up waits no more', async () => {
    await serve();
    const stream = await Stream.open();
    await stream.send(page(1, MAX_LSN, 1500));
    await expect.poll(() => stores[0]!.waiters.count).toBe(1);
    stream.copy.destroy();
    await expect.poll(() => stores[0]!.waiters.count).toBe(0);
  });

  test('answers that are due are sent before the stream ends', async () => {
    await serve();
    const stream = await Stream.open();
    const requests = [page(1), page(2)];
    await stream.send(...requests);
    await stream.copy.done();
    for (const request of requests) expect((await stream.answer(request)).kind).toBe('get-page');
    expect(await stream.copy.read()).toBeUndefined();
  });

  test('a shard that is elsewhere: come back by another way', async () => {
    const shard = { number: 1, count: 4, stripeSize: 2048 };
    stores = [new Store(shard)];
    await serve();
    const blocks = Array.from({ length: 40 }, (_, i) => i * 2048);
    const of = (n: number): number => blocks.find(b => shardOfBlock(REL.relNumber, 0, b, 4, 2048) === n)!;
    const stream = await Stream.open();
    expect(textOf(await stream.ask(page(of(1))))).toBe(stamp(16384, of(1), 1000));
    await stream.send(page(of(2)));
    await expect(stream.copy.read()).rejects.toMatchObject({ sqlState: '08006' });
  });

  test('several shards of one tenant on one pageserver', async () => {
    stores = [0, 1, 2, 3].map(number => new Store({ number, count: 4, stripeSize: 1 }));
    await serve();
    const stream = await Stream.open();
    const requests = Array.from({ length: 100 }, (_, i) => page(i));
    await stream.send(...requests);
    for (const [i, request] of requests.entries())
      expect(textOf(await stream.answer(request))).toBe(stamp(16384, i, 1000));
    const served = stores.map(s => s.batches.reduce((a, b) => a + b, 0));
    expect(served.reduce((a, b) => a + b)).toBe(100);
    expect(Math.min(...served)).toBeGreaterThan(10);
  });

  test('going down', async () => {
    await serve();
    const stream = await Stream.open();
    await stream.send(page(1, MAX_LSN, 1500));
    await expect.poll(() => stores[0]!.waiters.count).toBe(1);
    stores[0]!.stop.abort(new Fault('shutting-down', 'the pageserver is going down'));
    await expect(stream.copy.read()).rejects.toMatchObject({ sqlState: '57P01' });
  });

  test.each([
    ['an unknown tag', new Uint8Array([77, 0, 0])],
    ['a short request', writePagestreamRequest(page(1), 3).subarray(0, 20)],
    ['a long request', concatBytes([writePagestreamRequest(page(1), 3), new Uint8Array(1)])],
    ['nothing', new Uint8Array(0)],
  ])('%s ends the stream', async (_, bytes) => {
    await serve();
    const stream = await Stream.open();
    await stream.copy.write(bytes);
    await expect(stream.copy.read()).rejects.toBeInstanceOf(ServerError);
  });
});

describe('commands', () => {
  const backup = async (client: PqClient, text: string): Promise<Buffer> => {
    const pieces: Uint8Array[] = [];
    for await (const piece of client.copyOut(text)) pieces.push(piece);
    return Buffer.concat(pieces);
  };

  test('backups, and the connection goes on', async () => {
    await serve();
    const client = await connect();
    const ids = `${TENANT} ${TIMELINE}`;
    const text = (b: Buffer): string => b.toString().replace(/x+$/, '');
    expect(text(await backup(client, `basebackup ${ids}`))).toBe(
      'backup at 1000 prev undefined full false replica false ',
    );
    expect(text(await backup(client, `basebackup ${ids} 0/200 --replica`))).toBe(
      'backup at 512 prev undefined full false replica true ',
    );
    expect(text(await backup(client, `fullbackup ${ids} 0/200 0/1F0`))).toBe(
      'backup at 512 prev 496 full true replica false ',
    );
    expect(text(gunzipSync(await backup(client, `basebackup ${ids} latest --gzip`)))).toContain(
      'backup at 1000',
    );
    await expect(backup(client, `basebackup ${ids} 0/20`)).rejects.toThrow('garbage collected');
    await expect(backup(client, `basebackup ${ids} nonsense`)).rejects.toThrow('not an LSN');
    await expect(backup(client, `basebackup ${TENANT} ${TENANT}`)).rejects.toThrow('no such timeline');
    await expect(client.query('select 1')).rejects.toThrow('unsupported command');
    expect((await client.query('set x to y')).tag).toBe('SELECT 1');
    const waiting = backup(client, `basebackup ${ids} 0/800`);
    await expect.poll(() => stores[0]!.waiters.count).toBe(1);
    stores[0]!.advance(3000);
    expect(text(await waiting)).toContain('backup at 2048');
  });

  test('a backup by the extended protocol, as compute_ctl sends it', async () => {
    await serve();
    const connection = await hostNet().connect({ host: '127.0.0.1', port: listener.port });
    const reader = new FrameReader(1 << 20);
    const frames = async (until: string): Promise<string> => {
      let tags = '';
      while (!tags.endsWith(until)) {
        const next = reader.next();
        if (next) tags += String.fromCharCode(next.tag);
        else reader.push((await connection.read())!);
      }
      return tags;
    };
    await connection.write(
      startupPacket(PROTOCOL_3_0, ['user', 'x', 'options', '-c neon.compute_mode=primary']),
    );
    await frames('Z');
    const sync = frame(TAG.sync);
    const parse = frame(TAG.parse, utf8(`s\0basebackup ${TENANT} ${TIMELINE} --gzip\0\0\0`));
    await connection.write(concatBytes([parse, frame(TAG.describe, utf8('Ss\0')), sync]));
    expect(await frames('Z')).toBe('1tnZ');
    const bind = frame(TAG.bind, utf8('\0s\0\0\0\0\0\0\0'));
    await connection.write(concatBytes([bind, frame(TAG.execute, utf8('\0\0\0\0\0')), sync]));
    expect((await frames('Z')).replace(/d+/, 'd')).toBe('2HdcCZ');
    connection.destroy();
  });

  test('leases', async () => {
    await serve();
    const client = await connect();
    expect((await client.query(`lease lsn ${TENANT} ${TIMELINE} 0/200 `)).rows).toEqual([['1700000000000']]);
    expect((await client.query(`lease lsn ${TENANT} ${TIMELINE} 0/20 `)).rows).toEqual([[null]]);
    await expect(client.query(`lease lsn ${TENANT}-0104 ${TIMELINE} 0/20 `)).rejects.toMatchObject({
      sqlState: '08006',
    });
  });

  test('tokens', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const tokens = await TokenVerifier.of(
      [publicKey.export({ type: 'spki', format: 'pem' }).toString()],
      () => Date.now(),
    );
    await serve({ tokens });
    const own = await signToken({ scope: 'tenant', tenantId: TENANT }, pem);
    const other = await signToken({ scope: 'tenant', tenantId: tenantId('33'.repeat(16)) }, pem);
    const node = await signToken({ scope: 'pageserverapi' }, pem);
    const wrong = await signToken({ scope: 'safekeeperdata' }, pem);
    await expect(connect('')).rejects.toThrow();
    await expect(connect('x.y.z')).rejects.toThrow();
    for (const token of [own, node]) {
      const client = await connect(token);
      expect((await client.query(`lease lsn ${TENANT} ${TIMELINE} 0/200`)).rows).toHaveLength(1);
    }
    for (const token of [other, wrong]) {
      const client = await connect(token);
      const about = async (tenant: string): Promise<string> =>
        client.query(`lease lsn ${tenant} ${TIMELINE} 0/200`).then(
          () => 'fine',
          (e: Error) => e.message.replaceAll(tenant, '?'),
        );
      const answer = await about(TENANT);
      expect(answer).not.toBe('fine');
      expect(await about('44'.repeat(16))).toBe(answer);
      await expect(client.copyBoth(`pagestream_v3 ${TENANT} ${TIMELINE}`)).rejects.toThrow();
    }
  });
});
