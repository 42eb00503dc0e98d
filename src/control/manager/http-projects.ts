// Routes of projects and their operations.

import { Fault } from '../../base/fault.ts';
import { json, type Route, route } from '../../base/http.ts';
import { array, boolean, integer, object, optional, queryBoolean, string } from '../../base/schema.ts';
import {
  API,
  listAnswer,
  PAGE,
  PROJECT,
  pageOf,
  settingsInput,
  settingsSchema,
  settled,
  WAIT,
  withOperations,
} from './http-common.ts';
import {
  branchJson,
  connectionUri,
  databaseJson,
  endpointJson,
  operationJson,
  operationText,
  projectAsked,
  projectJson,
  roleJson,
} from './http-shapes.ts';
import { defaultBranch, findBranch, findEndpoint, findProject } from './intents/find.ts';
import { changeProject, createProject, deleteProject } from './intents/projects.ts';
import { findDatabase, findRole, revealPassword } from './intents/roles.ts';
import type { Manager } from './manager.ts';
import { isBrought, roleId } from './model.ts';

const PARAMS = { project_id: string() };

const createBody = object({
  project: optional(
    object({
      name: optional(string()),
      pg_version: optional(integer()),
      key_id: optional(string()),
      key: optional(string('a customer key: local:NAME, an AWS ARN, an Azure key URL, a Google key name')),
      history_retention_seconds: optional(integer()),
      default_endpoint_settings: optional(settingsSchema),
      adopt: optional(boolean()),
      origin: optional(
        object({
          admin: string(),
          roles: array(string()),
          databases: array(object({ name: string(), owner_name: string() })),
        }),
      ),
      branch: optional(
        object({
          name: optional(string()),
          role_name: optional(string()),
          database_name: optional(string()),
        }),
      ),
    }),
  ),
});

const changeBody = object({
  project: object({
    name: optional(string()),
    key_id: optional(string()),
    key: optional(string()),
    history_retention_seconds: optional(integer()),
    default_endpoint_settings: optional(settingsSchema),
  }),
});

export function projectRoutes(manager: Manager): Route[] {
  return [...listRoutes(manager), ...oneRoutes(manager), ...operationRoutes(manager)];
}

function listRoutes(manager: Manager): Route[] {
  const { store } = manager;
  return [
    route({
      method: 'GET',
      path: `${API}/projects`,
      summary: 'The projects.',
      access: 'api',
      query: { ...PAGE, search: optional(string()), ask_keys: optional(queryBoolean) },
      handle: async ({ query }) => {
        const word = query.search?.toLowerCase() ?? '';
        const all = [...store.all('projects').values()];
        const rows = all.filter(project => `${project.id} ${project.name}`.toLowerCase().includes(word));
        const { page, pagination } = pageOf(rows, query);
        const told = query.ask_keys ? projectAsked : projectJson;
        return json({ projects: await Promise.all(page.map(project => told(manager, project))), pagination });
      },
    }),
    route({
      method: 'POST',
      path: `${API}/projects`,
      summary:
        'Makes a project: a tenant under its key, with a first branch, a role, a database and an endpoint.',
      access: 'api',
      query: WAIT,
      body: createBody,
      handle: async ({ body: { project: input = {} }, query }) => {
        const made = await createProject(manager, {
          name: input.name,
          pgVersion: input.pg_version,
          keyId: input.key_id,
          key: input.key,
          historyRetentionSeconds: input.history_retention_seconds,
          settings: settingsInput(input.default_endpoint_settings),
          branchName: input.branch?.name,
          roleName: input.branch?.role_name,
          databaseName: input.branch?.database_name,
          adopt: input.adopt,
          origin: input.origin,
        });
        const operations = await settled(manager, made.operations, query.wait);
        const { access } = made;
        const project = store.must('projects', made.project.id);
        const branch = store.must('branches', made.branch.id);
        return withOperations(
          {
            project: projectJson(manager, project),
            branch: branchJson(branch),
            endpoints: store.endpointsOf(branch.id).map(endpoint => endpointJson(manager, endpoint)),
            roles: access ? [roleJson(findRole(store, branch, access.role), access.password)] : [],
            databases: access ? [databaseJson(findDatabase(store, branch, access.database))] : [],
            connection_uris: access
              ? [{ connection_uri: connectionUri(manager, branch, undefined, access) }]
              : [],
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
      path: PROJECT,
      summary: 'One project.',
      access: 'api',
      params: PARAMS,
      handle: async ({ params }) =>
        json({ project: await projectAsked(manager, findProject(store, params.project_id)) }),
    }),
    route({
      method: 'PATCH',
      path: PROJECT,
      summary: 'Renames it, sets what its computes inherit, moves it to another key.',
      access: 'api',
      params: PARAMS,
      query: WAIT,
      body: changeBody,
      handle: async ({ params, body: { project: input }, query }) => {
        const { project, operations } = await changeProject(manager, findProject(store, params.project_id), {
          name: input.name,
          keyId: input.key_id,
          key: input.key,
          historyRetentionSeconds: input.history_retention_seconds,
          settings: settingsInput(input.default_endpoint_settings),
        });
        const done = await settled(manager, operations, query.wait);
        return withOperations({ project: projectJson(manager, store.must('projects', project.id)) }, done);
      },
    }),
    route({
      method: 'DELETE',
      path: PROJECT,
      summary: 'Deletes it with all that is in it, and shreds its keys.',
      access: 'api',
      params: PARAMS,
      query: WAIT,
      handle: async ({ params, query }) => {
        const { project, operations } = await deleteProject(manager, findProject(store, params.project_id));
        const told = projectJson(manager, project);
        return withOperations({ project: told }, await settled(manager, operations, query.wait));
      },
    }),
    route({
      method: 'GET',
      path: `${PROJECT}/connection_uri`,
      summary: 'How to connect, through the proxy, with the password.',
      access: 'api',
      params: PARAMS,
      query: {
        branch_id: optional(string()),
        endpoint_id: optional(string()),
        role_name: optional(string()),
        database_name: optional(string()),
        pooled: optional(string()),
      },
      handle: async ({ params, query }) => {
        const project = findProject(store, params.project_id);
        const endpoint =
          query.endpoint_id === undefined ? undefined : findEndpoint(store, project, query.endpoint_id);
        const branch =
          endpoint !== undefined
            ? store.must('branches', endpoint.branchId)
            : query.branch_id === undefined
              ? defaultBranch(store, project)
              : findBranch(store, project, query.branch_id);
        const database = databaseName(manager, branch.id, query.database_name);
        const role = query.role_name ?? ownerOf(manager, branch.id, database);
        // One that SQL made, or an origin brought, has its password elsewhere.
        const known = store.get('roles', roleId(branch.id, role));
        const kept = known !== undefined && !isBrought(known);
        const password = kept ? await revealPassword(manager, branch, known) : undefined;
        return json({ uri: connectionUri(manager, branch, endpoint, { role, password, database }) });
      },
    }),
  ];
}

function databaseName({ store }: Manager, branchId: string, asked: string | undefined): string {
  const name = asked ?? store.databasesOf(branchId)[0]?.name;
  if (name !== undefined) return name;
  throw new Fault('database-missing', 'no database of the branch is known here', {
    hint: 'Give database_name.',
  });
}

function ownerOf({ store }: Manager, branchId: string, database: string): string {
  const owner = store.databasesOf(branchId).find(one => one.name === database)?.ownerName;
  const name = owner ?? store.rolesOf(branchId)[0]?.name;
  if (name !== undefined) return name;
  throw new Fault('role-missing', 'no role of the branch is known here', { hint: 'Give role_name.' });
}

function operationRoutes({ store }: Manager): Route[] {
  return [
    route({
      method: 'GET',
      path: `${PROJECT}/operations`,
      summary: 'What was done and what is under way, the newest first.',
      access: 'api',
      params: PARAMS,
      query: PAGE,
      handle: ({ params, query }) => {
        const project = findProject(store, params.project_id);
        const { page, pagination } = pageOf(store.operationsOf(project.id).reverse(), query);
        return listAnswer('operations', page.map(operationText), pagination);
      },
    }),
    route({
      method: 'GET',
      path: `${PROJECT}/operations/:operation_id`,
      summary: 'One of them.',
      access: 'api',
      params: { ...PARAMS, operation_id: string() },
      handle: ({ params }) => {
        const operation = store.get('operations', params.operation_id);
        // That of a deletion outlives its project.
        if (operation) return json({ operation: operationJson(operation) });
        throw new Fault('operation-missing', `there is no operation ${params.operation_id}`, {
          hint: 'Finished ones are kept for a while only.',
        });
      },
    }),
  ];
}
