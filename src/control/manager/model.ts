// What the manager keeps: projects, branches, endpoints (a branch's computes), roles, databases, key configurations,
// pageservers, placements and operations. Rows of the catalog: flat, readonly, replaced as a whole. Pure.
//
//   Project 1--1 Placement (its tenant: on which pageserver, under which generation)
//     |  `--0..1 KeyConfig (bound to the project, inherited by all that is made in it)
//     1--n Branch (its timeline) 1--n Endpoint (a compute: the desire, and where it runs)
//                                1--n Role, 1--n Database
//     1--n Operation (what was asked for, in recorded steps)
//
// Times are milliseconds since the epoch, LSNs text (`0/16B3748`). A row's field `fooBar` is the column `foo_bar`.
// Names, ids and states are those of Neon's public API v2, so that http-shapes.ts has little to do.

export const PG_VERSIONS = [14, 15, 16, 17, 18] as const;
export const DEFAULT_BRANCH = 'main';
export const DEFAULT_ROLE = 'neondb_owner';
export const DEFAULT_DATABASE = 'neondb';
/** The superuser that initdb makes: the manager's own way in, never handed out. */
export const ADMIN_ROLE = 'cloud_admin';

export type Stage = 'init' | 'ready' | 'deleting';

/** What a project or an endpoint wants of a compute. */
export interface ComputeSettings {
  /** 0: the manager's default; -1: never. */
  readonly suspendTimeoutSeconds: number;
  /** Compute units: 1 is 1 CPU and 4 GiB; decides shared_buffers and the container's limits. */
  readonly size: number;
  /** Settings of postgresql.conf over our own. */
  readonly pgSettings: Readonly<Record<string, string>>;
}

export interface Project {
  readonly id: string;
  readonly name: string;
  readonly pgVersion: number;
  readonly tenantId: string;
  /** undefined: the installation's default key. */
  readonly keyId: string | undefined;
  readonly historyRetentionSeconds: number;
  readonly computeSettings: ComputeSettings;
  /** Of an adopted one: the origin's first superuser. */
  readonly originAdmin?: string | undefined;
  readonly stage: Stage;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export interface Branch {
  readonly id: string;
  readonly projectId: string;
  readonly name: string;
  readonly timelineId: string;
  readonly parentId: string | undefined;
  /** Where it left its parent; undefined until the pageserver said so, and on a root. */
  readonly parentLsn: string | undefined;
  /** As asked for, when it was asked for by time. */
  readonly parentTimestamp: number | undefined;
  readonly isDefault: boolean;
  readonly isProtected: boolean;
  readonly expiresAt: number | undefined;
  readonly stage: Stage;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export type EndpointType = 'read_write' | 'read_only';
export type EndpointState = 'init' | 'active' | 'idle';

export interface Endpoint {
  /** `ep-...`; what a client names to the proxy. */
  readonly id: string;
  readonly projectId: string;
  readonly branchId: string;
  readonly name: string | undefined;
  readonly type: EndpointType;
  /** A read_only endpoint at one LSN for ever; undefined: it follows the branch. */
  readonly staticLsn: string | undefined;
  readonly settings: ComputeSettings;
  /** May not be started: wake is refused. */
  readonly disabled: boolean;
  /** The desire. */
  readonly wanted: 'active' | 'idle';
  /** What was last seen. */
  readonly state: EndpointState;
  /** Where it answers while active. */
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly driver: DriverKind | undefined;
  readonly startedAt: number | undefined;
  readonly suspendedAt: number | undefined;
  readonly lastActiveAt: number | undefined;
  readonly stage: Stage;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export type DriverKind = 'process' | 'docker' | 'stock';

export interface Role {
  /** `<branch id>/<name>`. */
  readonly id: string;
  readonly branchId: string;
  readonly name: string;
  /** What Postgres keeps of the password: SCRAM-SHA-256$... Undefined: it came with an adopted origin. */
  readonly verifier: string | undefined;
  /** The password, wrapped by the project's customer key: base64. Revoke the key, and nobody reads it. */
  readonly sealedPassword: string | undefined;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** Its password is the origin's, and nobody here knows it. */
export const isBrought = (role: Role): boolean => role.verifier === undefined;

export interface Database {
  /** `<branch id>/<name>`. */
  readonly id: string;
  readonly branchId: string;
  readonly name: string;
  readonly ownerName: string;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** A customer key, under a name: `local:default`, an AWS ARN, ... (seal/key-document.ts). */
export interface KeyConfig {
  readonly id: string;
  readonly name: string;
  readonly cmk: string;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** A pageserver. */
export interface Node {
  /** Its node id, as text. */
  readonly id: string;
  readonly pgHost: string;
  readonly pgPort: number;
  readonly httpHost: string;
  readonly httpPort: number;
  /** New tenants are put here. */
  readonly schedulable: boolean;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** Where a tenant is attached. The generation only ever grows, and is kept before anybody is told. */
export interface Placement {
  /** The tenant. */
  readonly id: string;
  readonly projectId: string;
  readonly nodeId: string;
  readonly generation: number;
  /** The generation that the node has confirmed; 0 before the first. */
  readonly attachedGeneration: number;
}

export type OperationAction =
  | 'create_project'
  | 'delete_project'
  | 'change_key'
  | 'create_branch'
  | 'delete_branch'
  | 'restore_branch'
  | 'start_compute'
  | 'suspend_compute'
  | 'apply_config'
  | 'delete_compute'
  | 'tenant_reattach';

export type OperationStatus = 'scheduling' | 'running' | 'finished' | 'failed';

export interface Operation {
  readonly id: string;
  readonly projectId: string;
  readonly branchId: string | undefined;
  readonly endpointId: string | undefined;
  readonly action: OperationAction;
  readonly status: OperationStatus;
  /** The next step of its action's table; all before it have happened. */
  readonly step: number;
  /** What the steps need to know: chosen when it was asked for, or by an earlier step. */
  readonly details: Readonly<Record<string, unknown>>;
  readonly failures: number;
  readonly error: string | undefined;
  /** Not tried again before. */
  readonly retryAt: number;
  /** In the order of asking. */
  readonly sequence: number;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** The catalog's tables and what a row of each is. */
export interface Tables {
  projects: Project;
  branches: Branch;
  endpoints: Endpoint;
  roles: Role;
  databases: Database;
  keys: KeyConfig;
  nodes: Node;
  placements: Placement;
  operations: Operation;
}
export type TableName = keyof Tables;
export const TABLE_NAMES: readonly TableName[] = [
  'keys',
  'nodes',
  'projects',
  'placements',
  'branches',
  'endpoints',
  'roles',
  'databases',
  'operations',
];

/**
 * One change of the catalog; several are committed together or not at all. A patch is laid over the row as it is when
 * its turn to be committed comes, so that nobody undoes what another changed meanwhile; one of a row that is gone is
 * dropped.
 */
export type Change =
  | { [T in TableName]: { readonly put: T; readonly row: Tables[T] } }[TableName]
  | {
      [T in TableName]: { readonly patch: T; readonly id: string; readonly set: Partial<Tables[T]> };
    }[TableName]
  | { readonly remove: TableName; readonly id: string };

export const roleId = (branchId: string, name: string): string => `${branchId}/${name}`;
export const databaseId = roleId;
