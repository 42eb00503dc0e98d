// Making and deleting projects, moving them to another key or to another pageserver.
//
// A project is made: its key bound (refused, if the key cannot be used: then nothing is left), its tenant attached,
// its first timeline bootstrapped. It is deleted: computes, tenant, WAL, and at last the keys, so that what may be left
// anywhere, in backups too, can be read by nobody.

import type { Branch, Change, Endpoint } from '../model.ts';
import { forgetBranch } from './branch.ts';
import { stopEndpoints } from './compute.ts';
import {
  type ActionTable,
  cmkOf,
  detailText,
  placementOf,
  projectOf,
  type StepContext,
  specOf,
} from './step.ts';

const branchesOf = ({ store, operation }: StepContext): Branch[] => store.branchesOf(operation.projectId);

const endpointsOf = (context: StepContext): Endpoint[] =>
  branchesOf(context).flatMap(branch => context.store.endpointsOf(branch.id));

async function attach(context: StepContext): Promise<Change> {
  const { store, storage } = context;
  const project = projectOf(context);
  const { placement, node } = placementOf(store, project.tenantId);
  await storage.attach(node, project.tenantId, placement.generation, project);
  // The node may have restarted meanwhile, and have been given a later one.
  const now = store.must('placements', project.tenantId);
  return { put: 'placements', row: { ...now, attachedGeneration: placement.generation } };
}

/** A child goes before its parent. */
function childrenFirst(branches: readonly Branch[]): Branch[] {
  const depth = (branch: Branch): number => {
    const parent = branches.find(other => other.id === branch.parentId);
    return parent ? depth(parent) + 1 : 0;
  };
  return branches.toSorted((a, b) => depth(b) - depth(a));
}

function forgetProject(context: StepContext): Change[] {
  const { store, operation } = context;
  const project = projectOf(context);
  return [
    ...childrenFirst(branchesOf(context)).flatMap(branch => forgetBranch(context, branch)),
    { remove: 'placements', id: project.tenantId },
    { remove: 'projects', id: project.id },
    ...store
      .operationsOf(project.id)
      .filter(other => other.id !== operation.id)
      .map((other): Change => ({ remove: 'operations', id: other.id })),
  ];
}

export const createProject: ActionTable = {
  steps: [
    {
      name: 'bind_key',
      run: async context => {
        const { tenantId, keyId } = projectOf(context);
        await context.keys.bind(tenantId, cmkOf(context.store, context.keys, keyId));
        return {};
      },
    },
    { name: 'attach_tenant', run: async context => ({ changes: [await attach(context)] }) },
    {
      name: 'create_timeline',
      run: async context => {
        const { store, storage, now } = context;
        const project = projectOf(context);
        const { node } = placementOf(store, project.tenantId);
        const [branch] = branchesOf(context);
        const { tenantId, pgVersion } = project;
        await storage.createTimeline(node, tenantId, { timelineId: branch!.timelineId, pgVersion });
        const ready = { stage: 'ready', updatedAt: now } as const;
        const endpoints = endpointsOf(context).map(
          (row): Change => ({ put: 'endpoints', row: { ...row, ...ready } }),
        );
        return {
          changes: [
            { put: 'projects', row: { ...project, ...ready } },
            { put: 'branches', row: { ...branch!, ...ready } },
            ...endpoints,
          ],
        };
      },
    },
  ],
  undo: async context => {
    if (context.operation.step === 0) return;
    const { tenantId } = projectOf(context);
    await context.storage.deleteTenant(placementOf(context.store, tenantId).node, tenantId);
  },
  onFailed: forgetProject,
};

export const deleteProject: ActionTable = {
  steps: [
    { name: 'stop_computes', run: context => stopEndpoints(context, endpointsOf(context)) },
    {
      name: 'delete_tenant',
      run: async context => {
        const { tenantId } = projectOf(context);
        await context.storage.deleteTenant(placementOf(context.store, tenantId).node, tenantId);
        return {};
      },
    },
    {
      name: 'delete_wal',
      run: async context => {
        await context.storage.deleteWal(projectOf(context).tenantId, undefined);
        return {};
      },
    },
    {
      name: 'shred_keys',
      run: async context => {
        const { tenantId } = projectOf(context);
        context.keys.release(tenantId);
        await context.keys.shred(tenantId);
        return {};
      },
    },
    { name: 'forget', run: async context => ({ changes: forgetProject(context) }) },
  ],
};

/** Every KEK, and every password, wrapped by the other key; no file is touched. */
export const changeKey: ActionTable = {
  steps: [
    {
      name: 'rewrap_keys',
      run: async context => {
        await context.keys.change(projectOf(context).tenantId, detailText(context, 'to')!);
        return {};
      },
    },
    {
      name: 'rewrap_passwords',
      run: async context => {
        const { store, keys, now } = context;
        const project = projectOf(context);
        const [from, to] = [detailText(context, 'from')!, detailText(context, 'to')!];
        const changes: Change[] = [];
        for (const row of branchesOf(context).flatMap(branch => store.rolesOf(branch.id))) {
          if (row.sealedPassword === undefined) continue;
          const sealedPassword = await keys.rewrapPassword(project.tenantId, from, to, row.sealedPassword);
          changes.push({ put: 'roles', row: { ...row, sealedPassword, updatedAt: now } });
        }
        const keyId = detailText(context, 'keyId');
        changes.push({ put: 'projects', row: { ...project, keyId, updatedAt: now } });
        return { changes };
      },
    },
  ],
  triesMax: 5,
};

/**
 * The tenant on the pageserver it is placed on now: its generation was raised when that was decided, so the old one,
 * should it live, may not delete or overwrite anything any more.
 */
export const tenantReattach: ActionTable = {
  steps: [
    { name: 'attach', run: async context => ({ changes: [await attach(context)] }) },
    {
      name: 'reconfigure_computes',
      run: async context => {
        for (const endpoint of endpointsOf(context)) {
          if (endpoint.state !== 'active') continue;
          const driver = context.driverOf(endpoint);
          if (await driver.find(endpoint.id)) await driver.configure(specOf(context, endpoint), []);
        }
        return {};
      },
    },
  ],
};
