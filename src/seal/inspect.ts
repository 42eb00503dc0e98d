// A look at sealed bytes without any key: what a file claims to be, and how it is made up. Reads only, believes
// nothing (no claim can be proven without the key), and goes on as far as damage lets it.

import { toHex } from '../base/bytes.ts';
import type { Source } from '../base/ports.ts';
import { TAG_BYTES } from './aead.ts';
import { HEADER_BYTES, parseHeader, type SealedHeader } from './sealed-header.ts';
import { FRAME_HEADER_BYTES, FRAME_OVERHEAD, type Frame, parseFrame, sameSalt } from './sealed-log.ts';

export interface FrameClaim extends Frame {
  readonly position: number;
}

export interface LogClaim {
  readonly frames: number;
  /** Stretches: one each time the log was opened and written, or truncated. */
  readonly stretches: number;
  readonly truncations: number;
  readonly end: number;
  /** Where frames stop, and what comes then. */
  readonly position: number;
  readonly tail: 'nothing' | 'zeros' | 'other bytes';
}

export interface FileClaim {
  readonly chunks: number;
  readonly plaintextBytes: number;
  /** Whether the size can be that of a whole file. */
  readonly whole: boolean;
}

export interface SealedClaim {
  readonly header: SealedHeader;
  readonly sealedBytes: number;
  readonly file?: FileClaim;
  readonly log?: LogClaim;
}

/** What the bytes claim. `frame` sees each frame header of a log. */
export async function inspectSealed(
  sealed: Source,
  where: string,
  frame: (claim: FrameClaim) => void = () => undefined,
): Promise<SealedClaim> {
  const header = parseHeader(await sealed.read(0, Math.min(HEADER_BYTES, sealed.size)), where);
  const base = { header, sealedBytes: sealed.size };
  if (header.kind === 'log') return { ...base, log: await inspectLog(sealed, header.origin, frame) };
  return { ...base, file: inspectFile(sealed.size, header.chunkBytes) };
}

function inspectFile(sealedBytes: number, chunkBytes: number): FileClaim {
  const body = sealedBytes - HEADER_BYTES;
  const step = chunkBytes + TAG_BYTES;
  const chunks = Math.max(1, Math.ceil(body / step));
  const last = body - (chunks - 1) * step;
  const whole = last >= TAG_BYTES && (last > TAG_BYTES || chunks === 1);
  return { chunks, plaintextBytes: Math.max(0, body - chunks * TAG_BYTES), whole };
}

async function inspectLog(
  sealed: Source,
  origin: number,
  each: (claim: FrameClaim) => void,
): Promise<LogClaim> {
  let position = HEADER_BYTES;
  let [frames, stretches, truncations, end] = [0, 0, 0, origin];
  let salt: Uint8Array | undefined;
  for (;;) {
    const left = sealed.size - position;
    const bytes = await sealed.read(position, Math.max(0, Math.min(left, FRAME_HEADER_BYTES)));
    const frame = parseFrame(bytes, 0, left);
    if (!frame) break;
    each({ ...frame, position });
    frames++;
    if (!salt || !sameSalt(salt, frame.salt)) stretches++;
    if (frame.offset < end) truncations++;
    salt = frame.salt;
    end = frame.offset + frame.length;
    position += FRAME_OVERHEAD + frame.length;
  }
  return { frames, stretches, truncations, end, position, tail: await tailOf(sealed, position) };
}

async function tailOf(sealed: Source, position: number): Promise<LogClaim['tail']> {
  const step = 1024 * 1024;
  if (position >= sealed.size) return 'nothing';
  for (let at = position; at < sealed.size; at += step) {
    const bytes = await sealed.read(at, Math.min(step, sealed.size - at));
    if (bytes.some(byte => byte !== 0)) return 'other bytes';
  }
  return 'zeros';
}

/** For people, a line each. */
export function describeClaim({ header, sealedBytes, file, log }: SealedClaim): string[] {
  const { kind, tenant, timeline, name, generation, dek, chunkBytes, origin } = header;
  const lines = [
    `${kind} "${name}", ${sealedBytes} bytes sealed`,
    `tenant      ${tenant}`,
    `timeline    ${timeline ?? 'none'}`,
    `generation  ${generation}`,
    `key         DEK ${toHex(dek.id)} wrapped by KEK ${dek.kekVersion}`,
  ];
  if (file) {
    const whole = file.whole ? '' : '; the size is not that of a whole file: it was cut';
    lines.push(`contents    ${file.plaintextBytes} bytes in ${file.chunks} chunks of ${chunkBytes}${whole}`);
  }
  if (log) {
    const { frames, stretches, truncations, end, position, tail } = log;
    lines.push(
      `contents    offsets ${origin} to ${end} in ${frames} frames, ${stretches} stretches, ${truncations} truncations`,
      `tail        ${tail} from byte ${position}`,
    );
  }
  lines.push('These are claims: nothing was proven, and nothing decrypted.');
  return lines;
}
