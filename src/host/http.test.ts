import { request } from 'node:http';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fromUtf8, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { collect, HttpApi, json, route, StatusError, stream } from '../base/http.ts';
import { openApiRoute } from '../base/openapi.ts';
import type { Listener } from '../base/ports.ts';
import { integer, object, optional, queryBoolean, tenantIdSchema, u64 } from '../base/schema.ts';
import { hostHttp, listenHttp } from './http.ts';

const T = '00112233445566778899aabbccddeeff';
const trouble: unknown[] = [];
let sent = 0;

const api: HttpApi = new HttpApi(
  [
    route({
      method: 'GET',
      path: '/v1/status',
      summary: 'Alive.',
      access: 'open',
      handle: () => json({ id: 1 }),
    }),
    route({
      method: 'PUT',
      path: '/v1/tenant/:tenant_id/thing',
      summary: 'Change a thing.',
      access: 'tenant',
      params: { tenant_id: tenantIdSchema },
      query: { force: optional(queryBoolean) },
      body: object({ term: integer(), system_id: optional(u64()) }),
      handle: ({ params, query, body }) =>
        json({ tenant: params.tenant_id, force: query.force ?? null, ...body }),
    }),
    route({
      method: 'GET',
      path: '/v1/tenant/:tenant_id',
      summary: 'Fails in some way.',
      access: 'open',
      params: { tenant_id: tenantIdSchema },
      query: { how: optional({ json: {}, parse: v => v }) },
      handle: ({ query }) => {
        if (query.how === 'missing')
          throw new Fault('timeline-missing', 'none such', { hint: 'Look again.' });
        if (query.how === 'status') throw new StatusError(412, 'not now');
        throw new Error('a bug');
      },
    }),
    route({
      method: 'GET',
      path: '/v1/big',
      summary: 'Much.',
      access: 'open',
      handle: () =>
        stream(
          (async function* () {
            for (let i = 0; i < 10_000; i++) {
              sent++;
              yield new Uint8Array(64 * 1024).fill(i);
            }
          })(),
        ),
    }),
    openApiRoute(() => api),
  ],
  {
    title: 'Test',
    version: '1',
    authorize: async (r, params, req) => {
      if (r.access === 'open') return;
      if (!req.headers['authorization']) throw new Fault('token-invalid', 'no token');
      if (params['tenant_id'] !== T) throw new Fault('auth-failed', 'not yours');
    },
    onTrouble: error => void trouble.push(error),
    headers: { 'x-launched': 'now' },
  },
);

let listener: Listener;
let base: string;
beforeAll(async () => {
  listener = await listenHttp(api, { host: '127.0.0.1', port: 0 });
  base = `http://127.0.0.1:${listener.port}`;
});
afterAll(() => listener.close());

const http = hostHttp();
async function call(
  method: string,
  path: string,
  body?: string,
  headers = {},
): Promise<{ status: number; body: unknown }> {
  const reply = await http.request({
    method,
    url: base + path,
    headers: { authorization: 'Bearer x', ...headers },
    ...(body === undefined ? {} : { body: utf8(body) }),
  });
  expect(reply.headers['x-launched']).toBe('now');
  const bytes = await collect(reply.body, 1 << 20);
  return { status: reply.status, body: bytes.length ? JSON.parse(fromUtf8(bytes)) : undefined };
}

describe('routes', () => {
  test('a GET with a body, and a trailing slash', async () => {
    expect(await call('GET', '/v1/status', 'null')).toEqual({ status: 200, body: { id: 1 } });
    expect(await call('GET', '/v1/status/')).toEqual({ status: 200, body: { id: 1 } });
    expect((await fetch(`${base}/v1/status`, { method: 'HEAD' })).status).toBe(200);
  });

  test('path, query and body are parsed; whole u64s survive', async () => {
    const reply = await fetch(`${base}/v1/tenant/${T}/thing?force=true`, {
      method: 'PUT',
      headers: { authorization: 'x' },
      body: '{"term":3,"system_id":7460338342930325313,"extra":1}',
    });
    expect(await reply.text()).toBe(
      `{"tenant":"${T}","force":true,"term":3,"system_id":7460338342930325313}`,
    );
  });

  test.each([
    ['PUT', `/v1/tenant/${T}/thing`, '{"term":-1}', 400],
    ['PUT', `/v1/tenant/${T}/thing`, '{"term":', 400],
    ['PUT', `/v1/tenant/${T}/thing`, '', 400],
    ['PUT', '/v1/tenant/xyz/thing', '{"term":1}', 400],
    ['PUT', `/v1/tenant/${T.replace('0', 'f')}/thing`, '{"term":1}', 403],
    ['GET', '/v1/nothing', undefined, 404],
    ['GET', '/v1/tenant/%zz', undefined, 400],
    ['DELETE', '/v1/status', undefined, 405],
    ['GET', `/v1/tenant/${T}?how=missing`, undefined, 404],
    ['GET', `/v1/tenant/${T}?how=status`, undefined, 412],
    ['GET', `/v1/tenant/${T}`, undefined, 500],
  ])('%s %s %s is %i', async (method, path, body, status) => {
    const reply = await call(method, path, body);
    expect(reply.status).toBe(status);
    expect(reply.body).toHaveProperty('msg');
  });

  test('no token is 401, and it is asked before the body is read', async () => {
    const reply = await fetch(`${base}/v1/tenant/${T}/thing`, { method: 'PUT', body: 'not json' });
    expect(reply.status).toBe(401);
    expect(reply.headers.get('www-authenticate')).toBe('Bearer');
  });

  test('hints travel; trouble of ours is told', async () => {
    expect((await call('GET', `/v1/tenant/${T}?how=missing`)).body).toEqual({
      msg: 'none such',
      hint: 'Look again.',
    });
    expect(String(trouble.at(-1))).toContain('a bug');
  });

  test('the document comes from the table', async () => {
    const doc = (await (await fetch(`${base}/openapi.json`)).json()) as { paths: Record<string, unknown> };
    expect(Object.keys(doc.paths)).toEqual([
      '/v1/status',
      '/v1/tenant/{tenant_id}/thing',
      '/v1/tenant/{tenant_id}',
      '/v1/big',
      '/openapi.json',
    ]);
    expect(doc.paths['/v1/tenant/{tenant_id}/thing']).toMatchObject({
      put: {
        parameters: [
          { name: 'tenant_id', in: 'path' },
          { name: 'force', in: 'query', required: false },
        ],
        requestBody: { content: { 'application/json': { schema: { required: ['term'] } } } },
        security: [{ token: [] }],
      },
    });
  });
});

describe('limits', () => {
  test('a body past the limit is refused', async () => {
    const big = `{"term":1,"x":"${'a'.repeat(9 * 1024 * 1024)}"}`;
    const reply = await fetch(`${base}/v1/tenant/${T}/thing`, {
      method: 'PUT',
      headers: { authorization: 'x' },
      body: big,
    });
    expect(reply.status).toBe(413);
  });

  test('a stream is held back by a client that does not read, and stops when it leaves', async () => {
    sent = 0;
    const req = request(`${base}/v1/big`);
    const res = await new Promise<import('node:http').IncomingMessage>(done =>
      req.on('response', done).end(),
    );
    res.pause();
    await new Promise(done => setTimeout(done, 300));
    const held = sent;
    expect(held).toBeLessThan(500);
    res.destroy();
    await new Promise(done => setTimeout(done, 300));
    expect(sent).toBeLessThan(held + 50);
  });

  test('garbage gets 400 and a closed connection', async () => {
    const socket = connect(listener.port, '127.0.0.1');
    socket.write('\x00\x01\x02 not http\r\n\r\n');
    const answer = await new Promise<string>(done => {
      let all = '';
      socket.on('data', piece => (all += piece));
      socket.on('close', () => done(all));
    });
    expect(answer).toMatch(/^HTTP\/1.1 400/);
  });
});

describe('client', () => {
  test('a body that comes piece by piece, one that breaks off, and an answer before its end', async () => {
    const { createServer } = await import('node:http');
    let heard = 0;
    const server = createServer((req, res) => {
      if (req.url === '/early') res.writeHead(409).end();
      req.on('data', (piece: Buffer) => (heard += piece.length));
      req.on('end', () => res.end());
      req.on('error', () => {});
    }).listen(0, '127.0.0.1');
    await new Promise(done => server.once('listening', done));
    const url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
    async function* pieces(count: number, last?: Error): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < count; i++) yield new Uint8Array(65_536);
      if (last) throw last;
    }
    const put = (path: string, stream: AsyncIterable<Uint8Array>) =>
      http.request({ method: 'PUT', url: `${url}${path}`, stream });
    expect((await put('/', pieces(100))).status).toBe(200);
    expect(heard).toBe(100 * 65_536);
    const broken = new Fault('bytes-short', 'there is no more');
    await expect(put('/', pieces(3, broken))).rejects.toBe(broken);
    expect((await put('/early', pieces(10_000))).status).toBe(409);
    server.closeAllConnections();
    server.close();
  });

  test('nobody there, no answer, and given up', async () => {
    await expect(http.request({ method: 'GET', url: 'http://127.0.0.1:1/' })).rejects.toMatchObject({
      code: 'connection-failed',
    });
    const silent = (await import('node:net')).createServer(() => {}).listen(0, '127.0.0.1');
    await new Promise(done => silent.once('listening', done));
    const url = `http://127.0.0.1:${(silent.address() as { port: number }).port}/`;
    await expect(http.request({ method: 'GET', url, timeoutMs: 50 })).rejects.toMatchObject({
      code: 'timeout',
    });
    const reason = new Error('given up');
    await expect(http.request({ method: 'GET', url, signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    );
    silent.close();
  });
});
