// The keys of one tenant without a KMS: a KEK from a seed, always usable until `revoke`. For suites that need a
// Vault and are not about keys; the envelope, the formats and the cipher are the real ones.

import { Fault } from '../../src/base/fault.ts';
import type { Random } from '../../src/base/ports.ts';
import { DEK_BYTES, DEK_ID_BYTES, unwrapDek, type WrappedDek, wrapDek } from '../../src/seal/envelope.ts';
import type { FileKeys, KeyHolder } from '../../src/seal/file-keys.ts';

export class SimFileKeys implements FileKeys {
  readonly tenant: string;
  private readonly random: Random;
  private readonly kek: { version: number; secret: Uint8Array };
  private readonly holders = new Set<KeyHolder>();
  private revoked = false;
  /** DEKs made, for tests that count. */
  made = 0;

  constructor(tenant: string, random: Random) {
    this.tenant = tenant;
    this.random = random;
    this.kek = { version: 1, secret: random.bytes(32) };
  }

  check(): void {
    if (this.revoked) throw new Fault('key-revoked', `tenant ${this.tenant}: its key is switched off`);
  }

  async make(): Promise<{ dek: Uint8Array; wrapped: WrappedDek }> {
    this.check();
    this.made++;
    const dek = this.random.bytes(DEK_BYTES);
    const id = this.random.bytes(DEK_ID_BYTES);
    return { dek, wrapped: wrapDek(this.kek, this.tenant, id, dek, this.random) };
  }

  async open(wrapped: WrappedDek): Promise<Uint8Array | undefined> {
    this.check();
    return unwrapDek(this.kek, this.tenant, wrapped);
  }

  hold(holder: KeyHolder): () => void {
    this.holders.add(holder);
    return () => void this.holders.delete(holder);
  }

  revoke(): void {
    this.revoked = true;
    for (const holder of this.holders) holder.wipe();
  }

  restore(): void {
    this.revoked = false;
  }
}
