// A new cluster: initdb of the right major, its files and its log taken in, and the directory kept as an archive beside
// the timeline, for the tenant's other shards: each run of initdb makes another system identifier, so they are all
// made of one.
//
//   initdb ──► import: pages, then the log from the shutdown checkpoint on ──► a timeline that begins where that ends
//      └─────► initdb.tar.zst in the object store (first shard alone)
//
//   the archive: u32 length | zstd frame of up to 1 MiB of the tar        repeated; sealed as a file is
//
// A tar that somebody brings (import_basebackup) is taken in the same way, without the archive.
//
// Answers to bootstrap_timeline and upload_initdb of pageserver/src/tenant.rs.

import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { Builder, Cursor, concatBytes } from '../base/bytes.ts';
import { Fault, isFault } from '../base/fault.ts';
import { turn } from '../base/flow.ts';
import { type TimelineId, UNSHARDED } from '../base/ids.ts';
import { formatLsn } from '../base/lsn.ts';
import type { Clock, Disk } from '../base/ports.ts';
import { tarEnd, tarHeader, tarPadding } from '../base/tar.ts';
import { sourceOf } from '../seal/sources.ts';
import { type Imported, importDirectory, importTar } from './import-log.ts';
import { INITDB_NAME, INITDB_PRESERVED_NAME, timelineDirectory } from './remote/paths.ts';
import { mayPassInTime, retrying } from './remote/retry.ts';
import type { Tenant } from './tenant.ts';
import type { TenantTimeline } from './tenant-timeline.ts';
import { makeCluster, type NewCluster } from './timeline-create.ts';

const PIECE_BYTES = 1024 * 1024;
/** About three seconds: somebody waits for the timeline, and hears what is wrong with the object store. */
const ARCHIVE_TRIES = 6;
const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

export interface BootstrapRequest extends NewCluster {
  /** Whose initdb archive to take instead of running initdb. */
  readonly existingInitdb: TimelineId | undefined;
}

export function bootstrapTimeline(tenant: Tenant, request: BootstrapRequest): Promise<TenantTimeline> {
  const { id, pgVersion, existingInitdb } = request;
  return makeCluster(tenant, request, async ({ pgdata }) => {
    if (existingInitdb !== undefined) return fromArchive(tenant, existingInitdb, pgdata);
    const { initdb, superuser, locale } = tenant.deps;
    const cluster = await initdb.run({ major: pgVersion, superuser, locale });
    try {
      const imported = await importDirectory(pgdata, cluster.disk, '');
      if (tenant.at.shard.number === 0) await keepArchive(tenant, id, cluster.disk);
      return imported;
    } finally {
      await cluster.remove();
    }
  });
}

export interface ImportRequest extends NewCluster {
  readonly tar: AsyncIterable<Uint8Array>;
  /** Where the log of the directory must end, if that is known. */
  readonly endLsn: number | undefined;
}

/** A data directory or a base backup that comes as a tar. */
export function importTimeline(tenant: Tenant, request: ImportRequest): Promise<TenantTimeline> {
  return makeCluster(tenant, request, async ({ pgdata }) => {
    const imported = await importTar(pgdata, request.tar);
    const { endLsn } = request;
    if (endLsn === undefined || imported.endLsn === endLsn) return imported;
    throw new Fault(
      'data-directory',
      `the log of the archive ends at ${formatLsn(imported.endLsn)}, not at ${formatLsn(endLsn)}`,
      { hint: 'Leave end_lsn out, or give the archive with the log up to it.' },
    );
  });
}

// --------------------------------------------------------------------------------------------------------- archive

/** Of the tenant as a whole: every shard finds it. */
const archiveKey = ({ at }: Tenant, id: TimelineId): string =>
  `${timelineDirectory({ tenant: at.tenant, shard: UNSHARDED }, id)}/${INITDB_NAME}`;

async function keepArchive(tenant: Tenant, id: TimelineId, disk: Disk): Promise<void> {
  const { clock, random, remote } = tenant.deps;
  const bytes = await packDirectory(disk, clock);
  const sealed = await tenant.timelineVault(id).seal(INITDB_NAME, bytes, { generation: tenant.generation });
  const { signal } = tenant;
  const triesMax = ARCHIVE_TRIES;
  await retrying({ clock, random, signal, triesMax }, () => remote.blobs.put(archiveKey(tenant, id), sealed));
}

/** A copy of the archive that the timeline's deletion leaves. */
export async function preserveInitdb(tenant: Tenant, id: TimelineId): Promise<void> {
  const { blobs } = tenant.deps.remote;
  const vault = tenant.timelineVault(id);
  const key = archiveKey(tenant, id);
  const sealed = sourceOf(await blobs.get(key));
  const copy = await vault.rebind(INITDB_PRESERVED_NAME, sealed, { scope: vault.scope, name: INITDB_NAME });
  await blobs.put(key.replace(INITDB_NAME, INITDB_PRESERVED_NAME), await copy.read(0, copy.size));
}

async function fromArchive(
  tenant: Tenant,
  id: TimelineId,
  pgdata: TenantTimeline['pgdata'],
): Promise<Imported> {
  const { clock, random, remote } = tenant.deps;
  const { signal } = tenant;
  const key = archiveKey(tenant, id);
  const sealed = await retrying({ clock, random, signal, repeat: mayPassInTime }, () =>
    remote.blobs.get(key),
  ).catch(error => {
    if (!isFault(error, 'blob-missing')) throw error;
    throw new Fault('timeline-missing', `timeline ${id} has no initdb archive`, {
      hint: 'Create the timeline on the first shard before the others.',
    });
  });
  return importTar(pgdata, unpackTar(await tenant.timelineVault(id).unseal(INITDB_NAME, sealed)));
}

/** A directory as an archive. */
export async function packDirectory(disk: Disk, clock: Clock): Promise<Uint8Array> {
  const out = new Builder(PIECE_BYTES);
  let piece: Uint8Array[] = [];
  let pieceBytes = 0;
  const flush = async (): Promise<void> => {
    if (pieceBytes === 0) return;
    const frame = zstdCompressSync(concatBytes(piece), ZSTD);
    out.u32(frame.length).raw(frame);
    piece = [];
    pieceBytes = 0;
    await turn(clock);
  };
  for await (const bytes of tarOf(disk, '')) {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + PIECE_BYTES - pieceBytes);
      piece.push(part);
      pieceBytes += part.length;
      at += part.length;
      if (pieceBytes === PIECE_BYTES) await flush();
    }
  }
  piece.push(tarEnd());
  pieceBytes += tarEnd().length;
  await flush();
  return out.finish();
}

async function* tarOf(disk: Disk, directory: string): AsyncGenerator<Uint8Array> {
  for (const name of await disk.list(directory)) {
    const path = directory === '' ? name : `${directory}/${name}`;
    const stat = await disk.stat(path);
    if (!stat) continue;
    if (stat.isDirectory) {
      yield tarHeader(path, 0, { directory: true });
      yield* tarOf(disk, path);
      continue;
    }
    const bytes = await disk.readFile(path);
    yield tarHeader(path, bytes.length);
    yield bytes;
    if (bytes.length % 512 !== 0) yield tarPadding(bytes.length);
  }
}

/** The tar in an archive. */
export async function* unpackTar(archive: Uint8Array): AsyncGenerator<Uint8Array> {
  const cursor = new Cursor(archive);
  while (cursor.left > 0) yield zstdDecompressSync(cursor.raw(cursor.u32()));
}
