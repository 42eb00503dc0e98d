// Routes for whoever looks into a timeline, and repairs or prepares one by hand: how many layers a read has to look at,
// range by range; what its index says, changed; files put into it as if a compute had.
//
// None of them can break a promise: history is only ever cut short, an LSN is only ever added where no log comes from.
//
// Answers to timeline_patch_index_part_handler, ingest_aux_files and perf_info of pageserver/src/http/routes.rs, and to
// tenant/timeline/analysis.rs.

import { utf8 } from '../../base/bytes.ts';
import { json, type Route, route, StatusError } from '../../base/http.ts';
import { formatLsn } from '../../base/lsn.ts';
import { boolean, lsnSchema, nullable, object, oneOf, optional, record, string } from '../../base/schema.ts';
import { isInside } from '../ingest-effects.ts';
import { formatKey, unpackKey } from '../key.ts';
import { isDense } from '../layers/layer.ts';
import type { LayerMap } from '../layers/layer-map.ts';
import type { TenantTimeline } from '../tenant-timeline.ts';
import { type ApiDeps, activeTimeline, TIMELINE, TIMELINE_PATH } from './access.ts';

const patchBody = object({
  rel_size_migration: optional(nullable(oneOf('legacy', 'migrating', 'migrated'))),
  rel_size_migrated_at: optional(nullable(lsnSchema)),
  gc_compaction_last_completed_lsn: optional(nullable(lsnSchema)),
  applied_gc_cutoff_lsn: optional(nullable(lsnSchema)),
  force_index_update: optional(boolean()),
});

type Patch = ReturnType<(typeof patchBody)['parse']>;

export function repairRoutes(deps: ApiDeps): Route[] {
  return [
    route({
      method: 'POST',
      path: `${TIMELINE_PATH}/patch_index_part`,
      summary: 'Changes what the index of a timeline says: its GC cutoff, which may rise; and writes it.',
      access: 'node',
      params: TIMELINE,
      body: patchBody,
      handle: async ({ params, body }) => {
        const timeline = await activeTimeline(deps, params.tenant_shard_id, params.timeline_id);
        if (patch(timeline, body)) await timeline.remote.waitFor(timeline.writeIndex(), timeline.signal);
        return json(null);
      },
    }),
    route({
      method: 'POST',
      path: `${TIMELINE_PATH}/ingest_aux_files`,
      summary:
        'Puts files into a timeline as a compute does, 8 bytes of LSN later; only while no log comes in.',
      access: 'tenant',
      params: TIMELINE,
      body: object({ aux_files: record(string()) }),
      handle: async ({ params, body }) => {
        const timeline = await activeTimeline(deps, params.tenant_shard_id, params.timeline_id);
        await putFiles(timeline, body.aux_files);
        return json(null);
      },
    }),
    route({
      method: 'POST',
      path: `${TIMELINE_PATH}/perf_info`,
      summary: 'How many layers a read of a key has to look at, by range of keys.',
      access: 'tenant',
      params: TIMELINE,
      handle: async ({ params }) => {
        const { timeline } = await activeTimeline(deps, params.tenant_shard_id, params.timeline_id);
        return json(analyse(timeline.state.layers));
      },
    }),
  ];
}

/** Whether the index is to be written. */
function patch(timeline: TenantTimeline, body: Patch): boolean {
  if ((body.rel_size_migration ?? 'legacy') !== 'legacy' || body.rel_size_migrated_at) {
    throw new StatusError(400, 'this build keeps the sizes of relations in one way: legacy');
  }
  if (body.gc_compaction_last_completed_lsn) {
    throw new StatusError(400, 'this build has no compaction that would go on from there');
  }
  const cutoff = body.applied_gc_cutoff_lsn;
  if (cutoff) {
    const { gcCutoffLsn, diskConsistentLsn } = timeline.timeline.state;
    if (cutoff < gcCutoffLsn) {
      throw new StatusError(400, `history begins at ${formatLsn(gcCutoffLsn)}: what was before is gone`);
    }
    if (cutoff > diskConsistentLsn) {
      throw new StatusError(400, `the timeline is on disk up to ${formatLsn(diskConsistentLsn)}`);
    }
    timeline.timeline.change({ gcCutoffLsn: cutoff });
    timeline.plannedCutoffLsn = Math.max(timeline.plannedCutoffLsn, cutoff);
  }
  return Boolean(cutoff) || body.force_index_update === true;
}

async function putFiles(timeline: TenantTimeline, files: Readonly<Record<string, string>>): Promise<void> {
  if (timeline.receiver?.status().source !== undefined) {
    throw new StatusError(409, 'a safekeeper sends the log of this timeline: files come with it');
  }
  const bad = Object.keys(files).find(path => !isInside(path));
  if (bad !== undefined) throw new StatusError(400, `"${bad}" is no path inside a data directory`);
  const ingest = await timeline.openIngest();
  ingest.putFiles(Object.entries(files).map(([path, text]) => [path, utf8(text)]));
}

/** Sparse images hold some pages of their range alone: they end the search for those, and count for nothing here. */
function analyse(layers: LayerMap): unknown[] {
  const l0 = layers.l0.length;
  return [...layers.stacks()].map(({ start, end, layers: stack }) => {
    const image = stack.findIndex(({ desc }) => isDense(desc));
    const isDelta = ({ desc }: (typeof stack)[number]): boolean => desc.kind === 'delta';
    const above = image < 0 ? stack : stack.slice(0, image);
    const [from, to] = [unpackKey(start), unpackKey(end)];
    return {
      start: formatKey(from.rel, from.blk),
      end: formatKey(to.rel, to.blk),
      has_image: image >= 0,
      num_of_deltas_above_image: l0 + above.filter(isDelta).length,
      total_num_of_deltas: l0 + stack.filter(isDelta).length,
      num_of_l0: l0,
    };
  });
}
