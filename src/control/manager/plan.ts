// What to do next: a function of what is wanted and what was seen. The manager calls it after every change and every
// second, and carries out what it says (reconcile.ts); nothing else decides.
//
//   run      an operation whose turn it is: no earlier one of its project stands in its way, and no wait is on it
//   abort    a start under way whose customer key was revoked
//   suspend  a compute idle for its time, or whose key was revoked (at once, then)
//   restart  a compute that should run and does not
//   rest     one that died within MOMENT_MS of its start: it sleeps until somebody asks for it
//   expire   a branch past its time
//   move     a tenant whose pageserver has been silent for too long, to one that is not
//   lease    the LSN of a static compute, before its lease ends
//   forget   finished operations beyond those kept
//
// Operations of a project lock what they touch; two that share something run one after the other, in the order of
// asking, unless both only read it:
//
//   create_project, delete_project                                 the project and its tenant's place
//   change_key                                                     the project
//   tenant_reattach                                                the tenant's place: it waits for nobody who waits
//                                                                  for the pageserver that died
//   create_branch      the branch, and reads its parent            reads the project
//   restore_branch     the branch, and reads its source            reads the project
//   delete_branch      the branch                                  reads the project
//   *_compute, apply_config   the endpoint, and reads its branch   reads the project

import type { KeyUse } from './keys.ts';
import type { Branch, Endpoint, Node, Operation, Placement, Project } from './model.ts';

export interface Desired {
  readonly projects: ReadonlyMap<string, Project>;
  readonly branches: ReadonlyMap<string, Branch>;
  readonly endpoints: ReadonlyMap<string, Endpoint>;
  readonly placements: ReadonlyMap<string, Placement>;
  readonly nodes: ReadonlyMap<string, Node>;
  /** In the order of asking. */
  readonly open: readonly Operation[];
  /** Finished ones beyond those kept. */
  readonly stale: readonly string[];
}

export interface EndpointSeen {
  readonly running: boolean;
  readonly busy: number;
  readonly lastActiveAt: number;
  /** Of a static one; 0 before the first. */
  readonly leasedUntil: number;
}

export interface NodeSeen {
  /** undefined: it answers. */
  readonly silentSince: number | undefined;
}

export interface Observed {
  readonly now: number;
  readonly endpoints: ReadonlyMap<string, EndpointSeen>;
  readonly nodes: ReadonlyMap<string, NodeSeen>;
  readonly keyUse: (tenantId: string) => KeyUse;
  /** Operations whose step is under way. */
  readonly running: ReadonlySet<string>;
}

export interface PlanSettings {
  readonly suspendTimeoutSeconds: number;
  readonly nodeDeadMs: number;
}

export type Action =
  | { readonly do: 'run'; readonly operation: string }
  | { readonly do: 'abort'; readonly operation: string }
  | { readonly do: 'suspend'; readonly endpoint: string; readonly reason: 'idle' | 'key' }
  | { readonly do: 'restart'; readonly endpoint: string }
  | { readonly do: 'rest'; readonly endpoint: string }
  | { readonly do: 'expire'; readonly branch: string }
  | { readonly do: 'move'; readonly tenant: string; readonly to: string }
  | { readonly do: 'lease'; readonly endpoint: string }
  | { readonly do: 'forget'; readonly operations: readonly string[] };

/** A compute that ends so soon after its start would end again. */
export const MOMENT_MS = 10_000;
/** A lease is renewed when less than this is left of it. */
export const LEASE_MARGIN_MS = 60_000;

export function plan(desired: Desired, observed: Observed, settings: PlanSettings): Action[] {
  return [
    ...planOperations(desired.open, observed),
    ...planKeys(desired, observed),
    ...planEndpoints(desired, observed, settings),
    ...planBranches(desired, observed),
    ...planNodes(desired, observed, settings),
    ...(desired.stale.length > 0 ? [{ do: 'forget' as const, operations: desired.stale }] : []),
  ];
}

interface Locks {
  readonly alone: readonly string[];
  readonly shared: readonly string[];
}

const placeOf = (projectId: string): string => `${projectId}/place`;

export function locksOf(operation: Operation): Locks {
  const { projectId, branchId, endpointId, details } = operation;
  switch (operation.action) {
    case 'create_project':
    case 'delete_project':
      return { alone: [projectId, placeOf(projectId)], shared: [] };
    case 'change_key':
      return { alone: [projectId], shared: [] };
    case 'tenant_reattach':
      return { alone: [placeOf(projectId)], shared: [] };
    case 'create_branch':
    case 'restore_branch': {
      const source = details['sourceId'];
      const shared = typeof source === 'string' && source !== branchId ? [source] : [];
      return { alone: [branchId!], shared: [projectId, ...shared] };
    }
    case 'delete_branch':
      return { alone: [branchId!], shared: [projectId] };
    default:
      return { alone: [endpointId!], shared: [projectId, branchId!] };
  }
}

/** Which operations may take their next step now. */
export function planOperations(
  open: readonly Operation[],
  observed: Pick<Observed, 'now' | 'running'>,
): Action[] {
  const actions: Action[] = [];
  const alone = new Set<string>();
  const shared = new Set<string>();
  for (const operation of open) {
    const locks = locksOf(operation);
    const free =
      locks.alone.every(id => !alone.has(id) && !shared.has(id)) && locks.shared.every(id => !alone.has(id));
    const due = operation.retryAt <= observed.now && !observed.running.has(operation.id);
    if (free && due) actions.push({ do: 'run', operation: operation.id });
    // One that waits holds its locks against those asked for later.
    for (const id of locks.alone) alone.add(id);
    for (const id of locks.shared) shared.add(id);
  }
  return actions;
}

const isRevoked = (use: KeyUse): boolean => use === 'revoked' || use === 'shredded';

function planKeys({ projects, endpoints, open }: Desired, observed: Observed): Action[] {
  const revoked = new Set<string>();
  for (const project of projects.values()) {
    if (isRevoked(observed.keyUse(project.tenantId))) revoked.add(project.id);
  }
  if (revoked.size === 0) return [];
  const stopping = new Set(
    open.filter(o => o.action === 'suspend_compute' || o.action === 'delete_compute').map(o => o.endpointId),
  );
  const actions: Action[] = [];
  for (const { id, projectId, action } of open) {
    if (action === 'start_compute' && revoked.has(projectId)) actions.push({ do: 'abort', operation: id });
  }
  for (const endpoint of endpoints.values()) {
    const awake = endpoint.state !== 'idle' || observed.endpoints.get(endpoint.id)?.running === true;
    if (awake && revoked.has(endpoint.projectId) && !stopping.has(endpoint.id)) {
      actions.push({ do: 'suspend', endpoint: endpoint.id, reason: 'key' });
    }
  }
  return actions;
}

function planEndpoints(
  { endpoints, projects, open }: Desired,
  observed: Observed,
  settings: PlanSettings,
): Action[] {
  const actions: Action[] = [];
  const busyWith = new Set(open.flatMap(o => locksOf(o).alone));
  for (const endpoint of endpoints.values()) {
    const { id, branchId, projectId } = endpoint;
    if (endpoint.state !== 'active' || endpoint.stage !== 'ready') continue;
    if (busyWith.has(id) || busyWith.has(branchId) || busyWith.has(projectId)) continue;
    const project = projects.get(projectId);
    if (!project || isRevoked(observed.keyUse(project.tenantId))) continue;
    const seen = observed.endpoints.get(id);
    if (!seen) continue; // not looked at yet
    if (!seen.running) {
      const atOnce = observed.now - (endpoint.startedAt ?? 0) < MOMENT_MS;
      actions.push({ do: endpoint.wanted === 'active' && !atOnce ? 'restart' : 'rest', endpoint: id });
      continue;
    }
    const timeout = endpoint.settings.suspendTimeoutSeconds || settings.suspendTimeoutSeconds;
    const idleMs = observed.now - Math.max(seen.lastActiveAt, endpoint.startedAt ?? 0);
    if (timeout > 0 && seen.busy === 0 && idleMs >= timeout * 1000) {
      actions.push({ do: 'suspend', endpoint: id, reason: 'idle' });
    } else if (endpoint.staticLsn !== undefined && seen.leasedUntil - observed.now < LEASE_MARGIN_MS) {
      actions.push({ do: 'lease', endpoint: id });
    }
  }
  return actions;
}

function planBranches({ branches, open }: Desired, { now }: Observed): Action[] {
  const actions: Action[] = [];
  const busyWith = new Set(open.flatMap(o => locksOf(o).alone));
  const parents = new Set([...branches.values()].map(branch => branch.parentId));
  for (const branch of branches.values()) {
    const over = branch.expiresAt !== undefined && branch.expiresAt <= now;
    // One with children waits for them.
    if (!over || branch.stage !== 'ready' || branch.isProtected || branch.isDefault) continue;
    if (!busyWith.has(branch.id) && !busyWith.has(branch.projectId) && !parents.has(branch.id)) {
      actions.push({ do: 'expire', branch: branch.id });
    }
  }
  return actions;
}

function planNodes(
  { placements, nodes, open }: Desired,
  { now, nodes: seen }: Observed,
  settings: PlanSettings,
): Action[] {
  const isDead = (id: string): boolean => {
    const since = seen.get(id)?.silentSince;
    return since !== undefined && now - since >= settings.nodeDeadMs;
  };
  const answers = (id: string): boolean => seen.has(id) && seen.get(id)!.silentSince === undefined;
  const dead = new Set([...nodes.keys()].filter(isDead));
  if (dead.size === 0) return [];
  const load = new Map<string, number>();
  for (const node of nodes.values()) if (node.schedulable && answers(node.id)) load.set(node.id, 0);
  if (load.size === 0) return [];
  for (const { nodeId } of placements.values()) {
    if (load.has(nodeId)) load.set(nodeId, load.get(nodeId)! + 1);
  }
  const moving = new Set(open.filter(o => o.action === 'tenant_reattach').map(o => o.projectId));
  const actions: Action[] = [];
  for (const placement of placements.values()) {
    if (!dead.has(placement.nodeId) || moving.has(placement.projectId)) continue;
    const to = leastOf(load);
    load.set(to, load.get(to)! + 1);
    actions.push({ do: 'move', tenant: placement.id, to });
  }
  return actions;
}

/** Of several alike the first by id, so that a plan is one. */
function leastOf(load: ReadonlyMap<string, number>): string {
  return [...load].sort(([a, x], [b, y]) => x - y || (a < b ? -1 : 1))[0]![0];
}

/** Where a new tenant goes: the pageserver that answers and has the fewest. */
export function placeTenant(
  nodes: ReadonlyMap<string, Node>,
  placements: ReadonlyMap<string, Placement>,
  seen: ReadonlyMap<string, NodeSeen>,
): string | undefined {
  const load = new Map<string, number>();
  for (const node of nodes.values()) {
    if (node.schedulable && seen.get(node.id)?.silentSince === undefined) load.set(node.id, 0);
  }
  for (const { nodeId } of placements.values()) {
    if (load.has(nodeId)) load.set(nodeId, load.get(nodeId)! + 1);
  }
  return load.size === 0 ? undefined : leastOf(load);
}
