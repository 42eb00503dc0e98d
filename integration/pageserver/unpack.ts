// A tar archive, as it comes, laid out as files.

import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readTar } from '../../src/base/tar.ts';

const PIECE = 16 * 1024 * 1024;

export async function unpack(archive: AsyncIterable<Uint8Array>, into: string): Promise<void> {
  for await (const { name, bytes, isDirectory, offset } of readTar(archive, () => true, PIECE)) {
    const path = join(into, name);
    await mkdir(isDirectory ? path : dirname(path), { recursive: true });
    if (!isDirectory) await writeFile(path, bytes, { flag: offset === 0 ? 'w' : 'a' });
  }
}
