// HTTP, served and called. The server is node:http with a service's table of routes behind it (base/http.ts): the
// table is data that also makes the OpenAPI document and can be called without a socket, which is all that a
// framework would add, so there is none. Limits: a request's head within 15 s, an idle connection for 75 s, heads of
// 16 KiB, this many connections at once; a body may take as long as it comes (an import takes hours), and one that
// stops coming while we wait for it is cut after 5 minutes.
//
// Bodies stream with back pressure, both ways. What a handler leaves unread of a body (Neon's clients send one with
// GET) is read and dropped, so that the connection can be used again.

import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  request as plainRequest,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createSecureServer, request as secureRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { Fault } from '../base/fault.ts';
import type { HttpAnswer, HttpApi, HttpRequest } from '../base/http.ts';
import type { Http, HttpCall, HttpReply, Listener } from '../base/ports.ts';
import { cutSlowHandshakes, type ReloadingCertificate } from './tls.ts';

const LIMITS = {
  headersTimeout: 15_000,
  requestTimeout: 0,
  keepAliveTimeout: 75_000,
  connectionsCheckingInterval: 5_000,
  maxHeaderSize: 16 * 1024,
} as const;
const CONNECTIONS_MAX = 10_000;
/** A body that does not go on for so long, though it is waited for. */
const BODY_SILENCE_MS = 300_000;
/** What is left of a body after the answer; more than this and the connection is closed instead. */
const DRAIN_BYTES_MAX = 1024 * 1024;

export interface HttpListenOptions {
  readonly host: string;
  readonly port: number;
  readonly tls?: ReloadingCertificate;
}

export async function listenHttp(api: HttpApi, options: HttpListenOptions): Promise<Listener> {
  const server = makeServer(api, options.tls);
  return listenOn(server, options);
}

/** A server that is not listening: for ports that sniff what they carry. */
export function makeServer(api: HttpApi, tls?: ReloadingCertificate): Server {
  const handler = (req: IncomingMessage, res: ServerResponse): void => void serve(api, req, res);
  const server = tls
    ? createSecureServer({ ...LIMITS, ...tls.pem, minVersion: 'TLSv1.2' }, handler)
    : createServer(LIMITS, handler);
  if (tls) {
    const secure = server as ReturnType<typeof createSecureServer>;
    cutSlowHandshakes(secure);
    tls.onChange(pem => secure.setSecureContext(pem));
  }
  server.maxConnections = CONNECTIONS_MAX;
  server.on('clientError', (_, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    else socket.destroy();
  });
  return server;
}

function listenOn(server: Server, address: { host: string; port: number }): Promise<Listener> {
  return new Promise((resolve, reject) => {
    server.once('error', error =>
      reject(
        new Fault(
          'connection-failed',
          `cannot serve HTTP on ${address.host}:${address.port}: ${error.message}`,
          {
            hint: 'Is another process using this address?',
            cause: error,
          },
        ),
      ),
    );
    server.listen({ host: address.host, port: address.port }, () => {
      const bound = server.address() as AddressInfo;
      resolve({
        host: address.host,
        port: bound.port,
        close: () =>
          new Promise<void>(done => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      });
    });
  });
}

async function serve(api: HttpApi, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const gone = new AbortController();
  res.on('close', () => {
    if (!res.writableFinished) gone.abort(new Fault('connection-closed', 'the client went away'));
  });
  req.on('error', () => {});
  res.on('error', () => {});
  cutWhenSilent(req);
  const answer = await api.dispatch(requestOf(req, gone.signal));
  try {
    await send(answer, req, res);
  } catch {
    // The answer had begun: all that is left is to cut the connection, which the client can tell from an end.
    res.destroy();
  }
}

function cutWhenSilent(req: IncomingMessage): void {
  const { headers, socket } = req;
  if (headers['content-length'] === undefined && headers['transfer-encoding'] === undefined) return;
  let before = -1;
  const timer = setInterval(() => {
    const isWaitingForUs = req.readableLength > 0;
    if (!req.complete && !isWaitingForUs && socket.bytesRead === before) req.destroy();
    before = socket.bytesRead;
  }, BODY_SILENCE_MS).unref();
  req.once('close', () => clearInterval(timer));
}

function requestOf(req: IncomingMessage, signal: AbortSignal): HttpRequest {
  const url = req.url ?? '/';
  const mark = url.indexOf('?');
  return {
    method: req.method ?? 'GET',
    path: mark < 0 ? url : url.slice(0, mark),
    query: new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)),
    headers: req.headers as Record<string, string | undefined>,
    body: req,
    peer: `${req.socket.remoteAddress ?? '?'}:${req.socket.remotePort ?? 0}`,
    signal,
  };
}

async function send(answer: HttpAnswer, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const { body } = answer;
  const whole = body instanceof Uint8Array;
  res.writeHead(answer.status, { ...answer.headers, ...(whole ? { 'content-length': body.length } : {}) });
  if (req.method === 'HEAD') {
    res.end();
  } else if (whole) {
    res.end(body);
  } else {
    for await (const piece of body) {
      if (!res.write(piece)) await drained(res);
    }
    res.end();
  }
  drain(req);
}

function drained(res: ServerResponse): Promise<void> {
  return new Promise((resolve, reject) => {
    const onDrain = (): void => {
      res.off('close', onClose);
      resolve();
    };
    const onClose = (): void => {
      res.off('drain', onDrain);
      reject(new Fault('connection-closed', 'the client went away'));
    };
    res.once('drain', onDrain);
    res.once('close', onClose);
  });
}

/** Read what is left of a request's body, unless it is too much. */
function drain(req: IncomingMessage): void {
  if (req.complete) return;
  let left = DRAIN_BYTES_MAX;
  req.on('data', (piece: Buffer) => {
    left -= piece.length;
    if (left < 0) req.destroy();
  });
  req.resume();
}

export interface HttpClientOptions {
  /** PEM certificates to trust beside the system's. */
  readonly ca?: string;
}

const CONNECT_MS = 10_000;

export function hostHttp(options: HttpClientOptions = {}): Http {
  return { request: call => request(call, options) };
}

function request(call: HttpCall, options: HttpClientOptions): Promise<HttpReply> {
  const { signal } = call;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const start = call.url.startsWith('https:') ? secureRequest : plainRequest;
    const timeoutMs = call.timeoutMs ?? CONNECT_MS;
    const req = start(call.url, {
      method: call.method,
      headers: { ...call.headers, ...(call.body ? { 'content-length': call.body.length } : {}) },
      ...(options.ca && call.url.startsWith('https:') ? { ca: options.ca } : {}),
    });
    const abort = (): void => void req.destroy(signal!.reason as Error);
    signal?.addEventListener('abort', abort, { once: true });
    const timer = setTimeout(
      () => req.destroy(new Fault('timeout', `${call.method} ${call.url}: no answer in ${timeoutMs} ms`)),
      timeoutMs,
    );
    const over = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
    req.on('error', error => {
      over();
      if (signal?.aborted) reject(signal.reason as Error);
      else if (error instanceof Fault) reject(error);
      else {
        const message = `${call.method} ${call.url}: ${error.message}`;
        reject(new Fault('connection-failed', message, { cause: error }));
      }
    });
    req.on('response', res => {
      clearTimeout(timer);
      res.on('close', over);
      resolve({
        status: res.statusCode ?? 0,
        headers: res.headers as Record<string, string>,
        body: res,
      });
    });
    if (call.stream === undefined) req.end(call.body);
    else sendStream(req, call.stream).catch((error: unknown) => req.destroy(error as Error));
  });
}

/** Until the stream ends, or the request does: the other end may have answered before it heard all. */
async function sendStream(req: ClientRequest, stream: AsyncIterable<Uint8Array>): Promise<void> {
  const over = new Promise<'over'>(resolve => req.once('close', () => resolve('over')));
  for await (const piece of stream) {
    if (req.destroyed) return;
    if (req.write(piece)) continue;
    const drained = new Promise<'drained'>(resolve => req.once('drain', () => resolve('drained')));
    if ((await Promise.race([drained, over])) === 'over') return;
  }
  req.end();
}
