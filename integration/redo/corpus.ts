// Recorded WAL with the answers in it: where it lies, and its tar files read one member at a time.
//
// The recordings are too large for the repository. They are looked for in `shared/corpus`, beside the repository
// or above it; a suite that finds none says so in one line and skips.

import { createReadStream, existsSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { createZstdDecompress } from 'node:zlib';

const ROOT = resolve(import.meta.dirname, '../..');

export interface Corpus {
  readonly name: string;
  readonly major: number;
  readonly path: string;
}

function corpusRoot(): string | undefined {
  for (let at = ROOT; dirname(at) !== at; at = dirname(at)) {
    const path = join(dirname(at), 'shared', 'corpus');
    if (existsSync(path)) return path;
  }
  return undefined;
}

/** The recordings at hand: `v15-neon` and the like. */
export function corpora(): Corpus[] {
  const root = corpusRoot();
  if (root === undefined) return [];
  return readdirSync(root)
    .map(name => ({ name, match: /^v(\d+)-/.exec(name) }))
    .filter(({ match }) => match !== null)
    .map(({ name, match }) => ({ name, major: Number(match![1]), path: join(root, name) }));
}

/** Why a suite is skipped, for its title. */
export const NO_CORPUS = 'no recorded WAL (shared/corpus) beside the repository';

export interface TarMember {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const BLOCK = 512;
/** Larger than the default, or unpacking would mostly be handing over. */
const CHUNK_SIZE = 1024 * 1024;

/** The files of a zstd-compressed tar, one at a time; `wanted` spares the others their bytes. */
export async function* tarMembers(
  path: string,
  wanted: (name: string) => boolean = () => true,
): AsyncGenerator<TarMember> {
  const input = new Pieces(createReadStream(path).pipe(createZstdDecompress({ chunkSize: CHUNK_SIZE })));
  for (;;) {
    const header = await input.take(BLOCK);
    if (header === undefined || header[0] === 0) return;
    const name = text(header, 0, 100);
    const kind = String.fromCharCode(header[156]!);
    if (kind !== '0' && kind !== '5') throw new Error(`${path}: tar member ${name} is of kind ${kind}`);
    const size = parseInt(text(header, 124, 12), 8);
    const padded = Math.ceil(size / BLOCK) * BLOCK;
    if (kind === '5' || !wanted(name)) {
      await input.skip(padded);
      continue;
    }
    const bytes = await input.take(padded);
    if (bytes === undefined) throw new Error(`${path} ends within ${name}`);
    yield { name, bytes: bytes.subarray(0, size) };
  }
}

function text(header: Uint8Array, at: number, length: number): string {
  const zero = header.indexOf(0, at);
  return Buffer.from(header.subarray(at, zero < 0 ? at + length : Math.min(zero, at + length))).toString();
}

/** A stream, taken in pieces of the asker's size. */
class Pieces {
  private readonly chunks: AsyncIterator<Uint8Array>;
  private chunk: Uint8Array = new Uint8Array(0);

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.chunks = stream[Symbol.asyncIterator]();
  }

  /** The next bytes, as a copy; undefined when the stream ends before. */
  async take(count: number): Promise<Uint8Array | undefined> {
    const bytes = new Uint8Array(count);
    return (await this.run(count, (piece, at) => bytes.set(piece, at))) ? bytes : undefined;
  }

  async skip(count: number): Promise<void> {
    await this.run(count, () => undefined);
  }

  private async run(count: number, use: (piece: Uint8Array, at: number) => void): Promise<boolean> {
    for (let at = 0; at < count; ) {
      if (this.chunk.length === 0) {
        const next = await this.chunks.next();
        if (next.done === true) return false;
        this.chunk = next.value;
      }
      const piece = this.chunk.subarray(0, count - at);
      use(piece, at);
      at += piece.length;
      this.chunk = this.chunk.subarray(piece.length);
    }
    return true;
  }
}
