// The keys of one tenant as a file sees them, and the key of one open file.
//
// FileKeys is the key ring's face to the formats (key-ring.ts implements it): make a DEK for a new file, open the
// DEK of an existing one, and say at any moment whether the tenant's keys may be used at all. `check` is asked
// before every seal and every open of bytes; it is a comparison of two numbers.
//
// A DataKey holds the unwrapped DEK of one open file for as long as the tenant's keys live. When they are wiped
// it lets go of it; when they come back, the next use unwraps it again from the header kept in memory. So an
// open file survives a revocation: it fails while that lasts and goes on by itself after.

import { Fault, isFault } from '../base/fault.ts';
import type { KeyObject } from './aead.ts';
import { type FileSecrets, fileSecrets, logKey, type WrappedDek } from './envelope.ts';
import { tampered } from './sealed-header.ts';

export interface KeyHolder {
  /** Lets go of every key it holds, at once. */
  wipe(): void;
}

export interface FileKeys {
  readonly tenant: string;
  /** A Fault `key-revoked` while the tenant's keys may not be used. */
  check(): void;
  /** A new DEK under the current KEK. The caller owns `dek` and overwrites it. */
  make(): Promise<{ dek: Uint8Array; wrapped: WrappedDek }>;
  /** The bytes of a DEK, or undefined when `wrapped` was tampered with. The caller owns and overwrites them. */
  open(wrapped: WrappedDek): Promise<Uint8Array | undefined>;
  /** `holder.wipe()` is called when the tenant's keys are wiped, until the returned function is. */
  hold(holder: KeyHolder): () => void;
}

/** Keys of a log's stretches kept unwrapped at once; a log that was opened more often derives them again. */
const LOG_KEYS_MAX = 16;

export class DataKey implements KeyHolder {
  private readonly keys: FileKeys;
  private readonly wrapped: WrappedDek;
  private readonly letGo: () => void;
  private secrets: FileSecrets | undefined;
  private readonly stretches = new Map<string, KeyObject>();
  /** Names the file in errors. */
  private readonly where: string;
  /** Plaintext that the file keeps at hand goes with the key. */
  onWipe: () => void = () => undefined;

  constructor(keys: FileKeys, wrapped: WrappedDek, where: string, secrets?: FileSecrets) {
    this.keys = keys;
    this.wrapped = wrapped;
    this.where = where;
    this.secrets = secrets;
    this.letGo = keys.hold(this);
  }

  /** The unwrapped key if it is at hand and may be used. */
  now(): FileSecrets | undefined {
    this.keys.check();
    return this.secrets;
  }

  /** The unwrapped key, or nothing where `now` would refuse. */
  ifUsable(): FileSecrets | undefined {
    try {
      return this.now();
    } catch {
      return undefined;
    }
  }

  async get(): Promise<FileSecrets> {
    return this.now() ?? (await this.unwrap());
  }

  private async unwrap(): Promise<FileSecrets> {
    const dek = await this.keys.open(this.wrapped).catch(error => {
      throw isFault(error, 'key-missing') ? this.named(error) : error;
    });
    if (!dek) throw tampered(this.where, 'its wrapped key was changed, or is not of this tenant');
    const secrets = fileSecrets(dek);
    this.keys.check(); // wiped while we waited: do not keep it
    this.secrets = secrets;
    return secrets;
  }

  private named(error: Fault): Fault {
    const hint = error.hint === undefined ? {} : { hint: error.hint };
    return new Fault(error.code, `${this.where} cannot be opened: ${error.message}`, {
      cause: error,
      ...hint,
    });
  }

  /** The key of a log's stretch; `get` comes first. */
  stretch(secrets: FileSecrets, salt: Uint8Array): KeyObject {
    const name = Buffer.from(salt.buffer, salt.byteOffset, salt.length).toString('latin1');
    let key = this.stretches.get(name);
    if (key) return key;
    key = logKey(secrets, salt);
    if (this.stretches.size >= LOG_KEYS_MAX) this.stretches.delete(this.stretches.keys().next().value!);
    this.stretches.set(name, key);
    return key;
  }

  wipe(): void {
    this.secrets = undefined;
    this.stretches.clear();
    this.onWipe();
  }

  release(): void {
    this.wipe();
    this.letGo();
  }
}
