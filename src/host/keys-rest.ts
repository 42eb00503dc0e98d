// What the key services spoken to by REST share: one JSON call with a bearer token and a time limit, and the
// optional packages that find the token.
//
// The packages are asked for by name when a tenant's key needs one, so that nobody installs a cloud's libraries
// who does not use that cloud.

import { createRequire } from 'node:module';
import { KeyFault } from '../base/key-fault.ts';

const REQUEST_MS = 8_000;

export interface RestAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly requestId: string | undefined;
}

export interface RestCall {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly token: string;
  readonly body?: Readonly<Record<string, unknown>>;
  /** The header that names the request. */
  readonly requestHeader: string;
}

/** Any status is an answer; none is a KeyFault. */
export async function restCall(call: RestCall): Promise<RestAnswer> {
  try {
    const answer = await fetch(call.url, {
      method: call.method,
      headers: { authorization: `Bearer ${call.token}`, 'content-type': 'application/json' },
      ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
      redirect: 'error', // the token is for this host
      signal: AbortSignal.timeout(REQUEST_MS),
    });
    const text = await answer.text();
    const requestId = answer.headers.get(call.requestHeader) ?? undefined;
    return { status: answer.status, body: parse(text), requestId };
  } catch (error) {
    const cause = (error as Error).cause ?? error;
    throw new KeyFault('key-unavailable', `${call.url}: ${(cause as Error).message}`, {
      cause: error,
      hint: 'Check the network to the key service.',
    });
  }
}

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** A field that must be text. */
export function textField(answer: RestAnswer, name: string, what: string): string {
  const value = answer.body[name];
  if (typeof value === 'string') return value;
  throw new KeyFault('key-unavailable', `${what} answered without "${name}"`, {
    requestId: answer.requestId,
  });
}

const require = createRequire(import.meta.url);

/** A package that is there only where somebody installed it. */
export function optionalPackage(name: string, why: string): Readonly<Record<string, unknown>> {
  try {
    return require(name) as Record<string, unknown>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    throw new KeyFault('key-unavailable', `${why} needs the package ${name}, which is not installed`, {
      cause: error,
      hint: `Run: npm install ${name}`,
    });
  }
}

/** A token from one of them; whatever goes wrong on the way is our trouble, not the key's. */
export async function tokenOf(why: string, find: () => Promise<string | undefined>): Promise<string> {
  try {
    const token = await find();
    if (token) return token;
    throw new Error('no token came');
  } catch (error) {
    if (error instanceof KeyFault) throw error;
    throw new KeyFault('key-unavailable', `${why} has no credentials: ${(error as Error).message}`, {
      cause: error,
      hint: 'Set up the credentials of the identity this service runs as.',
    });
  }
}
