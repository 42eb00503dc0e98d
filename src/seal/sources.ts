// Small Sources: bytes in memory, a file that does not grow, and one source with another's beginning.

import { Fault } from '../base/fault.ts';
import type { DiskFile, Source } from '../base/ports.ts';

const COPY_BYTES = 1024 * 1024;

const shortOf = (what: string, offset: number, length: number, size: number): Fault =>
  new Fault('bytes-short', `${what}: ${offset}..${offset + length} wanted, ${size} bytes are there`);

export function sourceOf(bytes: Uint8Array): Source {
  return {
    size: bytes.length,
    async read(offset, length) {
      if (offset < 0 || offset + length > bytes.length)
        throw shortOf('the bytes', offset, length, bytes.length);
      return bytes.subarray(offset, offset + length);
    },
  };
}

export async function sourceOfFile(file: DiskFile): Promise<Source> {
  const size = await file.size();
  return {
    size,
    isFresh: true,
    async read(offset, length) {
      const bytes = await file.read(offset, length);
      if (bytes.length !== length) throw shortOf(file.path, offset, length, offset + bytes.length);
      return bytes;
    },
  };
}

/** `head` in place of the first bytes of `rest`. */
export function spliced(head: Uint8Array, rest: Source): Source {
  return {
    size: rest.size,
    isFresh: true,
    async read(offset, length) {
      const read = await rest.read(offset, length);
      const bytes = rest.isFresh ? read : new Uint8Array(read);
      if (offset < head.length) bytes.set(head.subarray(offset, Math.min(head.length, offset + length)));
      return bytes;
    },
  };
}

/** Every byte, in pieces. */
export async function eachPiece(
  from: Source,
  use: (offset: number, bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  for (let at = 0; at < from.size; at += COPY_BYTES) {
    await use(at, await from.read(at, Math.min(COPY_BYTES, from.size - at)));
  }
}
