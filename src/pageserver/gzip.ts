// A stream of bytes as one gzip member, piece by piece and without waiting: each piece is deflated by itself and ends
// on a byte boundary (a sync flush), so the pieces are one deflate stream end to end.
//
//   1f 8b 08 00 | time u32 = 0 | 04 | ff     deflate, no name, fastest, unknown system
//   pieces ...
//   03 00                                    an empty last block
//   crc32 u32 | length mod 2^32 u32          little-endian
//
// RFC 1951, RFC 1952.

import { constants, crc32, deflateRawSync } from 'node:zlib';

const HEADER = new Uint8Array([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff]);
const OPTIONS = { level: 1, finishFlush: constants.Z_SYNC_FLUSH } as const;

export async function* gzip(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let crc = 0;
  let length = 0;
  yield HEADER;
  for await (const piece of pieces) {
    if (piece.length === 0) continue;
    crc = crc32(piece, crc);
    length += piece.length;
    yield deflateRawSync(piece, OPTIONS);
  }
  const end = Buffer.alloc(10);
  end[0] = 3;
  end.writeUInt32LE(crc, 2);
  end.writeUInt32LE(length % 0x1_0000_0000, 6);
  yield end;
}
