// The first 512 bytes of everything at rest: what the file is, whose, where it belongs, and its wrapped key.
//
//    0   8  magic "LAKESEAL"
//    8   2  format version, 1
//   10   1  kind: 1 file (sealed-file.ts), 2 log (sealed-log.ts)
//   11   1  cipher: 1 AES-256-GCM
//   12   4  plaintext bytes of a chunk; 0 in a log
//   16  16  tenant
//   32  16  timeline, zeros for none
//   48   8  generation
//   56   8  origin of a log: plaintext offset of its first byte; 0 in a file
//   64   4  KEK version
//   68  12  nonce of the wrapped DEK
//   80  16  DEK id
//   96  80  wrapped DEK
//  176   2  length of the name
//  178 302  name, UTF-8, padded with zeros
//  480  32  HMAC-SHA256 under the DEK of all above
//
// All numbers big-endian. The header lies in clear, so that a file can say what it claims to be without a key
// (`inspect`, the rewrap pass), and every bit of it is authenticated, so that the claim holds once the key is at
// hand. It is never rewritten: rotating keys leaves it alone (rewrap.ts says how).
//
// The MAC is an HMAC and no GCM tag because a file copied to another name (`rebindHeader`) keeps its DEK and its
// chunks and takes a new header: a second GMAC under one key and nonce would give the key away, a second HMAC
// gives nothing.

import { Builder, equalBytes, fromUtf8, toHex, utf8, viewOf } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { idFromBytes, idToBytes } from '../base/ids.ts';
import { type FileSecrets, macOf, sameMac, type WrappedDek } from './envelope.ts';

export const HEADER_BYTES = 512;
export const FORMAT_VERSION = 1;
export const NAME_BYTES_MAX = 302;
export const HEADER_MAGIC = utf8('LAKESEAL');
const MAC_AT = 480;
const CIPHER_AES_256_GCM = 1;
const NO_TIMELINE = '0'.repeat(32);

export type SealedKind = 'file' | 'log';

/** What a file is and where it belongs: everything that is authenticated besides its contents. */
export interface Identity {
  readonly kind: SealedKind;
  readonly tenant: string;
  readonly timeline: string | undefined;
  readonly name: string;
  readonly generation: number;
}

export interface SealedHeader extends Identity {
  readonly chunkBytes: number;
  readonly origin: number;
  readonly dek: WrappedDek;
}

export function encodeHeader(header: SealedHeader, secrets: FileSecrets): Uint8Array {
  const name = utf8(header.name);
  if (name.length > NAME_BYTES_MAX) {
    throw new Fault('sealed-format', `the name "${header.name}" is ${name.length} bytes long`, {
      hint: `A name has at most ${NAME_BYTES_MAX} bytes.`,
    });
  }
  const builder = new Builder(HEADER_BYTES)
    .raw(HEADER_MAGIC)
    .u16(FORMAT_VERSION)
    .u8(header.kind === 'file' ? 1 : 2)
    .u8(CIPHER_AES_256_GCM)
    .u32(header.chunkBytes)
    .raw(idToBytes(header.tenant))
    .raw(idToBytes(header.timeline ?? NO_TIMELINE))
    .u64(BigInt(header.generation))
    .u64(BigInt(header.origin))
    .u32(header.dek.kekVersion)
    .raw(header.dek.nonce)
    .raw(header.dek.id)
    .raw(header.dek.sealed)
    .u16(name.length)
    .raw(name)
    .zeros(NAME_BYTES_MAX - name.length);
  return builder.raw(macOf(secrets.mac, builder.finish())).finish();
}

/** Whether bytes begin as sealed ones do. */
export const looksSealed = (bytes: Uint8Array): boolean =>
  bytes.length >= HEADER_BYTES && equalBytes(bytes.subarray(0, HEADER_MAGIC.length), HEADER_MAGIC);

/** What the header claims; nothing of it is proven before `proveHeader`. `where` names the file in errors. */
export function parseHeader(bytes: Uint8Array, where: string): SealedHeader {
  if (!looksSealed(bytes)) {
    const start = toHex(bytes.subarray(0, HEADER_MAGIC.length));
    throw new Fault('sealed-tampered', `${where} is no sealed file: ${bytes.length} bytes, first ${start}`, {
      hint: 'It was cut, overwritten, or never written by this service. Take another copy.',
    });
  }
  const view = viewOf(bytes);
  const version = view.getUint16(8);
  if (version !== FORMAT_VERSION || bytes[11] !== CIPHER_AES_256_GCM) {
    throw new Fault('sealed-format', `${where} has format ${version}, cipher ${bytes[11]}`, {
      hint: `This build reads format ${FORMAT_VERSION} with cipher ${CIPHER_AES_256_GCM}: a newer build wrote the file, or it was damaged.`,
    });
  }
  const kind = bytes[10];
  const nameLength = view.getUint16(176);
  if ((kind !== 1 && kind !== 2) || nameLength > NAME_BYTES_MAX)
    throw tampered(where, 'its header is damaged');
  const timeline = idFromBytes(bytes.subarray(32, 48));
  return {
    kind: kind === 1 ? 'file' : 'log',
    chunkBytes: view.getUint32(12),
    tenant: idFromBytes(bytes.subarray(16, 32)),
    timeline: timeline === NO_TIMELINE ? undefined : timeline,
    generation: readU64(view, 48),
    origin: readU64(view, 56),
    dek: {
      kekVersion: view.getUint32(64),
      nonce: copyOf(bytes, 68, 80),
      id: copyOf(bytes, 80, 96),
      sealed: copyOf(bytes, 96, 176),
    },
    name: fromUtf8(bytes.subarray(178, 178 + nameLength)),
  };
}

/** A copy whatever kind of array it is: the `slice` of a Buffer would share. */
export const copyOf = (bytes: Uint8Array, from: number, to: number): Uint8Array =>
  new Uint8Array(bytes.subarray(from, to));

/** As a number; one past 2^53 comes out rounded, and is refused when the bytes are proven. */
export const readU64 = (view: DataView, at: number): number =>
  view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);

export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value % 2 ** 32);
}

/** What a reader expects; a generation only where it knows one. */
export type Expected = Omit<Identity, 'generation'> & { readonly generation?: number | undefined };

/** Refuses a file that claims to be another one: the first sign of a swap. */
export function expectIdentity(header: SealedHeader, expected: Expected, where: string): void {
  const differ = (what: string, found: unknown, wanted: unknown): void => {
    if (found !== wanted) throw tampered(where, `it is sealed as ${what} ${found}, not ${wanted}`);
  };
  differ('kind', header.kind, expected.kind);
  differ('tenant', header.tenant, expected.tenant);
  differ('timeline', header.timeline ?? 'none', expected.timeline ?? 'none');
  differ('name', header.name, expected.name);
  if (expected.generation !== undefined) differ('generation', header.generation, expected.generation);
}

export function proveHeader(bytes: Uint8Array, secrets: FileSecrets, where: string): void {
  const mac = macOf(secrets.mac, bytes.subarray(0, MAC_AT));
  if (!sameMac(mac, bytes.subarray(MAC_AT, HEADER_BYTES))) throw tampered(where, 'its header was changed');
}

/** The same file under another identity: the chunks after it stay as they are. */
export function rebindHeader(header: SealedHeader, identity: Identity, secrets: FileSecrets): Uint8Array {
  return encodeHeader({ ...header, ...identity, kind: header.kind }, secrets);
}

export function tampered(where: string, what: string): Fault {
  return new Fault('sealed-tampered', `${where} is refused: ${what}`, {
    hint: 'These are not the bytes that were written there. Take another copy, and find out who or what changed this one.',
  });
}
