// The manager's API call by call, without sockets and on a simulated world: what is refused, with which status and which
// words; lists and their pages; tokens; what pageservers ask.

import { generateKeyPairSync } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { EMPTY_BYTES, fromUtf8, utf8 } from '../../src/base/bytes.ts';
import type { HttpApi } from '../../src/base/http.ts';
import { managerApi } from '../../src/control/manager/http-routes.ts';
import { Manager } from '../../src/control/manager/manager.ts';
import { type Scope, signToken, TokenVerifier } from '../../src/protocol/jwt.ts';
import { SimClock } from '../sim/clock.ts';
import { Life, ManagerWorld } from '../sim/manager-world.ts';
import { SimRandom } from '../sim/random.ts';

// biome-ignore lint/suspicious/noExplicitAny: answers of an API, looked at field by field
type Json = any;

class Bench {
  readonly clock = new SimClock();
  readonly world = new ManagerWorld(this.clock);
  readonly life = new Life(this.world, { fuse: Infinity });
  manager!: Manager;
  api!: HttpApi;

  async open(tokens?: TokenVerifier): Promise<void> {
    const { life } = this;
    this.manager = await Manager.open({
      clock: life.clock(),
      random: new SimRandom(1),
      log: life.log,
      catalog: life.catalog(),
      storage: life.storage(),
      keys: life.keys(),
      drivers: [life.driver()],
      settings: { suspendTimeoutSeconds: 300, nodeDeadMs: 5000, proxyHost: 'db.example', proxyPort: 5432 },
    });
    await this.manager.start();
    this.api = managerApi(this.manager, { version: '1', tokens });
  }

  async call(
    method: string,
    path: string,
    body?: unknown,
    token?: string,
  ): Promise<{ status: number; body: Json }> {
    const [plain, query] = path.split('?');
    const bytes =
      body === undefined ? EMPTY_BYTES : typeof body === 'string' ? utf8(body) : utf8(JSON.stringify(body));
    const answer = this.api.dispatch({
      method,
      path: plain!,
      query: new URLSearchParams(query),
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      body: (async function* () {
        yield bytes;
      })(),
      peer: 'test',
      signal: new AbortController().signal,
    });
    let done = false;
    void answer.then(() => (done = true));
    await this.clock.run(this.clock.monotonic() + 600_000, () => done);
    const { status, body: told } = await answer;
    const text = fromUtf8(told as Uint8Array);
    return { status, body: text === '' ? undefined : JSON.parse(text) };
  }

  /** The API, under /api/v2. */
  v2 = (method: string, path: string, body?: unknown): Promise<{ status: number; body: Json }> =>
    this.call(method, `/api/v2/${path}`, body);
}

let bench: Bench;

beforeEach(async () => {
  bench = new Bench();
  await bench.open();
});

async function withProject(): Promise<Json> {
  await bench.manager.know({ id: '1', pgHost: 'ps', pgPort: 6400, httpHost: 'ps', httpPort: 9898 });
  const { status, body } = await bench.v2('POST', 'projects', { project: { name: 'shop' } });
  expect(status).toBe(201);
  return body.project;
}

describe('what is refused', () => {
  test('before there is a pageserver', async () => {
    const { status, body } = await bench.v2('POST', 'projects', {});
    expect(status).toBe(503);
    expect(body).toEqual({
      msg: 'no pageserver answers that could take the project',
      hint: expect.stringContaining('control_plane_api'),
    });
  });

  test('in one sentence, with a way out, and nothing half-made', async () => {
    await withProject();
    const branches = 'projects/shop/branches';
    const long = 'x'.repeat(257);
    const refusals: [string, string, unknown, number, RegExp][] = [
      ['GET', 'projects/nobody', undefined, 404, /no project "nobody"/],
      ['GET', `${branches}/nobody`, undefined, 404, /no branch "nobody"/],
      ['GET', 'projects/shop/endpoints/ep-x', undefined, 404, /no endpoint "ep-x"/],
      ['GET', 'projects/shop/operations/x', undefined, 404, /no operation x/],
      ['GET', 'keys/x', undefined, 404, /no key "x"/],
      ['POST', 'projects', { project: { pg_version: 13 } }, 400, /Postgres 13 is not known/],
      ['POST', 'projects', { project: { name: 'a/b' } }, 400, /cannot be the name of a project/],
      ['POST', 'projects', { project: { name: long } }, 400, /cannot be the name/],
      ['POST', 'projects', { project: { key: 'nonsense' } }, 400, /not a customer key/],
      ['POST', 'projects', { project: { key_id: 'nobody' } }, 404, /no key "nobody"/],
      ['POST', 'projects', { project: { history_retention_seconds: -1 } }, 400, /whole number/],
      ['POST', 'projects', '{"project":', 400, /not JSON/],
      ['POST', 'projects', [], 400, /not an object/],
      ['POST', 'projects', { project: { default_endpoint_settings: { size: 0 } } }, 400, /compute units/],
      ['POST', branches, { branch: { name: 'main' } }, 409, /has a branch "main" already/],
      ['POST', branches, { branch: { parent_id: 'nobody' } }, 404, /no branch "nobody"/],
      ['POST', branches, { branch: { parent_lsn: 'x' } }, 400, /LSN/],
      [
        'POST',
        branches,
        { branch: { parent_lsn: 'FF/0' } },
        400,
        /has not reached FF\/0: it is at 0\/1500000/,
      ],
      ['POST', branches, { branch: { parent_timestamp: 'yesterday' } }, 400, /not a time/],
      ['POST', branches, { branch: { parent_timestamp: '2999-01-01T00:00:00Z' } }, 400, /in the future/],
      [
        'POST',
        branches,
        { branch: { parent_lsn: '0/1', parent_timestamp: '2020-01-01T00:00:00Z' } },
        400,
        /give one/,
      ],
      ['POST', branches, { branch: { expires_at: '2020-01-01T00:00:00Z' } }, 400, /in the past/],
      ['DELETE', `${branches}/main`, undefined, 409, /is the default branch/],
      ['POST', `${branches}/main/reset_to_parent`, {}, 400, /has no parent/],
      [
        'POST',
        `${branches}/main/restore`,
        { source_branch_id: 'main' },
        400,
        /at an LSN or a time: give one/,
      ],
      ['POST', `${branches}/main/roles`, { role: { name: 'cloud_admin' } }, 409, /belongs to the system/],
      ['POST', `${branches}/main/roles`, { role: { name: 'pg_x' } }, 400, /cannot be the name of a role/],
      ['POST', `${branches}/main/roles`, { role: { name: 'é'.repeat(32) } }, 400, /1 to 63 bytes|cannot be/],
      [
        'POST',
        `${branches}/main/databases`,
        { database: { name: 'd', owner_name: 'x' } },
        404,
        /no role "x"/,
      ],
      [
        'POST',
        `${branches}/main/databases`,
        { database: { name: 'postgres', owner_name: 'x' } },
        409,
        /already/,
      ],
      ['DELETE', `${branches}/main/roles/neondb_owner`, undefined, 409, /owns the database "neondb"/],
      [
        'POST',
        'projects/shop/endpoints',
        { endpoint: { branch_id: 'main' } },
        409,
        /read_write endpoint already/,
      ],
      ['POST', 'projects/shop/endpoints', { endpoint: { branch_id: 'main', type: 'big' } }, 400, /one of/],
      [
        'POST',
        'projects/shop/endpoints',
        {
          endpoint: {
            branch_id: 'main',
            type: 'read_only',
            settings: { pg_settings: { 'neon.tenant_id': 'x' } },
          },
        },
        400,
        /"neon.tenant_id" cannot be set/,
      ],
      ['POST', 'keys', { key: { name: 'k', cmk: 'nonsense' } }, 400, /not a customer key/],
      ['GET', 'projects?limit=0', undefined, 400, /limit/],
      ['GET', 'projects?cursor=nobody', undefined, 400, /cursor/],
      ['PUT', 'projects', {}, 405, /GET, POST/],
    ];
    for (const [method, path, body, status, words] of refusals) {
      const told = await bench.v2(method, path, body);
      expect([path, told.status, told.body.msg], JSON.stringify(body)).toEqual([
        path,
        status,
        expect.stringMatching(words),
      ]);
    }
    const { projects } = (await bench.v2('GET', 'projects')).body;
    expect(projects).toHaveLength(1);
    expect((await bench.v2('GET', branches)).body.branches).toHaveLength(1);
    expect(bench.world.tenants.size).toBe(1);
  });

  test('what is protected, and what has children', async () => {
    await withProject();
    const branches = 'projects/shop/branches';
    await bench.v2('POST', branches, { branch: { name: 'dev', protected: true } });
    await bench.v2('POST', branches, { branch: { name: 'child', parent_id: 'dev' } });
    expect((await bench.v2('DELETE', `${branches}/dev`)).body.msg).toMatch(/is protected/);
    expect((await bench.v2('DELETE', 'projects/shop')).body.msg).toMatch(/dev of project shop is protected/);
    await bench.v2('PATCH', `${branches}/dev`, { branch: { protected: false, name: 'renamed' } });
    const refused = await bench.v2('DELETE', `${branches}/renamed`);
    expect([refused.status, refused.body]).toEqual([
      409,
      { msg: 'branch renamed has children: child', hint: 'Delete them first.' },
    ]);
  });

  test('a revoked key: no compute, no password; and which project it is', async () => {
    const { tenant_id } = await withProject();
    bench.world.revoked.add(tenant_id);
    const woken = await bench.call('POST', '/internal/wake', { target: 'shop/main' });
    expect([woken.status, woken.body.msg]).toEqual([403, 'the customer key of project shop cannot be used']);
    expect((await bench.v2('GET', 'projects/shop')).body.project.key_state).toBe('revoked');
  });

  test('a disabled endpoint, and names that nothing has', async () => {
    await withProject();
    const { endpoints } = (await bench.v2('GET', 'projects/shop/endpoints')).body;
    await bench.v2('PATCH', `projects/shop/endpoints/${endpoints[0].id}`, { endpoint: { disabled: true } });
    expect((await bench.call('POST', '/internal/wake', { target: 'main' })).status).toBe(403);
    expect((await bench.call('POST', '/internal/wake', { target: 'nobody' })).status).toBe(404);
    expect((await bench.call('POST', '/internal/wake', { target: 'nobody/main' })).status).toBe(404);
  });
});

describe('what is told', () => {
  test('pages of a list, each once', async () => {
    await withProject();
    for (let i = 0; i < 7; i++)
      await bench.v2('POST', 'projects/shop/branches', { branch: { name: `b${i}` } });
    const seen: string[] = [];
    let cursor = '';
    for (;;) {
      const { body } = await bench.v2('GET', `projects/shop/branches?limit=3&cursor=${cursor}`);
      seen.push(...body.branches.map((one: Json) => one.name));
      if (!body.pagination) break;
      cursor = body.pagination.cursor;
    }
    expect(seen).toEqual(['main', 'b0', 'b1', 'b2', 'b3', 'b4', 'b5', 'b6']);
  });

  test('a connection string goes through the proxy, and names the branch', async () => {
    await withProject();
    const { body } = await bench.v2('GET', 'projects/shop/connection_uri');
    expect(body.uri).toMatch(/^postgresql:\/\/neondb_owner:secret@db\.example:5432\/neondb%40br-/);
  });

  test('a fork of a branch has its roles and databases', async () => {
    await withProject();
    await bench.v2('POST', 'projects/shop/branches/main/roles', { role: { name: 'ann' } });
    const { body } = await bench.v2('POST', 'projects/shop/branches', { branch: { name: 'dev' } });
    expect(body.roles.map((role: Json) => role.name).sort()).toEqual(['ann', 'neondb_owner']);
    expect(body.operations[0]).toMatchObject({ action: 'create_branch', status: 'finished' });
  });

  test('everything that is served is documented', async () => {
    const { body } = await bench.call('GET', '/openapi.json');
    expect(body.paths['/api/v2/projects/{project_id}/branches/{branch_id}/restore'].post.summary).toMatch(
      /LSN/,
    );
    expect(Object.keys(body.paths).length).toBeGreaterThan(30);
  });
});

describe('pageservers', () => {
  test('attach again under generations that grow, and ask whether theirs hold', async () => {
    const { tenant_id: tenant } = await withProject();
    const attach = (node: number): Promise<Json> =>
      bench.call('POST', '/upcall/v1/re-attach', {
        node_id: node,
        register: {
          ...{
            node_id: node,
            listen_pg_addr: 'h',
            listen_pg_port: 1,
            listen_http_addr: 'h',
            listen_http_port: 2,
          },
        },
        empty_local_disk: false,
      });
    expect((await attach(1)).body.tenants).toEqual([
      { id: tenant, gen: 2, mode: 'AttachedSingle', stripe_size: null },
    ]);
    expect((await attach(1)).body.tenants[0].gen).toBe(3);
    expect((await attach(7)).body.tenants).toEqual([]);
    const { body } = await bench.call('POST', '/upcall/v1/validate', {
      tenants: [
        { id: tenant, gen: 2 },
        { id: tenant, gen: 3 },
        { id: '0'.repeat(32), gen: 1 },
      ],
    });
    expect(body.tenants.map((one: Json) => one.valid)).toEqual([false, true, false]);
    expect((await bench.v2('GET', 'nodes')).body.nodes.map((one: Json) => one.id)).toEqual([1, 7]);
  });
});

describe('tokens', () => {
  test('each door takes its own', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const secret = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const secured = new Bench();
    await secured.open(await TokenVerifier.of([pem], () => Date.now()));
    const status = async (path: string, scope?: Scope): Promise<number> => {
      const token = scope && (await signToken({ scope }, secret));
      const method = path.startsWith('/api') || path === '/status' ? 'GET' : 'POST';
      return (await secured.call(method, path, method === 'POST' ? {} : undefined, token)).status;
    };
    expect(await status('/status')).toBe(200);
    expect(await status('/api/v2/projects')).toBe(401);
    expect(await status('/api/v2/projects', 'admin')).toBe(200);
    expect(await status('/api/v2/projects', 'pageserverapi')).toBe(403);
    expect(await status('/internal/wake', 'pageserverapi')).toBe(403);
    expect(await status('/internal/wake', 'infra')).toBe(400); // through the door, with a body that says nothing
    expect(await status('/upcall/v1/validate', 'generations_api')).toBe(400);
    expect(await status('/upcall/v1/validate', 'safekeeperdata')).toBe(403);
  });
});
