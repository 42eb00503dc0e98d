// An open sealed log on a disk: buffers appended pieces, seals them into frames, and reads ranges back. The
// format and the argument why no nonce repeats are in sealed-log.ts; this file keeps the writer's half of it:
//
//   - one write at a time, in order. A flush that comes while another runs waits and takes all that was appended
//     meanwhile with it: a group commit
//   - the stretch is dropped before a write and taken up again once it worked. So whatever goes wrong, the next
//     frame begins a new stretch under a new key, and no frame number is used twice
//   - a frame says how much of the file was synced before it (`synced`): later the proof that a damaged frame
//     was no torn one
//   - while a durable write is under way, what is appended in bulk is sealed already: as it will be
//     right if that write succeeds. It reaches the disk after that alone; if the write fails, the stretch ends and what
//     was sealed is thrown away, seen by nobody
//   - also while it is under way, the ciphers of the frames after it are made ready (frame-ciphers.ts says why no nonce
//     repeats for that)
//   - after a failed sync nothing is written any more: what the disk holds is unknown (host/disk.ts)
//   - what could not be written stays buffered: a full disk or a revoked key may pass
//
// Cost of a flush over write + fdatasync: one seal (5 us for 8 KiB, 9 if its cipher were not ready; none for what was
// appended in bulk while the disk was at work) and a few promise jobs; less one trip
// through the thread pool, because a write and its sync are one call. Large sealed pieces are given back at once: the
// next ones are then made in memory that the processor still has near. And a file does not grow at every flush, which
// would make each sync write its size and its map of blocks too (140 us in place of 90 on a fast disk): a small
// write that passes the end carries `growBytes` of zeros behind it, for those after it. Closing gives the rest back.

import { assert } from '../base/assert.ts';
import { concatBytes, giveBack } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import type { DiskFile, Random } from '../base/ports.ts';
import type { FileSecrets } from './envelope.ts';
import { FrameCiphers } from './frame-ciphers.ts';
import { LogReader, type LogReaderOptions } from './log-reader.ts';
import { LogTail, TAIL_BYTES } from './log-tail.ts';
import {
  FRAME_OVERHEAD,
  FRAME_PLAIN_MAX,
  FRAMES_PER_STRETCH_MAX,
  type Frame,
  type FrameIndex,
  SALT_BYTES,
  sealFrame,
} from './sealed-log.ts';
import type { SealedLog } from './vault.ts';

/** Many small pieces are joined before sealing: a call into OpenSSL costs more than copying a few KiB. */
const PIECES_MAX = 8;
/** Frames that a stretch must have left for that; what is appended until the next write needs far fewer. */
const AHEAD_FRAMES_LEFT = 2 ** 24;
/** Sealed pieces as large are given back when they are written; less is not worth the microsecond. */
const GIVEN_BACK_BYTES_MIN = 64 * 1024;

export interface LogFileOptions extends LogReaderOptions {
  readonly name: string;
  readonly file: DiskFile;
  readonly random: Random;
  /** Where the next frame goes; everything before it is synced. */
  readonly position: number;
  /** The highest mark so far. */
  readonly mark: number;
  /** The file's size: zeros lie between. */
  readonly fileBytes: number;
  /** Room made ahead when the file must grow. */
  readonly growBytes: number;
  /** As much must wait to be sealed while the disk is at work. */
  readonly aheadBytes: number;
}

/** Room made ahead unless the vault is told otherwise. */
export const GROW_BYTES = 256 * 1024;
/** Sealed ahead unless the vault is told otherwise: not every small append becomes a frame. */
export const AHEAD_BYTES = 128 * 1024;

interface Placed {
  readonly frame: Frame;
  readonly position: number;
}

/** Where a frame may come, and what it must say. */
interface Spot {
  readonly salt: Uint8Array;
  readonly number: number;
  readonly position: number;
  readonly offset: number;
  readonly synced: number;
}

/** Frames that lie one after the other, and where the next may come. */
interface Sealed {
  readonly out: Uint8Array[];
  readonly placed: Placed[];
  readonly next: Spot;
}

/** What is pending, its first `pieces`, sealed for the place that the write under way will leave. */
interface Ahead extends Sealed {
  readonly from: Spot;
  readonly pieces: number;
}

export class LogFile implements SealedLog {
  readonly name: string;
  private readonly options: LogFileOptions;
  private readonly index: FrameIndex;
  private readonly reader: LogReader;
  private readonly tail = new LogTail();
  private position: number;
  private marked: number;
  private fileBytes: number;
  private growBytes: number;
  private wrote = false;
  private synced: number;
  /** The stretch being written; undefined when the next frame must begin one. */
  private salt: Uint8Array | undefined;
  private nextNumber = 0;
  private pending: Uint8Array[] = [];
  /** Where the log will stand once the durable write under way succeeds. */
  private landing: Spot | undefined;
  private ahead: Ahead | undefined;
  private readonly ciphers: FrameCiphers;
  private appendedEnd: number;
  private durableEnd: number;
  /** Writes run one after the other; this one never rejects. */
  private last: Promise<void> = Promise.resolve();
  private waiting = 0;
  private truncating = 0;
  private failed: unknown;
  private closed = false;

  constructor(options: LogFileOptions) {
    this.name = options.name;
    this.options = options;
    this.index = options.index;
    const { file } = options;
    const fresh = { isFresh: true, read: (offset: number, length: number) => file.read(offset, length) };
    this.reader = new LogReader({ ...options, file: fresh });
    this.ciphers = new FrameCiphers(options.aead, options.key);
    options.key.onWipe = () => this.forget();
    this.position = options.position;
    this.marked = options.mark;
    this.fileBytes = options.fileBytes;
    this.growBytes = options.growBytes;
    this.synced = options.position;
    this.appendedEnd = options.index.end;
    this.durableEnd = options.index.end;
  }

  get origin(): number {
    return this.index.origin;
  }
  get length(): number {
    return this.appendedEnd;
  }
  get written(): number {
    return this.index.end;
  }
  get durable(): number {
    return this.durableEnd;
  }

  get mark(): number {
    return this.marked;
  }
  setMark(mark: number): void {
    this.marked = Math.max(this.marked, mark);
  }

  append(pieces: readonly Uint8Array[]): void {
    this.refuseIfUnusable();
    assert(this.truncating === 0, `${this.options.where}: an append came before its truncation was done`);
    for (const piece of pieces) {
      if (piece.length === 0) continue;
      this.pending.push(piece);
      this.tail.append(piece);
      this.appendedEnd += piece.length;
    }
    if (this.landing !== undefined) this.sealAhead(this.landing);
  }

  /** The processor has nothing else to do while the disk works. Without the key at hand it is left to the write. */
  private sealAhead(landing: Spot): void {
    const { ahead } = this;
    const from = ahead?.next ?? landing;
    if (this.appendedEnd - from.offset < this.options.aheadBytes) return;
    if (from.number > FRAMES_PER_STRETCH_MAX - AHEAD_FRAMES_LEFT) return;
    const secrets = this.options.key.ifUsable();
    if (secrets === undefined) return;
    const { out, placed, next } = this.sealFrames(secrets, this.pending.slice(ahead?.pieces ?? 0), from);
    const pieces = this.pending.length;
    if (ahead === undefined) this.ahead = { out, placed, next, from, pieces };
    else {
      const both = { out: [...ahead.out, ...out], placed: [...ahead.placed, ...placed] };
      this.ahead = { ...both, next, from: ahead.from, pieces };
    }
  }

  /** What was sealed ahead and will not be written: its numbers are used, so the stretch ends. */
  private dropAhead(): void {
    if (this.ahead === undefined) return;
    this.ahead = undefined;
    this.salt = undefined;
  }

  flush(): Promise<void> {
    return this.inOrder(() => this.flushNow());
  }

  write(): Promise<void> {
    return this.inOrder(() => this.put(false));
  }

  async truncate(length: number): Promise<void> {
    this.truncating++;
    try {
      await this.inOrder(() => this.truncateNow(length));
    } finally {
      this.truncating--;
    }
  }

  /** At once when nothing else runs, else after what does. */
  private inOrder(work: () => Promise<void>): Promise<void> {
    const done = this.waiting++ === 0 ? work() : this.last.then(work);
    const settled = (): void => void this.waiting--;
    this.last = done.then(settled, settled);
    return done;
  }

  private async flushNow(): Promise<void> {
    if (this.synced === this.position) {
      await this.put(true);
      return;
    }
    await this.put(false);
    await this.syncNow();
  }

  private async syncNow(): Promise<void> {
    const { position } = this;
    const { end } = this.index;
    await this.onDisk(this.options.file.sync());
    this.synced = position;
    this.durableEnd = end;
  }

  /** Seals and writes all that is pending. */
  private async put(durably: boolean): Promise<void> {
    this.refuseIfUnusable();
    if (this.pending.length === 0) return;
    const secrets = this.options.key.now() ?? (await this.options.key.get());
    const taken = this.pending;
    const { ahead } = this;
    this.pending = [];
    this.ahead = undefined;
    try {
      await this.putOrWithoutRoom(secrets, taken, ahead, durably);
    } catch (error) {
      this.pending = [...taken, ...this.pending];
      throw error;
    }
  }

  /** A disk without room to spare may still hold the frames themselves. */
  private async putOrWithoutRoom(
    secrets: FileSecrets,
    pieces: readonly Uint8Array[],
    ahead: Ahead | undefined,
    durably: boolean,
  ): Promise<void> {
    try {
      await this.putFrames(this.sealHere(secrets, pieces, ahead), durably);
    } catch (error) {
      if (this.growBytes === 0 || !isFault(error, 'disk-full')) throw error;
      this.growBytes = 0;
      await this.putFrames(this.sealHere(secrets, pieces, undefined), durably);
    }
  }

  /** The frames of these pieces for the end of the log; some may be sealed already. */
  private sealHere(secrets: FileSecrets, pieces: readonly Uint8Array[], ahead: Ahead | undefined): Sealed {
    if (ahead === undefined) return this.sealFrames(secrets, pieces, this.nextSpot(pieces.length));
    const { from } = ahead;
    assert(
      from.salt === this.salt && from.number === this.nextNumber && from.position === this.position,
      'what was sealed ahead belongs elsewhere',
    );
    assert(from.offset === this.index.end && from.synced === this.synced, 'what was sealed ahead is not so');
    if (ahead.pieces === pieces.length) return ahead;
    const { out, placed, next } = this.sealFrames(secrets, pieces.slice(ahead.pieces), ahead.next);
    return { out: [...ahead.out, ...out], placed: [...ahead.placed, ...placed], next };
  }

  private nextSpot(pieces: number): Spot {
    // As many frames as pieces at least, and one for every FRAME_PLAIN_MAX of them.
    const frames = pieces + Math.ceil((this.appendedEnd - this.index.end) / FRAME_PLAIN_MAX);
    if (this.nextNumber + frames > FRAMES_PER_STRETCH_MAX) this.salt = undefined;
    const salt = this.salt ?? this.beginStretch();
    const { nextNumber: number, position, synced } = this;
    return { salt, number, position, offset: this.index.end, synced };
  }

  private sealFrames(secrets: FileSecrets, pieces: readonly Uint8Array[], from: Spot): Sealed {
    const { salt, synced } = from;
    const out: Uint8Array[] = [];
    const placed: Placed[] = [];
    let { number, position, offset } = from;
    for (const plain of framesOf(pieces)) {
      let length = 0;
      for (const piece of plain) length += piece.length;
      const cipher = this.ciphers.take(secrets, salt, number);
      const frame: Frame = { offset, length, synced, number: number++, mark: this.marked, salt };
      sealFrame(cipher, frame, position, plain, out);
      placed.push({ frame, position });
      offset += length;
      position += FRAME_OVERHEAD + length;
    }
    return { out, placed, next: { salt, number, position, offset, synced } };
  }

  private async putFrames(sealed: Sealed, durably: boolean): Promise<void> {
    const { position } = sealed.next;
    if (durably) this.landing = { ...sealed.next, synced: position };
    try {
      const written = this.writeFrames(sealed.out, position, durably);
      if (durably) this.ciphers.prepare(sealed.next.salt, sealed.next.number);
      await written;
    } catch (error) {
      // The stretch has ended with this write.
      this.ahead = undefined;
      this.ciphers.drop();
      throw error;
    } finally {
      this.landing = undefined;
    }
    this.settle(sealed.placed, position, durably);
  }

  /** The stretch is gone while the write is under way, and stays so if it fails. `end` is where the frames end. */
  private async writeFrames(frames: Uint8Array[], end: number, durably: boolean): Promise<void> {
    const { salt } = this;
    this.salt = undefined;
    this.wrote = true;
    const room = this.roomAfter(end);
    const out = room > 0 ? [...frames, new Uint8Array(room)] : frames;
    const { file } = this.options;
    await this.onDisk(durably ? file.writeDurably(this.position, out) : file.writev(this.position, out));
    for (const piece of frames) if (piece.length >= GIVEN_BACK_BYTES_MIN) giveBack(piece);
    this.fileBytes = Math.max(this.fileBytes, end + room);
    this.salt = salt;
  }

  /** Zeros to write behind `end`: for small writes, of which many more will fit; a large one pays for its own growth. */
  private roomAfter(end: number): number {
    const small = end - this.position <= this.growBytes / 4;
    return end > this.fileBytes && small ? this.growBytes : 0;
  }

  private settle(placed: readonly Placed[], position: number, durably: boolean): void {
    for (const { frame, position } of placed) this.index.add(frame, position);
    this.position = position;
    this.nextNumber += placed.length;
    if (!durably) return;
    this.synced = position;
    this.durableEnd = this.index.end;
  }

  private beginStretch(): Uint8Array {
    this.nextNumber = 0;
    this.salt = this.options.random.bytes(SALT_BYTES);
    return this.salt;
  }

  private async truncateNow(length: number): Promise<void> {
    this.refuseIfUnusable();
    if (length < this.origin || length > this.appendedEnd) {
      throw new Fault(
        'bytes-short',
        `${this.options.where} holds ${this.origin}..${this.appendedEnd}, not ${length}`,
      );
    }
    this.dropAhead();
    if (length >= this.index.end) {
      this.pending = firstBytes(this.pending, length - this.index.end);
      this.endAt(length);
      return;
    }
    const secrets = this.options.key.now() ?? (await this.options.key.get());
    const salt = this.beginStretch();
    const { synced, marked: mark } = this;
    const frame: Frame = { offset: length, length: 0, synced, number: 0, mark, salt };
    const out: Uint8Array[] = [];
    sealFrame(this.ciphers.take(secrets, salt, frame.number), frame, this.position, [], out);
    const allSynced = this.synced === this.position;
    await this.writeFrames(out, this.position + FRAME_OVERHEAD, allSynced);
    // From here on the frame may be on the disk: what it forgets is forgotten, synced or not.
    this.pending = [];
    this.endAt(length);
    this.durableEnd = Math.min(this.durableEnd, length);
    this.settle([{ frame, position: this.position }], this.position + FRAME_OVERHEAD, allSynced);
    if (!allSynced) await this.syncNow();
  }

  private endAt(length: number): void {
    this.appendedEnd = length;
    this.tail.cut(length);
  }

  /** The bytes are the caller's own. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    assert(!this.closed, `${this.options.where} is closed`);
    if (offset + length <= this.index.end && this.options.key.now() !== undefined) {
      const recent = this.tail.read(offset, length);
      if (recent !== undefined) return recent;
      if (this.index.end - offset <= TAIL_BYTES) this.tail.follow(this.appendedEnd);
    }
    return this.reader.read(offset, length);
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.last;
    this.options.key.release();
    this.forget();
    const { file } = this.options;
    try {
      if (this.wrote && this.failed === undefined && this.fileBytes > this.position) {
        await file.truncate(this.position);
      }
    } finally {
      await file.close();
    }
  }

  /** What goes with the keys. */
  private forget(): void {
    this.reader.forget();
    this.tail.drop();
    this.ciphers.drop();
  }

  private async onDisk(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (!isFault(error, 'disk-full')) this.failed = error;
      throw error;
    }
  }

  private refuseIfUnusable(): void {
    assert(!this.closed, `${this.options.where} is closed`);
    if (this.failed === undefined) return;
    throw new Fault('disk-failed', `${this.options.where} failed to be written earlier and takes no more`, {
      hint: 'What the disk holds is unknown until it is read back: restart the service.',
      cause: this.failed,
    });
  }
}

/** Pieces dealt out into frames of bounded size. */
function framesOf(pieces: readonly Uint8Array[]): Uint8Array[][] {
  const frames: Uint8Array[][] = [];
  let frame: Uint8Array[] = [];
  let room = 0;
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      if (room === 0) {
        frame = [];
        frames.push(frame);
        room = FRAME_PLAIN_MAX;
      }
      const part = at === 0 && piece.length <= room ? piece : piece.subarray(at, at + room);
      frame.push(part);
      at += part.length;
      room -= part.length;
    }
  }
  return frames.map(frame => (frame.length > PIECES_MAX ? [concatBytes(frame)] : frame));
}

function firstBytes(pieces: readonly Uint8Array[], count: number): Uint8Array[] {
  const kept: Uint8Array[] = [];
  let left = count;
  for (const piece of pieces) {
    if (left === 0) break;
    kept.push(piece.subarray(0, left));
    left -= Math.min(left, piece.length);
  }
  return kept;
}
