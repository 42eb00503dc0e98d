// Ranges of plaintext out of a sealed log: the reading half of an open log (log-file.ts), and all of a log that
// lies in an object store. Which frames hold a range tells the FrameIndex; frames that lie side by side are read
// in one go and each is proven. The last one opened is kept: whoever reads on finds the rest of it there, and so reads
// and opens every frame once.

import { EMPTY_BYTES, giveBack } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import type { Aead } from './aead.ts';
import type { FileSecrets } from './envelope.ts';
import type { DataKey } from './file-keys.ts';
import { tampered } from './sealed-header.ts';
import { type FrameIndex, openFrame, type PlacedFrame } from './sealed-log.ts';

/** Frames read in one go. */
const READ_BYTES_MAX = 1024 * 1024;

export interface LogReaderOptions {
  /** Names the log in errors. */
  readonly where: string;
  /** `isFresh`: what is read is the reader's own. */
  readonly file: { readonly isFresh?: boolean; read(offset: number, length: number): Promise<Uint8Array> };
  readonly key: DataKey;
  readonly aead: Aead;
  readonly index: FrameIndex;
}

export class LogReader {
  private readonly options: LogReaderOptions;
  private cachedAt = -1;
  /** Plaintext of the frame at `cachedAt`. Looked at without waiting in between: it may be given back any time. */
  private cached: Uint8Array = EMPTY_BYTES;

  constructor(options: LogReaderOptions) {
    this.options = options;
    options.key.onWipe = () => this.forget();
  }

  /** The bytes are the caller's own. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const { index, key, where } = this.options;
    if (length < 0 || offset < index.origin || offset + length > index.end) {
      const held = `${index.origin}..${index.end}`;
      throw new Fault('bytes-short', `${where} holds ${held}, not ${offset}..${offset + length}`);
    }
    if (length === 0) return EMPTY_BYTES;
    const secrets = key.now() ?? (await key.get());
    const out = new Uint8Array(length);
    const frames = framesOf(index, offset, length);
    if (frames[0]!.position === this.cachedAt) copyRange(frames.shift()!, this.cached, out, offset);
    for (const run of runsOf(frames)) await this.openRun(secrets, run, out, offset);
    return out;
  }

  private async openRun(
    secrets: FileSecrets,
    run: readonly PlacedFrame[],
    out: Uint8Array,
    offset: number,
  ): Promise<void> {
    const first = run[0]!;
    const last = run.at(-1)!;
    const { aead, file, key, where } = this.options;
    const bytes = await file.read(first.position, last.position + last.bytes - first.position);
    key.now(); // refuses if the keys were wiped while we waited
    for (const frame of run) {
      const at = frame.position - first.position;
      const whole = bytes.subarray(at, at + frame.bytes);
      const plain = openFrame(aead, key.stretch(secrets, frame.salt), frame.number, whole, frame.position);
      if (!plain) throw tampered(where, `the frame at ${frame.position} was changed since it was written`);
      copyRange(frame, plain, out, offset);
      this.forget();
      this.cachedAt = frame.position;
      this.cached = plain;
    }
    if (file.isFresh && this.cached.buffer !== bytes.buffer) giveBack(bytes);
  }

  forget(): void {
    giveBack(this.cached);
    this.cachedAt = -1;
    this.cached = EMPTY_BYTES;
  }
}

/** The frames that hold a range, in order. */
function framesOf(index: FrameIndex, offset: number, length: number): PlacedFrame[] {
  const frames: PlacedFrame[] = [];
  for (let i = index.find(offset); i < index.count; i++) {
    const frame = index.at(i);
    if (frame.offset >= offset + length) break;
    frames.push(frame);
  }
  return frames;
}

/** Grouped where they lie side by side in the file. */
function runsOf(frames: readonly PlacedFrame[]): PlacedFrame[][] {
  const runs: PlacedFrame[][] = [];
  let run: PlacedFrame[] = [];
  let bytes = 0;
  for (const frame of frames) {
    const before = run.at(-1);
    const joins = before && before.position + before.bytes === frame.position;
    if (!joins || bytes + frame.bytes > READ_BYTES_MAX) {
      run = [];
      bytes = 0;
      runs.push(run);
    }
    run.push(frame);
    bytes += frame.bytes;
  }
  return runs;
}

/** The part of a frame's visible plaintext that falls in the range `out` stands for. */
function copyRange(frame: PlacedFrame, plain: Uint8Array, out: Uint8Array, offset: number): void {
  const from = Math.max(frame.offset, offset);
  const to = Math.min(frame.end, offset + out.length);
  out.set(plain.subarray(from - frame.offset, to - frame.offset), from - offset);
}
