// A disk that keeps only what it promised to keep.
//
// It is the real Disk's contract and nothing more: bytes last after `sync` (or `writeDurably`), names after
// `syncDirectory`. `crash()` stops the machine: each write that was not synced is kept, lost or torn by 512-byte
// sectors, as the dice say; names that were not synced are kept up to some point of each directory's history.
// Files opened before a crash are dead after it, and every call on them says so with a SimStopped.
//
//   crashAt(step)     stop in the middle of the step-th change from now: that change itself may be torn
//   rot(path, …)      flip a bit of what is stored
//   failSyncs(n)      the next n syncs fail, and what they should have kept is lost
//   capacityBytes     a write past it is `disk-full`
//   onWrite           sees every byte ever written, whatever became of it
//
// All chance comes from the Random handed in, all time from the Clock, if any: one seed, one history.

import { Fault } from '../../src/base/fault.ts';
import type { Clock, Disk, DiskFile, DiskStat, Random } from '../../src/base/ports.ts';

const SECTOR_BYTES = 512;

/** The machine has stopped; whoever waited for it waits no more. */
export class SimStopped extends Error {
  override readonly name = 'SimStopped';
}

export interface SimDiskOptions {
  readonly random: Random;
  /** With a clock, every call takes up to `latencyMs`, and a sync that long at least. */
  readonly clock?: Clock;
  readonly latencyMs?: number;
  readonly capacityBytes?: number;
  readonly onWrite?: (path: string, offset: number, bytes: Uint8Array) => void;
}

type Change = { at: number; bytes: Uint8Array } | { truncate: number };

/** Bytes that grow. */
class Extent {
  bytes = new Uint8Array(0);
  size = 0;

  apply(change: Change): void {
    if ('truncate' in change) {
      this.resize(change.truncate);
      return;
    }
    this.resize(Math.max(this.size, change.at + change.bytes.length));
    this.bytes.set(change.bytes, change.at);
  }

  resize(size: number): void {
    if (size > this.bytes.length) {
      const grown = new Uint8Array(Math.max(size, this.bytes.length * 2));
      grown.set(this.bytes.subarray(0, this.size));
      this.bytes = grown;
    }
    if (size < this.size) this.bytes.fill(0, size, this.size);
    this.size = size;
  }
}

const overlap = (a: { at: number; bytes: Uint8Array }, b: { at: number; bytes: Uint8Array }): boolean =>
  a.at < b.at + b.bytes.length && b.at < a.at + a.bytes.length;

class Inode {
  readonly now = new Extent();
  readonly kept = new Extent();
  pending: Change[] = [];
  modifiedMs = 0;

  change(change: Change): void {
    this.now.apply(change);
    this.pending.push(change);
  }

  sync(): void {
    for (const change of this.pending) this.kept.apply(change);
    this.pending = [];
  }

  /** What of the changes since the last sync reached the platter. */
  crash(random: Random): void {
    for (const change of this.pending) {
      const fate = random.below(3);
      if (fate === 0) continue;
      if (fate === 1 || 'truncate' in change) this.kept.apply(change);
      else this.tear(change.at, change.bytes, random);
    }
    this.pending = [];
    this.now.resize(0);
    this.now.apply({ at: 0, bytes: this.kept.bytes.slice(0, this.kept.size) });
  }

  private tear(at: number, bytes: Uint8Array, random: Random): void {
    for (let from = 0; from < bytes.length; ) {
      const to = Math.min(bytes.length, from + SECTOR_BYTES - ((at + from) % SECTOR_BYTES));
      if (random.below(2) === 0) this.kept.apply({ at: at + from, bytes: bytes.subarray(from, to) });
      from = to;
    }
  }
}

type Entry = Inode | 'directory';
type Links = readonly { readonly path: string; readonly entry: Entry | undefined }[];

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));
const clean = (path: string): string => path.replace(/^\.?\/+|\/+$/g, '').replace(/^\.$/, '');

export class SimDisk implements Disk {
  private readonly options: SimDiskOptions;
  private names = new Map<string, Entry>([['', 'directory']]);
  private keptNames = new Map<string, Entry>([['', 'directory']]);
  /** Changes of names not yet synced, by directory, in order. */
  private pendingLinks = new Map<string, Links[]>();
  private boot = 0;
  private stepsLeft = Infinity;
  private syncsToFail = 0;
  /** Changes made so far: what `crashAt` counts. */
  steps = 0;

  constructor(options: SimDiskOptions) {
    this.options = options;
  }

  /** Stops the machine in the middle of the `step`-th change from now (1 is the next one). */
  crashAt(step: number): void {
    this.stepsLeft = step;
  }

  /** It stopped as `crashAt` said, and was not started again. */
  get isStopped(): boolean {
    return this.stepsLeft <= 0;
  }

  failSyncs(count: number): void {
    this.syncsToFail = count;
  }

  /** Stops and starts the machine: what was not kept is gone. */
  crash(): void {
    const { random } = this.options;
    this.boot++;
    this.stepsLeft = Infinity;
    for (const [, list] of [...this.pendingLinks].sort(([a], [b]) => (a < b ? -1 : 1))) {
      for (const links of list.slice(0, random.below(list.length + 1))) apply(this.keptNames, links);
    }
    this.pendingLinks.clear();
    for (const path of [...this.keptNames.keys()].sort()) {
      if (path !== '' && !this.keptNames.has(parentOf(path))) this.keptNames.delete(path);
    }
    this.names = new Map(this.keptNames);
    for (const inode of new Set(this.names.values())) if (inode !== 'directory') inode.crash(random);
  }

  /** Flips one bit of a file, on the platter and in memory: somewhere, or at `offset`. */
  rot(path: string, offset?: number): number {
    const inode = this.inode(clean(path));
    const at = offset ?? this.options.random.below(inode.now.size);
    const bit = 1 << this.options.random.below(8);
    for (const extent of [inode.now, inode.kept]) if (at < extent.size) extent.bytes[at]! ^= bit;
    return at;
  }

  /** Every file there is, with its bytes as a reader sees them now. */
  files(): [string, Uint8Array][] {
    const found: [string, Uint8Array][] = [];
    for (const [path, entry] of this.names) {
      if (entry !== 'directory') found.push([path, entry.now.bytes.slice(0, entry.now.size)]);
    }
    return found.sort(([a], [b]) => (a < b ? -1 : 1));
  }

  /** The first bytes of a file. */
  head(path: string, bytes = 512): Uint8Array | undefined {
    const entry = this.names.get(clean(path));
    return entry === undefined || entry === 'directory' ? undefined : entry.now.bytes.slice(0, bytes);
  }

  /** Puts bytes under a name, durably, past all rules: what an attacker with the disk in hand does. */
  plant(path: string, bytes: Uint8Array): void {
    const inode = new Inode();
    inode.change({ at: 0, bytes: bytes.slice() });
    inode.sync();
    for (const names of [this.names, this.keptNames]) names.set(clean(path), inode);
  }

  /** Before every call: the machine may have stopped, and time passes. */
  async turn(boot: number, ms = 0): Promise<void> {
    this.alive(boot);
    const { clock, latencyMs = 0, random } = this.options;
    if (clock && latencyMs > 0) await clock.sleep(ms + random.below(latencyMs));
    else await undefined;
    this.alive(boot);
  }

  private alive(boot: number): void {
    if (boot !== this.boot) throw new SimStopped('the machine was stopped since this file was opened');
    if (this.stepsLeft <= 0) throw new SimStopped('the machine has stopped');
  }

  /** One change: counted, and perhaps the last. `make` always happens; whether it is kept, the crash decides. */
  step(make: () => void, keep: () => void): void {
    this.steps++;
    make();
    if (--this.stepsLeft <= 0) throw new SimStopped('the machine stopped in the middle of a change');
    keep();
  }

  writeTo(inode: Inode, path: string, offset: number, pieces: readonly Uint8Array[], durably: boolean): void {
    const bytes = Buffer.concat(pieces);
    const whole = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length).slice();
    const room = (this.options.capacityBytes ?? Infinity) - this.used();
    const fits = Math.max(0, inode.now.size - offset + room);
    if (fits < whole.length) {
      // As a real one: what fits is written, and then there is no more.
      this.options.onWrite?.(path, offset, whole.subarray(0, fits));
      if (fits > 0) inode.change({ at: offset, bytes: whole.subarray(0, fits) });
      throw new Fault('disk-full', `write ${path}: no space left`, { hint: 'Free space on this disk.' });
    }
    this.options.onWrite?.(path, offset, whole);
    const change = { at: offset, bytes: whole };
    inode.modifiedMs = this.options.clock?.now() ?? 0;
    this.step(
      () => inode.change(change),
      () => durably && this.keepChange(inode, path, change),
    );
  }

  private keepChange(inode: Inode, path: string, change: { at: number; bytes: Uint8Array }): void {
    this.failIfDue(path);
    const others = inode.pending.filter(other => other !== change);
    if (others.some(other => 'truncate' in other || overlap(other, change))) {
      inode.sync(); // they share pages: the machine cannot keep one without the other
      return;
    }
    inode.pending = others;
    inode.kept.apply(change);
  }

  syncFile(inode: Inode, path: string): void {
    this.step(
      () => undefined,
      () => {
        this.failIfDue(path, inode);
        inode.sync();
      },
    );
  }

  private failIfDue(path: string, inode?: Inode): void {
    if (this.syncsToFail === 0) return;
    this.syncsToFail--;
    if (inode) inode.pending = []; // as Linux does: the pages are clean now, and not on the disk
    throw new Fault('disk-failed', `sync ${path}: input/output error`);
  }

  private used(): number {
    let bytes = 0;
    for (const inode of new Set(this.names.values())) if (inode !== 'directory') bytes += inode.now.size;
    return bytes;
  }

  private inode(path: string): Inode {
    const entry = this.names.get(path);
    if (!entry || entry === 'directory') throw new Fault('file-missing', `${path}: no such file`);
    return entry;
  }

  private link(directory: string, links: Links): void {
    if (this.names.get(directory) !== 'directory')
      throw new Fault('file-missing', `${directory}: no such directory`);
    this.step(
      () => {
        apply(this.names, links);
        this.pendingLinks.set(directory, [...(this.pendingLinks.get(directory) ?? []), links]);
      },
      () => undefined,
    );
  }

  async open(path: string, mode: 'read' | 'write' | 'create' | 'create-new'): Promise<DiskFile> {
    const { boot } = this;
    await this.turn(boot);
    const name = clean(path);
    const entry = this.names.get(name);
    if (entry === 'directory') throw new Fault('disk-failed', `open ${path}: it is a directory`);
    if (entry && mode === 'create-new') throw new Fault('file-exists', `open ${path}: it exists`);
    if (entry) return new SimFile(this, boot, path, entry);
    if (mode === 'read' || mode === 'write') throw new Fault('file-missing', `open ${path}: no such file`);
    const inode = new Inode();
    this.link(parentOf(name), [{ path: name, entry: inode }]);
    return new SimFile(this, boot, path, inode);
  }

  async readFile(path: string): Promise<Uint8Array> {
    await this.turn(this.boot);
    const { now } = this.inode(clean(path));
    return now.bytes.slice(0, now.size);
  }

  async list(path: string): Promise<string[]> {
    await this.turn(this.boot);
    const directory = clean(path);
    if (this.names.get(directory) !== 'directory')
      throw new Fault('file-missing', `list ${path}: no such directory`);
    return [...this.names.keys()]
      .filter(name => name !== '' && parentOf(name) === directory)
      .map(name => name.slice(directory === '' ? 0 : directory.length + 1))
      .sort();
  }

  async stat(path: string): Promise<DiskStat | undefined> {
    await this.turn(this.boot);
    const entry = this.names.get(clean(path));
    if (!entry) return undefined;
    if (entry === 'directory') return { size: 0, isDirectory: true, modifiedMs: 0 };
    return { size: entry.now.size, isDirectory: false, modifiedMs: entry.modifiedMs };
  }

  async makeDirectory(path: string): Promise<void> {
    await this.turn(this.boot);
    const parts = clean(path).split('/').filter(Boolean);
    for (let i = 1; i <= parts.length; i++) {
      const directory = parts.slice(0, i).join('/');
      if (this.names.get(directory) === 'directory') continue;
      this.link(parentOf(directory), [{ path: directory, entry: 'directory' }]);
    }
  }

  /** Of a file, or of a directory with all that is in it. */
  async rename(from: string, to: string): Promise<void> {
    await this.turn(this.boot);
    const [source, target] = [clean(from), clean(to)];
    const moved = [...this.names].filter(([path]) => path === source || path.startsWith(`${source}/`));
    if (moved.length === 0) throw new Fault('file-missing', `${from}: no such file or directory`);
    this.link(
      parentOf(target),
      moved.flatMap(([path, entry]) => [
        { path, entry: undefined },
        { path: target + path.slice(source.length), entry },
      ]),
    );
  }

  async remove(path: string): Promise<void> {
    await this.turn(this.boot);
    this.inode(clean(path));
    this.link(parentOf(clean(path)), [{ path: clean(path), entry: undefined }]);
  }

  async removeTree(path: string): Promise<void> {
    await this.turn(this.boot);
    const root = clean(path);
    const below = [...this.names.keys()].filter(name => name === root || name.startsWith(`${root}/`));
    for (const name of below.sort().reverse()) {
      if (name !== '') this.link(parentOf(name), [{ path: name, entry: undefined }]);
    }
  }

  async syncDirectory(path: string): Promise<void> {
    await this.turn(this.boot, this.options.latencyMs);
    const directory = clean(path);
    this.step(
      () => undefined,
      () => {
        for (const links of this.pendingLinks.get(directory) ?? []) apply(this.keptNames, links);
        this.pendingLinks.delete(directory);
      },
    );
  }

  async usage(): Promise<{ capacityBytes: number; freeBytes: number }> {
    const capacityBytes = this.options.capacityBytes ?? 2 ** 40;
    return { capacityBytes, freeBytes: Math.max(0, capacityBytes - this.used()) };
  }
}

function apply(names: Map<string, Entry>, links: Links): void {
  for (const { path, entry } of links) {
    if (entry) names.set(path, entry);
    else names.delete(path);
  }
}

class SimFile implements DiskFile {
  readonly path: string;
  private readonly disk: SimDisk;
  private readonly boot: number;
  private readonly inode: Inode;
  private failed = false;

  constructor(disk: SimDisk, boot: number, path: string, inode: Inode) {
    this.disk = disk;
    this.boot = boot;
    this.path = path;
    this.inode = inode;
  }

  async size(): Promise<number> {
    await this.disk.turn(this.boot);
    return this.inode.now.size;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    await this.disk.turn(this.boot);
    const { bytes, size } = this.inode.now;
    return bytes.slice(offset, Math.max(offset, Math.min(size, offset + length)));
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    await this.writev(offset, [bytes]);
  }

  async writev(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    this.refuseIfFailed();
    await this.disk.turn(this.boot);
    this.disk.writeTo(this.inode, this.path, offset, pieces, false);
  }

  async writeDurably(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    this.refuseIfFailed();
    await this.disk.turn(this.boot);
    this.finally(() => this.disk.writeTo(this.inode, this.path, offset, pieces, true));
  }

  async truncate(length: number): Promise<void> {
    this.refuseIfFailed();
    await this.disk.turn(this.boot);
    this.disk.step(
      () => this.inode.change({ truncate: length }),
      () => undefined,
    );
  }

  async sync(): Promise<void> {
    this.refuseIfFailed();
    await this.disk.turn(this.boot);
    this.finally(() => this.disk.syncFile(this.inode, this.path));
  }

  private finally(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.failed = error instanceof Fault && error.code === 'disk-failed';
      throw error;
    }
  }

  private refuseIfFailed(): void {
    if (this.failed) throw new Fault('disk-failed', `${this.path} failed to sync earlier`);
  }

  async close(): Promise<void> {
    await undefined;
  }
}
