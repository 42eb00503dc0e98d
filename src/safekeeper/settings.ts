// A safekeeper's command line: Neon's flags with Neon's defaults, and a few of our own at the end.
//
// Answers to Args of safekeeper/src/bin/safekeeper.rs.

import {
  type Address,
  addressFlag,
  boolFlag,
  durationFlag,
  type FlagValues,
  flagFlag,
  formatAddress,
  numberFlag,
  parseFlags,
  textFlag,
  wholeFlag,
  wordFlag,
} from '../base/flags.ts';
import { type RemoteStorage, readRemoteStorage } from '../base/remote-storage.ts';
import { parseTomlValue } from '../base/toml.ts';

const MINUTE = 60_000;

export const SAFEKEEPER_FLAGS = {
  dataDir: textFlag('Where the data is; becomes the working directory.', '-D', '--datadir'),
  id: wholeFlag('The number of this node, a different one for each.', '--id'),
  init: flagFlag('Write the id into the data directory and end.', '--init'),
  listenPg: addressFlag('Where computes and readers of WAL connect.', '-l', '--listen-pg'),
  listenPgTenantOnly: addressFlag('The same for tokens of single tenants only.', '--listen-pg-tenant-only'),
  advertisePg: textFlag('The address of --listen-pg as others see it.', '--advertise-pg'),
  listenHttp: addressFlag('Where management calls go.', '--listen-http'),
  listenHttps: addressFlag('The same over TLS.', '--listen-https'),
  advertiseHttps: textFlag('The address of --listen-https as others see it.', '--advertise-https'),
  availabilityZone: textFlag('The zone this node is in, told to readers.', '--availability-zone'),
  noSync: flagFlag('Do not sync files: faster, and not safe.', '-n', '--no-sync'),
  brokerEndpoint: textFlag('Where the storage broker is.', '--broker-endpoint'),
  brokerKeepalive: durationFlag('How often the broker is pinged.', '--broker-keepalive-interval'),
  heartbeatTimeout: durationFlag('A peer not heard of for this long does not count.', '--heartbeat-timeout'),
  peerRecovery: boolFlag('Catch up from peers while no compute is there.', '--peer-recovery'),
  remoteStorage: textFlag('The object store, an inline TOML table.', '--remote-storage'),
  maxOffloaderLag: wholeFlag('An uploader may be this many bytes behind its peers.', '--max-offloader-lag'),
  walBackupParallelJobs: wholeFlag('Segments uploaded at once.', '--wal-backup-parallel-jobs'),
  disableWalBackup: flagFlag('Upload nothing.', '--disable-wal-backup'),
  pgAuthKeys: textFlag(
    'Public keys for --listen-pg, a PEM file or a directory.',
    '--pg-auth-public-key-path',
  ),
  pgTenantOnlyAuthKeys: textFlag(
    'Public keys for --listen-pg-tenant-only, a PEM file or a directory.',
    '--pg-tenant-only-auth-public-key-path',
  ),
  httpAuthKeys: textFlag(
    'Public keys for management calls, a PEM file or a directory.',
    '--http-auth-public-key-path',
  ),
  authToken: textFlag('File with the token shown to peers and the broker.', '--auth-token-path'),
  logFormat: wordFlag('How log lines look.', ['plain', 'json'], '--log-format'),
  walSendersKeepHorizon: flagFlag('Keep WAL for the slowest reader.', '--walsenders-keep-horizon'),
  disableBrokerPush: flagFlag('Tell the broker nothing on our own.', '--disable-periodic-broker-push'),
  enableOffload: flagFlag('Idle timelines may lose their local WAL.', '--enable-offload'),
  deleteOffloadedWal: flagFlag('Really remove it.', '--delete-offloaded-wal'),
  partialBackupTimeout: durationFlag(
    'How long an incomplete segment waits for its upload.',
    '--partial-backup-timeout',
  ),
  partialBackupConcurrency: wholeFlag(
    'Incomplete segments uploaded at once.',
    '--partial-backup-concurrency',
  ),
  controlFileSaveInterval: durationFlag('How often control files are saved.', '--control-file-save-interval'),
  evictionMinResident: durationFlag('How long an unused timeline keeps its WAL.', '--eviction-min-resident'),
  keyFile: textFlag('PEM file of the TLS key.', '--ssl-key-file'),
  certFile: textFlag('PEM file of the TLS certificate.', '--ssl-cert-file'),
  certReload: durationFlag('How often the TLS files are looked at again.', '--ssl-cert-reload-period'),
  caFile: textFlag('PEM file of certificates to trust in peers.', '--ssl-ca-file'),
  useHttpsApi: flagFlag('Call peers over TLS.', '--use-https-safekeeper-api'),
  tlsWalService: flagFlag('TLS on --listen-pg, too.', '--enable-tls-wal-service-api'),
  dumpControlFile: textFlag('Print a control file as JSON and end.', '--dump-control-file'),
  // Known, and of no effect here: our own design covers them, or they tune what we do not have.
  walReaderFanout: flagFlag('Taken; without effect.', '--wal-reader-fanout'),
  maxDeltaForFanout: wholeFlag('Taken; without effect.', '--max-delta-for-fanout'),
  currentThreadRuntime: flagFlag('Taken; without effect.', '--current-thread-runtime'),
  dev: flagFlag('Taken; without effect.', '--dev'),
  forceMetrics: flagFlag('Taken; without effect.', '--force-metric-collection-on-scrape'),
  maxReelectLag: wholeFlag('Taken; without effect.', '--max-reelect-offloader-lag-bytes'),
  maxTimelineDiskUsage: wholeFlag('Taken; without effect.', '--max-timeline-disk-usage-bytes'),
  globalDiskCheck: durationFlag('Taken; without effect.', '--global-disk-check-interval'),
  maxGlobalDiskUsage: numberFlag('Taken; without effect.', '--max-global-disk-usage-ratio'),
  // Our own.
  defaultKey: textFlag(
    'Key of tenants without one of their own: aws:..., azure:..., google:..., local:...',
    '--default-key',
  ),
  localKeys: textFlag('Directory of local keys; all nodes that share a store share it.', '--local-keys'),
  help: flagFlag('This text.', '-h', '--help'),
  version: flagFlag('The version.', '-V', '--version'),
};

export interface SafekeeperSettings {
  readonly dataDir: string;
  readonly id: number | undefined;
  readonly listenPg: Address;
  readonly listenPgTenantOnly: Address | undefined;
  readonly advertisePg: string;
  readonly listenHttp: Address;
  readonly listenHttps: Address | undefined;
  readonly advertiseHttps: string | undefined;
  readonly availabilityZone: string | undefined;
  readonly sync: boolean;
  readonly brokerEndpoint: string;
  readonly brokerKeepaliveMs: number;
  readonly brokerPush: boolean;
  readonly heartbeatTimeoutMs: number;
  readonly peerRecovery: boolean;
  readonly remote: RemoteStorage | undefined;
  readonly walBackup: boolean;
  readonly maxOffloaderLagBytes: number;
  readonly walBackupParallelJobs: number;
  readonly partialBackupTimeoutMs: number;
  readonly partialBackupConcurrency: number;
  readonly evict: boolean;
  readonly evictionMinResidentMs: number;
  readonly keepForReaders: boolean;
  readonly controlFileSaveIntervalMs: number;
  readonly tlsPg: boolean;
}

export type SafekeeperFlags = FlagValues<typeof SAFEKEEPER_FLAGS>;

/** Flags as typed, and what was not understood. */
export const parseSafekeeperFlags = (
  argv: readonly string[],
): { values: SafekeeperFlags; unknown: readonly string[] } => parseFlags(SAFEKEEPER_FLAGS, argv);

/** `note` is told of keys inside --remote-storage that say nothing to us. */
export function safekeeperSettings(f: SafekeeperFlags, note: (unknown: string) => void): SafekeeperSettings {
  const listenPg = f.listenPg ?? { host: '127.0.0.1', port: 5454 };
  return {
    dataDir: f.dataDir ?? '.',
    id: f.id,
    listenPg,
    listenPgTenantOnly: f.listenPgTenantOnly,
    advertisePg: f.advertisePg ?? formatAddress(listenPg),
    listenHttp: f.listenHttp ?? { host: '127.0.0.1', port: 7676 },
    listenHttps: f.listenHttps,
    advertiseHttps: f.advertiseHttps,
    availabilityZone: f.availabilityZone,
    sync: !f.noSync,
    brokerEndpoint: f.brokerEndpoint ?? 'http://127.0.0.1:50051',
    brokerKeepaliveMs: f.brokerKeepalive ?? 5000,
    brokerPush: !f.disableBrokerPush,
    heartbeatTimeoutMs: f.heartbeatTimeout ?? 5000,
    peerRecovery: f.peerRecovery ?? false,
    remote: f.remoteStorage === undefined ? undefined : remoteOf(f.remoteStorage, note),
    walBackup: !f.disableWalBackup,
    maxOffloaderLagBytes: f.maxOffloaderLag ?? 128 * 1024 * 1024,
    walBackupParallelJobs: Math.max(1, f.walBackupParallelJobs ?? 5),
    partialBackupTimeoutMs: f.partialBackupTimeout ?? 15 * MINUTE,
    partialBackupConcurrency: Math.max(1, f.partialBackupConcurrency ?? 5),
    evict: (f.enableOffload ?? false) && (f.deleteOffloadedWal ?? false),
    evictionMinResidentMs: f.evictionMinResident ?? 15 * MINUTE,
    keepForReaders: f.walSendersKeepHorizon ?? false,
    controlFileSaveIntervalMs: f.controlFileSaveInterval ?? 5 * MINUTE,
    tlsPg: f.tlsWalService ?? false,
  };
}

const remoteOf = (text: string, note: (unknown: string) => void): RemoteStorage =>
  readRemoteStorage(parseTomlValue(text, '--remote-storage'), '--remote-storage', key =>
    note(`${key} in --remote-storage`),
  );
