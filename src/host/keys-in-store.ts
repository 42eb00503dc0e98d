// Local keys that lie in the object store, beside the data: the default where several nodes share a store and nobody
// said where keys are. So every node opens what another sealed, with no setting at all, and the one sealed path is
// used; but whoever has the store has the keys, and a start says so. Name a key service, or a directory that all
// nodes share, to protect data from whoever holds the store.
//
//   keys/cmk/<name>.json       the file of keys-local.ts, put only if absent and replaced as a whole

import { fromUtf8, utf8 } from '../base/bytes.ts';
import { isFault } from '../base/fault.ts';
import { KeyFault } from '../base/key-fault.ts';
import type { Blobs } from '../base/ports.ts';
import { type KeyFile, LocalKeys } from './keys-local.ts';

export class KeysInStore extends LocalKeys {
  private readonly blobs: Blobs;

  constructor(blobs: Blobs) {
    super('keys/cmk');
    this.blobs = blobs;
  }

  protected override async load(id: string): Promise<KeyFile | undefined> {
    try {
      return JSON.parse(fromUtf8(await this.blobs.get(this.path(id)))) as KeyFile;
    } catch (error) {
      if (isFault(error, 'blob-missing')) return undefined;
      if (isFault(error)) {
        throw new KeyFault('key-unavailable', `the key ${this.path(id)} cannot be read: ${error.message}`, {
          cause: error,
        });
      }
      throw error;
    }
  }

  protected override async save(file: KeyFile, create: boolean): Promise<void> {
    const bytes = utf8(`${JSON.stringify(file, undefined, 2)}\n`);
    try {
      await this.blobs.put(this.path(file.id), bytes, { onlyIfAbsent: create });
    } catch (error) {
      // Of two who make it, both use the first: as for a file that exists.
      if (create && isFault(error, 'blob-exists'))
        throw Object.assign(new Error('exists'), { code: 'EEXIST' });
      throw error;
    }
  }
}
