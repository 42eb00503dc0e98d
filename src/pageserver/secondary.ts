// A warm copy of a tenant shard: the layers that its attachment elsewhere has on its disk, kept on this one, so that
// an attachment here starts with them. The attached node tells which they are in a heatmap; nothing is served here, and
// what is here may be thrown away at any time.
//
//   heatmap-v1.json, sealed:  {"generation","upload_period_ms",
//                              "timelines":[{"timeline_id","layers":[{"name","metadata":{file_size,generation,shard?},
//                                            "access_time"}]}]}
//
// Answers to tenant/secondary/heatmap.rs, heatmap_uploader.rs and downloader.rs.

import { fromUtf8, utf8 } from '../base/bytes.ts';
import { isFault } from '../base/fault.ts';
import { SingleFlight } from '../base/flow.ts';
import { type ShardIndex, type TimelineId, UNSHARDED } from '../base/ids.ts';
import { array, integer, object, optional, string, timelineIdSchema, u8, u32 } from '../base/schema.ts';
import { residentLayers } from './eviction.ts';
import { isLayerName } from './layers/layer-name.ts';
import type { NodeDeps } from './node.ts';
import { sealedBytes } from './remote/layer-cache.ts';
import {
  HEATMAP_NAME,
  type TenantShard,
  tenantDirectory,
  timelineDirectory,
  timelinesDirectory,
} from './remote/paths.ts';
import { remoteSource } from './remote/remote-source.ts';
import { retrying } from './remote/retry.ts';
import type { Tenant } from './tenant.ts';

const heatmapSchema = object({
  generation: u32(),
  upload_period_ms: optional(integer()),
  timelines: array(
    object({
      timeline_id: timelineIdSchema,
      layers: array(
        object({
          name: string(),
          metadata: object({
            file_size: integer(),
            generation: u32(),
            shard: optional(object({ number: u8(), count: u8() })),
          }),
          access_time: integer(),
        }),
      ),
    }),
  ),
});

/** Tells what an attached tenant has on its disk. */
export async function uploadHeatmap(tenant: Tenant): Promise<void> {
  const { clock, random, remote } = tenant.deps;
  const timelines = [...tenant.timelines.values()].map(timeline => ({
    timeline_id: timeline.id,
    layers: residentLayers([timeline]).flatMap(({ name, accessedMs }) => {
      const ref = timeline.remote.refOf(name);
      if (!ref) return [];
      const { bytes, generation, shard } = ref;
      const metadata = { file_size: bytes, generation, ...(shard.count === 0 ? {} : { shard }) };
      return [{ name, metadata, access_time: Math.floor(accessedMs) }];
    }),
  }));
  const { generation, signal } = tenant;
  const heatmap = { generation, upload_period_ms: tenant.settings.heatmap_period, timelines };
  const sealed = await tenant.vault.seal(HEATMAP_NAME, utf8(JSON.stringify(heatmap)));
  const key = `${tenantDirectory(tenant.at)}/${HEATMAP_NAME}`;
  await retrying({ clock, random, signal }, () => remote.blobs.put(key, sealed));
}

export interface SecondaryProgress {
  heatmapMtimeMs: number | undefined;
  layersDownloaded: number;
  layersTotal: number;
  bytesDownloaded: number;
  bytesTotal: number;
}

export interface WantedLayer {
  readonly timeline: TimelineId;
  readonly name: string;
  readonly bytes: number;
  readonly shard: ShardIndex;
}

/** What the shard's attachment had on its disk when it last told; undefined when it never did. */
export async function readHeatmap(
  deps: NodeDeps,
  at: TenantShard,
): Promise<{ readonly layers: WantedLayer[]; readonly modifiedMs: number } | undefined> {
  const { blobs } = deps.remote;
  const key = `${tenantDirectory(at)}/${HEATMAP_NAME}`;
  const head = await blobs.head(key);
  if (!head) return undefined;
  const vault = deps.vault(tenantDirectory(at), { tenant: at.tenant });
  const bytes = await vault.unseal(HEATMAP_NAME, await blobs.get(key));
  const heatmap = heatmapSchema.parse(JSON.parse(fromUtf8(bytes)), key);
  const layers = heatmap.timelines.flatMap(({ timeline_id, layers }) =>
    layers.map(({ name, metadata }) => ({
      timeline: timeline_id,
      name,
      bytes: metadata.file_size,
      shard: metadata.shard ?? UNSHARDED,
    })),
  );
  return { layers, modifiedMs: head.modifiedMs };
}

export class Secondary {
  readonly at: TenantShard;
  private readonly deps: NodeDeps;
  private readonly stopping = new AbortController();
  private readonly flight = new SingleFlight<void>();
  progress: SecondaryProgress = {
    heatmapMtimeMs: undefined,
    layersDownloaded: 0,
    layersTotal: 0,
    bytesDownloaded: 0,
    bytesTotal: 0,
  };

  constructor(deps: NodeDeps, at: TenantShard) {
    this.deps = deps;
    this.at = at;
  }

  get isComplete(): boolean {
    const { heatmapMtimeMs, layersDownloaded, layersTotal } = this.progress;
    return heatmapMtimeMs !== undefined && layersDownloaded === layersTotal;
  }

  /** Brings the disk to what the newest heatmap names; one at a time. */
  download(): Promise<void> {
    return this.flight.run('download', () => this.downloadAll());
  }

  private async downloadAll(): Promise<void> {
    const { clock, random, remote } = this.deps;
    const { signal } = this.stopping;
    const wanted = await retrying({ clock, random, signal }, () => this.readHeatmap());
    if (!wanted) return;
    await this.removeOthers(wanted);
    for (const layer of wanted) {
      signal.throwIfAborted();
      await remote.downloads.run(() => this.downloadOne(layer));
      this.progress.layersDownloaded++;
      this.progress.bytesDownloaded += layer.bytes;
    }
  }

  private async readHeatmap(): Promise<WantedLayer[] | undefined> {
    const found = await readHeatmap(this.deps, this.at);
    if (!found) return undefined;
    const { layers, modifiedMs } = found;
    this.progress = {
      heatmapMtimeMs: modifiedMs,
      layersDownloaded: 0,
      layersTotal: layers.length,
      bytesDownloaded: 0,
      bytesTotal: layers.reduce((sum, layer) => sum + layer.bytes, 0),
    };
    return layers;
  }

  private vaultOf(timeline: TimelineId): ReturnType<NodeDeps['vault']> {
    return this.deps.vault(timelineDirectory(this.at, timeline), { tenant: this.at.tenant, timeline });
  }

  private async downloadOne({ timeline, name, bytes, shard }: WantedLayer): Promise<void> {
    const { disk, remote, clock, random } = this.deps;
    if (await disk.stat(`${timelineDirectory(this.at, timeline)}/${name}`)) return;
    const key = `${timelineDirectory({ tenant: this.at.tenant, shard }, timeline)}/${name}`;
    const { signal } = this.stopping;
    try {
      await retrying({ clock, random, signal }, () =>
        this.vaultOf(timeline).copyIn(name, remoteSource(remote.blobs, key, sealedBytes(bytes))),
      );
    } catch (error) {
      // Compacted away since the heatmap was written: the next one knows.
      if (!isFault(error, 'blob-missing')) throw error;
    }
  }

  private async removeOthers(wanted: readonly WantedLayer[]): Promise<void> {
    const { disk } = this.deps;
    const root = timelinesDirectory(this.at);
    if (!(await disk.stat(root))) return;
    const names = new Set(wanted.map(({ timeline, name }) => `${timeline}/${name}`));
    for (const timeline of await disk.list(root)) {
      for (const name of await disk.list(`${root}/${timeline}`)) {
        if (isLayerName(name) && !names.has(`${timeline}/${name}`))
          await disk.remove(`${root}/${timeline}/${name}`);
      }
    }
  }

  async stop(why: Error): Promise<void> {
    this.stopping.abort(why);
    if (this.flight.has('download')) await this.download().catch(() => undefined);
  }
}
