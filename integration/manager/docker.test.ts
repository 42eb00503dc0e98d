// The Docker driver against stand-ins of the engine's API and of compute_ctl's, over real sockets: what is asked for, in
// which order, and what becomes of refusals. No engine is needed, and none was used.

import { createPublicKey, verify } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isFault } from '../../src/base/fault.ts';
import type { Log } from '../../src/base/ports.ts';
import { readTar } from '../../src/base/tar.ts';
import { DockerDriver } from '../../src/control/manager/drivers/docker.ts';
import type { ComputeSpec } from '../../src/control/manager/drivers/driver.ts';
import { hostClock } from '../../src/host/clock.ts';
import { dockerEngine } from '../../src/host/computes-docker.ts';
import { hostHttp } from '../../src/host/http.ts';

const SPEC: ComputeSpec = {
  endpointId: 'ep-a',
  projectId: 'p',
  branchId: 'b',
  tenantId: '1'.repeat(32),
  timelineId: '2'.repeat(32),
  pgVersion: 17,
  mode: 'primary',
  pageserver: { host: '127.0.0.1', port: 6400, http: 'http://127.0.0.1:9898' },
  safekeepers: [1, 2, 3].map(i => ({ host: '127.0.0.1', port: 5450 + i, httpPort: 7670 + i })),
  roles: [{ name: 'ann', verifier: 'SCRAM-SHA-256$x' }],
  databases: [{ name: 'notes', owner: 'ann' }],
  originAdmin: undefined,
  settings: { suspendTimeoutSeconds: 0, size: 1, pgSettings: { work_mem: '64MB' } },
};

// biome-ignore lint/suspicious/noExplicitAny: requests as JSON, looked at field by field
type Json = any;

const image = (major: number): string => `ghcr.io/neondatabase/compute-node-v${major}:latest`;

interface Box {
  readonly id: string;
  readonly labels: Record<string, string>;
  state: 'created' | 'running' | 'exited';
  config: Json;
}

const read = async (req: IncomingMessage): Promise<Buffer> => {
  const pieces: Buffer[] = [];
  for await (const piece of req) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
};

const listen = (server: Server, path?: string): Promise<number> =>
  new Promise(done => {
    const told = (): void => done(path ? 0 : (server.address() as AddressInfo).port);
    if (path) server.listen(path, told);
    else server.listen(0, '127.0.0.1', told);
  });

/** An engine with one image, and in each container a compute_ctl. */
class Engine {
  readonly calls: string[] = [];
  readonly boxes = new Map<string, Box>();
  readonly created: Json[] = [];
  statuses = ['init', 'init', 'running'];
  images = new Set([image(17)]);
  /** What a registry has. */
  registry = new Set([image(15)]);
  oldest = '1.24';
  versions = new Set<string>();
  ctlBodies: Json[] = [];
  badTokens = 0;
  private ctlPort = 0;
  private readonly engine = createServer((req, res) => void this.answer(req, res));
  private readonly ctl = createServer((req, res) => void this.answerCtl(req, res));

  async start(path: string): Promise<void> {
    this.ctlPort = await listen(this.ctl);
    await listen(this.engine, path);
  }

  stop(): void {
    this.engine.closeAllConnections();
    this.ctl.closeAllConnections();
    this.engine.close();
    this.ctl.close();
  }

  private async answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const url = new URL(req.url!, 'http://docker');
    const [, version, path = url.pathname] = /^\/v1\.(\d+)(\/.*)$/.exec(url.pathname) ?? [];
    this.calls.push(`${req.method} ${path.replace(/[0-9a-f]{12}/, 'ID')}`);
    const body = await read(req);
    const send = (status: number, json?: unknown): void =>
      void res
        .writeHead(status, { 'content-type': 'application/json' })
        .end(json ? JSON.stringify(json) : '');
    if (path === '/version') return send(200, { ApiVersion: '1.52', MinAPIVersion: this.oldest });
    this.versions.add(`1.${version}`);
    if (Number(version) < Number(this.oldest.split('.')[1]))
      return send(400, { message: `client version 1.${version} is too old` });
    if (path === '/images/create') return this.pull(url.searchParams, res);
    if (path === '/containers/json') return send(200, this.list(url));
    if (path === '/containers/create') {
      const asked = JSON.parse(body.toString());
      if (!this.images.has(asked.Image)) return send(404, { message: `No such image: ${asked.Image}` });
      this.created.push(asked);
      const id = String(this.boxes.size + 1).padStart(12, 'a');
      this.boxes.set(id, { id, labels: asked.Labels, state: 'created', config: undefined });
      return send(201, { Id: id });
    }
    const [, id, verb] = /^\/containers\/([0-9a-f]+)(?:\/(\w+))?$/.exec(path) ?? [];
    const box = this.boxes.get(id ?? '');
    if (!box) return send(404, { message: 'No such container' });
    if (verb === 'archive') {
      const chunks = async function* () {
        yield new Uint8Array(body);
      };
      for await (const entry of readTar(chunks(), () => true)) {
        if (entry.name === 'config.json') box.config = JSON.parse(Buffer.from(entry.bytes).toString());
      }
      return send(200);
    }
    if (verb === 'start') box.state = 'running';
    if (verb === 'stop') box.state = 'exited';
    if (req.method === 'DELETE') this.boxes.delete(box.id);
    send(204);
  }

  /** Its progress, line by line; trouble comes as a line of it. */
  private pull(query: URLSearchParams, res: ServerResponse): void {
    const name = `${query.get('fromImage')}:${query.get('tag')}`;
    const lines: unknown[] = [{ status: 'Pulling from somewhere' }];
    if (this.registry.has(name)) this.images.add(name);
    else lines.push({ errorDetail: { message: 'manifest unknown' }, error: 'manifest unknown' });
    res.writeHead(200).end(lines.map(line => `${JSON.stringify(line)}\r\n`).join(''));
  }

  private list(url: URL): unknown {
    const [label] = JSON.parse(url.searchParams.get('filters')!).label as string[];
    const [name, value] = label!.split('=');
    return [...this.boxes.values()]
      .filter(box => box.labels[name!] !== undefined && (value === undefined || box.labels[name!] === value))
      .map(box => ({
        Id: box.id,
        State: box.state,
        Labels: box.labels,
        Ports: [
          { PrivatePort: 55433, PublicPort: 41234 },
          { PrivatePort: 3080, PublicPort: this.ctlPort },
        ],
      }));
  }

  private async answerCtl(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const body = await read(req);
    this.calls.push(`ctl ${req.method} ${req.url}`);
    if (!this.signed(req)) {
      this.badTokens++;
      return void res.writeHead(401).end();
    }
    if (body.length > 0) this.ctlBodies.push(JSON.parse(body.toString()));
    // serde knows no default for either field of a ConfigurationRequest.
    const asked = this.ctlBodies.at(-1);
    if (req.url === '/configure' && !(asked.spec && asked.compute_ctl_config?.jwks))
      return void res.writeHead(422).end(JSON.stringify({ error: 'missing field' }));
    const status = this.statuses.length > 1 ? this.statuses.shift() : this.statuses[0];
    res.writeHead(200).end(JSON.stringify(req.url === '/status' ? { status, error: null } : { lsn: '0/1' }));
  }

  /** As compute_ctl checks: by the key of its config.json. */
  private signed(req: IncomingMessage): boolean {
    const [head, payload, signature] = (req.headers.authorization ?? '').replace('Bearer ', '').split('.');
    const jwk = [...this.boxes.values()].find(box => box.config)?.config.compute_ctl_config.jwks.keys[0];
    if (!jwk || !signature) return false;
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    const claims = JSON.parse(Buffer.from(payload!, 'base64url').toString());
    const good = verify(null, Buffer.from(`${head}.${payload}`), key, Buffer.from(signature, 'base64url'));
    return good && claims.compute_id === SPEC.endpointId;
  }
}

const silent: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => silent,
};

describe('computes by Docker, against a stand-in of its engine', () => {
  let engine: Engine;
  let dir: string;
  let driver: DockerDriver;
  const never = new AbortController().signal;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'lakebed-docker-'));
    engine = new Engine();
    await engine.start(join(dir, 'docker.sock'));
    driver = new DockerDriver({
      clock: hostClock,
      log: silent,
      engine: dockerEngine(`unix://${join(dir, 'docker.sock')}`).http,
      http: hostHttp(),
      image: 'ghcr.io/neondatabase/compute-node-v{major}:latest',
      host: '127.0.0.1',
      storageHost: 'host.docker.internal',
    });
  });

  afterEach(() => {
    engine.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  test('a container is made, configured, started and waited for', async () => {
    const started = await driver.start(SPEC, never);
    expect(started).toMatchObject({ host: '127.0.0.1', port: 41234 });
    expect(engine.calls.filter(call => !call.startsWith('GET'))).toEqual([
      'POST /containers/create',
      'PUT /containers/ID/archive',
      'POST /containers/ID/start',
      'ctl GET /status',
      'ctl GET /status',
      'ctl GET /status',
    ]);
    const [asked] = engine.created;
    expect(asked).toMatchObject({
      Image: image(17),
      Labels: { 'lakebed.endpoint': 'ep-a' },
      HostConfig: {
        Memory: 4096 * 1024 * 1024,
        CpuPeriod: 100_000,
        CpuQuota: 100_000,
        PortBindings: { '55433/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] },
      },
    });
    expect(engine.versions).toEqual(new Set(['1.41']));
    const { spec } = [...engine.boxes.values()][0]!.config;
    expect(spec).toMatchObject({
      tenant_id: SPEC.tenantId,
      timeline_id: SPEC.timelineId,
      mode: 'Primary',
      pageserver_connstring: 'host=host.docker.internal port=6400',
      safekeeper_connstrings: [1, 2, 3].map(i => `host.docker.internal:545${i}`),
    });
    expect(spec.cluster.roles).toEqual([
      { name: 'ann', encrypted_password: 'SCRAM-SHA-256$x', options: null },
    ]);
    expect(spec.cluster.settings).toContainEqual({ name: 'work_mem', value: '64MB', vartype: 'string' });
    expect(engine.badTokens).toBe(0);
    expect(await driver.list()).toEqual(['ep-a']);
    expect(await driver.find('ep-a')).toEqual({ host: '127.0.0.1', port: 41234 });
  });

  test('an image that is not there is pulled', async () => {
    await driver.start({ ...SPEC, pgVersion: 15 }, never);
    expect(engine.created.map(({ Image }) => Image)).toEqual([image(15)]);
    expect(engine.calls.filter(call => call.startsWith('POST'))).toEqual([
      'POST /containers/create',
      'POST /images/create',
      'POST /containers/create',
      'POST /containers/ID/start',
    ]);
  });

  test('an engine that speaks newer versions alone is spoken to in its oldest', async () => {
    engine.oldest = '1.44';
    await driver.start(SPEC, never);
    expect(engine.versions).toEqual(new Set(['1.44']));
  });

  test('one that only reads is told where its log comes from, or where it stands', async () => {
    const settingsOf = async (mode: ComputeSpec['mode']): Promise<Record<string, string>> => {
      await driver.start({ ...SPEC, mode }, never);
      const { spec } = [...engine.boxes.values()].at(-1)!.config;
      expect(spec.safekeeper_connstrings).toEqual([]);
      const all = spec.cluster.settings as { name: string; value: string }[];
      return Object.fromEntries(all.map(({ name, value }) => [name, value]));
    };
    const replica = await settingsOf('replica');
    expect(replica['primary_conninfo']).toMatch(
      /^host=(host\.docker\.internal,?){3} port=5451,5452,5453 options='-c timeline_id=2+ tenant_id=1+' /,
    );
    expect(replica).toMatchObject({
      primary_slot_name: `repl_${SPEC.timelineId}_`,
      recovery_prefetch: 'off',
    });
    expect(replica).not.toHaveProperty('synchronous_standby_names');
    engine.statuses = ['running'];
    expect(await settingsOf({ staticLsn: '0/16B3748' })).toMatchObject({ recovery_target_lsn: '0/16B3748' });
  });

  test('it is configured, and ends with compute_ctl’s consent and without its volumes', async () => {
    await driver.start(SPEC, never);
    engine.calls.length = 0;
    expect(await driver.configure(SPEC, [{ do: 'drop-role', name: 'bob' }])).toBe(false);
    expect(engine.ctlBodies[0].spec.delta_operations).toEqual([{ action: 'delete_role', name: 'bob' }]);
    await driver.stop('ep-a', 'fast');
    expect(engine.calls.filter(call => !call.startsWith('GET'))).toEqual([
      'ctl POST /configure',
      'ctl POST /terminate?mode=immediate',
      'POST /containers/ID/stop',
      'DELETE /containers/ID',
    ]);
    expect(await driver.find('ep-a')).toBeUndefined();
    await driver.stop('ep-a', 'immediate'); // nothing
  });

  test('one that is there already is replaced; a revoked one goes at once', async () => {
    await driver.start(SPEC, never);
    await driver.start(SPEC, never);
    expect(engine.boxes.size).toBe(1);
    engine.calls.length = 0;
    await driver.stop('ep-a', 'immediate');
    expect(engine.calls.filter(call => !call.startsWith('GET'))).toEqual(['DELETE /containers/ID']);
  });

  test('trouble is told, and nothing is left', async () => {
    const told = async (spec: ComputeSpec): Promise<string> => {
      const error = await driver.start(spec, never).catch(error => error as unknown);
      return isFault(error) ? `${error.code}: ${error.message}` : String(error);
    };
    expect(await told({ ...SPEC, pgVersion: 16 })).toBe(
      `driver-missing: Docker cannot pull ${image(16)}: manifest unknown`,
    );
    engine.statuses = ['init', 'failed'];
    expect(await told(SPEC)).toMatch(/^compute-failed: compute ep-a: failed/);
    expect(engine.boxes.size).toBe(0);
    engine.stop();
    expect(await told(SPEC)).toMatch(/^driver-missing: Docker does not answer/);
    expect(driver.problem(18)).toMatch(/no compute image of Postgres 18/);
  });
});
