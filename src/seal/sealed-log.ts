// The append-only format: a file that grows by one sealed frame a flush. WAL segments are kept in it. This file
// is the format, over bytes and a Source; log-file.ts is the open log on a disk.
//
//   header   512 bytes (sealed-header.ts), kind log; `origin` is where the plaintext begins
//   frame    0   4  marker "LBFR"
//            4   4  plaintext bytes n, up to 256 KiB; 0 only in a frame that forgets
//            8   8  plaintext offset
//           16   8  synced: bytes of this file known to be durable when the frame was made
//           24   4  frame number within its stretch, from 0
//           28   4  mark: whatever the writer noted; 0 for nothing
//           32  16  salt of the stretch
//           48   n  ciphertext
//         48+n  16  tag
//   frame    ...
//   zeros    perhaps, where room was reserved ahead
//
// A stretch is what one opening of the log appended; its key is made of the file's DEK and its salt
// (envelope.ts). Nonce: the frame number. Authenticated with each frame: its 48 header bytes and its place in
// the file.
//
// WHY NO NONCE REPEATS. Within a stretch frame numbers only grow, and a frame once handed to the disk is never
// made again: after any failed write, truncation, or reopening (a crash included) the log goes on in a new
// stretch with 16 new random bytes of salt, hence another key. The old file's bytes may then be overwritten in
// place, by bytes under a key that has sealed nothing else. A cipher made ready before its frame (`readyFrame`) is bound
// to one salt and number: it seals that frame or, when the stretch ends first, nothing at all.
//
// RULES of the reader, who walks the frames from the first:
//   - same salt: the number is the next one and the offset continues where the plaintext ended
//   - new salt: number 0; the offset is at most the end so far, and everything from it on is forgotten. So a
//     truncation is a frame (n = 0) like any other: written once, whole or not at all
//   - the first frame that breaks a rule or its tag ends the log: a torn tail, of bytes that nobody was told
//     are durable, and the writer cuts it off
//   - unless a later frame is whole and says that the broken place was already synced when it was made. Then
//     durable bytes were lost or changed, and the file is refused
// A log cut back exactly to a frame's end looks like one that never got further. Only the caller knows better,
// and says so with `atLeast`.
//
// A MARK is what the writer knows to be durable elsewhere, counted up: the generation of a file beside the log. The
// highest one of a log is proof, later, that the file was there in that generation: an older one was put back.

import { EMPTY_BYTES, utf8, viewOf } from '../base/bytes.ts';
import type { Source } from '../base/ports.ts';
import { type Aead, type KeyObject, type ReadyCipher, TAG_BYTES } from './aead.ts';
import { copyOf, HEADER_BYTES, readU64, tampered, writeU64 } from './sealed-header.ts';

export const FRAME_HEADER_BYTES = 48;
export const FRAME_OVERHEAD = FRAME_HEADER_BYTES + TAG_BYTES;
export const FRAME_PLAIN_MAX = 256 * 1024;
export const FRAMES_PER_STRETCH_MAX = 2 ** 32 - 1;
export const SALT_BYTES = 16;
const MARKER = utf8('LBFR');
const MARKER_U32 = 0x4c424652;
const WINDOW_BYTES = 1024 * 1024;

export interface Frame {
  readonly offset: number;
  readonly length: number;
  readonly synced: number;
  readonly number: number;
  readonly mark: number;
  readonly salt: Uint8Array;
}

const nonceOf = (number: number): Uint8Array => {
  const nonce = new Uint8Array(12);
  viewOf(nonce).setUint32(8, number);
  return nonce;
};

/** A frame's header and its place: what its tag covers besides the plaintext. */
function boundTo(header: Uint8Array, position: number): Uint8Array {
  const aad = new Uint8Array(FRAME_HEADER_BYTES + 8);
  aad.set(header);
  writeU64(viewOf(aad), FRAME_HEADER_BYTES, position);
  return aad;
}

/** The cipher of a stretch's frame of that number, whatever will be in it. */
export const readyFrame = (aead: Aead, key: KeyObject, number: number): ReadyCipher =>
  aead.ready(key, nonceOf(number));

/** Appends to `out` the pieces of one frame that will lie at `position`; `cipher` is of its salt and number. */
export function sealFrame(
  cipher: ReadyCipher,
  frame: Frame,
  position: number,
  plain: readonly Uint8Array[],
  out: Uint8Array[],
): void {
  const aad = new Uint8Array(FRAME_HEADER_BYTES + 8);
  const view = viewOf(aad);
  view.setUint32(0, MARKER_U32);
  view.setUint32(4, frame.length);
  writeU64(view, 8, frame.offset);
  writeU64(view, 16, frame.synced);
  view.setUint32(24, frame.number);
  view.setUint32(28, frame.mark);
  aad.set(frame.salt, 32);
  writeU64(view, FRAME_HEADER_BYTES, position);
  out.push(aad.subarray(0, FRAME_HEADER_BYTES));
  cipher.seal(aad, plain, out);
}

/** The frame header at `at`, or undefined where none can be: `limit` is how many bytes the file has from there. */
export function parseFrame(bytes: Uint8Array, at: number, limit: number): Frame | undefined {
  if (limit < FRAME_OVERHEAD || bytes.length - at < FRAME_HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, FRAME_HEADER_BYTES);
  const length = view.getUint32(4);
  if (view.getUint32(0) !== MARKER_U32 || length > FRAME_PLAIN_MAX || FRAME_OVERHEAD + length > limit) {
    return undefined;
  }
  return {
    offset: readU64(view, 8),
    length,
    synced: readU64(view, 16),
    number: view.getUint32(24),
    mark: view.getUint32(28),
    salt: copyOf(bytes, at + 32, at + 32 + SALT_BYTES),
  };
}

/** The plaintext of a whole frame (header, ciphertext, tag), or undefined when it was not sealed so and there. */
export function openFrame(
  aead: Aead,
  key: KeyObject,
  number: number,
  whole: Uint8Array,
  position: number,
): Uint8Array | undefined {
  const aad = boundTo(whole.subarray(0, FRAME_HEADER_BYTES), position);
  return aead.open(key, nonceOf(number), aad, whole.subarray(FRAME_HEADER_BYTES));
}

/** A frame as it is read: where it lies, and which part of the plaintext it shows. */
export interface PlacedFrame {
  readonly position: number;
  /** Of the whole frame in the file. */
  readonly bytes: number;
  readonly offset: number;
  /** End of what is visible of it: a truncation may have cut it. */
  readonly end: number;
  readonly number: number;
  readonly salt: Uint8Array;
}

/** Where each visible stretch of plaintext lies: parallel arrays, sorted by offset, without gaps. */
export class FrameIndex {
  readonly origin: number;
  /** Plaintext end. */
  end: number;
  private readonly offsets: number[] = [];
  private readonly positions: number[] = [];
  private readonly lengths: number[] = [];
  private readonly numbers: number[] = [];
  private readonly salts: Uint8Array[] = [];

  constructor(origin: number) {
    this.origin = origin;
    this.end = origin;
  }

  /** The caller has checked the rules. */
  add(frame: Frame, position: number): void {
    this.forgetFrom(frame.offset);
    if (frame.length === 0) return;
    this.offsets.push(frame.offset);
    this.positions.push(position);
    this.lengths.push(frame.length);
    this.numbers.push(frame.number);
    const last = this.salts.at(-1);
    this.salts.push(last && sameSalt(last, frame.salt) ? last : frame.salt);
    this.end = frame.offset + frame.length;
  }

  private forgetFrom(offset: number): void {
    while (this.offsets.length > 0 && this.offsets[this.offsets.length - 1]! >= offset) {
      for (const list of [this.offsets, this.positions, this.lengths, this.numbers, this.salts]) list.pop();
    }
    if (offset < this.end) this.end = offset;
  }

  get count(): number {
    return this.offsets.length;
  }

  /** The frame that holds the byte at `offset`, which lies in [origin, end). */
  find(offset: number): number {
    let low = 0;
    let high = this.offsets.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.offsets[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  at(i: number): PlacedFrame {
    const offset = this.offsets[i]!;
    const length = this.lengths[i]!;
    return {
      position: this.positions[i]!,
      bytes: length + FRAME_OVERHEAD,
      offset,
      // A frame after a truncation may cover the end of the one before.
      end: Math.min(offset + length, i + 1 < this.offsets.length ? this.offsets[i + 1]! : this.end),
      number: this.numbers[i]!,
      salt: this.salts[i]!,
    };
  }
}

export function sameSalt(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < SALT_BYTES; i++) if (a[i] !== b[i]) return false;
  return true;
}

export interface LogScan {
  readonly index: FrameIndex;
  /** Where the next frame goes: the end of the last whole one. */
  readonly position: number;
  /** Up to here the last frame knew the file to be durable. */
  readonly synced: number;
  /** The highest of all frames, forgotten ones included. */
  readonly mark: number;
  /** Whether anything but zeros lies after it: a torn tail to cut. */
  readonly torn: boolean;
}

export interface ScanOptions {
  readonly aead: Aead;
  readonly origin: number;
  /** Names the file in errors. */
  readonly where: string;
  keyOf(salt: Uint8Array): KeyObject;
}

/** A window of the file that moves forward. */
class Window {
  private readonly source: Source;
  private bytes: Uint8Array = EMPTY_BYTES;
  private start = 0;

  constructor(source: Source) {
    this.source = source;
  }

  /** Bytes from `at`, at least `want` of them if the file has as many. */
  async from(at: number, want: number): Promise<Uint8Array> {
    if (at < this.start || at + want > this.start + this.bytes.length) {
      const length = Math.min(Math.max(want, WINDOW_BYTES), this.source.size - at);
      this.bytes = await this.source.read(at, length);
      this.start = at;
    }
    return this.bytes.subarray(at - this.start);
  }
}

/** Walks a log from its first frame, checks every one, and tells where it ends. */
export async function scanLog(source: Source, options: ScanOptions): Promise<LogScan> {
  const index = new FrameIndex(options.origin);
  const window = new Window(source);
  let position = HEADER_BYTES;
  let synced = HEADER_BYTES;
  let salt: Uint8Array | undefined;
  let next = 0;
  let mark = 0;
  for (;;) {
    const left = source.size - position;
    const bytes = await window.from(position, Math.min(left, FRAME_OVERHEAD + FRAME_PLAIN_MAX));
    const frame = parseFrame(bytes, 0, left);
    if (!frame || !follows(frame, index, position, salt, next)) break;
    const whole = bytes.subarray(0, FRAME_OVERHEAD + frame.length);
    if (!openFrame(options.aead, options.keyOf(frame.salt), frame.number, whole, position)) break;
    index.add(frame, position);
    position += whole.length;
    synced = frame.synced;
    salt = frame.salt;
    next = frame.number + 1;
    mark = Math.max(mark, frame.mark);
  }
  return { index, position, synced, mark, torn: await inspectTail(source, position, options) };
}

function follows(
  frame: Frame,
  index: FrameIndex,
  position: number,
  salt: Uint8Array | undefined,
  next: number,
): boolean {
  if (frame.synced > position) return false;
  if (salt && sameSalt(salt, frame.salt)) {
    return frame.number === next && frame.offset === index.end && frame.length > 0;
  }
  return frame.number === 0 && frame.offset >= index.origin && frame.offset <= index.end;
}

/**
 * What lies after the last whole frame: nothing or zeros (false), a torn tail (true), or proof that synced
 * bytes were damaged (a Fault). The proof is a whole frame further on that says so.
 */
async function inspectTail(source: Source, end: number, options: ScanOptions): Promise<boolean> {
  let torn = false;
  for (let at = end; at < source.size; ) {
    const bytes = await source.read(at, Math.min(WINDOW_BYTES, source.size - at));
    torn ||= bytes.some(byte => byte !== 0);
    if (!torn) {
      at += bytes.length;
      continue;
    }
    for (let hit = find(bytes, 0); hit >= 0; hit = find(bytes, hit + 1)) {
      await refuseIfProof(source, at + hit, end, options);
    }
    // A marker may lie across the windows' border.
    at += bytes.length === WINDOW_BYTES ? bytes.length - MARKER.length + 1 : bytes.length;
  }
  return torn;
}

const find = (bytes: Uint8Array, from: number): number =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(MARKER, from);

async function refuseIfProof(source: Source, at: number, end: number, options: ScanOptions): Promise<void> {
  const left = source.size - at;
  const header = await source.read(at, Math.min(left, FRAME_HEADER_BYTES));
  const frame = parseFrame(header, 0, left);
  if (!frame || frame.synced <= end || frame.synced > at) return;
  const whole = await source.read(at, FRAME_OVERHEAD + frame.length);
  if (!openFrame(options.aead, options.keyOf(frame.salt), frame.number, whole, at)) return;
  throw tampered(
    options.where,
    `bytes at ${end} are damaged, and a frame at ${at} says they were durable up to ${frame.synced}`,
  );
}
