// The JSON of a safekeeper's HTTP API, both ways: what is asked (with validation) and what is answered. LSNs are
// text, ids are hex, terms and node ids are numbers, a system identifier is a whole u64.
//
// Answers to libs/safekeeper_api/src/models.rs and membership.rs.

import { formatLsn } from '../base/lsn.ts';
import {
  array,
  type Infer,
  integer,
  lsnSchema,
  nullable,
  object,
  optional,
  type Schema,
  string,
  tenantIdSchema,
  timelineIdSchema,
  u16,
  u32,
  u64,
} from '../base/schema.ts';
import type { MembershipConfiguration, SafekeeperId } from './membership.ts';

const memberSchema = object({ id: integer(), host: string(), pg_port: u16() });
const membershipJson = object({
  generation: u32(),
  members: array(memberSchema),
  new_members: optional(nullable(array(memberSchema))),
});

type MemberJson = Infer<typeof memberSchema>;

const memberOf = (m: MemberJson): SafekeeperId => ({ id: m.id, host: m.host, pgPort: m.pg_port });
const memberJson = (m: SafekeeperId): MemberJson => ({ id: m.id, host: m.host, pg_port: m.pgPort });

export const membershipSchema: Schema<MembershipConfiguration> = {
  json: membershipJson.json,
  parse: (value, at) => {
    const m = membershipJson.parse(value, at);
    const joining = m.new_members?.map(memberOf);
    return { generation: m.generation, members: m.members.map(memberOf), newMembers: joining };
  },
};

export const membershipToJson = (m: MembershipConfiguration): unknown => ({
  generation: m.generation,
  members: m.members.map(memberJson),
  new_members: m.newMembers?.map(memberJson) ?? null,
});

const termSchema = integer();

export const createTimelineSchema = object({
  tenant_id: tenantIdSchema,
  timeline_id: timelineIdSchema,
  mconf: membershipSchema,
  pg_version: u32(),
  system_id: optional(nullable(u64())),
  wal_seg_size: optional(nullable(u32())),
  start_lsn: lsnSchema,
  commit_lsn: optional(nullable(lsnSchema)),
});

export const pullTimelineSchema = object({
  tenant_id: tenantIdSchema,
  timeline_id: timelineIdSchema,
  http_hosts: array(string('http://host:port of a peer')),
  mconf: optional(nullable(membershipSchema)),
});

export const copyTimelineSchema = object({ target_timeline_id: timelineIdSchema, until_lsn: lsnSchema });
export const termBumpSchema = object({ term: optional(nullable(termSchema)) });

/** What a peer says of itself, by HTTP (for tests) as by the broker. */
export const recordInfoSchema = object({
  term: optional(nullable(termSchema)),
  last_log_term: optional(nullable(termSchema)),
  flush_lsn: optional(lsnSchema),
  commit_lsn: optional(lsnSchema),
  backup_lsn: optional(lsnSchema),
  remote_consistent_lsn: optional(lsnSchema),
  peer_horizon_lsn: optional(lsnSchema),
  local_start_lsn: optional(lsnSchema),
  safekeeper_connstr: optional(nullable(string())),
  http_connstr: optional(nullable(string())),
  https_connstr: optional(nullable(string())),
  standby_horizon: optional(lsnSchema),
});

/** Fields of the control file that PATCH may change. */
export const patchControlSchema = object({
  updates: object({
    timeline_start_lsn: optional(lsnSchema),
    local_start_lsn: optional(lsnSchema),
    commit_lsn: optional(lsnSchema),
    backup_lsn: optional(lsnSchema),
    peer_horizon_lsn: optional(lsnSchema),
    remote_consistent_lsn: optional(lsnSchema),
    proposer_uuid: optional(string()),
  }),
  apply_fields: array(string()),
});

const termSwitchSchema = object({ term: termSchema, lsn: lsnSchema });

/** As much of a peer's status as we read of it; more is in it. */
export const timelineStatusSchema = object({
  tenant_id: tenantIdSchema,
  timeline_id: timelineIdSchema,
  mconf: membershipSchema,
  acceptor_state: object({ term: termSchema, epoch: termSchema, term_history: array(termSwitchSchema) }),
  pg_info: object({ pg_version: u32(), system_id: u64(), wal_seg_size: u32() }),
  flush_lsn: lsnSchema,
  timeline_start_lsn: lsnSchema,
  local_start_lsn: lsnSchema,
  commit_lsn: lsnSchema,
  backup_lsn: lsnSchema,
  peer_horizon_lsn: lsnSchema,
  remote_consistent_lsn: lsnSchema,
});
export type PeerStatus = Infer<typeof timelineStatusSchema>;

export const membershipSwitchSchema = object({
  previous_conf: membershipSchema,
  current_conf: membershipSchema,
  last_log_term: termSchema,
  flush_lsn: lsnSchema,
});

/** Every LSN of an object as text. */
export function lsnTexts<K extends string>(lsns: Readonly<Record<K, number>>): Record<K, string> {
  return Object.fromEntries(Object.entries(lsns).map(([k, v]) => [k, formatLsn(v as number)])) as Record<
    K,
    string
  >;
}
