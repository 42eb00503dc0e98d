// gRPC over node:http2, both ends. The server shares its port with plain HTTP: a connection that begins with the
// HTTP/2 preface is HTTP/2, any other HTTP/1.1; on HTTP/2, a request whose content type is not gRPC goes to the
// HTTP API as well. Under TLS the same is told apart by ALPN.
//
//   PRI * HTTP/2.0 ...   -> http2 -> content-type application/grpc  -> methods
//                                 -> anything else                  -> HttpApi
//   anything else        -> http1                                   -> HttpApi
//
// grpc-js would do the gRPC half, but not the rest of the port; the protocol above HTTP/2 is five bytes before
// each message and two trailers behind them. Its tests are made with grpc-js at the other end.
//
// Both ends ping an idle connection and give it up when no answer comes.

import http2 from 'node:http2';
import net from 'node:net';
import tls from 'node:tls';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { Fault } from '../base/fault.ts';
import {
  GRPC_STATUS,
  type GrpcChannel,
  type GrpcClientCall,
  GrpcError,
  type GrpcMetadata,
  type GrpcMethods,
  type GrpcServerCall,
  grpcFrame,
  grpcMessages,
} from '../base/grpc.ts';
import type { HttpApi } from '../base/http.ts';
import type { Listener } from '../base/ports.ts';
import { makeServer } from './http.ts';
import { cutSlowHandshakes, type ReloadingCertificate } from './tls.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0');
const SNIFF_MS = 15_000;
const PING_TIMEOUT_MS = 20_000;
/** How long a client may go on sending after its call was answered. */
const LINGER_MS = 2000;
const WINDOW_BYTES = 1024 * 1024;
const SESSION_WINDOW_BYTES = 16 * 1024 * 1024;
/** One connection carries a stream for each timeline of a pageserver: many, and many at once. */
const SESSION: http2.ServerOptions = {
  settings: { initialWindowSize: WINDOW_BYTES, maxConcurrentStreams: 0xffffffff },
  maxSessionMemory: 1024,
  streamResetBurst: 100_000,
  streamResetRate: 10_000,
} as http2.ServerOptions;

export interface GrpcListenOptions {
  readonly host: string;
  readonly port: number;
  readonly tls?: ReloadingCertificate;
  readonly keepaliveMs: number;
  readonly connectionsMax?: number;
}

export function listenGrpc(
  methods: GrpcMethods,
  api: HttpApi,
  options: GrpcListenOptions,
): Promise<Listener> {
  const sessions = new Set<http2.ServerHttp2Session>();
  const two = http2.createServer(SESSION);
  two.on('session', session => {
    if (session.destroyed) return;
    session.setLocalWindowSize(SESSION_WINDOW_BYTES);
    sessions.add(session);
    const stop = keepAlive(session, options.keepaliveMs);
    session.on('error', () => session.destroy());
    session.once('close', () => {
      stop();
      sessions.delete(session);
    });
  });
  two.on('stream', (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
    stream.on('error', () => {});
    if (isGrpc(headers)) void serveCall(stream, headers, methods);
    else void servePlain(stream, headers, api);
  });
  const one = makeServer(api);
  // It never listens, its connections are handed to it; but it watches over slow heads only once it believes it does.
  one.emit('listening');
  const open = new Set<net.Socket>();
  const take = (socket: net.Socket, isTwo: boolean): void => {
    (isTwo ? two : one).emit('connection', socket);
    // HTTP/2 takes the bytes seen so far itself; HTTP/1 waits for them to flow.
    if (!isTwo) socket.resume();
  };
  const server = options.tls
    ? tlsServer(options.tls, take)
    : net.createServer({ noDelay: true }, s => sniff(s, take));
  server.on('connection', socket => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  server.maxConnections = options.connectionsMax ?? 20_000;
  return listenOn(server, options, () => {
    for (const session of sessions) session.destroy();
    for (const socket of open) socket.destroy();
    one.close();
  });
}

const isGrpc = (headers: http2.IncomingHttpHeaders): boolean =>
  headers['content-type']?.startsWith('application/grpc') ?? false;

function listenOn(
  server: net.Server,
  address: { host: string; port: number },
  cut: () => void,
): Promise<Listener> {
  return new Promise((resolve, reject) => {
    server.once('error', error => {
      const text = `cannot listen on ${address.host}:${address.port}: ${error.message}`;
      reject(
        new Fault('connection-failed', text, {
          hint: 'Is another process using this address?',
          cause: error,
        }),
      );
    });
    server.listen(address.port, address.host, () => {
      const bound = server.address() as net.AddressInfo;
      const close = (): Promise<void> =>
        new Promise(done => {
          server.close(() => done());
          cut();
        });
      resolve({ host: address.host, port: bound.port, close });
    });
  });
}

/** Tell HTTP/2 from HTTP/1 by the first bytes, without taking them away. */
function sniff(socket: net.Socket, take: (socket: net.Socket, isTwo: boolean) => void): void {
  let seen = Buffer.alloc(0);
  socket.setTimeout(SNIFF_MS, () => socket.destroy());
  const onError = (): void => void socket.destroy();
  socket.on('error', onError);
  const onData = (chunk: Buffer): void => {
    seen = Buffer.concat([seen, chunk]);
    const length = Math.min(seen.length, PREFACE.length);
    const like = seen.subarray(0, length).equals(PREFACE.subarray(0, length));
    if (like && length < PREFACE.length) return;
    socket.off('data', onData);
    socket.off('error', onError);
    socket.pause();
    socket.setTimeout(0);
    socket.removeAllListeners('timeout');
    socket.unshift(seen);
    take(socket, like);
  };
  socket.on('data', onData);
}

function tlsServer(
  certificate: ReloadingCertificate,
  take: (socket: net.Socket, isTwo: boolean) => void,
): tls.Server {
  const options = { ...certificate.pem, minVersion: 'TLSv1.2' as const, ALPNProtocols: ['h2', 'http/1.1'] };
  const server = tls.createServer(options, socket => take(socket, socket.alpnProtocol === 'h2'));
  cutSlowHandshakes(server);
  certificate.onChange(pem => server.setSecureContext({ ...pem, minVersion: 'TLSv1.2' }));
  return server;
}

/** Ping every so often; no answer means that nobody is there. */
function keepAlive(session: http2.Http2Session, everyMs: number): () => void {
  let answered = performance.now();
  const timer = setInterval(() => {
    if (session.destroyed) return;
    if (performance.now() - answered > everyMs + PING_TIMEOUT_MS) {
      session.destroy(new Error('no answer to pings'));
      return;
    }
    session.ping(error => {
      if (!error) answered = performance.now();
    });
  }, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}

function decompress(encoding: string, bytes: Uint8Array, bytesMax: number): Uint8Array {
  const limit = { maxOutputLength: bytesMax };
  if (encoding === 'gzip') return gunzipSync(bytes, limit);
  if (encoding === 'zstd') return zstdDecompressSync(bytes, limit);
  throw new GrpcError(GRPC_STATUS.unimplemented, `compression ${encoding} is not known; try gzip or zstd`);
}

async function serveCall(
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  methods: GrpcMethods,
): Promise<void> {
  let status: number = GRPC_STATUS.ok;
  let message = '';
  stream.on('wantTrailers', () => stream.sendTrailers(trailers(status, message)));
  const gone = new AbortController();
  const deadline = timeoutMs(headers['grpc-timeout']);
  const timer =
    deadline === undefined
      ? undefined
      : setTimeout(() => gone.abort(new GrpcError(GRPC_STATUS.deadlineExceeded, 'out of time')), deadline);
  stream.once('close', () => {
    clearTimeout(timer);
    gone.abort(new GrpcError(GRPC_STATUS.cancelled, 'the client went away'));
  });
  try {
    const handler = methods.get(headers[':path'] ?? '');
    if (!handler) throw new GrpcError(GRPC_STATUS.unimplemented, `no method ${headers[':path']}`);
    await handler(serverCall(stream, headers, gone.signal));
  } catch (error) {
    ({ status, message } = statusOf(error));
  }
  finish(stream, status, message);
}

const HEAD = {
  ':status': 200,
  'content-type': 'application/grpc',
  'grpc-accept-encoding': 'identity,gzip,zstd',
};

function finish(stream: http2.ServerHttp2Stream, status: number, message: string): void {
  if (stream.destroyed) return;
  if (!stream.headersSent) stream.respond({ ...HEAD, ...trailers(status, message) }, { endStream: true });
  else stream.end();
  // What the client still sends is dropped; one that goes on for long is told to stop.
  stream.resume();
  const timer = setTimeout(() => {
    if (!stream.closed) stream.close(http2.constants.NGHTTP2_NO_ERROR);
  }, LINGER_MS);
  timer.unref();
  stream.once('close', () => clearTimeout(timer));
}

function trailers(status: number, message: string): http2.OutgoingHttpHeaders {
  return { 'grpc-status': status, ...(message ? { 'grpc-message': encodeURIComponent(message) } : {}) };
}

function statusOf(error: unknown): { status: number; message: string } {
  if (error instanceof GrpcError) return { status: error.status, message: error.message };
  if (error instanceof Fault)
    return { status: STATUS_OF_KIND[error.kind] ?? GRPC_STATUS.unknown, message: error.message };
  return { status: GRPC_STATUS.internal, message: error instanceof Error ? error.message : String(error) };
}

const STATUS_OF_KIND: Readonly<Record<string, number>> = {
  unavailable: GRPC_STATUS.unavailable,
  invalid: GRPC_STATUS.invalidArgument,
  missing: GRPC_STATUS.notFound,
  conflict: GRPC_STATUS.failedPrecondition,
  closed: GRPC_STATUS.unavailable,
  corrupt: GRPC_STATUS.internal,
  denied: GRPC_STATUS.permissionDenied,
};

const TIMEOUT_UNITS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

function timeoutMs(header: string | string[] | undefined): number | undefined {
  const match = typeof header === 'string' ? /^(\d{1,8})([HMSmun])$/.exec(header) : null;
  return match ? Math.min(Number(match[1]) * TIMEOUT_UNITS[match[2]!]!, 2 ** 31 - 1) : undefined;
}

function serverCall(
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  signal: AbortSignal,
): GrpcServerCall {
  const open = (): void => {
    if (!stream.headersSent && !stream.destroyed) stream.respond(HEAD, { waitForTrailers: true });
  };
  const sendFramed = (frames: Uint8Array): Promise<void> => {
    open();
    return write(stream, frames);
  };
  return {
    metadata: headers as GrpcMetadata,
    peer: `${stream.session?.socket?.remoteAddress ?? '?'}`,
    signal,
    messages: grpcMessages(piecesOf(stream), String(headers['grpc-encoding'] ?? 'identity'), decompress),
    open,
    send: message => sendFramed(grpcFrame(message)),
    sendFramed,
  };
}

async function* piecesOf(stream: http2.Http2Stream): AsyncGenerator<Uint8Array> {
  for await (const piece of stream.iterator({ destroyOnReturn: false })) yield piece as Uint8Array;
}

function write(stream: http2.Http2Stream, bytes: Uint8Array): Promise<void> {
  if (stream.destroyed || stream.writableEnded) {
    return Promise.reject(new GrpcError(GRPC_STATUS.cancelled, 'the other end went away'));
  }
  if (stream.write(bytes)) return DONE;
  return new Promise((resolve, reject) => {
    const onDrain = (): void => {
      stream.off('close', onClose);
      resolve();
    };
    const onClose = (): void => {
      stream.off('drain', onDrain);
      reject(new GrpcError(GRPC_STATUS.cancelled, 'the other end went away'));
    };
    stream.once('drain', onDrain);
    stream.once('close', onClose);
  });
}

const DONE = Promise.resolve();

/** A request over HTTP/2 that is not gRPC. */
async function servePlain(
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  api: HttpApi,
): Promise<void> {
  const url = headers[':path'] ?? '/';
  const mark = url.indexOf('?');
  const gone = new AbortController();
  stream.once('close', () => gone.abort(new Fault('connection-closed', 'the client went away')));
  const answer = await api.dispatch({
    method: headers[':method'] ?? 'GET',
    path: mark < 0 ? url : url.slice(0, mark),
    query: new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)),
    headers: headers as Record<string, string | undefined>,
    body: piecesOf(stream),
    peer: `${stream.session?.socket?.remoteAddress ?? '?'}`,
    signal: gone.signal,
  });
  if (stream.destroyed) return;
  try {
    stream.respond({ ':status': answer.status, ...answer.headers });
    if (answer.body instanceof Uint8Array) stream.end(answer.body);
    else {
      for await (const piece of answer.body) await write(stream, piece);
      stream.end();
    }
    stream.resume();
  } catch {
    stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  }
}

export interface GrpcChannelOptions {
  readonly keepaliveMs?: number;
  readonly ca?: string;
  readonly connectTimeoutMs?: number;
}

/** `endpoint` is http://host:port or https://host:port. */
export function grpcChannel(endpoint: string, options: GrpcChannelOptions = {}): GrpcChannel {
  let session: http2.ClientHttp2Session | undefined;
  let closed = false;
  const connect = (): http2.ClientHttp2Session => {
    if (session && !session.destroyed && !session.closed) return session;
    const made = http2.connect(endpoint, {
      settings: { initialWindowSize: WINDOW_BYTES, enablePush: false },
      maxSessionMemory: 1024,
      ...(options.ca ? { ca: options.ca } : {}),
    });
    const stop = keepAlive(made, options.keepaliveMs ?? 5000);
    const slow = setTimeout(
      () => made.destroy(new Error(`no connection to ${endpoint}`)),
      options.connectTimeoutMs ?? 5000,
    );
    made.once('connect', () => {
      clearTimeout(slow);
      // Given up in the same moment that it came about.
      if (!made.destroyed) made.setLocalWindowSize(SESSION_WINDOW_BYTES);
    });
    // Every open call listens for the session's errors.
    made.setMaxListeners(0);
    made.on('error', () => {});
    made.once('close', () => {
      stop();
      clearTimeout(slow);
      if (session === made) session = undefined;
    });
    session = made;
    return made;
  };
  return {
    call(path, how = {}) {
      if (closed) throw new GrpcError(GRPC_STATUS.cancelled, 'the channel is closed');
      return clientCall(connect(), path, how.metadata ?? {}, how.signal);
    },
    close() {
      closed = true;
      session?.destroy();
    },
  };
}

function clientCall(
  session: http2.ClientHttp2Session,
  path: string,
  metadata: Record<string, string>,
  signal: AbortSignal | undefined,
): GrpcClientCall {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    'user-agent': 'lakebed',
    ...metadata,
  });
  let head: http2.IncomingHttpHeaders | undefined;
  let tail: http2.IncomingHttpHeaders | undefined;
  let failure: Error | undefined;
  stream.on('response', headers => {
    head = headers;
  });
  stream.on('trailers', headers => {
    tail = headers;
  });
  stream.on('error', error => {
    failure = error;
  });
  const sessionFailed = (error: Error): void => {
    failure ??= error;
  };
  session.once('error', sessionFailed);
  const cancel = (): void => {
    if (!stream.destroyed) stream.close(http2.constants.NGHTTP2_CANCEL);
  };
  signal?.addEventListener('abort', cancel, { once: true });
  stream.once('close', () => {
    signal?.removeEventListener('abort', cancel);
    session.off('error', sessionFailed);
  });
  return {
    send: message => write(stream, grpcFrame(message)),
    end: () => void stream.end(),
    cancel,
    messages: answers(stream, () => ({ head, tail, failure }), signal),
  };
}

interface Seen {
  readonly head: http2.IncomingHttpHeaders | undefined;
  readonly tail: http2.IncomingHttpHeaders | undefined;
  readonly failure: Error | undefined;
}

async function* answers(
  stream: http2.ClientHttp2Stream,
  seen: () => Seen,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  try {
    yield* grpcMessages(piecesOf(stream), 'identity', (_, bytes) => {
      return decompress(String(seen().head?.['grpc-encoding'] ?? 'identity'), bytes, 64 * 1024 * 1024);
    });
  } catch (error) {
    if (error instanceof GrpcError) throw error;
  }
  if (signal?.aborted) throw signal.reason;
  const { head, tail, failure } = seen();
  const status = tail?.['grpc-status'] ?? head?.['grpc-status'];
  const message = decodeURIComponent(String(tail?.['grpc-message'] ?? head?.['grpc-message'] ?? ''));
  if (status !== undefined) {
    if (Number(status) !== GRPC_STATUS.ok) throw new GrpcError(Number(status), message);
    return;
  }
  if (head && Number(head[':status']) !== 200)
    throw new GrpcError(GRPC_STATUS.unknown, `HTTP status ${head[':status']}`);
  const why = failure ? failure.message : 'the server went away';
  throw new GrpcError(GRPC_STATUS.unavailable, why);
}
