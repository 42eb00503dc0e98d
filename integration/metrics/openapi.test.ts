// /openapi.json of every HTTP port: a valid OpenAPI 3.1 document, and of what is really served: each operation in it is
// answered, and no other.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type DaemonSet, startDaemons } from '../pg/one-of-each.ts';

let dir: string;
let daemons: DaemonSet;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-openapi-'));
  daemons = await startDaemons(dir);
});
afterAll(async () => {
  await daemons?.stop();
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

describe.each(['brokerHttp', 'safekeeperHttp', 'pageserverHttp'] as const)('%s', which => {
  const load = async (): Promise<Document> => {
    const reply = await fetch(`${daemons[which]}/openapi.json`);
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
    const base = daemons[which];
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
