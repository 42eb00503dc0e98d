// The one door to bytes at rest. A service is handed a Vault, never a Disk: what it writes is sealed, what it
// reads was proven, and there is no way around. A Vault is one directory of one tenant (and one timeline, where
// there is one); names are paths below it, with `/`.
//
//   writeFile/readFile   small files replaced as a whole: written aside, synced, renamed, directory synced
//   create/open          big immutable files, streamed in and read by range                (sealed-file.ts)
//   log                  append-only files, one sealed frame a flush                        (sealed-log.ts)
//   seal/unseal/openSource/copyOut/copyIn
//                        the same sealed bytes for an object store: sealed once, then copied as they are
//
// A file is bound to its tenant, its timeline, its name and its generation. Bytes that were changed, cut, moved
// to another name or put back from an older generation are refused with a Fault `sealed-tampered` that names
// the file; nothing else is harmed. Every call fails with `key-revoked` while the tenant's key is not to be used.

import type { Source } from '../base/ports.ts';

/** What files are bound to, besides name, generation and offset. Ids are 32 hex digits. */
export interface SealScope {
  readonly tenant: string;
  readonly timeline?: string;
}

export interface SealedSource extends Source {
  close(): Promise<void>;
}

export interface SealedWriter {
  write(bytes: Uint8Array): Promise<void>;
  /** Durable under its name when resolved; the plaintext size. */
  finish(): Promise<number>;
  /** Nothing of it stays. */
  abort(): Promise<void>;
}

/** An append-only file, e.g. one WAL segment. */
export interface SealedLog {
  readonly name: string;
  /** Plaintext offset of the first byte kept: a segment may begin in its middle. */
  readonly origin: number;
  /** Plaintext end offset of what was appended (buffered or written), never below `origin`. */
  readonly length: number;
  /** Plaintext end offset of what is written and synced. */
  readonly durable: number;
  /** The highest mark that any of its frames carries: see `setMark`. */
  readonly mark: number;
  /** A number for the frames sealed from now on, which never falls: proof, later, of what was durable before them. */
  setMark(mark: number): void;
  /** Buffers pieces; no I/O. The pieces are not copied: leave them alone until flushed. */
  append(pieces: readonly Uint8Array[]): void;
  /** One sealed frame of all that is buffered, one sync. A failed sync is final: the log refuses all after it. */
  flush(): Promise<void>;
  /** The frame without the sync. */
  write(): Promise<void>;
  /** A plaintext range of what was written; a range past it is a Fault `bytes-short`. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Forgets everything from `length` on; durable when resolved. Later appends go under a new key. */
  truncate(length: number): Promise<void>;
  /** What was appended and not written is dropped. */
  close(): Promise<void>;
}

export interface LogOptions {
  /** Where a new log begins; an existing one knows. */
  readonly origin?: number;
  /** Make it; an existing one is a Fault `file-exists`. Otherwise open it: its torn tail is found and cut. */
  readonly create: boolean;
  /** On opening: less than this means that synced bytes were lost, and the log is refused. */
  readonly atLeast?: number;
  /** On making: a file of so many bytes, filled with zeros, so that it never has to grow. */
  readonly reserve?: number;
}

/** A log that is only read, e.g. one in an object store. */
export type SealedLogSource = Pick<SealedLog, 'name' | 'origin' | 'length' | 'read' | 'close'>;

export interface SealOptions {
  /** Kept in the header and authenticated with it; see `ExpectOptions`. */
  readonly generation?: number;
  /** For a file that is read in larger or smaller pieces than the vault's others. */
  readonly chunkBytes?: number;
}

export interface ExpectOptions {
  /** Exactly this generation, or the file is refused as put back from another time. */
  readonly generation?: number;
}

export interface Vault {
  readonly scope: SealScope;
  /** A Fault `key-revoked` while the tenant's keys may not be used: for whoever answers from memory. */
  check(): void;
  writeFile(name: string, bytes: Uint8Array, options?: SealOptions): Promise<void>;
  readFile(name: string, options?: ExpectOptions): Promise<Uint8Array>;
  /** The same, with the generation that it was written as. */
  readGeneration(name: string): Promise<{ readonly bytes: Uint8Array; readonly generation: number }>;
  create(name: string, options?: SealOptions): Promise<SealedWriter>;
  open(name: string, options?: ExpectOptions): Promise<SealedSource>;
  log(name: string, options: LogOptions): Promise<SealedLog>;
  /** Names that begin so, in one directory (that of the prefix), sorted; files half made are not among them. */
  list(prefix?: string): Promise<string[]>;
  remove(name: string): Promise<void>;
  /** Copies: the name is part of what is sealed. */
  rename(from: string, to: string): Promise<void>;
  /** Removes what a crash left half made in the vault's own directory; before anything is being written. */
  sweep(): Promise<number>;
  /** Sealed bytes for an object store, bound to `name` as a file of that name would be. */
  seal(name: string, bytes: Uint8Array, options?: SealOptions): Promise<Uint8Array>;
  unseal(name: string, sealed: Uint8Array, options?: ExpectOptions): Promise<Uint8Array>;
  /** Ranged plaintext over an object's sealed bytes. */
  openSource(name: string, sealed: Source, options?: ExpectOptions): Promise<SealedSource>;
  openLogSource(name: string, sealed: Source): Promise<SealedLogSource>;
  /** A file's sealed bytes as they are: what an upload sends. */
  copyOut(name: string): Promise<SealedSource>;
  /** Sealed bytes as they are, checked to be the whole of `name`, durable under it: what a download keeps. */
  copyIn(name: string, sealed: Source): Promise<void>;
  /** The sealed bytes of another file of this tenant, bound to `name` here: the header is new, the rest the same. */
  rebind(name: string, sealed: Source, from: { scope: SealScope; name: string }): Promise<Source>;
}
