// Tar archives, read and written as streams: base backups go out as one, data directories come in as one.
//
//   entry:  512-byte header | contents, padded to 512        end: two blocks of zeros
//   header: 0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8 |
//           156 type 1 | 157 linkname 100 | 257 magic 6 | 263 version 2 | 265 uname 32 | 297 gname 32 |
//           345 prefix 155         numbers in octal text; sizes of 8 GiB and more in base 256 (first bit set)
//
// Read: ustar and GNU headers, GNU long names (type L), pax headers (path and size). Written: ustar, with base-256
// sizes where octal does not reach. What Postgres's own tools write and read (src/port/tar.c) is a subset.

import { fromUtf8, utf8 } from './bytes.ts';
import { Fault } from './fault.ts';

const BLOCK = 512;
const TYPE_FILE = '0';
const TYPE_DIRECTORY = '5';

export interface TarEntry {
  readonly name: string;
  readonly isDirectory: boolean;
  /** The contents, or the next piece of them; empty for directories and for what `want` refused. */
  readonly bytes: Uint8Array;
  /** Where the piece lies in the contents, and how long they are. */
  readonly offset: number;
  readonly size: number;
}

/** Chunks of any size in, exact pieces out. */
class Intake {
  private readonly source: AsyncIterator<Uint8Array>;
  private chunk: Uint8Array = new Uint8Array(0);
  private at = 0;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.source = chunks[Symbol.asyncIterator]();
  }

  /** Exactly `count` bytes; undefined at a clean end of the stream. */
  async take(count: number, into = new Uint8Array(count)): Promise<Uint8Array | undefined> {
    let fill = 0;
    while (fill < count) {
      if (this.at === this.chunk.length && !(await this.more())) {
        if (fill === 0) return undefined;
        throw new Fault('bytes-short', `tar archive cut short: ${count - fill} bytes are missing`);
      }
      const n = Math.min(count - fill, this.chunk.length - this.at);
      into.set(this.chunk.subarray(this.at, this.at + n), fill);
      this.at += n;
      fill += n;
    }
    return into;
  }

  async skip(count: number): Promise<void> {
    let left = count;
    while (left > 0) {
      if (this.at === this.chunk.length && !(await this.more())) {
        throw new Fault('bytes-short', `tar archive cut short: ${left} bytes are missing`);
      }
      const n = Math.min(left, this.chunk.length - this.at);
      this.at += n;
      left -= n;
    }
  }

  private async more(): Promise<boolean> {
    const next = await this.source.next();
    if (next.done) return false;
    this.chunk = next.value;
    this.at = 0;
    return true;
  }
}

/**
 * The entries of an archive in their order; contents only of those that `want` accepts. An entry larger than
 * `pieceBytesMax` comes as several, one for each piece.
 */
export async function* readTar(
  chunks: AsyncIterable<Uint8Array>,
  want: (name: string, size: number) => boolean = () => true,
  pieceBytesMax = Infinity,
): AsyncIterable<TarEntry> {
  const intake = new Intake(chunks);
  let longName: string | undefined;
  let pax: Map<string, string> | undefined;
  for (;;) {
    const header = await intake.take(BLOCK);
    if (header === undefined || header.every(byte => byte === 0)) return;
    checkHeader(header);
    const size = Number(pax?.get('size') ?? readNumber(header, 124, 12));
    const padded = Math.ceil(size / BLOCK) * BLOCK;
    const type = String.fromCharCode(header[156]!);
    if (type === 'L' || type === 'x' || type === 'g') {
      if (size > 1024 * 1024) throw new Fault('bytes-short', `tar header of ${size} bytes`);
      const body = ((await intake.take(padded)) ?? new Uint8Array(0)).subarray(0, size);
      if (type === 'L') longName = fromUtf8(body).replace(/\0.*$/s, '');
      else if (type === 'x') pax = readPax(body);
      continue;
    }
    const name = cleanName(pax?.get('path') ?? longName ?? readName(header));
    longName = undefined;
    pax = undefined;
    const isFile = type === TYPE_FILE || type === '\0' || type === '7';
    const isDirectory = type === TYPE_DIRECTORY;
    if (!isFile || size === 0 || !want(name, size)) {
      await intake.skip(padded);
      if (isFile || isDirectory) yield { name, isDirectory, bytes: new Uint8Array(0), offset: 0, size };
      continue;
    }
    for (let offset = 0; offset < size; offset += pieceBytesMax) {
      const bytes = await intake.take(Math.min(size - offset, pieceBytesMax));
      if (bytes === undefined) throw new Fault('bytes-short', `tar archive cut short in ${name}`);
      yield { name, isDirectory, bytes, offset, size };
    }
    await intake.skip(padded - size);
  }
}

const cleanName = (name: string): string => name.replace(/^(\.\/)+/, '').replace(/\/+$/, '');

function readText(header: Uint8Array, at: number, length: number): string {
  const zero = header.indexOf(0, at);
  return fromUtf8(header.subarray(at, zero >= 0 && zero < at + length ? zero : at + length));
}

function readName(header: Uint8Array): string {
  const name = readText(header, 0, 100);
  const isPosix = readText(header, 257, 6) === 'ustar' && header[262] === 0;
  const prefix = isPosix ? readText(header, 345, 155) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

function readNumber(header: Uint8Array, at: number, length: number): number {
  if ((header[at]! & 0x80) !== 0) {
    let value = header[at]! & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + header[at + i]!;
    return value;
  }
  const text = readText(header, at, length).trim();
  const value = text === '' ? 0 : parseInt(text, 8);
  if (!Number.isSafeInteger(value) || value < 0) throw new Fault('bytes-short', `tar number "${text}"`);
  return value;
}

function readPax(body: Uint8Array): Map<string, string> {
  const records = new Map<string, string>();
  for (const line of fromUtf8(body).split('\n')) {
    const match = /^\d+ ([^=]+)=(.*)$/.exec(line);
    if (match) records.set(match[1]!, match[2]!);
  }
  return records;
}

function headerSum(header: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 32 : header[i]!;
  return sum;
}

function checkHeader(header: Uint8Array): void {
  if (parseInt(readText(header, 148, 8).trim(), 8) !== headerSum(header)) {
    throw new Fault('bytes-short', 'not a tar archive: a header has the wrong checksum', {
      hint: 'A compressed archive must end in .gz, .tgz or .zst to be recognised.',
    });
  }
}

/** The header of one entry. */
export function tarHeader(
  name: string,
  size: number,
  options: { mtimeMs?: number; directory?: boolean; mode?: number } = {},
): Uint8Array {
  const header = new Uint8Array(BLOCK);
  const stored = utf8(options.directory ? `${name}/` : name);
  if (stored.length > 100) throw new Fault('config-invalid', `name too long for a tar header: ${name}`);
  const octal = (at: number, digits: number, value: number): void =>
    header.set(utf8(`${value.toString(8).padStart(digits, '0')}\0`), at);
  header.set(stored, 0);
  octal(100, 7, options.mode ?? (options.directory ? 0o755 : 0o600));
  octal(108, 7, 0);
  octal(116, 7, 0);
  if (size < 8 ** 11) octal(124, 11, size);
  else
    for (let i = 11, left = size; i >= 0; i--, left = Math.floor(left / 256))
      header[124 + i] = i === 0 ? 0x80 : left % 256;
  octal(136, 11, Math.floor((options.mtimeMs ?? 0) / 1000));
  header[156] = (options.directory ? TYPE_DIRECTORY : TYPE_FILE).charCodeAt(0);
  header.set(utf8('ustar\x0000'), 257);
  header.set(utf8(`${headerSum(header).toString(8).padStart(6, '0')}\0 `), 148);
  return header;
}

/** Zeros that follow an entry's contents. */
export const tarPadding = (size: number): Uint8Array => new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);

/** The end of an archive. */
export const tarEnd = (): Uint8Array => new Uint8Array(2 * BLOCK);
