// The storage over its management APIs: pageservers one by one, the safekeepers all at once.
//
// Safekeepers keep a timeline from the first compute on; before that they have never heard of it (404), and its head is
// the pageserver's. The head of one they know is the largest commit LSN that any of them has heard of: a commit that was
// acknowledged is at or below it on at least one that answers, so a majority must.

import { utf8 } from '../../base/bytes.ts';
import { Fault, isFault } from '../../base/fault.ts';
import { answerText } from '../../base/http.ts';
import { formatLsn, type Lsn, parseLsn } from '../../base/lsn.ts';
import type { Clock, Http } from '../../base/ports.ts';
import { type SafekeeperAt, tooFew } from './drivers/driver.ts';
import type { Node } from './model.ts';
import type { LsnByTime, NewTimeline, Storage, TenantSettings, TimelineState } from './storage.ts';

export interface StorageOptions {
  readonly http: Http;
  readonly clock: Clock;
  readonly safekeepers: readonly SafekeeperAt[];
  readonly token?: string | undefined;
}

/** initdb on a busy machine. */
const CREATE_MS = 120_000;
const CALL_MS = 20_000;
const ALIVE_MS = 2000;
const POLL_MS = 20;
const DELETE_MS = 60_000;

interface Answer {
  readonly status: number;
  readonly text: string;
}

interface TimelineInfo {
  readonly ancestor_lsn: string | null;
  readonly last_record_lsn: string;
}

export class HttpStorage implements Storage {
  private readonly options: StorageOptions;

  constructor(options: StorageOptions) {
    this.options = options;
  }

  safekeepers(): readonly SafekeeperAt[] {
    return this.options.safekeepers;
  }

  private async call(method: string, url: string, body?: unknown, timeoutMs = CALL_MS): Promise<Answer> {
    const { http, token } = this.options;
    const reply = await http.request({
      method,
      url,
      timeoutMs,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      ...(body === undefined ? {} : { body: utf8(JSON.stringify(body)) }),
    });
    return { status: reply.status, text: await answerText(reply) };
  }

  private async page(
    node: Node,
    method: string,
    path: string,
    body?: unknown,
    timeoutMs?: number,
  ): Promise<Answer> {
    return this.call(method, `http://${node.httpHost}:${node.httpPort}/v1/${path}`, body, timeoutMs);
  }

  /** The answer's JSON, or a Fault that says what the pageserver said. */
  private async pageJson<T>(
    node: Node,
    method: string,
    path: string,
    body?: unknown,
    timeoutMs?: number,
  ): Promise<T> {
    const answer = await this.page(node, method, path, body, timeoutMs);
    if (answer.status >= 200 && answer.status <= 299) return parsed(answer.text) as T;
    throw refusal(`pageserver ${node.id}`, `${method} ${path}`, answer);
  }

  async alive(node: Node): Promise<boolean> {
    try {
      return (await this.page(node, 'GET', 'status', undefined, ALIVE_MS)).status === 200;
    } catch (error) {
      if (isFault(error)) return false;
      throw error;
    }
  }

  async attach(node: Node, tenantId: string, generation: number, settings: TenantSettings): Promise<void> {
    const location = {
      mode: 'AttachedSingle',
      generation,
      tenant_conf: { pitr_interval: `${settings.historyRetentionSeconds}s` },
    };
    await this.pageJson(node, 'PUT', `tenant/${tenantId}/location_config`, location);
  }

  async detach(node: Node, tenantId: string): Promise<void> {
    await this.pageJson(node, 'PUT', `tenant/${tenantId}/location_config`, {
      mode: 'Detached',
      tenant_conf: {},
    });
  }

  async createTimeline(node: Node, tenantId: string, timeline: NewTimeline): Promise<TimelineState> {
    const body =
      'ancestorId' in timeline
        ? {
            new_timeline_id: timeline.timelineId,
            ancestor_timeline_id: timeline.ancestorId,
            ...(timeline.lsn === undefined ? {} : { ancestor_start_lsn: timeline.lsn }),
          }
        : {
            new_timeline_id: timeline.timelineId,
            pg_version: timeline.pgVersion,
            ...(timeline.flavour === 'stock' ? { wal_flavour: 'stock' } : {}),
          };
    const path = `tenant/${tenantId}/timeline`;
    const answer = await this.page(node, 'POST', path, body, CREATE_MS);
    if (answer.status >= 200 && answer.status <= 299) return stateOf(parsed(answer.text) as TimelineInfo);
    const refused = refusal(`pageserver ${node.id}`, `POST ${path}`, answer);
    if (answer.status !== 404) throw refused;
    // The tenant is on its way there: it was moved, or the node begins.
    throw new Fault('upcall-failed', refused.message);
  }

  async timeline(node: Node, tenantId: string, timelineId: string): Promise<TimelineState | undefined> {
    const path = `tenant/${tenantId}/timeline/${timelineId}`;
    const answer = await this.page(node, 'GET', path);
    if (answer.status === 404) return undefined;
    if (answer.status !== 200) throw refusal(`pageserver ${node.id}`, `GET ${path}`, answer);
    return stateOf(parsed(answer.text) as TimelineInfo);
  }

  async deleteTimeline(node: Node, tenantId: string, timelineId: string): Promise<void> {
    await this.untilGone(node, 'DELETE', `tenant/${tenantId}/timeline/${timelineId}`, new Set([404]));
  }

  async deleteTenant(node: Node, tenantId: string): Promise<void> {
    await this.untilGone(node, 'DELETE', `tenant/${tenantId}`, new Set([200, 404]));
  }

  private async untilGone(
    node: Node,
    method: string,
    path: string,
    gone: ReadonlySet<number>,
  ): Promise<void> {
    const { clock } = this.options;
    const end = clock.monotonic() + DELETE_MS;
    for (;;) {
      const answer = await this.page(node, method, path, undefined, DELETE_MS);
      if (gone.has(answer.status)) return;
      const again = answer.status < 300 || answer.status === 409 || answer.status === 503;
      if (!again || clock.monotonic() > end)
        throw refusal(`pageserver ${node.id}`, `${method} ${path}`, answer);
      await clock.sleep(POLL_MS);
    }
  }

  async lsnByTime(node: Node, tenantId: string, timelineId: string, atMs: number): Promise<LsnByTime> {
    const timestamp = encodeURIComponent(new Date(atMs).toISOString());
    const path = `tenant/${tenantId}/timeline/${timelineId}/get_lsn_by_timestamp?timestamp=${timestamp}&with_lease=true`;
    return this.pageJson<LsnByTime>(node, 'GET', path);
  }

  async lease(node: Node, tenantId: string, timelineId: string, lsn: string): Promise<number> {
    const path = `tenant/${tenantId}/timeline/${timelineId}/lsn_lease`;
    const { valid_until: until } = await this.pageJson<{ valid_until: string }>(node, 'POST', path, { lsn });
    return Date.parse(until);
  }

  async commitLsn(tenantId: string, timelineId: string): Promise<string | undefined> {
    const { safekeepers } = this.options;
    if (safekeepers.length === 0) return undefined;
    const path = `tenant/${tenantId}/timeline/${timelineId}`;
    const told = await this.eachSafekeeper(async url => {
      const answer = await this.call('GET', `${url}/v1/${path}`);
      if (answer.status === 404) return 0;
      if (answer.status !== 200) throw refusal(url, `GET ${path}`, answer);
      return parseLsn((parsed(answer.text) as { commit_lsn: string }).commit_lsn);
    });
    const answers = told.flatMap(one => (one.status === 'fulfilled' ? [one.value] : []));
    if (answers.length <= safekeepers.length / 2) throw tooFew(answers.length, safekeepers.length, told);
    const head = Math.max(...answers);
    return head === 0 ? undefined : formatLsn(head as Lsn);
  }

  async deleteWal(tenantId: string, timelineId: string | undefined): Promise<void> {
    const path =
      timelineId === undefined ? `tenant/${tenantId}` : `tenant/${tenantId}/timeline/${timelineId}`;
    const told = await this.eachSafekeeper(async url => {
      const answer = await this.call('DELETE', `${url}/v1/${path}`, undefined, DELETE_MS);
      if (answer.status !== 404 && answer.status > 299) throw refusal(url, `DELETE ${path}`, answer);
    });
    const failed = told.find(one => one.status === 'rejected');
    if (failed) throw failed.reason;
  }

  private eachSafekeeper<T>(work: (url: string) => Promise<T>): Promise<PromiseSettledResult<T>[]> {
    const { safekeepers } = this.options;
    return Promise.allSettled(safekeepers.map(({ host, httpPort }) => work(`http://${host}:${httpPort}`)));
  }
}

const stateOf = (info: TimelineInfo): TimelineState => ({
  ancestorLsn: info.ancestor_lsn ?? undefined,
  lastRecordLsn: info.last_record_lsn,
});

const parsed = (text: string): unknown => (text === '' ? undefined : JSON.parse(text));

/** What a service answered, as a Fault of the kind that says whether to try again. */
function refusal(who: string, what: string, { status, text }: Answer): Fault {
  let said = text.slice(0, 500);
  let hint: string | undefined;
  try {
    const trouble = JSON.parse(text) as { msg?: string; hint?: string };
    said = trouble.msg ?? said;
    hint = trouble.hint;
  } catch {
    // Not JSON: as it is.
  }
  // One that says what to do is understood without what was asked of whom.
  const message = hint === undefined ? `${who} answers ${status} to ${what}: ${said}` : said;
  const options = hint === undefined ? {} : { hint };
  if (status === 403) return new Fault('key-revoked', message, options);
  if (status === 406) return new Fault('branch-lsn-invalid', said, options);
  const passing = status === 409 || status === 412 || status === 429 || status >= 500;
  return new Fault(passing ? 'upcall-failed' : 'pageserver-refused', message, options);
}
