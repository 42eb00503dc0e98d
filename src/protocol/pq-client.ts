// The client side of the Postgres protocol: how a pageserver or a safekeeper speaks to safekeepers, and tests to
// real Postgres servers. Connect (TLS by request where wanted; trust, cleartext, MD5 or SCRAM), simple queries with
// text rows, and COPY in both directions or out.
//
//   const client = await PqClient.connect(net, random, { host, port, parameters: { user: 'x' } })
//   const { rows } = await client.query('IDENTIFY_SYSTEM')
//   const copy = await client.copyBoth('START_REPLICATION PHYSICAL 0/0')
//   for (let data = await copy.read(); data; data = await copy.read()) ...
//
// An ErrorResponse is a ServerError, a Fault that keeps the SQLSTATE: 00000 in a COPY is a clean end by the server.
//
// Answers to src/interfaces/libpq/fe-connect.c, fe-protocol3.c and libs/utils/src/postgres_client.rs.

import { createHash } from 'node:crypto';
import { Cursor, fromUtf8, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import type { Connection, Net, Random } from '../base/ports.ts';
import {
  copyData,
  copyDone,
  type Frame,
  FrameReader,
  frame,
  PROTOCOL_3_0,
  SSL_REQUEST,
  startupPacket,
  TAG,
  terminate,
} from './pq-frame.ts';
import { type ErrorFields, readDataRow, readError, readRowDescription } from './pq-messages.ts';
import { SCRAM_SHA_256, ScramClient } from './scram.ts';

export class ServerError extends Fault {
  readonly sqlState: string;
  constructor(fields: ErrorFields) {
    super('server-error', fields.message, fields.hint ? { hint: fields.hint } : {});
    this.sqlState = fields.sqlState;
  }
}

export interface PqClientOptions {
  readonly host: string;
  readonly port: number;
  /** user, database, application_name, replication, options ... */
  readonly parameters: Readonly<Record<string, string>>;
  readonly password?: string | undefined;
  /** Insist on TLS; the Net must be able to. */
  readonly tls?: boolean;
  readonly connectTimeoutMs?: number;
  /** The longest message taken from the server. */
  readonly bodyBytesMax?: number;
}

export interface QueryResult {
  readonly columns: readonly string[];
  readonly rows: readonly (string | null)[][];
  /** Such as `SELECT 1`. */
  readonly tag: string;
}

export type MixedOut =
  /** A result with rows begins; a COPY OUT begins. */
  | { readonly kind: 'rows' | 'copy' }
  | { readonly kind: 'row'; readonly row: (string | null)[] }
  | { readonly kind: 'data'; readonly bytes: Uint8Array };

const CONNECT_MS = 10_000;
const BODY_BYTES_MAX = 256 * 1024 * 1024;

export class PqClient {
  private readonly connection: Connection;
  private readonly reader: FrameReader;
  /** What the server told of itself: server_version and the like. */
  readonly serverParameters = new Map<string, string>();

  private constructor(connection: Connection, bodyBytesMax: number) {
    this.connection = connection;
    this.reader = new FrameReader(bodyBytesMax, connection.isFresh);
  }

  static async connect(net: Net, random: Random, options: PqClientOptions): Promise<PqClient> {
    const timeoutMs = options.connectTimeoutMs ?? CONNECT_MS;
    let connection = await net.connect({ host: options.host, port: options.port }, { timeoutMs });
    try {
      if (options.tls) connection = await requestTls(connection);
      const client = new PqClient(connection, options.bodyBytesMax ?? BODY_BYTES_MAX);
      await client.start(options, random);
      return client;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  private async start(options: PqClientOptions, random: Random): Promise<void> {
    const words = Object.entries(options.parameters).flat();
    await this.connection.write(startupPacket(PROTOCOL_3_0, words));
    const login = new Login(options, random);
    for (;;) {
      const message = await this.next();
      switch (message.tag) {
        case TAG.authentication: {
          const answer = login.answer(message.body);
          if (answer) await this.connection.write(answer);
          break;
        }
        case TAG.parameterStatus: {
          const c = new Cursor(message.body);
          const name = c.cstr();
          this.serverParameters.set(name, c.cstr());
          break;
        }
        case TAG.backendKeyData:
          break;
        case TAG.readyForQuery:
          return;
        default:
          throw unexpected(message);
      }
    }
  }

  /** The next message; errors are thrown, notices dropped. */
  private async next(): Promise<Frame> {
    for (;;) {
      const message = this.reader.next();
      if (!message) {
        const bytes = await this.connection.read();
        if (!bytes) throw new Fault('connection-closed', `${this.connection.peer} closed the connection`);
        this.reader.push(bytes);
        continue;
      }
      if (message.tag === TAG.errorResponse) throw new ServerError(readError(message.body));
      if (message.tag !== TAG.noticeResponse) return message;
    }
  }

  /** A simple query; the last result with rows, or the last. After an error the client can go on. */
  async query(text: string): Promise<QueryResult> {
    await this.connection.write(frame(TAG.query, utf8(`${text}\0`)));
    let columns: string[] = [];
    let rows: (string | null)[][] = [];
    let tag = '';
    for (;;) {
      const message = await this.nextOfQuery();
      switch (message.tag) {
        case TAG.rowDescription:
          columns = readRowDescription(message.body);
          rows = [];
          break;
        case TAG.dataRow:
          rows.push(readDataRow(message.body));
          break;
        case TAG.commandComplete:
          tag = new Cursor(message.body).cstr();
          break;
        case TAG.readyForQuery:
          return { columns, rows, tag };
        case TAG.emptyQuery:
        case TAG.parameterStatus:
          break;
        default:
          throw unexpected(message);
      }
    }
  }

  private async nextOfQuery(): Promise<Frame> {
    try {
      return await this.next();
    } catch (error) {
      if (error instanceof ServerError) await this.settle();
      throw error;
    }
  }

  /** After an error: read on to ReadyForQuery, if the server gives one. */
  private async settle(): Promise<void> {
    try {
      while ((await this.next()).tag !== TAG.readyForQuery);
    } catch {
      this.connection.destroy();
    }
  }

  /** Begin a COPY in both directions; the connection is the copy's from then on. */
  async copyBoth(text: string): Promise<CopyStream> {
    await this.connection.write(frame(TAG.query, utf8(`${text}\0`)));
    const message = await this.nextOfQuery();
    if (message.tag !== TAG.copyBothResponse) throw unexpected(message);
    return new CopyStream(
      this.connection,
      () => this.next(),
      body => this.reader.takeBack(body),
    );
  }

  /** The data of a COPY OUT, piece by piece; the client can go on after its end. */
  async *copyOut(text: string): AsyncGenerator<Uint8Array> {
    await this.connection.write(frame(TAG.query, utf8(`${text}\0`)));
    for (;;) {
      const message = await this.nextOfQuery();
      if (message.tag === TAG.copyData) yield message.body;
      else if (message.tag === TAG.readyForQuery) return;
      else if (!COPY_OUT_AROUND.has(message.tag)) throw unexpected(message);
    }
  }

  /** A command that answers with rows and COPY OUTs by turns (BASE_BACKUP); the client can go on after its end. */
  async *mixedOut(text: string): AsyncGenerator<MixedOut> {
    await this.connection.write(frame(TAG.query, utf8(`${text}\0`)));
    for (;;) {
      const { tag, body } = await this.nextOfQuery();
      if (tag === TAG.copyData) yield { kind: 'data', bytes: body };
      else if (tag === TAG.dataRow) yield { kind: 'row', row: readDataRow(body) };
      else if (tag === TAG.rowDescription) yield { kind: 'rows' };
      else if (tag === TAG.copyOutResponse) yield { kind: 'copy' };
      else if (tag === TAG.readyForQuery) return;
      else if (!COPY_OUT_AROUND.has(tag)) throw unexpected({ tag, body });
    }
  }

  async end(): Promise<void> {
    try {
      await this.connection.write(terminate());
      await this.connection.end();
    } catch {
      // It is gone already.
    }
    this.connection.destroy();
  }

  destroy(): void {
    this.connection.destroy();
  }
}

const COPY_OUT_AROUND: ReadonlySet<number> = new Set([
  TAG.copyOutResponse,
  TAG.copyDone,
  TAG.commandComplete,
]);

export class CopyStream {
  private readonly connection: Connection;
  private readonly nextFrame: () => Promise<Frame>;
  private readonly giveBack: (body: Uint8Array) => void;
  private finished = false;
  /** The copy was ended by a server that is going down in good order. */
  shutDown = false;

  constructor(connection: Connection, nextFrame: () => Promise<Frame>, giveBack: (body: Uint8Array) => void) {
    this.connection = connection;
    this.nextFrame = nextFrame;
    this.giveBack = giveBack;
  }

  /** The next CopyData; undefined when the server ended the copy. A ServerError says why it broke off. */
  async read(): Promise<Uint8Array | undefined> {
    if (this.finished) return undefined;
    const message = await this.nextFrame();
    if (message.tag === TAG.copyData) return message.body;
    // A walsender whose server is shut down says that its command is complete, and no more.
    if (message.tag === TAG.commandComplete) this.shutDown = true;
    else if (message.tag !== TAG.copyDone) throw unexpected(message);
    this.finished = true;
    return undefined;
  }

  /** What `read` answered last is not looked at any more: what comes next may take its place. */
  takeBack(bytes: Uint8Array): void {
    this.giveBack(bytes);
  }

  write(...payload: Uint8Array[]): Promise<void> {
    return this.connection.write(copyData(...payload));
  }

  /** We send no more. */
  done(): Promise<void> {
    return this.connection.write(copyDone());
  }

  destroy(): void {
    this.connection.destroy();
  }
}

async function requestTls(connection: Connection): Promise<Connection> {
  if (!connection.upgradeTls)
    throw new Fault('config-invalid', 'TLS is wanted, but this side is not set up for it');
  await connection.write(startupPacket(SSL_REQUEST));
  const answer = await connection.read();
  if (answer?.length !== 1 || answer[0] !== 0x53) {
    throw new Fault('connection-failed', `${connection.peer} does not take TLS connections`);
  }
  return connection.upgradeTls();
}

const unexpected = (message: Frame): Fault =>
  new Fault('protocol-violation', `the server sent a message of type '${String.fromCharCode(message.tag)}'`);

const AUTH = { ok: 0, cleartext: 3, md5: 5, sasl: 10, saslContinue: 11, saslFinal: 12 } as const;
const NONCE_BYTES = 18;

/** Answers the server's authentication requests. */
class Login {
  private readonly options: PqClientOptions;
  private readonly random: Random;
  private scram: ScramClient | undefined;

  constructor(options: PqClientOptions, random: Random) {
    this.options = options;
    this.random = random;
  }

  private password(): string {
    const { password } = this.options;
    if (password === undefined)
      throw new Fault('auth-failed', 'the server wants a password, and there is none');
    return password;
  }

  answer(body: Uint8Array): Uint8Array | undefined {
    const c = new Cursor(body);
    const kind = c.u32();
    switch (kind) {
      case AUTH.ok:
        return undefined;
      case AUTH.cleartext:
        return frame(TAG.password, utf8(`${this.password()}\0`));
      case AUTH.md5:
        return frame(TAG.password, utf8(`${md5(this.options, this.password(), c.raw(4))}\0`));
      case AUTH.sasl:
        return this.saslFirst(c);
      case AUTH.saslContinue:
        if (!this.scram) throw new Fault('protocol-violation', 'SCRAM goes on before it began');
        return frame(TAG.password, utf8(this.scram.final(fromUtf8(c.raw(c.left)))));
      case AUTH.saslFinal:
        this.scram?.verify(fromUtf8(c.raw(c.left)));
        return undefined;
      default:
        throw new Fault('auth-failed', `the server wants authentication of kind ${kind}`, {
          hint: 'Trust, password, md5 and scram-sha-256 are known.',
        });
    }
  }

  private saslFirst(c: Cursor): Uint8Array {
    const offered: string[] = [];
    for (let name = c.cstr(); name !== ''; name = c.cstr()) offered.push(name);
    if (!offered.includes(SCRAM_SHA_256)) {
      throw new Fault('auth-failed', `the server offers ${offered.join(', ')}, not ${SCRAM_SHA_256}`);
    }
    this.scram = new ScramClient(this.password(), this.random.bytes(NONCE_BYTES));
    const first = utf8(this.scram.first());
    const head = Buffer.alloc(SCRAM_SHA_256.length + 5);
    head.write(SCRAM_SHA_256);
    head.writeInt32BE(first.length, SCRAM_SHA_256.length + 1);
    return frame(TAG.password, Buffer.concat([head, first]));
  }
}

function md5(options: PqClientOptions, password: string, salt: Uint8Array): string {
  const hash = (...pieces: (string | Uint8Array)[]): string => {
    const h = createHash('md5');
    for (const piece of pieces) h.update(piece);
    return h.digest('hex');
  };
  return `md5${hash(hash(password, options.parameters['user'] ?? ''), salt)}`;
}
