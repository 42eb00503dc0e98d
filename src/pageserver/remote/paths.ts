// Where things lie: one scheme of names for the object store and the local cache alike, so that an upload or a
// download is a plain copy from a path to the same path.
//
//   tenants/<shard>/tenant-manifest-<gen>.json                   which timelines there are        (manifest.ts)
//   tenants/<shard>/config-v1                                    how it is attached here; local only
//   tenants/<shard>/heatmap-v1.json                              what a warm copy should hold
//   tenants/<shard>/timelines/<timeline>/index_part.json-<gen>   which layers there are         (index-part.ts)
//   tenants/<shard>/timelines/<timeline>/<layer>                 a layer; local and remote   (layers/layer-name.ts)
//   tenants/<shard>/timelines/<timeline>/initdb.tar.zst          what initdb made; kept for other shards
//
// <shard> is a tenant shard id (`<32 hex>` or `<32 hex>-NNCC`), <gen> the generation of the attachment that wrote the
// object, eight hex digits; a layer has its generation in its name. Two attachments never write under one name, so
// the one that lost its right to write can harm nothing that the newer one relies on.
//
// A file's name is also the name under which its bytes are sealed; the vault of a timeline is rooted in its directory.
//
// Answers to remote_timeline_client.rs (remote_layer_path, remote_index_path …) and generation.rs.

import {
  formatTenantShard,
  parseTenantShard,
  type ShardIndex,
  type TenantId,
  type TimelineId,
  timelineId,
} from '../../base/ids.ts';
import { isLayerName, parseLayerName } from '../layers/layer-name.ts';

export interface TenantShard {
  readonly tenant: TenantId;
  readonly shard: ShardIndex;
}

export const TENANTS = 'tenants';
export const CONFIG_NAME = 'config-v1';
export const HEATMAP_NAME = 'heatmap-v1.json';
export const INITDB_NAME = 'initdb.tar.zst';
export const INITDB_PRESERVED_NAME = 'initdb-preserved.tar.zst';
const INDEX = 'index_part.json';
const MANIFEST = 'tenant-manifest';

/** Generations are u32. */
export const GENERATION_MAX = 0xffff_ffff;

const suffix = (generation: number): string => `-${generation.toString(16).padStart(8, '0')}`;

export const shardText = (at: TenantShard): string => formatTenantShard(at.tenant, at.shard);

export const tenantDirectory = (at: TenantShard): string => `${TENANTS}/${shardText(at)}`;
export const timelinesDirectory = (at: TenantShard): string => `${tenantDirectory(at)}/timelines`;
export const timelineDirectory = (at: TenantShard, timeline: TimelineId): string =>
  `${timelinesDirectory(at)}/${timeline}`;

export const indexName = (generation: number): string => INDEX + suffix(generation);
export const manifestName = (generation: number): string => `${MANIFEST}${suffix(generation)}.json`;

const INDEX_NAME = /^index_part\.json-([0-9a-f]{8})$/;
const MANIFEST_NAME = /^tenant-manifest-([0-9a-f]{8})\.json$/;

const generationIn = (file: string, pattern: RegExp): number | undefined => {
  const match = pattern.exec(file);
  return match ? parseInt(match[1]!, 16) : undefined;
};

/** The generation of an index's or a manifest's file name; undefined for other files. */
export const parseIndexName = (file: string): number | undefined => generationIn(file, INDEX_NAME);
export const parseManifestName = (file: string): number | undefined => generationIn(file, MANIFEST_NAME);

/** What a key of the object store is. */
export type Located =
  | { readonly kind: 'manifest'; readonly at: TenantShard; readonly generation: number }
  | { readonly kind: 'heatmap'; readonly at: TenantShard }
  | {
      readonly kind: 'index';
      readonly at: TenantShard;
      readonly timeline: TimelineId;
      readonly generation: number;
    }
  | { readonly kind: 'initdb'; readonly at: TenantShard; readonly timeline: TimelineId }
  | {
      readonly kind: 'layer';
      readonly at: TenantShard;
      readonly timeline: TimelineId;
      readonly layer: string;
      readonly generation: number;
    };

/** Reads a key back; undefined for one that is not of this scheme. */
export function parseKey(key: string): Located | undefined {
  const [root, shard, third, timelineText, file, ...more] = key.split('/');
  if (root !== TENANTS || shard === undefined || third === undefined || more.length > 0) return undefined;
  const at = parsedOrNone(() => parseTenantShard(shard));
  if (!at) return undefined;
  if (timelineText === undefined) {
    const generation = parseManifestName(third);
    if (generation !== undefined) return { kind: 'manifest', at, generation };
    return third === HEATMAP_NAME ? { kind: 'heatmap', at } : undefined;
  }
  const timeline = parsedOrNone(() => timelineId(timelineText));
  if (third !== 'timelines' || file === undefined || !timeline) return undefined;
  return located(at, timeline, file);
}

function located(at: TenantShard, timeline: TimelineId, file: string): Located | undefined {
  if (file === INITDB_NAME || file === INITDB_PRESERVED_NAME) return { kind: 'initdb', at, timeline };
  const generation = parseIndexName(file);
  if (generation !== undefined) return { kind: 'index', at, timeline, generation };
  if (!isLayerName(file)) return undefined;
  return { kind: 'layer', at, timeline, layer: file, generation: parseLayerName(file, 0).generation };
}

function parsedOrNone<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}
