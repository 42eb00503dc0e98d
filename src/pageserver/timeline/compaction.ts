// Level 0 merged into level 1 (plan/compact.ts says which layers). Bytes are worked on in the pool; this thread reads,
// writes, and swaps the state once everything is durable.
//
//   L0 L0 L0 ... --merge--> L1 | L1 | L1       one swap: the new in, the old out

import type { MergeHeader } from '../jobs/merge.ts';
import { ALL_KEYS, type KeyRange, packKey, unpackKey } from '../key.ts';
import type { LayerDesc } from '../layers/layer.ts';
import type { Section } from '../layers/layer-builder.ts';
import type { LayerFile } from '../layers/layer-file.ts';
import { cutFiles, planCompaction } from '../plan/compact.ts';
import { cutRange, type GatheredRun, gatherRange, withOpen } from './gather.ts';
import { inOrder, PART_BYTES, runJob, spanOf, writeLayers } from './job-runner.ts';
import type { Timeline } from './timeline.ts';

/** Level 0 is not compressed, level 1 is: its bytes in those of level 0, as long as nothing is known of them. */
const PACKS_TO_FIRST = 0.4;
/** A stretch that was dropped as garbage says little of the next. */
const PACKS_TO_LEAST = 0.1;

export interface CompactionResult {
  readonly merged: number;
  readonly written: readonly LayerDesc[];
}

/** Level 0 into level 1, if there is enough of it (or any, when forced). */
export async function compactLevel0(timeline: Timeline, force: boolean): Promise<CompactionResult> {
  const { engine, state, settings } = timeline;
  const l0 = state.layers.l0.map(layer => layer.desc);
  const limits = {
    threshold: force ? 1 : settings.compactionThreshold,
    upperLimit: settings.compactionUpperLimit,
  };
  const plan = planCompaction(l0, limits, desc => timeline.damaged.has(desc.name));
  if (plan === undefined) return { merged: 0, written: [] };
  const { lsnStart, lsnEnd } = plan;
  const { generation } = timeline.storeOrThrow();
  const layers = plan.layers.map(desc => state.layers.get(desc.name)!);
  const written = await withOpen(engine.openLayers, layers, files =>
    writeLayers(timeline, layers, async output => {
      const parts = cutRange(files, fromFirstKey(files), PART_BYTES);
      let packsTo = PACKS_TO_FIRST;
      for (let from = 0; from < parts.length; ) {
        const sizes = parts.slice(from).map(part => part.bytes);
        const own = parts.slice(from, from + cutFiles(sizes, settings.compactionTargetSize / packsTo)[0]!.to);
        const keys = spanOf(own);
        await output.begin({ kind: 'delta', sparse: false, keys, lsnStart, lsnEnd, generation });
        await inOrder(
          own.map(part => () => mergePart(timeline, files, part.range)),
          section => output.add(section),
        );
        const bytes = await output.end();
        const taken = own.reduce((sum, part) => sum + part.bytes, 0);
        packsTo = Math.min(1, Math.max(PACKS_TO_LEAST, bytes / taken));
        from += own.length;
      }
    }),
  );
  return { merged: layers.length, written };
}

/** Level 1 never claims all keys: that is how level 0 is told (layer-name.ts). */
function fromFirstKey(files: readonly LayerFile[]): KeyRange {
  let first = Infinity;
  for (const { index } of files) {
    if (index.count > 0) first = Math.min(first, packKey(index.rel[0]!, index.blk[0]!));
  }
  return { start: unpackKey(first), end: ALL_KEYS.end };
}

async function mergePart(timeline: Timeline, files: readonly LayerFile[], range: KeyRange): Promise<Section> {
  const { gcCutoffLsn, retained } = timeline.state;
  const runs: GatheredRun[] = [];
  for (const file of files) runs.push(await gatherRange(file, range));
  const header: MergeHeader = {
    range,
    runs: runs.map(run => run.header),
    readable: { cutoff: gcCutoffLsn, points: retained.filter(point => point < gcCutoffLsn) },
  };
  return runJob(timeline, 'merge', header, runs);
}
