// The list of a tenant shard's timelines in the object store. JSON, sealed, one object per generation, as the indexes
// are (paths.ts): an attachment reads the newest one up to its own generation, and then each timeline's index; it need
// not list the bucket, so attaching costs the same however many layers there are.
//
//   {"version":1,"sequence":3,"stripe_size":2048,"timelines":["<id>", ...],
//    "offloaded":[{"timeline_id","ancestor_timeline_id"?,"ancestor_retain_lsn"?,"archived_at"}, ...]}
//
// A timeline is made by its index first and the manifest after that, and unmade the other way round but for the mark
// `deleted_at` in its index: one that is named here without an index, or has an index without being named, was
// interrupted, and is none. An offloaded timeline is one that is archived and not loaded.
//
// Answers to remote_timeline_client/manifest.rs, which lists offloaded timelines alone.

import { assert } from '../../base/assert.ts';
import { fromUtf8, utf8 } from '../../base/bytes.ts';
import { Fault, isFault } from '../../base/fault.ts';
import type { TimelineId } from '../../base/ids.ts';
import { formatLsn } from '../../base/lsn.ts';
import { array, integer, lsnSchema, object, optional, string, timelineIdSchema } from '../../base/schema.ts';

export const MANIFEST_VERSION = 1;

export interface Offloaded {
  readonly timeline: TimelineId;
  readonly ancestor: TimelineId | undefined;
  /** The ancestor keeps this LSN for it; undefined once it was told not to. */
  readonly ancestorRetainLsn: number | undefined;
  readonly archivedAt: number;
}

export interface Manifest {
  readonly version: number;
  readonly sequence: number;
  /** Pages in a stripe, for who finds the tenant's shards in the store alone. */
  readonly stripeSize: number;
  readonly timelines: readonly TimelineId[];
  readonly offloaded: readonly Offloaded[];
}

export const emptyManifest = (stripeSize: number): Manifest => ({
  version: MANIFEST_VERSION,
  sequence: 0,
  stripeSize,
  timelines: [],
  offloaded: [],
});

const manifestSchema = object({
  version: integer(1),
  sequence: integer(),
  stripe_size: integer(),
  timelines: array(timelineIdSchema),
  offloaded: array(
    object({
      timeline_id: timelineIdSchema,
      ancestor_timeline_id: optional(timelineIdSchema),
      ancestor_retain_lsn: optional(lsnSchema),
      archived_at: string('RFC 3339'),
    }),
  ),
});

export function encodeManifest(manifest: Manifest): Uint8Array {
  const { version, sequence, stripeSize, offloaded } = manifest;
  const timelines = manifest.timelines.toSorted();
  audit(timelines, offloaded);
  return utf8(
    JSON.stringify({
      version,
      sequence,
      stripe_size: stripeSize,
      timelines,
      offloaded: offloaded.map(o => ({
        timeline_id: o.timeline,
        ...(o.ancestor === undefined ? {} : { ancestor_timeline_id: o.ancestor }),
        ...(o.ancestorRetainLsn === undefined ? {} : { ancestor_retain_lsn: formatLsn(o.ancestorRetainLsn) }),
        archived_at: new Date(o.archivedAt).toISOString(),
      })),
    }),
  );
}

export function decodeManifest(bytes: Uint8Array, where: string): Manifest {
  try {
    const json = JSON.parse(fromUtf8(bytes)) as unknown;
    const { version } = object({ version: integer(1) }).parse(json, where);
    if (version > MANIFEST_VERSION) {
      throw new Fault(
        'index-part',
        `${where} has format version ${version}; this build reads up to ${MANIFEST_VERSION}`,
        { hint: 'A newer Lakebed wrote it: run that version or a later one.' },
      );
    }
    const manifest = manifestSchema.parse(json, where);
    return {
      version,
      sequence: manifest.sequence,
      stripeSize: manifest.stripe_size,
      timelines: manifest.timelines,
      offloaded: manifest.offloaded.map(o => ({
        timeline: o.timeline_id,
        ancestor: o.ancestor_timeline_id,
        ancestorRetainLsn: o.ancestor_retain_lsn,
        archivedAt: Date.parse(o.archived_at),
      })),
    };
  } catch (error) {
    if (isFault(error, 'index-part')) throw error;
    throw new Fault('index-part', `${where} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/** `timelines` are sorted. */
function audit(timelines: readonly TimelineId[], offloaded: readonly Offloaded[]): void {
  for (let i = 1; i < timelines.length; i++)
    assert(timelines[i - 1] !== timelines[i], 'a manifest names a timeline twice');
  if (offloaded.length === 0) return;
  const ids = new Set(timelines);
  for (const { timeline } of offloaded) {
    assert(!ids.has(timeline), 'a timeline is both loaded and offloaded');
    ids.add(timeline);
  }
}
