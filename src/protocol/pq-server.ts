// The server side of a Postgres connection, without any waiting: bytes of the client go in, events come out, and
// what must be answered at once is returned as bytes to send. Safekeeper and pageserver use the same session;
// `pq-serve.ts` drives it over a Connection.
//
//   first packet   SSLRequest     -> event `tls` (or an 'N' when TLS is off)
//                  GSSENCRequest  -> 'N'
//                  CancelRequest  -> event `end`; nothing is cancelled by it, as in Neon
//                  startup        -> event `startup`; with TLS configured and not in use, an error
//   password       only when asked for; event `password`
//   ready          Query -> event `query`; Parse, Bind, Describe, Close, Sync answered here;
//                  Execute -> event `query` with `extended`; Terminate -> event `end`
//   copy           CopyData, CopyDone, CopyFail -> events; the owner enters and leaves it by `enterCopy`/`leaveCopy`
//
// Extended queries are as much as Neon's clients need: one unnamed statement, no parameters. After an error in
// one, messages up to Sync are skipped, as Postgres does.
//
// Answers to libs/postgres_backend/src/lib.rs and ProcessStartupPacket of src/backend/tcop/backend_startup.c.

import { Cursor, concatBytes, fromUtf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { CANCEL_REQUEST, type Frame, FrameReader, GSSENC_REQUEST, SSL_REQUEST, TAG } from './pq-frame.ts';
import {
  authenticationCleartext,
  authenticationOk,
  bindComplete,
  closeComplete,
  noData,
  noParameters,
  parameterStatus,
  parseComplete,
  readyForQuery,
} from './pq-messages.ts';

/** What a client said when it came. */
export interface StartupParameters {
  readonly values: ReadonlyMap<string, string>;
  /** The words of `options`, unescaped. */
  readonly options: readonly string[];
}

export type ServerEvent =
  /** Send 'S', then go on under TLS; `secured` must be called. */
  | { readonly kind: 'tls' }
  | { readonly kind: 'reply'; readonly bytes: Uint8Array }
  | { readonly kind: 'startup'; readonly parameters: StartupParameters }
  | { readonly kind: 'password'; readonly password: string }
  | { readonly kind: 'query'; readonly text: string; readonly extended: boolean }
  | { readonly kind: 'copy-data'; readonly bytes: Uint8Array }
  | { readonly kind: 'copy-done' }
  | { readonly kind: 'copy-fail'; readonly message: string }
  | { readonly kind: 'end' };

export interface ServerOptions {
  /** TLS is configured: plain sessions are refused. */
  readonly tls: boolean;
  /** The connection came encrypted from its first byte. */
  readonly secure: boolean;
  /** Ask for a password and wait for `authenticated`. */
  readonly password: boolean;
}

/** A password message is a token: short. A query is a command line: short too. */
const PASSWORD_BYTES_MAX = 64 * 1024;
const QUERY_BYTES_MAX = 1024 * 1024;
/** Parse, Bind and the like may wait unread behind a slow query; more than this is no client of ours. */
const ENCRYPTION_REQUESTS_MAX = 2;

type State = 'first' | 'startup' | 'password' | 'checking' | 'ready' | 'copy' | 'ended';

export class PqServerSession {
  private readonly reader = new FrameReader(PASSWORD_BYTES_MAX);
  private readonly options: ServerOptions;
  private state: State = 'first';
  private secure: boolean;
  private encryptionRequests = 0;
  private statement = '';
  /** An extended query failed: everything up to Sync is dropped. */
  private skipToSync = false;

  constructor(options: ServerOptions) {
    this.options = options;
    this.secure = options.secure;
  }

  push(bytes: Uint8Array): void {
    this.reader.push(bytes);
  }

  /** The next event, or undefined until more bytes come. A Fault ends the connection. */
  next(): ServerEvent | undefined {
    if (this.state === 'first') return this.nextFirst();
    if (this.state === 'startup' || this.state === 'checking') return undefined;
    for (;;) {
      if (this.state === 'ended') return undefined;
      const frame = this.reader.next();
      if (!frame) return undefined;
      const event = this.onFrame(frame);
      if (event) return event;
    }
  }

  private nextFirst(): ServerEvent | undefined {
    const packet = this.reader.nextStartup();
    if (!packet) return undefined;
    switch (packet.code) {
      case SSL_REQUEST:
        return this.onSslRequest();
      case GSSENC_REQUEST:
        this.countEncryptionRequest();
        return { kind: 'reply', bytes: new Uint8Array([0x4e]) };
      case CANCEL_REQUEST:
        this.state = 'ended';
        return { kind: 'end' };
      default:
        return this.onStartup(packet.body);
    }
  }

  private countEncryptionRequest(): void {
    if (++this.encryptionRequests > ENCRYPTION_REQUESTS_MAX) {
      throw new Fault('protocol-violation', 'encryption was asked for again and again');
    }
  }

  private onSslRequest(): ServerEvent {
    this.countEncryptionRequest();
    if (!this.options.tls || this.secure) return { kind: 'reply', bytes: new Uint8Array([0x4e]) };
    if (this.reader.buffered > 0) {
      throw new Fault('protocol-violation', 'unencrypted data came behind the request for TLS');
    }
    return { kind: 'tls' };
  }

  /** TLS stands; what follows comes through it. */
  secured(): void {
    this.secure = true;
  }

  private onStartup(body: Uint8Array): ServerEvent {
    if (this.options.tls && !this.secure) {
      throw new Fault('protocol-violation', 'this server takes TLS connections only', {
        hint: 'Connect with sslmode=require.',
      });
    }
    const values = new Map<string, string>();
    const c = new Cursor(body);
    while (c.left > 0) {
      const name = c.cstr();
      if (name === '') break;
      values.set(name, c.cstr());
    }
    this.state = 'startup';
    return { kind: 'startup', parameters: { values, options: splitOptions(values.get('options') ?? '') } };
  }

  /** The startup is welcome: returns what to send, an invitation or a request for the password. */
  greet(): Uint8Array {
    if (this.options.password) {
      this.state = 'password';
      return authenticationCleartext();
    }
    return this.authenticated();
  }

  /** The password was right. */
  authenticated(): Uint8Array {
    this.state = 'ready';
    this.reader.bodyBytesMax = QUERY_BYTES_MAX;
    return concatBytes([
      authenticationOk(),
      parameterStatus('client_encoding', 'UTF8'),
      parameterStatus('integer_datetimes', 'on'),
      parameterStatus('server_version', '14.1'),
      parameterStatus('standard_conforming_strings', 'on'),
      readyForQuery(),
    ]);
  }

  /** Logged in, and not gone. */
  get isReady(): boolean {
    return this.state === 'ready' || this.state === 'copy';
  }

  /** COPY began: the client may send data now, of at most this length each. */
  enterCopy(bodyBytesMax: number): void {
    this.state = 'copy';
    this.reader.bodyBytesMax = bodyBytesMax;
  }

  leaveCopy(): void {
    this.state = 'ready';
    this.reader.bodyBytesMax = QUERY_BYTES_MAX;
  }

  /** An extended query ended in an error. */
  failedExtended(): void {
    this.skipToSync = true;
  }

  private onFrame(frame: Frame): ServerEvent | undefined {
    if (this.state === 'password') return this.onPassword(frame);
    if (frame.tag === TAG.terminate) {
      this.state = 'ended';
      return { kind: 'end' };
    }
    return this.state === 'copy' ? this.onCopyFrame(frame) : this.onReadyFrame(frame);
  }

  private onPassword(frame: Frame): ServerEvent {
    if (frame.tag !== TAG.password) throw unexpected(frame, 'a password');
    this.state = 'checking';
    return { kind: 'password', password: text(frame.body) };
  }

  private onCopyFrame(frame: Frame): ServerEvent | undefined {
    switch (frame.tag) {
      case TAG.copyData:
        return { kind: 'copy-data', bytes: frame.body };
      case TAG.copyDone:
        return { kind: 'copy-done' };
      case TAG.copyFail:
        return { kind: 'copy-fail', message: text(frame.body) };
      case TAG.sync:
      case TAG.flush:
        return undefined;
      default:
        throw unexpected(frame, 'data of a COPY');
    }
  }

  private onReadyFrame(frame: Frame): ServerEvent | undefined {
    if (this.skipToSync && frame.tag !== TAG.sync) return undefined;
    switch (frame.tag) {
      case TAG.query:
        return { kind: 'query', text: text(frame.body), extended: false };
      case TAG.parse: {
        const c = new Cursor(frame.body);
        c.cstr();
        this.statement = c.cstr();
        return { kind: 'reply', bytes: parseComplete() };
      }
      case TAG.bind:
        return { kind: 'reply', bytes: bindComplete() };
      case TAG.describe: {
        // A statement is told its parameters and columns, a portal its columns only.
        const portal = frame.body[0] === 0x50;
        return { kind: 'reply', bytes: portal ? noData() : concatBytes([noParameters(), noData()]) };
      }
      case TAG.execute:
        return { kind: 'query', text: this.statement, extended: true };
      case TAG.close:
        return { kind: 'reply', bytes: closeComplete() };
      case TAG.sync:
        this.skipToSync = false;
        return { kind: 'reply', bytes: readyForQuery() };
      case TAG.flush:
        return undefined;
      case TAG.copyData:
      case TAG.copyDone:
      case TAG.copyFail:
        // Left over from a COPY that we ended first: Postgres drops them, too.
        return undefined;
      default:
        throw unexpected(frame, 'a query');
    }
  }
}

const text = (body: Uint8Array): string => {
  const zero = body.indexOf(0);
  return fromUtf8(zero < 0 ? body : body.subarray(0, zero));
};

const unexpected = (frame: Frame, wanted: string): Fault =>
  new Fault('protocol-violation', `a message of type '${printable(frame.tag)}' came where ${wanted} was due`);

const printable = (tag: number): string =>
  tag > 0x20 && tag < 0x7f ? String.fromCharCode(tag) : `0x${tag.toString(16)}`;

/** Words of the `options` parameter: split on white space, a backslash takes the next character as it is. */
export function splitOptions(options: string): string[] {
  const words: string[] = [];
  let word = '';
  let inWord = false;
  for (let i = 0; i < options.length; i++) {
    const c = options[i]!;
    if (c === '\\' && i + 1 < options.length) {
      word += options[++i]!;
      inWord = true;
    } else if (/\s/.test(c)) {
      if (inWord) words.push(word);
      word = '';
      inWord = false;
    } else {
      word += c;
      inWord = true;
    }
  }
  if (inWord) words.push(word);
  return words;
}
