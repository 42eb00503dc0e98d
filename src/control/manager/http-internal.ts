// Routes of key configurations and pageservers, and the doors of the services: the proxy's (wake, activity) and the
// pageservers' (re-attach, validate).
//
// re-attach is how a pageserver begins: it learns which tenants are its own, each under a generation that is raised and
// kept before it is told, so that an older self of it, should one live, can do no harm. validate is how it makes sure
// that nobody else was given its tenant since.
//
// Answers to storage_controller/src/http.rs (handle_re_attach, handle_validate).

import { json, type Route, route } from '../../base/http.ts';
import { parseTenantShard } from '../../base/ids.ts';
import type { Metrics } from '../../base/metrics.ts';
import {
  array,
  boolean,
  integer,
  nullable,
  number,
  object,
  optional,
  string,
  u32,
} from '../../base/schema.ts';
import { metricsRoute } from '../../base/watch-api.ts';
import { API } from './http-common.ts';
import { keyJson, nodeJson, operationJson } from './http-shapes.ts';
import { wake } from './intents/endpoints.ts';
import { changeKeyConfig, createKey, deleteKey, findKey } from './intents/key-configs.ts';
import type { Manager } from './manager.ts';
import { countsOf } from './metrics.ts';
import type { Change, Placement } from './model.ts';

export function keyRoutes(manager: Manager): Route[] {
  const { store } = manager;
  const path = `${API}/keys/:key_id`;
  const params = { key_id: string() };
  return [
    route({
      method: 'GET',
      path: `${API}/keys`,
      summary: 'The key configurations.',
      access: 'api',
      handle: () => json({ keys: [...store.all('keys').values()].map(key => keyJson(manager, key)) }),
    }),
    route({
      method: 'POST',
      path: `${API}/keys`,
      summary: 'Gives a customer key a name, to bind projects to.',
      access: 'api',
      body: object({ key: object({ name: string(), cmk: string() }) }),
      handle: async ({ body }) => json({ key: keyJson(manager, await createKey(manager, body.key)) }, 201),
    }),
    route({
      method: 'GET',
      path,
      summary: 'One of them.',
      access: 'api',
      params,
      handle: ({ params: { key_id: id } }) => json({ key: keyJson(manager, findKey(store, id)) }),
    }),
    route({
      method: 'PATCH',
      path,
      summary: 'Renames it, or moves its projects to another customer key.',
      access: 'api',
      params,
      body: object({ key: object({ name: optional(string()), cmk: optional(string()) }) }),
      handle: async ({ params: { key_id: id }, body: { key: input } }) => {
        const { key, operations } = await changeKeyConfig(manager, findKey(store, id), {
          ...(input.name === undefined ? {} : { name: input.name }),
          ...(input.cmk === undefined ? {} : { cmk: input.cmk }),
        });
        return json({ key: keyJson(manager, key), operations: operations.map(operationJson) });
      },
    }),
    route({
      method: 'DELETE',
      path,
      summary: 'Forgets it; refused while projects are bound to it.',
      access: 'api',
      params,
      handle: async ({ params: { key_id: id } }) => {
        const key = findKey(store, id);
        await deleteKey(manager, key);
        return json({ key: keyJson(manager, key) });
      },
    }),
  ];
}

export function nodeRoutes(manager: Manager, version: string, metrics: Metrics): Route[] {
  const { store } = manager;
  return [
    route({
      method: 'GET',
      path: `${API}/nodes`,
      summary: 'The pageservers.',
      access: 'api',
      handle: () => json({ nodes: [...store.all('nodes').values()].map(node => nodeJson(manager, node)) }),
    }),
    route({
      method: 'GET',
      path: '/status',
      summary: 'That it is there, and what it manages.',
      access: 'open',
      handle: () => json({ version, driver: manager.driverKind(), ...countsOf(manager) }),
    }),
    metricsRoute(metrics),
  ];
}

export function proxyRoutes(manager: Manager): Route[] {
  return [
    route({
      method: 'POST',
      path: '/internal/wake',
      summary: 'Where a compute takes connections; one that sleeps is started first.',
      access: 'internal',
      body: object({ target: string() }),
      handle: async ({ body }) => {
        const { endpoint, started } = await wake(manager, body.target);
        const { id, projectId, branchId, host, port } = endpoint;
        return json({ endpoint_id: id, project_id: projectId, branch_id: branchId, host, port, started });
      },
    }),
    route({
      method: 'POST',
      path: '/internal/activity',
      summary: 'Who is at work, as the proxy sees it.',
      access: 'internal',
      body: object({
        endpoints: array(
          object({
            endpoint_id: string(),
            connections: integer(),
            busy: optional(integer()),
            idle_ms: optional(number()),
          }),
        ),
      }),
      handle: ({ body }) => {
        manager.sight.hear(
          body.endpoints.map(({ endpoint_id: endpointId, connections, busy = 0, idle_ms: idleMs = 0 }) => ({
            endpointId,
            connections,
            busy,
            idleMs,
          })),
        );
        return json({});
      },
    }),
  ];
}

const registerBody = object({
  node_id: u32(),
  listen_pg_addr: string(),
  listen_pg_port: integer(1, 65535),
  listen_http_addr: string(),
  listen_http_port: integer(1, 65535),
});

export function upcallRoutes(manager: Manager): Route[] {
  const { store } = manager;
  return [
    route({
      method: 'POST',
      path: '/upcall/v1/re-attach',
      summary: 'Of a pageserver that begins: its tenants, under new generations.',
      access: 'upcall',
      body: object({
        node_id: u32(),
        register: optional(nullable(registerBody)),
        empty_local_disk: optional(boolean()),
      }),
      handle: async ({ body }) => {
        const id = String(body.node_id);
        const { register } = body;
        if (register) {
          await manager.know({
            id,
            pgHost: register.listen_pg_addr,
            pgPort: register.listen_pg_port,
            httpHost: register.listen_http_addr,
            httpPort: register.listen_http_port,
          });
        }
        let raised: Placement[] = [];
        await manager.commit(() => {
          raised = placedOn(manager, id).map(row => ({ ...row, generation: row.generation + 1 }));
          return raised.map((row): Change => ({ put: 'placements', row }));
        });
        manager.log.info('a pageserver attaches again', { node: id, tenants: raised.length });
        return json({
          tenants: raised.map(row => ({
            id: row.id,
            gen: row.generation,
            mode: 'AttachedSingle',
            stripe_size: null,
          })),
        });
      },
    }),
    route({
      method: 'POST',
      path: '/upcall/v1/validate',
      summary: 'Whether generations still hold.',
      access: 'upcall',
      body: object({ tenants: array(object({ id: string(), gen: u32() })) }),
      handle: ({ body }) =>
        json({
          tenants: body.tenants.map(({ id, gen }) => ({
            id,
            valid: store.get('placements', parseTenantShard(id).tenant)?.generation === gen,
          })),
        }),
    }),
  ];
}

/** One whose project is being made is attached by its operation: the node has nothing of it yet. */
const placedOn = ({ store }: Manager, nodeId: string): Placement[] =>
  [...store.all('placements').values()].filter(row => row.nodeId === nodeId && row.attachedGeneration > 0);
