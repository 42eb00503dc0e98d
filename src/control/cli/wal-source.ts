// Where `lakebed wal` finds its bytes: segment files in a directory, in a tar (packed or not), or one by one; and
// a data directory the same way. What a name or a first page tells (segment size, major) is found out here.

import { concatBytes } from '../../base/bytes.ts';
import type { World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import type { Disk } from '../../base/ports.ts';
import { readTar } from '../../base/tar.ts';
import { parseSegmentFileName, SEGMENT_SIZE_MAX, segmentSizeIsValid } from '../../xlog/segment.ts';
import {
  type Ancestor,
  chooseSegments,
  HISTORY_NAME,
  historyFileName,
  parseHistory,
} from './wal-timelines.ts';

/** One segment file: its place in the log, and its bytes when they are wanted. */
export interface SegmentFile {
  readonly name: string;
  readonly tli: number;
  readonly segno: number;
  readonly partial: boolean;
  read(): Promise<Uint8Array>;
}

export interface WalSource {
  readonly segmentSize: number;
  /** The first page of the first segment. */
  readonly firstPage: Uint8Array;
  readonly tli: number;
  /** Those that the timeline comes from, where a history file beside the segments tells. */
  readonly ancestors: readonly Ancestor[] | undefined;
  /** In the order of the log, of one timeline and those it comes from. */
  segments(): AsyncIterable<SegmentFile>;
  /** How many segments there are. */
  readonly count: number;
}

/** Segments of an archive that came before their turn are kept in memory up to this many bytes. */
const HELD_BYTES_MAX = 1024 * 1024 * 1024;

const SEGMENT_NAME = /^[0-9A-F]{24}(\.partial)?$/;
const baseName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
export const isArchive = (path: string): boolean => /\.(tar|tgz|tar\.gz|tar\.zst|zst)$/.test(path);

/** The segment size that a first page's long header tells. */
function segmentSizeOf(page: Uint8Array, name: string): number {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const size = page.length >= 40 ? view.getUint32(32, true) : 0;
  if (!segmentSizeIsValid(size)) {
    throw new Fault('wal-page-header', `${name} does not begin with the header of a WAL segment`, {
      hint: 'Give a WAL segment file, a pg_wal directory, or a tar of segments.',
    });
  }
  return size;
}

export async function openWal(world: World, path: string, timeline: number | undefined): Promise<WalSource> {
  if (isArchive(path)) return archiveSource(world, path, timeline);
  const disk = world.disk('/');
  const absolute = resolvePath(world, path);
  const stat = await disk.stat(absolute);
  if (stat === undefined) throw new Fault('file-missing', `no such file or directory: ${path}`);
  if (!stat.isDirectory) return filesSource(disk, [absolute], timeline);
  let directory = absolute;
  let names = (await disk.list(directory)).filter(name => SEGMENT_NAME.test(name));
  if (names.length === 0 && (await disk.stat(`${directory}/pg_wal`)) !== undefined) {
    directory = `${directory}/pg_wal`;
    names = (await disk.list(directory)).filter(name => SEGMENT_NAME.test(name));
  }
  if (names.length === 0) {
    throw new Fault('file-missing', `no WAL segments in ${path}`, {
      hint: 'Segments have names of 24 hex digits; a data directory keeps them in pg_wal.',
    });
  }
  return filesSource(
    disk,
    names.map(name => `${directory}/${name}`),
    timeline,
  );
}

/** A path as the disk at the root of the file system takes it. */
export function resolvePath(world: World, path: string): string {
  const absolute = path.startsWith('/') ? path : `${world.environment('PWD') ?? ''}/${path}`;
  return absolute.replace(/^\/+/, '').replace(/\/+$/, '');
}

async function filesSource(disk: Disk, paths: string[], timeline: number | undefined): Promise<WalSource> {
  const firstPage = await firstPageOf(disk, paths[0]!);
  const segmentSize = segmentSizeOf(firstPage, `/${paths[0]!}`);
  const files: SegmentFile[] = [];
  for (const path of paths) {
    const parsed = parseSegmentFileName(baseName(path), segmentSize);
    const read = (): Promise<Uint8Array> => disk.readFile(path);
    if (parsed !== undefined) files.push({ name: `/${path}`, ...parsed, read });
    else if (paths.length === 1)
      files.push({ name: `/${path}`, ...segmentOfPage(firstPage, segmentSize), partial: false, read });
  }
  const directory = paths[0]!.slice(0, paths[0]!.length - baseName(paths[0]!).length);
  const history = async (name: string): Promise<Uint8Array | undefined> =>
    (await disk.stat(directory + name)) === undefined ? undefined : disk.readFile(directory + name);
  const log = await oneLog(files, timeline, segmentSize, history);
  return {
    ...log,
    firstPage: await firstPageOf(disk, log.chosen[0]!.name.slice(1)),
    async *segments() {
      yield* log.chosen;
    },
  };
}

type OneLog<F> = Pick<WalSource, 'segmentSize' | 'tli' | 'ancestors' | 'count'> & {
  readonly chosen: readonly F[];
};

/** The files of the timeline asked for, or of the newest, and of those it comes from; one file is a log by itself. */
async function oneLog<F extends Omit<SegmentFile, 'read'>>(
  files: readonly F[],
  timeline: number | undefined,
  segmentSize: number,
  history: (name: string) => Promise<Uint8Array | undefined>,
): Promise<OneLog<F>> {
  const tli = timeline ?? files.reduce((newest, file) => Math.max(newest, file.tli), 0);
  const name = historyFileName(tli);
  const told = files.length > 1 ? await history(name) : undefined;
  const ancestors = told && parseHistory(name, new TextDecoder().decode(told));
  const chosen = files.length === 1 ? files : chooseSegments(files, tli, ancestors, segmentSize);
  if (chosen.length === 0) throw new Fault('file-missing', `no WAL segments of timeline ${tli}`);
  return { segmentSize, tli, ancestors, chosen, count: chosen.length };
}

async function firstPageOf(disk: Disk, path: string): Promise<Uint8Array> {
  const file = await disk.open(path, 'read');
  try {
    return await file.read(0, 8192);
  } finally {
    await file.close();
  }
}

/** Where a segment of any name belongs, by its first page's address. */
function segmentOfPage(page: Uint8Array, segmentSize: number): { tli: number; segno: number } {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const address = view.getUint32(12, true) * 0x1_0000_0000 + view.getUint32(8, true);
  return { tli: view.getUint32(4, true), segno: Math.floor(address / segmentSize) };
}

/** An archive is read twice: for what is in it, and for the segments that make up the log. */
async function archiveSource(world: World, path: string, timeline: number | undefined): Promise<WalSource> {
  const { names, histories, firstPage, segmentSize } = await archiveContents(world, path);
  const files = names.flatMap(name => {
    const parsed = parseSegmentFileName(baseName(name), segmentSize);
    return parsed === undefined ? [] : [{ name, ...parsed }];
  });
  const log = await oneLog(files, timeline, segmentSize, async name => histories.get(name));
  return { ...log, firstPage, segments: () => archiveSegments(world, path, log.chosen) };
}

const isSegment = (name: string, size: number): boolean =>
  SEGMENT_NAME.test(baseName(name)) && size <= SEGMENT_SIZE_MAX;

interface ArchiveContents {
  readonly names: readonly string[];
  /** History files by name. */
  readonly histories: ReadonlyMap<string, Uint8Array>;
  readonly firstPage: Uint8Array;
  readonly segmentSize: number;
}

async function archiveContents(world: World, path: string): Promise<ArchiveContents> {
  const names: string[] = [];
  const histories = new Map<string, Uint8Array>();
  let firstPage: Uint8Array | undefined;
  const wanted = (name: string, size: number): boolean =>
    HISTORY_NAME.test(baseName(name)) || (firstPage === undefined && isSegment(name, size));
  for await (const { name, isDirectory, bytes, offset, size } of readTar(
    world.readUnpacked(path),
    wanted,
    8192,
  )) {
    if (isDirectory) continue;
    const file = baseName(name);
    if (HISTORY_NAME.test(file))
      histories.set(file, offset === 0 ? bytes : concatBytes([histories.get(file)!, bytes]));
    if (offset > 0 || !isSegment(name, size)) continue;
    firstPage ??= bytes;
    names.push(name);
  }
  if (firstPage === undefined) throw new Fault('file-missing', `no WAL segments in ${path}`);
  return { names, histories, firstPage, segmentSize: segmentSizeOf(firstPage, names[0]!) };
}

/** The chosen segments of an archive in the order of the log; those that come early wait for their turn. */
async function* archiveSegments(
  world: World,
  path: string,
  chosen: readonly Omit<SegmentFile, 'read'>[],
): AsyncIterable<SegmentFile> {
  const wanted = new Set(chosen.map(file => file.name));
  const held = new Map<string, Uint8Array>();
  let heldBytes = 0;
  let next = 0;
  for await (const entry of readTar(world.readUnpacked(path), name => wanted.has(name))) {
    if (entry.isDirectory || !wanted.has(entry.name)) continue;
    held.set(entry.name, entry.bytes);
    heldBytes += entry.bytes.length;
    for (; next < chosen.length; next++) {
      const file = chosen[next]!;
      const bytes = held.get(file.name);
      if (bytes === undefined) break;
      held.delete(file.name);
      heldBytes -= bytes.length;
      yield { ...file, read: async () => bytes };
    }
    if (heldBytes > HELD_BYTES_MAX) {
      throw new Fault(
        'data-directory',
        `${path}: segments are too far out of order: ${chosen[next]!.name} is to come`,
        {
          hint: 'Make the archive with its files sorted (tar --sort=name), or unpack it and give the directory.',
        },
      );
    }
  }
}

const INSIDE =
  /(?:^|\/)((?:base|global|pg_tblspc|pg_xact|pg_multixact|pg_commit_ts|pg_twophase)\/.*|PG_VERSION|backup_label)$/;

/** The files of a data directory that replay may want, by their path in it. */
export async function* dataDirectoryFiles(
  world: World,
  path: string,
): AsyncIterable<{ path: string; bytes: Uint8Array }> {
  if (isArchive(path)) {
    for await (const entry of readTar(world.readUnpacked(path), name => INSIDE.test(name))) {
      const inside = INSIDE.exec(entry.name);
      if (!entry.isDirectory && inside) yield { path: inside[1]!, bytes: entry.bytes };
    }
    return;
  }
  const disk = world.disk('/');
  const root = resolvePath(world, path);
  const home =
    (await disk.stat(`${root}/PG_VERSION`)) === undefined && (await disk.stat(`${root}/data/PG_VERSION`))
      ? `${root}/data`
      : root;
  if ((await disk.stat(`${home}/PG_VERSION`)) === undefined) {
    throw new Fault('data-directory', `${path} is not a Postgres data directory: it has no PG_VERSION`);
  }
  yield* walk(disk, home, '');
}

async function* walk(
  disk: Disk,
  root: string,
  inside: string,
): AsyncIterable<{ path: string; bytes: Uint8Array }> {
  const directory = inside === '' ? root : `${root}/${inside}`;
  for (const name of await disk.list(directory)) {
    const path = inside === '' ? name : `${inside}/${name}`;
    const stat = await disk.stat(`${root}/${path}`);
    if (stat === undefined) continue;
    if (stat.isDirectory) {
      if (inside !== '' || INSIDE.test(`${name}/x`)) yield* walk(disk, root, path);
    } else if (INSIDE.test(path)) {
      yield { path, bytes: await disk.readFile(`${root}/${path}`) };
    }
  }
}
