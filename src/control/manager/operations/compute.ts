// Starting, suspending, configuring and deleting computes. No compute starts on a key that is revoked; one whose key is
// revoked while it starts is stopped before anybody is told where it is.

import type { Delta } from '../drivers/driver.ts';
import type { Change, Endpoint } from '../model.ts';
import { databaseId, roleId } from '../model.ts';
import {
  type ActionTable,
  endpointOf,
  isRevoked,
  projectOf,
  revokedFault,
  type StepContext,
  type StepResult,
  specOf,
} from './step.ts';

const patch = ({ id }: Endpoint, set: Partial<Endpoint>): Change => ({ patch: 'endpoints', id, set });

export const asleep = (endpoint: Endpoint, now: number, more: Partial<Endpoint> = {}): Change =>
  patch(endpoint, {
    state: 'idle',
    host: undefined,
    port: undefined,
    suspendedAt: now,
    updatedAt: now,
    ...more,
  });

/** The key asked, the driver chosen. */
async function prepare(context: StepContext): Promise<StepResult> {
  const { keys, now } = context;
  const project = projectOf(context);
  if (isRevoked(await keys.watch(project.tenantId))) throw revokedFault(project);
  const driver = context.driverFor(project.pgVersion);
  const endpoint = endpointOf(context);
  return { changes: [patch(endpoint, { driver: driver.kind, state: 'init', updatedAt: now })] };
}

async function start(context: StepContext): Promise<StepResult> {
  const { keys, clock, signal } = context;
  const project = projectOf(context);
  const endpoint = endpointOf(context);
  // After a restart of the manager nobody watches it yet.
  if (isRevoked(await keys.watch(project.tenantId))) throw revokedFault(project);
  const driver = context.driverOf(endpoint);
  const spec = specOf(context, endpoint);
  const address = await driver.start(spec, signal);
  const now = specOf(context, endpoint);
  // Its tenant moved while it started.
  if (now.pageserver.port !== spec.pageserver.port || now.pageserver.host !== spec.pageserver.host) {
    await driver.configure(now, []);
  }
  if (isRevoked(keys.use(project.tenantId))) {
    await driver.stop(endpoint.id, 'immediate');
    throw revokedFault(project);
  }
  const startedAt = clock.now();
  return {
    details: { timings: address.timings },
    changes: [
      patch(endpoint, {
        host: address.host,
        port: address.port,
        state: 'active',
        startedAt,
        lastActiveAt: startedAt,
        updatedAt: startedAt,
      }),
    ],
  };
}

async function stopOne(context: StepContext, endpoint: Endpoint): Promise<void> {
  const how = context.operation.details['reason'] === 'key' ? 'immediate' : 'fast';
  await context.driverOf(endpoint).stop(endpoint.id, how);
  releaseKey(context, endpoint);
}

/** Keys are watched while a compute of the tenant runs. */
function releaseKey({ store, keys }: StepContext, gone: Endpoint): void {
  const awake = store
    .branchesOf(gone.projectId)
    .flatMap(branch => store.endpointsOf(branch.id))
    .some(other => other.id !== gone.id && other.state !== 'idle');
  if (!awake) keys.release(store.projectOf(gone).tenantId);
}

/** What the endpoints of a branch need before its timeline goes. */
export async function stopEndpoints(
  context: StepContext,
  endpoints: readonly Endpoint[],
): Promise<StepResult> {
  const changes: Change[] = [];
  for (const endpoint of endpoints) {
    if (endpoint.state !== 'idle') await stopOne(context, endpoint);
    changes.push(asleep(endpoint, context.now));
  }
  return { changes };
}

export const startCompute: ActionTable = {
  steps: [
    { name: 'prepare', run: prepare },
    { name: 'start', run: start },
  ],
  triesMax: 3,
  undo: async context => {
    const endpoint = endpointOf(context);
    if (endpoint.driver !== undefined) await context.driverOf(endpoint).stop(endpoint.id, 'immediate');
    releaseKey(context, endpoint);
  },
  onFailed: context => [asleep(endpointOf(context), context.now, { wanted: 'idle' })],
};

export const suspendCompute: ActionTable = {
  steps: [
    {
      // Who connects to the compute itself, past the proxy, is seen only here.
      name: 'check',
      run: async context => {
        const endpoint = endpointOf(context);
        const { operation } = context;
        if (operation.details['reason'] !== 'idle') return {};
        const asked = context.lastActive(endpoint.id) >= operation.createdAt;
        if (!asked && (await context.driverOf(endpoint).busy(endpoint.id)) === 0) return {};
        const { now } = context;
        const change = patch(endpoint, { wanted: 'active', lastActiveAt: now, updatedAt: now });
        return { done: true, details: { skipped: 'sessions are at work' }, changes: [change] };
      },
    },
    {
      name: 'stop',
      run: async context => {
        await stopOne(context, endpointOf(context));
        return { changes: [asleep(endpointOf(context), context.now)] };
      },
    },
  ],
};

export const deleteCompute: ActionTable = {
  steps: [
    { name: 'stop', run: context => stopEndpoints(context, [endpointOf(context)]) },
    {
      name: 'forget',
      run: async ({ operation }) => ({ changes: [{ remove: 'endpoints', id: operation.endpointId! }] }),
    },
  ],
};

const deltasOf = ({ operation }: StepContext): Delta[] => (operation.details['deltas'] as Delta[]) ?? [];

/** Rows of what a compute has dropped or renamed. */
function rowsOfDeltas(context: StepContext): Change[] {
  const { store, now } = context;
  const { branchId } = endpointOf(context);
  return deltasOf(context).flatMap((delta): Change[] => {
    const id = databaseId(branchId, delta.name);
    if (delta.do === 'drop-role') return [{ remove: 'roles', id: roleId(branchId, delta.name) }];
    if (delta.do === 'drop-database') return [{ remove: 'databases', id }];
    const row = store.get('databases', id);
    if (!row) return [];
    const renamed = {
      ...row,
      id: databaseId(branchId, delta.newName),
      name: delta.newName,
      updatedAt: now,
    };
    return [
      { remove: 'databases', id },
      { put: 'databases', row: renamed },
    ];
  });
}

/** Settings, roles and databases of a compute that runs; to drop or rename something one is started. */
export const applyConfig: ActionTable = {
  steps: [
    {
      name: 'wake',
      run: async context =>
        deltasOf(context).length > 0 && endpointOf(context).state !== 'active' ? prepare(context) : {},
    },
    {
      name: 'start',
      run: async context => (endpointOf(context).state === 'init' ? start(context) : {}),
    },
    {
      name: 'configure',
      run: async context => {
        const endpoint = endpointOf(context);
        if (endpoint.state !== 'active') return {};
        const driver = context.driverOf(endpoint);
        // It may have died since; what it should have been told it is told at its next start.
        if ((await driver.find(endpoint.id)) === undefined && deltasOf(context).length === 0) return {};
        const restart = await driver.configure(specOf(context, endpoint), deltasOf(context));
        return { details: { restart }, changes: rowsOfDeltas(context) };
      },
    },
    {
      name: 'restart',
      run: async context => {
        const endpoint = endpointOf(context);
        if (context.operation.details['restart'] !== true || endpoint.state !== 'active') return {};
        await context.driverOf(endpoint).stop(endpoint.id, 'fast');
        return start(context);
      },
    },
  ],
};
