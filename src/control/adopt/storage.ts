// The storage as adoption and checkout use it: a few calls of the pageserver's management API, repeated while it
// starts, is busy or restarts.
//
// Answers to pageserver/src/http/openapi_spec.yml.

import { utf8 } from '../../base/bytes.ts';
import { Fault, isFault } from '../../base/fault.ts';
import { answerText } from '../../base/http.ts';
import { type Lsn, parseLsn } from '../../base/lsn.ts';
import type { HttpCall } from '../../base/ports.ts';
import type { AdoptWorld, StorageAt } from './contract.ts';

const CALL_MS = 60_000;
/** Longer than any import: setTimeout's limit. */
const IMPORT_MS = 2 ** 31 - 1;
const POLL_MS = 20;
const RETRY_MS = 200;
const RETRY_FOR_MS = 60_000;
/** Not now: starting, busy with the same timeline, overloaded. */
const NOT_NOW: ReadonlySet<number> = new Set([429, 503]);

export interface TimelineInfo {
  readonly lastRecordLsn: Lsn;
  readonly pgVersion: number;
  /** Bytes of all relations; 0 while it is not known. */
  readonly logicalSize: number;
}

export type StorageWorld = Pick<AdoptWorld, 'clock' | 'http' | 'signal'>;

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

type Call = Pick<HttpCall, 'method' | 'body' | 'stream' | 'timeoutMs'> & { readonly path: string };

export class Pageserver {
  private readonly storage: StorageAt;
  private readonly world: StorageWorld;

  constructor(storage: StorageAt, world: StorageWorld) {
    this.storage = storage;
    this.world = world;
  }

  private async once({ path, ...call }: Call): Promise<Answer> {
    const { pageserverHttp, token } = this.storage;
    const { http, signal } = this.world;
    const reply = await http.request({
      timeoutMs: CALL_MS,
      ...call,
      url: `${pageserverHttp.replace(/\/+$/, '')}/v1/${path}`,
      signal,
      headers: {
        ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
    });
    const text = await answerText(reply);
    return { status: reply.status, body: parse(text) };
  }

  /** Until it answers for good; a stream cannot be sent twice, so not with one. */
  private async call(method: string, path: string, body?: unknown): Promise<Answer> {
    const { clock, signal } = this.world;
    const end = clock.monotonic() + RETRY_FOR_MS;
    const call = { method, path, ...(body === undefined ? {} : { body: utf8(JSON.stringify(body)) }) };
    for (;;) {
      try {
        const answer = await this.once(call);
        if (!NOT_NOW.has(answer.status) || clock.monotonic() > end) return answer;
      } catch (error) {
        signal.throwIfAborted();
        if (!isFault(error) || error.kind !== 'unavailable') throw error;
        if (clock.monotonic() > end) throw this.silent(error);
      }
      await clock.sleep(RETRY_MS, signal);
    }
  }

  private silent(cause: Fault): Fault {
    return new Fault('connection-failed', `the pageserver does not answer: ${cause.message}`, {
      hint: 'Is it running? On one machine: lakebed start.',
      cause,
    });
  }

  private refused({ status, body }: Answer, what: string): Fault {
    const said = (body as { msg?: string } | undefined)?.msg ?? String(body ?? '');
    const hint = status === 401 || status === 403 ? { hint: 'Give a token in NEON_AUTH_TOKEN.' } : {};
    return new Fault('pageserver-refused', `the pageserver answers ${status} to ${what}: ${said}`, hint);
  }

  private async need<T>(method: string, path: string, what: string, body?: unknown): Promise<T> {
    const answer = await this.call(method, path, body);
    if (answer.status >= 200 && answer.status < 300) return answer.body as T;
    throw this.refused(answer, what);
  }

  private path(timeline: string): string {
    return `tenant/${this.storage.tenant}/timeline/${timeline}`;
  }

  /** Whether it answers now: one sentence instead of a minute of trying. */
  async check(): Promise<void> {
    try {
      await this.once({ method: 'GET', path: 'status' });
    } catch (error) {
      throw isFault(error) ? this.silent(error) : error;
    }
  }

  /** Attached, with everything at its default if it was not there. */
  async ensureTenant(): Promise<void> {
    const { tenant } = this.storage;
    const there = await this.need<{ id: string }[]>('GET', 'tenant', 'the list of tenants');
    if (there.some(t => t.id === tenant)) return;
    const location = { mode: 'AttachedSingle', generation: 1, tenant_conf: {} };
    await this.need('PUT', `tenant/${tenant}/location_config`, 'attaching the tenant', location);
  }

  /** Undefined when there is no such timeline. */
  async timeline(id: string): Promise<TimelineInfo | undefined> {
    const answer = await this.call('GET', this.path(id));
    if (answer.status === 404) return undefined;
    if (answer.status !== 200) throw this.refused(answer, 'the state of the timeline');
    const { last_record_lsn, pg_version, current_logical_size } = answer.body as Record<string, unknown>;
    return {
      lastRecordLsn: parseLsn(String(last_record_lsn)),
      pgVersion: Number(pg_version),
      logicalSize: Number(current_logical_size ?? 0),
    };
  }

  /** Waits until the pageserver has read so far, however long that takes; where it is then. */
  async untilRead(id: string, lsn: Lsn, signal: AbortSignal): Promise<Lsn> {
    for (;;) {
      const info = await this.timeline(id);
      if (info === undefined) throw new Fault('timeline-missing', `timeline ${id} is not there any more`);
      if (info.lastRecordLsn >= lsn) return info.lastRecordLsn;
      await this.world.clock.sleep(POLL_MS, signal);
    }
  }

  /** A tar of a data directory becomes a timeline. */
  async importBackup(
    id: string,
    { major, flavour }: { major: number; flavour: 'neon' | 'stock' },
    stream: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const path = `${this.path(id)}/import_basebackup?pg_version=${major}&wal_flavour=${flavour}`;
    const answer = await this.once({ method: 'PUT', path, stream, timeoutMs: IMPORT_MS });
    if (answer.status >= 200 && answer.status < 300) return;
    if (NOT_NOW.has(answer.status))
      throw new Fault('timeline-busy', this.refused(answer, 'the import').message);
    throw this.refused(answer, 'the import');
  }

  /** The newest LSN at which nothing later than the time was committed. */
  async lsnAt(timeline: string, time: string): Promise<{ lsn: Lsn; kind: string }> {
    const query = new URLSearchParams({ timestamp: time, with_lease: 'true' });
    const path = `${this.path(timeline)}/get_lsn_by_timestamp?${query}`;
    const { lsn, kind } = await this.need<{ lsn: string; kind: string }>('GET', path, `the LSN of ${time}`);
    return { lsn: parseLsn(lsn), kind };
  }

  /** The tenant's timelines, by id. */
  async timelines(): Promise<string[]> {
    const path = `tenant/${this.storage.tenant}/timeline`;
    const all = await this.need<{ timeline_id: string }[]>('GET', path, 'the list of timelines');
    return all.map(t => t.timeline_id);
  }
}

function parse(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return text;
  }
}
