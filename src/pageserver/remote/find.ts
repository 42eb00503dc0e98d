// What an attachment of some generation finds in the object store: the newest manifest and the newest index of each
// timeline that are not of a later generation than its own. A later one belongs to an attachment that took over from
// us, and is not ours to read.
//
// Nearly always it is of our own generation (a restart in emergency mode) or of the one before (any other attach):
// both are asked for at once. Otherwise the names are listed, and the few generations below ours are asked for as
// well: a list may be late about what was put last, a get is not.
//
// Damaged bytes are an error. An older index instead would be the past, told as the present.
//
// Answers to download_generation_object of remote_timeline_client/download.rs.

import { Fault, isFault } from '../../base/fault.ts';
import type { TimelineId } from '../../base/ids.ts';
import type { Blobs } from '../../base/ports.ts';
import type { Vault } from '../../seal/vault.ts';
import { decodeIndex, type IndexPart } from './index-part.ts';
import { decodeManifest, type Manifest } from './manifest.ts';
import {
  indexName,
  manifestName,
  parseIndexName,
  parseManifestName,
  type TenantShard,
  tenantDirectory,
  timelineDirectory,
} from './paths.ts';

export interface Found<T> {
  readonly value: T;
  /** Of the attachment that wrote it. */
  readonly generation: number;
}

interface Wanted {
  readonly blobs: Blobs;
  readonly vault: Vault;
  readonly directory: string;
  readonly nameOf: (generation: number) => string;
  readonly generationOf: (file: string) => number | undefined;
  /** What all of these names begin with. */
  readonly prefix: string;
  readonly generation: number;
}

/** Generations below ours that are asked for by name when the first two are not there. */
const PROBES = 8;

async function findNewest(wanted: Wanted): Promise<Found<Uint8Array> | undefined> {
  const { generation } = wanted;
  const likely = [generation, generation - 1].filter(g => g >= 0);
  const first = await Promise.all(likely.map(g => read(wanted, g)));
  const hit = first.findIndex(bytes => bytes !== undefined);
  if (hit >= 0) return { value: first[hit]!, generation: likely[hit]! };
  const candidates = new Set<number>();
  for (let g = generation - 2; g >= Math.max(0, generation - PROBES); g--) candidates.add(g);
  for await (const { key } of wanted.blobs.list(`${wanted.directory}/${wanted.prefix}`)) {
    const listed = wanted.generationOf(key.slice(wanted.directory.length + 1));
    if (listed !== undefined && listed < generation - 1) candidates.add(listed);
  }
  for (const g of [...candidates].sort((a, b) => b - a)) {
    const bytes = await read(wanted, g);
    if (bytes) return { value: bytes, generation: g };
  }
  return undefined;
}

async function read(wanted: Wanted, generation: number): Promise<Uint8Array | undefined> {
  const { blobs, vault, directory, nameOf } = wanted;
  const name = nameOf(generation);
  let sealed: Uint8Array;
  try {
    sealed = await blobs.get(`${directory}/${name}`);
  } catch (error) {
    if (isFault(error, 'blob-missing')) return undefined;
    throw error;
  }
  return vault.unseal(name, sealed, { generation });
}

/** `vault` is the timeline's. */
export async function findIndex(
  blobs: Blobs,
  vault: Vault,
  at: TenantShard,
  timeline: TimelineId,
  generation: number,
): Promise<Found<IndexPart> | undefined> {
  const directory = timelineDirectory(at, timeline);
  const found = await findNewest({
    blobs,
    vault,
    directory,
    nameOf: indexName,
    generationOf: parseIndexName,
    prefix: 'index_part.json-',
    generation,
  });
  if (!found) return undefined;
  const index = decodeIndex(found.value, `${directory}/${indexName(found.generation)}`);
  for (const [layer, ref] of index.layers) {
    if (ref.generation <= found.generation) continue;
    throw new Fault('index-part', `${directory} names layer ${layer} of a generation after its own`);
  }
  return { value: index, generation: found.generation };
}

/** `vault` is the tenant's. */
export async function findManifest(
  blobs: Blobs,
  vault: Vault,
  at: TenantShard,
  generation: number,
): Promise<Found<Manifest> | undefined> {
  const directory = tenantDirectory(at);
  const found = await findNewest({
    blobs,
    vault,
    directory,
    nameOf: manifestName,
    generationOf: parseManifestName,
    prefix: 'tenant-manifest-',
    generation,
  });
  if (!found) return undefined;
  const where = `${directory}/${manifestName(found.generation)}`;
  return { value: decodeManifest(found.value, where), generation: found.generation };
}
