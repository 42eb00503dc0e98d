// The pass that makes an old KEK unnecessary: walks sealed files, reads the first 512 bytes of each, and puts the
// DEKs that an older KEK wrapped into bags of the current one (key-bag.ts). No data is read, nothing is rewritten.
//
// A pass walks one domain: an object store's prefix, or the disk of one node. It puts a bag every BAG_DEKS_MAX
// DEKs and says in it how far it came; after a crash, or if two passes meet, it goes on behind the last bag. A
// DEK that was bagged twice does no harm: both open.
//
// WHEN A KEK MAY GO (`retireOld`). Every file it ever wrapped must be in a bag, also one that some node was just
// writing when the KEK was rotated. In this order:
//   1. the rotation: the document with a new current KEK
//   2. every node that holds the tenant says it knows that document: nobody begins a file under the old KEK
//   3. every node has walked its own disk, and bagged the DEKs it made lately (their files may be half written, or
//      on their way to the store): what the old KEK wrapped is in bags, or was uploaded
//   4. the objects are walked from the start: those are in bags too
//   5. only then the old KEK's wrapped bytes are dropped from the key document
// A node that is gone for good holds this up until somebody says so (`forget`).

import { toHex } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import type { Blobs, Disk } from '../base/ports.ts';
import type { WrappedDek } from './envelope.ts';
import type { KeyAdmin } from './key-admin.ts';
import { BAG_DEKS_MAX, bagEntry, type KeyBag } from './key-bag.ts';
import { currentKek, type KeyDocument } from './key-document.ts';
import type { KeyStore } from './key-store.ts';
import { HEADER_BYTES, looksSealed, parseHeader, type SealedHeader } from './sealed-header.ts';
import type { TenantKeys } from './tenant-keys.ts';

/** Files walked between two bags even if none needed one: so that a crash does not start over. */
const BAG_FILES_MAX = 50_000;

/** Sealed files that can be walked. */
export interface SealedFiles {
  /** Letters, digits, dots and dashes: it is part of the bags' names. */
  readonly domain: string;
  /** Names after `after`, in order. */
  names(after: string): AsyncIterable<string>;
  /** The first 512 bytes, fewer if there are fewer; undefined if the file is gone. */
  head(name: string): Promise<Uint8Array | undefined>;
}

export function filesInBlobs(blobs: Blobs, prefix: string, domain: string): SealedFiles {
  return {
    domain,
    async *names(after) {
      for await (const { key, size } of blobs.list(prefix))
        if (key > after && size >= HEADER_BYTES) yield key;
    },
    head: name => orGone(blobs.get(name, { offset: 0, length: HEADER_BYTES })),
  };
}

/** All below a directory; `enter` says which of those in it to look into. */
export function filesOnDisk(
  disk: Disk,
  directory: string,
  domain: string,
  enter: (directory: string) => boolean = () => true,
): SealedFiles {
  async function* walk(path: string): AsyncGenerator<string> {
    const names = await orGone(disk.list(path));
    for (const name of names ?? []) {
      const child = path === '' ? name : `${path}/${name}`;
      const stat = await disk.stat(child);
      if (stat && !stat.isDirectory) yield child;
      else if (stat && enter(child)) yield* walk(child);
    }
  }
  return {
    domain,
    async *names(after) {
      // Directories sort differently from the names in them: collected, then put in order.
      const found: string[] = [];
      for await (const name of walk(directory)) if (name > after) found.push(name);
      yield* found.sort();
    },
    async head(name) {
      const file = await orGone(disk.open(name, 'read'));
      try {
        return await file?.read(0, HEADER_BYTES);
      } finally {
        await file?.close();
      }
    },
  };
}

export const noFiles = (domain: string): SealedFiles => ({
  domain,
  async *names() {},
  head: async () => undefined,
});

async function orGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isFault(error, 'blob-missing') || isFault(error, 'file-missing')) return undefined;
    throw error;
  }
}

export interface RewrapProgress {
  /** Sealed files of the tenant looked at. */
  seen: number;
  /** DEKs wrapped anew. */
  rewrapped: number;
  /** Files whose header or wrapped key was tampered with: they could not be read before either. */
  refused: string[];
}

export interface RewrapOptions {
  readonly keys: TenantKeys;
  readonly store: KeyStore;
  readonly files: SealedFiles;
  /** Walk all of it, wherever an earlier pass stopped. */
  readonly fromStart?: boolean;
  /** DEKs whose files may not lie anywhere yet. */
  readonly also?: readonly WrappedDek[];
  readonly signal?: AbortSignal;
  readonly progress?: (progress: RewrapProgress) => void;
}

/** One pass over one domain, to its end. */
export async function rewrapPass(options: RewrapOptions): Promise<RewrapProgress> {
  const { keys, files } = options;
  await keys.ready();
  const target = currentKek(keys.document!).version;
  const bags = await keys.provenBags(target);
  const known = new Set(bags.flatMap(bag => bag.deks.map(([id]) => id)));
  const mine = bags.filter(bag => bag.domain === files.domain);
  const last = mine.at(-1);
  const resumed = last && !last.done && options.fromStart !== true ? last : undefined;
  const progress: RewrapProgress = { seen: resumed?.seen ?? 0, rewrapped: 0, refused: [] };
  const bagger = new Bagger(options, target, (last?.number ?? 0) + 1, progress);
  const isOld = (dek: WrappedDek): boolean => dek.kekVersion !== target && !known.has(toHex(dek.id));
  for (const dek of options.also ?? []) if (isOld(dek)) await bagger.add('a file being written', dek);
  let through = resumed?.through ?? '';
  for await (const name of files.names(through)) {
    options.signal?.throwIfAborted();
    const header = await headerOf(options, name, progress);
    if (header) {
      progress.seen++;
      if (isOld(header.dek)) await bagger.add(name, header.dek);
      options.progress?.(progress);
    }
    through = name;
    await bagger.putIfFull(through);
  }
  await bagger.put(through, true);
  const { seen, rewrapped, refused } = progress;
  const told = `${files.domain}: ${seen} files seen, ${rewrapped} file keys rewrapped, ${refused.length} refused`;
  keys.note('rewrap', 'rewrap files', refused.length === 0 ? 'ok' : 'sealed-tampered', told);
  return progress;
}

async function headerOf(
  { files, keys }: RewrapOptions,
  name: string,
  progress: RewrapProgress,
): Promise<SealedHeader | undefined> {
  const bytes = await files.head(name);
  if (!bytes || !looksSealed(bytes)) return undefined;
  try {
    const header = parseHeader(bytes, name);
    return header.tenant === keys.tenant ? header : undefined;
  } catch (error) {
    if (!isFault(error) || error.kind !== 'corrupt') throw error;
    progress.refused.push(name);
    return undefined;
  }
}

/** Gathers DEKs into bags and puts those. */
class Bagger {
  private readonly options: RewrapOptions;
  private readonly target: number;
  private readonly progress: RewrapProgress;
  private number: number;
  private deks: KeyBag['deks'][number][] = [];
  private seenBefore: number;

  constructor(options: RewrapOptions, target: number, number: number, progress: RewrapProgress) {
    this.options = options;
    this.target = target;
    this.number = number;
    this.progress = progress;
    this.seenBefore = progress.seen;
  }

  async add(name: string, old: WrappedDek): Promise<void> {
    const { keys } = this.options;
    const dek = await keys.open(old);
    if (!dek) {
      this.progress.refused.push(name);
      return;
    }
    const wrapped = await keys.wrap(old.id, dek);
    dek.fill(0);
    if (wrapped.kekVersion !== this.target) {
      throw new Fault('key-conflict', `the KEK of tenant ${keys.tenant} was rotated during the pass`, {
        hint: 'Run it again: it goes on under the new KEK.',
      });
    }
    this.deks.push(bagEntry(wrapped));
    this.progress.rewrapped++;
  }

  async putIfFull(through: string): Promise<void> {
    const files = this.progress.seen - this.seenBefore;
    if (this.deks.length >= BAG_DEKS_MAX || files >= BAG_FILES_MAX) await this.put(through, false);
  }

  async put(through: string, done: boolean): Promise<void> {
    const { keys, store, files } = this.options;
    const bag = await keys.signedBag({
      format: 1,
      tenant: keys.tenant,
      kek: this.target,
      domain: files.domain,
      number: this.number++,
      through,
      done,
      seen: this.progress.seen,
      deks: this.deks,
    });
    await store.putBag(bag);
    this.deks = [];
    this.seenBefore = this.progress.seen;
  }
}

export interface RetireOptions {
  readonly admin: KeyAdmin;
  readonly keys: TenantKeys;
  /** What all nodes share: the object store. */
  readonly shared: readonly SealedFiles[];
  readonly signal?: AbortSignal;
  readonly progress?: (progress: RewrapProgress) => void;
}

/** Drops every old KEK, after making sure that no file needs one. */
export async function retireOld(options: RetireOptions): Promise<KeyDocument> {
  const { admin, keys } = options;
  const { store } = admin;
  await keys.ask();
  await keys.ready();
  await requireHolders(store, keys.document!);
  for (const files of options.shared) {
    const { refused } = await rewrapPass({ ...options, store, files, fromStart: true });
    if (refused.length > 0) {
      throw new Fault(
        'sealed-tampered',
        `${refused.length} files could not be rewrapped: ${refused.slice(0, 5).join(', ')}`,
        {
          hint: 'They are damaged. Restore or remove them, then run this again; the old KEK stays until then.',
        },
      );
    }
  }
  let document = keys.document!;
  const target = currentKek(document).version;
  for (const { version, state } of document.keks) {
    if (state === 'old') document = await admin.retireKek(keys.tenant, version);
  }
  await store.removeBags(keys.tenant, target);
  await keys.ask();
  return document;
}

async function requireHolders(store: KeyStore, document: KeyDocument): Promise<void> {
  const current = currentKek(document);
  const behind = (await store.holders(document.tenant)).filter(
    holder => holder.sequence < current.since || holder.rewrapped < current.version,
  );
  if (behind.length === 0) return;
  const who = behind.map(
    h => `${h.node} (document ${h.sequence}, files under KEK ${h.rewrapped}, at ${h.at})`,
  );
  throw new Fault(
    'key-conflict',
    `nodes still need older KEKs of tenant ${document.tenant}: ${who.join(', ')}`,
    {
      hint: `Each must reach document ${current.since} and KEK ${current.version}: running ones do within a few polls. Forget a node that is gone for good with --forget NODE.`,
    },
  );
}
