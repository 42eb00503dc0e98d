// Where key documents, bags and holders' reports are kept: beside the tenant's objects, in the same store.
//
//   keys/<tenant>/document-<sequence, 10 digits>.json          key-document.ts; the highest sequence counts
//   keys/<tenant>/bags/<kek, 8 digits>/<domain>/<number, 6 digits>.json   key-bag.ts
//   keys/<tenant>/holders/<node>.json                          who has which document, and rewrapped its own files
//
// One change at a time wins: a document is put only if absent. Older ones are removed after: a KEK that was
// retired or a tenant that was shredded must not live on in them. So a writer that slept may find its number
// free again; it looks once more after putting, and gives way to a higher one.
//
// A service keeps a copy of the newest documents on its own disk (`cachedKeyStore`), so that it starts while the
// store is away; and so that it knows an older one that was put back into the store while it was down.

import { fromUtf8, utf8 } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import type { Blobs } from '../base/ports.ts';
import { decodeBag, encodeBag, type KeyBag } from './key-bag.ts';
import { decodeDocument, encodeDocument, type KeyDocument } from './key-document.ts';

/** What a node says about itself, so that a KEK is retired only when nobody needs it. */
export interface KeyHolder {
  readonly node: string;
  /** The newest document it knows: from here on it seals nothing under older KEKs. */
  readonly sequence: number;
  /** Its own files' DEKs are all wrapped by this KEK or lie in its bags. */
  readonly rewrapped: number;
  readonly at: string;
}

export interface KeyStore {
  load(tenant: string): Promise<KeyDocument | undefined>;
  /** A Fault `key-conflict` if somebody else changed it meanwhile. */
  put(document: KeyDocument): Promise<void>;
  /** Removes documents older than the newest, which a crash may have left. */
  prune(tenant: string): Promise<void>;
  tenants(): Promise<string[]>;
  bags(tenant: string, kek: number): Promise<KeyBag[]>;
  /** A Fault `key-conflict` if another pass put this number. */
  putBag(bag: KeyBag): Promise<void>;
  removeBags(tenant: string, below: number): Promise<void>;
  holders(tenant: string): Promise<KeyHolder[]>;
  putHolder(tenant: string, holder: KeyHolder): Promise<void>;
  removeHolder(tenant: string, node: string): Promise<void>;
}

const pad = (value: number, digits: number): string => String(value).padStart(digits, '0');
const documentName = (tenant: string, sequence: number): string =>
  `keys/${tenant}/document-${pad(sequence, 10)}.json`;

export const blobKeyStore = (blobs: Blobs): KeyStore => new BlobKeyStore(blobs);

class BlobKeyStore implements KeyStore {
  private readonly blobs: Blobs;

  constructor(blobs: Blobs) {
    this.blobs = blobs;
  }

  private async names(prefix: string): Promise<string[]> {
    const names: string[] = [];
    for await (const head of this.blobs.list(prefix)) names.push(head.key);
    return names.sort();
  }

  async load(tenant: string): Promise<KeyDocument | undefined> {
    for (;;) {
      const newest = (await this.names(`keys/${tenant}/document-`)).at(-1);
      if (newest === undefined) return undefined;
      try {
        return decodeDocument(await this.blobs.get(newest), tenant);
      } catch (error) {
        if (!isFault(error, 'blob-missing')) throw error;
        // Replaced between the listing and the reading: there is a newer one.
      }
    }
  }

  async put(document: KeyDocument): Promise<void> {
    const { tenant, sequence } = document;
    const name = documentName(tenant, sequence);
    const bytes = encodeDocument(document);
    try {
      await this.blobs.put(name, bytes, { onlyIfAbsent: true });
    } catch (error) {
      if (!isFault(error, 'blob-exists')) throw error;
      // Perhaps our own put, retried after an answer that was lost.
      const there = await this.blobs.get(name).catch(() => undefined);
      if (!there || Buffer.compare(there, bytes) !== 0) throw conflict(tenant, error);
    }
    const all = await this.names(`keys/${tenant}/document-`);
    if (all.at(-1) !== name) {
      await this.blobs.remove([name]);
      throw conflict(tenant);
    }
    if (all.length > 1) await this.blobs.remove(all.slice(0, -1));
  }

  async prune(tenant: string): Promise<void> {
    const all = await this.names(`keys/${tenant}/document-`);
    if (all.length > 1) await this.blobs.remove(all.slice(0, -1));
  }

  async tenants(): Promise<string[]> {
    const found = new Set<string>();
    for (const name of await this.names('keys/')) {
      const match = /^keys\/([0-9a-f]{32})\/document-/.exec(name);
      if (match) found.add(match[1]!);
    }
    return [...found];
  }

  async bags(tenant: string, kek: number): Promise<KeyBag[]> {
    const bags: KeyBag[] = [];
    for (const name of await this.names(`keys/${tenant}/bags/${pad(kek, 8)}/`)) {
      bags.push(decodeBag(await this.blobs.get(name), name));
    }
    return bags;
  }

  async putBag(bag: KeyBag): Promise<void> {
    const name = `keys/${bag.tenant}/bags/${pad(bag.kek, 8)}/${bag.domain}/${pad(bag.number, 6)}.json`;
    try {
      await this.blobs.put(name, encodeBag(bag), { onlyIfAbsent: true });
    } catch (error) {
      throw isFault(error, 'blob-exists') ? conflict(bag.tenant, error) : error;
    }
  }

  async removeBags(tenant: string, below: number): Promise<void> {
    const limit = below === Infinity ? `keys/${tenant}/bags0` : `keys/${tenant}/bags/${pad(below, 8)}/`;
    const old = (await this.names(`keys/${tenant}/bags/`)).filter(name => name < limit);
    if (old.length > 0) await this.blobs.remove(old);
  }

  async holders(tenant: string): Promise<KeyHolder[]> {
    const holders: KeyHolder[] = [];
    for (const name of await this.names(`keys/${tenant}/holders/`)) {
      const bytes = await this.blobs.get(name).catch(error => {
        if (isFault(error, 'blob-missing')) return undefined;
        throw error;
      });
      if (bytes) holders.push(JSON.parse(fromUtf8(bytes)) as KeyHolder);
    }
    return holders;
  }

  async putHolder(tenant: string, holder: KeyHolder): Promise<void> {
    await this.blobs.put(`keys/${tenant}/holders/${holder.node}.json`, utf8(JSON.stringify(holder)));
  }

  async removeHolder(tenant: string, node: string): Promise<void> {
    await this.blobs.remove([`keys/${tenant}/holders/${node}.json`]);
  }
}

const conflict = (tenant: string, cause?: unknown): Fault =>
  new Fault('key-conflict', `the keys of tenant ${tenant} were changed by somebody else meanwhile`, {
    hint: 'Look at their state and try again.',
    cause,
  });

/** A store with a copy of its documents nearby, used while the store cannot be reached. */
const putBack = (found: KeyDocument, kept: KeyDocument): Fault =>
  new Fault(
    'sealed-tampered',
    `key document ${found.sequence} of tenant ${found.tenant} is in the store, where document ${kept.sequence} was before`,
    {
      hint: 'An older one was put back. Put back the newest; if the store was meant to be taken back to that time, remove the copies in lakebed-keys/documents of each node.',
    },
  );

export function cachedKeyStore(store: KeyStore, near: KeyStore): KeyStore {
  /** The copy is a convenience: where it cannot be read or written, work goes on without. */
  const keep = async (document: KeyDocument, kept?: KeyDocument): Promise<void> => {
    if (kept && kept.sequence >= document.sequence) return;
    await near.put(document).catch(() => undefined);
  };
  const keptOf = (tenant: string): Promise<KeyDocument | undefined> =>
    near.load(tenant).catch(() => undefined);
  return {
    async load(tenant) {
      try {
        let document = await store.load(tenant);
        const kept = await keptOf(tenant);
        // Ours may have come while the store was being read: it then has that one, too.
        if (document && kept && kept.sequence > document.sequence) document = await store.load(tenant);
        if (document && kept && kept.sequence > document.sequence) throw putBack(document, kept);
        if (document) await keep(document, kept);
        return document;
      } catch (error) {
        if (!isFault(error) || error.kind !== 'unavailable') throw error;
        const kept = await near.load(tenant);
        if (kept) return kept;
        throw error;
      }
    },
    async put(document) {
      await store.put(document);
      await keep(document, await keptOf(document.tenant));
    },
    async prune(tenant) {
      await store.prune(tenant);
      await near.prune(tenant);
    },
    tenants: () => store.tenants(),
    bags: (tenant, kek) => store.bags(tenant, kek),
    putBag: bag => store.putBag(bag),
    removeBags: (tenant, below) => store.removeBags(tenant, below),
    holders: tenant => store.holders(tenant),
    putHolder: (tenant, holder) => store.putHolder(tenant, holder),
    removeHolder: (tenant, node) => store.removeHolder(tenant, node),
  };
}
