// The network: TCP, and TLS on top of it, as the Net port.
//
// A connection reads by pull: chunks wait in a short queue, and past READ_AHEAD_BYTES the socket is paused, so
// that a client that sends faster than we read is held back by TCP. A write resolves when the socket takes more.
// A socket that is silent for `idleMs` is cut.
//
// TLS as a server has two entrances: `upgradeTls` after a request inside the protocol (Postgres's SSLRequest),
// and, where TLS is configured, a connection whose first byte is 0x16 is taken as TLS at once (Postgres 17's
// sslnegotiation=direct). The certificate used is the one that stands at that moment (`tls.ts` reloads it).

import net from 'node:net';
import tls from 'node:tls';
import { Fault } from '../base/fault.ts';
import type { Connection, Listener, Net } from '../base/ports.ts';

const READ_AHEAD_BYTES = 1024 * 1024;
/** A TLS handshake, or the first byte of a connection that may begin one. */
const HANDSHAKE_MS = 60_000;
const TLS_HANDSHAKE_BYTE = 0x16;
const ALPN_POSTGRES = 'postgresql';
const BACKLOG = 1024;
/**
 * TLS records of a server are this long at most. A client that waits for its socket, and not for its TLS library, sees
 * nothing of a record of which it has read a part; libpq keeps room for so much, and so reads each as a whole. Neon's
 * computes wait in this way for pages (call_PQgetCopyData of libpagestore.c), and hang without it.
 */
const RECORD_BYTES_MAX = 8192;

export interface NetOptions {
  /** Certificate and key of this server, as they stand now. */
  readonly serverTls?: { readonly current: tls.SecureContext };
  /** How to go on under TLS as a client. */
  readonly clientTls?: tls.ConnectionOptions;
  /** Cut a connection after this much silence. */
  readonly idleMs?: number;
  /** Connections past this many are refused. */
  readonly connectionsMax?: number;
}

export function hostNet(options: NetOptions = {}): Net {
  return {
    listen: (address, accept) => listen(address, accept, options),
    connect: (address, how) => connect(address, how?.timeoutMs, options),
  };
}

function listen(
  address: { host: string; port: number },
  accept: (connection: Connection) => void,
  options: NetOptions,
): Promise<Listener> {
  const open = new Set<net.Socket>();
  const server = net.createServer({ noDelay: true, keepAlive: true }, socket => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    if (options.serverTls) acceptMaybeTls(socket, accept, options);
    else accept(new SocketConnection(socket, options, undefined));
  });
  if (options.connectionsMax) server.maxConnections = options.connectionsMax;
  return new Promise((resolve, reject) => {
    server.once('error', error => reject(listenFault(error, address)));
    server.listen({ host: address.host, port: address.port, backlog: BACKLOG }, () => {
      const bound = server.address() as net.AddressInfo;
      resolve({
        host: address.host,
        port: bound.port,
        close: () =>
          new Promise<void>(done => {
            server.close(() => done());
            for (const socket of open) socket.destroy();
          }),
      });
    });
  });
}

function listenFault(error: Error, address: { host: string; port: number }): Fault {
  return new Fault(
    'connection-failed',
    `cannot listen on ${address.host}:${address.port}: ${error.message}`,
    {
      hint: 'Is another process using this address?',
      cause: error,
    },
  );
}

/** Wait for the first byte to learn whether it begins a TLS handshake. */
function acceptMaybeTls(socket: net.Socket, accept: (c: Connection) => void, options: NetOptions): void {
  socket.setTimeout(HANDSHAKE_MS, () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.once('data', (chunk: Buffer) => {
    socket.pause();
    socket.unshift(chunk);
    if (chunk[0] !== TLS_HANDSHAKE_BYTE) {
      accept(new SocketConnection(socket, options, options.serverTls));
      return;
    }
    serverHandshake(socket, options).then(accept, () => socket.destroy());
  });
}

function serverHandshake(socket: net.Socket, options: NetOptions): Promise<Connection> {
  const secured = new tls.TLSSocket(socket, {
    isServer: true,
    secureContext: options.serverTls!.current,
    ALPNCallback: ({ protocols }) => (protocols.includes(ALPN_POSTGRES) ? ALPN_POSTGRES : undefined),
  });
  secured.setMaxSendFragment(RECORD_BYTES_MAX);
  return secure(secured, 'secure', options);
}

/** Resolves when the handshake is done. */
function secure(socket: tls.TLSSocket, done: string, options: NetOptions): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      socket.destroy();
      reject(new Fault('connection-failed', `the TLS handshake failed: ${error.message}`, { cause: error }));
    };
    // From the beginning, not since the last byte: a handshake may be dribbled.
    const timer = setTimeout(() => fail(new Error('timeout')), HANDSHAKE_MS);
    socket.once('close', () => clearTimeout(timer));
    socket.once('error', fail);
    socket.once('close', () => fail(new Error('the other end hung up')));
    socket.once(done, () => {
      clearTimeout(timer);
      socket.removeAllListeners('error');
      socket.removeAllListeners('close');
      resolve(new SocketConnection(socket, options, undefined));
    });
  });
}

function connect(
  address: { host: string; port: number },
  timeoutMs: number | undefined,
  options: NetOptions,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const socket = address.host.startsWith('/')
      ? net.connect(`${address.host}/.s.PGSQL.${address.port}`) // as libpq names the sockets of a machine's own
      : net.connect({ ...address, noDelay: true, keepAlive: true });
    const fail = (error: Error): void => {
      socket.destroy();
      const text = `cannot connect to ${address.host}:${address.port}: ${error.message}`;
      reject(new Fault('connection-failed', text, { cause: error }));
    };
    if (timeoutMs) socket.setTimeout(timeoutMs, () => fail(new Error(`no answer in ${timeoutMs} ms`)));
    socket.once('error', fail);
    socket.once('connect', () => {
      socket.removeListener('error', fail);
      socket.setTimeout(0);
      const { clientTls } = options;
      resolve(
        new SocketConnection(
          socket,
          options,
          clientTls && { connect: { servername: sni(address.host), ...clientTls } },
        ),
      );
    });
  });
}

/** Server names are names: an address is not sent. */
const sni = (host: string): string => (net.isIP(host) ? '' : host);

/** Node's types do not know it: the name in a client's hello, false without one. */
function serverNameOf(socket: net.Socket): string | undefined {
  const { servername } = socket as net.Socket & { servername?: string | false };
  return servername || undefined;
}

type Upgrade = NetOptions['serverTls'] | { readonly connect: tls.ConnectionOptions } | undefined;

class SocketConnection implements Connection {
  readonly peer: string;
  readonly isFresh = true;
  readonly secure: boolean;
  readonly serverName?: string;
  readonly upgradeTls?: () => Promise<Connection>;
  private readonly socket: net.Socket;
  private readonly options: NetOptions;
  private chunks: Uint8Array[] = [];
  private queuedBytes = 0;
  private ended = false;
  private failure: Fault | undefined;
  private reader: ((chunk: Uint8Array | undefined) => void) | undefined;
  private readerFails: ((error: Error) => void) | undefined;
  private drained: (() => void)[] = [];

  constructor(socket: net.Socket, options: NetOptions, upgrade: Upgrade) {
    this.socket = socket;
    this.options = options;
    this.secure = socket instanceof tls.TLSSocket;
    const name = serverNameOf(socket);
    if (name !== undefined) this.serverName = name;
    this.peer = `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? 0}`;
    if (upgrade) this.upgradeTls = () => this.upgrade(upgrade);
    socket.setTimeout(0);
    socket.removeAllListeners('timeout');
    if (options.idleMs) socket.setTimeout(options.idleMs, () => socket.destroy());
    socket.removeAllListeners('error');
    socket.on('data', this.onData);
    socket.on('end', this.onEnd);
    socket.on('error', this.onError);
    socket.on('close', this.onClose);
    socket.on('drain', this.onDrain);
    socket.resume();
  }

  private readonly onData = (chunk: Buffer): void => {
    const { reader } = this;
    if (reader) {
      this.reader = this.readerFails = undefined;
      reader(chunk);
      return;
    }
    this.chunks.push(chunk);
    this.queuedBytes += chunk.length;
    if (this.queuedBytes >= READ_AHEAD_BYTES) this.socket.pause();
  };

  private readonly onEnd = (): void => {
    this.ended = true;
    this.reader?.(undefined);
    this.reader = this.readerFails = undefined;
  };

  private readonly onError = (error: Error): void => {
    this.failure ??= new Fault(
      'connection-closed',
      `the connection to ${this.peer} broke: ${error.message}`,
      {
        cause: error,
      },
    );
  };

  private readonly onClose = (): void => {
    this.failure ??= new Fault('connection-closed', `the connection to ${this.peer} is closed`);
    this.readerFails?.(this.failure);
    this.reader = this.readerFails = undefined;
    this.onDrain();
  };

  private readonly onDrain = (): void => {
    const waiting = this.drained;
    if (waiting.length === 0) return;
    this.drained = [];
    for (const wake of waiting) wake();
  };

  read(): Promise<Uint8Array | undefined> {
    const chunk = this.chunks.shift();
    if (chunk) {
      this.queuedBytes -= chunk.length;
      if (this.queuedBytes < READ_AHEAD_BYTES / 2 && this.socket.isPaused()) this.socket.resume();
      return Promise.resolve(chunk);
    }
    if (this.ended) return Promise.resolve(undefined);
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.reader = resolve;
      this.readerFails = reject;
    });
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.failure || !this.socket.writable) return Promise.reject(this.gone());
    if (this.socket.write(bytes)) return DONE;
    return new Promise((resolve, reject) => {
      this.drained.push(() => (this.failure ? reject(this.failure) : resolve()));
    });
  }

  writeLent(pieces: readonly Uint8Array[]): Promise<void> {
    const { socket } = this;
    if (this.failure || !socket.writable) return Promise.reject(this.gone());
    return new Promise((resolve, reject) => {
      socket.cork();
      for (const piece of pieces.slice(0, -1)) socket.write(piece);
      socket.write(pieces.at(-1)!, error => (error ? reject(this.gone()) : resolve()));
      socket.uncork();
    });
  }

  private gone(): Fault {
    return (this.failure ??= new Fault('connection-closed', `the connection to ${this.peer} is closed`));
  }

  end(): Promise<void> {
    return new Promise(resolve => {
      if (!this.socket.writable) resolve();
      else this.socket.end(() => resolve());
      this.socket.once('close', () => resolve());
    });
  }

  destroy(): void {
    this.socket.destroy();
  }

  private upgrade(how: NonNullable<Upgrade>): Promise<Connection> {
    const { socket } = this;
    socket.pause();
    for (const event of ['data', 'end', 'error', 'close', 'drain', 'timeout'])
      socket.removeAllListeners(event);
    socket.setTimeout(0);
    socket.on('error', () => socket.destroy());
    for (const chunk of this.chunks.splice(0).reverse()) socket.unshift(chunk);
    if (!('connect' in how)) return serverHandshake(socket, this.options);
    const secured = tls.connect({ ...how.connect, socket, ALPNProtocols: [ALPN_POSTGRES] });
    return secure(secured, 'secureConnect', this.options);
  }
}

const DONE = Promise.resolve();
