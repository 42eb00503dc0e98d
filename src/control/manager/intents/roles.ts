// Roles and databases of a branch. Those made here are applied to the branch's compute, now or at its next start; those
// made by SQL are left alone. Passwords are made, not chosen, and kept wrapped by the customer key.

import { Fault } from '../../../base/fault.ts';
import { scramVerifier } from '../../../protocol/scram-verifier.ts';
import type { Delta } from '../drivers/driver.ts';
import type { SealedPassword } from '../keys.ts';
import type { Manager } from '../manager.ts';
import {
  ADMIN_ROLE,
  type Branch,
  type Change,
  type Database,
  databaseId,
  type Operation,
  type Role,
  roleId,
} from '../model.ts';
import { checkIdentifier } from '../names.ts';
import { cmkOf, type NewOperation } from '../operations/step.ts';
import type { Store } from '../store.ts';
import { primaryEndpoint } from './endpoints.ts';
import { primaryOf } from './find.ts';

const SALT_BYTES = 16;
const RESERVED_ROLES: ReadonlySet<string> = new Set([
  ADMIN_ROLE,
  'neon_superuser',
  'public',
  'none',
  'postgres',
]);
const RESERVED_DATABASES: ReadonlySet<string> = new Set(['postgres', 'template0', 'template1']);

export function newRole(
  { random, clock }: Manager,
  branchId: string,
  name: string,
  sealed: SealedPassword,
): Role {
  const now = clock.now();
  return {
    id: roleId(branchId, name),
    branchId,
    name,
    verifier: scramVerifier(sealed.password, random.bytes(SALT_BYTES)),
    sealedPassword: sealed.sealed,
    createdAt: now,
    updatedAt: now,
  };
}

export const databaseRow = (branchId: string, name: string, ownerName: string, now: number): Database => ({
  id: databaseId(branchId, name),
  branchId,
  name,
  ownerName,
  createdAt: now,
  updatedAt: now,
});

export function findRole(store: Store, branch: Branch, name: string): Role {
  const role = store.get('roles', roleId(branch.id, name));
  if (role) return role;
  throw new Fault('role-missing', `branch ${branch.name} has no role "${name}" that was made here`, {
    hint: 'Roles made by SQL are looked at with \\du.',
  });
}

export function findDatabase(store: Store, branch: Branch, name: string): Database {
  const database = store.get('databases', databaseId(branch.id, name));
  if (database) return database;
  throw new Fault('database-missing', `branch ${branch.name} has no database "${name}" that was made here`, {
    hint: 'Databases made by SQL are looked at with \\l.',
  });
}

/** A compute that is awake is told now; one that sleeps hears of it when it starts. */
function tell(manager: Manager, branch: Branch): NewOperation[] {
  const endpoint = primaryOf(manager.store, branch);
  if (endpoint?.wanted !== 'active') return [];
  return [
    { projectId: branch.projectId, branchId: branch.id, endpointId: endpoint.id, action: 'apply_config' },
  ];
}

function newPassword(manager: Manager, branch: Branch): Promise<SealedPassword> {
  const project = manager.store.projectOf(branch);
  return manager.keys.newPassword(project.tenantId, cmkOf(manager.store, manager.keys, project.keyId));
}

export interface RoleAnswer {
  readonly role: Role;
  readonly password: string;
  readonly operations: readonly Operation[];
}

export async function createRole(manager: Manager, branch: Branch, name: string): Promise<RoleAnswer> {
  checkIdentifier(name, 'role');
  if (RESERVED_ROLES.has(name)) throw new Fault('name-taken', `the role "${name}" belongs to the system`);
  if (manager.store.get('roles', roleId(branch.id, name))) {
    throw new Fault('name-taken', `branch ${branch.name} has a role "${name}" already`);
  }
  const sealed = await newPassword(manager, branch);
  const role = newRole(manager, branch.id, name, sealed);
  const operations = await manager.open(tell(manager, branch), [{ put: 'roles', row: role }]);
  return { role, password: sealed.password, operations };
}

export async function resetPassword(manager: Manager, branch: Branch, role: Role): Promise<RoleAnswer> {
  const sealed = await newPassword(manager, branch);
  const row: Role = { ...newRole(manager, branch.id, role.name, sealed), createdAt: role.createdAt };
  const operations = await manager.open(tell(manager, branch), [{ patch: 'roles', id: role.id, set: row }]);
  return { role: row, password: sealed.password, operations };
}

export async function revealPassword(manager: Manager, branch: Branch, role: Role): Promise<string> {
  if (role.sealedPassword === undefined) {
    throw new Fault('role-missing', `the password of role "${role.name}" is not kept here`, {
      hint: 'reset_password makes a new one.',
    });
  }
  const project = manager.store.projectOf(branch);
  const cmk = cmkOf(manager.store, manager.keys, project.keyId);
  return manager.keys.openPassword(project.tenantId, cmk, role.sealedPassword);
}

/** What takes away or renames needs the compute, which is started for it. */
async function withDelta(
  manager: Manager,
  branch: Branch,
  delta: Delta,
  changes: readonly Change[] = [],
): Promise<readonly Operation[]> {
  const { endpoint, changes: made } = primaryEndpoint(manager, branch);
  const wanted: Change = { patch: 'endpoints', id: endpoint.id, set: { wanted: 'active' } };
  return manager.open(
    [
      {
        projectId: branch.projectId,
        branchId: branch.id,
        endpointId: endpoint.id,
        action: 'apply_config',
        details: { deltas: [delta] },
      },
    ],
    [...made, ...changes, wanted],
  );
}

export async function deleteRole(
  manager: Manager,
  branch: Branch,
  role: Role,
): Promise<readonly Operation[]> {
  const owned = manager.store.databasesOf(branch.id).find(database => database.ownerName === role.name);
  if (owned) {
    throw new Fault('in-use', `role "${role.name}" owns the database "${owned.name}"`, {
      hint: 'Give the database to another role first, or delete it.',
    });
  }
  return withDelta(manager, branch, { do: 'drop-role', name: role.name });
}

export async function createDatabase(
  manager: Manager,
  branch: Branch,
  input: { readonly name: string; readonly ownerName: string },
): Promise<{ database: Database; operations: readonly Operation[] }> {
  checkIdentifier(input.name, 'database');
  const taken =
    RESERVED_DATABASES.has(input.name) || manager.store.get('databases', databaseId(branch.id, input.name));
  if (taken) throw new Fault('name-taken', `branch ${branch.name} has a database "${input.name}" already`);
  findRole(manager.store, branch, input.ownerName);
  const row = databaseRow(branch.id, input.name, input.ownerName, manager.clock.now());
  const operations = await manager.open(tell(manager, branch), [{ put: 'databases', row }]);
  return { database: row, operations };
}

export async function changeDatabase(
  manager: Manager,
  branch: Branch,
  database: Database,
  input: { readonly name?: string | undefined; readonly ownerName?: string | undefined },
): Promise<{ database: Database; operations: readonly Operation[] }> {
  const ownerName = input.ownerName ?? database.ownerName;
  findRole(manager.store, branch, ownerName);
  const set = { ownerName, updatedAt: manager.clock.now() };
  const row: Database = { ...database, ...set };
  const change: Change = { patch: 'databases', id: database.id, set };
  if (input.name === undefined || input.name === database.name) {
    return { database: row, operations: await manager.open(tell(manager, branch), [change]) };
  }
  const newName = checkIdentifier(input.name, 'database');
  if (manager.store.get('databases', databaseId(branch.id, newName))) {
    throw new Fault('name-taken', `branch ${branch.name} has a database "${newName}" already`);
  }
  const delta: Delta = { do: 'rename-database', name: database.name, newName };
  return { database: row, operations: await withDelta(manager, branch, delta, [change]) };
}

export const deleteDatabase = (
  manager: Manager,
  branch: Branch,
  database: Database,
): Promise<readonly Operation[]> => withDelta(manager, branch, { do: 'drop-database', name: database.name });
