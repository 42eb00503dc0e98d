// A timeline's status as the HTTP API tells it, and the longer dump for people who look for trouble.
//
// Answers to TimelineStatus of libs/safekeeper_api/src/models.rs and to safekeeper/src/debug_dump.rs.

import { formatLsn } from '../base/lsn.ts';
import type { PageserverFeedback } from '../protocol/feedback.ts';
import { lsnTexts, membershipToJson } from '../protocol/http-safekeeper.ts';
import { pgTimeToUnixMs } from '../protocol/replication.ts';
import { controlToJson } from './control-json.ts';
import { active } from './metrics.ts';
import type { Peers } from './peers.ts';
import type { StreamRegistry, WalStreamInfo } from './stream-registry.ts';
import type { Timeline } from './timeline.ts';
import type { PeerInfo, ReaderState, TimelineKey } from './timeline-handle.ts';

export interface StatusDeps {
  readonly peers: Peers;
  readonly streams: StreamRegistry;
}

export const keyJson = (key: TimelineKey): unknown => ({
  tenant_id: key.tenantId,
  timeline_id: key.timelineId,
});

export function statusJson(timeline: Timeline, { peers, streams }: StatusDeps): Record<string, unknown> {
  const { control, memory, flushLsn, lastLogTerm } = timeline.status();
  return {
    ...(keyJson(timeline.key) as object),
    mconf: membershipToJson(control.membership),
    acceptor_state: {
      term: control.term,
      epoch: lastLogTerm,
      term_history: control.termHistory.map(({ term, lsn }) => ({ term, lsn: formatLsn(lsn) })),
    },
    pg_info: {
      pg_version: control.server.pgVersion,
      system_id: control.server.systemId,
      wal_seg_size: control.server.walSegSize,
    },
    ...lsnTexts({
      flush_lsn: flushLsn,
      timeline_start_lsn: control.timelineStartLsn,
      local_start_lsn: control.localStartLsn,
      commit_lsn: memory.commitLsn,
      backup_lsn: memory.backupLsn,
      peer_horizon_lsn: memory.peerHorizonLsn,
      remote_consistent_lsn: memory.remoteConsistentLsn,
    }),
    peers: peers.alive(timeline.key).map(peerJson),
    walsenders: streams.of(timeline).map(s => walSenderJson(timeline.key, s)),
    walreceivers: walReceivers(timeline),
  };
}

const walReceivers = (timeline: Timeline): unknown[] =>
  timeline
    .proposers()
    .map(p => ({ conn_id: p.id, status: p.status === 'streaming' ? 'Streaming' : 'Voting' }));

const peerJson = (p: PeerInfo): unknown => ({
  sk_id: p.nodeId,
  term: p.term,
  last_log_term: p.lastLogTerm,
  ...lsnTexts({ flush_lsn: p.flushLsn, commit_lsn: p.commitLsn, local_start_lsn: p.localStartLsn }),
  pg_connstr: p.pgAddress,
  http_connstr: p.httpAddress,
  https_connstr: p.httpsAddress ?? null,
});

function walSenderJson(key: TimelineKey, s: WalStreamInfo): unknown {
  const common = {
    ttid: keyJson(key),
    addr: s.address,
    conn_id: s.connectionId,
    appname: s.applicationName || null,
    feedback: feedbackJson(s.reader.state()),
  };
  if (!s.shard) return { Vanilla: common };
  const { number, count, stripeSize } = s.shard;
  return { Interpreted: { ...common, shard: { number, count, stripe_size: stripeSize } } };
}

function feedbackJson({ kind, pageserver, standbyReply, hotStandby }: ReaderState): unknown {
  if (kind !== 'standby') return { Pageserver: pageserverJson(pageserver) };
  return {
    Standby: {
      reply: {
        ...lsnTexts({
          write_lsn: standbyReply?.writeLsn ?? 0,
          flush_lsn: standbyReply?.flushLsn ?? 0,
          apply_lsn: standbyReply?.applyLsn ?? 0,
        }),
        reply_ts: standbyReply?.replyTime ?? 0n,
        reply_requested: standbyReply?.replyRequested ?? false,
      },
      hs_feedback: {
        ts: hotStandby?.ts ?? 0n,
        xmin: hotStandby?.xmin ?? 0n,
        catalog_xmin: hotStandby?.catalogXmin ?? 0n,
      },
    },
  };
}

const pageserverJson = (f: PageserverFeedback | undefined): unknown => ({
  current_timeline_size: f?.currentTimelineSize ?? 0n,
  ...lsnTexts({
    last_received_lsn: f?.lastReceivedLsn ?? 0,
    disk_consistent_lsn: f?.diskConsistentLsn ?? 0,
    remote_consistent_lsn: f?.remoteConsistentLsn ?? 0,
  }),
  replytime: new Date(pgTimeToUnixMs(f?.replyTime ?? 0n)).toISOString(),
  shard_number: f?.shardNumber ?? 0,
  corruption_detected: f?.corruptionDetected ?? false,
});

export interface DumpOptions {
  readonly controlFile: boolean;
  readonly memory: boolean;
  readonly diskContent: boolean;
  readonly termHistory: boolean;
}

export function dumpJson(
  timeline: Timeline,
  options: DumpOptions,
  deps: StatusDeps,
): Record<string, unknown> {
  return {
    ...(keyJson(timeline.key) as object),
    control_file: options.controlFile
      ? controlToJson(timeline.status().control, { termHistory: options.termHistory })
      : null,
    memory: options.memory ? memoryJson(timeline, deps) : null,
    disk_content: options.diskContent ? diskJson(timeline) : null,
    wal_last_modified: null,
  };
}

function memoryJson(timeline: Timeline, { peers, streams }: StatusDeps): unknown {
  const status = timeline.status();
  const { memory } = status;
  return {
    is_cancelled: timeline.signal.aborted,
    is_poisoned: status.poisoned,
    peers_info_len: peers.alive(timeline.key).length,
    walsenders: streams.of(timeline).map(s => walSenderJson(timeline.key, s)),
    active: active(timeline),
    num_computes: timeline.proposers().length,
    mem_state: lsnTexts({
      commit_lsn: memory.commitLsn,
      backup_lsn: memory.backupLsn,
      peer_horizon_lsn: memory.peerHorizonLsn,
      remote_consistent_lsn: memory.remoteConsistentLsn,
    }),
    mgr_status: status.offloaded ? 'Offloaded' : 'Idle',
    ...lsnTexts({
      epoch_start_lsn: status.termStartLsn,
      oldest_lsn: status.oldestLsn,
      write_lsn: status.writeLsn,
      write_record_lsn: status.writeLsn,
      flush_lsn: status.flushLsn,
    }),
  };
}

const diskJson = (timeline: Timeline): unknown => ({
  files: timeline.segments().map(({ segno, origin, length }) => ({
    segno,
    start_zeroes: origin,
    size: length - origin,
  })),
});
