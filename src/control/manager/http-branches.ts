// Routes of branches, and of the roles and databases on them.

import { json, type Route, route } from '../../base/http.ts';
import { array, boolean, nullable, object, oneOf, optional, string } from '../../base/schema.ts';
import {
  BRANCH,
  listAnswer,
  PAGE,
  PROJECT,
  pageOf,
  settingsFields,
  settingsInput,
  settled,
  timeSchema,
  WAIT,
  withOperations,
} from './http-common.ts';
import {
  branchJson,
  branchText,
  connectionUri,
  databaseJson,
  endpointJson,
  roleJson,
} from './http-shapes.ts';
import {
  changeBranch,
  createBranch,
  deleteBranch,
  resetToParent,
  restoreBranch,
  setDefault,
} from './intents/branches.ts';
import { findBranch, findProject } from './intents/find.ts';
import {
  changeDatabase,
  createDatabase,
  createRole,
  deleteDatabase,
  deleteRole,
  findDatabase,
  findRole,
  resetPassword,
  revealPassword,
} from './intents/roles.ts';
import type { Manager } from './manager.ts';
import type { Branch } from './model.ts';

const PARAMS = { project_id: string() };
const ONE = { ...PARAMS, branch_id: string() };
const NAMED = { ...ONE, name: string() };

const createBody = object({
  branch: optional(
    object({
      name: optional(string()),
      parent_id: optional(string()),
      parent_lsn: optional(string()),
      parent_timestamp: optional(timeSchema),
      protected: optional(boolean()),
      expires_at: optional(timeSchema),
    }),
  ),
  endpoints: optional(array(object({ type: oneOf('read_write', 'read_only'), ...settingsFields }))),
});

type At = { readonly project_id: string; readonly branch_id: string };

const branchAt = ({ store }: Manager, params: At): Branch =>
  findBranch(store, findProject(store, params.project_id), params.branch_id);

export function branchRoutes(manager: Manager): Route[] {
  return [
    ...listRoutes(manager),
    ...oneRoutes(manager),
    ...historyRoutes(manager),
    ...roleRoutes(manager),
    ...databaseRoutes(manager),
  ];
}

function listRoutes(manager: Manager): Route[] {
  const { store } = manager;
  return [
    route({
      method: 'GET',
      path: `${PROJECT}/branches`,
      summary: 'The branches of a project.',
      access: 'api',
      params: PARAMS,
      query: { ...PAGE, search: optional(string()) },
      handle: ({ params, query }) => {
        const word = query.search?.toLowerCase() ?? '';
        const all = store.branchesOf(findProject(store, params.project_id).id);
        const rows = word === '' ? all : all.filter(b => `${b.id} ${b.name}`.toLowerCase().includes(word));
        const { page, pagination } = pageOf(rows, query, 10_000);
        return listAnswer('branches', page.map(branchText), pagination);
      },
    }),
    route({
      method: 'POST',
      path: `${PROJECT}/branches`,
      summary: 'Makes a branch: from now, from an LSN or from a time.',
      access: 'api',
      params: PARAMS,
      query: WAIT,
      body: optional(createBody),
      handle: async ({ params, body, query }) => {
        const input = body?.branch;
        const made = await createBranch(manager, findProject(store, params.project_id), {
          name: input?.name,
          parentId: input?.parent_id,
          parentLsn: input?.parent_lsn,
          parentTimestamp: input?.parent_timestamp,
          isProtected: input?.protected,
          expiresAt: input?.expires_at,
          endpoints: body?.endpoints?.map(one => ({ type: one.type, settings: settingsInput(one) })),
        });
        const operations = await settled(manager, made.operations, query.wait);
        const branch = store.must('branches', made.branch.id);
        const databases = store.databasesOf(branch.id);
        const uris = databases.map(({ name, ownerName }) => ({
          connection_uri: connectionUri(manager, branch, undefined, {
            role: ownerName,
            password: undefined,
            database: name,
          }),
        }));
        return withOperations(
          {
            branch: branchJson(branch),
            endpoints: store.endpointsOf(branch.id).map(endpoint => endpointJson(manager, endpoint)),
            roles: store.rolesOf(branch.id).map(role => roleJson(role)),
            databases: databases.map(databaseJson),
            connection_uris: uris,
          },
          operations,
          201,
        );
      },
    }),
  ];
}

function oneRoutes(manager: Manager): Route[] {
  const { store } = manager;
  return [
    route({
      method: 'GET',
      path: BRANCH,
      summary: 'One branch.',
      access: 'api',
      params: ONE,
      handle: ({ params }) => json({ branch: branchJson(branchAt(manager, params)) }),
    }),
    route({
      method: 'PATCH',
      path: BRANCH,
      summary: 'Renames it, protects it, gives it an end.',
      access: 'api',
      params: ONE,
      body: object({
        branch: object({
          name: optional(string()),
          protected: optional(boolean()),
          expires_at: optional(nullable(timeSchema)),
        }),
      }),
      handle: async ({ params, body: { branch: input } }) => {
        const branch = await changeBranch(manager, branchAt(manager, params), {
          name: input.name,
          isProtected: input.protected,
          expiresAt: input.expires_at,
        });
        return withOperations({ branch: branchJson(branch) }, []);
      },
    }),
    route({
      method: 'DELETE',
      path: BRANCH,
      summary: 'Deletes it with its endpoints.',
      access: 'api',
      params: ONE,
      query: WAIT,
      handle: async ({ params, query }) => {
        const { branch, operations } = await deleteBranch(manager, branchAt(manager, params));
        return withOperations({ branch: branchJson(branch) }, await settled(manager, operations, query.wait));
      },
    }),
    route({
      method: 'GET',
      path: `${BRANCH}/endpoints`,
      summary: 'Its endpoints.',
      access: 'api',
      params: ONE,
      handle: ({ params }) => {
        const endpoints = store.endpointsOf(branchAt(manager, params).id);
        return json({ endpoints: endpoints.map(endpoint => endpointJson(manager, endpoint)) });
      },
    }),
  ];
}

function historyRoutes(manager: Manager): Route[] {
  const { store } = manager;
  const now = (branch: Branch): Record<string, unknown> => ({
    branch: branchJson(store.get('branches', branch.id) ?? branch),
  });
  return [
    route({
      method: 'POST',
      path: `${BRANCH}/restore`,
      summary: 'Makes it what a branch, itself too, was at an LSN or a time.',
      access: 'api',
      params: ONE,
      query: WAIT,
      body: object({
        source_branch_id: string(),
        source_lsn: optional(string()),
        source_timestamp: optional(timeSchema),
        preserve_under_name: optional(string()),
      }),
      handle: async ({ params, body, query }) => {
        const { branch, operations } = await restoreBranch(manager, branchAt(manager, params), {
          sourceId: body.source_branch_id,
          lsn: body.source_lsn,
          timestamp: body.source_timestamp,
          preserveName: body.preserve_under_name,
        });
        const done = await settled(manager, operations, query.wait);
        return withOperations(now(branch), done);
      },
    }),
    route({
      method: 'POST',
      path: `${BRANCH}/reset_to_parent`,
      summary: 'Makes it what its parent is now.',
      access: 'api',
      params: ONE,
      query: WAIT,
      body: optional(object({ preserve_under_name: optional(string()) })),
      handle: async ({ params, body, query }) => {
        const { branch, operations } = await resetToParent(
          manager,
          branchAt(manager, params),
          body?.preserve_under_name,
        );
        const done = await settled(manager, operations, query.wait);
        return withOperations(now(branch), done);
      },
    }),
    route({
      method: 'POST',
      path: `${BRANCH}/set_as_default`,
      summary: 'Makes it the default branch.',
      access: 'api',
      params: ONE,
      handle: async ({ params }) => {
        const branch = await setDefault(manager, branchAt(manager, params));
        return withOperations({ branch: branchJson(branch) }, []);
      },
    }),
  ];
}

function roleRoutes(manager: Manager): Route[] {
  const { store } = manager;
  return [
    route({
      method: 'GET',
      path: `${BRANCH}/roles`,
      summary: 'Its roles that were made here.',
      access: 'api',
      params: ONE,
      handle: ({ params }) =>
        json({ roles: store.rolesOf(branchAt(manager, params).id).map(r => roleJson(r)) }),
    }),
    route({
      method: 'POST',
      path: `${BRANCH}/roles`,
      summary: 'Makes a role; the answer holds its password.',
      access: 'api',
      params: ONE,
      query: WAIT,
      body: object({ role: object({ name: string() }) }),
      handle: async ({ params, body, query }) => {
        const made = await createRole(manager, branchAt(manager, params), body.role.name);
        const done = await settled(manager, made.operations, query.wait);
        return withOperations({ role: roleJson(made.role, made.password) }, done, 201);
      },
    }),
    route({
      method: 'GET',
      path: `${BRANCH}/roles/:name`,
      summary: 'One role.',
      access: 'api',
      params: NAMED,
      handle: ({ params }) =>
        json({ role: roleJson(findRole(store, branchAt(manager, params), params.name)) }),
    }),
    route({
      method: 'DELETE',
      path: `${BRANCH}/roles/:name`,
      summary: 'Drops a role, in the compute, too.',
      access: 'api',
      params: NAMED,
      query: WAIT,
      handle: async ({ params, query }) => {
        const branch = branchAt(manager, params);
        const role = findRole(store, branch, params.name);
        const operations = await deleteRole(manager, branch, role);
        return withOperations({ role: roleJson(role) }, await settled(manager, operations, query.wait));
      },
    }),
    route({
      method: 'GET',
      path: `${BRANCH}/roles/:name/reveal_password`,
      summary: 'Its password, opened by the customer key.',
      access: 'api',
      params: NAMED,
      handle: async ({ params }) => {
        const branch = branchAt(manager, params);
        return json({
          password: await revealPassword(manager, branch, findRole(store, branch, params.name)),
        });
      },
    }),
    route({
      method: 'POST',
      path: `${BRANCH}/roles/:name/reset_password`,
      summary: 'Gives it a new password.',
      access: 'api',
      params: NAMED,
      query: WAIT,
      handle: async ({ params, query }) => {
        const branch = branchAt(manager, params);
        const made = await resetPassword(manager, branch, findRole(store, branch, params.name));
        const done = await settled(manager, made.operations, query.wait);
        return withOperations({ role: roleJson(made.role, made.password) }, done);
      },
    }),
  ];
}

function databaseRoutes(manager: Manager): Route[] {
  const { store } = manager;
  return [
    route({
      method: 'GET',
      path: `${BRANCH}/databases`,
      summary: 'Its databases that were made here.',
      access: 'api',
      params: ONE,
      handle: ({ params }) =>
        json({ databases: store.databasesOf(branchAt(manager, params).id).map(databaseJson) }),
    }),
    route({
      method: 'POST',
      path: `${BRANCH}/databases`,
      summary: 'Makes a database.',
      access: 'api',
      params: ONE,
      query: WAIT,
      body: object({ database: object({ name: string(), owner_name: string() }) }),
      handle: async ({ params, body, query }) => {
        const { name, owner_name: ownerName } = body.database;
        const made = await createDatabase(manager, branchAt(manager, params), { name, ownerName });
        const done = await settled(manager, made.operations, query.wait);
        return withOperations({ database: databaseJson(made.database) }, done, 201);
      },
    }),
    route({
      method: 'GET',
      path: `${BRANCH}/databases/:name`,
      summary: 'One database.',
      access: 'api',
      params: NAMED,
      handle: ({ params }) =>
        json({ database: databaseJson(findDatabase(store, branchAt(manager, params), params.name)) }),
    }),
    route({
      method: 'PATCH',
      path: `${BRANCH}/databases/:name`,
      summary: 'Renames it, or gives it to another role.',
      access: 'api',
      params: NAMED,
      query: WAIT,
      body: object({ database: object({ name: optional(string()), owner_name: optional(string()) }) }),
      handle: async ({ params, body, query }) => {
        const branch = branchAt(manager, params);
        const { name, owner_name: ownerName } = body.database;
        const before = findDatabase(store, branch, params.name);
        const { database, operations } = await changeDatabase(manager, branch, before, { name, ownerName });
        const done = await settled(manager, operations, query.wait);
        const after = store.get('databases', `${branch.id}/${name ?? params.name}`) ?? database;
        return withOperations({ database: databaseJson(after) }, done);
      },
    }),
    route({
      method: 'DELETE',
      path: `${BRANCH}/databases/:name`,
      summary: 'Drops it, in the compute, too.',
      access: 'api',
      params: NAMED,
      query: WAIT,
      handle: async ({ params, query }) => {
        const branch = branchAt(manager, params);
        const database = findDatabase(store, branch, params.name);
        const operations = await deleteDatabase(manager, branch, database);
        const done = await settled(manager, operations, query.wait);
        return withOperations({ database: databaseJson(database) }, done);
      },
    }),
  ];
}
