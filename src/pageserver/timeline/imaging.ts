// Images made by the storage: of hot pages, sparse, once their edits have piled up (jobs/hot.ts finds them), and of
// whole ranges, dense, where enough history lies over them to be worth an end (plan/images.ts). A piece at a time, so
// that merging level 0 never waits for long: one layer of level 1 is looked through, one file of dense images written.

import { type HotHeader, hotKeysOf } from '../jobs/hot.ts';
import type { ImageHeader } from '../jobs/image.ts';
import { Parcel } from '../jobs/parcel.ts';
import { isRelationRel, type KeyRange, REL_SIZES, unpackKey } from '../key.ts';
import { isDense, type LayerDesc, overlaps, rangeEnd, rangeStart } from '../layers/layer.ts';
import type { Section } from '../layers/layer-builder.ts';
import type { LayerFile } from '../layers/layer-file.ts';
import type { LayerIdentity } from '../layers/layer-name.ts';
import type { Layer } from '../layers/open-layers.ts';
import { planDense } from '../plan/images.ts';
import {
  blocksForKeys,
  cutRange,
  denseRange,
  type GatheredRun,
  gatherBlocks,
  gatherRange,
  type SourceLayer,
  sourcesOf,
  withOpen,
} from './gather.ts';
import { inOrder, PART_BYTES, runJob, writeLayers } from './job-runner.ts';
import type { Timeline } from './timeline.ts';

/** Hot pages redone by one job. */
const HOT_KEYS_PER_JOB = 250;

// ---- hot pages ----------------------------------------------------------------------------------------------

/** The layers of level 1 that lie uppermost somewhere, with no image above: where hot pages are to be looked for. */
export function uppermostDeltas(timeline: Timeline): Layer[] {
  const found = new Set<Layer>();
  for (const { layers } of timeline.state.layers.stacks()) {
    const top = layers[0];
    if (top?.desc.kind === 'delta' && !timeline.damaged.has(top.desc.name)) found.add(top);
  }
  return [...found];
}

/** Give an image to each page of a layer on which edits have piled up, at the layer's end. Answers how many pages. */
export async function imageHotPages(timeline: Timeline, layer: Layer): Promise<number> {
  const lsn = layer.desc.lsnEnd - 1;
  const keys = await hotPagesOf(timeline, layer);
  if (keys.length === 0) return 0;
  await flushAncestors(timeline);
  const range: KeyRange = { start: unpackKey(keys[0]!), end: unpackKey(keys[keys.length - 1]! + 1) };
  const sources = sourcesOf(timeline, range, lsn);
  const layers = sources.map(source => source.layer);
  await withOpen(timeline.engine.openLayers, layers, files =>
    writeLayers(timeline, [], async output => {
      await output.begin(identityOf(timeline, range, lsn, true));
      const groups: Float64Array[] = [];
      for (let at = 0; at < keys.length; at += HOT_KEYS_PER_JOB)
        groups.push(keys.slice(at, at + HOT_KEYS_PER_JOB));
      await inOrder(
        groups.map(group => () => imagePart(timeline, sources, files, range, lsn, group, [])),
        section => output.add(section),
      );
      await output.end();
    }),
  );
  return keys.length;
}

async function hotPagesOf(timeline: Timeline, layer: Layer): Promise<Float64Array> {
  const { engine, state, settings } = timeline;
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

// ---- dense ranges -------------------------------------------------------------------------------------------

/** One file of dense images to be made. */
export interface DeepTask {
  readonly range: KeyRange;
  readonly lsn: number;
  /** Lengths of forks at the LSN, by id, ascending: what lies past its end, no read asks for. */
  readonly lengths: readonly (readonly [rel: number, blocks: number])[];
}

/** Where dense images are due now, cut into files. */
export async function planDeepRanges(timeline: Timeline, force: boolean): Promise<DeepTask[]> {
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
  const tasks: DeepTask[] = [];
  for (const { range, lsn } of planDense(stacks, limits, inherited)) {
    const lengths = await forkLengths(timeline, lsn);
    const layers = sourcesOf(timeline, range, lsn).map(source => source.layer);
    await withOpen(timeline.engine.openLayers, layers, async files => {
      for (const part of cutRange(files, range, settings.compactionTargetSize))
        tasks.push({ range: part.range, lsn, lengths });
    });
  }
  return tasks;
}

/** Make one file of dense images; a range with a damaged layer is left as it is. */
export async function imageDeepRange(timeline: Timeline, task: DeepTask): Promise<readonly LayerDesc[]> {
  const { range, lsn } = task;
  if (isDamaged(timeline, range)) return [];
  await flushAncestors(timeline);
  const sources = sourcesOf(timeline, range, lsn);
  const layers = sources.map(source => source.layer);
  return withOpen(timeline.engine.openLayers, layers, files =>
    writeLayers(timeline, [], async output => {
      await output.begin(identityOf(timeline, range, lsn, false));
      await inOrder(
        cutRange(files, range, PART_BYTES).map(part => () => {
          const lengths = lengthsWithin(task.lengths, part.range);
          return imagePart(timeline, sources, files, part.range, lsn, undefined, lengths);
        }),
        section => output.add(section),
      );
      await output.end();
    }),
  );
}

function lengthsWithin(lengths: DeepTask['lengths'], { start, end }: KeyRange): DeepTask['lengths'] {
  const from = lowerBound(lengths, start.rel);
  return lengths.slice(from, lowerBound(lengths, end.rel + 1));
}

function lowerBound(lengths: DeepTask['lengths'], rel: number): number {
  let low = 0;
  let high = lengths.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lengths[middle]![0] < rel) low = middle + 1;
    else high = middle;
  }
  return low;
}

const isDamaged = (timeline: Timeline, range: KeyRange): boolean =>
  timeline.damaged.size > 0 &&
  timeline.state.layers.overlapping(range).some(layer => timeline.damaged.has(layer.desc.name));

function inheritedBytes(timeline: Timeline, range: KeyRange): number {
  const { ancestor, ancestorLsn } = timeline;
  if (ancestor === undefined) return 0;
  return sourcesOf(ancestor, range, ancestorLsn).reduce((sum, { layer }) => sum + layer.desc.bytes, 0);
}

/** How long each fork was at an LSN (directory.ts). */
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

// ---- both ---------------------------------------------------------------------------------------------------

const identityOf = (timeline: Timeline, keys: KeyRange, lsn: number, sparse: boolean): LayerIdentity => ({
  kind: 'image',
  sparse,
  keys,
  lsnStart: lsn,
  lsnEnd: lsn + 1,
  generation: timeline.storeOrThrow().generation,
});

/** The images of a range, or of some keys of it. */
async function imagePart(
  timeline: Timeline,
  sources: readonly SourceLayer[],
  files: readonly LayerFile[],
  range: KeyRange,
  lsn: number,
  keys: Float64Array | undefined,
  lengths: readonly (readonly [number, number])[],
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
    headers.push({ ...run.header, isImage: layer.desc.kind === 'image', lsnEnd, dense: dense ?? null });
  }
  const { major, flavour } = timeline.redo.dialect;
  const sparse = keys !== undefined;
  const header: ImageHeader = { range, lsn, major, flavour, runs: headers, sparse, lengths };
  return runJob(timeline, 'image', header, runs, keys ? [keys] : []);
}

/** What an image needs of an ancestor must be in layers: memory is not handed to jobs. */
async function flushAncestors(timeline: Timeline): Promise<void> {
  for (let at = timeline; at.ancestor !== undefined; at = at.ancestor) {
    if (at.ancestor.diskConsistentLsn < at.ancestorLsn) await at.ancestor.freezeAndFlush();
  }
}
