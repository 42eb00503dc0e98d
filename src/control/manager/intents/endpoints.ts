// Endpoints: made, changed, started, suspended, restarted, deleted; and woken by whoever connects. However many want an
// endpoint awake at once, one start is written down, and all wait for it.

import { Fault } from '../../../base/fault.ts';
import { formatLsn, parseLsn } from '../../../base/lsn.ts';
import type { Manager } from '../manager.ts';
import type {
  Branch,
  Change,
  ComputeSettings,
  Endpoint,
  EndpointType,
  Operation,
  Project,
} from '../model.ts';
import { checkName, endpointName } from '../names.ts';
import { isRevoked, type NewOperation, placementOf, revokedFault } from '../operations/step.ts';
import { locksOf } from '../plan.ts';
import { failureOf } from './failure.ts';
import { findTarget, primaryOf } from './find.ts';

export interface SettingsInput {
  readonly suspendTimeoutSeconds?: number | undefined;
  readonly size?: number | undefined;
  readonly pgSettings?: Readonly<Record<string, string>> | undefined;
}

const SIZE_MIN = 0.25;
const SIZE_MAX = 56;
const TIMEOUT_MAX_S = 604_800;
const SETTING_NAME = /^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/i;
/** These make a compute what it is. */
const OURS =
  /^(neon\.(tenant_id|timeline_id|pageserver_connstring|safekeepers|compute_mode|stripe_size)|port|listen_addresses|unix_socket.*|shared_preload_libraries|synchronous_standby_names|data_directory|hba_file|ident_file|config_file|recovery_target.*|primary_.*|restore_command|archive_command|ssl.*|password_encryption)$/i;

export function settingsFrom(input: SettingsInput | undefined, otherwise: ComputeSettings): ComputeSettings {
  const { suspendTimeoutSeconds = otherwise.suspendTimeoutSeconds, size = otherwise.size } = input ?? {};
  const pgSettings = input?.pgSettings ?? otherwise.pgSettings;
  if (
    !Number.isInteger(suspendTimeoutSeconds) ||
    suspendTimeoutSeconds < -1 ||
    suspendTimeoutSeconds > TIMEOUT_MAX_S
  ) {
    throw new Fault('request-invalid', `suspend_timeout_seconds is not from -1 to ${TIMEOUT_MAX_S}`, {
      hint: '-1 never suspends, 0 takes the default.',
    });
  }
  if (!(size >= SIZE_MIN && size <= SIZE_MAX)) {
    throw new Fault(
      'request-invalid',
      `the size is not from ${SIZE_MIN} to ${SIZE_MAX} compute units: ${size}`,
    );
  }
  for (const [name, value] of Object.entries(pgSettings)) {
    if (!SETTING_NAME.test(name) || OURS.test(name) || /[\n\r\0]/.test(value)) {
      throw new Fault('request-invalid', `"${name}" cannot be set for a compute`, {
        hint: 'Its connections to the storage, its files and its ports are set by the manager.',
      });
    }
  }
  return { suspendTimeoutSeconds, size, pgSettings };
}

export interface EndpointInput {
  readonly type: EndpointType;
  readonly name?: string | undefined;
  readonly staticLsn?: string | undefined;
  readonly settings?: SettingsInput | undefined;
  readonly disabled?: boolean | undefined;
}

export function newEndpoint(
  manager: Manager,
  project: Project,
  branch: Branch,
  input: EndpointInput,
): Endpoint {
  const now = manager.clock.now();
  if (input.staticLsn !== undefined && input.type !== 'read_only') {
    throw new Fault('request-invalid', 'an endpoint at one LSN is read_only');
  }
  return {
    id: endpointName(manager.random),
    projectId: project.id,
    branchId: branch.id,
    name: input.name === undefined ? undefined : checkName(input.name, 'endpoint'),
    type: input.type,
    staticLsn: input.staticLsn === undefined ? undefined : formatLsn(parseLsn(input.staticLsn)),
    settings: settingsFrom(input.settings, project.computeSettings),
    disabled: input.disabled ?? false,
    wanted: 'idle',
    state: 'idle',
    host: undefined,
    port: undefined,
    driver: undefined,
    startedAt: undefined,
    suspendedAt: undefined,
    lastActiveAt: undefined,
    stage: branch.stage === 'init' ? 'init' : 'ready',
    createdAt: now,
    updatedAt: now,
  };
}

export interface EndpointAnswer {
  readonly endpoint: Endpoint;
  readonly operations: readonly Operation[];
}

const desire = (manager: Manager, { id }: Endpoint, wanted: Endpoint['wanted']): Change => ({
  patch: 'endpoints',
  id,
  set: { wanted, updatedAt: manager.clock.now() },
});

const operationOn = (endpoint: Endpoint, action: NewOperation['action'], details = {}): NewOperation => ({
  projectId: endpoint.projectId,
  branchId: endpoint.branchId,
  endpointId: endpoint.id,
  action,
  details,
});

/** The branch's primary, or a new one with the change that makes it. */
export function primaryEndpoint(manager: Manager, branch: Branch): { endpoint: Endpoint; changes: Change[] } {
  const there = primaryOf(manager.store, branch);
  if (there) return { endpoint: there, changes: [] };
  const project = manager.store.projectOf(branch);
  const endpoint = newEndpoint(manager, project, branch, { type: 'read_write' });
  return { endpoint, changes: [{ put: 'endpoints', row: endpoint }] };
}

export interface NewEndpointInput extends EndpointInput {
  readonly staticTimestamp?: number | undefined;
}

export async function createEndpoint(
  manager: Manager,
  project: Project,
  branch: Branch,
  input: NewEndpointInput,
): Promise<EndpointAnswer> {
  const refuse = (): void => {
    refuseGoing(manager.store.get('branches', branch.id) ?? branch);
    if (input.type !== 'read_write' || !primaryOf(manager.store, branch)) return;
    throw new Fault('name-taken', `branch ${branch.name} has a read_write endpoint already`, {
      hint: 'Make it read_only, or make another branch.',
    });
  };
  refuse();
  const staticLsn = input.staticLsn ?? (await lsnOf(manager, project, branch, input.staticTimestamp));
  const endpoint = newEndpoint(manager, project, branch, { ...input, staticLsn });
  await manager.commit(() => {
    refuse();
    return [{ put: 'endpoints', row: endpoint }];
  });
  return { endpoint, operations: [] };
}

async function lsnOf(
  manager: Manager,
  project: Project,
  branch: Branch,
  atMs: number | undefined,
): Promise<string | undefined> {
  if (atMs === undefined) return undefined;
  const { node } = placementOf(manager.store, project.tenantId);
  const found = await manager.storage.lsnByTime(node, project.tenantId, branch.timelineId, atMs);
  if (found.kind !== 'past') return found.lsn;
  throw new Fault('request-invalid', `the history of branch ${branch.name} does not reach so far back`);
}

export function refuseGoing(branch: Branch): void {
  if (branch.stage === 'deleting')
    throw new Fault('branch-missing', `branch ${branch.name} is being deleted`);
}

export interface EndpointChange {
  readonly name?: string | undefined;
  readonly settings?: SettingsInput | undefined;
  readonly disabled?: boolean | undefined;
}

export async function changeEndpoint(
  manager: Manager,
  endpoint: Endpoint,
  input: EndpointChange,
): Promise<EndpointAnswer> {
  const settings = settingsFrom(input.settings, endpoint.settings);
  const set = {
    name: input.name === undefined ? endpoint.name : checkName(input.name, 'endpoint'),
    settings,
    disabled: input.disabled ?? endpoint.disabled,
    updatedAt: manager.clock.now(),
  };
  const row: Endpoint = { ...endpoint, ...set };
  const change: Change = { patch: 'endpoints', id: endpoint.id, set };
  const awake = endpoint.wanted === 'active';
  if (awake && row.disabled) return suspend(manager, row, [change]);
  const operations = awake && settings !== endpoint.settings ? [operationOn(endpoint, 'apply_config')] : [];
  return { endpoint: row, operations: await manager.open(operations, [change]) };
}

function refuseStart(manager: Manager, endpoint: Endpoint): void {
  const project = manager.store.projectOf(endpoint);
  if (isRevoked(manager.keys.use(project.tenantId))) throw revokedFault(project);
  if (!endpoint.disabled) return;
  throw new Fault('endpoint-disabled', `endpoint ${endpoint.id} is disabled`, {
    hint: 'PATCH it with {"endpoint":{"disabled":false}}.',
  });
}

/** What is under way for an endpoint, the latest last. */
const openOn = (manager: Manager, id: string): Operation[] =>
  manager.store.openOperations().filter(operation => operation.endpointId === id);

export async function startEndpoint(manager: Manager, endpoint: Endpoint): Promise<EndpointAnswer> {
  refuseStart(manager, endpoint);
  manager.sight.hear([{ endpointId: endpoint.id, connections: 0, busy: 0, idleMs: 0 }]);
  const open = openOn(manager, endpoint.id);
  const last = open.at(-1);
  if (last?.action === 'start_compute') return { endpoint, operations: [last] };
  if (endpoint.state === 'active' && !open.some(o => o.action !== 'apply_config'))
    return { endpoint, operations: [] };
  return startAgain(manager, endpoint);
}

async function suspend(
  manager: Manager,
  endpoint: Endpoint,
  changes: readonly Change[],
): Promise<EndpointAnswer> {
  const operations = await manager.open(
    [operationOn(endpoint, 'suspend_compute', { reason: 'asked' })],
    [...changes, desire(manager, endpoint, 'idle')],
  );
  return { endpoint: { ...endpoint, wanted: 'idle' }, operations };
}

export async function suspendEndpoint(manager: Manager, endpoint: Endpoint): Promise<EndpointAnswer> {
  const asleep =
    endpoint.wanted === 'idle' && endpoint.state === 'idle' && openOn(manager, endpoint.id).length === 0;
  return asleep ? { endpoint, operations: [] } : suspend(manager, endpoint, []);
}

export async function restartEndpoint(manager: Manager, endpoint: Endpoint): Promise<EndpointAnswer> {
  refuseStart(manager, endpoint);
  const row: Endpoint = { ...endpoint, wanted: 'active', updatedAt: manager.clock.now() };
  const both = [
    operationOn(row, 'suspend_compute', { reason: 'restart' }),
    operationOn(row, 'start_compute'),
  ];
  return { endpoint: row, operations: await manager.open(both, [{ put: 'endpoints', row }]) };
}

export async function deleteEndpoint(manager: Manager, endpoint: Endpoint): Promise<EndpointAnswer> {
  const set = { stage: 'deleting', wanted: 'idle', updatedAt: manager.clock.now() } as const;
  const operations = await manager.open(
    [operationOn(endpoint, 'delete_compute')],
    [{ patch: 'endpoints', id: endpoint.id, set }],
  );
  return { endpoint: { ...endpoint, ...set }, operations };
}

/** Awake and taking connections, or a Fault that the client is told. */
export async function wake(
  manager: Manager,
  target: string,
): Promise<{ endpoint: Endpoint; started: boolean }> {
  const { branch, endpoint } = findTarget(manager.store, target);
  refuseGoing(branch);
  // Many come for a branch that has no endpoint yet: one is made.
  const key = endpoint?.id ?? branch.id;
  if (endpoint && isAwake(manager, endpoint)) {
    refuseStart(manager, endpoint);
    manager.sight.hear([{ endpointId: endpoint.id, connections: 0, busy: 0, idleMs: 0 }]);
    return { endpoint, started: false };
  }
  return { endpoint: await manager.wakes.run(key, () => wakeNow(manager, branch, endpoint)), started: true };
}

function isAwake(manager: Manager, endpoint: Endpoint): boolean {
  if (endpoint.state !== 'active' || endpoint.wanted !== 'active' || endpoint.host === undefined)
    return false;
  const touched = [endpoint.id, endpoint.branchId, endpoint.projectId];
  const inTheWay = (o: Operation): boolean =>
    o.action !== 'apply_config' && locksOf(o).alone.some(id => touched.includes(id));
  return (
    !manager.store.openOperations().some(inTheWay) &&
    manager.sight.endpoints.get(endpoint.id)?.running !== false
  );
}

async function wakeNow(manager: Manager, branch: Branch, known: Endpoint | undefined): Promise<Endpoint> {
  let endpoint = known;
  if (!endpoint) {
    const made = primaryEndpoint(manager, branch);
    if (made.changes.length > 0) await manager.commit(made.changes);
    endpoint = made.endpoint;
  }
  // One that died and was not yet missed is started again, too.
  const died = endpoint.state === 'active' && openOn(manager, endpoint.id).length === 0;
  const { operations } = died ? await startAgain(manager, endpoint) : await startEndpoint(manager, endpoint);
  const last = operations.at(-1);
  const done = last && (await manager.finished(last.id));
  const now = manager.store.get('endpoints', endpoint.id);
  if (now?.state === 'active' && now.host !== undefined) return now;
  refuseStart(manager, endpoint);
  if (done?.status === 'failed') throw failureOf(done);
  throw new Fault('compute-failed', `compute ${endpoint.id} was stopped as soon as it was started`, {
    hint: 'Try again; the manager’s log and the compute’s tell more.',
  });
}

async function startAgain(manager: Manager, endpoint: Endpoint): Promise<EndpointAnswer> {
  refuseStart(manager, endpoint);
  const operations = await manager.open(
    [operationOn(endpoint, 'start_compute')],
    [desire(manager, endpoint, 'active')],
  );
  return { endpoint: { ...endpoint, wanted: 'active' }, operations };
}
