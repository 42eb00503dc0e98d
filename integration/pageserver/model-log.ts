// A log of records whose outcome a model knows (sim/pageserver-model.ts): whole page images and generic edits of a few
// relations, crafted as Postgres lays WAL out, pushed to safekeepers as a compute pushes its own. And a client that
// asks a pageserver for pages and goes on through its deaths.
//
//   const log = new ModelLog(start, prev)
//   pusher.write(log.next(random))       one record; then log.settled(end) once it is committed
//   log.model.page(rel, blk, lsn)        what the page is at any end of a record

import type { Lsn } from '../../src/base/lsn.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import { VALUE_RECORD, VALUE_RECORD_INIT } from '../../src/pageserver/value.ts';
import { readPagestreamAnswer, writePagestreamRequest } from '../../src/protocol/pagestream.ts';
import { type CopyStream, PqClient } from '../../src/protocol/pq-client.ts';
import { pg17 } from '../../src/xlog/dialects/17.ts';
import { WalWriter } from '../../src/xlog/writer.ts';
import type { PushedLog } from '../safekeeper/pusher.ts';
import {
  type ModelPut,
  ModelTimeline,
  type ModelValue,
  randomOffset,
  randomPage,
  storedBytes,
} from '../sim/pageserver-model.ts';
import type { SimRandom } from '../sim/random.ts';

const RELS = [90_001, 90_002, 90_003];
const BLOCKS = 40;

export class ModelLog implements PushedLog {
  readonly pgVersion = 170_000;
  readonly systemId = 1n;
  readonly segmentSize = 16 * 1024 * 1024;
  readonly redoLsn: Lsn;
  readonly model: ModelTimeline;
  private readonly writer: WalWriter;
  private buffer = new Uint8Array(1024 * 1024);
  private pending: ModelValue | undefined;
  /** Pages that were written to, and the end of the record that did so first. */
  readonly begun: { readonly rel: number; readonly blk: number; readonly lsn: number }[] = [];

  constructor(start: Lsn, prev: Lsn) {
    this.redoLsn = start;
    this.model = new ModelTimeline('log', undefined, start, prev);
    this.writer = new WalWriter({ start, prev, dialect: pg17, systemId: this.systemId });
  }

  get start(): Lsn {
    return this.redoLsn;
  }

  get end(): Lsn {
    return this.writer.position;
  }

  bytes(from: number, to: number): Uint8Array {
    return this.buffer.subarray(from - this.redoLsn, to - this.redoLsn);
  }

  cut(at: Lsn): void {
    if (at !== this.end) throw new Error('this log is never cut');
  }

  /** The next record: the first one of a page is its image. */
  next(random: SimRandom): Uint8Array {
    const rel = random.pick(RELS);
    const blk = random.chance(0.3) ? random.below(3) : random.below(BLOCKS);
    const isNew = !this.begun.some(page => page.rel === rel && page.blk === blk);
    const put: ModelPut =
      isNew || random.chance(0.05)
        ? { kind: VALUE_RECORD_INIT, page: randomPage(random) }
        : edit(random, random.bytes(1 + random.below(400)));
    this.pending = { rel, blk, lsn: 0, put };
    if (isNew) this.begun.push({ rel, blk, lsn: this.end });
    return storedBytes(this.pending).bytes;
  }

  add(record: Uint8Array): Lsn {
    const from = this.end;
    const { lsn: prev, end } = this.writer.appendRecord(record);
    const length = end - this.redoLsn;
    if (length > this.buffer.length) {
      const grown = new Uint8Array(length * 2);
      grown.set(this.buffer.subarray(0, from - this.redoLsn));
      this.buffer = grown;
    }
    this.buffer.set(this.writer.take(), from - this.redoLsn);
    this.model.add({ values: [{ ...this.pending!, lsn: end }], lsn: end, prev });
    return end;
  }
}

const edit = (random: SimRandom, bytes: Uint8Array): ModelPut => ({
  kind: VALUE_RECORD,
  offset: randomOffset(random, bytes.length),
  bytes,
});

/** One page at a time; a connection that broke is made anew until `giveUpMs` have passed. */
export class PatientReader {
  private readonly port: number;
  private readonly ids: { readonly tenant: string; readonly timeline: string };
  private copy: CopyStream | undefined;
  private number = 0n;
  /** Times that it had to begin again. */
  retries = 0;

  constructor(port: number, ids: { readonly tenant: string; readonly timeline: string }) {
    this.port = port;
    this.ids = ids;
  }

  async page(rel: number, blkno: number, lsn: number, giveUpMs = 60_000): Promise<Uint8Array> {
    const end = performance.now() + giveUpMs;
    for (;;) {
      try {
        return await this.ask(rel, blkno, lsn as Lsn);
      } catch (error) {
        this.close();
        if (performance.now() > end) throw error;
        this.retries++;
        await new Promise(done => setTimeout(done, 10));
      }
    }
  }

  private async ask(rel: number, blkno: number, lsn: Lsn): Promise<Uint8Array> {
    const copy = (this.copy ??= await this.connect());
    const request = {
      kind: 'get-page',
      reqid: ++this.number,
      requestLsn: lsn,
      notModifiedSince: lsn,
      rel: { spcOid: 1663, dbOid: 5, relNumber: rel, forkNum: 0 },
      blkno,
    } as const;
    await copy.write(writePagestreamRequest(request, 3));
    const bytes = await copy.read();
    if (bytes === undefined) throw new Error('the page stream ended');
    const answer = readPagestreamAnswer(bytes, request, 3);
    if (answer.kind !== 'get-page')
      throw new Error(answer.kind === 'error' ? answer.message : `a ${answer.kind}`);
    return answer.page;
  }

  private async connect(): Promise<CopyStream> {
    const parameters = { user: 'test', database: 'test' };
    const client = await PqClient.connect(hostNet(), hostRandom, {
      host: '127.0.0.1',
      port: this.port,
      parameters,
    });
    return client.copyBoth(`pagestream_v3 ${this.ids.tenant} ${this.ids.timeline}`);
  }

  close(): void {
    this.copy?.destroy();
    this.copy = undefined;
  }
}
