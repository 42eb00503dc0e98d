// Files, over node:fs: the real `Disk`.
//
// Paths are relative to the root handed in and may not leave it. Reads and writes are positional, so one open
// file serves any number of them at once. A write is durable after `sync` (fdatasync: the bytes and the size
// needed to find them), a name after `syncDirectory` (fsync of the directory). `writeDurably` goes through a
// second descriptor opened with O_DSYNC: the kernel does the same work as write + fdatasync, in one trip through
// the thread pool where the pair makes two (some 30 us of the 140 us that 8 KiB cost on a fast disk).
//
// An error of fdatasync or of a durable write is final for the open file: the kernel may have dropped the dirty
// pages, and a second sync would lie. Postgres learned this in 2018 (data_sync_elevel in fd.c); every later
// write and sync of the file is refused.

import * as fs from 'node:fs';
import { join, normalize } from 'node:path';
import { Fault, type FaultCode } from '../base/fault.ts';
import type { Disk, DiskFile, DiskStat } from '../base/ports.ts';

const CODES: Readonly<Record<string, FaultCode>> = {
  ENOENT: 'file-missing',
  ENOTDIR: 'file-missing',
  EEXIST: 'file-exists',
  ENOTEMPTY: 'file-exists',
  ENOSPC: 'disk-full',
  EDQUOT: 'disk-full',
};

const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'Free space on this disk; the write may then be repeated.',
  EDQUOT: 'Raise the quota or free space; the write may then be repeated.',
  EACCES: 'Check who owns the directory and runs this process.',
  EPERM: 'Check who owns the directory and runs this process.',
  EROFS: 'The file system is mounted read-only, often after an error of the device: see the kernel log.',
  EIO: 'The device failed: see the kernel log.',
  EMFILE: 'Raise the limit of open files (ulimit -n).',
  ENFILE: 'Raise the limit of open files of the whole machine (fs.file-max).',
};

function diskFault(error: unknown, what: string): Fault {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const hint = HINTS[code];
  return new Fault(CODES[code] ?? 'disk-failed', `${what}: ${(error as Error).message}`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}

type Callback<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

/** One call of node:fs as a promise, with its error in our words. */
function call<T>(what: string, start: (done: Callback<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(diskFault(error, what)) : resolve(value)));
  });
}

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_DSYNC } = fs.constants;
const FLAGS = {
  read: O_RDONLY,
  write: O_RDWR,
  create: O_RDWR | O_CREAT,
  'create-new': O_RDWR | O_CREAT | O_EXCL,
};

class HostFile implements DiskFile {
  readonly path: string;
  private readonly absolute: string;
  private readonly fd: number;
  /** The O_DSYNC twin, opened at the first durable write. */
  private durable: Promise<number> | undefined;
  private durableFd = -1;
  private failed: Fault | undefined;
  private closed = false;

  constructor(path: string, absolute: string, fd: number) {
    this.path = path;
    this.absolute = absolute;
    this.fd = fd;
  }

  async size(): Promise<number> {
    return (await call<fs.Stats>(`stat ${this.path}`, done => fs.fstat(this.fd, done))).size;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const buffer = Buffer.allocUnsafeSlow(length);
    let filled = 0;
    while (filled < length) {
      const got = await call<number>(`read ${this.path}`, done =>
        fs.read(this.fd, buffer, filled, length - filled, offset + filled, done),
      );
      if (got === 0) break;
      filled += got;
    }
    return new Uint8Array(buffer.buffer, 0, filled);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    this.refuseIfFailed();
    await this.writeAll(this.fd, offset, [bytes]);
  }

  async writev(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    this.refuseIfFailed();
    await this.writeAll(this.fd, offset, pieces);
  }

  async writeDurably(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    this.refuseIfFailed();
    if (this.durableFd < 0) this.durableFd = await this.openDurable();
    try {
      await this.writeAll(this.durableFd, offset, pieces);
    } catch (error) {
      throw this.fail(error as Fault);
    }
  }

  private openDurable(): Promise<number> {
    this.durable ??= call<number>(`open ${this.path}`, done =>
      fs.open(this.absolute, O_RDWR | O_DSYNC, done),
    );
    return this.durable;
  }

  /** pwritev until all is written: the kernel may take less than it was given. */
  private async writeAll(fd: number, offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    let rest = pieces;
    let at = offset;
    for (;;) {
      let total = 0;
      for (const piece of rest) total += piece.length;
      if (total === 0) return;
      const written = await call<number>(`write ${this.path}`, done =>
        fs.writev(fd, rest as Uint8Array[], at, done),
      );
      if (written === total) return;
      rest = without(rest, written);
      at += written;
    }
  }

  async truncate(length: number): Promise<void> {
    this.refuseIfFailed();
    await call<void>(`truncate ${this.path}`, done => fs.ftruncate(this.fd, length, done as Callback<void>));
  }

  async sync(): Promise<void> {
    this.refuseIfFailed();
    try {
      await call<void>(`sync ${this.path}`, done => fs.fdatasync(this.fd, done as Callback<void>));
    } catch (error) {
      throw this.fail(error as Fault);
    }
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    const close = (fd: number): Promise<void> =>
      call<void>(`close ${this.path}`, done => fs.close(fd, done as Callback<void>));
    if (this.durable) await this.durable.then(close, () => undefined);
    await close(this.fd);
  }

  /** A full disk may be tried again; anything else leaves the file in a state nobody knows. */
  private fail(fault: Fault): Fault {
    if (fault.code !== 'disk-full') this.failed = fault;
    return fault;
  }

  private refuseIfFailed(): void {
    if (!this.failed) return;
    throw new Fault('disk-failed', `${this.path} failed to sync earlier; its state on disk is unknown`, {
      hint: 'Restart the service: it reads back what the disk holds. See the kernel log for the device.',
      cause: this.failed,
    });
  }
}

function without(pieces: readonly Uint8Array[], count: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let skip = count;
  for (const piece of pieces) {
    if (skip < piece.length) rest.push(piece.subarray(skip));
    skip = Math.max(0, skip - piece.length);
  }
  return rest;
}

class HostDisk implements Disk {
  private readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  private at(path: string): string {
    const inside = normalize(path);
    if (inside === '..' || inside.startsWith('../') || inside.startsWith('/')) {
      throw new Fault('config-invalid', `the path "${path}" leaves its directory`);
    }
    return join(this.root, inside);
  }

  async open(path: string, mode: keyof typeof FLAGS): Promise<DiskFile> {
    const absolute = this.at(path);
    const fd = await call<number>(`open ${path}`, done => fs.open(absolute, FLAGS[mode], 0o600, done));
    return new HostFile(path, absolute, fd);
  }

  async readFile(path: string): Promise<Uint8Array> {
    const bytes = await call<Buffer>(`read ${path}`, done => fs.readFile(this.at(path), done));
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  async list(path: string): Promise<string[]> {
    const names = await call<string[]>(`list ${path}`, done => fs.readdir(this.at(path), done));
    return names.sort();
  }

  async stat(path: string): Promise<DiskStat | undefined> {
    try {
      const stat = await call<fs.Stats>(`stat ${path}`, done => fs.stat(this.at(path), done));
      return { size: stat.size, isDirectory: stat.isDirectory(), modifiedMs: stat.mtimeMs };
    } catch (error) {
      if (error instanceof Fault && error.code === 'file-missing') return undefined;
      throw error;
    }
  }

  async makeDirectory(path: string): Promise<void> {
    await call<unknown>(`make directory ${path}`, done =>
      fs.mkdir(this.at(path), { recursive: true, mode: 0o700 }, done),
    );
  }

  async rename(from: string, to: string): Promise<void> {
    await call<void>(`rename ${from}`, done => fs.rename(this.at(from), this.at(to), done as Callback<void>));
  }

  async remove(path: string): Promise<void> {
    await call<void>(`remove ${path}`, done => fs.unlink(this.at(path), done as Callback<void>));
  }

  async removeTree(path: string): Promise<void> {
    await call<void>(`remove ${path}`, done =>
      fs.rm(this.at(path), { recursive: true, force: true }, done as Callback<void>),
    );
  }

  async syncDirectory(path: string): Promise<void> {
    const what = `sync directory ${path}`;
    const fd = await call<number>(what, done => fs.open(this.at(path), O_RDONLY, done));
    try {
      await call<void>(what, done => fs.fsync(fd, done as Callback<void>));
    } finally {
      await call<void>(what, done => fs.close(fd, done as Callback<void>));
    }
  }

  async usage(): Promise<{ capacityBytes: number; freeBytes: number }> {
    const stat = await call<fs.StatsFs>('ask for free space', done => fs.statfs(this.root, done));
    return { capacityBytes: stat.blocks * stat.bsize, freeBytes: stat.bavail * stat.bsize };
  }
}

/** The tree below `root`, which need not exist yet. */
export const hostDisk = (root: string): Disk => new HostDisk(root);
