// Looks for a text that must not be there: in every file below a directory, in bytes; as it is, in hex, in base64 (any
// alignment), in UTF-16, backwards; and inside whatever in those bytes unpacks as gzip, zlib, raw deflate behind a zip
// header, or zstd. For suites that write a canary through a service and then search all the service has kept.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, inflateRawSync, inflateSync, zstdDecompressSync } from 'node:zlib';

/** Base64 of the text at each of three alignments, without the digits that its neighbours share. */
function base64Forms(text: string): string[] {
  return [0, 1, 2].map(shift => {
    const digits = Buffer.concat([Buffer.alloc(shift), Buffer.from(text)])
      .toString('base64')
      .replace(/=+$/, '');
    return digits.slice(shift === 0 ? 0 : shift + 1, -2);
  });
}

function formsOf(canary: string): Buffer[] {
  const forms = [
    Buffer.from(canary),
    Buffer.from(canary, 'utf16le'),
    Buffer.from([...canary].reverse().join('')),
    Buffer.from(Buffer.from(canary).toString('hex')),
    Buffer.from(Buffer.from(canary).toString('hex').toUpperCase()),
  ];
  for (const form of base64Forms(canary)) {
    forms.push(Buffer.from(form), Buffer.from(form.replaceAll('+', '-').replaceAll('/', '_')));
  }
  return forms;
}

interface Packed {
  readonly magic: Buffer;
  readonly skip: number;
  unpack(bytes: Buffer): Buffer;
}

const lenient = { finishFlush: 2, maxOutputLength: 1 << 28 };
const PACKED: readonly Packed[] = [
  { magic: Buffer.from([0x1f, 0x8b, 0x08]), skip: 0, unpack: bytes => gunzipSync(bytes, lenient) },
  { magic: Buffer.from([0x78, 0x01]), skip: 0, unpack: bytes => inflateSync(bytes, lenient) },
  { magic: Buffer.from([0x78, 0x5e]), skip: 0, unpack: bytes => inflateSync(bytes, lenient) },
  { magic: Buffer.from([0x78, 0x9c]), skip: 0, unpack: bytes => inflateSync(bytes, lenient) },
  { magic: Buffer.from([0x78, 0xda]), skip: 0, unpack: bytes => inflateSync(bytes, lenient) },
  { magic: Buffer.from('PK\x03\x04'), skip: 30, unpack: bytes => inflateRawSync(bytes, lenient) },
  {
    magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]),
    skip: 0,
    unpack: bytes => zstdDecompressSync(bytes, { maxOutputLength: 1 << 28 }),
  },
];

/** Streams inside streams, no deeper. */
const DEPTH_MAX = 3;

/** How the canary lies in the bytes, or undefined. */
export function findCanary(bytes: Uint8Array, canary: string, depth = 0): string | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (const form of formsOf(canary)) {
    const at = buffer.indexOf(form);
    if (at >= 0) return `"${form.toString('latin1').slice(0, 20)}" at ${at}`;
  }
  if (depth === DEPTH_MAX) return undefined;
  for (const { magic, skip, unpack } of PACKED) {
    for (let at = buffer.indexOf(magic); at >= 0; at = buffer.indexOf(magic, at + 1)) {
      let inner: Buffer;
      try {
        inner = unpack(buffer.subarray(at + skip));
      } catch {
        continue; // two bytes that look like a beginning, mostly
      }
      const found = inner.length > 0 ? findCanary(inner, canary, depth + 1) : undefined;
      if (found) return `packed at ${at}: ${found}`;
    }
  }
  return undefined;
}

/** Every file below a directory that holds the canary, and how. */
export function filesWithCanary(directory: string, canary: string): string[] {
  const found: string[] = [];
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const path = join(directory, name);
    if (!statSync(path).isFile()) continue;
    const how = findCanary(readFileSync(path), canary);
    if (how) found.push(`${path}: ${how}`);
  }
  return found;
}
