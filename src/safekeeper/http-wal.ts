// A safekeeper's management calls that look into a timeline's WAL or set its state by hand: digests, term bumps,
// checkpoints, patches of the control record, and what a peer would say by the broker (for tests).
//
// Answers to safekeeper/src/http/routes.rs, debug_dump.rs (calculate_digest) and patch_control_file.rs.

import { Fault } from '../base/fault.ts';
import { json, type Route, route } from '../base/http.ts';
import { formatLsn, INVALID_LSN, type Lsn } from '../base/lsn.ts';
import { integer, lsnSchema, object } from '../base/schema.ts';
import { sha256Hex } from '../protocol/digest.ts';
import { patchControlSchema, recordInfoSchema, termBumpSchema } from '../protocol/http-safekeeper.ts';
import { controlToJson, patchControl } from './control-json.ts';
import { type ApiDeps, keyOf, TIMELINE, timelineParams } from './http-common.ts';
import type { Timeline } from './timeline.ts';

const READ_BYTES = 1024 * 1024;

export function walRoutes({ timelines, backup }: ApiDeps): Route[] {
  return [
    route({
      method: 'GET',
      path: `${TIMELINE}/digest`,
      summary: 'SHA-256 of a range of WAL.',
      access: 'tenant',
      params: timelineParams,
      query: { from_lsn: lsnSchema, until_lsn: lsnSchema },
      handle: async ({ params, query }) => {
        const timeline = timelines.get(keyOf(params));
        if (timeline.offloaded) await timeline.restore();
        return json({ sha256: await sha256Hex(walOf(timeline, query.from_lsn, query.until_lsn)) });
      },
    }),
    route({
      method: 'POST',
      path: `${TIMELINE}/backup_partial_reset`,
      summary: 'Remove uploaded partial segments; the names that were there.',
      access: 'tenant',
      params: timelineParams,
      handle: async ({ params }) => json(await backup.resetPartial(timelines.get(keyOf(params)))),
    }),
    route({
      method: 'POST',
      path: `${TIMELINE}/term_bump`,
      summary: 'Raise the term, so that an older compute can write no more.',
      access: 'tenant',
      params: timelineParams,
      body: termBumpSchema,
      answer: object({ previous_term: integer(), current_term: integer() }),
      handle: async ({ params, body }) => {
        const terms = await timelines.get(keyOf(params)).termBump(body.term ?? undefined);
        return json({ previous_term: terms.previous, current_term: terms.current });
      },
    }),
    route({
      method: 'POST',
      path: `${TIMELINE}/checkpoint`,
      summary: 'Force the control file to disk.',
      access: 'node',
      params: timelineParams,
      handle: async ({ params }) => {
        await timelines.get(keyOf(params)).checkpoint();
        return json(null);
      },
    }),
  ];
}

export function repairRoutes({ timelines, log }: ApiDeps): Route[] {
  return [
    route({
      method: 'PATCH',
      path: `${TIMELINE}/control_file`,
      summary: 'Change fields of the control record by hand.',
      access: 'node',
      params: timelineParams,
      body: patchControlSchema,
      handle: async ({ params, body }) => {
        const timeline = timelines.get(keyOf(params));
        const before = timeline.status().control;
        const after = await timeline.changeControl(control => patchControl(control, body));
        log.info('control record changed by hand', {
          timeline: params.timeline_id,
          fields: body.apply_fields.join(),
        });
        return json({ old_control_file: controlToJson(before), new_control_file: controlToJson(after) });
      },
    }),
    route({
      method: 'POST',
      path: '/v1/record_safekeeper_info/:tenant_id/:timeline_id',
      summary: 'What a peer says of itself, as if it came by the broker; for tests.',
      access: 'tenant',
      params: timelineParams,
      body: recordInfoSchema,
      handle: async ({ params, body }) => {
        const lsnOr0 = (lsn: Lsn | undefined): Lsn => lsn ?? INVALID_LSN;
        await timelines.get(keyOf(params)).recordPeer({
          nodeId: 0,
          term: body.term ?? 0,
          lastLogTerm: body.last_log_term ?? 0,
          flushLsn: lsnOr0(body.flush_lsn),
          commitLsn: lsnOr0(body.commit_lsn),
          backupLsn: lsnOr0(body.backup_lsn),
          remoteConsistentLsn: lsnOr0(body.remote_consistent_lsn),
          peerHorizonLsn: lsnOr0(body.peer_horizon_lsn),
          localStartLsn: lsnOr0(body.local_start_lsn),
          pgAddress: body.safekeeper_connstr ?? '',
          httpAddress: body.http_connstr ?? '',
        });
        return json(null);
      },
    }),
  ];
}

async function* walOf(timeline: Timeline, from: Lsn, until: Lsn): AsyncGenerator<Uint8Array> {
  if (from > until || until > timeline.flushLsn) {
    throw new Fault('config-invalid', `there is no WAL from ${formatLsn(from)} to ${formatLsn(until)}`);
  }
  for (let at = from; at < until; ) {
    const piece = await timeline.readWal(at, Math.min(READ_BYTES, until - at));
    if (piece.length === 0)
      throw new Fault('term-changed', `WAL at ${formatLsn(at)} was cut while it was read`);
    yield piece;
    at = (at + piece.length) as Lsn;
  }
}
