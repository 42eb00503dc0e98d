// The key tree, its pure half: what wraps what, and how the wrapped bytes look.
//
//   CMK   the customer's key; stays in the customer's KMS                      (base/ports Keys, host/keys-*)
//    └─ KEK   one per tenant, versioned, 32 bytes; wrapped by the CMK          (key-document.ts, key-ring.ts)
//        └─ DEK   one per file, 64 bytes, used for that file alone; wrapped by a KEK in the file's header
//            ├─ bytes  0-31  seal: AES-256-GCM of the file's chunks, or root of a log's keys (below)
//            └─ bytes 32-63  mac: HMAC-SHA256 of the file's header
//
// A wrapped DEK, 80 bytes = AES-256-GCM under the KEK of the 64, and the tag:
//
//   nonce   96 random bits, kept beside it
//   bound   "lakebed dek" | KEK version u32 | DEK id 16 | tenant 16
//
// Safe because a KEK wraps at most 2^32 DEKs (KEK_WRAPS_MAX; random 96-bit nonces then meet with probability
// under 2^-32, NIST SP 800-38D 8.3): at one file of 16 MiB each that is 64 EiB of WAL, and a rotation starts
// over. What a wrapped DEK is bound to is what it keeps for life, so the same 80 bytes may lie in a file's header
// or in a key bag (rewrap.ts); where a file may lie is bound by the header's own MAC under the DEK.
//
// A log takes a new key at every opening without a new DEK: HMAC-SHA256(seal, "lakebed log" | salt), salt being
// 16 fresh random bytes that lie in clear in each frame.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { utf8, viewOf } from '../base/bytes.ts';
import { idToBytes } from '../base/ids.ts';
import type { Random } from '../base/ports.ts';
import { aes256gcm, type KeyObject, keyOf, NONCE_BYTES, TAG_BYTES } from './aead.ts';

export const KEK_BYTES = 32;
export const DEK_BYTES = 64;
export const DEK_ID_BYTES = 16;
export const WRAPPED_DEK_BYTES = DEK_BYTES + TAG_BYTES;
export const MAC_BYTES = 32;
export const KEK_WRAPS_MAX = 2 ** 32;

/** One version of a tenant's KEK, unwrapped. */
export interface Kek {
  readonly version: number;
  readonly secret: Uint8Array;
}

/** A DEK as it lies in a header or a bag. */
export interface WrappedDek {
  readonly kekVersion: number;
  /** Random, for life: what a bag is searched by. */
  readonly id: Uint8Array;
  readonly nonce: Uint8Array;
  readonly sealed: Uint8Array;
}

/** A DEK in use. */
export interface FileSecrets {
  readonly seal: KeyObject;
  readonly mac: KeyObject;
}

const DEK_LABEL = utf8('lakebed dek');
const LOG_LABEL = utf8('lakebed log');

function boundTo(kekVersion: number, id: Uint8Array, tenant: string): Uint8Array {
  const bound = new Uint8Array(DEK_LABEL.length + 4 + DEK_ID_BYTES + 16);
  bound.set(DEK_LABEL);
  viewOf(bound).setUint32(DEK_LABEL.length, kekVersion);
  bound.set(id, DEK_LABEL.length + 4);
  bound.set(idToBytes(tenant), DEK_LABEL.length + 4 + DEK_ID_BYTES);
  return bound;
}

/** Wraps a DEK; the DEK itself is left as it is. */
export function wrapDek(
  kek: Kek,
  tenant: string,
  id: Uint8Array,
  dek: Uint8Array,
  random: Random,
): WrappedDek {
  const nonce = random.bytes(NONCE_BYTES);
  const pieces: Uint8Array[] = [];
  aes256gcm.seal(kek.secret, nonce, boundTo(kek.version, id, tenant), [dek], pieces);
  const sealed = new Uint8Array(WRAPPED_DEK_BYTES);
  sealed.set(pieces[0]!);
  sealed.set(pieces[1]!, DEK_BYTES);
  return { kekVersion: kek.version, id, nonce, sealed };
}

/** The DEK's 64 bytes, or undefined when this KEK never wrapped these bytes for this tenant. */
export function unwrapDek(kek: Kek, tenant: string, wrapped: WrappedDek): Uint8Array | undefined {
  return aes256gcm.open(kek.secret, wrapped.nonce, boundTo(kek.version, wrapped.id, tenant), wrapped.sealed);
}

/** Handles for a DEK's two keys; its bytes are overwritten. */
export function fileSecrets(dek: Uint8Array): FileSecrets {
  return { seal: keyOf(dek.subarray(0, 32)), mac: keyOf(dek.subarray(32, 64)) };
}

/** The key of one stretch of a log. */
export function logKey(secrets: FileSecrets, salt: Uint8Array): KeyObject {
  return keyOf(createHmac('sha256', secrets.seal).update(LOG_LABEL).update(salt).digest());
}

export function macOf(key: KeyObject | Uint8Array, bytes: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update(bytes).digest();
}

export const sameMac = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && timingSafeEqual(a, b);
