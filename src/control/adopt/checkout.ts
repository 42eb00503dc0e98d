// Checkout: a timeline at one moment as a data directory on this machine, which a stock Postgres of its major starts
// (`postgres -D DIR`): a full backup of the pageserver, unpacked. The timeline knows nothing of it afterwards.
//
//   --at nothing    the newest LSN
//        0/16B3748  that LSN
//        a time     the newest LSN at which nothing later was committed
//
// global/pg_control comes nearly last, so a checkout that broke off does not start; what it left is removed.

import { Fault, isFault } from '../../base/fault.ts';
import { formatLsn, type Lsn, parseLsn } from '../../base/lsn.ts';
import type { Disk, DiskFile } from '../../base/ports.ts';
import { readTar, type TarEntry } from '../../base/tar.ts';
import { PqClient } from '../../protocol/pq-client.ts';
import type { AdoptWorld, CheckoutOptions, CheckoutResult } from './contract.ts';
import { Pageserver } from './storage.ts';

const PIECE_BYTES = 1024 * 1024;
const LSN = /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i;
/** `2026-05-01 10:00:00.123456+02`, with or without a zone: without, it is UTC. */
const TIME = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?$/i;

export interface CheckoutWorld extends AdoptWorld {
  disk(root: string): Disk;
  handOver?(path: string): Promise<string | undefined>;
}

export async function checkout(
  options: CheckoutOptions,
  world: CheckoutWorld,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<CheckoutResult> {
  const { storage, timeline, directory, sync } = options;
  const pageserver = new Pageserver(storage, world);
  const disk = world.disk('/');
  const root = directory.replace(/^\/+/, '');
  const existed = await refuseUsed(disk, root, directory);
  await pageserver.check();
  const info = await pageserver.timeline(timeline);
  if (info === undefined)
    throw new Fault('timeline-missing', `there is no timeline ${timeline} of tenant ${storage.tenant}`);
  const lsn = await lsnOf(options.at, timeline, info.lastRecordLsn, pageserver);
  const target = new Target(disk, root, sync);
  try {
    await disk.makeDirectory(root);
    const client = await PqClient.connect(world.net, world.random, {
      ...storage.pageserver,
      password: storage.token,
      parameters: { user: 'cloud_admin', application_name: 'lakebed' },
    });
    const cut = (): void => client.destroy();
    world.signal.addEventListener('abort', cut, { once: true });
    try {
      const command = `fullbackup ${storage.tenant} ${timeline} ${formatLsn(lsn)}`;
      for await (const entry of readTar(client.copyOut(command), () => true, PIECE_BYTES)) {
        await target.take(entry);
        onProgress(target.bytes, Math.max(info.logicalSize, target.bytes));
      }
      await target.finish();
    } finally {
      world.signal.removeEventListener('abort', cut);
      client.destroy();
    }
    const owner = await world.handOver?.(directory);
    return { lsn, files: target.files, bytes: target.bytes, pgVersion: info.pgVersion, owner };
  } catch (error) {
    await clear(disk, root, existed);
    world.signal.throwIfAborted();
    throw error;
  }
}

/** Whether it is there, and empty; a Fault if there is anything in it. */
async function refuseUsed(disk: Disk, root: string, directory: string): Promise<boolean> {
  const stat = await disk.stat(root);
  if (stat === undefined) return false;
  if (!stat.isDirectory) throw new Fault('file-exists', `${directory} is a file`);
  if ((await disk.list(root)).length === 0) return true;
  throw new Fault('file-exists', `${directory} is not empty`, {
    hint: 'Give a directory that is empty or not there yet: nothing is ever written over.',
  });
}

async function clear(disk: Disk, root: string, existed: boolean): Promise<void> {
  try {
    if (!existed) return await disk.removeTree(root);
    for (const name of await disk.list(root)) await disk.removeTree(`${root}/${name}`);
  } catch (error) {
    if (!isFault(error)) throw error; // it was never made, or cannot be removed: the cause is told already
  }
}

async function lsnOf(
  at: string | undefined,
  timeline: string,
  newest: Lsn,
  pageserver: Pageserver,
): Promise<Lsn> {
  if (at === undefined) return newest;
  if (LSN.test(at)) {
    const lsn = parseLsn(at);
    if (lsn <= newest) return lsn;
    throw new Fault('lsn-invalid', `the timeline ends at ${formatLsn(newest)}, before ${at}`);
  }
  const { lsn, kind } = await pageserver.lsnAt(timeline, isoTime(at));
  if (kind === 'present' || kind === 'future') return lsn;
  const why = kind === 'past' ? 'history that is kept begins later' : 'nothing was committed yet';
  throw new Fault('lsn-invalid', `there is no state of ${at}: ${why}`);
}

/** As the management API wants it. */
export function isoTime(text: string): string {
  const [, day, minutes, seconds = ':00', zone = 'Z'] = TIME.exec(text.trim()) ?? [];
  if (day === undefined) {
    throw new Fault('config-invalid', `neither an LSN nor a time: "${text}"`, {
      hint: 'Write 0/16B3748, or 2026-05-01T10:00:00Z, or "2026-05-01 10:00:00.5+02".',
    });
  }
  const [, hours, rest = '00'] = /^([+-]\d\d):?(\d\d)?$/.exec(zone) ?? [];
  return `${day}T${minutes}${seconds}${hours === undefined ? 'Z' : `${hours}:${rest}`}`;
}

/** The directory as it grows. */
class Target {
  private readonly disk: Disk;
  private readonly root: string;
  private readonly sync: boolean;
  private readonly directories = new Set<string>();
  private open: DiskFile | undefined;
  files = 0;
  bytes = 0;

  constructor(disk: Disk, root: string, sync: boolean) {
    this.disk = disk;
    this.root = root;
    this.sync = sync;
    this.directories.add(root);
  }

  async take({ name, isDirectory, bytes, offset, size }: TarEntry): Promise<void> {
    const path = `${this.root}/${name}`;
    if (isDirectory) return this.directory(path);
    if (offset === 0) {
      await this.directory(path.slice(0, path.lastIndexOf('/')));
      this.open = await this.disk.open(path, 'create-new');
      this.files++;
    }
    if (bytes.length > 0) await this.open!.write(offset, bytes);
    this.bytes += bytes.length;
    if (offset + bytes.length < size) return;
    if (this.sync) await this.open!.sync();
    await this.open!.close();
  }

  private async directory(path: string): Promise<void> {
    if (this.directories.has(path)) return;
    await this.disk.makeDirectory(path);
    this.directories.add(path);
  }

  async finish(): Promise<void> {
    if (!this.directories.has(`${this.root}/global`))
      throw new Fault('bytes-short', 'the pageserver sent no data directory');
    if (!this.sync) return;
    for (const path of this.directories) await this.disk.syncDirectory(path);
  }
}
