// Rows as the API tells them: Neon's names, times in RFC 3339, what is not there left out.

import { primaryOf } from './intents/find.ts';
import type { Manager } from './manager.ts';
import type { Branch, Database, Endpoint, KeyConfig, Node, Operation, Project, Role } from './model.ts';
import { cmkOf } from './operations/step.ts';
import { ACTIONS } from './operations/table.ts';

type Json = Record<string, unknown>;

const iso = (ms: number | undefined): string | undefined =>
  ms === undefined ? undefined : new Date(ms).toISOString();

const KEY_STATES = {
  usable: 'enabled',
  revoked: 'revoked',
  shredded: 'destroyed',
  unknown: 'unknown',
} as const;

/** As `projectJson`, after its key service was asked where nobody did lately. */
export async function projectAsked(manager: Manager, project: Project): Promise<Json> {
  // One that is being made may have no key yet.
  if (project.stage === 'ready') await manager.keys.look(project.tenantId);
  return projectJson(manager, project);
}

export function projectJson({ store, keys }: Manager, project: Project): Json {
  const { computeSettings: settings } = project;
  return {
    id: project.id,
    name: project.name,
    pg_version: project.pgVersion,
    platform_id: 'lakebed',
    region_id: 'local',
    tenant_id: project.tenantId,
    key_id: project.keyId,
    key: cmkOf(store, keys, project.keyId),
    key_state: KEY_STATES[keys.heard(project.tenantId)],
    history_retention_seconds: project.historyRetentionSeconds,
    default_endpoint_settings: settingsJson(settings),
    provisioner: 'lakebed',
    current_state: project.stage,
    branch_count: store.branchesOf(project.id).length,
    created_at: iso(project.createdAt),
    updated_at: iso(project.updatedAt),
  };
}

const settingsJson = ({ suspendTimeoutSeconds, size, pgSettings }: Project['computeSettings']): Json => ({
  suspend_timeout_seconds: suspendTimeoutSeconds,
  size,
  autoscaling_limit_min_cu: size,
  autoscaling_limit_max_cu: size,
  pg_settings: pgSettings,
});

export function branchJson(branch: Branch): Json {
  return {
    id: branch.id,
    project_id: branch.projectId,
    name: branch.name,
    parent_id: branch.parentId,
    parent_lsn: branch.parentLsn,
    parent_timestamp: iso(branch.parentTimestamp),
    default: branch.isDefault,
    primary: branch.isDefault,
    protected: branch.isProtected,
    expires_at: iso(branch.expiresAt),
    current_state: branch.stage === 'init' ? 'init' : 'ready',
    pending_state: branch.stage === 'init' ? 'ready' : branch.stage === 'deleting' ? 'deleted' : undefined,
    timeline_id: branch.timelineId,
    created_at: iso(branch.createdAt),
    updated_at: iso(branch.updatedAt),
  };
}

export function endpointJson({ settings: manager, sight }: Manager, endpoint: Endpoint): Json {
  const { suspendTimeoutSeconds, size, pgSettings } = endpoint.settings;
  const { state, wanted } = endpoint;
  const lastActive = Math.max(endpoint.lastActiveAt ?? 0, sight.lastActive(endpoint.id));
  return {
    id: endpoint.id,
    project_id: endpoint.projectId,
    branch_id: endpoint.branchId,
    name: endpoint.name,
    type: endpoint.type,
    host: manager.proxyHost,
    port: manager.proxyPort,
    proxy_host: manager.proxyHost,
    current_state: state,
    pending_state: wanted === state ? undefined : wanted,
    static_lsn: endpoint.staticLsn,
    suspend_timeout_seconds: suspendTimeoutSeconds,
    size,
    autoscaling_limit_min_cu: size,
    autoscaling_limit_max_cu: size,
    settings: { pg_settings: pgSettings },
    disabled: endpoint.disabled,
    driver: endpoint.driver,
    compute_host: endpoint.host,
    compute_port: endpoint.port,
    connections: sight.sessionsOf(endpoint.id)?.connections,
    last_active: lastActive === 0 ? undefined : iso(lastActive),
    started_at: iso(endpoint.startedAt),
    suspended_at: iso(endpoint.suspendedAt),
    created_at: iso(endpoint.createdAt),
    updated_at: iso(endpoint.updatedAt),
  };
}

export function operationJson(operation: Operation): Json {
  const { steps } = ACTIONS[operation.action];
  return {
    id: operation.id,
    project_id: operation.projectId,
    branch_id: operation.branchId,
    endpoint_id: operation.endpointId,
    action: operation.action,
    status: operation.status,
    step: steps[operation.step]?.name,
    steps: steps.map(step => step.name),
    steps_done: operation.step,
    error: operation.error,
    failures_count: operation.failures,
    retry_at: operation.retryAt === 0 ? undefined : iso(operation.retryAt),
    created_at: iso(operation.createdAt),
    updated_at: iso(operation.updatedAt),
    timings: operation.details['timings'],
    total_duration_ms: operation.updatedAt - operation.createdAt,
  };
}

export const roleJson = (role: Role, password?: string): Json => ({
  branch_id: role.branchId,
  name: role.name,
  password,
  protected: false,
  created_at: iso(role.createdAt),
  updated_at: iso(role.updatedAt),
});

export const databaseJson = (database: Database): Json => ({
  branch_id: database.branchId,
  name: database.name,
  owner_name: database.ownerName,
  created_at: iso(database.createdAt),
  updated_at: iso(database.updatedAt),
});

export const keyJson = ({ store }: Manager, key: KeyConfig): Json => ({
  id: key.id,
  name: key.name,
  cmk: key.cmk,
  projects: [...store.all('projects').values()]
    .filter(project => project.keyId === key.id)
    .map(({ id }) => id),
  created_at: iso(key.createdAt),
  updated_at: iso(key.updatedAt),
});

export function nodeJson({ store, sight }: Manager, node: Node): Json {
  const seen = sight.nodes.get(node.id);
  return {
    id: Number(node.id),
    listen_pg_addr: node.pgHost,
    listen_pg_port: node.pgPort,
    listen_http_addr: node.httpHost,
    listen_http_port: node.httpPort,
    schedulable: node.schedulable,
    alive: seen !== undefined && seen.silentSince === undefined,
    silent_since: iso(seen?.silentSince),
    tenants: [...store.all('placements').values()].filter(placement => placement.nodeId === node.id).length,
  };
}

/** Rows are never changed, only replaced: what one looks like is made once. */
function remembered<T extends object>(shape: (row: T) => Json): (row: T) => string {
  const texts = new WeakMap<T, string>();
  return row => {
    let text = texts.get(row);
    if (text === undefined) texts.set(row, (text = JSON.stringify(shape(row))));
    return text;
  };
}

export const branchText = remembered(branchJson);
export const operationText = remembered(operationJson);

export interface Way {
  readonly role: string;
  readonly password: string | undefined;
  readonly database: string;
}

/** Through the proxy, which tells computes apart by the name behind the database's @. */
export function connectionUri(
  { settings, store }: Manager,
  branch: Branch,
  endpoint: Endpoint | undefined,
  way: Way,
): string {
  const primary = primaryOf(store, branch);
  const target = endpoint && endpoint.id !== primary?.id ? endpoint.id : uriTarget(branch);
  const user = encodeURIComponent(way.role);
  const secret = way.password === undefined ? '' : `:${encodeURIComponent(way.password)}`;
  const database = encodeURIComponent(`${way.database}@${target}`);
  return `postgresql://${user}${secret}@${settings.proxyHost}:${settings.proxyPort}/${database}`;
}

/** An id is one everywhere; a branch's name only within its project. */
const uriTarget = (branch: Branch): string => branch.id;
