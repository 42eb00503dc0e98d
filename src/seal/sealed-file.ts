// The immutable format: layers, indexes, control files, objects. Written once, front to back; read by range.
//
//   header    512 bytes (sealed-header.ts), kind file
//   chunk 0   ciphertext of `chunkBytes` plaintext bytes (32 KiB unless the header says otherwise), tag 16
//   chunk 1   ...
//   last      ciphertext of what is left: 1 to `chunkBytes` bytes, or 0 if the file is empty; tag 16
//
// Nonce: the chunk's number. Authenticated with each chunk: whether it is the last.
//
// WHY NO NONCE REPEATS. Every file has a DEK of its own, made when its writing begins and known to this one
// writer, which seals chunk 0, 1, 2 … once each. A retried upload sends the same sealed bytes; a file begun again
// is another file with another DEK. A copy under another name takes the chunks as they are.
//
// WHAT IS REFUSED. A changed bit: tag. Chunks swapped or repeated: nonce. Chunks of another file: key. The end
// cut off at a chunk's border: the chunk that is now last was not sealed as the last, and `openSealed` looks at
// the last one before anything is read. A file moved to another name, timeline, tenant or generation: header.
//
// A ranged read costs the chunks it touches: 8 KiB out of a large file is one chunk most of the time.

import { concatBytes, EMPTY_BYTES, giveBack, toHex, viewOf } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import type { Source } from '../base/ports.ts';
import { type Aead, type KeyObject, TAG_BYTES } from './aead.ts';
import type { FileSecrets } from './envelope.ts';
import { DataKey, type FileKeys } from './file-keys.ts';
import {
  type Expected,
  expectIdentity,
  HEADER_BYTES,
  parseHeader,
  proveHeader,
  type SealedHeader,
  tampered,
} from './sealed-header.ts';
import type { SealedSource } from './vault.ts';

export const CHUNK_BYTES = 32 * 1024;
/** What a damaged header may not talk a reader into allocating. */
const CHUNK_BYTES_MAX = 1024 * 1024;
/** Chunks are numbered in 32 bits: 128 TiB of 32 KiB chunks. */
export const CHUNKS_MAX = 2 ** 32 - 1;

const NOT_LAST = new Uint8Array([0]);
const LAST = new Uint8Array([1]);

function nonceOf(chunk: number): Uint8Array {
  const nonce = new Uint8Array(12);
  viewOf(nonce).setUint32(8, chunk);
  return nonce;
}

/** Seals a stream of plaintext chunk by chunk; holds back one chunk until it knows whether it is the last. */
export class ChunkSealer {
  private readonly aead: Aead;
  private readonly chunkBytes: number;
  private readonly buffer: Uint8Array;
  private filled = 0;
  private chunk = 0;
  /** Plaintext bytes taken. */
  size = 0;

  constructor(aead: Aead, chunkBytes: number) {
    this.aead = aead;
    this.chunkBytes = chunkBytes;
    this.buffer = new Uint8Array(chunkBytes);
  }

  push(key: KeyObject, bytes: Uint8Array, out: Uint8Array[]): void {
    this.size += bytes.length;
    let at = 0;
    while (bytes.length - at > 0) {
      if (this.filled === 0 && bytes.length - at > this.chunkBytes) {
        this.seal(key, bytes.subarray(at, at + this.chunkBytes), NOT_LAST, out);
        at += this.chunkBytes;
        continue;
      }
      if (this.filled === this.chunkBytes) {
        this.seal(key, this.buffer, NOT_LAST, out);
        this.filled = 0;
        continue;
      }
      const part = Math.min(this.chunkBytes - this.filled, bytes.length - at);
      this.buffer.set(part === bytes.length ? bytes : bytes.subarray(at, at + part), this.filled);
      this.filled += part;
      at += part;
    }
  }

  finish(key: KeyObject, out: Uint8Array[]): void {
    this.seal(key, this.buffer.subarray(0, this.filled), LAST, out);
    this.filled = 0;
  }

  private seal(key: KeyObject, plain: Uint8Array, aad: Uint8Array, out: Uint8Array[]): void {
    if (this.chunk > CHUNKS_MAX) throw new Fault('sealed-format', 'a sealed file has at most 2^32 chunks');
    this.aead.seal(key, nonceOf(this.chunk++), aad, [plain], out);
  }
}

/** The whole sealed file of some bytes. */
export function sealWhole(
  aead: Aead,
  header: Uint8Array,
  secrets: FileSecrets,
  chunkBytes: number,
  bytes: Uint8Array,
): Uint8Array {
  const out: Uint8Array[] = [header];
  const sealer = new ChunkSealer(aead, chunkBytes);
  sealer.push(secrets.seal, bytes, out);
  sealer.finish(secrets.seal, out);
  return concatBytes(out);
}

/** How a sealed file of this many bytes is cut into chunks. */
interface Geometry {
  readonly chunkBytes: number;
  readonly chunks: number;
  /** Plaintext bytes. */
  readonly size: number;
}

function geometryOf(header: SealedHeader, sealedSize: number, where: string): Geometry {
  const { chunkBytes } = header;
  if (chunkBytes < 1 || chunkBytes > CHUNK_BYTES_MAX)
    throw tampered(where, `it claims chunks of ${chunkBytes} bytes`);
  const body = sealedSize - HEADER_BYTES;
  const step = chunkBytes + TAG_BYTES;
  const chunks = Math.ceil(body / step);
  const lastBytes = body - (chunks - 1) * step;
  if (chunks < 1 || lastBytes < TAG_BYTES || (lastBytes === TAG_BYTES && chunks > 1)) {
    throw tampered(where, `${sealedSize} bytes are not a whole number of chunks: it was cut`);
  }
  return { chunkBytes, chunks, size: body - chunks * TAG_BYTES };
}

export interface OpenOptions {
  readonly aead: Aead;
  readonly keys: FileKeys;
  readonly expected: Expected;
  /** Names the file in errors. */
  readonly where: string;
  readonly close?: () => Promise<void>;
}

/** Read in one go when a file is opened: all of a small one. */
const FIRST_READ_BYTES = 16 * 1024;

/** Reads and proves the header and the last chunk: from here on every range is there, or was tampered with. */
export async function openSealed(sealed: Source, options: OpenOptions): Promise<SealedFile> {
  const { keys, where } = options;
  keys.check();
  const first = await sealed.read(0, Math.min(FIRST_READ_BYTES, sealed.size));
  const header = parseHeader(first, where);
  expectIdentity(header, options.expected, where);
  const key = new DataKey(keys, header.dek, where);
  try {
    const geometry = geometryOf(header, sealed.size, where);
    proveHeader(first.subarray(0, HEADER_BYTES), await key.get(), where);
    const { dek, generation } = header;
    const file = new SealedFile(sealed, first, geometry, key, options, toHex(dek.id), generation);
    await file.proveEnd();
    return file;
  } catch (error) {
    key.release();
    throw error;
  }
}

export class SealedFile implements SealedSource {
  readonly size: number;
  /** Which writing of the file this is. */
  readonly dekId: string;
  readonly generation: number;
  /** The file's first bytes, sealed, kept for small files that lie in them whole. */
  private readonly first: Uint8Array;
  private readonly sealed: Source;
  private readonly geometry: Geometry;
  private readonly key: DataKey;
  private readonly options: OpenOptions;
  /** The last chunk (footers and indexes lie there) and the one opened last. */
  private tail: Uint8Array = EMPTY_BYTES;
  private recentChunk = -1;
  private recent: Uint8Array = EMPTY_BYTES;

  constructor(
    sealed: Source,
    first: Uint8Array,
    geometry: Geometry,
    key: DataKey,
    options: OpenOptions,
    dekId: string,
    generation: number,
  ) {
    this.sealed = sealed;
    this.first = sealed.size <= first.length ? first : EMPTY_BYTES;
    this.geometry = geometry;
    this.key = key;
    this.options = options;
    this.size = geometry.size;
    this.dekId = dekId;
    this.generation = generation;
    key.onWipe = () => this.forget();
  }

  async proveEnd(): Promise<void> {
    const last = this.geometry.chunks - 1;
    [this.tail = EMPTY_BYTES] = await this.openChunks(last, last);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset < 0 || length < 0 || offset + length > this.size) {
      throw new Fault(
        'bytes-short',
        `${this.options.where} has ${this.size} bytes, not ${offset}..${offset + length}`,
      );
    }
    this.key.now(); // refuses while the tenant's keys may not be used
    if (length === 0) return EMPTY_BYTES;
    const { chunkBytes, chunks } = this.geometry;
    const from = Math.floor(offset / chunkBytes);
    const to = Math.floor((offset + length - 1) / chunkBytes);
    const start = offset - from * chunkBytes;
    if (from === to && from === chunks - 1 && this.tail.length > 0)
      return this.tail.slice(start, start + length);
    if (from === to && from === this.recentChunk) return this.recent.slice(start, start + length);
    const plains = await this.openChunks(from, to);
    this.keep(to, plains[plains.length - 1]!);
    if (from === to) return this.recent.slice(start, start + length);
    const out = new Uint8Array(length);
    let filled = 0;
    for (const plain of plains) {
      const begin = filled === 0 ? start : 0;
      const part = plain.subarray(begin, begin + length - filled);
      out.set(part, filled);
      filled += part.length;
      if (plain !== this.recent) giveBack(plain);
    }
    return out;
  }

  /** Chunks `from` to `to`, both included, proven. */
  private async openChunks(from: number, to: number): Promise<Uint8Array[]> {
    const { chunkBytes, chunks } = this.geometry;
    const step = chunkBytes + TAG_BYTES;
    const start = HEADER_BYTES + from * step;
    const end = Math.min(HEADER_BYTES + (to + 1) * step, this.sealed.size);
    const bytes =
      this.first.length > 0 ? this.first.subarray(start, end) : await this.sealed.read(start, end - start);
    const secrets = this.key.now() ?? (await this.key.get());
    const { aead, where } = this.options;
    const plains: Uint8Array[] = [];
    for (let chunk = from; chunk <= to; chunk++) {
      const at = (chunk - from) * step;
      const aad = chunk === chunks - 1 ? LAST : NOT_LAST;
      const plain = aead.open(secrets.seal, nonceOf(chunk), aad, bytes.subarray(at, at + step));
      if (!plain)
        throw tampered(where, `chunk ${chunk} of ${chunks} was changed, moved, or is not the end it must be`);
      plains.push(plain);
    }
    if (this.sealed.isFresh && this.first.length === 0 && plains[0]!.buffer !== bytes.buffer) giveBack(bytes);
    return plains;
  }

  /** The chunk opened last, for whoever reads on in it. The one before was given to nobody: its memory serves again. */
  private keep(chunk: number, plain: Uint8Array): void {
    giveBack(this.recent);
    this.recentChunk = chunk;
    this.recent = plain;
  }

  private forget(): void {
    this.tail = EMPTY_BYTES;
    this.recent = EMPTY_BYTES;
    this.recentChunk = -1;
  }

  async close(): Promise<void> {
    this.key.release();
    await this.options.close?.();
  }
}
