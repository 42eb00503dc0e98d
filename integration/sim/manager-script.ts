// A day of a manager: every kind of operation there is, in an order in which each has something to do; run by managers
// that die, on a world that does not. When one dies in the middle of a wish, the next one finishes what was written
// down; a wish that was not yet written down is wished again, as its caller, who got no answer, would.

import { isFault } from '../../src/base/fault.ts';
import * as branches from '../../src/control/manager/intents/branches.ts';
import * as endpoints from '../../src/control/manager/intents/endpoints.ts';
import { defaultBranch, findBranch, findProject, primaryOf } from '../../src/control/manager/intents/find.ts';
import * as keyConfigs from '../../src/control/manager/intents/key-configs.ts';
import * as projects from '../../src/control/manager/intents/projects.ts';
import * as roles from '../../src/control/manager/intents/roles.ts';
import { Manager } from '../../src/control/manager/manager.ts';
import type { Branch, Endpoint, Project } from '../../src/control/manager/model.ts';
import { SimClock } from './clock.ts';
import { Life, type LifeOptions, ManagerWorld, WorldError } from './manager-world.ts';
import { SimRandom } from './random.ts';

interface Wish {
  readonly name: string;
  /** Done already, by a life that died before it could say so. */
  done(manager: Manager, world: ManagerWorld): boolean;
  make(manager: Manager, world: ManagerWorld): Promise<unknown>;
}

const project = ({ store }: Manager, name = 'shop'): Project => findProject(store, name);
const hasProject = ({ store }: Manager, name: string): boolean =>
  [...store.all('projects').values()].some(one => one.name === name && one.stage !== 'deleting');
const branch = (manager: Manager, name: string): Branch => findBranch(manager.store, project(manager), name);
const hasBranch = (manager: Manager, name: string): boolean =>
  manager.store.branchesOf(project(manager).id).some(one => one.name === name && one.stage !== 'deleting');
const primary = (manager: Manager, name: string): Endpoint =>
  primaryOf(manager.store, branch(manager, name))!;
const wants = (manager: Manager, name: string, wanted: Endpoint['wanted']): boolean =>
  primaryOf(manager.store, branch(manager, name))?.wanted === wanted;

const restoring = (manager: Manager, name: string): boolean =>
  manager.store
    .openOperations()
    .some(one => one.action === 'restore_branch' && one.branchId === branch(manager, name).id);

/** Commits of clients. */
const writes = (name: string, lsn: string): Wish => ({
  name: `write to ${name}`,
  done: (manager, world) => world.written.has(branch(manager, name).timelineId),
  make: async (manager, world) => world.write(branch(manager, name).timelineId, lsn),
});

const settle = { suspendTimeoutSeconds: -1 };

export const WISHES: readonly Wish[] = [
  {
    name: 'create project',
    done: manager => hasProject(manager, 'shop'),
    make: manager => projects.createProject(manager, { name: 'shop', settings: settle }),
  },
  {
    name: 'wake main',
    done: manager => wants(manager, 'main', 'active'),
    make: manager => endpoints.wake(manager, 'shop/main'),
  },
  writes('main', '0/1600000'),
  {
    name: 'branch from now',
    done: manager => hasBranch(manager, 'dev'),
    make: manager => branches.createBranch(manager, project(manager), { name: 'dev' }),
  },
  {
    name: 'branch from an LSN, with an endpoint',
    done: manager => hasBranch(manager, 'old'),
    make: manager =>
      branches.createBranch(manager, project(manager), {
        name: 'old',
        parentLsn: '0/1580000',
        endpoints: [{ type: 'read_write' }],
      }),
  },
  {
    name: 'branch from a time, of the branch',
    done: manager => hasBranch(manager, 'past'),
    make: manager =>
      branches.createBranch(manager, project(manager), {
        name: 'past',
        parentId: 'dev',
        parentTimestamp: manager.clock.now() - 1,
      }),
  },
  {
    name: 'wake dev, which has no endpoint yet',
    done: manager => wants(manager, 'dev', 'active'),
    make: manager => endpoints.wake(manager, 'shop/dev'),
  },
  writes('dev', '0/1700000'),
  {
    name: 'role and database',
    done: manager => manager.store.databasesOf(branch(manager, 'dev').id).some(one => one.name === 'extra'),
    make: async manager => {
      const dev = branch(manager, 'dev');
      const has = manager.store.rolesOf(dev.id).some(one => one.name === 'ann');
      if (!has) await roles.createRole(manager, dev, 'ann');
      await roles.createDatabase(manager, dev, { name: 'extra', ownerName: 'ann' });
    },
  },
  {
    name: 'settings that need a restart',
    done: manager => primary(manager, 'dev').settings.pgSettings['shared_buffers'] !== undefined,
    make: manager =>
      endpoints.changeEndpoint(manager, primary(manager, 'dev'), {
        settings: { pgSettings: { shared_buffers: '1GB' } },
      }),
  },
  {
    name: 'reset dev, which has a child, to main',
    done: manager => hasBranch(manager, 'dev_kept') || restoring(manager, 'dev'),
    make: manager => branches.resetToParent(manager, branch(manager, 'dev'), 'dev_kept'),
  },
  {
    name: 'restore main to itself',
    done: manager => hasBranch(manager, 'main_kept') || restoring(manager, 'main'),
    make: manager => {
      const main = branch(manager, 'main');
      return branches.restoreBranch(manager, main, {
        sourceId: main.id,
        lsn: '0/1580000',
        preserveName: 'main_kept',
      });
    },
  },
  {
    name: 'drop a database',
    done: (manager, world) =>
      world.deltas.length > 0 ||
      manager.store.openOperations().some(one => one.details['deltas'] !== undefined) ||
      !manager.store.databasesOf(branch(manager, 'old').id).some(one => one.name === 'neondb'),
    make: manager => {
      const old = branch(manager, 'old');
      return roles.deleteDatabase(manager, old, roles.findDatabase(manager.store, old, 'neondb'));
    },
  },
  {
    name: 'replica and static endpoint',
    done: manager =>
      manager.store.endpointsOf(branch(manager, 'main').id).some(one => one.staticLsn !== undefined),
    make: async manager => {
      const main = branch(manager, 'main');
      const shop = project(manager);
      const made = await endpoints.createEndpoint(manager, shop, main, {
        type: 'read_only',
        staticLsn: '0/1580000',
        settings: settle,
      });
      await endpoints.wake(manager, made.endpoint.id);
    },
  },
  {
    name: 'move to another key',
    done: manager =>
      project(manager).keyId !== undefined ||
      manager.store.openOperations().some(o => o.action === 'change_key'),
    make: manager => projects.changeProject(manager, project(manager), { key: 'sim:other' }),
  },
  {
    name: 'restart main',
    done: () => false,
    make: manager => endpoints.restartEndpoint(manager, primary(manager, 'main')),
  },
  {
    name: 'suspend main',
    done: manager => wants(manager, 'main', 'idle'),
    make: manager => endpoints.suspendEndpoint(manager, primary(manager, 'main')),
  },
  {
    name: 'delete an endpoint',
    done: manager =>
      !hasBranch(manager, 'old') || primaryOf(manager.store, branch(manager, 'old')) === undefined,
    make: manager => endpoints.deleteEndpoint(manager, primary(manager, 'old')),
  },
  {
    name: 'delete the branch with the endpoint',
    done: manager => !hasBranch(manager, 'old'),
    make: manager => branches.deleteBranch(manager, branch(manager, 'old')),
  },
  {
    name: 'a second project, deleted at once',
    done: manager => hasProject(manager, 'brief'),
    make: manager => projects.createProject(manager, { name: 'brief' }),
  },
  {
    name: 'delete it',
    done: manager => !hasProject(manager, 'brief'),
    make: manager => projects.deleteProject(manager, project(manager, 'brief')),
  },
  {
    name: 'the pageserver dies',
    done: (_manager, world) => world.deadNodes.size > 0,
    make: async (manager, world) => {
      // The one that has the shop: it must move.
      const { tenantId } = project(manager);
      const { nodeId } = manager.store.must('placements', tenantId);
      world.deadNodes.add(nodeId);
      const moved = (): boolean => manager.store.must('placements', tenantId).nodeId !== nodeId;
      while (!moved()) await manager.clock.sleep(500);
    },
  },
  {
    name: 'a branch that ends by itself',
    done: manager => hasBranch(manager, 'brief') || manager.store.get('keys', 'mark') !== undefined,
    make: async manager => {
      await branches.createBranch(manager, project(manager), {
        name: 'brief',
        expiresAt: manager.clock.now() + 3000,
      });
      await keyConfigs.createKey(manager, { name: 'mark', cmk: 'sim:mark' }).catch(ignore);
    },
  },
  {
    name: 'the key is revoked',
    done: (manager, world) => world.revoked.has(project(manager).tenantId),
    make: async (manager, world) => {
      const { tenantId } = project(manager);
      world.revoked.add(tenantId);
      const running = (): boolean => [...world.computes.values()].some(one => one.spec.tenantId === tenantId);
      while (running()) await manager.clock.sleep(500);
    },
  },
];

const ignore = (error: unknown): void => {
  if (!isFault(error)) throw error;
};

const NODES = ['1', '2'];
const WISH_MS = 120_000;
const SETTLE_MS = 300_000;

export interface DayResult {
  readonly doors: number;
  readonly deaths: readonly string[];
  readonly world: ManagerWorld;
  readonly manager: Manager;
}

/** The whole day. The first life has the fuse given, later ones that of `again`. */
export async function runDay(options: {
  readonly seed: number;
  readonly fuse: number;
  /** Doors until the next deaths, for those who like to see more than one. */
  readonly again?: (life: number) => number;
  readonly trouble?: number;
}): Promise<DayResult> {
  const clock = new SimClock();
  const world = new ManagerWorld(clock);
  const random = new SimRandom(options.seed);
  const deaths: string[] = [];
  const result: { value?: DayResult; error?: unknown } = {};
  const day = live(world, random, options, deaths);
  day.then(
    value => (result.value = value),
    error => (result.error = error ?? new Error('no reason')),
  );
  await clock.run(Infinity, () => result.value !== undefined || result.error !== undefined);
  if (result.error !== undefined) {
    const told = `seed ${options.seed}, fuse ${options.fuse}, deaths: ${deaths.join(', ')}`;
    throw new Error(`${(result.error as Error).message} (${told})`, { cause: result.error });
  }
  return result.value!;
}

async function live(
  world: ManagerWorld,
  random: SimRandom,
  options: Parameters<typeof runDay>[0],
  deaths: string[],
): Promise<DayResult> {
  const trouble =
    options.trouble === undefined
      ? undefined
      : { random: random.split('trouble'), probability: options.trouble };
  let doors = 0;
  let lives = 0;
  let fuse = options.fuse;
  let current = await begin(world, random, { fuse, trouble });
  const next = async (where: string): Promise<void> => {
    deaths.push(where);
    doors += current.life.passed;
    lives++;
    fuse = options.again?.(lives) ?? Infinity;
    current = await begin(world, random, { fuse, trouble });
  };
  for (const wish of WISHES) {
    for (;;) {
      const died = await granted(world, wish, current);
      if (died === undefined) break;
      await next(`${wish.name}: ${died}`);
    }
  }
  for (;;) {
    const died = await Promise.race([current.life.died, quiet(world, current.manager)]);
    if (died === undefined) break;
    await next(`the end: ${died}`);
  }
  current.life.end();
  doors += current.life.passed;
  return { doors, deaths, world, manager: current.manager };
}

async function begin(
  world: ManagerWorld,
  random: SimRandom,
  options: LifeOptions,
): Promise<{ life: Life; manager: Manager }> {
  const life = new Life(world, options);
  const open = async (): Promise<Manager> => {
    const manager = await Manager.open({
      clock: life.clock(),
      random,
      log: life.log,
      catalog: life.catalog(),
      storage: life.storage(),
      keys: life.keys(),
      drivers: [life.driver()],
      settings: { suspendTimeoutSeconds: -1, nodeDeadMs: 5000, proxyHost: '127.0.0.1', proxyPort: 55400 },
    });
    return manager;
  };
  const manager = await open();
  const prepared = (async () => {
    for (const id of NODES) {
      const know = { id, pgHost: 'ps', pgPort: 6400, httpHost: 'ps', httpPort: 9898 };
      for (;;) {
        try {
          await manager.know(know);
          break;
        } catch (error) {
          ignore(error);
        }
      }
    }
    await manager.start();
  })();
  await Promise.race([prepared, life.died]);
  return { life, manager };
}

/** The wish and all that follows from it; where the manager died, if it did. */
async function granted(
  world: ManagerWorld,
  wish: Wish,
  { life, manager }: { life: Life; manager: Manager },
): Promise<string | undefined> {
  const work = async (): Promise<undefined> => {
    const end = world.clock.monotonic() + WISH_MS;
    while (!wish.done(manager, world)) {
      try {
        await wish.make(manager, world);
        break;
      } catch (error) {
        // Refused for a while, as a caller is: asked again.
        ignore(error);
        if (world.clock.monotonic() > end)
          throw new WorldError(`${wish.name} is refused: ${(error as Error).message}`);
        await manager.clock.sleep(200);
      }
    }
    await quiet(world, manager, wish.name);
    return undefined;
  };
  return Promise.race([life.died, work()]);
}

/** Nothing is left to do. */
async function quiet(world: ManagerWorld, manager: Manager, what = 'the end'): Promise<undefined> {
  const end = world.clock.monotonic() + SETTLE_MS;
  while (manager.store.openOperations().length > 0) {
    await manager.clock.sleep(100);
    if (world.clock.monotonic() <= end) continue;
    const [first] = manager.store.openOperations();
    throw new WorldError(`${what}: ${first?.action} never ends at step ${first?.step}: ${first?.error}`);
  }
  // Two looks at the world: what follows from what was seen is done.
  await manager.clock.sleep(4500);
  if (manager.store.openOperations().length > 0) return quiet(world, manager, what);
  return undefined;
}

/** What must be true at the end, whatever happened on the way. */
export function judge({ world, manager }: DayResult): string[] {
  const { store } = manager;
  const wrong: string[] = [];
  // A start is given up after a few tries, and told to whoever connects.
  const failed = [...store.all('operations').values()].filter(
    one => one.status === 'failed' && one.action !== 'start_compute',
  );
  for (const one of failed) wrong.push(`${one.action} failed: ${one.error}`);
  for (const one of store.all('projects').values()) {
    const tenant = world.tenants.get(one.tenantId);
    const branches = store.branchesOf(one.id);
    const wanted = branches.map(b => b.timelineId).sort();
    const there = [...(tenant?.timelines.keys() ?? [])].sort();
    if (wanted.join() !== there.join()) wrong.push(`timelines of ${one.name}: ${there} for ${wanted}`);
    for (const b of branches) {
      if (b.stage !== 'ready') wrong.push(`branch ${b.name} is ${b.stage}`);
      const ancestor = tenant?.timelines.get(b.timelineId)?.ancestorId;
      const parent = branches.find(other => other.timelineId === ancestor);
      if (parent?.id !== b.parentId)
        wrong.push(`branch ${b.name} says it is of ${b.parentId}, and is of ${parent?.id}`);
    }
    const placement = store.must('placements', one.tenantId);
    if (tenant?.nodeId !== placement.nodeId) wrong.push(`tenant of ${one.name} is not where it is placed`);
    if (tenant?.generation !== placement.generation)
      wrong.push(`tenant of ${one.name} has another generation`);
    const cmk = one.keyId === undefined ? 'sim:default' : store.must('keys', one.keyId).cmk;
    if (world.keys.get(one.tenantId) !== cmk) wrong.push(`${one.name} is not under its key`);
    for (const role of branches.flatMap(b => store.rolesOf(b.id))) {
      if (role.sealedPassword !== `${cmk}|secret`)
        wrong.push(`a password of ${one.name} is under another key`);
    }
  }
  for (const endpoint of store.all('endpoints').values()) {
    const runs = world.computes.get(endpoint.id);
    if ((endpoint.state === 'active') !== (runs !== undefined)) {
      wrong.push(`endpoint ${endpoint.id} is ${endpoint.state}, and ${runs ? 'runs' : 'does not run'}`);
    }
    if (runs && runs.port !== endpoint.port) wrong.push(`endpoint ${endpoint.id} is elsewhere`);
  }
  for (const id of world.computes.keys()) {
    if (!store.get('endpoints', id)) wrong.push(`compute ${id} runs for nobody`);
  }
  const alive = new Set([...store.all('projects').values()].map(one => one.tenantId));
  for (const [id, tenant] of world.tenants) {
    if (!alive.has(id) && !tenant.deleted) wrong.push(`tenant ${id} was left behind`);
    if (tenant.deleted && !world.shredded.has(id)) wrong.push(`tenant ${id} was deleted, and its keys live`);
  }
  const main = defaultBranch(store, project(manager));
  if (main.name !== 'main') wrong.push('main is not the default any more');
  return wrong;
}
