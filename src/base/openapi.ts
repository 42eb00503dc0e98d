// The OpenAPI 3.1 document of a table of routes: what is served is what is documented, for there is one table.

import type { HttpApi, Route } from './http.ts';
import { json, route } from './http.ts';
import type { Fields } from './schema.ts';

const DENIED = { 401: 'no token, or one that cannot be trusted', 403: 'this token does not allow it' };

export function openApi(routes: readonly Route[], title: string, version: string): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const r of routes) {
    const path = r.path.replace(/:(\w+)/g, '{$1}');
    paths[path] ??= {};
    paths[path][r.method.toLowerCase()] = operation(r);
  }
  return {
    openapi: '3.1.0',
    info: { title, version },
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } },
      schemas: {
        Trouble: {
          type: 'object',
          required: ['msg'],
          properties: { msg: { type: 'string' }, hint: { type: 'string' } },
        },
      },
    },
  };
}

function operation(r: Route): Record<string, unknown> {
  const trouble = { 'application/json': { schema: { $ref: '#/components/schemas/Trouble' } } };
  const open = r.access === 'open';
  return {
    summary: r.summary,
    operationId: `${r.method.toLowerCase()}${r.path.replace(/[^a-zA-Z0-9]+/g, '_')}`,
    parameters: [...parameters(r.params, 'path'), ...parameters(r.query, 'query')],
    ...(r.body
      ? { requestBody: { required: true, content: { 'application/json': { schema: r.body.json } } } }
      : {}),
    ...(open ? {} : { security: [{ token: [] }], 'x-access': r.access }),
    responses: {
      200: {
        description: r.summary,
        content: { [r.answerType]: { schema: r.answer?.json ?? {} } },
      },
      ...(open
        ? {}
        : Object.fromEntries(
            Object.entries(DENIED).map(([s, d]) => [s, { description: d, content: trouble }]),
          )),
      default: { description: 'what went wrong, and what to do about it', content: trouble },
    },
  };
}

function parameters(fields: Fields, where: 'path' | 'query'): Record<string, unknown>[] {
  return Object.entries(fields).map(([name, schema]) => ({
    name,
    in: where,
    required: where === 'path' || !schema.absent,
    schema: schema.json,
  }));
}

/** The route that shows the document; it lists itself, too. */
export function openApiRoute(api: () => HttpApi): Route {
  return route({
    method: 'GET',
    path: '/openapi.json',
    summary: 'This document.',
    access: 'open',
    handle: () => json(openApi(api().routes, api().options.title, api().options.version)),
  });
}
