// The Vault over a directory of a Disk: which bytes go where, in which order, and what is durable when.
//
// A file gets its name only when it is whole and synced: it is written as `<name>.partial-<random>`, synced,
// renamed, and the directory synced. A crash leaves the old file, the new file, or a partial one that `list`
// does not show and `sweep` removes; never half a file under a name. Logs are made the same way, and then grow.
//
// A file replaced as a whole (`writeFile`) is remembered by its DEK's id for as long as this Vault lives: if
// another one lies there when it is read, an older generation was put back, and it is refused. Across restarts
// only a generation the caller knows from elsewhere (`ExpectOptions`) can tell.

import { toHex } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import type { Disk, DiskFile, Random, Source } from '../base/ports.ts';
import { type Aead, aes256gcm } from './aead.ts';
import { fileSecrets, type WrappedDek } from './envelope.ts';
import { DataKey, type FileKeys } from './file-keys.ts';
import { FileWriter } from './file-writer.ts';
import { AHEAD_BYTES, GROW_BYTES, LogFile } from './log-file.ts';
import { LogReader } from './log-reader.ts';
import { CHUNK_BYTES, openSealed, type SealedFile, sealWhole } from './sealed-file.ts';
import {
  type Expected,
  encodeHeader,
  expectIdentity,
  HEADER_BYTES,
  type Identity,
  parseHeader,
  proveHeader,
  rebindHeader,
  type SealedHeader,
  tampered,
} from './sealed-header.ts';
import { type LogScan, scanLog } from './sealed-log.ts';
import { eachPiece, sourceOf, sourceOfFile, spliced } from './sources.ts';
import type {
  ExpectOptions,
  LogOptions,
  SealedLog,
  SealedLogSource,
  SealedSource,
  SealedWriter,
  SealOptions,
  SealScope,
  Vault,
} from './vault.ts';

const PARTIAL = '.partial-';
/** Zeros written in one go. */
const ZERO_BYTES = 1024 * 1024;

export interface VaultOptions {
  readonly disk: Disk;
  /** Where the vault's names begin; made when first written to. */
  readonly directory: string;
  readonly scope: SealScope;
  readonly keys: FileKeys;
  readonly random: Random;
  /** The benchmark alone passes another one. */
  readonly aead?: Aead;
  readonly chunkBytes?: number;
  /** Room that a log makes ahead of itself when its file grows; 0 for none. */
  readonly growBytes?: number;
  /** How much of a log must wait to be sealed while the disk is at work. */
  readonly aheadBytes?: number;
}

export const openVault = (options: VaultOptions): Vault => new DiskVault(options);

class DiskVault implements Vault {
  readonly scope: SealScope;
  private readonly disk: Disk;
  private readonly directory: string;
  private readonly keys: FileKeys;
  private readonly random: Random;
  private readonly aead: Aead;
  private readonly chunkBytes: number;
  private readonly growBytes: number;
  private readonly aheadBytes: number;
  /** DEK ids of the files this vault replaced last, by name. */
  private readonly newest = new Map<string, string>();

  constructor(options: VaultOptions) {
    this.scope = options.scope;
    this.disk = options.disk;
    this.directory = options.directory;
    this.keys = options.keys;
    this.random = options.random;
    this.aead = options.aead ?? aes256gcm;
    this.chunkBytes = options.chunkBytes ?? CHUNK_BYTES;
    this.growBytes = options.growBytes ?? GROW_BYTES;
    this.aheadBytes = options.aheadBytes ?? AHEAD_BYTES;
  }

  check(): void {
    this.keys.check();
  }

  private path(name: string): string {
    return this.directory === '' ? name : `${this.directory}/${name}`;
  }

  private where(name: string): string {
    return [this.scope.tenant, this.scope.timeline, name].filter(part => part !== undefined).join('/');
  }

  private identity(kind: 'file' | 'log', name: string, generation: number): Identity {
    return { kind, tenant: this.scope.tenant, timeline: this.scope.timeline, name, generation };
  }

  private expected(kind: 'file' | 'log', name: string, options: ExpectOptions = {}): Expected {
    const { tenant, timeline } = this.scope;
    return { kind, tenant, timeline, name, generation: options.generation };
  }

  /** A DEK and a header for a new file. */
  private async begin(
    identity: Identity,
    extra: { origin?: number; chunkBytes?: number },
  ): Promise<{ header: Uint8Array; wrapped: WrappedDek; key: DataKey }> {
    const { dek, wrapped } = await this.keys.make();
    const secrets = fileSecrets(dek);
    const chunkBytes = identity.kind === 'file' ? (extra.chunkBytes ?? this.chunkBytes) : 0;
    const full: SealedHeader = { ...identity, chunkBytes, origin: extra.origin ?? 0, dek: wrapped };
    const header = encodeHeader(full, secrets);
    return { header, wrapped, key: new DataKey(this.keys, wrapped, this.where(identity.name), secrets) };
  }

  async seal(name: string, bytes: Uint8Array, options: SealOptions = {}): Promise<Uint8Array> {
    return (await this.sealed(name, bytes, options)).bytes;
  }

  private async sealed(
    name: string,
    bytes: Uint8Array,
    options: SealOptions,
  ): Promise<{ bytes: Uint8Array; id: string }> {
    const chunkBytes = options.chunkBytes ?? this.chunkBytes;
    const identity = this.identity('file', name, options.generation ?? 0);
    const { header, wrapped, key } = await this.begin(identity, { chunkBytes });
    try {
      const whole = sealWhole(this.aead, header, await key.get(), chunkBytes, bytes);
      return { bytes: whole, id: toHex(wrapped.id) };
    } finally {
      key.release();
    }
  }

  async writeFile(name: string, bytes: Uint8Array, options: SealOptions = {}): Promise<void> {
    const sealed = await this.sealed(name, bytes, options);
    await this.place(name, async file => file.write(0, sealed.bytes));
    this.newest.set(name, sealed.id);
  }

  /** Fills a new file and gives it its name once it is durable. */
  private async place(name: string, fill: (file: DiskFile) => Promise<unknown>): Promise<void> {
    const partial = await this.openPartial(name);
    try {
      await fill(partial);
      await partial.sync();
      await partial.close();
      await this.name(partial.path, name);
    } catch (error) {
      await this.drop(partial);
      throw error;
    }
  }

  private async openPartial(name: string): Promise<DiskFile> {
    const path = `${this.path(name)}${PARTIAL}${toHex(this.random.bytes(6))}`;
    try {
      return await this.disk.open(path, 'create-new');
    } catch (error) {
      if (!isFault(error, 'file-missing')) throw error;
      await this.makeDirectory(directoryOf(path));
      return this.disk.open(path, 'create-new');
    }
  }

  /** A directory and those above it, each durable in its parent. */
  private async makeDirectory(path: string): Promise<void> {
    if (path === '' || (await this.disk.stat(path))) return;
    const parent = directoryOf(path);
    await this.makeDirectory(parent);
    await this.disk.makeDirectory(path);
    await this.disk.syncDirectory(parent);
  }

  private async name(partial: string, name: string): Promise<void> {
    await this.disk.rename(partial, this.path(name));
    await this.disk.syncDirectory(directoryOf(this.path(name)));
  }

  /** Best effort: what stays is swept at the next start. */
  private async drop(partial: DiskFile): Promise<void> {
    await partial.close().catch(() => undefined);
    await this.disk.remove(partial.path).catch(() => undefined);
  }

  async readFile(name: string, options: ExpectOptions = {}): Promise<Uint8Array> {
    const file = await this.open(name, options);
    try {
      return await file.read(0, file.size);
    } finally {
      await file.close();
    }
  }

  async readGeneration(name: string): Promise<{ bytes: Uint8Array; generation: number }> {
    const file = await this.open(name);
    try {
      return { bytes: await file.read(0, file.size), generation: file.generation };
    } finally {
      await file.close();
    }
  }

  async unseal(name: string, sealed: Uint8Array, options: ExpectOptions = {}): Promise<Uint8Array> {
    const file = await this.openSource(name, sourceOf(sealed), options);
    try {
      return await file.read(0, file.size);
    } finally {
      await file.close();
    }
  }

  async create(name: string, options: SealOptions = {}): Promise<SealedWriter> {
    const chunkBytes = options.chunkBytes ?? this.chunkBytes;
    const identity = this.identity('file', name, options.generation ?? 0);
    const { header, key } = await this.begin(identity, { chunkBytes });
    const file = await this.openPartial(name).catch(error => {
      key.release();
      throw error;
    });
    return new FileWriter({
      aead: this.aead,
      chunkBytes,
      header,
      key,
      file,
      keep: async () => {
        await this.name(file.path, name);
        this.newest.delete(name);
      },
      drop: () => this.drop(file),
    });
  }

  async open(name: string, options: ExpectOptions = {}): Promise<SealedFile> {
    const file = await this.disk.open(this.path(name), 'read');
    try {
      const sealed = await sourceOfFile(file);
      const opened = await openSealed(sealed, {
        aead: this.aead,
        keys: this.keys,
        expected: this.expected('file', name, options),
        where: this.where(name),
        close: () => file.close(),
      });
      const newest = this.newest.get(name);
      if (newest === undefined || newest === opened.dekId) return opened;
      await opened.close();
      throw tampered(this.where(name), 'it is not the one written last: an older one was put back');
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  openSource(name: string, sealed: Source, options: ExpectOptions = {}): Promise<SealedFile> {
    const expected = this.expected('file', name, options);
    return openSealed(sealed, { aead: this.aead, keys: this.keys, expected, where: this.where(name) });
  }

  async log(name: string, options: LogOptions): Promise<SealedLog> {
    if (options.create) await this.makeLog(name, options.origin ?? 0, options.reserve ?? 0);
    const file = await this.disk.open(this.path(name), 'write');
    try {
      const sealed = await sourceOfFile(file);
      const { key, scan } = await this.readLog(name, sealed, options.atLeast);
      if (scan.torn) await file.truncate(scan.position);
      await settleTail(file, sealed, scan);
      const { aead, random, growBytes, aheadBytes } = this;
      const { index, position, torn, mark } = scan;
      const fileBytes = torn ? position : sealed.size;
      const where = this.where(name);
      const room = { fileBytes, growBytes, aheadBytes };
      return new LogFile({ name, where, file, key, aead, random, index, position, mark, ...room });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  private async makeLog(name: string, origin: number, reserve: number): Promise<void> {
    if (await this.disk.stat(this.path(name))) {
      throw new Fault('file-exists', `the log ${this.where(name)} is there already`);
    }
    const { header, key } = await this.begin(this.identity('log', name, 0), { origin });
    key.release();
    await this.place(name, async file => {
      await file.write(0, header);
      for (let at = HEADER_BYTES; at < reserve; at += ZERO_BYTES) {
        await file.write(at, new Uint8Array(Math.min(ZERO_BYTES, reserve - at)));
      }
    });
  }

  private async readLog(name: string, sealed: Source, atLeast = 0): Promise<{ key: DataKey; scan: LogScan }> {
    const where = this.where(name);
    const bytes = await sealed.read(0, Math.min(HEADER_BYTES, sealed.size));
    const header = parseHeader(bytes, where);
    expectIdentity(header, this.expected('log', name), where);
    const key = new DataKey(this.keys, header.dek, where);
    try {
      const secrets = await key.get();
      proveHeader(bytes, secrets, where);
      const { aead } = this;
      const { origin } = header;
      const scan = await scanLog(sealed, { aead, origin, where, keyOf: salt => key.stretch(secrets, salt) });
      if (scan.index.end >= atLeast) return { key, scan };
      throw tampered(
        where,
        `it ends at ${scan.index.end}, though ${atLeast} was durable: its end was cut off`,
      );
    } catch (error) {
      key.release();
      throw error;
    }
  }

  async openLogSource(name: string, sealed: Source): Promise<SealedLogSource> {
    const { key, scan } = await this.readLog(name, sealed);
    const { aead } = this;
    const { index } = scan;
    const reader = new LogReader({ where: this.where(name), file: sealed, key, aead, index });
    return {
      name,
      origin: index.origin,
      length: index.end,
      read: (offset, length) => reader.read(offset, length),
      async close() {
        key.release();
        reader.forget();
      },
    };
  }

  async list(prefix = ''): Promise<string[]> {
    const cut = prefix.lastIndexOf('/') + 1;
    const directory = prefix.slice(0, cut);
    try {
      const names = await this.disk.list(cut > 0 ? this.path(prefix.slice(0, cut - 1)) : this.directory);
      return names
        .map(name => directory + name)
        .filter(name => name.startsWith(prefix) && !name.includes(PARTIAL));
    } catch (error) {
      if (isFault(error, 'file-missing')) return [];
      throw error;
    }
  }

  async remove(name: string): Promise<void> {
    await this.disk.remove(this.path(name));
    this.newest.delete(name);
    await this.disk.syncDirectory(directoryOf(this.path(name)));
  }

  async sweep(): Promise<number> {
    let swept = 0;
    if (!(await this.disk.stat(this.directory))) return swept;
    for (const name of await this.disk.list(this.directory)) {
      if (!name.includes(PARTIAL)) continue;
      await this.disk.remove(this.path(name));
      swept++;
    }
    return swept;
  }

  async rename(from: string, to: string): Promise<void> {
    const sealed = await this.copyOut(from);
    try {
      await this.copyIn(to, await this.rebind(to, sealed, { scope: this.scope, name: from }));
    } finally {
      await sealed.close();
    }
    await this.remove(from);
  }

  async copyOut(name: string): Promise<SealedSource> {
    const file = await this.disk.open(this.path(name), 'read');
    const { size, read } = await sourceOfFile(file);
    return { size, read, close: () => file.close() };
  }

  async copyIn(name: string, sealed: Source): Promise<void> {
    // What was written is proven before it gets its name: an object far away is read once.
    await this.place(name, async file => {
      await eachPiece(sealed, (at, bytes) => file.write(at, bytes));
      await this.prove(name, await sourceOfFile(file));
    });
    this.newest.delete(name);
  }

  /** Every byte of a file or log that came from elsewhere. */
  private async prove(name: string, sealed: Source): Promise<void> {
    const first = await sealed.read(0, Math.min(HEADER_BYTES, sealed.size));
    if (parseHeader(first, this.where(name)).kind === 'log') {
      const log = await this.openLogSource(name, sealed);
      await log.close();
      return;
    }
    const file = await this.openSource(name, sealed);
    try {
      await eachPiece(file, async () => undefined);
    } finally {
      await file.close();
    }
  }

  async rebind(name: string, sealed: Source, from: { scope: SealScope; name: string }): Promise<Source> {
    const where = [from.scope.tenant, from.scope.timeline, from.name].filter(Boolean).join('/');
    const bytes = await sealed.read(0, Math.min(HEADER_BYTES, sealed.size));
    const header = parseHeader(bytes, where);
    const { tenant, timeline } = from.scope;
    const { kind, generation } = header;
    expectIdentity(header, { kind, tenant, timeline, name: from.name, generation }, where);
    const key = new DataKey(this.keys, header.dek, where);
    try {
      const secrets = await key.get();
      proveHeader(bytes, secrets, where);
      return spliced(rebindHeader(header, this.identity(kind, name, generation), secrets), sealed);
    } finally {
      key.release();
    }
  }
}

const directoryOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/**
 * What an earlier process wrote and did not sync may lie in the machine's memory alone; and if its sync failed, the
 * machine may hold those pages for clean: another sync would succeed and mean nothing. So what the last frame does not
 * know to be durable is written once more, the same bytes, before it is synced and believed.
 */
async function settleTail(file: DiskFile, sealed: Source, { synced, position }: LogScan): Promise<void> {
  if (position > synced) await file.write(synced, await sealed.read(synced, position - synced));
  await file.sync();
}
