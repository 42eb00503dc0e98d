// SHA-256 of bytes that come in pieces.

import { createHash } from 'node:crypto';

export async function sha256Hex(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of pieces) hash.update(piece);
  return hash.digest('hex');
}
