// Projects: made with a branch, a role, a database and an endpoint; changed; moved to another key; deleted.

import { Fault } from '../../../base/fault.ts';
import { parseCmk } from '../../../seal/key-document.ts';
import type { OriginAccess } from '../../adopt/origin.ts';
import type { Manager } from '../manager.ts';
import {
  type Branch,
  type Change,
  type ComputeSettings,
  DEFAULT_BRANCH,
  DEFAULT_DATABASE,
  DEFAULT_ROLE,
  type KeyConfig,
  type Operation,
  PG_VERSIONS,
  type Placement,
  type Project,
  roleId,
} from '../model.ts';
import { branchName, checkIdentifier, checkName, hexId, petName } from '../names.ts';
import { cmkOf } from '../operations/step.ts';
import { placeTenant } from '../plan.ts';
import { newEndpoint, type SettingsInput, settingsFrom } from './endpoints.ts';
import { findKey, newKey } from './key-configs.ts';
import { databaseRow, newRole } from './roles.ts';

const PG_VERSION_DEFAULT = 17;
const RETENTION_DEFAULT_S = 7 * 86_400;
const RETENTION_MAX_S = 365 * 86_400;

/** Of an origin that did not tell: the name that initdb is most often given. */
const ORIGIN_ADMIN_DEFAULT = 'postgres';
export const SETTINGS_DEFAULT: ComputeSettings = { suspendTimeoutSeconds: 0, size: 0.25, pgSettings: {} };

export interface ProjectInput {
  readonly name?: string | undefined;
  readonly pgVersion?: number | undefined;
  /** A key configuration's id or name. */
  readonly keyId?: string | undefined;
  /** A customer key; a configuration is made for it if there is none. */
  readonly key?: string | undefined;
  readonly historyRetentionSeconds?: number | undefined;
  readonly settings?: SettingsInput | undefined;
  readonly branchName?: string | undefined;
  readonly roleName?: string | undefined;
  readonly databaseName?: string | undefined;
  /**
   * Its first timeline is imported by somebody else (`lakebed adopt`), and the project is ready when it is there. A
   * compute is made when one is wanted.
   */
  readonly adopt?: boolean | undefined;
  /** Roles and databases of the origin, if they are known. */
  readonly origin?: OriginAccess | undefined;
}

export interface Made {
  readonly project: Project;
  readonly branch: Branch;
  /** Absent of an adopted one. */
  readonly access:
    | { readonly password: string; readonly role: string; readonly database: string }
    | undefined;
  readonly operations: readonly Operation[];
}

function retentionOf(seconds: number | undefined, otherwise: number): number {
  if (seconds === undefined) return otherwise;
  if (Number.isSafeInteger(seconds) && seconds >= 0 && seconds <= RETENTION_MAX_S) return seconds;
  throw new Fault(
    'request-invalid',
    `history_retention_seconds is not from 0 to ${RETENTION_MAX_S}: ${seconds}`,
  );
}

/** The configuration a project is to be bound to, and the change that makes it if it is new. */
function keyOf(manager: Manager, input: ProjectInput): { key: KeyConfig | undefined; changes: Change[] } {
  if (input.keyId !== undefined) return { key: findKey(manager.store, input.keyId), changes: [] };
  if (input.key === undefined) return { key: undefined, changes: [] };
  const there = [...manager.store.all('keys').values()].find(key => key.cmk === input.key);
  if (there) return { key: there, changes: [] };
  const key = newKey(manager, { name: input.key, cmk: input.key });
  return { key, changes: [{ put: 'keys', row: key }] };
}

const place = ({ store, sight }: Manager): string | undefined =>
  placeTenant(store.all('nodes'), store.all('placements'), sight.nodes);

export async function createProject(manager: Manager, input: ProjectInput): Promise<Made> {
  const { random, keys, clock } = manager;
  const now = clock.now();
  const pgVersion = input.pgVersion ?? PG_VERSION_DEFAULT;
  if (!PG_VERSIONS.some(version => version === pgVersion)) {
    throw new Fault('request-invalid', `Postgres ${pgVersion} is not known here`, {
      hint: `Give one of ${PG_VERSIONS.join(', ')}.`,
    });
  }
  const { key, changes } = keyOf(manager, input);
  const id = petName(random);
  const tenantId = hexId(random);
  if (place(manager) === undefined) await manager.sight.lookAtNodes();
  const nodeOf = (): string => {
    const nodeId = place(manager);
    if (nodeId !== undefined) return nodeId;
    throw new Fault('node-missing', 'no pageserver answers that could take the project', {
      hint: 'Start one with control_plane_api set to this manager, or name it with --pageservers.',
    });
  };
  nodeOf();
  const project: Project = {
    id,
    name: checkName(input.name ?? id, 'project'),
    pgVersion,
    tenantId,
    keyId: key?.id,
    historyRetentionSeconds: retentionOf(input.historyRetentionSeconds, RETENTION_DEFAULT_S),
    computeSettings: settingsFrom(input.settings, SETTINGS_DEFAULT),
    originAdmin: input.adopt ? (input.origin?.admin ?? ORIGIN_ADMIN_DEFAULT) : undefined,
    stage: 'init',
    createdAt: now,
    updatedAt: now,
  };
  const branch: Branch = {
    id: branchName(random),
    projectId: id,
    name: checkName(input.branchName ?? DEFAULT_BRANCH, 'branch'),
    timelineId: hexId(random),
    parentId: undefined,
    parentLsn: undefined,
    parentTimestamp: undefined,
    isDefault: true,
    isProtected: false,
    expiresAt: undefined,
    stage: 'init',
    createdAt: now,
    updatedAt: now,
  };
  const cmk = key?.cmk ?? keys.defaultCmk;
  const access = input.adopt ? undefined : await firstAccess(manager, input, { project, branch, cmk });
  // Chosen when it is written down: several that come at once are spread.
  const placement = (): Placement => ({
    ...{ id: tenantId, projectId: id, nodeId: nodeOf() },
    ...{ generation: 1, attachedGeneration: 0 },
  });
  const rows = (): Change[] => [
    ...changes,
    { put: 'projects', row: project },
    { put: 'placements', row: placement() },
    { put: 'branches', row: branch },
    ...(access?.rows ?? broughtRows(branch, input.origin)),
  ];
  const details = input.adopt ? { adopt: true } : {};
  const operations = await manager.open(
    [{ projectId: id, branchId: branch.id, action: 'create_project', details }],
    rows,
  );
  return { project, branch, access, operations };
}

/** Named so that clients can be told how to connect; with which password is between them and the origin. */
function broughtRows(branch: Branch, origin: OriginAccess | undefined): Change[] {
  const { id: branchId, createdAt } = branch;
  const roles = origin?.roles ?? [];
  // Each a moment later than the one before, for they are listed in that order.
  const at = (i: number): { createdAt: number; updatedAt: number } => ({
    createdAt: createdAt + i,
    updatedAt: createdAt + i,
  });
  return [
    ...roles.map((name, i): Change => {
      const known = { id: roleId(branchId, name), branchId, name, verifier: undefined };
      return { put: 'roles', row: { ...known, sealedPassword: undefined, ...at(i) } };
    }),
    ...(origin?.databases ?? []).map(({ name, owner_name: owner }, i): Change => {
      return { put: 'databases', row: { ...databaseRow(branchId, name, owner, createdAt), ...at(i) } };
    }),
  ];
}

/** The first role, its database, and a compute. */
async function firstAccess(
  manager: Manager,
  input: ProjectInput,
  { project, branch, cmk }: { project: Project; branch: Branch; cmk: string },
): Promise<NonNullable<Made['access']> & { rows: Change[] }> {
  const role = checkIdentifier(input.roleName ?? DEFAULT_ROLE, 'role');
  const database = checkIdentifier(input.databaseName ?? DEFAULT_DATABASE, 'database');
  // The first call of the key: refused, and nothing is made.
  const sealed = await manager.keys.newPassword(project.tenantId, cmk);
  const rows: Change[] = [
    { put: 'endpoints', row: newEndpoint(manager, project, branch, { type: 'read_write' }) },
    { put: 'roles', row: newRole(manager, branch.id, role, sealed) },
    { put: 'databases', row: databaseRow(branch.id, database, role, project.createdAt) },
  ];
  return { role, database, password: sealed.password, rows };
}

export interface ProjectChange {
  readonly name?: string | undefined;
  readonly keyId?: string | undefined;
  readonly key?: string | undefined;
  readonly historyRetentionSeconds?: number | undefined;
  readonly settings?: SettingsInput | undefined;
}

export async function changeProject(
  manager: Manager,
  project: Project,
  input: ProjectChange,
): Promise<{ project: Project; operations: readonly Operation[] }> {
  refuseDeleting(project);
  const set = {
    name: input.name === undefined ? project.name : checkName(input.name, 'project'),
    historyRetentionSeconds: retentionOf(input.historyRetentionSeconds, project.historyRetentionSeconds),
    computeSettings: settingsFrom(input.settings, project.computeSettings),
    updatedAt: manager.clock.now(),
  };
  const row: Project = { ...project, ...set };
  const { key, changes } = keyOf(manager, input);
  const rows: Change[] = [...changes, { patch: 'projects', id: project.id, set }];
  const operations = [];
  if (key !== undefined && key.id !== project.keyId) {
    const from = cmkOf(manager.store, manager.keys, project.keyId);
    operations.push({
      projectId: project.id,
      action: 'change_key' as const,
      details: { from, to: key.cmk, keyId: key.id },
    });
  }
  if (row.historyRetentionSeconds !== project.historyRetentionSeconds) {
    operations.push({
      projectId: project.id,
      action: 'tenant_reattach' as const,
      details: { reason: 'settings' },
    });
  }
  return { project: row, operations: await manager.open(operations, rows) };
}

export async function deleteProject(
  manager: Manager,
  project: Project,
): Promise<{ project: Project; operations: readonly Operation[] }> {
  const guarded = manager.store.branchesOf(project.id).find(branch => branch.isProtected);
  if (guarded) {
    throw new Fault('branch-protected', `branch ${guarded.name} of project ${project.name} is protected`, {
      hint: 'Take the protection off first: PATCH the branch with {"branch":{"protected":false}}.',
    });
  }
  refuseDeleting(project);
  const set = { stage: 'deleting', updatedAt: manager.clock.now() } as const;
  const operations = await manager.open(
    [{ projectId: project.id, action: 'delete_project' }],
    [{ patch: 'projects', id: project.id, set }],
  );
  return { project: { ...project, ...set }, operations };
}

export function refuseDeleting(project: Project): void {
  if (project.stage !== 'deleting') return;
  throw new Fault('project-missing', `project ${project.name} is being deleted`);
}

/** As it is told to callers. */
export const keyTextOf = (manager: Manager, project: Project): string => {
  const cmk = cmkOf(manager.store, manager.keys, project.keyId);
  parseCmk(cmk);
  return cmk;
};
