// A command of `lakebed` as data: what it is called, what it takes, what it teaches in its help, and what it
// does. main.ts turns the table of verbs into a command line; a verb itself sees only the World it is handed,
// so a test can run it with a world of its own.

import type { Blobs, Clock, Computes, Disk, Http, Keys, Net, Programs, Random } from './ports.ts';

export interface ArgumentSpec {
  readonly name: string;
  readonly help: string;
  readonly optional?: boolean;
  readonly many?: boolean;
}

export interface OptionSpec {
  /** As typed: `--start LSN`, `-n, --limit N`, `--json`. */
  readonly flags: string;
  readonly help: string;
  readonly default?: string;
  readonly choices?: readonly string[];
  /** May be given more than once. */
  readonly many?: boolean;
}

export interface Verb {
  /** The words after `lakebed`: `wal dump`. */
  readonly name: string;
  readonly summary: string;
  /** What the help says beyond the summary. */
  readonly about?: string;
  readonly arguments?: readonly ArgumentSpec[];
  readonly options?: readonly OptionSpec[];
  readonly examples: readonly { readonly line: string; readonly what: string }[];
  /** What each exit code means, besides 0 for success and 2 for a wrong call. */
  readonly exitCodes?: Readonly<Record<number, string>>;
  /** Resolves to the exit code. A Fault thrown is printed with its hint, exit code 1. */
  run(input: VerbInput, world: World): Promise<number>;
}

export interface VerbInput {
  /** In order; a `many` argument is the last and takes the rest. */
  readonly args: readonly string[];
  /** By long name in camel case: `--wal-dir X` is `walDir`. */
  readonly options: Readonly<Record<string, string | boolean | readonly string[] | undefined>>;
}

/** One option as text, if given. */
export function textOption(input: VerbInput, name: string): string | undefined {
  const value = input.options[name];
  return typeof value === 'string' ? value : undefined;
}

export const flagOption = (input: VerbInput, name: string): boolean => input.options[name] === true;

export function listOption(input: VerbInput, name: string): readonly string[] {
  const value = input.options[name];
  if (value === undefined || typeof value === 'boolean') return [];
  return typeof value === 'string' ? [value] : value;
}

/** A bar on a terminal, silence in a pipe. */
export interface Progress {
  update(done: number, note?: string): void;
  stop(): void;
}

export interface Terminal {
  write(text: string): void;
  /** Beside the result: notes and trouble, on standard error. */
  note(text: string): void;
  readonly isTerminal: boolean;
  readonly columns: number;
  /** Waits until what was written has been taken: the back pressure of a pipe. */
  drained(): Promise<void>;
  progress(label: string, total: number, unit?: string): Progress;
}

export interface World {
  readonly clock: Clock;
  readonly random: Random;
  readonly net: Net;
  /** A Net whose connections can go on under TLS; with `verify`, to a name that the machine's authorities vouch for. */
  tlsNet?(verify: boolean): Net;
  readonly terminal: Terminal;
  /** The file system below a directory (relative to the working directory, or absolute). */
  disk(root: string): Disk;
  /** An object store by its location: a directory, or `s3://BUCKET/PREFIX?region=R&endpoint=URL`. */
  blobs(location: string): Promise<Blobs>;
  /** Drivers of every kind of key service; keys kept in files lie in that directory, or else in the object store. */
  keyServices(localDirectory: string | undefined, store: Blobs): readonly Keys[];
  /** A file's bytes as a stream, unpacked if its name ends in .zst, .gz or .tgz. */
  readUnpacked(path: string): AsyncIterable<Uint8Array>;
  readonly http: Http;
  readonly programs: Programs;
  readonly computes: Computes;
  /**
   * Postgres does not run as root: what root made is given to somebody who may run it, the owner of the directory around
   * it where that is not root, or `postgres`, or nobody. Their name; undefined when we are not root.
   */
  handOver?(path: string): Promise<string | undefined>;
  environment(name: string): string | undefined;
  /** Who runs the command, as the machine knows them: for the audit, where the environment does not say. */
  user?(): string;
  /** Aborted when the user interrupts. */
  readonly signal: AbortSignal;
}
