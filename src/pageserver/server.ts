// A pageserver put together: its tenants, its ports, and what feeds and follows them (receivers, object store, control
// plane). It is handed the real world, or another one, by whoever starts it.
//
// Order of the start: tenants are found and begin to attach, then the Postgres port, then HTTP, whose first answer
// tells a launcher that we are there. A tenant that is not attached yet makes its clients wait, it is not refused.
//
// Order of the end: no new connections, no more WAL, what is in memory into layers as far as the time allows; what is
// not written then comes again from the safekeepers.

import { Semaphore } from '../base/flow.ts';
import type { GrpcChannel } from '../base/grpc.ts';
import type { HttpApi } from '../base/http.ts';
import type { TenantId } from '../base/ids.ts';
import type { Metrics } from '../base/metrics.ts';
import type {
  Blobs,
  Clock,
  Disk,
  Http,
  Initdb,
  Listener,
  Log,
  Net,
  Pool,
  Random,
  Traces,
} from '../base/ports.ts';
import type { TokenVerifier } from '../protocol/jwt.ts';
import type { SealScope, Vault } from '../seal/vault.ts';
import { AnswerRooms } from './answer-rooms.ts';
import { backupArchive } from './basebackup.ts';
import type { PageserverConfig } from './config.ts';
import { Engine } from './engine.ts';
import { ENGINE_DEFAULTS, type EngineSettings } from './engine-settings.ts';
import { Housekeeping } from './housekeeping.ts';
import type { Profile } from './http/access.ts';
import { pageserverApi } from './http-api.ts';
import type { NodeDeps } from './node.ts';
import { nodeMetrics } from './node-metrics.ts';
import { listenPages } from './page-port.ts';
import type { PageServiceDeps } from './page-service.ts';
import { receivers } from './receivers.ts';
import { DeletionQueue } from './remote/deletion-queue.ts';
import { LastingPuts } from './remote/lasting-puts.ts';
import { newCacheCounters } from './remote/layer-cache.ts';
import type { RemoteDeps } from './remote/remote-timeline.ts';
import { newUploadCounters } from './remote/uploader.ts';
import { Validator } from './remote/validator.ts';
import { ServiceMetrics } from './service-metrics.ts';
import { Tenants } from './tenants.ts';
import { type ControlPlane, standAlone, upcalls } from './upcalls.ts';

/** Layers being downloaded at once. */
const DOWNLOADS_MAX = 32;
/** Bytes of layers being uploaded at once. */
const UPLOAD_BYTES_MAX = 256 * 1024 * 1024;
/** Questions to the control plane are gathered this long; Neon's pageserver asks every 10 s. */
const VALIDATE_GATHER_MS = 1000;
/** The end waits this long for what was received to be in the object store; launchers wait 10 s in all. */
const FLUSH_MS = 5000;
/** A put to S3 that was not answered may still be carried out after this time. A local file is there, or not. */
const SETTLE_MS = 10_000;
/** Deletions wait for such puts, and for who opened a layer just before. */
const DELETIONS_RIPE_MS = 10_000;

export interface PageserverWorld {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The work directory. */
  readonly disk: Disk;
  readonly blobs: Blobs;
  vault(directory: string, scope: SealScope): Vault;
  claimKeys(tenant: TenantId, cmk: string | undefined): Promise<void>;
  releaseKeys(tenant: TenantId): void;
  readonly pool: Pool;
  readonly initdb: Initdb;
  /** For the Postgres port and for connections to safekeepers. */
  readonly net: Net;
  readonly http: Http;
  readonly broker: GrpcChannel;
  /** Serves management calls on the plain and the TLS address, where there is one. */
  serveHttp(api: HttpApi): Promise<readonly Listener[]>;
  readonly metrics: Metrics;
  readonly traces?: Traces | undefined;
  readonly profile?: Profile;
}

export interface PageserverTokens {
  readonly pg: TokenVerifier | undefined;
  readonly http: TokenVerifier | undefined;
  /** Shown to safekeepers and to the broker. */
  readonly own: string | undefined;
  /** Reads the public keys again, now. */
  readonly reload?: () => Promise<void>;
}

export interface Pageserver {
  readonly pgPort: Listener;
  readonly tenants: Tenants;
  close(): Promise<void>;
}

export async function startPageserver(
  config: PageserverConfig,
  version: string,
  tokens: PageserverTokens,
  world: PageserverWorld,
): Promise<Pageserver> {
  const { log, metrics } = world;
  const service = new ServiceMetrics(metrics);
  const controlPlane = controlPlaneOf(config, world);
  const remote = remoteOf(config, world, controlPlane);
  const node = nodeOf(config, tokens, world, controlPlane, remote, service);
  const tenants = new Tenants(node);
  nodeMetrics(metrics, tenants, node);
  await tenants.start();
  const pgPort = await listenPages(
    { net: world.net, ...config.listenPg, tls: config.tlsPageService },
    pageServiceOf(config, tokens, world, tenants, service),
  );
  const api = pageserverApi({
    config,
    version,
    tenants,
    node,
    metrics,
    tokens: tokens.http,
    ...(tokens.reload ? { reloadKeys: tokens.reload } : {}),
    ...(world.profile ? { profile: world.profile } : {}),
  });
  const listeners = [pgPort, ...(await world.serveHttp(api))];
  const housekeeping = new Housekeeping(tenants, { eviction: config.eviction });
  housekeeping.start();
  return {
    pgPort,
    tenants,
    async close() {
      await pgPort.close();
      await housekeeping.stop();
      await tenants.close(FLUSH_MS);
      await Promise.all(listeners.map(l => l.close()));
      world.broker.close();
      log.info('the pageserver has ended');
    },
  };
}

function controlPlaneOf(
  config: PageserverConfig,
  { http, clock, random, log }: PageserverWorld,
): ControlPlane {
  if (config.controlPlaneApi === undefined) return standAlone;
  return upcalls({
    http,
    clock,
    random,
    log,
    url: config.controlPlaneApi,
    token: config.controlPlaneToken,
    nodeId: config.id,
    metadata: config.metadata,
    availabilityZone: config.availabilityZone,
    emergencyMode: config.emergencyMode,
  });
}

function remoteOf(
  { remoteStorage, emergencyMode }: PageserverConfig,
  { blobs, clock, random, log }: PageserverWorld,
  { validate, standsAlone }: ControlPlane,
): RemoteDeps {
  const settleMs = remoteStorage.kind === 'local' ? 0 : SETTLE_MS;
  const validator = new Validator({ clock, validate, gatherMs: VALIDATE_GATHER_MS });
  const deletions = new DeletionQueue({ blobs, validator, clock, random, log, ripeMs: DELETIONS_RIPE_MS });
  return {
    blobs,
    clock,
    random,
    log,
    validator,
    deletions,
    lasting: new LastingPuts({ blobs, clock, settleMs, namesAreOld: standsAlone || emergencyMode }),
    downloads: new Semaphore(DOWNLOADS_MAX),
    uploadBytes: new Semaphore(UPLOAD_BYTES_MAX),
    uploads: newUploadCounters(),
    cache: newCacheCounters(),
  };
}

function engineSettings({ pageCachePages, memoryBytesMax }: PageserverConfig): EngineSettings {
  return {
    ...ENGINE_DEFAULTS,
    ...(pageCachePages === undefined ? {} : { pageCachePages }),
    ...(memoryBytesMax === undefined ? {} : { memoryBytesMax }),
  };
}

function nodeOf(
  config: PageserverConfig,
  tokens: PageserverTokens,
  world: PageserverWorld,
  controlPlane: ControlPlane,
  remote: RemoteDeps,
  metrics: ServiceMetrics,
): NodeDeps {
  const { clock, random, log, disk, vault, claimKeys, releaseKeys, initdb, pool, net, broker } = world;
  return {
    nodeId: config.id,
    engine: new Engine(engineSettings(config), { clock, random, pool, log }),
    remote,
    clock,
    random,
    log,
    disk,
    vault,
    claimKeys,
    releaseKeys,
    initdb,
    superuser: config.superuser,
    locale: config.locale,
    controlPlane,
    startReceiver: receivers({
      nodeId: config.id,
      clock,
      random,
      net,
      broker,
      metrics,
      availabilityZone: config.availabilityZone,
      token: tokens.own,
      tls: false,
    }),
    tenantDefaults: config.tenantDefaults,
    warmups: new Semaphore(config.warmupMax),
    timelineOffloading: config.timelineOffloading,
  };
}

function pageServiceOf(
  config: PageserverConfig,
  tokens: PageserverTokens,
  { clock, log, traces }: PageserverWorld,
  timelines: Tenants,
  metrics: ServiceMetrics,
): PageServiceDeps {
  return {
    clock,
    log,
    metrics,
    timelines,
    waitLsnTimeoutMs: config.waitLsnTimeoutMs,
    maxBatchSize: config.maxBatchSize,
    rooms: new AnswerRooms(),
    traces,
    tokens: tokens.pg,
    backup: ({ pgdata, lazySlruDownload }, options) =>
      backupArchive(pgdata, { ...options, lazySlruDownload, nowMs: clock.now() }),
  };
}
