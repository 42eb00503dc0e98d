// What a safekeeper counts, by the names that Neon's dashboards know. Values of a timeline (its LSNs, its term)
// are not counted but read at each scrape, for live timelines only, so a deleted one leaves no series behind.
//
// Answers to safekeeper/src/metrics.rs.

import type { Cell, Emit, HistogramCell, Metrics } from '../base/metrics.ts';
import { BYTES, SECONDS } from '../base/metrics.ts';
import { backupNeeded } from './backup-plan.ts';
import type { DiskMeter } from './driver.ts';
import { isActive } from './removal-plan.ts';
import type { Timeline } from './timeline.ts';
import type { TrafficCells } from './traffic.ts';

/** As Neon labels what was not told. */
export const UNKNOWN = 'unknown';

/** Names of clients that get series of their own; a flood of them must not flood us. */
const APP_NAMES_MAX = 64;

export class SafekeeperMetrics implements DiskMeter {
  readonly registry: Metrics;
  readonly walReceivers: Cell;
  readonly walReaders: Cell;
  readonly removedSegments: Cell;
  readonly backedUpSegments: Cell;
  readonly backupErrors: Cell;
  readonly partialUploads: Cell;
  readonly partialUploadedBytes: Cell;
  readonly brokerPushed: Cell;
  readonly brokerPulled: Cell;
  readonly brokerErrors: Cell;
  readonly feedbacks: Cell;
  readonly pullTimelineOks: Cell;
  readonly pullTimelineErrors: Cell;
  private readonly writeWalBytes: HistogramCell;
  private readonly flushWalSeconds: HistogramCell;
  private readonly persistControlSeconds: HistogramCell;
  private readonly appNames = new Set<string>();
  private readonly messages: ReturnType<Metrics['counter']>;
  private readonly queriesReceived: ReturnType<Metrics['counter']>;
  private readonly queriesFinished: ReturnType<Metrics['counter']>;
  private readonly ioBytes: ReturnType<Metrics['counter']>;

  constructor(m: Metrics) {
    this.registry = m;
    const counter = (name: string, help: string): Cell => m.counter(`safekeeper_${name}`, help).with();
    this.walReceivers = m.gauge('safekeeper_wal_receivers', 'Connected computes, over all timelines.').with();
    this.walReaders = m
      .gauge('safekeeper_wal_readers', 'Connected readers of WAL, over all timelines.')
      .with();
    this.removedSegments = counter(
      'removed_wal_segments_total',
      'Segments removed because nobody needs them.',
    );
    this.backedUpSegments = counter('backed_up_segments_total', 'Whole segments put into the object store.');
    this.backupErrors = counter('backup_errors_total', 'Uploads of segments that failed.');
    this.partialUploads = counter(
      'partial_backup_uploads_total',
      'Incomplete segments put into the object store.',
    );
    this.partialUploadedBytes = counter(
      'partial_backup_uploaded_bytes_total',
      'Bytes of incomplete segments uploaded.',
    );
    this.brokerPushed = counter('broker_pushed_updates_total', 'Timelines told to the broker.');
    this.brokerPulled = counter(
      'broker_pulled_updates_total',
      'Timelines of peers heard of from the broker.',
    );
    this.brokerErrors = counter('broker_errors_total', 'Times that the link to the broker broke.');
    this.feedbacks = counter('received_ps_feedbacks_total', 'Status messages of pageservers.');
    this.pullTimelineOks = counter('recovery_pull_timeline_oks', 'Timelines fetched whole from a peer.');
    this.pullTimelineErrors = counter(
      'recovery_pull_timeline_errors',
      'Fetches of whole timelines that failed.',
    );
    this.messages = m.counter(
      'safekeeper_proposer_acceptor_messages_total',
      'Messages of proposers, by what came of them and by kind.',
      ['outcome', 'kind'],
    );
    this.queriesReceived = m.counter('safekeeper_pg_queries_received_total', 'Commands received.', ['query']);
    this.queriesFinished = m.counter('safekeeper_pg_queries_finished_total', 'Commands finished.', ['query']);
    this.ioBytes = m.counter('safekeeper_pg_io_bytes_total', 'Bytes on Postgres connections.', [
      'client_az',
      'sk_az',
      'app_name',
      'dir',
      'same_az',
    ]);
    this.writeWalBytes = m
      .histogram('safekeeper_write_wal_bytes', 'Bytes of WAL in one append.', [], BYTES)
      .with();
    this.flushWalSeconds = m
      .histogram('safekeeper_flush_wal_seconds', 'One flush: what waited is written and synced.', [], SECONDS)
      .with();
    this.persistControlSeconds = m
      .histogram('safekeeper_persist_control_file_seconds', 'Control files made durable.', [], SECONDS)
      .with();
  }

  message(kind: string, outcome: 'success' | 'error'): void {
    this.messages.with(outcome, kind).inc();
  }

  query(name: string): () => void {
    this.queriesReceived.with(name).inc();
    return () => this.queriesFinished.with(name).inc();
  }

  /** The two counters of one connection: what it sends us, what we send it. */
  io(clientAz: string, ownAz: string, appName: string): TrafficCells {
    const known = this.appNames.has(appName) || this.appNames.size < APP_NAMES_MAX;
    if (known) this.appNames.add(appName);
    const [az, name] = known ? [clientAz, appName] : [UNKNOWN, 'other'];
    const sameAz = az === UNKNOWN || ownAz === UNKNOWN ? UNKNOWN : String(az === ownAz);
    const of = (dir: string): Cell => this.ioBytes.with(az, ownAz, name, dir, sameAz);
    return { read: of('read'), written: of('write') };
  }

  wroteWal(bytes: number): void {
    this.writeWalBytes.observe(bytes);
  }

  flushedWal(seconds: number): void {
    this.flushWalSeconds.observe(seconds);
  }

  persistedControl(seconds: number): void {
    this.persistControlSeconds.observe(seconds);
  }

  /** Values of timelines, read at each scrape. */
  observe(timelines: () => readonly Timeline[]): void {
    const m = this.registry;
    const gauge = (name: string, help: string, value: (t: Timeline) => number): void =>
      m.collected('gauge', `safekeeper_${name}`, help, ['tenant_id', 'timeline_id'], each(timelines, value));
    gauge('commit_lsn', 'Committed by a quorum, as far as is known here.', t => t.commitLsn);
    gauge('flush_lsn', 'Durable here.', t => t.flushLsn);
    gauge('backup_lsn', 'In the object store as whole segments.', t => t.status().memory.backupLsn);
    gauge(
      'epoch_start_lsn',
      'Where the WAL of the last elected compute begins.',
      t => t.status().termStartLsn,
    );
    gauge('peer_horizon_lsn', 'All peers have what is before this.', t => t.status().memory.peerHorizonLsn);
    gauge('remote_consistent_lsn', 'A pageserver has what is before this in the object store.', t => {
      return t.status().memory.remoteConsistentLsn;
    });
    gauge('ps_last_received_lsn', 'What the most advanced pageserver has received.', t => lastReceived(t));
    gauge('feedback_last_time_seconds', 'When a pageserver told of itself last.', t => lastFeedback(t));
    gauge('ps_feedback_count_total', 'Status messages of pageservers.', t => t.tally.feedbacks);
    gauge('written_wal_bytes_total', 'Bytes of WAL taken in.', t => t.tally.writtenBytes);
    gauge(
      'written_wal_seconds_total',
      'Time spent examining WAL and handing it to the log.',
      t => t.tally.writtenSeconds,
    );
    gauge('flushed_wal_seconds_total', 'Time spent writing and syncing WAL.', t => t.tally.flushedSeconds);
    gauge('wal_backup_active', '1 while somebody must be uploading this timeline.', t =>
      needsBackup(t) ? 1 : 0,
    );
    gauge('timeline_active', '1 while others must hear of this timeline.', t => (active(t) ? 1 : 0));
    gauge('connected_computes', 'Connected computes.', t => t.proposers().length);
    gauge('acceptor_term', 'The highest term seen.', t => t.term);
    gauge('disk_usage_bytes', 'Bytes of WAL kept locally.', t =>
      t.segments().reduce((sum, s) => sum + s.length - s.origin, 0),
    );
    const count = (name: string, help: string, value: () => number): void =>
      m.collected('gauge', `safekeeper_${name}`, help, [], emit => emit([], value()));
    count('timelines', 'Timelines here.', () => timelines().length);
    count('active_timelines', 'Timelines that others must hear of.', () => timelines().filter(active).length);
    count('evicted_timelines', 'Timelines whose WAL is in the object store alone.', () => {
      return timelines().filter(t => t.offloaded).length;
    });
  }
}

const each =
  (timelines: () => readonly Timeline[], value: (t: Timeline) => number) =>
  (emit: Emit): void => {
    for (const t of timelines()) emit([t.key.tenantId, t.key.timelineId], value(t));
  };

export function active(t: Timeline): boolean {
  const { memory, control } = t.status();
  return isActive(memory, t.proposers().length, control.server.walSegSize);
}

function needsBackup(t: Timeline): boolean {
  const { memory, control } = t.status();
  return backupNeeded(t.proposers().length, memory.commitLsn, memory.backupLsn, control.server.walSegSize);
}

const lastReceived = (t: Timeline): number =>
  t.readers().reduce((most, r) => Math.max(most, r.pageserver?.lastReceivedLsn ?? 0), 0);

const PG_EPOCH_S = 946_684_800;

const lastFeedback = (t: Timeline): number =>
  t.readers().reduce((most, r) => {
    const time = r.pageserver ? Number(r.pageserver.replyTime) / 1e6 + PG_EPOCH_S : 0;
    return Math.max(most, time);
  }, 0);
