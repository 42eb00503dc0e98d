// Drives a PqServerSession over a Connection: reads, answers, hands queries to a handler, and gives the handler a
// PqConnection to write rows or run a COPY with. One query at a time; while it runs, nothing more is read unless
// the handler reads COPY data, so a client that floods is held back by TCP.
//
// How a COPY ends (`endCopy`) is part of Neon's contract: a clean end by us is an ErrorResponse 00000, CopyFail
// is answered the same, CopyDone by CopyDone, trouble by its own ErrorResponse, and a client that left gets
// nothing. The connection is closed in every case but one: COPY OUT goes on to the next query.
//
// Answers to PostgresBackend::run and handle_copy_stream_end of libs/postgres_backend/src/lib.rs.

import { concatBytes } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import type { Clock, Connection } from '../base/ports.ts';
import { copyData, copyDataHeader, copyDone } from './pq-frame.ts';
import {
  commandComplete,
  copyBothResponse,
  copyOutResponse,
  errorOf,
  errorResponse,
  readyForQuery,
  SQLSTATE,
} from './pq-messages.ts';
import { PqServerSession, type ServerEvent, type StartupParameters } from './pq-server.ts';

/** How the other end stopped sending in a COPY. */
export type CopyEnd = 'done' | 'fail' | 'terminate' | 'eof';

export class CopyEnded extends Error {
  override readonly name = 'CopyEnded';
  readonly how: CopyEnd;
  constructor(how: CopyEnd, detail = '') {
    super(detail ? `the client ended the copy: ${how}: ${detail}` : `the client ended the copy: ${how}`);
    this.how = how;
  }
}

/** Thrown by a handler to end a COPY in good order: ErrorResponse 00000 with this text. */
export class EndStreaming extends Error {
  override readonly name = 'EndStreaming';
}

/** Thrown by a handler to close the connection without a word, as for a timeline that may not be created. */
export class CloseSilently extends Error {
  override readonly name = 'CloseSilently';
}

export interface PqHandler {
  /** The startup packet; throw to refuse. */
  startup(parameters: StartupParameters): void | Promise<void>;
  /** Present when a password is asked for; throw to refuse. */
  checkPassword?(password: string): Promise<void>;
  /** Write the answer without ReadyForQuery; throw for an ErrorResponse. */
  query(text: string, connection: PqConnection, extended: boolean): Promise<void>;
}

export interface PqServeOptions {
  readonly tls: boolean;
  readonly password: boolean;
  /** Cuts a client that has not logged in within LOGIN_MS; without a clock nobody is. */
  readonly clock?: Clock;
  /** Told of an error that ended the session or a query; for the log. */
  readonly onError?: (error: unknown, where: 'session' | 'query', query?: string) => void;
}

/** As Postgres's authentication_timeout. */
const LOGIN_MS = 60_000;
/** Less is sooner copied than sent in pieces. */
const LENT_BYTES_MIN = 16 * 1024;

export class PqConnection {
  readonly peer: string;
  private connection: Connection;
  private readonly session: PqServerSession;
  /** COPY BOTH was entered: the connection closes after it. */
  inCopyBoth = false;
  inCopyOut = false;
  private interrupted: { readonly reason: unknown } | undefined;
  private wake: ((reason: unknown) => void) | undefined;

  constructor(connection: Connection, session: PqServerSession) {
    this.connection = connection;
    this.session = session;
    this.peer = connection.peer;
  }

  send(bytes: Uint8Array): Promise<void> {
    return this.connection.write(bytes);
  }

  /** Whether `lend` gives bytes back. */
  get canLend(): boolean {
    return this.connection.writeLent !== undefined;
  }

  /** As `send`; where it can, the bytes are the caller's again when it resolves. */
  lend(bytes: Uint8Array): Promise<void> {
    return this.connection.writeLent?.([bytes]) ?? this.connection.write(bytes);
  }

  /** Enter COPY in both directions; data of the client may be this long each. */
  async startCopyBoth(bodyBytesMax: number): Promise<void> {
    this.inCopyBoth = true;
    this.session.enterCopy(bodyBytesMax);
    await this.send(copyBothResponse());
  }

  async startCopyOut(): Promise<void> {
    this.inCopyOut = true;
    await this.send(copyOutResponse());
  }

  /** One CopyData of these pieces. */
  sendCopyData(...payload: Uint8Array[]): Promise<void> {
    return this.send(copyData(...payload));
  }

  /** The same for a large last piece, which is not copied where the connection can do without: it is the caller's again. */
  lendCopyData(header: Uint8Array, body: Uint8Array): Promise<void> {
    const { connection } = this;
    if (body.length < LENT_BYTES_MIN || connection.writeLent === undefined)
      return this.sendCopyData(header, body);
    return connection.writeLent([copyDataHeader(header.length + body.length), header, body]);
  }

  /** CopyDone and its CommandComplete after `startCopyOut`. */
  async endCopyOut(tag: string): Promise<void> {
    this.inCopyOut = false;
    await this.send(concatBytes([copyDone(), commandComplete(tag)]));
  }

  /** The next CopyData of the client that has arrived already, without waiting. */
  bufferedCopyData(): Uint8Array | undefined {
    const event = this.session.next();
    return event && copyDataOf(event);
  }

  /** The next CopyData of the client; throws CopyEnded when there is no more, or what `interrupt` was given. */
  async readCopyData(): Promise<Uint8Array> {
    for (;;) {
      if (this.interrupted) throw this.interrupted.reason;
      const event = this.session.next();
      if (event) return copyDataOf(event);
      const bytes = await new Promise<Uint8Array | undefined>((resolve, reject) => {
        this.wake = reject;
        this.connection.read().then(resolve, reject);
      });
      if (!bytes) throw new CopyEnded('eof');
      this.session.push(bytes);
    }
  }

  /** Whoever waits in `readCopyData`, now or later, gets this reason; the connection can still be written to. */
  interrupt(reason: unknown): void {
    this.interrupted ??= { reason };
    this.wake?.(reason);
  }

  /** @internal the driver swaps in the encrypted connection. */
  replace(connection: Connection): void {
    this.connection = connection;
  }

  /** Cut the connection from under whoever reads or writes. */
  destroy(): void {
    this.connection.destroy();
  }
}

function copyDataOf(event: ServerEvent): Uint8Array {
  switch (event.kind) {
    case 'copy-data':
      return event.bytes;
    case 'copy-done':
      throw new CopyEnded('done');
    case 'copy-fail':
      throw new CopyEnded('fail', event.message);
    case 'end':
      throw new CopyEnded('terminate');
    default:
      throw new Fault('protocol-violation', `${event.kind} came during a copy`);
  }
}

/** Serve one client until it leaves or errs. Never throws. */
export async function servePq(raw: Connection, handler: PqHandler, options: PqServeOptions): Promise<void> {
  const session = new PqServerSession({ ...options, secure: raw.secure === true });
  const pq = new PqConnection(raw, session);
  let connection = raw;
  const loggedIn = new AbortController();
  options.clock?.sleep(LOGIN_MS, loggedIn.signal).then(
    () => connection.destroy(),
    () => {},
  );
  try {
    for (;;) {
      const event = session.next();
      if (!event) {
        const bytes = await connection.read();
        if (!bytes) break;
        session.push(bytes);
        continue;
      }
      if (event.kind === 'tls') {
        connection = await upgrade(connection, session);
        pq.replace(connection);
        continue;
      }
      if (!(await onEvent(event, session, pq, handler, options))) break;
      if (session.isReady) loggedIn.abort();
    }
    await connection.end();
  } catch (error) {
    if (!isGone(error)) {
      options.onError?.(error, 'session');
      await sayQuietly(connection, error);
    }
  } finally {
    loggedIn.abort();
    connection.destroy();
  }
}

async function upgrade(connection: Connection, session: PqServerSession): Promise<Connection> {
  if (!connection.upgradeTls) throw new Fault('protocol-violation', 'this connection cannot change to TLS');
  await connection.write(new Uint8Array([0x53]));
  const secured = await connection.upgradeTls();
  session.secured();
  return secured;
}

/** False ends the session. */
async function onEvent(
  event: ServerEvent,
  session: PqServerSession,
  pq: PqConnection,
  handler: PqHandler,
  options: PqServeOptions,
): Promise<boolean> {
  switch (event.kind) {
    case 'reply':
      await pq.send(event.bytes);
      return true;
    case 'startup':
      await handler.startup(event.parameters);
      await pq.send(session.greet());
      return true;
    case 'password':
      if (!handler.checkPassword) throw new Fault('auth-failed', 'no password was asked for');
      await handler.checkPassword(event.password);
      await pq.send(session.authenticated());
      return true;
    case 'query':
      return onQuery(event.text, event.extended, session, pq, handler, options);
    case 'end':
      return false;
    default:
      throw new Fault('protocol-violation', `${event.kind} came outside of a copy`);
  }
}

async function onQuery(
  text: string,
  extended: boolean,
  session: PqServerSession,
  pq: PqConnection,
  handler: PqHandler,
  options: PqServeOptions,
): Promise<boolean> {
  try {
    await handler.query(text, pq, extended);
    if (pq.inCopyBoth) return false;
  } catch (error) {
    if (isGone(error) || error instanceof CloseSilently) return false;
    if (!isCleanEnd(error)) options.onError?.(error, 'query', text);
    if (pq.inCopyBoth) {
      await endCopy(pq, error);
      return false;
    }
    pq.inCopyOut = false;
    await pq.send(errorResponse(errorOf(error)));
    if (isFault(error, 'reconnect-requested') || isFault(error, 'shutting-down')) return false;
    if (extended) session.failedExtended();
  }
  if (!extended) await pq.send(readyForQuery());
  return true;
}

const isCleanEnd = (error: unknown): boolean => error instanceof EndStreaming || error instanceof CopyEnded;

const isGone = (error: unknown): boolean => isFault(error, 'connection-closed');

async function endCopy(pq: PqConnection, error: unknown): Promise<void> {
  if (error instanceof CopyEnded) {
    if (error.how === 'done') await pq.send(copyDone());
    if (error.how === 'fail') await pq.send(endText('received CopyFail'));
    return;
  }
  if (error instanceof EndStreaming) await pq.send(endText(error.message));
  else await pq.send(errorResponse(errorOf(error)));
}

const endText = (message: string): Uint8Array =>
  errorResponse({ severity: 'ERROR', sqlState: SQLSTATE.success, message });

async function sayQuietly(connection: Connection, error: unknown): Promise<void> {
  try {
    await connection.write(errorResponse(errorOf(error)));
    await connection.end();
  } catch {
    // The client has gone; there is nobody left to tell.
  }
}
