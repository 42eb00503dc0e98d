// A whole storage for logs of stock Postgres: a broker, safekeepers and pageservers, each a process of its own from
// `bin`, on one object store, a directory or S3. Pageservers may be added, each with an empty disk: other machines.
// Credentials and times of keys come by the environment, as they do in earnest.
//
//   const whole = await Whole.start({ remote: s3At(...) })
//   await whole.pageservers[0].attach(tenant) ... importData ... whole.push(log) ... client.page(...)
//   await whole.stop()

import { execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { tenantId, timelineId } from '../../src/base/ids.ts';
import { formatLsn, type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import {
  type PagestreamAnswer,
  type PagestreamRequest,
  readPagestreamAnswer,
  writePagestreamRequest,
} from '../../src/protocol/pagestream.ts';
import { type CopyStream, PqClient } from '../../src/protocol/pq-client.ts';
import { segmentFileName } from '../../src/xlog/segment.ts';
import { Daemon } from '../pg/daemon.ts';
import { freePort } from '../safekeeper/neon-postgres.ts';
import { type PushedLog, Pusher } from '../safekeeper/pusher.ts';

const LAKEBED = resolve(import.meta.dirname, '../../bin/lakebed');

export const hexId = (): string => crypto.randomUUID().replaceAll('-', '');

export interface S3Place {
  readonly bucket: string;
  readonly endpoint: string;
}

export interface WholeOptions {
  /** A directory unless told. */
  readonly s3?: S3Place;
  readonly safekeepers?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Lines of pageserver.toml. */
  readonly toml?: readonly string[];
  readonly safekeeperArgs?: readonly string[];
}

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** The answer of a management call. */
export interface Reply {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: whatever the call says
  readonly body: any;
}

export class WholePageserver extends Daemon {
  readonly pgPort: number;
  readonly httpPort: number;
  readonly home: string;

  constructor(
    whole: { dir: string; toml: (prefix: string) => string; env: Record<string, string> },
    id: number,
    ports: number[],
  ) {
    const home = join(whole.dir, `pageserver-${id}`);
    mkdirSync(home);
    writeFileSync(join(home, 'identity.toml'), `id = ${id}\n`);
    const addresses = [
      `listen_pg_addr = '127.0.0.1:${ports[0]}'`,
      `listen_http_addr = '127.0.0.1:${ports[1]}'`,
    ].join('\n');
    writeFileSync(join(home, 'pageserver.toml'), `${addresses}\n${whole.toml('pageserver')}\n`);
    super({
      name: `pageserver-${id}`,
      program: 'pageserver',
      args: ['-D', home],
      dir: whole.dir,
      statusUrl: `http://127.0.0.1:${ports[1]}/v1/status`,
      env: whole.env,
    });
    this.home = home;
    this.pgPort = ports[0]!;
    this.httpPort = ports[1]!;
  }

  async call(method: string, path: string, body?: unknown): Promise<Reply> {
    const response = await fetch(`http://127.0.0.1:${this.httpPort}/v1/${path}`, {
      method,
      ...(body === undefined
        ? {}
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json');
    return { status: response.status, body: isJson && text !== '' ? JSON.parse(text) : text };
  }

  /** A call that must succeed. */
  // biome-ignore lint/suspicious/noExplicitAny: whatever the call says
  async ok(method: string, path: string, body?: unknown): Promise<any> {
    const reply = await this.call(method, path, body);
    if (reply.status >= 200 && reply.status < 300) return reply.body;
    throw new Error(`${method} ${path}: ${reply.status} ${JSON.stringify(reply.body)}`);
  }

  attach(tenant: string, generation: number, conf: Record<string, unknown> = {}): Promise<unknown> {
    const body = { mode: 'AttachedSingle', generation, tenant_conf: conf };
    return this.ok('PUT', `tenant/${tenant}/location_config`, body);
  }

  /** A data directory becomes a timeline. */
  async importData(tenant: string, timeline: string, directory: string, pgVersion: number): Promise<void> {
    const tar = spawn('tar', ['-C', directory, '-cf', '-', '.'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const query = `pg_version=${pgVersion}&wal_flavour=stock`;
    const response = await fetch(
      `http://127.0.0.1:${this.httpPort}/v1/tenant/${tenant}/timeline/${timeline}/import_basebackup?${query}`,
      { method: 'PUT', body: Readable.toWeb(tar.stdout) as ReadableStream, duplex: 'half' } as RequestInit,
    );
    if (!response.ok) throw new Error(`import: ${response.status} ${await response.text()}`);
  }

  async lastRecordLsn(shard: string, timeline: string): Promise<number> {
    const detail = await this.ok('GET', `tenant/${shard}/timeline/${timeline}`);
    return parseLsn(detail.last_record_lsn);
  }

  client(): Promise<PqClient> {
    const parameters = { user: 'test', database: 'test' };
    return PqClient.connect(hostNet(), hostRandom, { host: '127.0.0.1', port: this.pgPort, parameters });
  }

  async pages(tenant: string, timeline: string): Promise<PageStream> {
    const client = await this.client();
    return new PageStream(await client.copyBoth(`pagestream_v3 ${tenant} ${timeline}`));
  }

  /** The tar of a full backup. */
  async *fullBackup(tenant: string, timeline: string, lsn: number): AsyncGenerator<Uint8Array> {
    const client = await this.client();
    try {
      yield* client.copyOut(`fullbackup ${tenant} ${timeline} ${formatLsn(lsn as Lsn)}`);
    } finally {
      client.destroy();
    }
  }
}

type Asked = PagestreamRequest extends infer R
  ? R extends PagestreamRequest
    ? Omit<R, 'reqid' | 'requestLsn' | 'notModifiedSince'>
    : never
  : never;

/** Requests sent ahead of their answers, a window of them. */
export class PageStream {
  private readonly copy: CopyStream;
  private number = 0n;

  constructor(copy: CopyStream) {
    this.copy = copy;
  }

  /** The answers in order. */
  async ask(lsn: number, requests: readonly Asked[]): Promise<PagestreamAnswer[]> {
    const sent = requests.map(request => {
      const at = lsn as Lsn;
      return { ...request, reqid: ++this.number, requestLsn: at, notModifiedSince: at } as PagestreamRequest;
    });
    for (const request of sent) await this.copy.write(writePagestreamRequest(request, 3));
    const answers: PagestreamAnswer[] = [];
    for (const request of sent) {
      const bytes = await this.copy.read();
      if (!bytes) throw new Error('the page stream ended');
      answers.push(readPagestreamAnswer(bytes, request, 3));
    }
    return answers;
  }

  close(): void {
    this.copy.destroy();
  }
}

/** The log of a stock server, from its pg_wal; pushed from `start` on, as far as it goes. */
export class StockLog implements PushedLog {
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segmentSize = 16 * 1024 * 1024;
  readonly redoLsn: Lsn;
  readonly end: Lsn;
  private readonly directory: string;

  constructor(directory: string, major: number, systemId: bigint, start: Lsn, end: Lsn) {
    this.directory = directory;
    this.pgVersion = major * 10_000;
    this.systemId = systemId;
    this.redoLsn = start;
    this.end = end;
  }

  get start(): Lsn {
    return this.redoLsn;
  }

  bytes(from: number, to: number): Uint8Array {
    const pieces: Uint8Array[] = [];
    for (let at = from; at < to; ) {
      const segno = Math.floor(at / this.segmentSize);
      const start = segno * this.segmentSize;
      const upTo = Math.min(to, start + this.segmentSize);
      pieces.push(this.segment(segno).subarray(at - start, upTo - start));
      at = upTo;
    }
    return Buffer.concat(pieces);
  }

  private kept: { segno: number; bytes: Uint8Array } | undefined;

  private segment(segno: number): Uint8Array {
    if (this.kept?.segno !== segno) {
      const bytes = readFileSync(join(this.directory, segmentFileName(1, segno, this.segmentSize)));
      this.kept = { segno, bytes };
    }
    return this.kept.bytes;
  }

  cut(): void {
    // It is what it is.
  }

  add(): never {
    throw new Error('this log is finished');
  }
}

export class Whole {
  readonly dir: string;
  readonly broker: Daemon;
  readonly safekeepers: (Daemon & { port: number; httpPort: number })[] = [];
  readonly pageservers: WholePageserver[] = [];
  private readonly options: WholeOptions;
  private readonly brokerPort: number;
  private failed = false;

  private constructor(dir: string, brokerPort: number, options: WholeOptions) {
    this.dir = dir;
    this.brokerPort = brokerPort;
    this.options = options;
    this.broker = new Daemon({
      name: 'broker',
      program: 'storage_broker',
      args: [`--listen-addr=127.0.0.1:${brokerPort}`],
      dir,
      statusUrl: `http://127.0.0.1:${brokerPort}/status`,
    });
  }

  static async start(options: WholeOptions = {}): Promise<Whole> {
    const whole = new Whole(mkdtempSync(join(tmpdir(), 'lakebed-whole-')), await freePort(), options);
    await whole.during(async () => {
      await whole.broker.start();
      for (let id = 1; id <= (options.safekeepers ?? 3); id++) await whole.addSafekeeper(id);
      await whole.addPageserver();
    });
    return whole;
  }

  private remote(prefix: string): string {
    const { s3 } = this.options;
    if (!s3) return `{ local_path = '${join(this.dir, 'store', prefix)}' }`;
    const { bucket, endpoint } = s3;
    return `{ bucket_name = '${bucket}', bucket_region = 'us-east-1', prefix_in_bucket = '/${prefix}/', endpoint = '${endpoint}' }`;
  }

  private get env(): Record<string, string> {
    return { LAKEBED_LOCAL_KEYS: join(this.dir, 'keys'), ...this.options.env };
  }

  private async addSafekeeper(id: number): Promise<void> {
    const [port, httpPort] = [await freePort(), await freePort()];
    const home = join(this.dir, `safekeeper-${id}`);
    mkdirSync(home);
    const daemon = new Daemon({
      name: `safekeeper-${id}`,
      program: 'safekeeper',
      args: [
        ...['-D', home, `--id=${id}`],
        ...[`--listen-pg=127.0.0.1:${port}`, `--listen-http=127.0.0.1:${httpPort}`],
        `--broker-endpoint=http://127.0.0.1:${this.brokerPort}`,
        `--remote-storage=${this.remote('storage')}`,
        ...(this.options.safekeeperArgs ?? []),
      ],
      dir: this.dir,
      statusUrl: `http://127.0.0.1:${httpPort}/v1/status`,
      env: this.env,
    });
    this.safekeepers.push(Object.assign(daemon, { port, httpPort }));
    await daemon.start();
  }

  /** One more, with nothing on its disk. */
  async addPageserver(): Promise<WholePageserver> {
    const toml = (): string =>
      [
        `broker_endpoint = 'http://127.0.0.1:${this.brokerPort}'`,
        `remote_storage = ${this.remote('storage')}`,
        ...(this.options.toml ?? []),
      ].join('\n');
    const id = this.pageservers.length + 1;
    const parts = { dir: this.dir, toml, env: this.env };
    const pageserver = new WholePageserver(parts, id, [await freePort(), await freePort()]);
    this.pageservers.push(pageserver);
    await pageserver.start();
    return pageserver;
  }

  /** Pushes all of the log; resolves when a majority has it. */
  async push(tenant: string, timeline: string, log: PushedLog & { end: Lsn }): Promise<void> {
    const pusher = new Pusher({
      targets: this.safekeepers.map(({ port }) => ({ host: '127.0.0.1', port })),
      key: { tenantId: tenantId(tenant), timelineId: timelineId(timeline) },
      log,
    });
    try {
      await pusher.elect();
      await pusher.committed(log.end);
      // Who lags tells the pageserver nothing new; but all of them are to have it.
      await until(() => pusher.flushed().every(lsn => lsn >= log.end));
    } finally {
      pusher.close();
    }
  }

  /** The command line, over the object store and the keys of all of this. */
  lakebed(...args: string[]): Promise<Ran> {
    const { s3 } = this.options;
    const store = s3
      ? `s3://${s3.bucket}/storage?region=us-east-1&endpoint=${encodeURIComponent(s3.endpoint)}`
      : join(this.dir, 'store', 'storage');
    const env = {
      PATH: process.env['PATH'] ?? '',
      LAKEBED_STORE: store,
      LAKEBED_AUDIT: join(this.dir, 'audit', 'keys.jsonl'),
      ...this.env,
    };
    return new Promise(done => {
      execFile(LAKEBED, args, { env, cwd: this.dir, maxBuffer: 64 << 20 }, (error, out, err) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        done({ code, out, err });
      });
    });
  }

  get daemons(): Daemon[] {
    return [this.broker, ...this.safekeepers, ...this.pageservers];
  }

  /** Runs a test's body; when it fails, the logs are told and the place is kept. */
  async during<T>(body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      this.failed = true;
      const tails = this.daemons.map(d => `--- ${d.options.name} (${d.logPath})\n${d.log.slice(-2500)}`);
      console.error(`the place is kept: ${this.dir}\n${tails.join('\n')}`);
      throw error;
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.daemons.map(d => d.kill('SIGKILL')));
    if (!this.failed) rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Waits for something to be so; what is not there yet may say so by an error. */
export async function until(what: () => Promise<boolean> | boolean, timeoutMs = 60_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    let why: unknown;
    try {
      if (await what()) return;
    } catch (error) {
      why = error;
    }
    if (performance.now() > end) throw new Error('waited in vain', { cause: why });
    await new Promise(done => setTimeout(done, 30));
  }
}
