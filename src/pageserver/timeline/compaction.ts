// Plans carried out: level 0 merged into level 1 (plan/compact.ts), hot pages given images (jobs/hot.ts), ranges given
// dense images (plan/images.ts), garbage forgotten (plan/gc.ts). Bytes are worked on in the pool; this thread reads,
// writes, and swaps the state once everything is durable.
//
//   L0 L0 L0 ... --merge--> L1 | L1 | L1       one swap: the new in, the old out
//
// Jobs of one operation are under way a few at a time, their results written in the order of keys.

import type { HotHeader } from '../jobs/hot.ts';
import { hotKeysOf } from '../jobs/hot.ts';
import type { ImageHeader } from '../jobs/image.ts';
import { type MergeHeader, unpackSection } from '../jobs/merge.ts';
import { Parcel } from '../jobs/parcel.ts';
import type { JobName } from '../jobs.ts';
import { ALL_KEYS, isRelationRel, type KeyRange, REL_SIZES, unpackKey } from '../key.ts';
import { isDense, type LayerDesc, overlaps, rangeEnd, rangeStart } from '../layers/layer.ts';
import type { Section } from '../layers/layer-builder.ts';
import type { LayerFile } from '../layers/layer-file.ts';
import type { Layer } from '../layers/open-layers.ts';
import { cutFiles, planCompaction } from '../plan/compact.ts';
import { planGc } from '../plan/gc.ts';
import { type DensePlan, planDense } from '../plan/images.ts';
import {
  blocksForKeys,
  cutRange,
  denseRange,
  type GatheredRun,
  gatherBlocks,
  gatherRange,
  type Part,
  type SourceLayer,
  sourcesOf,
  withOpen,
} from './gather.ts';
import { LayerOutput } from './layer-output.ts';
import type { Timeline } from './timeline.ts';

/** Stored bytes that one job takes in: copied in one go, they hold the event loop for a quarter of a millisecond. */
const PART_BYTES = 1024 * 1024;
/** Jobs of one operation under way at a time. */
const JOBS_AHEAD = 3;
/** Hot pages redone by one job. */
const HOT_KEYS_PER_JOB = 250;

export interface CompactionResult {
  readonly merged: number;
  readonly written: readonly LayerDesc[];
}

/** Level 0 into level 1, if there is enough of it (or any, when forced). */
export async function compactLevel0(timeline: Timeline, force: boolean): Promise<CompactionResult> {
  const { engine, settings, state } = timeline;
  const l0 = state.layers.l0.map(layer => layer.desc);
  const limits = {
    threshold: force ? 1 : settings.compactionThreshold,
    upperLimit: settings.compactionUpperLimit,
  };
  const plan = planCompaction(l0, limits, desc => timeline.damaged.has(desc.name));
  if (plan === undefined) return { merged: 0, written: [] };
  const layers = plan.layers.map(desc => state.layers.get(desc.name)!);
  const written = await withOpen(engine.openLayers, layers, files =>
    writeLayers(timeline, layers, async output => {
      const start = Math.min(
        ...files.filter(f => f.index.count > 0).map(f => f.index.rel[0]! * 0x1_0000_0000 + f.index.blk[0]!),
      );
      const range: KeyRange = { start: unpackKey(start), end: ALL_KEYS.end };
      const parts = cutRange(files, range, PART_BYTES);
      for (const file of cutFiles(
        parts.map(part => part.bytes),
        settings.compactionTargetSize,
      )) {
        const own = parts.slice(file.from, file.to);
        await output.begin({
          kind: 'delta',
          sparse: false,
          keys: spanOf(own),
          lsnStart: plan.lsnStart,
          lsnEnd: plan.lsnEnd,
          generation: timeline.storeOrThrow().generation,
        });
        await inOrder(
          own.map(part => () => mergePart(timeline, files, part.range)),
          section => output.add(section),
        );
        await output.end();
      }
    }),
  );
  return { merged: layers.length, written };
}

const spanOf = (parts: readonly Part[]): KeyRange => ({
  start: parts[0]!.range.start,
  end: parts[parts.length - 1]!.range.end,
});

async function mergePart(timeline: Timeline, files: readonly LayerFile[], range: KeyRange): Promise<Section> {
  const { gcCutoffLsn, retained } = timeline.state;
  const runs: GatheredRun[] = [];
  for (const file of files) runs.push(await gatherRange(file, range));
  const header: MergeHeader = {
    range,
    runs: runs.map(run => run.header),
    readable: { cutoff: gcCutoffLsn, points: retained.filter(point => point < gcCutoffLsn) },
  };
  return runJob(
    timeline,
    'merge',
    header,
    runs.map(run => run.bytes),
  );
}

async function runJob(
  timeline: Timeline,
  job: JobName,
  header: unknown,
  pieces: readonly ArrayBufferView[],
): Promise<Section> {
  return unpackSection(await timeline.engine.pool.run(job, Parcel.of(header, pieces)));
}

/** Start a few at a time, take their results in order. */
async function inOrder<T>(
  starts: readonly (() => Promise<T>)[],
  take: (result: T) => Promise<void>,
): Promise<void> {
  const underWay: Promise<T>[] = [];
  let next = 0;
  try {
    for (let i = 0; i < starts.length; i++) {
      while (next < starts.length && next < i + JOBS_AHEAD) underWay.push(starts[next++]!());
      await take(await underWay.shift()!);
    }
  } finally {
    await Promise.allSettled(underWay);
  }
}

/** Run `work`, and put what it wrote in the place of `replaced`; if it fails, nothing of it stays. */
async function writeLayers(
  timeline: Timeline,
  replaced: readonly Layer[],
  work: (output: LayerOutput) => Promise<void>,
): Promise<readonly LayerDesc[]> {
  const output = new LayerOutput(timeline.engine, timeline.storeOrThrow());
  try {
    await work(output);
    const written = output.finish();
    timeline.replaceLayers(written, replaced);
    return written;
  } catch (error) {
    await output.abandon();
    throw error;
  }
}

// ---- images -------------------------------------------------------------------------------------------------

/**
 * Give an image to each page in `fresh` layers on which edits have piled up, at the newest LSN of those layers.
 * Answers how many pages.
 */
export async function imageHotPages(timeline: Timeline, fresh: readonly LayerDesc[]): Promise<number> {
  if (fresh.length === 0) return 0;
  const lsn = Math.max(...fresh.map(desc => desc.lsnEnd - 1));
  const hot: Float64Array[] = [];
  for (const desc of fresh.toSorted((a, b) => rangeStart(a.keys) - rangeStart(b.keys))) {
    const layer = timeline.state.layers.get(desc.name);
    if (layer !== undefined) hot.push(await hotPagesOf(timeline, layer));
  }
  const keys = Float64Array.from(hot.flatMap(part => [...part]));
  if (keys.length === 0) return 0;
  const range: KeyRange = { start: unpackKey(keys[0]!), end: unpackKey(keys[keys.length - 1]! + 1) };
  const sources = sourcesOf(timeline, range, lsn);
  await flushAncestors(timeline);
  const layers = sources.map(source => source.layer);
  await withOpen(timeline.engine.openLayers, layers, files =>
    writeLayers(timeline, [], async output => {
      await output.begin(imageIdentity(timeline, range, lsn, true));
      const groups: Float64Array[] = [];
      for (let at = 0; at < keys.length; at += HOT_KEYS_PER_JOB)
        groups.push(keys.slice(at, at + HOT_KEYS_PER_JOB));
      await inOrder(
        groups.map(group => () => imagePart(timeline, sources, files, range, lsn, group)),
        section => output.add(section),
      );
      await output.end();
    }),
  );
  return keys.length;
}

const imageIdentity = (timeline: Timeline, keys: KeyRange, lsn: number, sparse: boolean) => ({
  kind: 'image' as const,
  sparse,
  keys,
  lsnStart: lsn,
  lsnEnd: lsn + 1,
  generation: timeline.storeOrThrow().generation,
});

async function hotPagesOf(timeline: Timeline, layer: Layer): Promise<Float64Array> {
  const { engine, settings, state } = timeline;
  const older: Layer[] = [];
  for (const other of state.layers.overlapping(layer.desc.keys)) {
    if (other === layer || other.desc.isL0 || other.desc.lsnEnd > layer.desc.lsnEnd) continue;
    older.push(other);
    if (isDense(other.desc) && covers(other.desc, layer.desc.keys)) break;
  }
  return withOpen(engine.openLayers, [layer, ...older], async files => {
    const header: HotHeader = {
      edits: settings.imageCreationThreshold,
      layers: settings.imageLayersThreshold,
      runs: files.map(file => ({ name: file.desc.name, keyCount: file.footer.keyCount })),
    };
    const pieces = await Promise.all(files.map(file => file.countsStored()));
    return hotKeysOf(await engine.pool.run('hot', Parcel.of(header, pieces)));
  });
}

const covers = (desc: LayerDesc, range: KeyRange): boolean =>
  rangeStart(desc.keys) <= rangeStart(range) && rangeEnd(desc.keys) >= rangeEnd(range);

/** The images of a range, or of some keys of it. */
async function imagePart(
  timeline: Timeline,
  sources: readonly SourceLayer[],
  files: readonly LayerFile[],
  range: KeyRange,
  lsn: number,
  keys: Float64Array | undefined,
  lengths: readonly (readonly [number, number])[] = [],
): Promise<Section> {
  const runs: GatheredRun[] = [];
  const headers: ImageHeader['runs'][number][] = [];
  for (let i = 0; i < sources.length; i++) {
    const { layer, lsnEnd } = sources[i]!;
    if (!overlaps(layer.desc.keys, range)) continue;
    const file = files[i]!;
    const run = keys ? await gatherBlocks(file, blocksForKeys(file, keys)) : await gatherRange(file, range);
    const dense = denseRange(layer.desc);
    if (run.header.stored.length === 0 && dense === undefined) continue;
    runs.push(run);
    headers.push({
      ...run.header,
      isImage: layer.desc.kind === 'image',
      lsnEnd,
      dense: dense ?? null,
    });
  }
  const { major, flavour } = timeline.redo.dialect;
  const header: ImageHeader = {
    range,
    lsn,
    major,
    flavour,
    runs: headers,
    sparse: keys !== undefined,
    lengths,
  };
  const pieces: ArrayBufferView[] = runs.map(run => run.bytes);
  if (keys) pieces.push(keys);
  return runJob(timeline, 'image', header, pieces);
}

/** What an image needs of an ancestor must be in layers: memory is not handed to jobs. */
async function flushAncestors(timeline: Timeline): Promise<void> {
  for (let at = timeline; at.ancestor !== undefined; at = at.ancestor) {
    if (at.ancestor.diskConsistentLsn < at.ancestorLsn) await at.ancestor.freezeAndFlush();
  }
}

/** Dense images where so much has gathered that they are worth their bytes; answers what was written. */
export async function imageDeepRanges(timeline: Timeline, force: boolean): Promise<readonly LayerDesc[]> {
  const { settings } = timeline;
  const stacks = [...timeline.state.layers.stacks()].map(({ start, end, layers }) => ({
    start,
    end,
    layers: layers.map(layer => layer.desc),
  }));
  const limits = force
    ? { layersThreshold: 1, garbageRatio: 0, layersMax: 1 }
    : {
        layersThreshold: settings.imageLayersThreshold,
        garbageRatio: settings.imageGarbageRatio,
        layersMax: settings.imageLayersMax,
      };
  const inherited = (range: KeyRange): number => (force ? 0 : inheritedBytes(timeline, range));
  const written: LayerDesc[] = [];
  for (const plan of planDense(stacks, limits, inherited)) {
    await flushAncestors(timeline);
    written.push(...(await imageRange(timeline, plan)));
  }
  return written;
}

function inheritedBytes(timeline: Timeline, range: KeyRange): number {
  const { ancestor, ancestorLsn } = timeline;
  if (ancestor === undefined) return 0;
  return sourcesOf(ancestor, range, ancestorLsn).reduce((sum, { layer }) => sum + layer.desc.bytes, 0);
}

async function imageRange(timeline: Timeline, plan: DensePlan): Promise<readonly LayerDesc[]> {
  const { range, lsn } = plan;
  const lengths = await forkLengths(timeline, lsn);
  const sources = sourcesOf(timeline, range, lsn);
  const layers = sources.map(source => source.layer);
  return withOpen(timeline.engine.openLayers, layers, files =>
    writeLayers(timeline, [], async output => {
      const parts = cutRange(files, range, PART_BYTES);
      const sizes = parts.map(part => part.bytes);
      for (const file of cutFiles(sizes, timeline.settings.compactionTargetSize)) {
        const own = parts.slice(file.from, file.to);
        await output.begin(imageIdentity(timeline, spanOf(own), lsn, false));
        await inOrder(
          own.map(part => () => {
            const { start, end } = part.range;
            const within = lengths.filter(([rel]) => rel >= start.rel && rel <= end.rel);
            return imagePart(timeline, sources, files, part.range, lsn, undefined, within);
          }),
          section => output.add(section),
        );
        await output.end();
      }
    }),
  );
}

/** How long each fork was at an LSN (directory.ts): what lies past its end, no read asks for. */
async function forkLengths(timeline: Timeline, lsn: number): Promise<(readonly [number, number])[]> {
  const lengths: (readonly [number, number])[] = [];
  const range: KeyRange = { start: { rel: REL_SIZES, blk: 0 }, end: { rel: REL_SIZES + 1, blk: 0 } };
  await timeline.scan(range, lsn, (_rel, blk, bytes) => {
    if (!isRelationRel(blk)) return;
    const length = bytes.length < 4 ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
    lengths.push([blk, length]);
  });
  return lengths;
}

// ---- gc -----------------------------------------------------------------------------------------------------

export interface GcResult {
  readonly cutoff: number;
  readonly removed: readonly LayerDesc[];
}

/** Forget the layers that no read at or above `cutoff`, nor at a retained LSN, can need. */
export function collectGarbage(timeline: Timeline, cutoff: number, retained: readonly number[]): GcResult {
  const { state } = timeline;
  const applied = Math.min(Math.max(cutoff, state.gcCutoffLsn), state.diskConsistentLsn);
  timeline.change({ gcCutoffLsn: applied, retained: retained.toSorted((a, b) => a - b) });
  const layers = [...timeline.state.layers.all()];
  const removed = planGc(
    layers.map(layer => layer.desc),
    { cutoff: applied, retained },
  );
  if (removed.length > 0) {
    timeline.replaceLayers(
      [],
      removed.map(desc => timeline.state.layers.get(desc.name)!),
    );
  }
  return { cutoff: applied, removed };
}
