// How the pageserver's verbs come by keys: `control` knows where a deployment keeps them, `main` introduces the two.

import type { OptionSpec, VerbInput, World } from '../../base/command.ts';
import type { Blobs } from '../../base/ports.ts';
import type { SealScope, Vault } from '../../seal/vault.ts';

export interface OpenStore {
  readonly blobs: Blobs;
  /** Of a directory below the working directory; only what is in objects is asked of it here. */
  vault(directory: string, scope: SealScope): Vault;
  /** Resolves when the audit is on the disk. */
  drained(): Promise<void>;
}

export interface StoreDoor {
  /** Where keys, objects and the audit are. */
  readonly options: readonly OptionSpec[];
  open(input: VerbInput, world: World): Promise<OpenStore>;
}
