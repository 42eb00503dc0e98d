// The command line by Neon's names and with Neon's defaults, flag by flag.

import { expect, test } from 'vitest';
import { parseSafekeeperFlags, safekeeperSettings } from './settings.ts';

const MINUTE = 60_000;

const settingsOf = (...argv: string[]): ReturnType<typeof safekeeperSettings> => {
  const { values, unknown } = parseSafekeeperFlags(argv);
  expect(unknown).toEqual([]);
  return safekeeperSettings(values, key => expect.fail(`${key} was not understood`));
};

test('without any flag', () => {
  expect(settingsOf()).toEqual({
    dataDir: '.',
    id: undefined,
    listenPg: { host: '127.0.0.1', port: 5454 },
    listenPgTenantOnly: undefined,
    advertisePg: '127.0.0.1:5454',
    listenHttp: { host: '127.0.0.1', port: 7676 },
    listenHttps: undefined,
    advertiseHttps: undefined,
    availabilityZone: undefined,
    sync: true,
    brokerEndpoint: 'http://127.0.0.1:50051',
    brokerKeepaliveMs: 5000,
    brokerPush: true,
    heartbeatTimeoutMs: 5000,
    peerRecovery: false,
    remote: undefined,
    walBackup: true,
    maxOffloaderLagBytes: 128 * 1024 * 1024,
    walBackupParallelJobs: 5,
    partialBackupTimeoutMs: 15 * MINUTE,
    partialBackupConcurrency: 5,
    evict: false,
    evictionMinResidentMs: 15 * MINUTE,
    keepForReaders: false,
    controlFileSaveIntervalMs: 5 * MINUTE,
    tlsPg: false,
  });
});

// biome-ignore format: rows
test.each<[argv: string[], changed: object]>([
  [['-D', '/d'], { dataDir: '/d' }],
  [['--datadir=/d', '--id', '3'], { dataDir: '/d', id: 3 }],
  [['-l', '0.0.0.0:1'], { listenPg: { host: '0.0.0.0', port: 1 }, advertisePg: '0.0.0.0:1' }],
  [['--listen-pg', '0.0.0.0:1', '--advertise-pg', 'sk-1:2'], { advertisePg: 'sk-1:2' }],
  [['--listen-pg-tenant-only', 'h:3'], { listenPgTenantOnly: { host: 'h', port: 3 } }],
  [['--listen-http', 'h:4', '--listen-https', 'h:5'], { listenHttp: { host: 'h', port: 4 }, listenHttps: { host: 'h', port: 5 } }],
  [['--availability-zone', 'a'], { availabilityZone: 'a' }],
  [['-n'], { sync: false }],
  [['--no-sync'], { sync: false }],
  [['--broker-endpoint', 'https://b:1', '--broker-keepalive-interval', '1s'], { brokerEndpoint: 'https://b:1', brokerKeepaliveMs: 1000 }],
  [['--heartbeat-timeout', '7000ms'], { heartbeatTimeoutMs: 7000 }],
  [['--peer-recovery', 'true'], { peerRecovery: true }],
  [['--peer-recovery=false'], { peerRecovery: false }],
  [['--max-offloader-lag', '1000'], { maxOffloaderLagBytes: 1000 }],
  [['--wal-backup-parallel-jobs', '2'], { walBackupParallelJobs: 2 }],
  [['--disable-wal-backup'], { walBackup: false }],
  [['--walsenders-keep-horizon'], { keepForReaders: true }],
  [['--disable-periodic-broker-push'], { brokerPush: false }],
  [['--enable-offload'], { evict: false }],
  [['--enable-offload', '--delete-offloaded-wal'], { evict: true }],
  [['--partial-backup-timeout', '30s', '--partial-backup-concurrency', '1'], { partialBackupTimeoutMs: 30_000, partialBackupConcurrency: 1 }],
  [['--control-file-save-interval', '10s'], { controlFileSaveIntervalMs: 10_000 }],
  [['--eviction-min-resident', '1h'], { evictionMinResidentMs: 60 * MINUTE }],
  [['--enable-tls-wal-service-api'], { tlsPg: true }],
  [['--id', '1', '--id', '2'], { id: 2 }],
])('%j', (argv, changed) => expect(settingsOf(...argv)).toMatchObject(changed));

test('the object store, by its kinds', () => {
  const s3 =
    "{endpoint='http://minio:9000', bucket_name='neon', bucket_region='eu-north-1', prefix_in_bucket='/safekeeper/'}";
  expect(settingsOf('--remote-storage', s3).remote).toMatchObject({
    kind: 's3',
    bucket: 'neon',
    region: 'eu-north-1',
    prefix: 'safekeeper',
    endpoint: 'http://minio:9000',
  });
  expect(settingsOf('--remote-storage', "{local_path='/r'}").remote).toEqual({ kind: 'local', path: '/r' });
});

test('flags that tune what there is not are taken as well', () => {
  settingsOf(
    ...['--wal-reader-fanout', '--max-delta-for-fanout', '1', '--current-thread-runtime', '--dev'],
    ...['--force-metric-collection-on-scrape', '--max-reelect-offloader-lag-bytes', '1'],
    ...['--max-timeline-disk-usage-bytes', '1', '--global-disk-check-interval', '1s'],
    ...['--max-global-disk-usage-ratio', '0.5'],
  );
});
