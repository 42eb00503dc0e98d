// What a manager manages, in a simulation: a catalog that lasts, pageservers and safekeepers with their timelines,
// computes that outlive the manager, customer keys. A manager sees it through a Life: a fuse that burns down by one at
// every door it passes, before the effect and after it, and when it is down the manager is dead: what it waits for
// never comes, and a new one begins on what is there. So `fuse = k` for k = 1, 2, 3 ... is kill -9 at every place where
// it could matter.
//
// The world itself asserts what must hold at every moment: one primary to a timeline, no compute on a revoked key, a
// timeline only where its ancestor is, no generation that goes back.

import { Fault } from '../../src/base/fault.ts';
import type { Catalog, CatalogChange, Clock, Log } from '../../src/base/ports.ts';
import type {
  ComputeAddress,
  ComputeDriver,
  ComputeSpec,
  Delta,
  Started,
} from '../../src/control/manager/drivers/driver.ts';
import type { KeyUse, ManagerKeys, SealedPassword } from '../../src/control/manager/keys.ts';
import type { Node } from '../../src/control/manager/model.ts';
import type {
  LsnByTime,
  NewTimeline,
  Storage,
  TenantSettings,
  TimelineState,
} from '../../src/control/manager/storage.ts';
import type { SimClock } from './clock.ts';
import type { SimRandom } from './random.ts';

export class WorldError extends Error {
  override readonly name = 'WorldError';
}

function must(holds: boolean, what: string): void {
  if (!holds) throw new WorldError(what);
}

interface SimTimeline {
  readonly ancestorId: string | undefined;
  readonly ancestorLsn: string | undefined;
  lastRecordLsn: string;
}

interface SimTenant {
  nodeId: string | undefined;
  generation: number;
  readonly timelines: Map<string, SimTimeline>;
  deleted: boolean;
}

interface SimCompute {
  readonly spec: ComputeSpec;
  readonly port: number;
}

const ROOT_LSN = '0/1500000';

export class ManagerWorld {
  readonly clock: SimClock;
  readonly tables = new Map<string, Map<string, Readonly<Record<string, unknown>>>>();
  readonly tenants = new Map<string, SimTenant>();
  readonly computes = new Map<string, SimCompute>();
  readonly keys = new Map<string, string>();
  readonly revoked = new Set<string>();
  readonly shredded = new Set<string>();
  readonly deadNodes = new Set<string>();
  /** What a compute has committed, by timeline: the safekeepers' end of the log. */
  readonly written = new Map<string, string>();
  /** What was dropped or renamed in computes. */
  readonly deltas: Delta[] = [];
  starts = 0;
  private ports = 40_000;

  constructor(clock: SimClock) {
    this.clock = clock;
  }

  tenant(id: string): SimTenant {
    const found = this.tenants.get(id);
    if (found && !found.deleted) return found;
    throw new Fault('pageserver-refused', `no tenant ${id}`);
  }

  table(name: string): Map<string, Readonly<Record<string, unknown>>> {
    let rows = this.tables.get(name);
    if (!rows) this.tables.set(name, (rows = new Map()));
    return rows;
  }

  commit(changes: readonly CatalogChange[]): void {
    for (const change of changes) {
      if ('remove' in change) this.table(change.remove).delete(change.id);
      else this.put(change.put, change.row as Record<string, unknown> & { id: string });
    }
  }

  private put(name: string, row: Record<string, unknown> & { id: string }): void {
    const before = this.table(name).get(row.id);
    if (name === 'placements' && before) {
      must(Number(row['generation']) >= Number(before['generation']), 'a generation never goes back');
    }
    // As JSON would carry it, and nothing of the manager's own objects.
    this.table(name).set(row.id, JSON.parse(JSON.stringify(row)) as Record<string, unknown>);
  }

  startCompute(spec: ComputeSpec): Started {
    const timeline = this.tenant(spec.tenantId).timelines.get(spec.timelineId);
    must(timeline !== undefined, `compute ${spec.endpointId} starts on a timeline that is not there`);
    must(!this.revoked.has(spec.tenantId), `compute ${spec.endpointId} starts on a revoked key`);
    if (spec.mode === 'primary') {
      const other = [...this.computes.values()].find(
        one => one.spec.mode === 'primary' && one.spec.timelineId === spec.timelineId,
      );
      must(other === undefined, `two primaries on timeline ${spec.timelineId}`);
    }
    this.starts++;
    const port = this.ports++;
    this.computes.set(spec.endpointId, { spec, port });
    return { host: '127.0.0.1', port, timings: {} };
  }

  /** A commit on a branch that runs. */
  write(timelineId: string, lsn: string): void {
    this.written.set(timelineId, lsn);
    for (const tenant of this.tenants.values()) {
      const timeline = tenant.timelines.get(timelineId);
      if (timeline) timeline.lastRecordLsn = lsn;
    }
  }
}

const NEVER = new Promise<never>(() => undefined);

export interface LifeOptions {
  /** Doors until death; Infinity lives. */
  readonly fuse: number;
  /** Of a call of the storage, a driver or the catalog: that it fails, before or after it had its effect. */
  readonly trouble?: { readonly random: SimRandom; readonly probability: number } | undefined;
}

/** One manager's time on earth: its doors to the world. */
export class Life {
  readonly died: Promise<string>;
  passed = 0;
  private readonly world: ManagerWorld;
  private readonly options: LifeOptions;
  private dead = false;
  private die: (where: string) => void = () => undefined;

  constructor(world: ManagerWorld, options: LifeOptions) {
    this.world = world;
    this.options = options;
    this.died = new Promise(resolve => (this.die = resolve));
  }

  private async pass(where: string): Promise<void> {
    if (this.dead) return NEVER;
    this.passed++;
    if (this.passed < this.options.fuse) return;
    this.dead = true;
    this.die(where);
    return NEVER;
  }

  end(): void {
    this.dead = true;
  }

  private async through<T>(what: string, effect: () => T | Promise<T>): Promise<T> {
    await this.pass(`before ${what}`);
    this.fail(what, 'before');
    const result = await effect();
    this.fail(what, 'after');
    await this.pass(`after ${what}`);
    return result;
  }

  private fail(what: string, when: 'before' | 'after'): void {
    const { trouble } = this.options;
    if (!trouble?.random.chance(trouble.probability / 2)) return;
    const code = what.startsWith('catalog') ? 'catalog-unavailable' : 'connection-failed';
    throw new Fault(code, `${what}: no answer (${when} it was done)`);
  }

  readonly log: Log = {
    debug: () => undefined,
    info: () => undefined,
    warn: () => undefined,
    error: () => undefined,
    with: () => this.log,
  };

  clock(): Clock {
    const { clock } = this.world;
    return {
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      sleep: async (ms, signal) => {
        await clock.sleep(ms, signal);
        if (this.dead) await NEVER;
      },
    };
  }

  catalog(): Catalog {
    const { world } = this;
    return {
      // Reading is repeated until it succeeds, before a life begins: it is not made to fail.
      load: async table => [...world.table(table).values()].map(row => withoutNulls(row)),
      commit: changes => this.through('catalog commit', () => world.commit(changes)),
      close: async () => undefined,
    };
  }

  storage(): Storage {
    const { world } = this;
    const reach = (node: Node): void => {
      if (world.deadNodes.has(node.id)) throw new Fault('connection-failed', `node ${node.id} is dead`);
    };
    const there = (node: Node, tenantId: string): SimTenant => {
      reach(node);
      const tenant = world.tenant(tenantId);
      if (tenant.nodeId !== node.id) throw new Fault('connection-failed', `tenant ${tenantId} is elsewhere`);
      return tenant;
    };
    const call = <T>(what: string, effect: () => T): Promise<T> => this.through(what, effect);
    return {
      alive: async node => {
        await this.pass('look at a node');
        return !world.deadNodes.has(node.id);
      },
      attach: (node, tenantId, generation, _settings: TenantSettings) =>
        call('attach', () => {
          reach(node);
          const before = world.tenants.get(tenantId);
          must(!world.shredded.has(tenantId), 'a tenant without keys is not attached');
          must(generation >= (before?.generation ?? 0), 'a tenant is not attached under an older generation');
          const timelines = before?.timelines ?? new Map<string, SimTimeline>();
          world.tenants.set(tenantId, { nodeId: node.id, generation, timelines, deleted: false });
        }),
      detach: (_node, tenantId) =>
        call('detach', () => {
          world.tenant(tenantId).nodeId = undefined;
        }),
      createTimeline: (node, tenantId, timeline) =>
        call('create timeline', () => create(there(node, tenantId), timeline)),
      timeline: (node, tenantId, timelineId) =>
        call('look at a timeline', () => {
          const found = there(node, tenantId).timelines.get(timelineId);
          return found && stateOf(found);
        }),
      deleteTimeline: (node, tenantId, timelineId) =>
        call('delete timeline', () => {
          const { timelines } = there(node, tenantId);
          const child = [...timelines.values()].find(one => one.ancestorId === timelineId);
          must(child === undefined, 'a timeline with children is not deleted');
          const user = [...world.computes.values()].find(one => one.spec.timelineId === timelineId);
          must(user === undefined, 'a timeline with a compute on it is not deleted');
          timelines.delete(timelineId);
        }),
      deleteTenant: (node, tenantId) =>
        call('delete tenant', () => {
          reach(node);
          const tenant = world.tenants.get(tenantId);
          if (!tenant) return;
          const user = [...world.computes.values()].find(one => one.spec.tenantId === tenantId);
          must(user === undefined, 'a tenant with a compute on it is not deleted');
          tenant.timelines.clear();
          tenant.deleted = true;
        }),
      lsnByTime: (node, tenantId, timelineId) =>
        call('look for a time', (): LsnByTime => {
          const found = there(node, tenantId).timelines.get(timelineId);
          return { kind: 'present', lsn: found?.ancestorLsn ?? ROOT_LSN };
        }),
      lease: (node, tenantId) =>
        call('lease', () => {
          there(node, tenantId);
          return world.clock.now() + 600_000;
        }),
      commitLsn: (_tenantId, timelineId) => call('ask safekeepers', () => world.written.get(timelineId)),
      deleteWal: (tenantId, timelineId) =>
        call('delete WAL', () => {
          if (timelineId !== undefined) world.written.delete(timelineId);
          else for (const id of world.tenants.get(tenantId)?.timelines.keys() ?? []) world.written.delete(id);
        }),
      safekeepers: () => [{ host: '127.0.0.1', port: 5454, httpPort: 7676 }],
    };
  }

  driver(): ComputeDriver {
    const { world } = this;
    const address = (id: string): ComputeAddress | undefined => {
      const found = world.computes.get(id);
      return found && { host: '127.0.0.1', port: found.port };
    };
    return {
      kind: 'process',
      problem: () => undefined,
      start: async (spec, signal) => {
        await this.through('compute clear', () => void world.computes.delete(spec.endpointId));
        await world.clock.sleep(300);
        signal.throwIfAborted();
        return this.through('compute start', () => world.startCompute(spec));
      },
      configure: (spec, deltas) =>
        this.through('compute configure', () => {
          must(world.computes.has(spec.endpointId), 'a compute that does not run is not configured');
          const { port } = world.computes.get(spec.endpointId)!;
          world.computes.set(spec.endpointId, { spec, port });
          world.deltas.push(...deltas);
          return spec.settings.pgSettings['shared_buffers'] !== undefined;
        }),
      stop: id => this.through('compute stop', () => void world.computes.delete(id)),
      find: async id => {
        await this.pass('look at a compute');
        return address(id);
      },
      busy: async () => 0,
      list: async () => [...world.computes.keys()],
    };
  }

  keys(): ManagerKeys {
    const { world } = this;
    const use = (tenantId: string): KeyUse =>
      world.shredded.has(tenantId) ? 'shredded' : world.revoked.has(tenantId) ? 'revoked' : 'usable';
    const sealed = (password: string, cmk: string): string => `${cmk}|${password}`;
    return {
      defaultCmk: 'sim:default',
      bind: (tenantId, cmk) =>
        this.through('bind key', () => {
          const before = world.keys.get(tenantId);
          must(before === undefined || before === cmk, 'a key is bound once');
          world.keys.set(tenantId, cmk);
        }),
      watch: async tenantId => use(tenantId),
      release: () => undefined,
      use,
      heard: use,
      look: async tenantId => use(tenantId),
      change: (tenantId, cmk) => this.through('change key', () => void world.keys.set(tenantId, cmk)),
      shred: tenantId =>
        this.through('shred key', () => {
          world.shredded.add(tenantId);
          world.keys.delete(tenantId);
        }),
      newPassword: async (_tenantId, cmk): Promise<SealedPassword> => ({
        password: 'secret',
        sealed: sealed('secret', cmk),
      }),
      openPassword: async (_tenantId, cmk, text) => {
        must(text === sealed('secret', cmk), 'a password opens under the key that sealed it');
        return 'secret';
      },
      rewrapPassword: async (_tenantId, from, to, text) => {
        must(text === sealed('secret', from), 'a password is rewrapped from the key that sealed it');
        return sealed('secret', to);
      },
    };
  }
}

function create({ timelines }: SimTenant, timeline: NewTimeline): TimelineState {
  const before = timelines.get(timeline.timelineId);
  if (!('ancestorId' in timeline)) {
    if (!before) {
      const made = { ancestorId: undefined, ancestorLsn: undefined, lastRecordLsn: ROOT_LSN };
      timelines.set(timeline.timelineId, made);
    }
    return stateOf(timelines.get(timeline.timelineId)!);
  }
  const ancestor = timelines.get(timeline.ancestorId);
  if (!ancestor) throw new Fault('pageserver-refused', 'no such ancestor');
  const lsn = timeline.lsn ?? ancestor.lastRecordLsn;
  if (before) {
    must(before.ancestorLsn === lsn, 'a timeline is made again as it was made');
    return stateOf(before);
  }
  timelines.set(timeline.timelineId, {
    ancestorId: timeline.ancestorId,
    ancestorLsn: lsn,
    lastRecordLsn: lsn,
  });
  return stateOf(timelines.get(timeline.timelineId)!);
}

const stateOf = ({ ancestorLsn, lastRecordLsn }: SimTimeline): TimelineState => ({
  ancestorLsn,
  lastRecordLsn,
});

const withoutNulls = (row: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null));
