// How the safekeeper's verbs come by keys: `control` knows where a deployment keeps them, `main` introduces the two.

import type { OptionSpec, VerbInput, World } from '../../base/command.ts';
import type { Blobs } from '../../base/ports.ts';
import type { Vault } from '../../seal/vault.ts';
import type { TimelineKey } from '../timeline-handle.ts';

export interface OpenVaults {
  readonly blobs: Blobs;
  /** Of a timeline in a safekeeper's data directory. */
  vault(directory: string, key: TimelineKey): Vault;
  /** Resolves when the audit is on the disk. */
  drained(): Promise<void>;
}

export interface VaultDoor {
  /** Where keys, objects and the audit are. */
  readonly options: readonly OptionSpec[];
  open(input: VerbInput, world: World): Promise<OpenVaults>;
}
