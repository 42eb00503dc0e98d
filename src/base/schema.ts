// Shapes of JSON values: one description that checks what came in, gives it a type, and draws itself as JSON
// Schema for OpenAPI. Unknown fields of an object are let through unread (Neon's services grow new ones), unless
// the object is strict.
//
//   const body = object({ tenant_id: tenantIdSchema, term: optional(nullable(integer())) })
//   type Body = Infer<typeof body>

import { Fault } from './fault.ts';
import { type TenantId, type TimelineId, tenantId, timelineId } from './ids.ts';
import { formatLsn, type Lsn, parseLsn } from './lsn.ts';

export type JsonSchema = Readonly<Record<string, unknown>>;

export interface Schema<T> {
  readonly json: JsonSchema;
  /** May be left out of an object. */
  readonly absent?: true;
  /** The value, checked; `at` names its place for the message. */
  parse(value: unknown, at: string): T;
}

export type Infer<S> = S extends Schema<infer T> ? T : never;

const wrong = (at: string, wanted: string, value: unknown): Fault =>
  new Fault('config-invalid', `${at} is not ${wanted}: ${shown(value)}`);

function shown(value: unknown): string {
  if (value === undefined) return 'it is missing';
  const text = typeof value === 'bigint' ? value.toString() : (JSON.stringify(value) ?? typeof value);
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

export function string(about?: string): Schema<string> {
  return {
    json: { type: 'string', ...(about ? { description: about } : {}) },
    parse: (value, at) => {
      if (typeof value !== 'string') throw wrong(at, 'text', value);
      return value;
    },
  };
}

export function integer(min = 0, max = Number.MAX_SAFE_INTEGER): Schema<number> {
  return {
    json: { type: 'integer', minimum: min, maximum: max },
    parse: (value, at) => {
      if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) {
        throw wrong(at, `a whole number from ${min} to ${max}`, value);
      }
      return value as number;
    },
  };
}

export const u8 = (): Schema<number> => integer(0, 0xff);
export const u16 = (): Schema<number> => integer(0, 0xffff);
export const u32 = (): Schema<number> => integer(0, 0xffffffff);

const U64_MAX = (1n << 64n) - 1n;

/** A whole u64; read it with `parseJson`. */
export function u64(): Schema<bigint> {
  return {
    json: { type: 'integer', minimum: 0 },
    parse: (value, at) => {
      const number = Number.isSafeInteger(value) ? BigInt(value as number) : value;
      if (typeof number !== 'bigint' || number < 0n || number > U64_MAX) throw wrong(at, 'a u64', value);
      return number;
    },
  };
}

export function number(): Schema<number> {
  return {
    json: { type: 'number' },
    parse: (value, at) => {
      if (typeof value !== 'number') throw wrong(at, 'a number', value);
      return value;
    },
  };
}

export function boolean(): Schema<boolean> {
  return {
    json: { type: 'boolean' },
    parse: (value, at) => {
      if (typeof value !== 'boolean') throw wrong(at, 'true or false', value);
      return value;
    },
  };
}

export function oneOf<const T extends readonly string[]>(...words: T): Schema<T[number]> {
  return {
    json: { type: 'string', enum: words },
    parse: (value, at) => {
      if (!words.includes(value as string)) throw wrong(at, `one of ${words.join(', ')}`, value);
      return value as T[number];
    },
  };
}

export function array<T>(item: Schema<T>): Schema<T[]> {
  return {
    json: { type: 'array', items: item.json },
    parse: (value, at) => {
      if (!Array.isArray(value)) throw wrong(at, 'a list', value);
      return value.map((v, i) => item.parse(v, `${at}[${i}]`));
    },
  };
}

export function record<T>(item: Schema<T>): Schema<Record<string, T>> {
  return {
    json: { type: 'object', additionalProperties: item.json },
    parse: (value, at) => {
      if (!isObject(value)) throw wrong(at, 'an object', value);
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, item.parse(v, `${at}.${k}`)]));
    },
  };
}

export function nullable<T>(of: Schema<T>): Schema<T | null> {
  return {
    json: { anyOf: [of.json, { type: 'null' }] },
    parse: (value, at) => (value === null ? null : of.parse(value, at)),
  };
}

/** The field may be missing. */
export function optional<T>(of: Schema<T>): Schema<T | undefined> & { readonly absent: true } {
  return {
    json: of.json,
    absent: true,
    parse: (value, at) => (value === undefined ? undefined : of.parse(value, at)),
  };
}

/** Any JSON at all. */
export function anything(about?: string): Schema<unknown> {
  return { json: about ? { description: about } : {}, parse: value => value };
}

export type Fields = Readonly<Record<string, Schema<unknown>>>;

type Known<F extends Fields> = { [K in keyof F as F[K] extends { absent: true } ? never : K]: Infer<F[K]> };
type Maybe<F extends Fields> = { [K in keyof F as F[K] extends { absent: true } ? K : never]?: Infer<F[K]> };
export type InferFields<F extends Fields> = Known<F> & Maybe<F>;

export function object<F extends Fields>(
  fields: F,
  options: { strict?: boolean } = {},
): Schema<InferFields<F>> {
  const required = Object.keys(fields).filter(name => !fields[name]!.absent);
  return {
    json: {
      type: 'object',
      properties: Object.fromEntries(Object.entries(fields).map(([name, s]) => [name, s.json])),
      ...(required.length > 0 ? { required } : {}),
      ...(options.strict ? { additionalProperties: false } : {}),
    },
    parse: (value, at) => {
      if (!isObject(value)) throw wrong(at, 'an object', value);
      const found: Record<string, unknown> = {};
      for (const [name, schema] of Object.entries(fields)) {
        const parsed = schema.parse(value[name], `${at}.${name}`);
        if (parsed !== undefined) found[name] = parsed;
      }
      if (options.strict) refuseUnknown(value, fields, at);
      return found as InferFields<F>;
    },
  };
}

function refuseUnknown(value: Record<string, unknown>, fields: Fields, at: string): void {
  const extra = Object.keys(value).find(name => !Object.hasOwn(fields, name));
  if (extra !== undefined) {
    throw new Fault('config-invalid', `${at} has a field that is not known: ${extra}`, {
      hint: `Known are: ${Object.keys(fields).join(', ')}.`,
    });
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Text that another function parses, with its own errors. */
export function textual<T>(json: JsonSchema, parse: (text: string) => T): Schema<T> {
  return {
    json: { type: 'string', ...json },
    parse: (value, at) => {
      if (typeof value !== 'string') throw wrong(at, 'text', value);
      return parse(value);
    },
  };
}

/** A schema's complaint with its place in front, where it does not have it already. */
export function parseAt<T>(schema: Schema<T>, value: unknown, where: string): T {
  try {
    return schema.parse(value, where);
  } catch (error) {
    if (!(error instanceof Fault) || error.message.startsWith(where)) throw error;
    const hint = error.hint ? { hint: error.hint } : {};
    throw new Fault('config-invalid', `${where}: ${error.message}`, { ...hint, cause: error });
  }
}

const HEX_ID = { pattern: '^[0-9a-fA-F]{32}$' };
export const tenantIdSchema: Schema<TenantId> = textual({ ...HEX_ID, title: 'TenantId' }, tenantId);
export const timelineIdSchema: Schema<TimelineId> = textual({ ...HEX_ID, title: 'TimelineId' }, timelineId);
export const lsnSchema: Schema<Lsn> = textual({ title: 'Lsn', examples: [formatLsn(0x16b3748)] }, parseLsn);
/** Of a query string: numbers and booleans travel as text there. */
export const queryBoolean: Schema<boolean> = textual({ enum: ['true', 'false'] }, text => {
  if (text === 'true' || text === '') return true;
  if (text === 'false') return false;
  throw wrong('the value', 'true or false', text);
});
export const queryNumber: Schema<number> = textual({ pattern: '^[0-9]+$' }, text => {
  if (!/^\d+$/.test(text)) throw wrong('the value', 'a whole number', text);
  return Number(text);
});
