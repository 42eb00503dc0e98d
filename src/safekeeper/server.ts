// A safekeeper put together: its timelines, its ports, and what it does beside serving (broker, backup, recovery,
// upkeep). It is handed the real world, or another one, by whoever starts it.

import { formatAddress } from '../base/flags.ts';
import type { GrpcChannel } from '../base/grpc.ts';
import type { HttpApi } from '../base/http.ts';
import { Metrics } from '../base/metrics.ts';
import type { Blobs, Clock, Disk, Http, Listener, Log, Net, Random, Traces } from '../base/ports.ts';
import type { TokenVerifier } from '../protocol/jwt.ts';
import type { SealScope, Vault } from '../seal/vault.ts';
import { Backup } from './backup.ts';
import { BrokerClient } from './broker-client.ts';
import { safekeeperApi } from './http-api.ts';
import { SafekeeperMetrics } from './metrics.ts';
import { Peers } from './peers.ts';
import { listenPg } from './pg-port.ts';
import type { PgSessionDeps } from './pg-session.ts';
import { Recovery } from './recovery.ts';
import type { SafekeeperSettings } from './settings.ts';
import { StreamRegistry } from './stream-registry.ts';
import type { TimelineKey } from './timeline-handle.ts';
import { Timelines } from './timelines.ts';
import { WalRemote } from './wal-remote.ts';

const UPKEEP_MS = 1000;

export interface SafekeeperWorld {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly disk: Disk;
  readonly blobs: Blobs | undefined;
  vault(directory: string, scope: SealScope): Vault;
  /** For the Postgres ports and for connections to peers. */
  readonly net: Net;
  readonly http: Http;
  broker(endpoint: string): GrpcChannel;
  /** Serves management calls on the plain and the TLS address, where there is one. */
  serveHttp(api: HttpApi): Promise<readonly Listener[]>;
  readonly metrics?: Metrics;
  readonly traces?: Traces | undefined;
}

export interface SafekeeperTokens {
  readonly pg: TokenVerifier | undefined;
  readonly pgTenantOnly: TokenVerifier | undefined;
  readonly http: TokenVerifier | undefined;
  /** Shown to peers and to the broker. */
  readonly own: string | undefined;
}

export interface Safekeeper {
  readonly pgPort: Listener;
  readonly timelines: Timelines;
  close(): Promise<void>;
}

export async function startSafekeeper(
  nodeId: number,
  version: string,
  settings: SafekeeperSettings,
  tokens: SafekeeperTokens,
  world: SafekeeperWorld,
): Promise<Safekeeper> {
  const { clock, random, log, disk, net, http } = world;
  const metrics = new SafekeeperMetrics(world.metrics ?? new Metrics());
  const vaultOf = (key: TimelineKey): Vault =>
    world.vault(`${key.tenantId}/${key.timelineId}`, { tenant: key.tenantId, timeline: key.timelineId });
  const remote = world.blobs && settings.walBackup ? new WalRemote(world.blobs, vaultOf) : undefined;
  const timelines = await Timelines.load({
    nodeId,
    clock,
    random,
    log,
    disk,
    vault: world.vault,
    ...(remote ? { archive: (key, walSegSize) => remote.archive(key, walSegSize) } : {}),
    settings: { controlFileSaveIntervalMs: settings.controlFileSaveIntervalMs },
    meter: metrics,
  });
  metrics.observe(() => timelines.all());
  const peers = new Peers(clock, settings.heartbeatTimeoutMs);
  const streams = new StreamRegistry();
  const backup = new Backup({
    nodeId,
    clock,
    log,
    metrics,
    peers,
    remote,
    settings: backupSettings(settings),
  });
  const api = safekeeperApi({
    nodeId,
    version,
    log,
    now: () => clock.now(),
    disk,
    http,
    timelines,
    metrics,
    peers,
    streams,
    backup,
    remote,
    tokens: tokens.http,
    peerToken: tokens.own,
    config: configOf(nodeId, settings, remote !== undefined),
  });
  const { availabilityZone } = settings;
  const { traces } = world;
  const session = { clock, log, timelines, metrics, streams, availabilityZone, traces };
  const { pgPort, listeners } = await listen(settings, tokens, world, session);
  listeners.push(...(await world.serveHttp(api)));
  const broker = new BrokerClient({
    channel: world.broker(settings.brokerEndpoint),
    clock,
    log,
    metrics,
    timelines,
    peers,
    advertised: {
      nodeId,
      pgAddress: settings.advertisePg,
      httpAddress: formatAddress(settings.listenHttp),
      httpsAddress: settings.advertiseHttps ?? (settings.listenHttps && formatAddress(settings.listenHttps)),
      availabilityZone,
    },
    push: settings.brokerPush,
    token: tokens.own,
  });
  broker.start();
  const recovery = settings.peerRecovery
    ? new Recovery({ nodeId, clock, random, log, net, http, peers, token: tokens.own, tls: settings.tlsPg })
    : undefined;
  const stop = new AbortController();
  void upkeep({ timelines, backup, recovery, clock, log }, stop.signal);
  return {
    pgPort,
    timelines,
    async close() {
      stop.abort(new Error('the safekeeper is closing'));
      broker.close();
      await Promise.all(listeners.map(l => l.close()));
      await timelines.close();
    },
  };
}

async function listen(
  settings: SafekeeperSettings,
  tokens: SafekeeperTokens,
  { net }: SafekeeperWorld,
  session: Omit<PgSessionDeps, 'tokens' | 'tenantOnly'>,
): Promise<{ pgPort: Listener; listeners: Listener[] }> {
  let connections = 0;
  const nextConnectionId = (): number => ++connections;
  const at = (address: { host: string; port: number }): Parameters<typeof listenPg>[0] => ({
    net,
    ...address,
    tls: settings.tlsPg,
    nextConnectionId,
  });
  const pgPort = await listenPg(at(settings.listenPg), { ...session, tokens: tokens.pg, tenantOnly: false });
  const listeners = [pgPort];
  if (settings.listenPgTenantOnly) {
    const deps = { ...session, tokens: tokens.pgTenantOnly, tenantOnly: true };
    listeners.push(await listenPg(at(settings.listenPgTenantOnly), deps));
  }
  return { pgPort, listeners };
}

const backupSettings = (s: SafekeeperSettings): ConstructorParameters<typeof Backup>[0]['settings'] => ({
  maxOffloaderLagBytes: s.maxOffloaderLagBytes,
  parallelJobs: s.walBackupParallelJobs,
  partialTimeoutMs: s.partialBackupTimeoutMs,
  partialConcurrency: s.partialBackupConcurrency,
  evict: s.evict,
  evictMinResidentMs: s.evictionMinResidentMs,
  keepForReaders: s.keepForReaders,
});

const configOf = (id: number, s: SafekeeperSettings, backup: boolean): Record<string, unknown> => ({
  id,
  workdir: s.dataDir,
  listen_pg_addr: formatAddress(s.listenPg),
  listen_http_addr: formatAddress(s.listenHttp),
  no_sync: !s.sync,
  max_offloader_lag_bytes: s.maxOffloaderLagBytes,
  wal_backup_enabled: backup,
});

interface Upkeep {
  readonly timelines: Timelines;
  readonly backup: Backup;
  readonly recovery: Recovery | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** Once a second, for as long as the safekeeper lives. */
async function upkeep(
  { timelines, backup, recovery, clock, log }: Upkeep,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      const all = timelines.all();
      backup.tick(all);
      recovery?.tick(all);
      await timelines.tick();
    } catch (error) {
      log.error('upkeep failed', { error });
    }
    await clock.sleep(UPKEEP_MS, signal).catch(() => {});
  }
}
