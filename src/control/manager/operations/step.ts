// An operation is a row and a table of steps. A step does one thing to the world, may be repeated without harm, and is
// recorded, together with what it changed in the catalog, in one commit: after a crash the operation goes on with the
// step that was not recorded. What a later step needs to know is put into `details` by the earlier one.
//
// Trouble: `unavailable`, `closed` and `conflict` Faults are tried again with growing waits, as often as the table says;
// others, and the last try, end the operation as failed, with `undo` and the changes of `onFailed`.

import { Fault } from '../../../base/fault.ts';
import type { Clock, Log, Random } from '../../../base/ports.ts';
import type { ComputeDriver, ComputeSpec } from '../drivers/driver.ts';
import type { KeyUse, ManagerKeys } from '../keys.ts';
import {
  type Branch,
  type Change,
  type Endpoint,
  isBrought,
  type Node,
  type Operation,
  type OperationAction,
  type Placement,
  type Project,
} from '../model.ts';
import { uuid } from '../names.ts';
import type { Storage } from '../storage.ts';
import type { Store } from '../store.ts';

export interface OperationDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: Store;
  readonly storage: Storage;
  readonly keys: ManagerKeys;
  /** The best for this major, or a Fault `driver-missing` that says what to do. */
  driverFor(pgVersion: number): ComputeDriver;
  driverOf(endpoint: Endpoint): ComputeDriver;
  /** When a client last asked for it, or was at work, as the proxy says. */
  lastActive(endpointId: string): number;
}

export interface StepContext extends OperationDeps {
  readonly operation: Operation;
  readonly signal: AbortSignal;
  readonly now: number;
  /** Nobody can have begun this step before: what an earlier try may have left need not be looked for. */
  readonly isFirstTry: boolean;
}

export interface StepResult {
  readonly changes?: readonly Change[];
  /** Laid over the operation's. */
  readonly details?: Readonly<Record<string, unknown>>;
  /** The rest need not be done. */
  readonly done?: boolean;
}

export interface Step {
  readonly name: string;
  run(context: StepContext): Promise<StepResult>;
}

export interface ActionTable {
  readonly steps: readonly Step[];
  /** Without it: for ever. */
  readonly triesMax?: number;
  /** Clears away what a failed one left in the world. */
  undo?(context: StepContext): Promise<void>;
  onFailed?(context: StepContext): Change[];
}

export interface NewOperation {
  readonly projectId: string;
  readonly branchId?: string | undefined;
  readonly endpointId?: string | undefined;
  readonly action: OperationAction;
  readonly details?: Readonly<Record<string, unknown>>;
}

export function newOperation(store: Store, random: Random, now: number, what: NewOperation): Operation {
  return {
    id: uuid(random),
    projectId: what.projectId,
    branchId: what.branchId,
    endpointId: what.endpointId,
    action: what.action,
    status: 'scheduling',
    step: 0,
    details: what.details ?? {},
    failures: 0,
    error: undefined,
    retryAt: 0,
    sequence: store.nextSequence(),
    createdAt: now,
    updatedAt: now,
  };
}

export const projectOf = ({ store, operation }: StepContext): Project =>
  store.must('projects', operation.projectId);
export const branchOf = ({ store, operation }: StepContext): Branch =>
  store.must('branches', operation.branchId ?? '');
export const endpointOf = ({ store, operation }: StepContext): Endpoint =>
  store.must('endpoints', operation.endpointId ?? '');

export function placementOf(store: Store, tenantId: string): { placement: Placement; node: Node } {
  const placement = store.must('placements', tenantId);
  const node = store.get('nodes', placement.nodeId);
  if (node) return { placement, node };
  throw new Fault('node-missing', `pageserver ${placement.nodeId}, which has the tenant, is not known`, {
    hint: 'Start it with control_plane_api set to this manager, or name it with --pageservers.',
  });
}

export const isRevoked = (use: KeyUse): boolean => use === 'revoked' || use === 'shredded';

export const revokedFault = (project: Project): Fault =>
  new Fault('key-revoked', `the customer key of project ${project.name} cannot be used`, {
    hint: 'Switch the key on again in its key service; computes start again once it is seen (within a minute).',
  });

export const cmkOf = (store: Store, keys: ManagerKeys, keyId: string | undefined): string =>
  keyId === undefined ? keys.defaultCmk : store.must('keys', keyId).cmk;

export const detailText = ({ operation }: StepContext, name: string): string | undefined => {
  const value = operation.details[name];
  return typeof value === 'string' ? value : undefined;
};

export const detailNumber = ({ operation }: StepContext, name: string): number | undefined => {
  const value = operation.details[name];
  return typeof value === 'number' ? value : undefined;
};

/** What a compute of this endpoint must be. */
export function specOf({ store, storage }: OperationDeps, endpoint: Endpoint): ComputeSpec {
  const branch = store.must('branches', endpoint.branchId);
  const project = store.must('projects', endpoint.projectId);
  const { node } = placementOf(store, project.tenantId);
  // What an adopted origin brought is as it is there: known, and never made here.
  const all = store.rolesOf(branch.id);
  const brought = new Set(all.filter(isBrought).map(role => role.name));
  const roles = all.filter(role => !isBrought(role));
  return {
    endpointId: endpoint.id,
    projectId: project.id,
    branchId: branch.id,
    tenantId: project.tenantId,
    timelineId: branch.timelineId,
    pgVersion: project.pgVersion,
    mode:
      endpoint.staticLsn !== undefined
        ? { staticLsn: endpoint.staticLsn }
        : endpoint.type === 'read_only'
          ? 'replica'
          : 'primary',
    pageserver: {
      host: node.pgHost,
      port: node.pgPort,
      http: `http://${node.httpHost}:${node.httpPort}`,
    },
    safekeepers: storage.safekeepers(),
    roles: roles.map(({ name, verifier }) => ({ name, verifier })),
    databases: store
      .databasesOf(branch.id)
      .filter(({ ownerName }) => !brought.has(ownerName))
      .map(({ name, ownerName }) => ({ name, owner: ownerName })),
    settings: endpoint.settings,
    originAdmin: project.originAdmin,
  };
}
