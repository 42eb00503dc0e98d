// The doors to the machine. Everything that waits, everything left to chance and every byte that leaves the
// process passes one of these; `host` gives the real ones, `integration/sim` the fake ones, and `main` (or a
// test) introduces them. Nobody else imports node:fs, node:net or timers, so that the simulator decides every
// interleaving. Ports are small; what is built from them lives with its user.

import type { Lsn } from './lsn.ts';

export interface Clock {
  /** Milliseconds since the Unix epoch; may step. */
  now(): number;
  /** Milliseconds since some start; never steps back. */
  monotonic(): number;
  /** Rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Lets what has arrived from the machine meanwhile go first; without it, `sleep(0)` does. */
  turn?(): Promise<void>;
}

export interface Random {
  bytes(count: number): Uint8Array;
  /** A whole number in [0, limit). */
  below(limit: number): number;
}

/** Bytes readable by range: an object, a file, a layer. */
export interface Source {
  readonly size: number;
  /** Exactly `length` bytes; a range past the end is a Fault `bytes-short`. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** What is read is the reader's own, and may be given back. */
  readonly isFresh?: boolean;
}

/**
 * Bulk is synced after every so many bytes written. One sync of a whole layer held each commit on the same disk up for as
 * long as the disk needed for tens of megabytes.
 */
export const BULK_SYNC_BYTES = 4 * 1024 * 1024;

/** Bytes written once, front to back. */
export interface Sink {
  write(bytes: Uint8Array): Promise<void>;
}

export interface DiskStat {
  readonly size: number;
  readonly isDirectory: boolean;
  readonly modifiedMs: number;
}

/** An open file. `write` is not durable before `sync`; what was not synced may be lost or torn in a crash. */
export interface DiskFile {
  readonly path: string;
  size(): Promise<number>;
  /** Up to `length` bytes from `offset`; fewer only at the end of the file. */
  read(offset: number, length: number): Promise<Uint8Array>;
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /** Several pieces, one after the other, in one call where the machine can. */
  writev(offset: number, pieces: readonly Uint8Array[]): Promise<void>;
  /** `writev` whose bytes are durable when it resolves (what was written before it may not be): one trip to
   * the machine in place of two. An error is final, as with `sync`. */
  writeDurably(offset: number, pieces: readonly Uint8Array[]): Promise<void>;
  truncate(length: number): Promise<void>;
  /** fdatasync. An error is final: the file's state is unknown from then on. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** One directory tree; paths are relative to it, with `/`. */
export interface Disk {
  open(path: string, mode: 'read' | 'write' | 'create' | 'create-new'): Promise<DiskFile>;
  readFile(path: string): Promise<Uint8Array>;
  /** Names in a directory, sorted; missing is a Fault `file-missing`. */
  list(path: string): Promise<string[]>;
  stat(path: string): Promise<DiskStat | undefined>;
  makeDirectory(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  removeTree(path: string): Promise<void>;
  /** Names made, renamed or removed in this directory last from here on. */
  syncDirectory(path: string): Promise<void>;
  usage(): Promise<{ capacityBytes: number; freeBytes: number }>;
}

export interface BlobHead {
  readonly key: string;
  readonly size: number;
  readonly modifiedMs: number;
}

export interface PutOptions {
  readonly onlyIfAbsent?: boolean;
  /** One try and no more: the caller wants to know of a put that was not answered. */
  readonly once?: boolean;
}

/** An object store. Errors: `blob-missing`, `blob-exists`, `blob-unavailable`. */
export interface Blobs {
  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<void>;
  get(key: string, range?: { offset: number; length: number }): Promise<Uint8Array>;
  head(key: string): Promise<BlobHead | undefined>;
  /** Every key under a prefix, in order, by pages. */
  list(prefix: string): AsyncIterable<BlobHead>;
  remove(keys: readonly string[]): Promise<void>;
  copy(from: string, to: string): Promise<void>;
  /** Every version under a prefix, those of a key from the newest on; absent where a store keeps none. */
  versions?(prefix: string): AsyncIterable<BlobVersion>;
  /** Makes an old version the newest one. */
  restore?(key: string, version: string): Promise<void>;
}

/** An object as it was once, in a store that keeps what is replaced or removed. */
export interface BlobVersion {
  readonly key: string;
  readonly version: string;
  readonly modifiedMs: number;
  readonly isNewest: boolean;
  /** From here on there was no object, until the next version. */
  readonly isRemoval: boolean;
}

/** A byte stream between two processes. */
export interface Connection {
  /** Who is at the other end, for logs. */
  readonly peer: string;
  /** The next bytes, or undefined at the end of the stream. */
  read(): Promise<Uint8Array | undefined>;
  /** What is read is the reader's own, and may be given back. */
  readonly isFresh?: boolean;
  /** Resolves when more may be written: the back pressure of the stream. */
  write(bytes: Uint8Array): Promise<void>;
  /** Pieces one after the other; resolves when nobody looks at them any more. For large ones, which are not copied. */
  writeLent?(pieces: readonly Uint8Array[]): Promise<void>;
  /** Ends our side; the other may still be read. */
  end(): Promise<void>;
  /** Cuts both sides at once. */
  destroy(): void;
  /** The bytes travel under TLS already. */
  readonly secure?: boolean;
  /** The name by which a TLS client called this server. */
  readonly serverName?: string;
  /** Go on under TLS; absent where none is configured. This connection must not be used afterwards. */
  upgradeTls?(): Promise<Connection>;
}

export interface Listener {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

export interface Net {
  listen(
    address: { host: string; port: number },
    accept: (connection: Connection) => void,
  ): Promise<Listener>;
  connect(address: { host: string; port: number }, options?: { timeoutMs?: number }): Promise<Connection>;
}

export interface HttpCall {
  readonly method: string;
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** In place of `body`: sent piece by piece, as fast as the other end takes it. Broken off when it throws. */
  readonly stream?: AsyncIterable<Uint8Array>;
  /** For the whole of the answer's head; its body may take longer. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface HttpReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Read it to the end, or stop: the connection is then cut. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** Requests to other services. Errors: `connection-failed`, `timeout`. */
export interface Http {
  request(call: HttpCall): Promise<HttpReply>;
}

export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** The same log with fields added to every line. */
  with(fields: LogFields): Log;
}

/** What is known of a piece of work when it is over. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

/** Work that is told to a collector, one span for each piece. Absent where nobody collects: then it costs nothing. */
export interface Traces {
  /** A piece of work that took so long, and ends now; `error` is why it failed. */
  span(name: string, ms: number, attributes: SpanAttributes, error?: unknown): void;
}

/** What a customer key can be doing: usable, switched off (may come back), or gone for good. */
export type KeyState = 'enabled' | 'disabled' | 'destroyed';

/** What a wrapped secret is bound to; the same names and values must be given to unwrap it. */
export type KeyContext = Readonly<Record<string, string>>;

/**
 * A key management service: wraps and unwraps small secrets under a key that never leaves it. Errors are
 * KeyFaults: `key-disabled`, `key-destroyed`, `key-denied` (we may not use it), `key-unavailable` (nobody
 * answered, or not now), `sealed-tampered` (not what this key wrapped in this context).
 */
export interface Keys {
  readonly kind: string;
  /** A new secret, plain and wrapped. */
  generate(
    keyId: string,
    bytes: number,
    context: KeyContext,
  ): Promise<{ plaintext: Uint8Array; secret: WrappedSecret }>;
  wrap(keyId: string, plaintext: Uint8Array, context: KeyContext): Promise<WrappedSecret>;
  unwrap(keyId: string, secret: WrappedSecret, context: KeyContext): Promise<UnwrappedSecret>;
  /** The key's state now; a Fault `key-unavailable` when the service cannot be asked. */
  state(keyId: string): Promise<KeyState>;
  /** A new version of the key, where we keep it ourselves; elsewhere it is made at the service. */
  rotate?(keyId: string): Promise<void>;
}

export interface WrappedSecret {
  readonly ciphertext: Uint8Array;
  /** The key's version at the service, where it tells. */
  readonly keyVersion: string | undefined;
  /** The service's id of the request, for the audit. */
  readonly requestId: string | undefined;
}

export interface UnwrappedSecret {
  readonly plaintext: Uint8Array;
  readonly keyVersion: string | undefined;
  readonly requestId: string | undefined;
}

/** Jobs by name on other threads (or inline, in simulation): bytes in, bytes out. */
export interface Pool {
  /** The input is given away: its buffer may be transferred. `spare` gets it back, when the job is done with it. */
  run(job: string, input: Uint8Array, spare?: (input: Uint8Array) => void): Promise<Uint8Array>;
}

/** A data directory that initdb made, to be read once. */
export interface NewCluster {
  readonly disk: Disk;
  remove(): Promise<void>;
}

/** Makes Postgres clusters. Error: `initdb-failed`; `config-invalid` when there is no initdb of that major. */
export interface Initdb {
  run(options: { major: number; superuser: string; locale: string }): Promise<NewCluster>;
}

/** A position that others wait for. */
export interface LsnWaiter {
  waitFor(lsn: Lsn, signal?: AbortSignal): Promise<void>;
}

/** A program that runs beside us. */
export interface Running {
  readonly pid: number;
  /** How it ended: `exit 1`, `SIGKILL`. */
  readonly ended: Promise<string>;
  kill(signal: 'SIGTERM' | 'SIGINT' | 'SIGQUIT' | 'SIGKILL'): void;
  /** We may end before it does. */
  release(): void;
}

/** Programs of this installation's `bin`, each a process of its own with its log in a file. */
export interface Programs {
  /** Of this process. */
  readonly ownPid: number;
  start(name: string, args: readonly string[], place: { directory: string; log: string }): Running;
  /** Where a program of this installation is. */
  own(name: string): string;
  /** Where a program of this name is: in these directories, or where the environment's PATH says. */
  find(name: string, directories: readonly string[]): string | undefined;
  /** Runs a program with our own terminal; resolves to its exit code. */
  interactive(
    path: string,
    args: readonly string[],
    environment: Readonly<Record<string, string>>,
  ): Promise<number>;
  /** Sends a signal to a process of this machine; false when there is none of that id. `0` only asks. */
  signal(pid: number, signal: 'SIGTERM' | 'SIGKILL' | 0): boolean;
  /** When a process began, in a word of the system's that tells it from others of that id; undefined when it has ended. */
  began(pid: number): string | undefined;
}

/** Neon's Postgres on this machine: what it takes to run a compute by hand. Directories are absolute paths. */
export interface Computes {
  /** Majors at hand, in order. */
  majors(): readonly number[];
  /** Makes a data directory anew, with these settings; where it is. A compute keeps nothing that must last. */
  prepare(name: string, settings: string): Promise<string>;
  discard(directory: string): Promise<void>;
  /** Where the data directory of that name is, or would be. */
  place(name: string): string;
  /** `postgres --sync-safekeepers`: the LSN it prints. */
  syncSafekeepers(major: number, directory: string): Promise<string>;
  /** Unpacks a base backup's tar into the data directory. */
  unpack(directory: string, tar: AsyncIterable<Uint8Array>): Promise<void>;
  run(major: number, directory: string, log: string): Running;
  /** One file of a data directory, anew. */
  write(directory: string, name: string, text: string): Promise<void>;
  /** A compute that runs, whoever started it; undefined when none does. */
  find(name: string): Promise<FoundCompute | undefined>;
  /** Names that have directories here. */
  list(): Promise<string[]>;
}

/** What a data directory and its `postmaster.pid` say. */
export interface FoundCompute {
  readonly directory: string;
  readonly pid: number;
  readonly port: number;
  /** It takes connections. */
  readonly ready: boolean;
  kill(signal: 'SIGINT' | 'SIGQUIT' | 'SIGKILL' | 'SIGHUP'): void;
}

/** One change of the catalog: a whole row in place of the one with its `id`, or a row gone. */
export type CatalogChange =
  | { readonly put: string; readonly row: Readonly<Record<string, unknown>> }
  | { readonly remove: string; readonly id: string };

/** A step of the catalog's schema, in order; those that were taken are never changed. */
export interface CatalogMigration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
}

/**
 * What the manager wants, kept durably: rows by table, read whole at the start and changed by commits. Column names
 * are those of the migrations; times and sizes are numbers, json columns values, SQL's null is undefined. One
 * process at a time. Errors: `catalog-unavailable`, `catalog-newer`, `catalog-locked`.
 */
export interface Catalog {
  load(table: string): Promise<Readonly<Record<string, unknown>>[]>;
  /** All of them or none; durable when it resolves. A rejection leaves open whether they happened. */
  commit(changes: readonly CatalogChange[]): Promise<void>;
  close(): Promise<void>;
}
