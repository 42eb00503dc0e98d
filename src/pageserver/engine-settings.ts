// The engine's parameters and limits: Neon's names where Neon has them (tenant_conf_defaults of its pageserver),
// in the units their ends tell. Plain values; one row per process, or per tenant where a tenant sets its own.

export interface EngineSettings {
  // ---- memory -> level 0 ----
  /** WAL bytes after which the open layer is frozen. */
  readonly checkpointDistance: number;
  /** Its memory, after which it is frozen whatever the WAL it took. */
  readonly memoryLayerBytesMax: number;
  /** An open layer older than this is frozen although it is small. */
  readonly checkpointTimeoutMs: number;

  // ---- level 0 -> level 1 ----
  /** Layers of level 0 that are worth merging. */
  readonly compactionThreshold: number;
  /** Layers merged in one go at most. */
  readonly compactionUpperLimit: number;
  /** Size of a file of level 1, or of an image layer. */
  readonly compactionTargetSize: number;

  // ---- images ----
  /** Edits on a page since its newest image that earn it a new one. */
  readonly imageCreationThreshold: number;
  /** Layers of level 1 over a range since its newest dense image that earn the whole range a new one ... */
  readonly imageLayersThreshold: number;
  /** ... if their bytes come to this part of the image's. */
  readonly imageGarbageRatio: number;
  /** So many layers earn it whatever their bytes. */
  readonly imageLayersMax: number;

  // ---- limits at which ingest slows ----
  /** Memory layers of all timelines together. */
  readonly memoryBytesMax: number;
  /** Layers of level 0 of one timeline (Neon: l0_flush_stall_threshold). */
  readonly l0CountMax: number;
  /** WAL flushed and not yet in the object store, of one timeline. */
  readonly uploadLagBytesMax: number;

  // ---- caches ----
  readonly pageCachePages: number;
  readonly blockCacheBytesMax: number;
  readonly openLayersMax: number;
  readonly openLayersBytesMax: number;

  /** Flush and compact as the thresholds say; tests that want to say when turn it off. */
  readonly background: boolean;
  /** Of these, compaction alone (Neon: compaction_period = "0s" turns it off). */
  readonly compactInBackground: boolean;
}

const MiB = 1024 * 1024;

export const ENGINE_DEFAULTS: EngineSettings = {
  checkpointDistance: 256 * MiB,
  memoryLayerBytesMax: 64 * MiB,
  checkpointTimeoutMs: 10 * 60_000,
  compactionThreshold: 10,
  compactionUpperLimit: 20,
  compactionTargetSize: 128 * MiB,
  imageCreationThreshold: 32,
  imageLayersThreshold: 8,
  imageGarbageRatio: 0.5,
  imageLayersMax: 40,
  memoryBytesMax: 384 * MiB,
  l0CountMax: 30,
  uploadLagBytesMax: 1024 * MiB,
  pageCachePages: 16_384,
  blockCacheBytesMax: 128 * MiB,
  openLayersMax: 2000,
  openLayersBytesMax: 128 * MiB,
  background: true,
  compactInBackground: true,
};
