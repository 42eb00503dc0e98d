// Branches: made, renamed, protected, given an end, restored, reset, deleted. What a call can be refused for is refused
// before anything is written down.

import { Fault } from '../../../base/fault.ts';
import { formatLsn, parseLsn } from '../../../base/lsn.ts';
import type { Manager } from '../manager.ts';
import type { Branch, Change, Endpoint, Operation, Project } from '../model.ts';
import { branchName, checkName, hexId } from '../names.ts';
import { copyRoles } from '../operations/branch.ts';
import type { NewOperation } from '../operations/step.ts';
import { type NewEndpointInput, newEndpoint, refuseGoing } from './endpoints.ts';
import { defaultBranch, findBranch } from './find.ts';
import { refuseDeleting } from './projects.ts';

export interface BranchInput {
  readonly name?: string | undefined;
  /** Id or name; the default branch without it. */
  readonly parentId?: string | undefined;
  readonly parentLsn?: string | undefined;
  readonly parentTimestamp?: number | undefined;
  readonly isProtected?: boolean | undefined;
  readonly expiresAt?: number | undefined;
  readonly endpoints?: readonly NewEndpointInput[] | undefined;
}

export interface BranchAnswer {
  readonly branch: Branch;
  readonly operations: readonly Operation[];
}

function refuseTaken(manager: Manager, project: Project, name: string, id?: string): void {
  const other = manager.store.branchWhere(project.id, branch => branch.name === name);
  if (!other || other.id === id) return;
  throw new Fault('name-taken', `project ${project.name} has a branch "${name}" already`, {
    hint: 'Give another name, or delete or rename that one.',
  });
}

/** One point at most, in the form that is kept. */
function pointOf(
  lsn: string | undefined,
  timestamp: number | undefined,
  now: number,
): Record<string, unknown> {
  if (lsn !== undefined && timestamp !== undefined) {
    throw new Fault('request-invalid', 'an LSN and a time were given: give one of them');
  }
  if (timestamp !== undefined && timestamp > now) {
    throw new Fault('request-invalid', 'the time lies in the future', { hint: 'Without a time it is now.' });
  }
  if (lsn !== undefined) return { lsn: formatLsn(parseLsn(lsn)) };
  return timestamp === undefined ? {} : { timestamp };
}

function checkEnd(expiresAt: number | undefined, now: number): void {
  if (expiresAt === undefined || expiresAt > now) return;
  throw new Fault('request-invalid', 'expires_at lies in the past', {
    hint: 'Delete the branch, or give a later time.',
  });
}

export async function createBranch(
  manager: Manager,
  project: Project,
  input: BranchInput,
): Promise<BranchAnswer & { endpoints: readonly Endpoint[] }> {
  const { store, random, clock } = manager;
  refuseDeleting(project);
  const now = clock.now();
  const parent =
    input.parentId === undefined ? defaultBranch(store, project) : findBranch(store, project, input.parentId);
  refuseGoing(parent);
  checkEnd(input.expiresAt, now);
  const point = pointOf(input.parentLsn, input.parentTimestamp, now);
  const id = branchName(random);
  const name = checkName(input.name ?? id, 'branch');
  refuseTaken(manager, project, name);
  const branch: Branch = {
    id,
    projectId: project.id,
    name,
    timelineId: hexId(random),
    parentId: parent.id,
    parentLsn: undefined,
    parentTimestamp: input.parentTimestamp,
    isDefault: false,
    isProtected: input.isProtected ?? false,
    expiresAt: input.expiresAt,
    stage: 'init',
    createdAt: now,
    updatedAt: now,
  };
  const endpoints = (input.endpoints ?? []).map(one => newEndpoint(manager, project, branch, one));
  const changes: Change[] = [
    { put: 'branches', row: branch },
    ...endpoints.map((row): Change => ({ put: 'endpoints', row })),
    ...copyRoles({ store, now }, parent.id, id),
  ];
  const create: NewOperation = {
    projectId: project.id,
    branchId: id,
    action: 'create_branch',
    details: { sourceId: parent.id, ...point },
  };
  const operations = await manager.open([create], () => {
    refuseTaken(manager, project, name);
    refuseGoing(store.must('branches', parent.id));
    return changes;
  });
  return { branch, endpoints, operations };
}

export interface BranchChange {
  readonly name?: string | undefined;
  readonly isProtected?: boolean | undefined;
  /** null: it has no end any more. */
  readonly expiresAt?: number | null | undefined;
}

export async function changeBranch(manager: Manager, branch: Branch, input: BranchChange): Promise<Branch> {
  const project = manager.store.projectOf(branch);
  refuseGoing(branch);
  const name = input.name === undefined ? branch.name : checkName(input.name, 'branch');
  refuseTaken(manager, project, name, branch.id);
  const now = manager.clock.now();
  if (typeof input.expiresAt === 'number') checkEnd(input.expiresAt, now);
  const isProtected = input.isProtected ?? branch.isProtected;
  const expiresAt = input.expiresAt === undefined ? branch.expiresAt : (input.expiresAt ?? undefined);
  if (expiresAt !== undefined && (isProtected || branch.isDefault)) {
    throw new Fault(
      'branch-protected',
      `branch ${branch.name} is ${isProtected ? 'protected' : 'the default'}`,
      {
        hint: 'A protected branch, and the default one, have no end.',
      },
    );
  }
  const set = { name, isProtected, expiresAt, updatedAt: now };
  await manager.commit(() => {
    refuseTaken(manager, project, name, branch.id);
    return [{ patch: 'branches', id: branch.id, set }];
  });
  return { ...branch, ...set };
}

export async function setDefault(manager: Manager, branch: Branch): Promise<Branch> {
  refuseGoing(branch);
  if (branch.isDefault) return branch;
  const before = defaultBranch(manager.store, manager.store.projectOf(branch));
  const updatedAt = manager.clock.now();
  const set = { isDefault: true, expiresAt: undefined, updatedAt };
  await manager.commit([
    { patch: 'branches', id: before.id, set: { isDefault: false, updatedAt } },
    { patch: 'branches', id: branch.id, set },
  ]);
  return { ...branch, ...set };
}

function refuseProtected(branch: Branch, what: string): void {
  if (!branch.isProtected) return;
  throw new Fault('branch-protected', `branch ${branch.name} is protected, and cannot be ${what}`, {
    hint: 'Take the protection off first: PATCH it with {"branch":{"protected":false}}.',
  });
}

export async function deleteBranch(manager: Manager, branch: Branch): Promise<BranchAnswer> {
  refuseGoing(branch);
  refuseProtected(branch, 'deleted');
  if (branch.isDefault) {
    throw new Fault('branch-protected', `branch ${branch.name} is the default branch`, {
      hint: 'Make another the default first, or delete the project.',
    });
  }
  refuseParent(manager, branch);
  const set = { stage: 'deleting', updatedAt: manager.clock.now() } as const;
  const operations = await manager.open(
    [{ projectId: branch.projectId, branchId: branch.id, action: 'delete_branch' }],
    () => {
      refuseParent(manager, branch);
      return [{ patch: 'branches', id: branch.id, set }];
    },
  );
  return { branch: { ...branch, ...set }, operations };
}

function refuseParent(manager: Manager, branch: Branch): void {
  const children = manager.store.childrenOf(branch);
  if (children.length === 0) return;
  throw new Fault('branch-has-children', `branch ${branch.name} has children: ${namesOf(children)}`, {
    hint: 'Delete them first.',
  });
}

const NAMES_SHOWN = 5;
const namesOf = (branches: readonly Branch[]): string => {
  const more = branches.length - NAMES_SHOWN;
  const names = branches.slice(0, NAMES_SHOWN).map(branch => branch.name);
  return more > 0 ? `${names.join(', ')} and ${more} more` : names.join(', ');
};

export interface RestoreInput {
  readonly sourceId: string;
  readonly lsn?: string | undefined;
  readonly timestamp?: number | undefined;
  /** The branch as it was lives on under this name. */
  readonly preserveName?: string | undefined;
}

export async function restoreBranch(
  manager: Manager,
  branch: Branch,
  input: RestoreInput,
): Promise<BranchAnswer> {
  const { store, random, clock } = manager;
  const project = store.projectOf(branch);
  refuseGoing(branch);
  refuseProtected(branch, 'restored');
  const source = findBranch(store, project, input.sourceId);
  refuseGoing(source);
  const point = pointOf(input.lsn, input.timestamp, clock.now());
  const toSelf = source.id === branch.id;
  if (toSelf && Object.keys(point).length === 0) {
    throw new Fault('request-invalid', 'a branch is restored to itself at an LSN or a time: give one');
  }
  if (descendsFrom(manager, source, branch) && !toSelf) {
    throw new Fault('request-invalid', `branch ${source.name} comes from ${branch.name}`, {
      hint: 'A branch cannot be restored from its own children.',
    });
  }
  const preserve = preserveName(manager, project, branch, input, toSelf);
  const details = {
    sourceId: source.id,
    ...point,
    timelineId: hexId(random),
    ...(preserve === undefined ? {} : { preserveId: branchName(random), preserveName: preserve }),
  };
  const restore: NewOperation = {
    projectId: project.id,
    branchId: branch.id,
    action: 'restore_branch',
    details,
  };
  const awake = store.endpointsOf(branch.id).filter(endpoint => endpoint.wanted === 'active');
  const starts = awake.map(
    (endpoint): NewOperation => ({
      projectId: project.id,
      branchId: branch.id,
      endpointId: endpoint.id,
      action: 'start_compute',
    }),
  );
  return { branch, operations: await manager.open([restore, ...starts]) };
}

function descendsFrom({ store }: Manager, branch: Branch, from: Branch): boolean {
  for (let at: Branch | undefined = branch; at; at = store.get('branches', at.parentId)) {
    if (at.id === from.id) return true;
  }
  return false;
}

/** History that others stand on is kept: one's own, when it is gone back in, and the children's. */
function preserveName(
  manager: Manager,
  project: Project,
  branch: Branch,
  input: RestoreInput,
  toSelf: boolean,
): string | undefined {
  const { preserveName: name } = input;
  const needed = toSelf || manager.store.childrenOf(branch).length > 0;
  if (name === undefined && !needed) return undefined;
  const stamp = new Date(manager.clock.now()).toISOString().slice(0, 19);
  const chosen = checkName(name ?? `${branch.name}_old_${stamp}`, 'branch');
  refuseTaken(manager, project, chosen);
  return chosen;
}

export function resetToParent(
  manager: Manager,
  branch: Branch,
  preserveName: string | undefined,
): Promise<BranchAnswer> {
  if (branch.parentId === undefined) {
    throw new Fault('request-invalid', `branch ${branch.name} has no parent to be reset to`);
  }
  return restoreBranch(manager, branch, { sourceId: branch.parentId, preserveName });
}
