// The ciphers of the frames that a log will write next, made ready while its disk is at work (sealed-log.ts is the
// format, log-file.ts the log).
//
// Making a cipher is its key schedule and an object around it: half of what sealing 8 KiB costs on the path of an
// append. Made one at a time it is done with cold caches, and costs the write beside it as much again; so several are
// made in one go when none is left, as many as the stretch has frames so far, up to AHEAD_MAX (1.7 KB each): a log
// that is hardly written to holds hardly any.
//
// WHY NO NONCE REPEATS. A cipher is of one stretch (its salt, hence its key) and one frame number, its nonce. It
// is handed out for the frame of that salt and number, once, and seals once (aead.ts). Whatever ends a stretch (a write
// that failed, a truncation, a new opening) gives the next frame a salt that was never used: the ciphers of the old one
// fit no frame any more, and are dropped having sealed nothing. They go with the keys, too.

import type { Aead, ReadyCipher } from './aead.ts';
import type { FileSecrets } from './envelope.ts';
import type { DataKey } from './file-keys.ts';
import { FRAMES_PER_STRETCH_MAX, readyFrame } from './sealed-log.ts';

const AHEAD_MAX = 8;

export class FrameCiphers {
  private readonly aead: Aead;
  private readonly key: DataKey;
  private salt: Uint8Array | undefined;
  /** Of the last one in `ready`, which is taken first; the others follow it, counting up. */
  private number = 0;
  private ready: ReadyCipher[] = [];

  constructor(aead: Aead, key: DataKey) {
    this.aead = aead;
    this.key = key;
  }

  private isNext(salt: Uint8Array, number: number): boolean {
    return this.ready.length > 0 && this.salt === salt && this.number === number;
  }

  /** The cipher of a frame that is sealed now. */
  take(secrets: FileSecrets, salt: Uint8Array, number: number): ReadyCipher {
    if (this.isNext(salt, number)) {
      this.number++;
      return this.ready.pop()!;
    }
    this.drop();
    return readyFrame(this.aead, this.key.stretch(secrets, salt), number);
  }

  /** For the frame of this number and those after it. Without the key at hand they make their own. */
  prepare(salt: Uint8Array, number: number): void {
    if (this.isNext(salt, number)) return;
    this.drop();
    const secrets = this.key.ifUsable();
    if (secrets === undefined) return;
    const count = Math.min(AHEAD_MAX, number, FRAMES_PER_STRETCH_MAX - number);
    const key = this.key.stretch(secrets, salt);
    for (let i = 0; i < count; i++) this.ready.push(readyFrame(this.aead, key, number + i));
    this.ready.reverse();
    this.salt = salt;
    this.number = number;
  }

  drop(): void {
    this.ready = [];
    this.salt = undefined;
  }
}
