// What the routes of the API share: pages of lists, times and names in calls, answers that carry operations.

import { Fault } from '../../base/fault.ts';
import { type HttpAnswer, json, text } from '../../base/http.ts';
import {
  boolean,
  number,
  object,
  optional,
  queryBoolean,
  queryNumber,
  record,
  type Schema,
  string,
  textual,
} from '../../base/schema.ts';
import { operationJson } from './http-shapes.ts';
import type { SettingsInput } from './intents/endpoints.ts';
import { failureOf } from './intents/failure.ts';
import type { Manager } from './manager.ts';
import type { Operation } from './model.ts';

export const API = '/api/v2';
export const PROJECT = `${API}/projects/:project_id`;
export const BRANCH = `${PROJECT}/branches/:branch_id`;
export const ENDPOINT = `${PROJECT}/endpoints/:endpoint_id`;

export const timeSchema: Schema<number> = textual({ format: 'date-time' }, text => {
  const ms = Date.parse(text);
  if (Number.isFinite(ms)) return ms;
  throw new Fault('request-invalid', `not a time: "${text}"`, { hint: 'Give it as 2026-11-20T06:40:00Z.' });
});

export const settingsFields = {
  suspend_timeout_seconds: optional(number()),
  size: optional(number()),
  autoscaling_limit_max_cu: optional(number()),
  settings: optional(object({ pg_settings: optional(record(string())) })),
  pg_settings: optional(record(string())),
};
const settingsShape = object(settingsFields);
export const settingsSchema = settingsShape;

export function settingsInput(
  body: ReturnType<(typeof settingsShape)['parse']> | undefined,
): SettingsInput | undefined {
  if (!body) return undefined;
  return {
    suspendTimeoutSeconds: body.suspend_timeout_seconds,
    size: body.size ?? body.autoscaling_limit_max_cu,
    pgSettings: body.settings?.pg_settings ?? body.pg_settings,
  };
}

export const WAIT = { wait: optional(queryBoolean) };
export const PAGE = { limit: optional(queryNumber), cursor: optional(string()) };
export const flagSchema = boolean;

/** Neon's default and its most. */
const LIMIT = 100;
const LIMIT_MAX = 10_000;

/** A page of a list that is in a fixed order; the cursor is the id of the last one told. */
export function pageOf<T extends { readonly id: string }>(
  rows: readonly T[],
  query: { readonly limit?: number | undefined; readonly cursor?: string | undefined },
  otherwise = LIMIT,
): { page: readonly T[]; pagination: { cursor: string } | undefined } {
  const limit = query.limit ?? otherwise;
  if (limit < 1 || limit > LIMIT_MAX)
    throw new Fault('request-invalid', `limit is not from 1 to ${LIMIT_MAX}: ${limit}`);
  const after =
    query.cursor === undefined || query.cursor === '' ? -1 : rows.findIndex(row => row.id === query.cursor);
  if (after < 0 && query.cursor) {
    throw new Fault('request-invalid', 'the cursor points at nothing any more', {
      hint: 'Begin anew without one.',
    });
  }
  const page = rows.slice(after + 1, after + 1 + limit);
  const last = page.at(-1);
  return { page, pagination: last && after + 1 + limit < rows.length ? { cursor: last.id } : undefined };
}

/** A page of rows that are JSON texts already. */
export function listAnswer(
  name: string,
  texts: readonly string[],
  pagination: { cursor: string } | undefined,
): HttpAnswer {
  const rest = pagination === undefined ? '' : `,"pagination":${JSON.stringify(pagination)}`;
  return text(`{"${name}":[${texts.join(',')}]${rest}}`, 'application/json');
}

/** How long an answer waits for its operations by itself: most are over by then. */
const BRIEF_MS = 1000;

/**
 * Waits for operations, briefly or to their end, so that what is refused is refused in the answer. One that failed is
 * told as its Fault.
 */
export async function settled(
  manager: Manager,
  operations: readonly Operation[],
  wait: boolean | undefined,
): Promise<Operation[]> {
  const all = Promise.all(operations.map(operation => manager.finished(operation.id)));
  if (wait !== false && operations.length > 0) {
    const brief = new AbortController();
    const late = wait ? new Promise<never>(() => undefined) : manager.clock.sleep(BRIEF_MS, brief.signal);
    await Promise.race([all, late.catch(() => undefined)]);
    brief.abort(new Error('over'));
  }
  const now = operations.map(operation => manager.store.get('operations', operation.id) ?? operation);
  const failed = now.find(operation => operation.status === 'failed');
  if (failed) throw failureOf(failed);
  return now;
}

export const withOperations = (
  answer: Record<string, unknown>,
  operations: readonly Operation[],
  status = 200,
): HttpAnswer => json({ ...answer, operations: operations.map(operationJson) }, status);
