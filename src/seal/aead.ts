// The cipher: AES-256-GCM of node:crypto (OpenSSL, AES-NI), 96-bit nonces, 128-bit tags.
//
// It is the one place that turns plaintext into ciphertext. GCM has two hard rules, and the formats above it are
// made so that both hold by construction:
//   - a (key, nonce) pair is used once: every key seals one file (or one stretch of a log between two openings)
//     and the nonce is a counter within it; see sealed-file.ts and sealed-log.ts
//   - at most 2^32 - 2 blocks (64 GiB) under one nonce: chunks and frames are 64 and 256 KiB at most
//
// A file's key is a KeyObject: OpenSSL then takes it without a trip through JavaScript's memory (6 us saved of 10
// on a small seal), and overwrites it when it is freed. A KEK, which lives longer and is used rarely, stays bytes
// that we overwrite ourselves the moment it must go. The interface exists so that the benchmark can run the same
// code with a cipher that does nothing; nothing else makes another one.

// A cipher may be made ready before there is anything to seal (`ready`): its key schedule, half of what a small seal
// costs on the path of an append, is then done while a disk works. No byte has gone through such a cipher: dropped, it
// leaves its nonce unused; and it seals once, a second time is a Violation.

import {
  type CipherGCM,
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  type KeyObject,
} from 'node:crypto';
import { assert } from '../base/assert.ts';

export type { KeyObject };
export type CipherKey = KeyObject | Uint8Array;

export const TAG_BYTES = 16;
export const NONCE_BYTES = 12;
export const KEY_BYTES = 32;

/** A cipher under one key and nonce, for one sealing. */
export interface ReadyCipher {
  /** Appends the ciphertext of `pieces`, in order, and the tag to `out`. */
  seal(aad: Uint8Array, pieces: readonly Uint8Array[], out: Uint8Array[]): void;
}

export interface Aead {
  ready(key: CipherKey, nonce: Uint8Array): ReadyCipher;
  /** Appends the ciphertext of `pieces`, in order, and the tag to `out`. */
  seal(
    key: CipherKey,
    nonce: Uint8Array,
    aad: Uint8Array,
    pieces: readonly Uint8Array[],
    out: Uint8Array[],
  ): void;
  /** The plaintext of `sealed` (ciphertext and tag), or undefined when it is not what was sealed. */
  open(key: CipherKey, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined;
}

class ReadyGcm implements ReadyCipher {
  private cipher: CipherGCM | undefined;

  constructor(key: CipherKey, nonce: Uint8Array) {
    this.cipher = createCipheriv('aes-256-gcm', key, nonce);
  }

  seal(aad: Uint8Array, pieces: readonly Uint8Array[], out: Uint8Array[]): void {
    const { cipher } = this;
    assert(cipher !== undefined, 'a cipher seals once: its nonce is used');
    this.cipher = undefined;
    cipher.setAAD(aad);
    for (const piece of pieces) out.push(cipher.update(piece));
    cipher.final(); // GCM is a stream: nothing is left to come out
    out.push(cipher.getAuthTag());
  }
}

export const aes256gcm: Aead = {
  ready: (key, nonce) => new ReadyGcm(key, nonce),

  seal(key, nonce, aad, pieces, out) {
    new ReadyGcm(key, nonce).seal(aad, pieces, out);
  },

  open(key, nonce, aad, sealed) {
    const end = sealed.length - TAG_BYTES;
    if (end < 0) return undefined;
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(aad);
    decipher.setAuthTag(sealed.subarray(end));
    const plain = decipher.update(sealed.subarray(0, end));
    try {
      decipher.final();
    } catch {
      return undefined; // the tag differs: final() says nothing more, and there is nothing more to say
    }
    // Not the Buffer: its `slice` would share memory where a Uint8Array's copies.
    return new Uint8Array(plain.buffer, plain.byteOffset, plain.length);
  },
};

/** A key handle of the bytes, which are overwritten. */
export function keyOf(secret: Uint8Array): KeyObject {
  const key = createSecretKey(secret);
  secret.fill(0);
  return key;
}
