// What the storage daemons share of the real world: the object store they were told of, and the keys of tenants.
//
// Where the customer master keys (CMKs) are:
//   --default-key aws:..., azure:..., google:...   at that service, with the credentials of the environment
//   a local key                                    a file, in the first place that applies:
//     the directory that was named (--local-keys, LAKEBED_LOCAL_KEYS)
//     beside a store that is a directory:          <dirname of local_path>/lakebed-keys
//     in the store itself:                         keys/cmk/                    nodes that share only a bucket
//     in the data directory:                       lakebed-keys/                no object store at all
//
// Nodes that share a store must share the key: each must open what the others sealed.

import { dirname, join } from 'node:path';
import { Metrics } from './base/metrics.ts';
import type { Blobs, Clock, Disk, Keys, Log, Random } from './base/ports.ts';
import type { RemoteStorage } from './base/remote-storage.ts';
import { localBlobs } from './host/blobs-local.ts';
import { MeteredBlobs } from './host/blobs-metered.ts';
import { retryingBlobs } from './host/blobs-retry.ts';
import { hostDisk } from './host/disk.ts';
import { KeysInStore } from './host/keys-in-store.ts';
import { LocalKeys } from './host/keys-local.ts';
import { AuditFile, auditAll } from './seal/audit.ts';
import { openVault } from './seal/disk-vault.ts';
import { KeyCalls } from './seal/key-calls.ts';
import { parseCmk } from './seal/key-document.ts';
import { keyMetrics } from './seal/key-metrics.ts';
import { KeyRing } from './seal/key-ring.ts';
import { keyTimes } from './seal/key-state.ts';
import { blobKeyStore, cachedKeyStore } from './seal/key-store.ts';
import { filesOnDisk } from './seal/rewrap.ts';
import type { SealScope, Vault } from './seal/vault.ts';

export interface StorageOptions {
  readonly dataDir: string;
  /** Such as `safekeeper-1`: who asks for keys, for the audit. */
  readonly node: string;
  readonly remote: RemoteStorage | undefined;
  readonly defaultKey: string | undefined;
  readonly localKeys: string | undefined;
  readonly auditFile?: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics?: Metrics;
  /** The disk that vaults lie on; the data directory's unless told. */
  readonly disk?: Disk;
}

export interface Storage {
  readonly disk: Disk;
  readonly blobs: Blobs | undefined;
  readonly keys: KeyRing;
  /** A vault in a directory of the data directory. */
  vault(directory: string, scope: SealScope): Vault;
}

const DEFAULT_KEY = 'local:default';

export async function openStorage(options: StorageOptions): Promise<Storage> {
  const { dataDir, clock, random, log, node } = options;
  const disk = options.disk ?? hostDisk(dataDir);
  const metrics = options.metrics ?? new Metrics();
  const store = options.remote && (await openBlobs(options.remote, { clock, random, log }));
  const blobs = store && new MeteredBlobs(store, metrics, clock);
  const auditPath = options.auditFile ?? 'lakebed-keys-audit.jsonl';
  const counted = keyMetrics(metrics);
  const file = new AuditFile(hostDisk(dataDir), auditPath, (error, lines) => {
    counted.lost(lines);
    log.warn('lines of the key audit were lost', { error, lines });
  });
  const audit = auditAll([file, counted.audit]);
  const local = localKeys(options, blobs);
  const defaultCmk = options.defaultKey ?? DEFAULT_KEY;
  if (defaultCmk.startsWith('local:') && local.inStore) {
    log.info(
      'no key service and no key directory were named: keys lie in the object store, beside the data',
      {
        hint: 'Name one with --default-key or --local-keys to protect data from whoever holds the store.',
      },
    );
  }
  parseCmk(defaultCmk);
  const times = keyTimes(name => process.env[name]);
  const near = blobKeyStore(localBlobs(join(dataDir, 'lakebed-keys', 'documents')));
  const keys = new KeyRing({
    store: blobs ? cachedKeyStore(blobKeyStore(blobs), near) : near,
    calls: new KeyCalls({
      services: [local.keys, ...REMOTE_SERVICES.map(lazyKeys)],
      clock,
      audit,
      who: node,
      requestMs: times.requestMs,
    }),
    random,
    times,
    defaultCmk,
    node,
    localFiles: tenant => [filesOnDisk(disk, '', node, directory => mayHold(directory, tenant))],
    told: event => {
      const fields = { tenant: event.tenant, news: event.news, reason: event.reason };
      if (event.news === 'revoked' || event.news === 'shredded')
        log.warn('the keys of a tenant are closed', fields);
      else log.info('the keys of a tenant', fields);
    },
  });
  counted.watch(keys);
  return {
    disk,
    blobs,
    keys,
    vault: (directory, scope) =>
      openVault({ disk, directory, scope, random, keys: keys.attach(scope.tenant) }),
  };
}

/**
 * Whether files of a tenant may lie below a directory of ours: not if it is another tenant's, or a shard of one, or
 * the file system's own at the root of a disk, which only root may look into.
 */
function mayHold(directory: string, tenant: string): boolean {
  if (directory === 'lost+found') return false;
  const owner = directory.split('/').find(part => /^[0-9a-f]{32}(-[0-9a-f]{4})?$/.test(part));
  return owner === undefined || owner.startsWith(tenant);
}

function localKeys(options: StorageOptions, blobs: Blobs | undefined): { keys: Keys; inStore: boolean } {
  const { localKeys: named, remote, dataDir } = options;
  if (named) return { keys: new LocalKeys(named), inStore: false };
  if (remote?.kind === 'local') {
    return {
      keys: new LocalKeys(join(dirname(remote.path.replace(/\/+$/, '')), 'lakebed-keys')),
      inStore: false,
    };
  }
  if (blobs) return { keys: new KeysInStore(blobs), inStore: true };
  return { keys: new LocalKeys(join(dataDir, 'lakebed-keys')), inStore: false };
}

async function openBlobs(
  remote: RemoteStorage,
  { clock, random, log }: { clock: Clock; random: Random; log: Log },
): Promise<Blobs> {
  const failed = (verb: string, error: unknown, tries: number): void =>
    log.info('the object store did not answer; trying again', { verb, tries, error });
  if (remote.kind === 'local') return localBlobs(remote.path);
  // The SDK is large: loaded only where there is a bucket.
  const { s3Blobs } = await import('./host/blobs-s3.ts');
  const { bucket, region, prefix, endpoint, concurrency } = remote;
  const s3 = s3Blobs({ bucket, region, prefix, endpoint, connectionsMax: concurrency });
  return retryingBlobs(s3, { clock, random, failed });
}

const REMOTE_SERVICES = ['aws', 'azure', 'google'] as const;

/** A key service whose driver is loaded when a key of its kind is first used. */
function lazyKeys(kind: (typeof REMOTE_SERVICES)[number]): Keys {
  let loading: Promise<Keys> | undefined;
  const driver = (): Promise<Keys> => (loading ??= loadKeys(kind));
  return {
    kind,
    generate: async (...args) => (await driver()).generate(...args),
    wrap: async (...args) => (await driver()).wrap(...args),
    unwrap: async (...args) => (await driver()).unwrap(...args),
    state: async (...args) => (await driver()).state(...args),
  };
}

async function loadKeys(kind: (typeof REMOTE_SERVICES)[number]): Promise<Keys> {
  switch (kind) {
    case 'aws':
      return new (await import('./host/keys-aws.ts')).AwsKeys();
    case 'azure':
      return new (await import('./host/keys-azure.ts')).AzureKeys();
    case 'google':
      return new (await import('./host/keys-google.ts')).GoogleKeys();
  }
}

/** Of the environment, under either name: launchers pass on NEON_* and no others. */
export const localKeysFromEnvironment = (): string | undefined =>
  process.env['LAKEBED_LOCAL_KEYS'] || process.env['NEON_LAKEBED_LOCAL_KEYS'] || undefined;

export const defaultKeyFromEnvironment = (): string | undefined =>
  process.env['LAKEBED_DEFAULT_KEY'] || process.env['NEON_LAKEBED_DEFAULT_KEY'] || undefined;
