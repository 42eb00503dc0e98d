// Where a timeline keeps its layers: what the engine needs of the outside. `remote/` gives the full one (local
// cache, object store, index); `vaultStore` is a directory alone.

import { isFault } from '../../base/fault.ts';
import type { SealedWriter, Vault } from '../../seal/vault.ts';
import type { LayerDesc } from '../layers/layer.ts';
import type { ClosableSource } from '../layers/layer-file.ts';

export interface LayerChange {
  readonly added: readonly LayerDesc[];
  /** No longer read by new reads; those under way keep the file open. */
  readonly removed: readonly LayerDesc[];
}

export interface LayerStore {
  /** Of the attachment that writes now: goes into the names of new layers. */
  readonly generation: number;
  /** A new layer's file; durable under its name when finished. */
  create(name: string): Promise<SealedWriter>;
  /** The contents of a layer, from wherever they are to be had. */
  open(desc: LayerDesc): Promise<ClosableSource>;
  /** The same, of a layer that was just written and that no change has told of yet; `open` does, if there is none. */
  openWritten?(desc: LayerDesc): Promise<ClosableSource>;
  /** A layer that was written and will not be used after all. */
  discard(name: string): Promise<void>;
  /**
   * The timeline's layers or its disk-consistent LSN have changed: upload, write the index, delete what is
   * removed, in this order. Called right after the change, once for each.
   */
  changed(change: LayerChange): void;
  /** A layer did not prove right. Answers whether another copy is in its place and is worth another try. */
  damaged?(desc: LayerDesc, error: unknown): Promise<boolean>;
}

/** Layers in one vault; no object store behind it. */
export function vaultStore(
  vault: Vault,
  generation: number,
  changed: (change: LayerChange) => void = () => undefined,
): LayerStore {
  return {
    generation,
    create: name => vault.create(name, { generation }),
    open: desc => vault.open(desc.name, { generation: desc.generation }),
    async discard(name) {
      await vault.remove(name).catch(error => {
        if (!isFault(error, 'file-missing')) throw error;
      });
    },
    changed,
  };
}
