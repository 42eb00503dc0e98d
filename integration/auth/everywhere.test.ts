// Who may do what, on every port of every daemon: each route that a daemon's own OpenAPI document lists, each command of
// the Postgres ports and each method of the broker, with no token, a broken one, an expired one, a stranger's, one of a
// wrong scope, another tenant's, and the right ones. Nothing is listed by hand that a daemon can list itself, so a route
// that is added tomorrow is judged tomorrow.
//
// Then TLS on every port, with a certificate that is renewed while the daemons run, keys that rotate, and what the logs
// must never hold. All of it with one set of daemons that log everything they can.

import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GRPC_STATUS, unary } from '../../src/base/grpc.ts';
import type { TenantId, TimelineId } from '../../src/base/ids.ts';
import { grpcChannel } from '../../src/host/grpc.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import * as wire from '../../src/protocol/broker.ts';
import { type Scope, signToken } from '../../src/protocol/jwt.ts';
import { PqClient } from '../../src/protocol/pq-client.ts';
import { selfSigned } from '../certificate.ts';
import { type DaemonSet, startDaemons } from '../pg/one-of-each.ts';
import { freePort } from '../safekeeper/neon-postgres.ts';

const TENANT = 'a'.repeat(32) as TenantId;
/** Nobody has it: what a right token is answered about it changes nothing. */
const ABSENT = 'b'.repeat(32) as TenantId;
const OTHER = 'c'.repeat(32) as TenantId;
const TIMELINE = 'd'.repeat(32) as TimelineId;
const AWS_SECRET = 'wJalrXUtnFEMIsecretK7MDENGbPxRfiCYsecret';

type Who =
  | 'none'
  | 'broken'
  | 'expired'
  | 'stranger'
  | 'wrong scope'
  | 'other tenant'
  | 'tenant'
  | 'absent tenant'
  | 'safekeeper node'
  | 'pageserver node';

const pair = (): { publicKey: string; privateKey: string } =>
  generateKeyPairSync('ed25519', {
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
const [trusted, stranger, next] = [pair(), pair(), pair()];
const tokens = {} as Record<Exclude<Who, 'none'>, string>;

let dir: string;
let keys: string;
let daemons: DaemonSet;
let https: { broker: number; safekeeper: number; pageserver: number };
let tenantOnlyPort: number;

async function makeTokens(): Promise<void> {
  const expiresAt = Math.floor(Date.now() / 1000) - 3600;
  const sign = (scope: Scope, tenant?: TenantId, from = trusted, options = {}): Promise<string> =>
    signToken({ scope, ...(tenant ? { tenantId: tenant } : {}) }, from.privateKey, options);
  tokens.broken = 'not.a.tokenButASecretAllTheSame';
  tokens.expired = await sign('pageserverapi', undefined, trusted, { expiresAt });
  tokens.stranger = await sign('pageserverapi', undefined, stranger);
  tokens['wrong scope'] = await sign('scrubber');
  tokens['other tenant'] = await sign('tenant', OTHER);
  tokens.tenant = await sign('tenant', TENANT);
  tokens['absent tenant'] = await sign('tenant', ABSENT);
  tokens['safekeeper node'] = await sign('safekeeperdata');
  tokens['pageserver node'] = await sign('pageserverapi');
}

function certificate(name: string): void {
  const [cert, key] = [join(dir, 'server.crt'), join(dir, 'server.key')];
  selfSigned({ key, cert }, name);
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lakebed-auth-'));
  keys = join(dir, 'keys');
  mkdirSync(keys);
  writeFileSync(join(keys, 'one.pem'), trusted.publicKey);
  await makeTokens();
  writeFileSync(join(dir, 'own-token'), tokens['safekeeper node']);
  certificate('first');
  https = { broker: await freePort(), safekeeper: await freePort(), pageserver: await freePort() };
  tenantOnlyPort = await freePort();
  const ssl = ['--ssl-cert-file', join(dir, 'server.crt'), '--ssl-key-file', join(dir, 'server.key')];
  const reload = ['--ssl-cert-reload-period', '200ms'];
  daemons = await startDaemons(dir, {
    env: { RUST_LOG: 'trace', NEON_AUTH_TOKEN: tokens['safekeeper node'], AWS_SECRET_ACCESS_KEY: AWS_SECRET },
    broker: [
      ...['--auth-public-key-path', keys, '--listen-https-addr', `127.0.0.1:${https.broker}`],
      ...ssl,
      ...reload,
    ],
    safekeeper: [
      ...['--pg-auth-public-key-path', keys, '--http-auth-public-key-path', keys],
      ...['--pg-tenant-only-auth-public-key-path', keys, '--auth-token-path', join(dir, 'own-token')],
      ...['--listen-pg-tenant-only', `127.0.0.1:${tenantOnlyPort}`],
      ...['--listen-https', `127.0.0.1:${https.safekeeper}`, '--enable-tls-wal-service-api'],
      ...ssl,
      ...reload,
    ],
    pageserver: [
      "pg_auth_type = 'NeonJWT'",
      "http_auth_type = 'NeonJWT'",
      `auth_validation_public_key_path = '${keys}'`,
      `listen_https_addr = '127.0.0.1:${https.pageserver}'`,
      'enable_tls_page_service_api = true',
      `ssl_cert_file = '${join(dir, 'server.crt')}'`,
      `ssl_key_file = '${join(dir, 'server.key')}'`,
      "ssl_cert_reload_period = '200ms'",
    ].join('\n'),
  });
  const node = tokens['pageserver node'];
  const location = JSON.stringify({ mode: 'AttachedSingle', generation: 1, tenant_conf: {} });
  const attach = await fetch(`${daemons.pageserverHttp}/v1/tenant/${TENANT}/location_config`, {
    method: 'PUT',
    body: location,
    headers: { authorization: `Bearer ${node}` },
  });
  expect(attach.status, await attach.text()).toBe(200);
});
afterAll(async () => {
  await daemons?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const bearer = (who: Who): Record<string, string> =>
  who === 'none' ? {} : { authorization: `Bearer ${tokens[who]}` };

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly access: string;
}

async function operationsOf(base: string): Promise<Operation[]> {
  const document = (await (await fetch(`${base}/openapi.json`)).json()) as {
    paths: Record<string, Record<string, { 'x-access'?: string }>>;
  };
  return Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, o]) => ({
      method: method.toUpperCase(),
      path,
      access: o['x-access'] ?? 'open',
    })),
  );
}

/** Bodies that say whose they are, where the path does not. */
const bodyFor = (tenant: TenantId): unknown => ({
  tenant_id: tenant,
  timeline_id: TIMELINE,
  mconf: { generation: 0, members: [], new_members: null },
  pg_version: 170005,
  start_lsn: '0/14EBD08',
  http_hosts: [],
});

async function answer(
  base: string,
  { method, path }: Operation,
  who: Who,
  tenant: TenantId,
): Promise<{ status: number; text: string }> {
  const filled = path
    .replace(/\{tenant_(shard_)?id\}/g, tenant)
    .replace(/\{(\w*timeline_id)\}/g, TIMELINE)
    .replace(/\{\w+\}/g, '1');
  const reply = await fetch(base + filled, {
    method,
    headers: bearer(who),
    ...(method === 'GET' ? {} : { body: JSON.stringify(bodyFor(tenant)) }),
  });
  return { status: reply.status, text: await reply.text() };
}

const UNTRUSTED: readonly Who[] = ['none', 'broken', 'expired', 'stranger'];

describe.each([
  ['pageserver', 'pageserver node', 'safekeeper node'],
  ['safekeeper', 'safekeeper node', 'pageserver node'],
] as const)('every route of the %s', (daemon, node, wrongNode) => {
  const base = (): string => (daemon === 'pageserver' ? daemons.pageserverHttp : daemons.safekeeperHttp);
  const status = async (o: Operation, who: Who, tenant: TenantId): Promise<number> =>
    (await answer(base(), o, who, tenant)).status;
  const each = async (
    wanted: (o: Operation) => boolean,
    check: (o: Operation) => Promise<void>,
  ): Promise<void> => {
    const found = (await operationsOf(base())).filter(wanted);
    expect(found.length).toBeGreaterThan(0);
    for (const operation of found) await check(operation);
  };
  const name = (o: Operation, who: Who): string => `${o.method} ${o.path}: ${who}`;

  test('is of a kind that is judged here', async () => {
    const kinds = new Set((await operationsOf(base())).map(o => o.access));
    for (const kind of kinds) expect(['open', 'tenant', 'tenant-in-body', 'node']).toContain(kind);
  });

  test('that is open is a status, metrics, or a document', async () => {
    await each(
      o => o.access === 'open',
      async o => {
        expect(o.method).toBe('GET');
        expect(o.path).toMatch(/^\/(v1\/status|metrics|openapi\.json|profile\/\w+)$/);
        expect(await status(o, 'none', TENANT)).toBe(200);
      },
    );
  });

  test('is closed to whoever cannot be trusted, and to scopes of other services', async () => {
    await each(
      o => o.access !== 'open',
      async o => {
        for (const who of UNTRUSTED) expect(await status(o, who, TENANT), name(o, who)).toBe(401);
        for (const who of ['wrong scope', wrongNode] as const)
          expect(await status(o, who, TENANT), name(o, who)).toBe(403);
      },
    );
  });

  test('is closed to other tenants, who are not told what is there', async () => {
    await each(
      o => o.access !== 'open',
      async o => {
        const there = await answer(base(), o, 'other tenant', TENANT);
        const missing = await answer(base(), o, 'other tenant', ABSENT);
        expect(there, name(o, 'other tenant')).toEqual(missing);
        expect(there.status, name(o, 'other tenant')).toBe(403);
      },
    );
  });

  test("is open to the tenant's own token where it is about that tenant alone, and always to the node's", async () => {
    // Of a tenant that is not there: the answer may be anything but a refusal of the token.
    await each(
      o => o.access !== 'open',
      async o => {
        const own = await status(o, 'absent tenant', ABSENT);
        if (o.access === 'node') expect(own, name(o, 'absent tenant')).toBe(403);
        else expect([401, 403], name(o, 'absent tenant')).not.toContain(own);
        expect([401, 403], name(o, node)).not.toContain(await status(o, node, ABSENT));
      },
    );
  });
});

async function command(
  port: number,
  text: string,
  password: string | undefined,
  tenant: TenantId,
): Promise<string> {
  const net = hostNet({ clientTls: { rejectUnauthorized: false } });
  let client: PqClient | undefined;
  try {
    client = await PqClient.connect(net, hostRandom, {
      host: '127.0.0.1',
      port,
      tls: true,
      password,
      parameters: { user: 'x', options: `-c tenant_id=${tenant} timeline_id=${TIMELINE}` },
    });
    if (/^(START|pagestream)/.test(text)) (await client.copyBoth(text)).destroy();
    else if (/backup/.test(text)) for await (const _ of client.copyOut(text));
    else await client.query(text);
    return 'ok';
  } catch (error) {
    return (error as Error).message;
  } finally {
    client?.destroy();
  }
}

const PAGESERVER_COMMANDS = (tenant: string): string[] => [
  `pagestream_v2 ${tenant} ${TIMELINE}`,
  `pagestream_v3 ${tenant} ${TIMELINE}`,
  `basebackup ${tenant} ${TIMELINE}`,
  `basebackup ${tenant} ${TIMELINE} 0/14EBD08 --gzip`,
  `fullbackup ${tenant} ${TIMELINE}`,
  `lease lsn ${tenant} ${TIMELINE} 0/14EBD08`,
];
const SAFEKEEPER_COMMANDS = (): string[] => [
  'IDENTIFY_SYSTEM',
  'TIMELINE_STATUS',
  'START_REPLICATION 0/14EBD08',
  'SHOW wal_segment_size',
  'START_WAL_PUSH',
];

describe.each([
  ['pageserver', PAGESERVER_COMMANDS, 'pageserver node', 'safekeeper node'],
  ['safekeeper', SAFEKEEPER_COMMANDS, 'safekeeper node', 'pageserver node'],
] as const)('every command of the %s', (daemon, commands, node, wrongNode) => {
  test.each(commands(TENANT).map((text, i) => [text, i] as const))('%s', async (text, i) => {
    const port = daemons.ports[daemon];
    const about = (tenant: TenantId): string => commands(tenant)[i]!;
    for (const who of ['broken', 'expired', 'stranger'] as const)
      expect(await command(port, text, tokens[who], TENANT), who).toMatch(/cannot be trusted/);
    expect(await command(port, text, '', TENANT)).toMatch(/empty/);
    for (const who of ['wrong scope', wrongNode, 'other tenant'] as const)
      expect(await command(port, text, tokens[who], TENANT), who).toMatch(/permission denied/);
    // The same, word for word, about a tenant that is there and one that is not.
    expect(await command(port, text, tokens['other tenant'], TENANT)).toBe(
      await command(port, about(ABSENT), tokens['other tenant'], ABSENT),
    );
    for (const who of ['absent tenant', node] as const)
      expect(await command(port, about(ABSENT), tokens[who], ABSENT), who).not.toMatch(
        /permission|trusted|token/,
      );
  });

  test('nobody is let in without TLS', async () => {
    const plain = PqClient.connect(hostNet(), hostRandom, {
      host: '127.0.0.1',
      port: daemons.ports[daemon],
      password: tokens[node],
      parameters: { user: 'x' },
    });
    await expect(plain).rejects.toThrow(/TLS connections only/);
  });
});

test('the tenant-only port of a safekeeper takes tokens of single tenants only', async () => {
  const identify = (who: Exclude<Who, 'none'>, tenant: TenantId): Promise<string> =>
    command(tenantOnlyPort, 'IDENTIFY_SYSTEM', tokens[who], tenant);
  expect(await identify('safekeeper node', TENANT)).toMatch(/single tenants/);
  expect(await identify('other tenant', TENANT)).toMatch(/permission denied/);
  expect(await identify('absent tenant', ABSENT)).not.toMatch(/permission|trusted|token/);
});

describe('every method of the broker', () => {
  // What each answers at once when the token is let through: a refusal of the message, or an empty answer.
  const METHODS: Readonly<Record<string, Uint8Array>> = {
    PublishSafekeeperInfo: new Uint8Array(0),
    PublishOne: new Uint8Array(0),
    SubscribeSafekeeperInfo: new Uint8Array(0),
    SubscribeByFilter: wire.writeSubscribeByFilter({ types: [], enabled: true, id: undefined }),
  };
  const status = async (method: string, who: Who, url: string): Promise<number> => {
    const channel = grpcChannel(url, { ca: readFileSync(join(dir, 'server.crt'), 'utf8') });
    try {
      const gone = new AbortController();
      const call = channel.call(`${wire.BROKER_SERVICE}/${method}`, {
        metadata: bearer(who),
        signal: gone.signal,
      });
      await unary(call, METHODS[method]!);
      return 0;
    } catch (error) {
      return (error as { status?: number }).status ?? -1;
    } finally {
      channel.close();
    }
  };

  test.each(Object.keys(METHODS))('%s', async method => {
    for (const url of [daemons.brokerHttp, `https://localhost:${https.broker}`]) {
      for (const who of UNTRUSTED)
        expect(await status(method, who, url), who).toBe(GRPC_STATUS.unauthenticated);
      for (const who of ['wrong scope', 'tenant', 'other tenant'] as const)
        expect(await status(method, who, url), who).toBe(GRPC_STATUS.permissionDenied);
      const refused: readonly number[] = [GRPC_STATUS.unauthenticated, GRPC_STATUS.permissionDenied, -1];
      for (const who of ['safekeeper node', 'pageserver node'] as const)
        expect(refused, who).not.toContain(await status(method, who, url));
    }
  });

  test('a route that is not open is none', async () => {
    const open = await operationsOf(daemons.brokerHttp);
    expect(open.map(o => o.path).sort()).toEqual(['/metrics', '/openapi.json', '/status']);
  });
});

/** By Postgres's own request for TLS where that is what the port speaks. */
async function subjectOf(port: number): Promise<string> {
  return new Promise((done, fail) => {
    const socket = tlsConnect(
      { port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['postgresql', 'h2', 'http/1.1'] },
      () => {
        done(String(socket.getPeerCertificate().subject.CN));
        socket.destroy();
      },
    );
    socket.on('error', fail);
  });
}

async function until(what: () => Promise<boolean>, ms = 30_000): Promise<void> {
  for (const end = performance.now() + ms; !(await what()); ) {
    if (performance.now() > end) throw new Error('waited in vain');
    await new Promise(done => setTimeout(done, 50));
  }
}

describe('while they run', () => {
  test('a renewed certificate is used on every port; a damaged one is not', async () => {
    const ports = {
      'broker, gRPC and HTTP': https.broker,
      'safekeeper, HTTP': https.safekeeper,
      'safekeeper, Postgres': daemons.ports.safekeeper,
      'safekeeper, tenants': tenantOnlyPort,
      'pageserver, HTTP': https.pageserver,
      'pageserver, Postgres': daemons.ports.pageserver,
    };
    for (const [port, number] of Object.entries(ports)) expect(await subjectOf(number), port).toBe('first');
    certificate('second');
    for (const number of Object.values(ports))
      await until(async () => (await subjectOf(number)) === 'second');
    writeFileSync(join(dir, 'server.crt'), 'damaged');
    await until(async () => daemons.all.every(d => d.log.includes('certificate not reloaded')));
    for (const [port, number] of Object.entries(ports)) expect(await subjectOf(number), port).toBe('second');
    certificate('third');
    for (const number of Object.values(ports)) await until(async () => (await subjectOf(number)) === 'third');
  });

  test('a key that is added is trusted everywhere, one that is taken away nowhere', async () => {
    const [sk, ps] = await Promise.all([
      signToken({ scope: 'safekeeperdata' }, next.privateKey),
      signToken({ scope: 'pageserverapi' }, next.privateKey),
    ]);
    const asked = async (): Promise<number[]> =>
      Promise.all(
        [
          [daemons.safekeeperHttp, sk],
          [daemons.pageserverHttp, ps],
        ].map(async ([base, token]) => {
          const reply = await fetch(`${base}/v1/utilization`, {
            headers: { authorization: `Bearer ${token}` },
          });
          return reply.status;
        }),
      );
    const identify = (): Promise<string> => command(daemons.ports.safekeeper, 'IDENTIFY_SYSTEM', sk, ABSENT);
    const lease = (): Promise<string> =>
      command(daemons.ports.pageserver, `lease lsn ${ABSENT} ${TIMELINE} 0/8`, ps, ABSENT);
    expect(await asked()).toEqual([401, 401]);
    writeFileSync(join(keys, 'two.pem'), next.publicKey);
    await until(async () => (await asked()).every(status => status === 200));
    for (const said of [await identify(), await lease()]) expect(said).not.toMatch(/trusted/);
    rmSync(join(keys, 'two.pem'));
    await until(async () => (await asked()).every(status => status === 401));
    await until(async () => [await identify(), await lease()].every(said => /trusted/.test(said)));
  });
});

test('no log holds a token, a key or a credential, though everything is logged', () => {
  const secrets = [
    ...Object.values(tokens).map(token => token.split('.').at(-1)!),
    ...[trusted, stranger, next].map(p => p.privateKey.split('\n')[1]!),
    readFileSync(join(dir, 'server.key'), 'utf8').split('\n')[1]!,
    AWS_SECRET,
    ...keyMaterial(join(dir, 'lakebed-keys')),
  ];
  for (const { options, log } of daemons.all) {
    expect(log.length, options.name).toBeGreaterThan(100);
    for (const secret of secrets)
      expect(log.includes(secret), `${options.name}: ${secret.slice(0, 6)}...`).toBe(false);
  }
});

/** The local master key, as it is written. */
function keyMaterial(path: string): string[] {
  try {
    const file = JSON.parse(readFileSync(join(path, 'default.json'), 'utf8')) as {
      versions: { key: string }[];
    };
    return file.versions.map(v => v.key);
  } catch {
    return [];
  }
}
