// The manager, put together: the catalog in memory, the loop, what is seen, the drivers. What callers want is in
// intents/ (each checks, and writes down a desire with its operations), how it is asked for in http-*.ts.

import { Fault, isFault } from '../../base/fault.ts';
import { SingleFlight } from '../../base/flow.ts';
import type { Catalog, Clock, Log, Random } from '../../base/ports.ts';
import type { ComputeDriver } from './drivers/driver.ts';
import type { ManagerKeys } from './keys.ts';
import type { DriverKind, Endpoint, Node, Operation } from './model.ts';
import { type NewOperation, type OperationDeps, specOf } from './operations/step.ts';
import type { PlanSettings } from './plan.ts';
import { Reconciler } from './reconcile.ts';
import { Sight } from './sight.ts';
import type { Storage } from './storage.ts';
import { type Changes, Store } from './store.ts';

export interface ManagerSettings extends PlanSettings {
  /** What connection strings say. */
  readonly proxyHost: string;
  readonly proxyPort: number;
}

export interface ManagerDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly catalog: Catalog;
  readonly storage: Storage;
  readonly keys: ManagerKeys;
  /** The better one first. */
  readonly drivers: readonly ComputeDriver[];
  readonly settings: ManagerSettings;
}

/** A pageserver told by the command line. */
export type KnownNode = Pick<Node, 'id' | 'pgHost' | 'pgPort' | 'httpHost' | 'httpPort'>;

export class Manager {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: Store;
  readonly storage: Storage;
  readonly keys: ManagerKeys;
  readonly settings: ManagerSettings;
  readonly sight: Sight;
  readonly drivers: readonly ComputeDriver[];
  readonly wakes = new SingleFlight<Endpoint>();
  private readonly catalog: Catalog;
  private readonly reconciler: Reconciler;

  private constructor(deps: ManagerDeps, store: Store) {
    this.clock = deps.clock;
    this.random = deps.random;
    this.log = deps.log;
    this.store = store;
    this.catalog = deps.catalog;
    this.storage = deps.storage;
    this.keys = deps.keys;
    this.settings = deps.settings;
    this.drivers = deps.drivers;
    this.sight = new Sight(this);
    this.reconciler = new Reconciler({ ...deps.settings, deps: this.operationDeps(), sight: this.sight });
  }

  static async open(deps: ManagerDeps): Promise<Manager> {
    return new Manager(deps, await Store.load(deps.catalog));
  }

  private operationDeps(): OperationDeps {
    const { clock, random, log, store, storage, keys } = this;
    return {
      ...{ clock, random, log, store, storage, keys },
      driverFor: pgVersion => this.driverFor(pgVersion),
      driverOf: endpoint => this.driverOf(endpoint),
      lastActive: endpointId => this.sight.lastActive(endpointId),
    };
  }

  /** Begins to work: what a crash left open goes on, what should not run is stopped. */
  async start(): Promise<void> {
    await this.sweepStrays();
    for (const endpoint of this.store.all('endpoints').values()) {
      if (endpoint.state === 'active') await this.takeUp(endpoint);
    }
    // What is said to run was looked at before anybody is told where.
    await this.sight.look();
    this.reconciler.start();
  }

  /** One that ran when the last manager ended. What is wrong with it, the next look finds. */
  private async takeUp(endpoint: Endpoint): Promise<void> {
    const { tenantId } = this.store.projectOf(endpoint);
    try {
      await this.driverOf(endpoint).adopt?.(specOf(this.operationDeps(), endpoint));
      await this.keys.watch(tenantId);
    } catch (error) {
      if (!isFault(error)) throw error;
      this.log.warn('a compute could not be taken up', { endpoint: endpoint.id, error });
    }
  }

  /** Computes that no endpoint knows any more. */
  private async sweepStrays(): Promise<void> {
    for (const driver of this.drivers) {
      for (const id of await driver.list()) {
        if (this.store.get('endpoints', id)) continue;
        this.log.warn('a compute that nobody knows is stopped', { endpoint: id, driver: driver.kind });
        await driver.stop(id, 'immediate');
      }
    }
  }

  /** Nothing new is begun; `computes`: those that run are stopped, and started again by the next start. */
  async stop({ computes }: { readonly computes: boolean }): Promise<void> {
    await this.reconciler.stop();
    if (computes) {
      await Promise.all(
        this.drivers.map(async driver => {
          const running = await driver.list();
          await Promise.all(running.map(id => driver.stop(id, 'fast')));
        }),
      );
    }
    await this.catalog.close();
  }

  nudge(): void {
    this.reconciler.nudge();
  }

  /** Desires and their operations, written down together; they begin when their turn has come. */
  open(operations: readonly NewOperation[], changes: Changes = []): Promise<Operation[]> {
    return this.reconciler.openAll(operations, changes);
  }

  finished(id: string): Promise<Operation> {
    return this.reconciler.finished(id);
  }

  async commit(changes: Changes): Promise<void> {
    await this.store.commit(changes);
    this.nudge();
  }

  driverFor(pgVersion: number): ComputeDriver {
    const problems: string[] = [];
    for (const driver of this.drivers) {
      const problem = driver.problem(pgVersion);
      if (problem === undefined) return driver;
      problems.push(problem);
    }
    throw new Fault(
      'driver-missing',
      `no compute of Postgres ${pgVersion} can run here: ${problems.join('; ')}`,
      {
        hint: "Set NEON_PG_DIR to Neon's build of Postgres, or run Docker, and start again.",
      },
    );
  }

  driverOf({ id, driver: kind }: Endpoint): ComputeDriver {
    const found = this.drivers.find(driver => driver.kind === kind);
    if (found) return found;
    throw new Fault(
      'driver-missing',
      `compute ${id} was started by the driver ${kind ?? '(none)'}, which is not set up`,
      {
        hint: 'Start the manager with that driver again, or suspend the compute there first.',
      },
    );
  }

  /** A pageserver, known from now on; its address may have changed. */
  async know(node: KnownNode): Promise<void> {
    const now = this.clock.now();
    const before = this.store.get('nodes', node.id);
    const same =
      before &&
      before.pgHost === node.pgHost &&
      before.pgPort === node.pgPort &&
      before.httpHost === node.httpHost &&
      before.httpPort === node.httpPort;
    if (same) return;
    const row: Node = {
      ...node,
      schedulable: before?.schedulable ?? true,
      createdAt: before?.createdAt ?? now,
      updatedAt: now,
    };
    await this.commit([{ put: 'nodes', row }]);
  }

  driverKind(): DriverKind | 'none' {
    return this.drivers[0]?.kind ?? 'none';
  }
}
