// Files read as streams of plain bytes: compressed ones unpacked on the way, by their name's ending.

import { createReadStream } from 'node:fs';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { Fault } from '../base/fault.ts';

/** Pieces to read and to unpack into; in the default's 16 KiB unpacking would mostly be handing over. */
const CHUNK_SIZE = 1024 * 1024;

/** The bytes of a file, unpacked if it ends in .zst, .gz or .tgz. */
export async function* readUnpacked(path: string): AsyncIterable<Uint8Array> {
  const file = createReadStream(path, { highWaterMark: CHUNK_SIZE });
  const unpack = /\.zst$/.test(path)
    ? createZstdDecompress({ chunkSize: CHUNK_SIZE })
    : /\.t?gz$/.test(path)
      ? createGunzip({ chunkSize: CHUNK_SIZE })
      : undefined;
  if (unpack !== undefined) file.on('error', error => unpack.destroy(error));
  try {
    for await (const chunk of unpack === undefined ? file : file.pipe(unpack)) yield chunk as Uint8Array;
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') throw new Fault('file-missing', `no such file: ${path}`, { cause });
    if (code?.startsWith('Z'))
      throw new Fault('bytes-short', `${path} cannot be unpacked: ${(cause as Error).message}`, { cause });
    throw cause;
  } finally {
    file.destroy();
  }
}
