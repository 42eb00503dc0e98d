// Where `lakebed wal` finds its bytes: segment files in a directory, in a tar (packed or not), or one by one; and
// a data directory the same way. What a name or a first page tells (segment size, major) is found out here.

import type { World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import type { Disk } from '../../base/ports.ts';
import { readTar } from '../../base/tar.ts';
import { parseSegmentFileName, segmentSizeIsValid } from '../../xlog/segment.ts';

/** One segment file: its place in the log, and its bytes when they are wanted. */
export interface SegmentFile {
  readonly name: string;
  readonly tli: number;
  readonly segno: number;
  read(): Promise<Uint8Array>;
}

export interface WalSource {
  readonly segmentSize: number;
  /** The first page of the first segment. */
  readonly firstPage: Uint8Array;
  /** In the order of the log, of one timeline. */
  segments(): AsyncIterable<SegmentFile>;
  /** Segments there are, where that can be known beforehand: for a progress bar. */
  readonly count: number | undefined;
}

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
  const first = await disk.open(paths[0]!, 'read');
  const firstPage = await first.read(0, 8192);
  await first.close();
  const segmentSize = segmentSizeOf(firstPage, paths[0]!);
  const files: SegmentFile[] = [];
  for (const path of paths) {
    const parsed = parseSegmentFileName(baseName(path), segmentSize);
    if (parsed === undefined) {
      const told = segmentOfPage(firstPage, segmentSize);
      if (paths.length === 1) files.push({ name: path, ...told, read: () => disk.readFile(path) });
      continue;
    }
    files.push({ name: path, tli: parsed.tli, segno: parsed.segno, read: () => disk.readFile(path) });
  }
  const tli = timeline ?? Math.max(...files.map(f => f.tli));
  const chosen = files.filter(f => f.tli === tli || files.length === 1).sort((a, b) => a.segno - b.segno);
  if (chosen.length === 0) throw new Fault('file-missing', `no WAL segments of timeline ${tli}`);
  return {
    segmentSize,
    firstPage: await firstPageOf(disk, chosen[0]!.name),
    count: chosen.length,
    async *segments() {
      yield* chosen;
    },
  };
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

async function archiveSource(world: World, path: string, timeline: number | undefined): Promise<WalSource> {
  const wanted = (name: string): boolean => SEGMENT_NAME.test(baseName(name));
  const entries = readTar(world.readUnpacked(path), wanted)[Symbol.asyncIterator]();
  const next = async (): Promise<{ name: string; bytes: Uint8Array } | undefined> => {
    for (;;) {
      const step = await entries.next();
      if (step.done) return undefined;
      if (!step.value.isDirectory && wanted(step.value.name)) return step.value;
    }
  };
  const first = await next();
  if (first === undefined) throw new Fault('file-missing', `no WAL segments in ${path}`);
  const segmentSize = segmentSizeOf(first.bytes, first.name);
  return {
    segmentSize,
    firstPage: first.bytes.subarray(0, 8192),
    count: undefined,
    async *segments() {
      for (let entry: typeof first | undefined = first; entry !== undefined; entry = await next()) {
        const { name, bytes } = entry;
        const parsed = parseSegmentFileName(baseName(name), segmentSize);
        if (parsed === undefined || (timeline !== undefined && parsed.tli !== timeline)) continue;
        yield { name, tli: parsed.tli, segno: parsed.segno, read: async () => bytes };
      }
    },
  };
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
