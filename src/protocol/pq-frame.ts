// Frames of the Postgres frontend/backend protocol, version 3: how bytes of a stream become messages, and the
// few shapes that both ends write.
//
//   regular   tag u8 | length i32, itself included, the tag not | body
//   startup   length i32 | code u32 | body          the first packet of a connection has no tag
//
// FrameReader is fed whatever chunks the socket gives and returns whole frames. A body that lies inside one chunk
// is a view of that chunk; one that spans chunks is copied once into a buffer that grows with what really
// arrives, so that a header claiming a giant body costs nothing. Every length is checked against a limit before
// a byte of the body is kept.
//
// A stream of large messages need not make garbage: a chunk that is the reader's own is given back once all of it was
// copied, and a body that its consumer is done with (`takeBack`) takes in the next one.
//
// Answers to libs/pq_proto/src/framed.rs and src/interfaces/libpq/fe-protocol3.c.

import { Builder, EMPTY_BYTES, giveBack, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';

/** A tag as a number: `tagOf('d')`. */
export const tagOf = (letter: string): number => letter.charCodeAt(0);

/** The tags both ends use in COPY mode, and those of the server. */
export const TAG = {
  copyData: tagOf('d'),
  copyDone: tagOf('c'),
  copyFail: tagOf('f'),
  query: tagOf('Q'),
  terminate: tagOf('X'),
  password: tagOf('p'),
  parse: tagOf('P'),
  bind: tagOf('B'),
  describe: tagOf('D'),
  execute: tagOf('E'),
  sync: tagOf('S'),
  flush: tagOf('H'),
  close: tagOf('C'),
  // from the server
  authentication: tagOf('R'),
  parameterStatus: tagOf('S'),
  backendKeyData: tagOf('K'),
  readyForQuery: tagOf('Z'),
  errorResponse: tagOf('E'),
  noticeResponse: tagOf('N'),
  rowDescription: tagOf('T'),
  dataRow: tagOf('D'),
  commandComplete: tagOf('C'),
  emptyQuery: tagOf('I'),
  copyInResponse: tagOf('G'),
  copyOutResponse: tagOf('H'),
  copyBothResponse: tagOf('W'),
} as const;

/** Codes that stand where a version stands in a first packet. */
export const SSL_REQUEST = 80877103;
export const GSSENC_REQUEST = 80877104;
export const CANCEL_REQUEST = 80877102;
export const PROTOCOL_3_0 = 196608;

/** First packets are 8 to 10000 bytes, as in Postgres (MAX_STARTUP_PACKET_LENGTH). */
export const STARTUP_BYTES_MIN = 8;
export const STARTUP_BYTES_MAX = 10_000;

export interface Frame {
  readonly tag: number;
  readonly body: Uint8Array;
}

const FIRST_PIECE_BYTES = 64 * 1024;
/** So much more than has arrived is set aside: an append of 128 KiB, in pieces of 64, is copied once. */
const GROWTH = 4;

export class FrameReader {
  /** The longest body taken; raise it once the other end is known. */
  bodyBytesMax: number;
  /** Chunks are nobody else's. */
  private readonly ownsChunks: boolean;
  private chunk: Uint8Array = EMPTY_BYTES;
  private at = 0;
  /** A body was returned that is a view of the chunk. */
  private isLent = false;
  /** The body returned last that is no view of a chunk; and the same once it was taken back. */
  private copied: Uint8Array = EMPTY_BYTES;
  private spare: Uint8Array | undefined;
  private readonly header = new Uint8Array(5);
  private headerFilled = 0;
  private body: Uint8Array | undefined;
  private bodyFilled = 0;
  private bodyLength = 0;

  constructor(bodyBytesMax: number, ownsChunks = false) {
    this.bodyBytesMax = bodyBytesMax;
    this.ownsChunks = ownsChunks;
  }

  /** Give the next bytes of the stream; the reader keeps views of them. */
  push(bytes: Uint8Array): void {
    if (this.at >= this.chunk.length) {
      if (this.ownsChunks && !this.isLent) giveBack(this.chunk);
      this.chunk = bytes;
    } else {
      const joined = new Uint8Array(this.chunk.length - this.at + bytes.length);
      joined.set(this.chunk.subarray(this.at));
      joined.set(bytes, this.chunk.length - this.at);
      this.chunk = joined;
    }
    this.at = 0;
    this.isLent = false;
  }

  /** A body that was returned, and that nobody looks at any more: the next one may take its place. */
  takeBack(body: Uint8Array): void {
    if (body.buffer === this.copied.buffer && this.copied.length > 0) this.spare = this.copied;
  }

  /** Bytes given and not yet returned. */
  get buffered(): number {
    return this.chunk.length - this.at + this.headerFilled + this.bodyFilled;
  }

  /** The next regular frame, or undefined until more bytes come. */
  next(): Frame | undefined {
    if (this.headerFilled < 5 && !this.fillHeader(5)) return undefined;
    if (this.body === undefined) this.openBody(1, 0, this.bodyBytesMax);
    const body = this.takeBody();
    return body && { tag: this.header[0]!, body };
  }

  /** The next packet of startup shape: its code and what follows it. */
  nextStartup(): { code: number; body: Uint8Array } | undefined {
    if (this.headerFilled < 4 && !this.fillHeader(4)) return undefined;
    if (this.body === undefined) this.openBody(0, STARTUP_BYTES_MIN - 4, STARTUP_BYTES_MAX - 4);
    const body = this.takeBody();
    if (!body) return undefined;
    const code = ((body[0]! << 24) | (body[1]! << 16) | (body[2]! << 8) | body[3]!) >>> 0;
    return { code, body: body.subarray(4) };
  }

  private fillHeader(wanted: number): boolean {
    while (this.headerFilled < wanted && this.at < this.chunk.length) {
      this.header[this.headerFilled++] = this.chunk[this.at++]!;
    }
    return this.headerFilled === wanted;
  }

  private openBody(lengthAt: number, bytesMin: number, bytesMax: number): void {
    const h = this.header;
    const length =
      ((h[lengthAt]! << 24) | (h[lengthAt + 1]! << 16) | (h[lengthAt + 2]! << 8) | h[lengthAt + 3]!) >>> 0;
    const bodyLength = length - 4;
    if (bodyLength < bytesMin || bodyLength > bytesMax) {
      throw new Fault('protocol-violation', `a message of ${length} bytes is not acceptable here`, {
        hint: `Its body may be ${bytesMin} to ${bytesMax} bytes long. Is the other end speaking this protocol?`,
      });
    }
    this.bodyLength = bodyLength;
    this.bodyFilled = 0;
    this.body = EMPTY_BYTES;
  }

  private takeBody(): Uint8Array | undefined {
    const wanted = this.bodyLength - this.bodyFilled;
    const there = Math.min(wanted, this.chunk.length - this.at);
    if (this.bodyFilled === 0 && there === wanted) {
      const body = this.chunk.subarray(this.at, this.at + wanted);
      this.at += wanted;
      this.isLent = true;
      this.reset();
      return body;
    }
    if (there > 0) {
      this.growBody(this.bodyFilled + there);
      this.body!.set(this.chunk.subarray(this.at, this.at + there), this.bodyFilled);
      this.at += there;
      this.bodyFilled += there;
    }
    if (this.bodyFilled < this.bodyLength) return undefined;
    this.copied = this.body!;
    const body = this.copied.subarray(0, this.bodyLength);
    this.reset();
    return body;
  }

  private growBody(needed: number): void {
    const old = this.body!;
    if (needed <= old.length) return;
    const { spare } = this;
    if (spare !== undefined && needed <= spare.length && old.length === 0) {
      this.spare = undefined;
      this.body = spare;
      return;
    }
    const wider = Math.max(needed * GROWTH, FIRST_PIECE_BYTES);
    const grown = new Uint8Array(Math.min(this.bodyLength, wider));
    grown.set(old.subarray(0, this.bodyFilled));
    this.body = grown;
  }

  private reset(): void {
    this.headerFilled = 0;
    this.body = undefined;
    this.bodyFilled = 0;
    this.bodyLength = 0;
  }
}

const FRAME_HEADER_BYTES = 5;

/** One frame: tag, length, body. */
export function frame(tag: number, body: Uint8Array = EMPTY_BYTES): Uint8Array {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + body.length);
  bytes[0] = tag;
  bytes.writeUInt32BE(body.length + 4, 1);
  bytes.set(body, FRAME_HEADER_BYTES);
  return bytes;
}

/** A frame written piece by piece: `open` leaves room for the length, `close` fills it in. */
export function openFrame(b: Builder, tag: number): number {
  b.u8(tag);
  const at = b.length;
  b.u32(0);
  return at;
}

export function closeFrame(b: Builder, at: number): void {
  b.patchU32(at, b.length - at);
}

/** What comes before a CopyData of `length` bytes. */
export function copyDataHeader(length: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
  writeCopyDataHeader(bytes, length);
  return bytes;
}

function writeCopyDataHeader(bytes: Buffer, length: number): void {
  bytes[0] = TAG.copyData;
  bytes.writeUInt32BE(length + 4, 1);
}

/** CopyData around a payload given in pieces, joined with one copy. */
export function copyData(...pieces: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + length);
  writeCopyDataHeader(bytes, length);
  let at = FRAME_HEADER_BYTES;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

export const copyDone = (): Uint8Array => frame(TAG.copyDone);
export const copyFail = (message: string): Uint8Array => frame(TAG.copyFail, utf8(`${message}\0`));
export const terminate = (): Uint8Array => frame(TAG.terminate);

/** A first packet: code and NUL-ended words. */
export function startupPacket(code: number, words: readonly string[] = []): Uint8Array {
  const b = new Builder(128);
  b.u32(0).u32(code);
  for (const word of words) b.cstr(word);
  if (words.length > 0) b.u8(0);
  return b.patchU32(0, b.length).finish();
}
