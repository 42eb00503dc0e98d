// A pageserver's tenants without sockets: the real manager of tenants over a simulated disk and object store, with the
// machine's own clock where initdb is run, or simulated time. A node is one process; the object store and the control
// plane's word outlive it.

import { Semaphore } from '../../src/base/flow.ts';
import type { Blobs, Clock, Disk, Initdb, Log } from '../../src/base/ports.ts';
import { ENGINE_DEFAULTS, type EngineSettings } from '../../src/pageserver/engine-settings.ts';
import type { NodeDeps } from '../../src/pageserver/node.ts';
import { DeletionQueue } from '../../src/pageserver/remote/deletion-queue.ts';
import { LastingPuts } from '../../src/pageserver/remote/lasting-puts.ts';
import { newCacheCounters } from '../../src/pageserver/remote/layer-cache.ts';
import { newUploadCounters } from '../../src/pageserver/remote/uploader.ts';
import { Validator } from '../../src/pageserver/remote/validator.ts';
import {
  effectiveSettings,
  TENANT_DEFAULTS,
  type TenantOverrides,
} from '../../src/pageserver/tenant-config.ts';
import { Tenants } from '../../src/pageserver/tenants.ts';
import { type ControlPlane, standAlone } from '../../src/pageserver/upcalls.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import { silentLog, simEngine } from './engine.ts';
import { SimFileKeys } from './file-keys.ts';
import { SimRandom } from './random.ts';

export interface NodeWorld {
  readonly blobs: Blobs;
  readonly clock: Clock;
  readonly seed: number;
}

/** Keys by tenant, the same for every node of a world. */
export class WorldKeys {
  private readonly seed: number;
  private readonly keys = new Map<string, SimFileKeys>();

  constructor(seed: number) {
    this.seed = seed;
  }

  of(tenant: string): SimFileKeys {
    let keys = this.keys.get(tenant);
    if (!keys)
      this.keys.set(tenant, (keys = new SimFileKeys(tenant, new SimRandom(this.seed).split(tenant))));
    return keys;
  }
}

export const noInitdb: Initdb = {
  run: async () => {
    throw new Error('there is no initdb in this test');
  },
};

export interface NodeOptions {
  readonly keys: WorldKeys;
  readonly disk: Disk;
  readonly settings?: Partial<EngineSettings>;
  readonly tenantDefaults?: TenantOverrides;
  readonly controlPlane?: ControlPlane;
  readonly initdb?: Initdb;
  readonly log?: Log;
  readonly startReceiver?: NodeDeps['startReceiver'];
  /** What becomes of a tenant's keys; they are there unless told. */
  readonly claimKeys?: NodeDeps['claimKeys'];
  /** How late a put may arrive that was not answered: deletions wait for it, and what safekeepers are told. */
  readonly ripeMs?: number;
}

let nodes = 0;

export function pageserverNode(world: NodeWorld, options: NodeOptions): Tenants {
  const { blobs, clock, seed } = world;
  const { keys, disk, controlPlane = standAlone, log = silentLog, ripeMs = 0 } = options;
  const random = new SimRandom(seed).split(`node ${nodes++}`);
  const engine = simEngine({
    clock,
    random,
    log,
    settings: { ...ENGINE_DEFAULTS, background: false, ...options.settings },
  });
  const validator = new Validator({ clock, validate: controlPlane.validate, gatherMs: 0 });
  const deps: NodeDeps = {
    nodeId: 1,
    engine,
    remote: {
      blobs,
      clock,
      random,
      log,
      validator,
      deletions: new DeletionQueue({ blobs, validator, clock, random, log, ripeMs }),
      lasting: new LastingPuts({ blobs, clock, settleMs: ripeMs, namesAreOld: false }),
      downloads: new Semaphore(8),
      uploadBytes: new Semaphore(64 * 1024 * 1024),
      uploads: newUploadCounters(),
      cache: newCacheCounters(),
    },
    clock,
    random,
    log,
    disk,
    vault: (directory, scope) => openVault({ disk, directory, scope, keys: keys.of(scope.tenant), random }),
    claimKeys: options.claimKeys ?? (async () => undefined),
    releaseKeys: () => undefined,
    initdb: options.initdb ?? noInitdb,
    superuser: 'cloud_admin',
    locale: 'C.UTF-8',
    controlPlane,
    tenantDefaults: effectiveSettings(TENANT_DEFAULTS, options.tenantDefaults ?? {}),
    warmups: new Semaphore(8),
    timelineOffloading: true,
    ...(options.startReceiver ? { startReceiver: options.startReceiver } : {}),
  };
  return new Tenants(deps);
}
