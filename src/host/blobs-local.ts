// An object store in a directory: a key is a path below it. For one machine, for tests, and for the drop-in
// daemons' `local_path`.
//
// A put is written aside, synced, and renamed (or linked, when it must not replace), and its directory synced:
// an object is there whole and durable, or not at all. What a crash leaves half written is never listed.

import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Fault } from '../base/fault.ts';
import { type BlobHead, type Blobs, BULK_SYNC_BYTES } from '../base/ports.ts';

const PARTIAL = '.partial-';

/** Files asked about at once when listing. */
const STATS_MAX = 16;

export const localBlobs = (root: string): Blobs => new LocalBlobs(root);

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

function blobFault(error: unknown, what: string): Fault {
  if (error instanceof Fault) return error;
  const code = codeOf(error);
  const message = `${what}: ${(error as Error).message}`;
  if (code === 'ENOENT' || code === 'ENOTDIR') return new Fault('blob-missing', message, { cause: error });
  return new Fault('blob-unavailable', message, {
    cause: error,
    hint:
      code === 'ENOSPC' || code === 'EDQUOT'
        ? 'Free space where the object store’s directory lies.'
        : 'Check the object store’s directory: its owner, its file system, the kernel log.',
  });
}

class LocalBlobs implements Blobs {
  private readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  private at(key: string): string {
    if (key === '' || key.split('/').some(part => part === '' || part === '.' || part === '..')) {
      throw new Fault('config-invalid', `"${key}" is no object key`, {
        hint: 'Parts between slashes are not empty, "." or "..".',
      });
    }
    return join(this.root, key);
  }

  async put(key: string, bytes: Uint8Array, options: { onlyIfAbsent?: boolean } = {}): Promise<void> {
    await this.place(key, options.onlyIfAbsent === true, path => writeSynced(path, bytes));
  }

  /** Fills a file aside and gives it its name. */
  private async place(
    key: string,
    onlyIfAbsent: boolean,
    fill: (path: string) => Promise<void>,
  ): Promise<void> {
    const path = this.at(key);
    const aside = `${path}${PARTIAL}${randomBytes(6).toString('hex')}`;
    try {
      const made = await fs.mkdir(dirname(path), { recursive: true, mode: 0o700 });
      // New directories last when this resolves, as the object does: their syncs and its own are one wait. A put that
      // failed is over, with both.
      const parents = made === undefined ? undefined : syncParents(dirname(path), made);
      const all = await Promise.allSettled([parents, this.name(aside, path, onlyIfAbsent, fill)]);
      for (const one of all) if (one.status === 'rejected') throw one.reason;
    } catch (error) {
      await fs.unlink(aside).catch(() => undefined);
      if (onlyIfAbsent && codeOf(error) === 'EEXIST') {
        throw new Fault('blob-exists', `${key} exists already`, { cause: error });
      }
      throw blobFault(error, `put ${key}`);
    }
  }

  private async name(
    aside: string,
    path: string,
    onlyIfAbsent: boolean,
    fill: (path: string) => Promise<void>,
  ): Promise<void> {
    await fill(aside);
    if (onlyIfAbsent) await fs.link(aside, path);
    else await fs.rename(aside, path);
    if (onlyIfAbsent) await fs.unlink(aside);
    await syncDirectory(dirname(path));
  }

  async get(key: string, range?: { offset: number; length: number }): Promise<Uint8Array> {
    let file: fs.FileHandle | undefined;
    try {
      file = await fs.open(this.at(key), 'r');
      const offset = range?.offset ?? 0;
      const length = range?.length ?? (await file.stat()).size;
      const bytes = Buffer.allocUnsafeSlow(length);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await file.read(bytes, filled, length - filled, offset + filled);
        if (bytesRead === 0) throw new Fault('bytes-short', `${key} ends at ${offset + filled}`);
        filled += bytesRead;
      }
      return new Uint8Array(bytes.buffer);
    } catch (error) {
      throw blobFault(error, `get ${key}`);
    } finally {
      await file?.close();
    }
  }

  async head(key: string): Promise<BlobHead | undefined> {
    try {
      const stat = await fs.stat(this.at(key));
      return stat.isFile() ? { key, size: stat.size, modifiedMs: stat.mtimeMs } : undefined;
    } catch (error) {
      const fault = blobFault(error, `head ${key}`);
      if (fault.code === 'blob-missing') return undefined;
      throw fault;
    }
  }

  async *list(prefix: string): AsyncIterable<BlobHead> {
    const keys: string[] = [];
    const directory = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    await this.walk(directory, prefix, keys);
    keys.sort();
    for (let i = 0; i < keys.length; i += STATS_MAX) {
      const heads = await Promise.all(keys.slice(i, i + STATS_MAX).map(key => this.head(key)));
      for (const head of heads) if (head) yield head;
    }
  }

  private async walk(directory: string, prefix: string, keys: string[]): Promise<void> {
    let entries: import('node:fs').Dirent[];
    try {
      entries = await fs.readdir(join(this.root, directory), { withFileTypes: true });
    } catch (error) {
      const fault = blobFault(error, `list ${directory}`);
      if (fault.code === 'blob-missing') return;
      throw fault;
    }
    for (const entry of entries) {
      const key = directory + entry.name;
      if (entry.isDirectory()) {
        if (key.startsWith(prefix) || prefix.startsWith(`${key}/`)) await this.walk(`${key}/`, prefix, keys);
      } else if (key.startsWith(prefix) && !entry.name.includes(PARTIAL)) {
        keys.push(key);
      }
    }
  }

  async remove(keys: readonly string[]): Promise<void> {
    const directories = new Set<string>();
    for (const key of keys) {
      try {
        await fs.unlink(this.at(key));
        directories.add(dirname(this.at(key)));
      } catch (error) {
        const fault = blobFault(error, `remove ${key}`);
        if (fault.code !== 'blob-missing') throw fault;
      }
    }
    for (const directory of directories) await this.prune(directory);
  }

  /** Removes directories that became empty, as an object store has none. */
  private async prune(directory: string): Promise<void> {
    let at = directory;
    while (at !== this.root) {
      try {
        await fs.rmdir(at);
      } catch {
        break; // not empty, or a put just made something in it
      }
      at = dirname(at);
    }
    await syncDirectory(at).catch(() => undefined);
  }

  async copy(from: string, to: string): Promise<void> {
    const source = this.at(from);
    await this.place(to, false, async path => {
      await fs.copyFile(source, path);
      const file = await fs.open(path, 'r+');
      try {
        await file.datasync();
      } finally {
        await file.close();
      }
    });
  }
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const file = await openAside(path);
  try {
    let at = 0;
    do {
      await file.writeFile(bytes.subarray(at, at + BULK_SYNC_BYTES));
      await file.datasync();
      at += BULK_SYNC_BYTES;
    } while (at < bytes.length);
  } finally {
    await file.close();
  }
}

async function openAside(path: string): Promise<fs.FileHandle> {
  try {
    return await fs.open(path, 'wx', 0o600);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    await makeDirectory(dirname(path)); // pruned by a remove just now
    return fs.open(path, 'wx', 0o600);
  }
}

/** Durable in its parents, each. */
async function makeDirectory(path: string): Promise<void> {
  const first = await fs.mkdir(path, { recursive: true, mode: 0o700 });
  if (first !== undefined) await syncParents(path, first);
}

/** Those of `path` up to that of `first`, which are new. */
async function syncParents(path: string, first: string): Promise<void> {
  for (let at = path; ; at = dirname(at)) {
    await syncDirectory(dirname(at));
    if (at === first) return;
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await fs.open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
