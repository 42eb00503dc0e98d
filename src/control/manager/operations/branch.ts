// Making, restoring and deleting branches: timelines on the pageserver, WAL on the safekeepers.
//
// Where a branch begins:
//
//   now          what a quorum of safekeepers has acknowledged: what was committed before the call is in it. The
//                pageserver waits until it has read as far.
//   an LSN       of the source or, before the source left it, of its parent
//   a time       the last commit at or before it
//
// Restoring makes a new timeline and lets the branch name it: branch, endpoints and connection strings stay, the old
// timeline is kept under another branch's name or goes. The children of a branch stay where their history is: on the
// old timeline, thus with the branch that keeps it.

import { Fault, isFault } from '../../../base/fault.ts';
import { parseLsn } from '../../../base/lsn.ts';
import { type Branch, type Change, type Node, roleId } from '../model.ts';
import { asleep, stopEndpoints } from './compute.ts';
import {
  type ActionTable,
  branchOf,
  detailNumber,
  detailText,
  placementOf,
  projectOf,
  type StepContext,
  type StepResult,
} from './step.ts';

interface Point {
  readonly ancestorId: string;
  readonly lsn: string | undefined;
}

const later = (a: string | undefined, b: string): string =>
  a !== undefined && parseLsn(a) > parseLsn(b) ? a : b;

/** The branch whose own history holds this LSN: the source, or one it came from. */
function holderOf({ store }: StepContext, source: Branch, lsn: string): Branch {
  let at = source;
  while (at.parentLsn !== undefined && parseLsn(lsn) < parseLsn(at.parentLsn)) {
    const parent = store.get('branches', at.parentId);
    if (!parent) break;
    at = parent;
  }
  return at;
}

/** Undefined: the safekeepers have never heard of it, so it is where the pageserver has it. */
const headOf = (context: StepContext, source: Branch): Promise<string | undefined> =>
  context.storage.commitLsn(projectOf(context).tenantId, source.timelineId);

async function pointAtLsn(context: StepContext, node: Node, source: Branch, lsn: string): Promise<Point> {
  const { storage } = context;
  const { tenantId } = projectOf(context);
  const holder = holderOf(context, source, lsn);
  const [written, read] = await Promise.all([
    storage.commitLsn(tenantId, holder.timelineId),
    storage.timeline(node, tenantId, holder.timelineId),
  ]);
  const head = later(written, read?.lastRecordLsn ?? '0/0');
  if (parseLsn(lsn) > parseLsn(head)) {
    throw new Fault('branch-lsn-invalid', `branch ${source.name} has not reached ${lsn}: it is at ${head}`, {
      hint: 'Give an LSN at or before that, or none: then the branch begins now.',
    });
  }
  return { ancestorId: holder.timelineId, lsn };
}

async function pointAtTime(context: StepContext, node: Node, source: Branch, atMs: number): Promise<Point> {
  const { storage, store } = context;
  const { tenantId } = projectOf(context);
  for (let at: Branch | undefined = source; at; at = store.get('branches', at.parentId)) {
    const found = await storage.lsnByTime(node, tenantId, at.timelineId, atMs);
    if (found.kind === 'future') return { ancestorId: at.timelineId, lsn: await headOf(context, at) };
    if (found.kind === 'present') return { ancestorId: at.timelineId, lsn: found.lsn };
    if (found.kind === 'nodata' && at.parentId === undefined)
      return { ancestorId: at.timelineId, lsn: found.lsn };
  }
  throw new Fault(
    'request-invalid',
    `the history of branch ${source.name} does not reach back to ${new Date(atMs).toISOString()}`,
    { hint: 'Give a later time; how far back history goes is the project’s history_retention_seconds.' },
  );
}

async function choosePoint(context: StepContext): Promise<StepResult> {
  const { store } = context;
  const source = store.must('branches', detailText(context, 'sourceId') ?? '');
  const { node } = placementOf(store, projectOf(context).tenantId);
  const lsn = detailText(context, 'lsn');
  const atMs = detailNumber(context, 'timestamp');
  const point =
    lsn !== undefined
      ? await pointAtLsn(context, node, source, lsn)
      : atMs !== undefined
        ? await pointAtTime(context, node, source, atMs)
        : { ancestorId: source.timelineId, lsn: await headOf(context, source) };
  return { details: { ancestorId: point.ancestorId, ...(point.lsn === undefined ? {} : { at: point.lsn }) } };
}

/** Chosen and made in one step, so that a branch costs two commits: one that is there already was chosen before. */
async function chooseAndMake(context: StepContext, timelineId: string): Promise<string | undefined> {
  const { storage, store, isFirstTry } = context;
  const { tenantId } = projectOf(context);
  const [there, chosen] = await Promise.all([
    isFirstTry ? undefined : storage.timeline(placementOf(store, tenantId).node, tenantId, timelineId),
    choosePoint(context),
  ]);
  if (there) return there.ancestorLsn;
  const operation = { ...context.operation, details: { ...context.operation.details, ...chosen.details } };
  return makeTimeline({ ...context, operation }, timelineId);
}

/** The new timeline; where it begins. */
async function makeTimeline(context: StepContext, timelineId: string): Promise<string | undefined> {
  const { storage, store, isFirstTry } = context;
  const { tenantId } = projectOf(context);
  const { node } = placementOf(store, tenantId);
  const ancestorId = detailText(context, 'ancestorId')!;
  const lsn = detailText(context, 'at');
  // Without an LSN, an earlier try may have made it at the head of then.
  const made =
    (lsn === undefined && !isFirstTry && (await storage.timeline(node, tenantId, timelineId))) ||
    (await storage.createTimeline(node, tenantId, { timelineId, ancestorId, lsn }));
  return made.ancestorLsn;
}

async function removeTimeline(context: StepContext, timelineId: string): Promise<void> {
  const { storage, store } = context;
  const { tenantId } = projectOf(context);
  await storage.deleteTimeline(placementOf(store, tenantId).node, tenantId, timelineId);
  await storage.deleteWal(tenantId, timelineId);
}

const endpointsReady = (context: StepContext, branchId: string): Change[] =>
  context.store
    .endpointsOf(branchId)
    .filter(endpoint => endpoint.stage === 'init')
    .map(({ id }) => ({ patch: 'endpoints', id, set: { stage: 'ready', updatedAt: context.now } }));

/** A branch with all that is on it, out of the catalog. */
export function forgetBranch({ store }: Pick<StepContext, 'store'>, branch: Branch): Change[] {
  return [
    ...store.databasesOf(branch.id).map((row): Change => ({ remove: 'databases', id: row.id })),
    ...store.rolesOf(branch.id).map((row): Change => ({ remove: 'roles', id: row.id })),
    ...store.endpointsOf(branch.id).map((row): Change => ({ remove: 'endpoints', id: row.id })),
    { remove: 'branches', id: branch.id },
  ];
}

export const createBranch: ActionTable = {
  steps: [
    {
      name: 'create_timeline',
      run: async context => {
        const branch = branchOf(context);
        const parentLsn = await chooseAndMake(context, branch.timelineId);
        const set = { parentLsn, stage: 'ready', updatedAt: context.now } as const;
        return {
          changes: [{ patch: 'branches', id: branch.id, set }, ...endpointsReady(context, branch.id)],
        };
      },
    },
  ],
  undo: context => removeTimeline(context, branchOf(context).timelineId),
  onFailed: context => forgetBranch(context, branchOf(context)),
};

export const deleteBranch: ActionTable = {
  steps: [
    {
      name: 'stop_computes',
      run: context => stopEndpoints(context, context.store.endpointsOf(context.operation.branchId!)),
    },
    {
      name: 'delete_timeline',
      run: async context => {
        await removeTimeline(context, branchOf(context).timelineId);
        return {};
      },
    },
    { name: 'forget', run: async context => ({ changes: forgetBranch(context, branchOf(context)) }) },
  ],
};

/** The branch on its new timeline, the old one kept under another branch or left to be deleted. */
function swap(context: StepContext): StepResult {
  const { store, now, operation } = context;
  const branch = branchOf(context);
  const sourceId = detailText(context, 'sourceId')!;
  const preserveId = detailText(context, 'preserveId');
  const toSelf = sourceId === branch.id;
  const set: Partial<Branch> = {
    timelineId: detailText(context, 'timelineId')!,
    parentId: toSelf ? preserveId : sourceId,
    parentLsn: detailText(context, 'parentLsn'),
    parentTimestamp: detailNumber(context, 'timestamp'),
    stage: 'ready',
    updatedAt: now,
  };
  const endpoints: Change[] = store.endpointsOf(branch.id).map(endpoint => asleep(endpoint, now));
  const changes: Change[] = [{ patch: 'branches', id: branch.id, set }, ...endpoints];
  if (!toSelf) changes.push(...takeRoles(context, branch, sourceId));
  if (preserveId === undefined) return { changes, details: { oldTimelineId: branch.timelineId } };
  const kept: Branch = {
    ...branch,
    id: preserveId,
    name: detailText(context, 'preserveName')!,
    isDefault: false,
    expiresAt: undefined,
    createdAt: operation.createdAt,
    updatedAt: now,
  };
  changes.push({ put: 'branches', row: kept }, ...copyRoles(context, branch.id, preserveId));
  for (const child of store.childrenOf(branch)) {
    changes.push({ patch: 'branches', id: child.id, set: { parentId: preserveId, updatedAt: now } });
  }
  return { changes };
}

/** Roles and databases are in a timeline: who has it has them. */
export function copyRoles(
  { store, now }: Pick<StepContext, 'store' | 'now'>,
  from: string,
  to: string,
): Change[] {
  return [
    ...store.rolesOf(from).map(
      (row): Change => ({
        put: 'roles',
        row: { ...row, id: roleId(to, row.name), branchId: to, updatedAt: now },
      }),
    ),
    ...store.databasesOf(from).map(
      (row): Change => ({
        put: 'databases',
        row: { ...row, id: roleId(to, row.name), branchId: to, updatedAt: now },
      }),
    ),
  ];
}

function takeRoles(context: StepContext, branch: Branch, sourceId: string): Change[] {
  const { store } = context;
  const taken = copyRoles(context, sourceId, branch.id);
  const ids = new Set(taken.map(change => ('put' in change ? change.row.id : '')));
  return [
    ...store
      .rolesOf(branch.id)
      .filter(row => !ids.has(row.id))
      .map((row): Change => ({ remove: 'roles', id: row.id })),
    ...store
      .databasesOf(branch.id)
      .filter(row => !ids.has(row.id))
      .map((row): Change => ({ remove: 'databases', id: row.id })),
    ...taken,
  ];
}

export const restoreBranch: ActionTable = {
  steps: [
    { name: 'choose_lsn', run: choosePoint },
    {
      name: 'create_timeline',
      run: async context => {
        const parentLsn = await makeTimeline(context, detailText(context, 'timelineId')!);
        return { details: { parentLsn } };
      },
    },
    {
      // Its last words belong to the old timeline.
      name: 'stop_computes',
      run: context => stopEndpoints(context, context.store.endpointsOf(context.operation.branchId!)),
    },
    { name: 'swap', run: async context => swap(context) },
    {
      name: 'delete_old',
      run: async context => {
        const old = detailText(context, 'oldTimelineId');
        if (old !== undefined) await removeTimeline(context, old);
        return {};
      },
    },
  ],
  undo: async context => {
    // Past the swap it is the branch's own.
    const made = detailText(context, 'timelineId')!;
    if (branchOf(context).timelineId === made) return;
    try {
      await removeTimeline(context, made);
    } catch (error) {
      if (!isFault(error)) throw error;
      context.log.warn('a timeline that nobody wants could not be deleted', { timeline: made, error });
    }
  },
  onFailed: ({ store, operation, now }) => {
    const branch = store.get('branches', operation.branchId);
    return branch ? [{ patch: 'branches', id: branch.id, set: { stage: 'ready', updatedAt: now } }] : [];
  },
};
