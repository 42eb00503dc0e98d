// The control record as JSON, by Neon's names: for debug dumps, for `--dump-control-file`, and for the PATCH call, which
// changes it by these names.
//
// Answers to the serde form of TimelinePersistentState and to safekeeper/src/patch_control_file.rs.

import { Fault } from '../base/fault.ts';
import { formatLsn } from '../base/lsn.ts';
import type { Infer } from '../base/schema.ts';
import { membershipToJson, type patchControlSchema } from '../protocol/http-safekeeper.ts';
import type { ControlState, PartialSegment } from './control-state.ts';

const STATUS_NAMES = { 'in-progress': 'InProgress', uploaded: 'Uploaded', deleting: 'Deleting' } as const;

const partialJson = (s: PartialSegment): unknown => ({
  status: STATUS_NAMES[s.status],
  name: s.name,
  commit_lsn: formatLsn(s.commitLsn),
  flush_lsn: formatLsn(s.flushLsn),
  term: s.term,
});

export function controlToJson(
  c: ControlState,
  options: { termHistory?: boolean } = {},
): Record<string, unknown> {
  const history = options.termHistory === false ? [] : c.termHistory;
  return {
    tenant_id: c.tenantId,
    timeline_id: c.timelineId,
    mconf: membershipToJson(c.membership),
    acceptor_state: {
      term: c.term,
      term_history: history.map(({ term, lsn }) => ({ term, lsn: formatLsn(lsn) })),
    },
    server: {
      pg_version: c.server.pgVersion,
      system_id: c.server.systemId,
      wal_seg_size: c.server.walSegSize,
    },
    proposer_uuid: c.proposerUuid,
    timeline_start_lsn: formatLsn(c.timelineStartLsn),
    local_start_lsn: formatLsn(c.localStartLsn),
    commit_lsn: formatLsn(c.commitLsn),
    backup_lsn: formatLsn(c.backupLsn),
    peer_horizon_lsn: formatLsn(c.peerHorizonLsn),
    remote_consistent_lsn: formatLsn(c.remoteConsistentLsn),
    partial_backup: { segments: c.partialSegments.map(partialJson) },
    eviction_state: c.eviction.kind === 'present' ? 'Present' : { Offloaded: formatLsn(c.eviction.flushLsn) },
    creation_ts: new Date(c.createdMs).toISOString(),
  };
}

type Patch = Infer<typeof patchControlSchema>;

const FIELD = {
  timeline_start_lsn: 'timelineStartLsn',
  local_start_lsn: 'localStartLsn',
  commit_lsn: 'commitLsn',
  backup_lsn: 'backupLsn',
  peer_horizon_lsn: 'peerHorizonLsn',
  remote_consistent_lsn: 'remoteConsistentLsn',
  proposer_uuid: 'proposerUuid',
} as const satisfies Record<string, keyof ControlState>;

/** The record with the named fields changed; nothing but positions and the proposer's name can be. */
export function patchControl(c: ControlState, patch: Patch): ControlState {
  const changed: Record<string, unknown> = {};
  for (const name of patch.apply_fields) {
    const field = FIELD[name as keyof typeof FIELD];
    if (!field) {
      throw new Fault('config-invalid', `the field ${name} of the control record cannot be patched`, {
        hint: `These can: ${Object.keys(FIELD).join(', ')}.`,
      });
    }
    const value = patch.updates[name as keyof typeof FIELD];
    if (value === undefined) throw new Fault('config-invalid', `updates has no ${name}`);
    changed[field] = value;
  }
  return { ...c, ...changed };
}
