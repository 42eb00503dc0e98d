// A key management service in memory, with the moods of a real one: it answers late, not at all, throttles,
// denies; its keys are switched off and on, destroyed, rotated. Wrapping is real (AES-256-GCM bound to the
// context), so what it refuses to open it could not open.

import { createCipheriv, createDecipheriv } from 'node:crypto';
import { KeyFault } from '../../src/base/key-fault.ts';
import type {
  Clock,
  KeyContext,
  KeyState,
  Keys,
  Random,
  UnwrappedSecret,
  WrappedSecret,
} from '../../src/base/ports.ts';

export type Mood = 'well' | 'down' | 'hanging' | 'throttling' | 'denying';

interface SimKey {
  state: KeyState;
  versions: Uint8Array[];
}

export interface SimKeysOptions {
  readonly random: Random;
  readonly clock?: Clock;
  readonly latencyMs?: number;
}

export class SimKeys implements Keys {
  readonly kind = 'sim';
  mood: Mood = 'well';
  /** Called before every call: a test may throw in it, to stop there. */
  before: () => void = () => undefined;
  /** Calls that reached the service, refused ones too. */
  calls = 0;
  private readonly keys = new Map<string, SimKey>();
  private readonly options: SimKeysOptions;

  constructor(options: SimKeysOptions) {
    this.options = options;
  }

  make(id: string): string {
    this.keys.set(id, { state: 'enabled', versions: [this.options.random.bytes(32)] });
    return `sim:${id}`;
  }

  set(id: string, state: KeyState): void {
    const key = this.keys.get(id)!;
    key.state = state;
    if (state === 'destroyed') key.versions = [];
  }

  async rotate(id: string): Promise<void> {
    this.keys.get(id)!.versions.push(this.options.random.bytes(32));
  }

  private async enter(id: string): Promise<{ key: SimKey; requestId: string }> {
    this.before();
    this.calls++;
    const requestId = `sim-${this.calls}`;
    const { clock, latencyMs = 0, random } = this.options;
    if (this.mood === 'hanging' && clock) await clock.sleep(3_600_000);
    else if (clock && latencyMs > 0) await clock.sleep(1 + random.below(latencyMs));
    else await undefined;
    if (this.mood === 'down') throw new KeyFault('key-unavailable', 'connection refused');
    if (this.mood === 'throttling') throw new KeyFault('key-unavailable', 'rate exceeded', { requestId });
    if (this.mood === 'denying') throw new KeyFault('key-denied', 'not authorized', { requestId });
    const key = this.keys.get(id);
    if (!key || key.state === 'destroyed') throw new KeyFault('key-destroyed', `no key ${id}`, { requestId });
    if (key.state === 'disabled') throw new KeyFault('key-disabled', `${id} is disabled`, { requestId });
    return { key, requestId };
  }

  async generate(
    keyId: string,
    bytes: number,
    context: KeyContext,
  ): Promise<{ plaintext: Uint8Array; secret: WrappedSecret }> {
    const plaintext = this.options.random.bytes(bytes);
    return { plaintext, secret: await this.wrap(keyId, plaintext, context) };
  }

  async wrap(keyId: string, plaintext: Uint8Array, context: KeyContext): Promise<WrappedSecret> {
    const { key, requestId } = await this.enter(keyId);
    const version = key.versions.length;
    const nonce = this.options.random.bytes(12);
    const cipher = createCipheriv('aes-256-gcm', key.versions[version - 1]!, nonce);
    cipher.setAAD(Buffer.from(JSON.stringify(context)));
    const sealed = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
    const ciphertext = new Uint8Array(Buffer.concat([Buffer.from([version]), nonce, sealed]));
    return { ciphertext, keyVersion: String(version), requestId };
  }

  async unwrap(keyId: string, secret: WrappedSecret, context: KeyContext): Promise<UnwrappedSecret> {
    const { key, requestId } = await this.enter(keyId);
    const bytes = Buffer.from(secret.ciphertext);
    const version = bytes[0]!;
    try {
      const decipher = createDecipheriv('aes-256-gcm', key.versions[version - 1]!, bytes.subarray(1, 13));
      decipher.setAAD(Buffer.from(JSON.stringify(context)));
      decipher.setAuthTag(bytes.subarray(-16));
      const plaintext = new Uint8Array(
        Buffer.concat([decipher.update(bytes.subarray(13, -16)), decipher.final()]),
      );
      return { plaintext, keyVersion: String(version), requestId };
    } catch (error) {
      throw new KeyFault('sealed-tampered', `${keyId} never wrapped this`, { cause: error, requestId });
    }
  }

  async state(keyId: string): Promise<KeyState> {
    await undefined;
    if (this.mood !== 'well') throw new KeyFault('key-unavailable', `mood: ${this.mood}`);
    return this.keys.get(keyId)?.state ?? 'destroyed';
  }
}
