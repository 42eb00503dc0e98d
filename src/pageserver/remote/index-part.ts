// The manifest of a timeline in the object store: which layers there are, up to which LSN they hold everything, and
// where it comes from. JSON, sealed, one object per generation (paths.ts); who attaches the timeline reads the one of
// the highest generation up to its own, and nothing else tells what the timeline is.
//
//   {"version":1,"sequence":42,
//    "layer_metadata":{"<layer>":{"file_size":N,"generation":G,"shard":{"number":0,"count":0}}, ...},
//    "disk_consistent_lsn":"0/16B3748",
//    "metadata":{"prev_record_lsn":…|null,"ancestor_timeline":…|null,"ancestor_lsn":…,"latest_gc_cutoff_lsn":…,
//                "initdb_lsn":…,"pg_version":17},
//    "forgotten":["<layer>", ...],
//    "retained_lsns"?,"flavour"?,"archived_at"?,"deleted_at"?,"marked_invisible_at"?,"lineage"?,"gc_blocking"?,
//    "full_page_writes"?,"import"?}
//
// `forgotten` names the objects that an index named once and no longer does, until they are deleted: a crash between
// "the index forgets" and "the object is gone" leaks nothing, on whatever machine the timeline is attached next.
// `shard` is there when a layer belongs to another shard's directory (a split's children read their parent's layers);
// such a layer is never deleted by us. `retained_lsns` are the branch points and leases below the GC cutoff that the
// last GC kept: what a merge must go on keeping until the next one, though leases themselves are in memory alone.
//
// Invariants (`auditIndex`, `auditSuccessor`): a timeline without an ancestor has layers; no layer is of a later
// generation than the index; nothing is both named and forgotten; positions never go back from one index to the next.
//
// Answers to remote_timeline_client/index.rs and metadata.rs, whose field names it keeps; what it does not have is ours.

import { assert } from '../../base/assert.ts';
import { fromUtf8, utf8 } from '../../base/bytes.ts';
import { Fault, isFault } from '../../base/fault.ts';
import { type ShardIndex, type TimelineId, UNSHARDED } from '../../base/ids.ts';
import { formatLsn } from '../../base/lsn.ts';
import {
  anything,
  array,
  boolean,
  type Infer,
  integer,
  lsnSchema,
  nullable,
  object,
  oneOf,
  optional,
  record,
  string,
  timelineIdSchema,
  u8,
  u32,
} from '../../base/schema.ts';

export const INDEX_VERSION = 1;

/** A layer as the index knows it; its name tells the rest. */
export interface LayerRef {
  /** Of its contents; the sealed file is a little larger. */
  readonly bytes: number;
  readonly generation: number;
  /** Whose directory it is in. */
  readonly shard: ShardIndex;
}

export interface Ancestry {
  readonly timeline: TimelineId;
  readonly lsn: number;
}

export const GC_BLOCKING_REASONS = ['Manual', 'DetachAncestor'] as const;
export type GcBlockingReason = (typeof GC_BLOCKING_REASONS)[number];

/** A data directory or a base backup is on its way in; until that is done the timeline serves nobody. */
export interface ImportState {
  readonly idempotencyKey: string;
  readonly done: boolean;
}

export interface IndexPart {
  readonly version: number;
  /** Rises with every index that one attachment writes. */
  readonly sequence: number;
  readonly pgVersion: number;
  readonly layers: ReadonlyMap<string, LayerRef>;
  /** Layers whose objects are to be deleted. */
  readonly forgotten: readonly string[];
  /** Everything up to here is in the layers. */
  readonly diskConsistentLsn: number;
  /** Where the record that ends at diskConsistentLsn begins; undefined where nobody knows (just after a branch). */
  readonly prevRecordLsn: number | undefined;
  readonly ancestor: Ancestry | undefined;
  readonly initdbLsn: number;
  readonly gcCutoffLsn: number;
  /** Kept by the last GC though below its cutoff; ascending. */
  readonly retainedLsns: readonly number[];
  /** Whose log it takes in: in 14 and 15 Neon's build writes heap records of its own. */
  readonly flavour: 'neon' | 'stock';
  /** Milliseconds since the epoch. */
  readonly archivedAt: number | undefined;
  readonly deletedAt: number | undefined;
  readonly markedInvisibleAt: number | undefined;
  readonly gcBlocking: readonly GcBlockingReason[];
  /** Earlier ancestors, oldest first; the last is the one it was detached from, if `detached` is there. */
  readonly lineage: readonly TimelineId[];
  readonly detached: (Ancestry & { readonly at: number }) | undefined;
  readonly fullPageWrites: { readonly on: boolean; readonly lsn: number } | undefined;
  readonly importing: ImportState | undefined;
}

/** At most this many earlier ancestors are remembered. */
export const LINEAGE_MAX = 100;

export type IndexSeed = Pick<IndexPart, 'pgVersion' | 'diskConsistentLsn' | 'prevRecordLsn' | 'initdbLsn'> &
  Partial<IndexPart>;

/** An index of nothing yet. */
export function newIndex(seed: IndexSeed): IndexPart {
  return {
    sequence: 0,
    layers: new Map(),
    forgotten: [],
    ancestor: undefined,
    gcCutoffLsn: 0,
    retainedLsns: [],
    flavour: 'neon',
    archivedAt: undefined,
    deletedAt: undefined,
    markedInvisibleAt: undefined,
    gcBlocking: [],
    lineage: [],
    detached: undefined,
    fullPageWrites: undefined,
    importing: undefined,
    ...seed,
    version: INDEX_VERSION,
  };
}

// ---------------------------------------------------------------------------------------------------------- bytes

const shardSchema = object({ number: u8(), count: u8() });
const layerSchema = object({ file_size: integer(), generation: u32(), shard: optional(shardSchema) });
const instant = optional(string('RFC 3339'));

const indexSchema = object({
  version: integer(1),
  sequence: integer(),
  layer_metadata: record(layerSchema),
  disk_consistent_lsn: lsnSchema,
  metadata: object({
    prev_record_lsn: nullable(lsnSchema),
    ancestor_timeline: nullable(timelineIdSchema),
    ancestor_lsn: lsnSchema,
    latest_gc_cutoff_lsn: lsnSchema,
    initdb_lsn: lsnSchema,
    pg_version: integer(),
  }),
  forgotten: array(string()),
  retained_lsns: optional(array(lsnSchema)),
  flavour: optional(oneOf('neon', 'stock')),
  archived_at: instant,
  deleted_at: instant,
  marked_invisible_at: instant,
  gc_blocking: optional(object({ reasons: array(oneOf(...GC_BLOCKING_REASONS)) })),
  lineage: optional(
    object({
      reparenting_history: array(timelineIdSchema),
      original_ancestor: optional(object({ timeline: timelineIdSchema, lsn: lsnSchema, at: string() })),
    }),
  ),
  full_page_writes: optional(object({ on: boolean(), lsn: lsnSchema })),
  import: optional(object({ idempotency_key: string(), done: boolean() })),
});
type IndexJson = Infer<typeof indexSchema>;

const isoOf = (ms: number): string => new Date(ms).toISOString();

export function encodeIndex(index: IndexPart): Uint8Array {
  const layers = [...index.layers]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { bytes, generation, shard }]) => [
      name,
      { file_size: bytes, generation, ...(shard.count === 0 ? {} : { shard }) },
    ]);
  const { ancestor, detached, lineage } = index;
  return utf8(
    JSON.stringify({
      version: index.version,
      sequence: index.sequence,
      layer_metadata: Object.fromEntries(layers),
      disk_consistent_lsn: formatLsn(index.diskConsistentLsn),
      metadata: {
        prev_record_lsn: index.prevRecordLsn === undefined ? null : formatLsn(index.prevRecordLsn),
        ancestor_timeline: ancestor?.timeline ?? null,
        ancestor_lsn: formatLsn(ancestor?.lsn ?? 0),
        latest_gc_cutoff_lsn: formatLsn(index.gcCutoffLsn),
        initdb_lsn: formatLsn(index.initdbLsn),
        pg_version: index.pgVersion,
      },
      forgotten: index.forgotten,
      ...(index.retainedLsns.length === 0 ? {} : { retained_lsns: index.retainedLsns.map(formatLsn) }),
      ...(index.flavour === 'neon' ? {} : { flavour: index.flavour }),
      ...(index.archivedAt === undefined ? {} : { archived_at: isoOf(index.archivedAt) }),
      ...(index.deletedAt === undefined ? {} : { deleted_at: isoOf(index.deletedAt) }),
      ...(index.markedInvisibleAt === undefined
        ? {}
        : { marked_invisible_at: isoOf(index.markedInvisibleAt) }),
      ...(index.gcBlocking.length === 0 ? {} : { gc_blocking: { reasons: index.gcBlocking } }),
      ...(lineage.length === 0 && !detached ? {} : { lineage: lineageJson(lineage, detached) }),
      ...(index.fullPageWrites
        ? { full_page_writes: { on: index.fullPageWrites.on, lsn: formatLsn(index.fullPageWrites.lsn) } }
        : {}),
      ...(index.importing
        ? { import: { idempotency_key: index.importing.idempotencyKey, done: index.importing.done } }
        : {}),
    }),
  );
}

const lineageJson = (lineage: IndexPart['lineage'], detached: IndexPart['detached']): unknown => ({
  reparenting_history: lineage,
  ...(detached
    ? {
        original_ancestor: {
          timeline: detached.timeline,
          lsn: formatLsn(detached.lsn),
          at: isoOf(detached.at),
        },
      }
    : {}),
});

/** `where` names the object in errors. */
export function decodeIndex(bytes: Uint8Array, where: string): IndexPart {
  let json: unknown;
  try {
    json = anything().parse(JSON.parse(fromUtf8(bytes)), where);
    const { version } = object({ version: integer(1) }).parse(json, where);
    if (version > INDEX_VERSION) {
      throw new Fault(
        'index-part',
        `${where} has format version ${version}; this build reads up to ${INDEX_VERSION}`,
        {
          hint: 'A newer Lakebed wrote it: run that version or a later one.',
        },
      );
    }
    return fromJson(indexSchema.parse(json, where));
  } catch (error) {
    if (isFault(error, 'index-part')) throw error;
    throw new Fault('index-part', `${where} cannot be read: ${(error as Error).message}`, {
      hint: 'Its bytes are as they were written, so this is a fault of ours or of an unknown version.',
      cause: error,
    });
  }
}

function fromJson(json: IndexJson): IndexPart {
  const { metadata, lineage } = json;
  const original = lineage?.original_ancestor;
  return {
    version: json.version,
    sequence: json.sequence,
    pgVersion: metadata.pg_version,
    layers: new Map(
      Object.entries(json.layer_metadata).map(([name, { file_size, generation, shard }]) => [
        name,
        { bytes: file_size, generation, shard: shard ?? UNSHARDED },
      ]),
    ),
    forgotten: json.forgotten,
    diskConsistentLsn: json.disk_consistent_lsn,
    prevRecordLsn: metadata.prev_record_lsn ?? undefined,
    ancestor: metadata.ancestor_timeline
      ? { timeline: metadata.ancestor_timeline, lsn: metadata.ancestor_lsn }
      : undefined,
    initdbLsn: metadata.initdb_lsn,
    gcCutoffLsn: metadata.latest_gc_cutoff_lsn,
    retainedLsns: json.retained_lsns ?? [],
    flavour: json.flavour ?? 'neon',
    archivedAt: msOf(json.archived_at),
    deletedAt: msOf(json.deleted_at),
    markedInvisibleAt: msOf(json.marked_invisible_at),
    gcBlocking: json.gc_blocking?.reasons ?? [],
    lineage: lineage?.reparenting_history ?? [],
    detached: original && { timeline: original.timeline, lsn: original.lsn, at: Date.parse(original.at) },
    fullPageWrites: json.full_page_writes,
    importing: json.import && { idempotencyKey: json.import.idempotency_key, done: json.import.done },
  };
}

const msOf = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : Date.parse(text);

// ----------------------------------------------------------------------------------------------------- invariants

/** What must hold of any index that is about to be written under `generation`. */
export function auditIndex(index: IndexPart, generation: number): void {
  const { layers, ancestor, importing, deletedAt, diskConsistentLsn } = index;
  assert(
    layers.size > 0 || ancestor !== undefined || importing?.done === false || deletedAt !== undefined,
    'an index without an ancestor has no layers',
  );
  for (const [name, ref] of layers) {
    assert(ref.generation <= generation, `layer ${name} is of a later generation than its index`);
    assert(ref.bytes > 0, `layer ${name} is empty`);
  }
  for (const name of index.forgotten) assert(!layers.has(name), `layer ${name} is both named and forgotten`);
  assert((ancestor?.lsn ?? 0) <= diskConsistentLsn, 'a timeline ends before its branch point');
  assert(index.gcCutoffLsn <= diskConsistentLsn, 'the GC cutoff is past the end');
  assert(diskConsistentLsn % 8 === 0, 'the end is no record boundary');
  assert((index.prevRecordLsn ?? 0) <= diskConsistentLsn, 'the newest record begins after its end');
}

/** What must hold from one index of a timeline to the next. */
export function auditSuccessor(before: IndexPart, after: IndexPart): void {
  assert(after.sequence > before.sequence, 'an index took the number of another');
  assert(after.diskConsistentLsn >= before.diskConsistentLsn, 'disk_consistent_lsn went back');
  assert(after.gcCutoffLsn >= before.gcCutoffLsn, 'the GC cutoff went back');
  assert(after.pgVersion === before.pgVersion, 'the Postgres version changed');
  assert(before.deletedAt === undefined || after.deletedAt !== undefined, 'a deleted timeline came back');
  assert(before.ancestor !== undefined || after.ancestor === undefined, 'a timeline took an ancestor');
}
