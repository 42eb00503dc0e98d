// Jobs of one operation, a few under way at a time, and what they write: shared by merging and imaging.

import { giveBack } from '../../base/bytes.ts';
import { unpackSection } from '../jobs/merge.ts';
import { Parcel } from '../jobs/parcel.ts';
import type { JobName } from '../jobs.ts';
import type { KeyRange } from '../key.ts';
import type { LayerDesc } from '../layers/layer.ts';
import type { Section } from '../layers/layer-builder.ts';
import type { Layer } from '../layers/open-layers.ts';
import type { GatheredRun, Part } from './gather.ts';
import { LayerOutput } from './layer-output.ts';
import type { Timeline } from './timeline.ts';

/** Stored bytes that one job takes in: copied in one go, they hold the event loop for a quarter of a millisecond. */
export const PART_BYTES = 1024 * 1024;
/** Jobs of one operation under way at a time. */
const JOBS_AHEAD = 3;

/** Runs of blocks, which are handed over for good, and what else the job is to have. */
export async function runJob(
  timeline: Timeline,
  job: JobName,
  header: unknown,
  runs: readonly GatheredRun[],
  more: readonly ArrayBufferView[] = [],
): Promise<Section> {
  const parcel = Parcel.of(header, [...runs.map(run => run.bytes), ...more]);
  for (const { bytes } of runs) giveBack(bytes);
  return unpackSection(await timeline.engine.pool.run(job, parcel));
}

/** Start a few at a time, take their results in order. */
export async function inOrder<T>(
  starts: readonly (() => Promise<T>)[],
  take: (result: T) => Promise<void>,
): Promise<void> {
  const underWay: Promise<T>[] = [];
  let next = 0;
  try {
    for (let i = 0; i < starts.length; i++) {
      while (next < starts.length && next < i + JOBS_AHEAD) {
        const ahead = starts[next++]!();
        // It may fail before its turn to be waited for.
        ahead.catch(() => undefined);
        underWay.push(ahead);
      }
      await take(await underWay.shift()!);
    }
  } finally {
    await Promise.allSettled(underWay);
  }
}

/** Run `work`, and put what it wrote in the place of `replaced`; if it fails, nothing of it stays. */
export async function writeLayers(
  timeline: Timeline,
  replaced: readonly Layer[],
  work: (output: LayerOutput) => Promise<void>,
): Promise<readonly LayerDesc[]> {
  const output = new LayerOutput(timeline.engine, timeline.storeOrThrow());
  const layers: Layer[] = [];
  try {
    await work(output);
    const written = output.finish();
    for (const desc of written) layers.push(await timeline.writtenLayer(desc));
    timeline.replaceLayers(layers, replaced);
    return written;
  } catch (error) {
    for (const layer of layers) timeline.engine.openLayers.retire(layer);
    await output.abandon();
    throw error;
  }
}

/** From the start of the first part to the end of the last. */
export const spanOf = (parts: readonly Part[]): KeyRange => ({
  start: parts[0]!.range.start,
  end: parts[parts.length - 1]!.range.end,
});
