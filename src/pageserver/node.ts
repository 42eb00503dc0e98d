// What the tenants of one process share: the engine, the object store's queues, disks, keys, the clock, and the doors
// to the control plane and to safekeepers. Made once by the composition root, or by a test.

import type { Semaphore } from '../base/flow.ts';
import type { TenantId } from '../base/ids.ts';
import type { Clock, Disk, Initdb, Log, Random } from '../base/ports.ts';
import type { SealScope, Vault } from '../seal/vault.ts';
import type { Engine } from './engine.ts';
import type { WalReceiver } from './receiver.ts';
import type { RemoteDeps } from './remote/remote-timeline.ts';
import type { TenantSettings } from './tenant-config.ts';
import type { TenantTimeline } from './tenant-timeline.ts';
import type { ControlPlane } from './upcalls.ts';

/** What keeps a timeline supplied with WAL. */
export type ReceiverHandle = Pick<WalReceiver, 'stop' | 'status'>;

export interface NodeDeps {
  readonly nodeId: number;
  readonly engine: Engine;
  readonly remote: RemoteDeps;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The work directory: for directories alone. What is in files passes a vault. */
  readonly disk: Disk;
  /** A vault over a directory of that disk. The tenant's keys are asked for at first use. */
  readonly vault: (directory: string, scope: SealScope) => Vault;
  /** Resolves when the tenant's keys may be used; a Fault when they are under another CMK than the one named. */
  readonly claimKeys: (tenant: TenantId, cmk: string | undefined) => Promise<void>;
  /** The tenant has no more business here: its keys are wiped. */
  readonly releaseKeys: (tenant: TenantId) => void;
  readonly initdb: Initdb;
  readonly superuser: string;
  readonly locale: string;
  readonly controlPlane: ControlPlane;
  /** Begins to supply an active timeline with WAL; absent in tests that do it themselves. */
  readonly startReceiver?: (timeline: TenantTimeline) => ReceiverHandle;
  /** `[tenant_config]` of the node over the defaults. */
  readonly tenantDefaults: TenantSettings;
  /** Timelines that load what they need to take in WAL, at once. */
  readonly warmups: Semaphore;
  readonly timelineOffloading: boolean;
}
