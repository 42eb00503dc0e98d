// Ranges of plaintext out of a sealed log: the reading half of an open log (log-file.ts), and all of a log that
// lies in an object store. Which frames hold a range tells the FrameIndex; frames that lie side by side are read
// in one go, each is proven, and the last one opened is kept, for callers that read on in small steps.

import { EMPTY_BYTES } from '../base/bytes.ts';
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
  readonly file: { read(offset: number, length: number): Promise<Uint8Array> };
  readonly key: DataKey;
  readonly aead: Aead;
  readonly index: FrameIndex;
}

export class LogReader {
  private readonly options: LogReaderOptions;
  private cachedAt = -1;
  private cached: Uint8Array = EMPTY_BYTES;

  constructor(options: LogReaderOptions) {
    this.options = options;
    options.key.onWipe = () => this.forget();
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const { index, key, where } = this.options;
    if (length < 0 || offset < index.origin || offset + length > index.end) {
      const held = `${index.origin}..${index.end}`;
      throw new Fault('bytes-short', `${where} holds ${held}, not ${offset}..${offset + length}`);
    }
    if (length === 0) return EMPTY_BYTES;
    const secrets = key.now() ?? (await key.get());
    const out = new Uint8Array(length);
    for (const run of runsOf(index, offset, length)) {
      const plains = await this.openRun(secrets, run);
      for (let i = 0; i < run.length; i++) copyRange(run[i]!, plains[i]!, out, offset);
    }
    return out;
  }

  private async openRun(secrets: FileSecrets, run: readonly PlacedFrame[]): Promise<Uint8Array[]> {
    const first = run[0]!;
    if (run.length === 1 && first.position === this.cachedAt) return [this.cached];
    const last = run.at(-1)!;
    const { aead, file, key, where } = this.options;
    const bytes = await file.read(first.position, last.position + last.bytes - first.position);
    key.now(); // refuses if the keys were wiped while we waited
    return run.map(frame => {
      const at = frame.position - first.position;
      const whole = bytes.subarray(at, at + frame.bytes);
      const plain = openFrame(aead, key.stretch(secrets, frame.salt), frame.number, whole, frame.position);
      if (!plain) throw tampered(where, `the frame at ${frame.position} was changed since it was written`);
      this.cachedAt = frame.position;
      this.cached = plain;
      return plain;
    });
  }

  forget(): void {
    this.cachedAt = -1;
    this.cached = EMPTY_BYTES;
  }
}

/** The frames that hold a range, grouped where they lie side by side in the file. */
function runsOf(index: FrameIndex, offset: number, length: number): PlacedFrame[][] {
  const runs: PlacedFrame[][] = [];
  let run: PlacedFrame[] = [];
  let bytes = 0;
  for (let i = index.find(offset); i < index.count; i++) {
    const frame = index.at(i);
    if (frame.offset >= offset + length) break;
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
