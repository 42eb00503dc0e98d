// The plan, by table: what was wanted, what was seen, what is to be done.

import { describe, expect, test } from 'vitest';
import type { KeyUse } from './keys.ts';
import type { Branch, Endpoint, Node, Operation, Placement, Project } from './model.ts';
import {
  type Action,
  type Desired,
  type EndpointSeen,
  LEASE_MARGIN_MS,
  MOMENT_MS,
  type NodeSeen,
  placeTenant,
  plan,
} from './plan.ts';

const NOW = 1_000_000_000;
const SETTINGS = { suspendTimeoutSeconds: 300, nodeDeadMs: 30_000 };
const computeSettings = { suspendTimeoutSeconds: 0, size: 0.25, pgSettings: {} };
const times = { createdAt: 0, updatedAt: 0 };

const PROJECT: Project = {
  id: 'p',
  name: 'p',
  pgVersion: 17,
  tenantId: 't',
  keyId: undefined,
  historyRetentionSeconds: 0,
  computeSettings,
  stage: 'ready',
  ...times,
};
const BRANCH: Branch = {
  id: 'b',
  projectId: 'p',
  name: 'main',
  timelineId: 'tl',
  parentId: undefined,
  parentLsn: undefined,
  parentTimestamp: undefined,
  isDefault: true,
  isProtected: false,
  expiresAt: undefined,
  stage: 'ready',
  ...times,
};
const CHILD: Branch = {
  ...BRANCH,
  id: 'c',
  name: 'child',
  timelineId: 'tc',
  parentId: 'b',
  isDefault: false,
};
const ENDPOINT: Endpoint = {
  id: 'e',
  projectId: 'p',
  branchId: 'b',
  name: undefined,
  type: 'read_write',
  staticLsn: undefined,
  settings: computeSettings,
  disabled: false,
  wanted: 'active',
  state: 'active',
  host: 'h',
  port: 1,
  driver: 'process',
  startedAt: NOW - 3_600_000,
  suspendedAt: undefined,
  lastActiveAt: undefined,
  stage: 'ready',
  ...times,
};
const node = (id: string): Node => ({
  id,
  pgHost: 'h',
  pgPort: 1,
  httpHost: 'h',
  httpPort: 2,
  schedulable: true,
  ...times,
});
const PLACEMENT: Placement = { id: 't', projectId: 'p', nodeId: '1', generation: 3, attachedGeneration: 3 };

let sequence = 0;
const operation = (action: Operation['action'], more: Partial<Operation> = {}): Operation => ({
  id: `o-${action}${more.id ?? ''}`,
  projectId: 'p',
  branchId: undefined,
  endpointId: undefined,
  action,
  status: 'scheduling',
  step: 0,
  details: {},
  failures: 0,
  error: undefined,
  retryAt: 0,
  sequence: sequence++,
  ...times,
  ...more,
});
const start = operation('start_compute', { branchId: 'b', endpointId: 'e' });
const other = operation('start_compute', { id: '2', branchId: 'b', endpointId: 'e2' });
const suspend = operation('suspend_compute', { branchId: 'b', endpointId: 'e' });
const branchOff = operation('create_branch', { branchId: 'c', details: { sourceId: 'b' } });
const restore = operation('restore_branch', { branchId: 'b', details: { sourceId: 'b' } });
const drop = operation('delete_project');
const move = operation('tenant_reattach');

const mapOf = <T extends { id: string }>(...rows: T[]): Map<string, T> =>
  new Map(rows.map(row => [row.id, row]));

interface Case {
  readonly name: string;
  readonly desired?: Partial<Desired>;
  readonly endpoints?: Record<string, Partial<EndpointSeen>>;
  readonly nodes?: Record<string, NodeSeen>;
  readonly key?: KeyUse;
  readonly running?: readonly string[];
  readonly actions: readonly Action[];
}

const answers: NodeSeen = { silentSince: undefined };
const dead: NodeSeen = { silentSince: NOW - 30_000 };
const silent: NodeSeen = { silentSince: NOW - 29_999 };
const run = (o: Operation): Action => ({ do: 'run', operation: o.id });
const awake = { running: true, busy: 0, lastActiveAt: NOW - 1000, leasedUntil: 0 };

const CASES: readonly Case[] = [
  { name: 'nothing to do', endpoints: { e: awake }, actions: [] },
  { name: 'an operation whose turn it is', desired: { open: [start] }, actions: [run(start)] },
  { name: 'one under way is not begun again', desired: { open: [start] }, running: [start.id], actions: [] },
  { name: 'one that waits', desired: { open: [{ ...start, retryAt: NOW + 1 }] }, actions: [] },
  { name: 'two on one endpoint: the first', desired: { open: [suspend, start] }, actions: [run(suspend)] },
  {
    name: 'one that waits stands in the way of later ones',
    desired: { open: [{ ...suspend, retryAt: NOW + 1 }, start] },
    actions: [],
  },
  { name: 'two on one branch: both', desired: { open: [start, other] }, actions: [run(start), run(other)] },
  {
    name: 'a child does not stop its parent',
    desired: { open: [start, branchOff] },
    actions: [run(start), run(branchOff)],
  },
  { name: 'a restore waits for the starts', desired: { open: [start, restore] }, actions: [run(start)] },
  { name: 'a start waits for the restore', desired: { open: [restore, start] }, actions: [run(restore)] },
  {
    name: 'a child waits for the restore of its parent',
    desired: { open: [restore, branchOff] },
    actions: [run(restore)],
  },
  {
    name: 'all wait for the end of the project',
    desired: { open: [drop, start, branchOff] },
    actions: [run(drop)],
  },
  {
    name: 'a move waits for nobody who waits for the dead',
    desired: { open: [branchOff, move] },
    actions: [run(branchOff), run(move)],
  },
  {
    name: 'idle for its time',
    endpoints: { e: { ...awake, lastActiveAt: NOW - 300_000 } },
    actions: [{ do: 'suspend', endpoint: 'e', reason: 'idle' }],
  },
  { name: 'not yet', endpoints: { e: { ...awake, lastActiveAt: NOW - 299_999 } }, actions: [] },
  { name: 'at work', endpoints: { e: { ...awake, lastActiveAt: 0, busy: 1 } }, actions: [] },
  {
    name: 'never suspended',
    desired: {
      endpoints: mapOf({ ...ENDPOINT, settings: { ...computeSettings, suspendTimeoutSeconds: -1 } }),
    },
    endpoints: { e: { ...awake, lastActiveAt: 0 } },
    actions: [],
  },
  {
    name: 'started a moment ago, and nobody came yet',
    desired: { endpoints: mapOf({ ...ENDPOINT, startedAt: NOW - 1000 }) },
    endpoints: { e: { ...awake, lastActiveAt: 0 } },
    actions: [],
  },
  {
    name: 'it should run, and does not',
    endpoints: { e: { ...awake, running: false } },
    actions: [{ do: 'restart', endpoint: 'e' }],
  },
  {
    name: 'it died as soon as it was started',
    desired: { endpoints: mapOf({ ...ENDPOINT, startedAt: NOW - MOMENT_MS + 1 }) },
    endpoints: { e: { ...awake, running: false } },
    actions: [{ do: 'rest', endpoint: 'e' }],
  },
  { name: 'not looked at yet', endpoints: {}, actions: [] },
  {
    name: 'something is under way for it',
    desired: { open: [suspend] },
    running: [suspend.id],
    endpoints: { e: { ...awake, running: false } },
    actions: [],
  },
  {
    name: 'its key was revoked',
    key: 'revoked',
    endpoints: { e: awake },
    actions: [{ do: 'suspend', endpoint: 'e', reason: 'key' }],
  },
  {
    name: 'its key was revoked while it starts',
    key: 'revoked',
    desired: { open: [start], endpoints: mapOf({ ...ENDPOINT, state: 'init' as const }) },
    running: [start.id],
    actions: [
      { do: 'abort', operation: start.id },
      { do: 'suspend', endpoint: 'e', reason: 'key' },
    ],
  },
  {
    name: 'its key was revoked, and it is being stopped',
    key: 'shredded',
    desired: { open: [suspend] },
    running: [suspend.id],
    endpoints: { e: awake },
    actions: [],
  },
  {
    name: 'asleep, with a revoked key',
    key: 'revoked',
    desired: { endpoints: mapOf({ ...ENDPOINT, state: 'idle' as const, wanted: 'idle' as const }) },
    actions: [],
  },
  {
    name: 'a lease that ends soon',
    desired: { endpoints: mapOf({ ...ENDPOINT, type: 'read_only' as const, staticLsn: '0/1' }) },
    endpoints: { e: { ...awake, leasedUntil: NOW + LEASE_MARGIN_MS - 1 } },
    actions: [{ do: 'lease', endpoint: 'e' }],
  },
  {
    name: 'a branch past its time',
    desired: { branches: mapOf(BRANCH, { ...CHILD, expiresAt: NOW }) },
    endpoints: { e: awake },
    actions: [{ do: 'expire', branch: 'c' }],
  },
  {
    name: 'one with children waits for them',
    desired: { branches: mapOf(BRANCH, { ...CHILD, expiresAt: NOW }, { ...CHILD, id: 'd', parentId: 'c' }) },
    endpoints: { e: awake },
    actions: [],
  },
  {
    name: 'a pageserver that is silent',
    nodes: { 1: silent, 2: answers },
    endpoints: { e: awake },
    actions: [],
  },
  {
    name: 'a pageserver that died',
    nodes: { 1: dead, 2: answers },
    endpoints: { e: awake },
    actions: [{ do: 'move', tenant: 't', to: '2' }],
  },
  { name: 'all of them died', nodes: { 1: dead, 2: dead }, endpoints: { e: awake }, actions: [] },
  {
    name: 'the move is under way',
    desired: { open: [move] },
    running: [move.id],
    nodes: { 1: dead, 2: answers },
    endpoints: { e: awake },
    actions: [],
  },
  {
    name: 'old operations',
    desired: { stale: ['o1', 'o2'] },
    endpoints: { e: awake },
    actions: [{ do: 'forget', operations: ['o1', 'o2'] }],
  },
];

describe('the plan', () => {
  test.each(CASES)('$name', ({ desired, endpoints, nodes, key, running, actions }) => {
    const wanted: Desired = {
      projects: mapOf(PROJECT),
      branches: mapOf(BRANCH),
      endpoints: mapOf(ENDPOINT),
      placements: mapOf(PLACEMENT),
      nodes: mapOf(node('1'), node('2')),
      open: [],
      stale: [],
      ...desired,
    };
    const seen = {
      now: NOW,
      endpoints: new Map(Object.entries(endpoints ?? {}).map(([id, one]) => [id, { ...awake, ...one }])),
      nodes: new Map(Object.entries(nodes ?? { 1: answers, 2: answers })),
      keyUse: (): KeyUse => key ?? 'usable',
      running: new Set(running ?? []),
    };
    expect(plan(wanted, seen, SETTINGS)).toEqual(actions);
  });

  test('a new tenant goes to the emptiest pageserver that answers', () => {
    const nodes = mapOf(node('1'), node('2'), node('3'));
    const placements = mapOf(PLACEMENT, { ...PLACEMENT, id: 't2', nodeId: '2' });
    const all = new Map([
      ['1', answers],
      ['2', answers],
      ['3', answers],
    ]);
    expect(placeTenant(nodes, placements, all)).toBe('3');
    expect(placeTenant(nodes, placements, new Map([...all, ['3', silent]]))).toBe('1');
    expect(
      placeTenant(
        nodes,
        placements,
        new Map([
          ['1', dead],
          ['2', dead],
          ['3', dead],
        ]),
      ),
    ).toBeUndefined();
    expect(placeTenant(new Map(), placements, new Map())).toBeUndefined();
  });
});
