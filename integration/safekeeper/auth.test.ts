// Who may do what: every command of the Postgres ports and every route of the HTTP port, with no token, another
// tenant's, a wrong scope, an expired one, a broken one, and the right ones. Then keys that rotate, and TLS.

import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { lsn } from '../../src/base/lsn.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import { type Scope, signToken } from '../../src/protocol/jwt.ts';
import { PqClient } from '../../src/protocol/pq-client.ts';
import type { TimelineKey } from '../../src/safekeeper/timeline-handle.ts';
import { selfSigned } from '../certificate.ts';
import { Daemon } from '../pg/daemon.ts';
import { freePort } from './neon-postgres.ts';
import { SafekeeperProcess, timelinePath, until } from './processes.ts';
import { ComputeLog, Pusher } from './pusher.ts';

const key = { tenantId: 'a'.repeat(32), timelineId: 'b'.repeat(32) } as TimelineKey;
const other = { tenantId: 'c'.repeat(32), timelineId: 'd'.repeat(32) } as TimelineKey;

let dir: string;
let sk: SafekeeperProcess;
let tenantOnlyPort: number;
let httpsPort: number;
const tokens: Record<string, string> = {};

const pair = (): { publicKey: string; privateKey: string } =>
  generateKeyPairSync('ed25519', {
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
const [trusted, stranger] = [pair(), pair()];

async function makeTokens(): Promise<void> {
  const sign = (scope: Scope, tenant?: string, options = {}, from = trusted): Promise<string> =>
    signToken(
      { scope, ...(tenant ? { tenantId: tenant as TimelineKey['tenantId'] } : {}) },
      from.privateKey,
      options,
    );
  tokens['tenant'] = await sign('tenant', key.tenantId);
  tokens['node'] = await sign('safekeeperdata');
  tokens['other tenant'] = await sign('tenant', other.tenantId);
  tokens['wrong scope'] = await sign('pageserverapi');
  tokens['expired'] = await sign('safekeeperdata', undefined, {
    expiresAt: Math.floor(Date.now() / 1000) - 3600,
  });
  tokens['stranger'] = await sign('safekeeperdata', undefined, {}, stranger);
  tokens['broken'] = 'not.a.token';
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-auth-'));
  await makeTokens();
  const keys = join(dir, 'keys');
  mkdirSync(keys);
  writeFileSync(join(keys, 'one.pem'), trusted.publicKey);
  writeFileSync(join(dir, 'own-token'), tokens['node']!);
  const [cert, keyFile] = [join(dir, 'server.crt'), join(dir, 'server.key')];
  selfSigned({ key: keyFile, cert }, 'first');
  tenantOnlyPort = await freePort();
  httpsPort = await freePort();
  sk = new SafekeeperProcess(1, dir, { pg: await freePort(), http: await freePort() }, [
    ...['--listen-pg-tenant-only', `127.0.0.1:${tenantOnlyPort}`, '--listen-https', `127.0.0.1:${httpsPort}`],
    ...['--pg-auth-public-key-path', keys, '--http-auth-public-key-path', keys],
    ...['--pg-tenant-only-auth-public-key-path', keys, '--auth-token-path', join(dir, 'own-token')],
    ...['--ssl-cert-file', cert, '--ssl-key-file', keyFile, '--ssl-cert-reload-period', '200ms'],
    ...['--enable-tls-wal-service-api', '--broker-endpoint', 'http://127.0.0.1:1'],
  ]);
  await sk.start();
  await sk.call('POST', '/v1/tenant/timeline', createBody(key), tokens['node']);
});
afterAll(async () => {
  await sk.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

const createBody = (k: TimelineKey): unknown => ({
  tenant_id: k.tenantId,
  timeline_id: k.timelineId,
  mconf: { generation: 0, members: [], new_members: null },
  pg_version: 170005,
  start_lsn: '0/14EBD08',
});

const NOBODY = { none: 401, broken: 401, expired: 401, stranger: 401, 'wrong scope': 403 };

describe('HTTP', () => {
  const t = timelinePath(key);
  const ownTenant: [string, string, unknown?][] = [
    ['GET', t],
    ['PUT', `${t}/membership`, { generation: 0, members: [], new_members: null }],
    [
      'PUT',
      `${t}/exclude`,
      { generation: 0, members: [{ id: 1, host: 'h', pg_port: 1 }], new_members: null },
    ],
    ['GET', `${t}/snapshot/2`],
    ['GET', `${t}/digest?from_lsn=0/8&until_lsn=0/8`],
    ['POST', `${t}/term_bump`, { term: 0 }],
    ['POST', `${t}/backup_partial_reset`],
    ['POST', `/v1/record_safekeeper_info/${key.tenantId}/${key.timelineId}`, {}],
    ['POST', '/v1/tenant/timeline', createBody(key)],
  ];
  const wholeNode: [string, string, unknown?][] = [
    ['GET', '/v1/tenant/timeline'],
    ['GET', '/v1/utilization'],
    ['GET', '/v1/debug_dump'],
    ['GET', '/v1/debug/filesystem_usage'],
    ['POST', '/v1/pull_timeline', { tenant_id: key.tenantId, timeline_id: key.timelineId, http_hosts: [] }],
    ['POST', `/v1/tenant/${key.tenantId}/timeline/${key.timelineId}/copy`, {}],
    ['PATCH', `${t}/control_file`, { updates: {}, apply_fields: [] }],
    ['POST', `${t}/checkpoint`],
  ];
  const deletions: [string, string][] = [
    ['DELETE', timelinePath({ ...key, timelineId: other.timelineId })],
    ['DELETE', `/v1/tenant/${key.tenantId}/timeline/${other.timelineId}?only_local=true`],
  ];
  const statusOf = async (
    method: string,
    path: string,
    body: unknown,
    token: string | undefined,
  ): Promise<number> => {
    const reply = await fetch(sk.host + path, {
      method,
      headers: token ? { authorization: `Bearer ${token}` } : {},
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    await reply.arrayBuffer();
    return reply.status;
  };

  test.each([...ownTenant, ...wholeNode, ...deletions])('%s %s', async (method, path, body) => {
    for (const [who, status] of Object.entries(NOBODY)) {
      expect(await statusOf(method, path, body, tokens[who]), who).toBe(status);
    }
    expect(await statusOf(method, path, body, tokens['other tenant']), 'other tenant').toBe(403);
    const own = await statusOf(method, path, body, tokens['tenant']);
    const node = await statusOf(method, path, body, tokens['node']);
    const isWhole = wholeNode.some(([m, p]) => m === method && p === path);
    if (isWhole) expect(own).toBe(403);
    // These two answer 403 for what the body says, too.
    if (path.endsWith('exclude') || path.endsWith('membership')) return;
    if (!isWhole) expect([401, 403]).not.toContain(own);
    expect([401, 403]).not.toContain(node);
  });

  test.each(['/v1/status', '/metrics', '/openapi.json'])('%s is open', async path => {
    expect(await statusOf('GET', path, undefined, undefined)).toBe(200);
  });

  test('about another tenant the answer does not tell what is there', async () => {
    const there = await fetch(sk.host + timelinePath(key), {
      headers: { authorization: `Bearer ${tokens['other tenant']}` },
    });
    const missing = await fetch(sk.host + timelinePath({ ...key, timelineId: other.timelineId }), {
      headers: { authorization: `Bearer ${tokens['other tenant']}` },
    });
    expect([there.status, await there.text()]).toEqual([missing.status, await missing.text()]);
  });
});

const COMMANDS = [
  'IDENTIFY_SYSTEM',
  'TIMELINE_STATUS',
  'START_REPLICATION 0/14EBD08',
  'SHOW wal_segment_size',
  'START_WAL_PUSH',
];

async function command(
  text: string,
  password: string | undefined,
  k: TimelineKey,
  port = sk.port,
): Promise<'ok' | string> {
  const net = hostNet({ clientTls: { rejectUnauthorized: false } });
  let client: PqClient | undefined;
  try {
    client = await PqClient.connect(net, hostRandom, {
      host: '127.0.0.1',
      port,
      tls: true,
      password,
      parameters: { user: 'x', options: `-c tenant_id=${k.tenantId} timeline_id=${k.timelineId}` },
    });
    if (text.startsWith('START')) (await client.copyBoth(text)).destroy();
    else await client.query(text);
    return 'ok';
  } catch (error) {
    return (error as Error).message;
  } finally {
    client?.destroy();
  }
}

describe('Postgres port', () => {
  test.each(COMMANDS)('%s', async text => {
    for (const who of ['broken', 'expired', 'stranger']) {
      expect(await command(text, tokens[who], key), who).toMatch(/cannot be trusted/);
    }
    expect(await command(text, '', key)).toMatch(/empty/);
    expect(await command(text, tokens['wrong scope'], key)).toMatch(/permission denied/);
    expect(await command(text, tokens['other tenant'], key)).toMatch(/permission denied/);
    expect(await command(text, tokens['tenant'], key)).toBe('ok');
    expect(await command(text, tokens['node'], key)).toBe('ok');
  });

  test('the tenant-only port takes tokens of single tenants only', async () => {
    expect(await command('IDENTIFY_SYSTEM', tokens['tenant'], key, tenantOnlyPort)).toBe('ok');
    expect(await command('IDENTIFY_SYSTEM', tokens['node'], key, tenantOnlyPort)).toMatch(/single tenants/);
  });

  test('about another tenant the answer does not tell what is there', async () => {
    const missing = { ...key, timelineId: other.timelineId };
    expect(await command('IDENTIFY_SYSTEM', tokens['other tenant'], key)).toBe(
      await command('IDENTIFY_SYSTEM', tokens['other tenant'], missing),
    );
  });

  test('without TLS nobody gets in', async () => {
    const plain = PqClient.connect(hostNet(), hostRandom, {
      host: '127.0.0.1',
      port: sk.port,
      parameters: { user: 'x' },
    });
    await expect(plain).rejects.toThrow(/TLS connections only/);
  });

  test('secrets are in no log', () => {
    for (const token of Object.values(tokens)) {
      const signature = token.split('.').at(-1)!;
      expect(signature.length < 40 || !sk.log.includes(signature)).toBe(true);
    }
  });
});

describe('rotation', () => {
  test('a key added to the directory is trusted, one taken away is not, without a restart', async () => {
    const next = pair();
    const token = await signToken({ scope: 'safekeeperdata' }, next.privateKey);
    const asked = (): Promise<number> =>
      fetch(`${sk.host}/v1/utilization`, { headers: { authorization: `Bearer ${token}` } }).then(
        r => r.status,
      );
    expect(await asked()).toBe(401);
    writeFileSync(join(dir, 'keys', 'two.pem'), next.publicKey);
    await until(async () => (await asked()) === 200, 30_000);
    expect(await command('IDENTIFY_SYSTEM', token, key)).toBe('ok');
    rmSync(join(dir, 'keys', 'two.pem'));
    await until(async () => (await asked()) === 401, 30_000);
  });

  test('a new certificate is used without a restart, on both ports', async () => {
    const { connect } = await import('node:tls');
    const subject = (): Promise<string> =>
      new Promise((done, fail) => {
        const socket = connect({ port: httpsPort, host: '127.0.0.1', rejectUnauthorized: false }, () => {
          done(String(socket.getPeerCertificate().subject.CN));
          socket.destroy();
        });
        socket.on('error', fail);
      });
    expect(await subject()).toBe('first');
    selfSigned({ key: join(dir, 'server.key'), cert: join(dir, 'server.crt') }, 'second');
    await until(async () => (await subject()) === 'second');
    expect(await command('IDENTIFY_SYSTEM', tokens['tenant'], key)).toBe('ok');
    writeFileSync(join(dir, 'server.crt'), 'damaged');
    await new Promise(done => setTimeout(done, 600));
    expect(await subject()).toBe('second');
    expect(sk.log).toContain('certificate not reloaded');
  });
});

test('a broker that asks for tokens is reached with the token at hand', async () => {
  const port = await freePort();
  const keyFile = join(dir, 'broker.pem');
  writeFileSync(keyFile, trusted.publicKey);
  const broker = new Daemon({
    name: 'broker',
    program: 'storage_broker',
    dir,
    statusUrl: `http://127.0.0.1:${port}/status`,
    args: ['-l', `127.0.0.1:${port}`, '--auth-public-key-path', keyFile],
  });
  await broker.start();
  const metric = async (): Promise<string> => (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const keeper = (id: number, token: string[]): Promise<SafekeeperProcess> =>
    Promise.all([freePort(), freePort()]).then(
      ([pg, http]) =>
        new SafekeeperProcess(id, dir, { pg, http }, [
          '--broker-endpoint',
          `http://127.0.0.1:${port}`,
          ...token,
        ]),
    );
  const without = await keeper(21, []);
  const withToken = await keeper(22, ['--auth-token-path', join(dir, 'own-token')]);
  await Promise.all([without.start(), withToken.start()]);
  const push = new Pusher({
    targets: [{ host: '127.0.0.1', port: withToken.port }],
    key,
    log: new ComputeLog(lsn(0x14ebd08)),
  });
  await push.elect();
  await until(async () => /storage_broker_processed_messages_total [1-9]/.test(await metric()));
  expect(await metric()).toContain('storage_broker_all_keys_active_subscribers 2');
  push.close();
  await Promise.all([without, withToken, broker].map(d => d.kill('SIGKILL')));
});
