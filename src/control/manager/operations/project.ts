// Making and deleting projects, moving them to another key or to another pageserver.
//
// A project is made: its key bound (refused, if the key cannot be used: then nothing is left), its tenant attached,
// its first timeline bootstrapped. It is deleted: computes, tenant, WAL, and at last the keys, so that what may be left
// anywhere, in backups too, can be read by nobody.

import { Fault, isFault } from '../../../base/fault.ts';
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
  const { generation } = placement;
  // The node may have restarted meanwhile, and have been given a later one: only this field is ours.
  return { patch: 'placements', id: project.tenantId, set: { attachedGeneration: generation } };
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

/** What the computes here will write; without any, Neon's. */
function flavourOf(context: StepContext, pgVersion: number): 'neon' | 'stock' {
  try {
    return context.driverFor(pgVersion).kind === 'stock' ? 'stock' : 'neon';
  } catch (error) {
    if (isFault(error, 'driver-missing')) return 'neon';
    throw error;
  }
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
        const { node, placement } = placementOf(store, project.tenantId);
        // Its node died, and it was given to another.
        const moved = placement.attachedGeneration === placement.generation ? [] : [await attach(context)];
        const [branch] = branchesOf(context);
        const { tenantId, pgVersion } = project;
        if (context.operation.details['adopt'] !== true)
          await storage.createTimeline(node, tenantId, {
            timelineId: branch!.timelineId,
            pgVersion,
            flavour: flavourOf(context, pgVersion),
          });
        else if ((await storage.timeline(node, tenantId, branch!.timelineId)) === undefined)
          throw new Fault('timeline-busy', 'the base backup of its origin is not in yet', {
            hint: 'lakebed adopt brings it; the same command goes on where it was.',
          });
        const ready = { stage: 'ready', updatedAt: now } as const;
        const endpoints = endpointsOf(context).map(
          ({ id }): Change => ({ patch: 'endpoints', id, set: ready }),
        );
        return {
          changes: [
            ...moved,
            { patch: 'projects', id: project.id, set: ready },
            { patch: 'branches', id: branch!.id, set: ready },
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
    await context.keys.shred(tenantId);
  },
  onFailed: forgetProject,
};

export const deleteProject: ActionTable = {
  steps: [
    { name: 'stop_computes', run: context => stopEndpoints(context, endpointsOf(context)) },
    {
      // Attached first: one that no pageserver has is not found, and its objects would stay.
      name: 'delete_tenant',
      run: async context => {
        await attach(context);
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
          changes.push({ patch: 'roles', id: row.id, set: { sealedPassword, updatedAt: now } });
        }
        const keyId = detailText(context, 'keyId');
        changes.push({ patch: 'projects', id: project.id, set: { keyId, updatedAt: now } });
        return { changes };
      },
    },
  ],
};

/**
 * The tenant on the pageserver it is placed on now: its generation was raised when that was decided, so the old one,
 * should it live, may not delete or overwrite anything any more.
 */
export const tenantReattach: ActionTable = {
  steps: [
    {
      name: 'attach',
      // It may have been deleted while this waited.
      run: async context =>
        context.store.get('projects', context.operation.projectId)
          ? { changes: [await attach(context)] }
          : { done: true },
    },
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
