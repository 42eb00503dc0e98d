// What the pageserver's sockets count: page requests, base backups, WAL received. Names are Neon's where there are
// any (pageserver/src/metrics.rs), so that dashboards find them.

import type { Cell, Counter, Gauge, Histogram, HistogramCell, Metrics } from '../base/metrics.ts';
import type { PagestreamRequest } from '../protocol/pagestream.ts';

const QUERY_TYPE: Readonly<Record<PagestreamRequest['kind'], string>> = {
  exists: 'get_rel_exists',
  nblocks: 'get_rel_size',
  'get-page': 'get_page_at_lsn',
  'db-size': 'get_db_size',
  'get-slru-segment': 'get_slru_segment',
};

const BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64];

export class ServiceMetrics {
  private readonly queries: Readonly<Record<PagestreamRequest['kind'], HistogramCell>>;
  readonly batchSize: HistogramCell;
  readonly pageErrors: Counter;
  readonly misrouted: Cell;
  readonly waitLsn: HistogramCell;
  readonly basebackup: Histogram;
  readonly commands: Counter;
  readonly liveConnections: Gauge;
  readonly connectionsStarted: Counter;
  readonly connectionsFinished: Counter;
  readonly walreceivers: Cell;
  readonly walreceiverSwitches: Counter;
  readonly brokerUpdates: Cell;
  readonly walBytesReceived: Cell;
  readonly walRecordsIngested: Cell;

  constructor(metrics: Metrics) {
    const queries = metrics.histogram('pageserver_smgr_query_seconds', 'Time to answer a page request', [
      'smgr_query_type',
    ]);
    this.queries = Object.fromEntries(
      Object.entries(QUERY_TYPE).map(([kind, label]) => [kind, queries.with(label)]),
    ) as Record<PagestreamRequest['kind'], HistogramCell>;
    // Neon has it by timeline and over all; here it is over all, under both names.
    const global = metrics.histogram('pageserver_smgr_query_seconds_global', 'The same, by its other name', [
      'smgr_query_type',
    ]);
    for (const [label, child] of queries.children) global.children.set(label, child);
    this.batchSize = metrics
      .histogram('pageserver_page_service_batch_size', 'Pages answered in one batch', [], BATCH_SIZES)
      .with();
    this.pageErrors = metrics.counter(
      'pageserver_page_request_errors_total',
      'Page requests answered with an error',
      ['code'],
    );
    this.misrouted = metrics
      .counter('pageserver_misrouted_pagestream_requests_total', 'Requests for a shard that is not here')
      .with();
    this.waitLsn = metrics
      .histogram('pageserver_wait_lsn_seconds', 'Time that requests waited for WAL to arrive')
      .with();
    this.basebackup = metrics.histogram('pageserver_basebackup_query_seconds', 'Time to send a base backup', [
      'result',
    ]);
    this.commands = metrics.counter('pageserver_compute_commands', 'Commands of computes', ['command']);
    this.liveConnections = metrics.gauge('pageserver_live_connections', 'Connections now', [
      'pageserver_connection_kind',
    ]);
    this.connectionsStarted = metrics.counter('pageserver_live_connections_started', 'Connections taken', [
      'pageserver_connection_kind',
    ]);
    this.connectionsFinished = metrics.counter('pageserver_live_connections_finished', 'Connections ended', [
      'pageserver_connection_kind',
    ]);
    this.walreceivers = metrics
      .gauge('pageserver_walreceiver_connections', 'Connections to safekeepers now')
      .with();
    this.walreceiverSwitches = metrics.counter(
      'pageserver_walreceiver_switches_total',
      'New safekeepers chosen, by reason',
      ['reason'],
    );
    this.brokerUpdates = metrics
      .counter('pageserver_walreceiver_broker_updates_total', 'What the broker told of safekeepers')
      .with();
    this.walBytesReceived = metrics
      .counter('pageserver_wal_ingest_bytes_received', 'Bytes of WAL received from safekeepers')
      .with();
    this.walRecordsIngested = metrics
      .counter('pageserver_wal_ingest_records_committed', 'Records of WAL taken in')
      .with();
  }

  query(kind: PagestreamRequest['kind']): HistogramCell {
    return this.queries[kind];
  }
}
