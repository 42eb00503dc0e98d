// What the manager sees: which computes run, how busy they are, which pageservers answer. Looked at every LOOK_MS at
// most; sessions are told of by the proxy, whose word holds for SESSIONS_MS.

import { isFault } from '../../base/fault.ts';
import type { Clock, Log } from '../../base/ports.ts';
import type { ComputeDriver } from './drivers/driver.ts';
import type { Endpoint } from './model.ts';
import { placementOf } from './operations/step.ts';
import type { EndpointSeen, NodeSeen } from './plan.ts';
import type { Storage } from './storage.ts';
import type { Store } from './store.ts';

const LOOK_MS = 1000;
const NODES_MS = 2000;
/** A proxy that says nothing for so long has no sessions any more. */
const SESSIONS_MS = 30_000;

export interface Sessions {
  readonly endpointId: string;
  readonly connections: number;
  /** Of them, at work. */
  readonly busy: number;
  readonly idleMs: number;
}

interface Told extends Sessions {
  readonly at: number;
}

export interface SightDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  readonly storage: Storage;
  driverOf(endpoint: Endpoint): ComputeDriver;
}

export class Sight {
  readonly endpoints = new Map<string, EndpointSeen>();
  readonly nodes = new Map<string, NodeSeen>();
  private readonly deps: SightDeps;
  private readonly told = new Map<string, Told>();
  private readonly leases = new Map<string, number>();
  private lookedAt = -Infinity;
  private nodesAt = -Infinity;

  constructor(deps: SightDeps) {
    this.deps = deps;
  }

  /** The proxy's word. */
  hear(sessions: readonly Sessions[]): void {
    const at = this.deps.clock.now();
    for (const one of sessions) {
      const before = this.lastActive(one.endpointId);
      this.told.set(one.endpointId, { ...one, at, idleMs: Math.min(one.idleMs, at - before) });
    }
  }

  sessionsOf(endpointId: string): Sessions | undefined {
    const told = this.told.get(endpointId);
    return told && this.deps.clock.now() - told.at < SESSIONS_MS ? told : undefined;
  }

  lastActive(endpointId: string): number {
    const told = this.told.get(endpointId);
    return told ? told.at - told.idleMs : 0;
  }

  async look(): Promise<void> {
    const now = this.deps.clock.monotonic();
    if (now - this.nodesAt >= NODES_MS) {
      this.nodesAt = now;
      await this.lookAtNodes();
    }
    if (now - this.lookedAt < LOOK_MS) return;
    this.lookedAt = now;
    await this.lookAtEndpoints();
  }

  private async lookAtEndpoints(): Promise<void> {
    const { store } = this.deps;
    const awake = [...store.all('endpoints').values()].filter(endpoint => endpoint.state === 'active');
    const ids = new Set(awake.map(endpoint => endpoint.id));
    for (const id of this.endpoints.keys()) if (!ids.has(id)) this.endpoints.delete(id);
    for (const id of this.leases.keys()) if (!ids.has(id)) this.leases.delete(id);
    await Promise.all(awake.map(endpoint => this.lookAt(endpoint)));
  }

  private async lookAt(endpoint: Endpoint): Promise<void> {
    const { id } = endpoint;
    try {
      const found = await this.deps.driverOf(endpoint).find(id);
      this.endpoints.set(id, {
        running: found !== undefined,
        busy: this.sessionsOf(id)?.busy ?? 0,
        lastActiveAt: Math.max(endpoint.lastActiveAt ?? 0, this.lastActive(id)),
        leasedUntil: this.leases.get(id) ?? 0,
      });
    } catch (error) {
      if (!isFault(error)) throw error;
      // Whoever cannot be asked is not taken for dead.
      this.deps.log.warn('a compute could not be looked at', { endpoint: id, error });
    }
  }

  async lookAtNodes(): Promise<void> {
    const { store, storage, clock } = this.deps;
    const nodes = [...store.all('nodes').values()];
    await Promise.all(
      nodes.map(async node => {
        const answers = await storage.alive(node);
        const before = this.nodes.get(node.id)?.silentSince;
        this.nodes.set(node.id, { silentSince: answers ? undefined : (before ?? clock.now()) });
      }),
    );
  }

  async renewLease(endpoint: Endpoint): Promise<void> {
    const { store, storage, log } = this.deps;
    const { tenantId } = store.projectOf(endpoint);
    const { timelineId } = store.must('branches', endpoint.branchId);
    try {
      const { node } = placementOf(store, tenantId);
      const until = await storage.lease(node, tenantId, timelineId, endpoint.staticLsn!);
      this.leases.set(endpoint.id, until);
    } catch (error) {
      if (!isFault(error)) throw error;
      log.warn('the lease of a static compute could not be renewed', { endpoint: endpoint.id, error });
    }
  }
}
