// Routes of endpoints: the computes of branches.

import { json, type Route, route } from '../../base/http.ts';
import { boolean, object, oneOf, optional, string } from '../../base/schema.ts';
import {
  ENDPOINT,
  PROJECT,
  settingsFields,
  settingsInput,
  settled,
  timeSchema,
  WAIT,
  withOperations,
} from './http-common.ts';
import { endpointJson } from './http-shapes.ts';
import {
  changeEndpoint,
  createEndpoint,
  deleteEndpoint,
  type EndpointAnswer,
  restartEndpoint,
  startEndpoint,
  suspendEndpoint,
} from './intents/endpoints.ts';
import { findBranch, findEndpoint, findProject } from './intents/find.ts';
import type { Manager } from './manager.ts';
import type { Endpoint } from './model.ts';

const PARAMS = { project_id: string() };
const ONE = { ...PARAMS, endpoint_id: string() };

const changeFields = { name: optional(string()), disabled: optional(boolean()), ...settingsFields };

const createBody = object({
  endpoint: object({
    branch_id: string(),
    type: optional(oneOf('read_write', 'read_only')),
    static_lsn: optional(string()),
    static_timestamp: optional(timeSchema),
    ...changeFields,
  }),
});

type At = { readonly project_id: string; readonly endpoint_id: string };

export function endpointRoutes(manager: Manager): Route[] {
  const { store } = manager;
  const at = (params: At): Endpoint =>
    findEndpoint(store, findProject(store, params.project_id), params.endpoint_id);
  const told = ({ id }: Endpoint, otherwise: Endpoint): Record<string, unknown> => ({
    endpoint: endpointJson(manager, store.get('endpoints', id) ?? otherwise),
  });
  const act = (
    word: string,
    summary: string,
    work: (manager: Manager, endpoint: Endpoint) => Promise<EndpointAnswer>,
  ): Route =>
    route({
      method: 'POST',
      path: `${ENDPOINT}/${word}`,
      summary,
      access: 'api',
      params: ONE,
      query: WAIT,
      handle: async ({ params, query }) => {
        const { endpoint, operations } = await work(manager, at(params));
        const done = await settled(manager, operations, query.wait ?? false);
        return withOperations(told(endpoint, endpoint), done);
      },
    });
  return [
    ...collectionRoutes(manager),
    route({
      method: 'GET',
      path: ENDPOINT,
      summary: 'One endpoint.',
      access: 'api',
      params: ONE,
      handle: ({ params }) => json({ endpoint: endpointJson(manager, at(params)) }),
    }),
    route({
      method: 'PATCH',
      path: ENDPOINT,
      summary: 'Its settings, size and idle time; disables it.',
      access: 'api',
      params: ONE,
      query: WAIT,
      body: object({ endpoint: object(changeFields) }),
      handle: async ({ params, body: { endpoint: input }, query }) => {
        const { endpoint, operations } = await changeEndpoint(manager, at(params), {
          name: input.name,
          disabled: input.disabled,
          settings: settingsInput(input),
        });
        const done = await settled(manager, operations, query.wait ?? false);
        return withOperations(told(endpoint, endpoint), done);
      },
    }),
    route({
      method: 'DELETE',
      path: ENDPOINT,
      summary: 'Stops and forgets it; the branch stays.',
      access: 'api',
      params: ONE,
      query: WAIT,
      handle: async ({ params, query }) => {
        const { endpoint, operations } = await deleteEndpoint(manager, at(params));
        return withOperations(told(endpoint, endpoint), await settled(manager, operations, query.wait));
      },
    }),
    act('start', 'Starts it.', startEndpoint),
    act('suspend', 'Stops it; the next connection starts it again.', suspendEndpoint),
    act('restart', 'Stops and starts it.', restartEndpoint),
  ];
}

function collectionRoutes(manager: Manager): Route[] {
  const { store } = manager;
  return [
    route({
      method: 'GET',
      path: `${PROJECT}/endpoints`,
      summary: 'The endpoints of a project.',
      access: 'api',
      params: PARAMS,
      handle: ({ params }) => {
        const project = findProject(store, params.project_id);
        const all = store.branchesOf(project.id).flatMap(branch => store.endpointsOf(branch.id));
        return json({ endpoints: all.map(endpoint => endpointJson(manager, endpoint)) });
      },
    }),
    route({
      method: 'POST',
      path: `${PROJECT}/endpoints`,
      summary: 'Makes an endpoint: the branch’s own, a replica, or one that stays at an LSN.',
      access: 'api',
      params: PARAMS,
      query: WAIT,
      body: createBody,
      handle: async ({ params, body: { endpoint: input }, query }) => {
        const project = findProject(store, params.project_id);
        const branch = findBranch(store, project, input.branch_id);
        const isStatic = input.static_lsn !== undefined || input.static_timestamp !== undefined;
        const { endpoint, operations } = await createEndpoint(manager, project, branch, {
          type: input.type ?? (isStatic ? 'read_only' : 'read_write'),
          name: input.name,
          staticLsn: input.static_lsn,
          staticTimestamp: input.static_timestamp,
          disabled: input.disabled,
          settings: settingsInput(input),
        });
        const done = await settled(manager, operations, query.wait);
        return withOperations({ endpoint: endpointJson(manager, endpoint) }, done, 201);
      },
    }),
  ];
}
