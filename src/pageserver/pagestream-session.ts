// One pagestream: requests come, answers go in the order of the requests. Requests that wait are taken together: a
// run of GetPage requests becomes one batch with one plan, one buffer and one write.
//
//   batch    | frame of page 1 | frame of page 2 | ...      each: 'd' | length u32 | 102 | [v3: echo 41] | page 8192
//
// Pages are put into their frames in place. In version 3 an answer repeats everything of its request behind the tag,
// so the echo is a copy of the request's own bytes. What cannot be answered is told in its place in the order, and
// the stream goes on; only when the tenant moved, or we end, does it end.
//
// While a batch is worked on the next is being read: a client that hangs up is noticed, and what waited for WAL on
// its behalf is given up.
//
// Answers to handle_pagerequests of pageserver/src/page_service.rs.

import { viewOf } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import type { TenantId, TimelineId } from '../base/ids.ts';
import { formatLsn, type Lsn, readLsnBE } from '../base/lsn.ts';
import type { Clock, Log, Traces } from '../base/ports.ts';
import { FSM_FORKNUM, type RelTag, VISIBILITYMAP_FORKNUM } from '../base/rel.ts';
import {
  dbSizeAnswer,
  errorAnswer,
  existsAnswer,
  nblocksAnswer,
  PAGE_BYTES,
  type PagestreamRequest,
  type PagestreamVersion,
  readPagestreamRequest,
  slruSegmentAnswer,
} from '../protocol/pagestream.ts';
import { copyData } from '../protocol/pq-frame.ts';
import { CopyEnded, type PqConnection } from '../protocol/pq-serve.ts';
import type { AnswerRooms } from './answer-rooms.ts';
import type { PageWanted } from './pgdata.ts';
import { readLsn } from './read-lsn.ts';
import { type ServedTimeline, type ServedTimelines, ShardRouter } from './served.ts';
import type { ServiceMetrics } from './service-metrics.ts';

export interface PagestreamDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: ServiceMetrics;
  readonly timelines: ServedTimelines;
  /** Longest wait for WAL on behalf of a request. */
  readonly waitLsnTimeoutMs: number;
  readonly maxBatchSize: number;
  readonly rooms: AnswerRooms;
  readonly traces?: Traces | undefined;
}

/** A request is at most 42 bytes. */
const REQUEST_BYTES_MAX = 1024;
const FRAME_HEADER_BYTES = 5;
const TAG_GETPAGE = 2;
const TAG_GETPAGE_ANSWER = 102;
const COPY_DATA = 0x64;

type GetPage = Extract<PagestreamRequest, { kind: 'get-page' }>;

export class PagestreamSession {
  private readonly pq: PqConnection;
  private readonly version: PagestreamVersion;
  private readonly deps: PagestreamDeps;
  private readonly id: { readonly tenantId: TenantId; readonly timelineId: TimelineId };
  private readonly router: ShardRouter;
  /** Aborted when the client has gone. */
  private readonly gone = new AbortController();

  constructor(
    pq: PqConnection,
    version: PagestreamVersion,
    id: { readonly tenantId: TenantId; readonly timelineId: TimelineId },
    deps: PagestreamDeps,
  ) {
    this.pq = pq;
    this.version = version;
    this.id = id;
    this.deps = deps;
    this.router = new ShardRouter(deps.timelines, id.tenantId, id.timelineId);
  }

  /** Serves until the client ends it; throws as PqHandler.query does. */
  async run(): Promise<never> {
    await this.router.refresh();
    await this.pq.startCopyBoth(REQUEST_BYTES_MAX);
    let reading = this.pq.readCopyData();
    for (;;) {
      const first = await reading;
      const { batch, ended } = this.takeWaiting(first);
      if (!ended) reading = this.readAhead();
      await this.answer(batch);
      if (ended) throw ended;
    }
  }

  /** What has arrived already, up to a batch; and how the stream ended, if it did. */
  private takeWaiting(first: Uint8Array): { batch: Uint8Array[]; ended?: unknown } {
    const batch = [first];
    try {
      while (batch.length < this.deps.maxBatchSize) {
        const more = this.pq.bufferedCopyData();
        if (!more) break;
        batch.push(more);
      }
      return { batch };
    } catch (ended) {
      return { batch, ended };
    }
  }

  private readAhead(): Promise<Uint8Array> {
    const reading = this.pq.readCopyData();
    reading.catch((error: unknown) => {
      // A client that says so still wants its answers; one that hung up does not.
      if (!(error instanceof CopyEnded && error.how !== 'eof')) this.gone.abort(error);
    });
    return reading;
  }

  private async answer(batch: readonly Uint8Array[]): Promise<void> {
    if (this.router.stale) await this.router.refresh();
    for (let at = 0; at < batch.length; ) {
      let end = at;
      while (end < batch.length && batch[end]![0] === TAG_GETPAGE) end++;
      if (end > at) {
        await this.answerPages(batch.slice(at, end));
        at = end;
      } else {
        await this.answerOther(batch[at]!);
        at++;
      }
    }
  }

  // ---- pages ------------------------------------------------------------------------------------------------

  private async answerPages(requests: readonly Uint8Array[]): Promise<void> {
    const { clock, metrics, traces } = this.deps;
    const startMs = clock.monotonic();
    let room: Buffer | undefined;
    let answers: Uint8Array;
    let failed: unknown;
    try {
      answers = room = await this.pagesTogether(requests);
    } catch (error) {
      if (endsStream(error)) throw error;
      failed = error;
      // One of them cannot be answered: each by itself, so that the others are.
      const each: Uint8Array[] = [];
      for (const request of requests) each.push(await this.pageAlone(request));
      answers = each.length === 1 ? each[0]! : Buffer.concat(each);
    }
    metrics.batchSize.observe(requests.length);
    const seconds = (clock.monotonic() - startMs) / 1000;
    const cell = metrics.query('get-page');
    for (let i = 0; i < requests.length; i++) cell.observe(seconds);
    if (traces) this.trace(traces, seconds * 1000, requests, failed);
    await this.pq.lend(answers);
    if (room !== undefined && this.pq.canLend) this.deps.rooms.giveBack(room);
  }

  /** One span for a batch: its pages were read together. */
  private trace(traces: Traces, ms: number, requests: readonly Uint8Array[], failed: unknown): void {
    const at = this.version === 3 ? 9 : 1;
    const view = viewOf(requests[0]!);
    const first =
      requests[0]!.length === at + 33
        ? {
            rel: view.getUint32(at + 24),
            blkno: view.getUint32(at + 29),
            lsn: formatLsn(readLsnBE(view, at + 8)),
          }
        : {};
    const { tenantId, timelineId } = this.id;
    traces.span(
      'GetPage',
      ms,
      { tenant: tenantId, timeline: timelineId, pages: requests.length, ...first },
      failed,
    );
  }

  /** The frames of all answers in one buffer. */
  private async pagesTogether(requests: readonly Uint8Array[]): Promise<Buffer> {
    const echo = (this.version === 3 ? GETPAGE_V3_BYTES : 1) - 1;
    const frameBytes = FRAME_HEADER_BYTES + 1 + echo + PAGE_BYTES;
    const answers = this.deps.rooms.take(frameBytes * requests.length);
    const byTimeline: { served: ServedTimeline; wanted: PageWanted[] }[] = [];
    for (let i = 0; i < requests.length; i++) {
      const request = requests[i]!;
      const at = i * frameBytes;
      const { rel, blkno, served, lsn: pending } = this.locate(request);
      const lsn = typeof pending === 'number' ? pending : await pending;
      answers[at] = COPY_DATA;
      answers.writeUInt32BE(frameBytes - 1, at + 1);
      answers[at + FRAME_HEADER_BYTES] = TAG_GETPAGE_ANSWER;
      const echoAt = at + FRAME_HEADER_BYTES + 1;
      if (echo > 0) answers.set(request.subarray(1), echoAt);
      const page = { rel, blkno, lsn, into: answers, at: echoAt + echo };
      const group = byTimeline.find(g => g.served === served);
      if (group) group.wanted.push(page);
      else byTimeline.push({ served, wanted: [page] });
    }
    for (const { served, wanted } of byTimeline) await served.pgdata.getPages(wanted);
    return answers;
  }

  /** What a GetPage asks for, from whom, and at which LSN: a promise when WAL must be waited for. */
  private locate(request: Uint8Array): {
    rel: RelTag;
    blkno: number;
    served: ServedTimeline;
    lsn: number | Promise<number>;
  } {
    const at = this.version === 3 ? 9 : 1;
    if (request.length !== at + 33) {
      throw new Fault('protocol-violation', `a GetPage request of ${request.length} bytes`);
    }
    const view = viewOf(request);
    const rel = {
      spcOid: view.getUint32(at + 16),
      dbOid: view.getUint32(at + 20),
      relNumber: view.getUint32(at + 24),
      forkNum: view.getUint8(at + 28),
    };
    const blkno = view.getUint32(at + 29);
    if (rel.relNumber === 0) throw noRelation();
    const served = this.router.ofBlock(rel.relNumber, rel.forkNum, blkno);
    const lsn = this.lsnFor(served, readLsnBE(view, at), readLsnBE(view, at + 8));
    return { rel, blkno, served, lsn };
  }

  private async pageAlone(request: Uint8Array): Promise<Uint8Array> {
    try {
      return await this.pagesTogether([request]);
    } catch (error) {
      const parsed = readPagestreamRequest(request, this.version) as GetPage;
      if (isFault(error, 'relation-missing') && isMap(parsed.rel)) return this.zeroPage(request);
      return this.errorFrame(parsed, error);
    }
  }

  /** A map that was never made is empty. */
  private zeroPage(request: Uint8Array): Uint8Array {
    const echo = this.version === 3 ? request.subarray(1) : request.subarray(0, 0);
    return copyData(new Uint8Array([TAG_GETPAGE_ANSWER]), echo, new Uint8Array(PAGE_BYTES));
  }

  // ---- the rest ---------------------------------------------------------------------------------------------

  private async answerOther(bytes: Uint8Array): Promise<void> {
    const { clock, metrics } = this.deps;
    const startMs = clock.monotonic();
    const request = readPagestreamRequest(bytes, this.version);
    let answer: Uint8Array;
    try {
      answer = copyData(await this.otherAnswer(request));
    } catch (error) {
      answer = this.errorFrame(request, error);
    }
    metrics.query(request.kind).observe((clock.monotonic() - startMs) / 1000);
    await this.pq.send(answer);
  }

  private async otherAnswer(r: PagestreamRequest): Promise<Uint8Array> {
    const served = this.router.zero();
    const lsn = await this.lsnFor(served, r.requestLsn, r.notModifiedSince);
    const { pgdata } = served;
    switch (r.kind) {
      case 'exists':
        if (r.rel.relNumber === 0) throw noRelation();
        return existsAnswer(r, this.version, await pgdata.relExists(r.rel, lsn));
      case 'nblocks':
        return nblocksAnswer(r, this.version, await blocksOf(served, r.rel, lsn));
      case 'db-size':
        return dbSizeAnswer(r, this.version, BigInt(await pgdata.dbSize(r.dbOid, lsn)));
      case 'get-slru-segment': {
        if (r.slru > 2) throw new Fault('relation-missing', `there is no SLRU of kind ${r.slru}`);
        const segment = await pgdata.slruSegment(r.slru as 0 | 1 | 2, r.segno, lsn);
        if (!segment) throw new Fault('relation-missing', `SLRU ${r.slru} has no segment ${r.segno}`);
        return slruSegmentAnswer(r, this.version, segment);
      }
      case 'get-page':
        throw new Fault('protocol-violation', 'pages are answered in batches');
    }
  }

  /** The LSN to read at; a promise when its WAL must come first. */
  private lsnFor(served: ServedTimeline, requestLsn: Lsn, notModifiedSince: Lsn): number | Promise<number> {
    const { timeline } = served;
    const { lastRecordLsn, gcCutoffLsn } = timeline.state;
    const lsn = readLsn(requestLsn, notModifiedSince, {
      lastRecordLsn,
      gcCutoffLsn,
      leased: at => served.leased(at),
    });
    return lsn <= lastRecordLsn ? lsn : this.waitFor(served, lsn);
  }

  private async waitFor(served: ServedTimeline, lsn: number): Promise<number> {
    const { clock, metrics, waitLsnTimeoutMs } = this.deps;
    const startMs = clock.monotonic();
    const either = AbortSignal.any([served.signal, this.gone.signal]);
    await served.timeline.waitFor(lsn, waitLsnTimeoutMs, either);
    metrics.waitLsn.observe((clock.monotonic() - startMs) / 1000);
    return lsn;
  }

  /** An error about one request; what must end the stream is thrown on. */
  private errorFrame(request: PagestreamRequest, error: unknown): Uint8Array {
    if (endsStream(error)) throw error;
    const { log, metrics } = this.deps;
    const code = isFault(error) ? error.code : 'internal';
    metrics.pageErrors.with(code).inc();
    const fields = { kind: request.kind, error };
    if (isFault(error) && error.kind !== 'corrupt' && error.kind !== 'closed')
      log.info('page request failed', fields);
    else log.error('page request failed', fields);
    return copyData(
      errorAnswer(request, this.version, error instanceof Error ? error.message : String(error)),
    );
  }
}

const GETPAGE_V3_BYTES = 42;

const isMap = (rel: RelTag): boolean => rel.forkNum === FSM_FORKNUM || rel.forkNum === VISIBILITYMAP_FORKNUM;

const noRelation = (): Fault => new Fault('relation-missing', 'invalid relation number 0 in request');

/** The client is to go elsewhere or has gone, or speaks another language: no more answers. */
function endsStream(error: unknown): boolean {
  if (error instanceof CopyEnded) return true;
  if (!isFault(error)) return false;
  const { code } = error;
  return (
    code === 'reconnect-requested' ||
    code === 'shutting-down' ||
    code === 'protocol-violation' ||
    code === 'connection-closed'
  );
}

async function blocksOf(served: ServedTimeline, rel: RelTag, lsn: number): Promise<number> {
  if (rel.relNumber === 0) throw noRelation();
  const size = await served.pgdata.relSize(rel, lsn);
  if (size !== undefined) return size;
  if (isMap(rel)) return 0;
  throw new Fault(
    'relation-missing',
    `relation ${rel.spcOid}/${rel.dbOid}/${rel.relNumber}, fork ${rel.forkNum}, does not exist`,
  );
}
