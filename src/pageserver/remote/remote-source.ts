// An object of the store as bytes by range. What is read from front to back (a download) is asked for ahead, in
// several large pieces at once: an object store answers late, but answers many.

import type { Blobs, Source } from '../../base/ports.ts';

const PIECE_BYTES = 4 * 1024 * 1024;
const PIECES_AHEAD = 4;

interface Piece {
  readonly offset: number;
  readonly bytes: Promise<Uint8Array>;
}

/** `get` is asked for ranges; `size` is what the store says the object has. */
export function remoteSource(blobs: Pick<Blobs, 'get'>, key: string, size: number): Source {
  const ahead: Piece[] = [];

  const ask = (offset: number): void => {
    const bytes = blobs.get(key, { offset, length: Math.min(PIECE_BYTES, size - offset) });
    bytes.catch(() => undefined); // told when it is read
    ahead.push({ offset, bytes });
  };

  /** The piece that holds `offset`; pieces before it are let go. */
  const pieceAt = async (offset: number): Promise<{ offset: number; bytes: Uint8Array }> => {
    const begin = offset - (offset % PIECE_BYTES);
    while (ahead.length > 0 && ahead[0]!.offset < begin) ahead.shift();
    if (ahead[0]?.offset !== begin) {
      ahead.length = 0;
      ask(begin);
    }
    for (let next = ahead.at(-1)!.offset + PIECE_BYTES; ahead.length < PIECES_AHEAD && next < size; ) {
      ask(next);
      next += PIECE_BYTES;
    }
    try {
      return { offset: begin, bytes: await ahead[0]!.bytes };
    } catch (error) {
      ahead.length = 0; // asked for anew next time
      throw error;
    }
  };

  return {
    size,
    async read(offset, length) {
      const out = new Uint8Array(length);
      for (let filled = 0; filled < length; ) {
        const piece = await pieceAt(offset + filled);
        const from = offset + filled - piece.offset;
        const part = piece.bytes.subarray(from, from + length - filled);
        out.set(part, filled);
        filled += part.length;
      }
      return out;
    },
  };
}
