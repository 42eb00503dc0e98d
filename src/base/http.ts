// HTTP as data: a route says its method, path, who may call it, what it takes and what it answers; the service's
// table of routes is what the server serves, what /openapi.json shows, and what a test or the simulator can call
// without a socket (`HttpApi.dispatch`).
//
// Paths are literal segments and `:names`; a trailing slash is let pass. A GET may carry a body (Neon's clients
// send `null`): it is dropped. Trouble is answered as {"msg":"...","hint":"..."} with the status of its kind.

import { EMPTY_BYTES, fromUtf8, utf8 } from './bytes.ts';
import { Fault, httpStatus } from './fault.ts';
import { parseJson, toJson } from './json.ts';
import type { HttpReply } from './ports.ts';
import type { Fields, InferFields, Schema } from './schema.ts';

export interface HttpRequest {
  readonly method: string;
  /** As sent, without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: AsyncIterable<Uint8Array>;
  readonly peer: string;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: Uint8Array | AsyncIterable<Uint8Array>;
}

/** What a handler is given: everything parsed and checked. */
export interface Call<P, Q, B> {
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  readonly request: HttpRequest;
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly summary: string;
  /** Who may call: a word of the service's own, such as `open`, `tenant`, `node`. */
  readonly access: string;
  readonly params: Fields;
  readonly query: Fields;
  readonly body: Schema<unknown> | undefined;
  /** The body is not JSON and goes to the handler as a stream. */
  readonly streamsBody: boolean;
  readonly answer: Schema<unknown> | undefined;
  readonly answerType: string;
  handle(call: Call<never, never, never>): Promise<HttpAnswer> | HttpAnswer;
}

interface RouteShape<P extends Fields, Q extends Fields, B> {
  readonly method: Route['method'];
  readonly path: string;
  readonly summary: string;
  readonly access: string;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: Schema<B>;
  readonly streamsBody?: boolean;
  /** The shape of a 200, for the document. */
  readonly answer?: Schema<unknown>;
  readonly answerType?: string;
  handle(call: Call<InferFields<P>, InferFields<Q>, B>): Promise<HttpAnswer> | HttpAnswer;
}

export function route<
  P extends Fields = Record<never, never>,
  Q extends Fields = Record<never, never>,
  B = undefined,
>(shape: RouteShape<P, Q, B>): Route {
  return {
    params: {},
    query: {},
    body: undefined,
    streamsBody: false,
    answer: undefined,
    answerType: 'application/json',
    ...shape,
  } as unknown as Route;
}

const JSON_TYPE = { 'content-type': 'application/json' };

export const json = (
  value: unknown,
  status = 200,
  headers: Readonly<Record<string, string>> = {},
): HttpAnswer => ({
  status,
  headers: { ...JSON_TYPE, ...headers },
  body: utf8(toJson(value)),
});

export const text = (value: string, type = 'text/plain; charset=utf-8', status = 200): HttpAnswer => ({
  status,
  headers: { 'content-type': type },
  body: utf8(value),
});

export const stream = (body: AsyncIterable<Uint8Array>, type = 'application/octet-stream'): HttpAnswer => ({
  status: 200,
  headers: { 'content-type': type },
  body,
});

/** For the few answers whose status is not that of a Fault's kind. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export function statusOf(error: unknown): number {
  if (error instanceof StatusError) return error.status;
  if (error instanceof Fault) return error.code === 'token-invalid' ? 401 : httpStatus(error);
  return 500;
}

export function errorAnswer(error: unknown, status = statusOf(error)): HttpAnswer {
  const msg = error instanceof Error ? error.message : String(error);
  const hint = error instanceof Fault ? error.hint : undefined;
  return json(hint ? { msg, hint } : { msg }, status, status === 401 ? { 'www-authenticate': 'Bearer' } : {});
}

export interface ApiOptions {
  readonly title: string;
  readonly version: string;
  /** Throws when the caller may not; called before anything is looked up. */
  authorize(route: Route, params: Readonly<Record<string, unknown>>, request: HttpRequest): Promise<void>;
  /** The service's own reading of an error; undefined leaves it to the Fault's kind. */
  readonly status?: (error: unknown) => number | undefined;
  /** Told of answers of 500 and above. */
  readonly onTrouble?: (error: unknown, request: HttpRequest) => void;
  /** Every answer carries these. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** A JSON body longer than this is refused. */
const JSON_BYTES_MAX = 8 * 1024 * 1024;

interface Node {
  readonly literals: Map<string, Node>;
  parameter: { name: string; node: Node } | undefined;
  readonly routes: Map<string, { route: Route; names: readonly string[] }>;
}

const node = (): Node => ({ literals: new Map(), parameter: undefined, routes: new Map() });

export class HttpApi {
  readonly routes: readonly Route[];
  readonly options: ApiOptions;
  private readonly root = node();

  constructor(routes: readonly Route[], options: ApiOptions) {
    this.routes = routes;
    this.options = options;
    for (const route of routes) this.add(route);
  }

  private add(route: Route): void {
    let at = this.root;
    const names: string[] = [];
    for (const segment of segmentsOf(route.path)) {
      if (segment.startsWith(':')) {
        names.push(segment.slice(1));
        at.parameter ??= { name: segment.slice(1), node: node() };
        at = at.parameter.node;
      } else {
        let next = at.literals.get(segment);
        if (!next) at.literals.set(segment, (next = node()));
        at = next;
      }
    }
    if (at.routes.has(route.method)) throw new Error(`${route.method} ${route.path} is there twice`);
    at.routes.set(route.method, { route, names });
  }

  /** Never throws: trouble is an answer, too. */
  async dispatch(request: HttpRequest): Promise<HttpAnswer> {
    let answer: HttpAnswer;
    try {
      answer = await this.handle(request);
    } catch (error) {
      const status = this.options.status?.(error) ?? statusOf(error);
      if (status >= 500) this.options.onTrouble?.(error, request);
      answer = errorAnswer(error, status);
    }
    const { headers } = this.options;
    return headers ? { ...answer, headers: { ...headers, ...answer.headers } } : answer;
  }

  private async handle(request: HttpRequest): Promise<HttpAnswer> {
    const { route, raw } = this.find(request.method, request.path);
    const params = parseFields(route.params, raw, 'path');
    await this.options.authorize(route, params, request);
    const query = parseFields(route.query, Object.fromEntries(request.query), 'query');
    const body = await readBody(route, request);
    return route.handle({ params: params as never, query: query as never, body: body as never, request });
  }

  private find(method: string, path: string): { route: Route; raw: Record<string, string> } {
    const values: string[] = [];
    const end = walk(this.root, segmentsOf(path), 0, values);
    if (!end) throw new StatusError(404, 'page not found');
    const found = end.routes.get(method) ?? (method === 'HEAD' ? end.routes.get('GET') : undefined);
    if (!found)
      throw new StatusError(405, `${method} is not for this path; try ${[...end.routes.keys()].join(', ')}`);
    return { route: found.route, raw: Object.fromEntries(found.names.map((n, i) => [n, values[i]!])) };
  }
}

const segmentsOf = (path: string): string[] => path.split('/').filter(segment => segment !== '');

function walk(at: Node, segments: readonly string[], index: number, values: string[]): Node | undefined {
  const segment = segments[index];
  if (segment === undefined) return at.routes.size > 0 ? at : undefined;
  const literal = at.literals.get(segment);
  const found = literal && walk(literal, segments, index + 1, values);
  if (found || !at.parameter) return found;
  values.push(decode(segment));
  const end = walk(at.parameter.node, segments, index + 1, values);
  if (!end) values.pop();
  return end;
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new StatusError(400, `the path cannot be decoded at ${segment}`);
  }
}

function parseFields(fields: Fields, raw: Record<string, unknown>, where: string): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [name, schema] of Object.entries(fields)) {
    const value = schema.parse(raw[name], `${where} ${name}`);
    if (value !== undefined) found[name] = value;
  }
  return found;
}

async function readBody(route: Route, request: HttpRequest): Promise<unknown> {
  if (!route.body || route.streamsBody) return undefined;
  const bytes = await collect(request.body, JSON_BYTES_MAX);
  let value: unknown;
  try {
    value = bytes.length === 0 ? undefined : parseJson(fromUtf8(bytes));
  } catch (error) {
    throw new StatusError(400, `the body is not JSON: ${(error as Error).message}`);
  }
  return route.body.parse(value, 'body');
}

/** All of a body, of at most this many bytes; a longer one is a client's mistake unless told otherwise. */
export async function collect(
  body: AsyncIterable<Uint8Array>,
  bytesMax: number,
  tooLong = (message: string): Error => new StatusError(413, message),
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of body) {
    length += piece.length;
    if (length > bytesMax) throw tooLong(`the body is longer than ${bytesMax} bytes`);
    pieces.push(piece);
  }
  return pieces.length === 0 ? EMPTY_BYTES : Buffer.concat(pieces);
}

/** Far more than any of our services answers. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

/** What another service answered, as text. */
export async function answerText(reply: HttpReply, bytesMax = ANSWER_BYTES_MAX): Promise<string> {
  const tooLong = (message: string): Error => new Fault('server-error', message);
  return fromUtf8(await collect(reply.body, bytesMax, tooLong));
}
