// /openapi.json of every HTTP port: a valid OpenAPI 3.1 document, and of what is really served: each operation in it is
// answered, and no other.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Listener } from '../../src/base/ports.ts';
import { managerApi } from '../../src/control/manager/http-routes.ts';
import { listenHttp } from '../../src/host/http.ts';
import { type DaemonSet, type ProxySet, startDaemons, startProxy } from '../pg/one-of-each.ts';
import { anything } from './table.ts';

let dir: string;
let storage: DaemonSet;
let proxy: ProxySet;
let manager: Listener;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-openapi-'));
  storage = await startDaemons(dir);
  proxy = await startProxy(dir);
  // Its routes, without a manager behind them: nothing here asks for more than what there is.
  const api = managerApi(anything, { version: '1', tokens: undefined });
  manager = await listenHttp(api, { host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await Promise.all([storage?.stop(), proxy?.stop(), manager?.close()]);
  rmSync(dir, { recursive: true, force: true });
});

interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly parameters: readonly { readonly name: string; readonly in: string; readonly required: boolean }[];
}
interface Document {
  readonly info: { readonly title: string; readonly version: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

const PORTS: Readonly<Record<string, () => string>> = {
  broker: () => storage.brokerHttp,
  safekeeper: () => storage.safekeeperHttp,
  pageserver: () => storage.pageserverHttp,
  proxy: () => proxy.proxyHttp,
  manager: () => `http://127.0.0.1:${manager.port}`,
};

describe.each(Object.keys(PORTS))('%s', which => {
  const load = async (): Promise<Document> => {
    const reply = await fetch(`${PORTS[which]!()}/openapi.json`);
    expect(reply.status).toBe(200);
    expect(reply.headers.get('content-type')).toContain('application/json');
    return (await reply.json()) as Document;
  };

  test('is valid OpenAPI 3.1', async () => {
    const { valid, errors } = await new Validator().validate((await load()) as never);
    expect(errors ?? []).toEqual([]);
    expect(valid).toBe(true);
  });

  test('operations have ids of their own, and every parameter of a path is described', async () => {
    const ids = new Set<string>();
    for (const [path, operations] of Object.entries((await load()).paths)) {
      const named = [...path.matchAll(/\{(\w+)\}/g)].map(m => m[1]!).sort();
      for (const operation of Object.values(operations)) {
        expect(ids.has(operation.operationId), operation.operationId).toBe(false);
        ids.add(operation.operationId);
        expect(operation.summary, path).toMatch(/\S/);
        const told = operation.parameters.filter(p => p.in === 'path');
        expect(told.every(p => p.required)).toBe(true);
        expect(told.map(p => p.name).sort()).toEqual(named);
      }
    }
    expect(ids.size).toBeGreaterThan(2);
  });

  test('what it lists is served, and a method it does not list is refused', async () => {
    const base = PORTS[which]!();
    for (const [path, operations] of Object.entries((await load()).paths)) {
      const url = base + path.replace(/\{\w+\}/g, 'x'.repeat(3));
      // Asked for with the one method that no route has: the path is known, the method is not.
      const reply = await fetch(url, { method: 'OPTIONS' });
      expect(reply.status, path).toBe(405);
      const allowed = ((await reply.json()) as { msg: string }).msg;
      for (const method of Object.keys(operations)) expect(allowed, path).toContain(method.toUpperCase());
    }
    expect((await fetch(`${base}/not/a/path`)).status).toBe(404);
  });
});
