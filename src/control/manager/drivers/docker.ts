// Computes as containers: Neon's public images, each run by its compute_ctl, over Docker's HTTP API.
//
//   start       POST /containers/create, archive with config.json put into it, start; then compute_ctl does it all: sync,
//               base backup, Postgres, roles and databases; GET /status until it says `running`. An image that is not
//               there is pulled first: POST /images/create
//   configure   POST /configure {"spec","compute_ctl_config"} to its compute_ctl
//   stop        POST /terminate?mode=fast|immediate, then the container is removed with its volumes
//   find, list  GET /containers/json by the label lakebed.endpoint
//
// compute_ctl asks for a token signed with a key from config.json (Ed25519); the pair is made for each container and
// forgotten with the manager: one that was found again is asked nothing over compute_ctl but its status, which the
// health of the container tells, and is stopped by the engine. Two ports are published on the host of the engine: Postgres's
// and compute_ctl's.
//
// Written against Docker's engine API 1.41; an engine that speaks newer ones alone is spoken to in its oldest (GET /version).
// Judged by a stand-in of it (integration/manager/docker.test.ts), not by an engine.
//
// Answers to docker-compose/compute_wrapper of Neon, compute_tools/src/http and libs/compute_api/src/spec.rs.

import { concatBytes, utf8 } from '../../../base/bytes.ts';
import { Fault, isFault } from '../../../base/fault.ts';
import { answerText } from '../../../base/http.ts';
import type { Clock, Http, Log } from '../../../base/ports.ts';
import { tarEnd, tarHeader, tarPadding } from '../../../base/tar.ts';
import { type ComputeTokens, newComputeTokens } from '../../../protocol/jwt.ts';
import type { ComputeAddress, ComputeDriver, ComputeSpec, Delta, Started } from './driver.ts';
import { memoryBytes, sizeSettings, standbySettings } from './settings.ts';

export interface DockerDriverDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** The engine: requests to http://docker/... go to its socket. */
  readonly engine: Http;
  readonly http: Http;
  /** `ghcr.io/neondatabase/compute-node-v{major}:latest`. */
  readonly image: string;
  /** Where published ports answer. */
  readonly host: string;
  /** How a container reaches the storage when that listens on this machine's loopback. */
  readonly storageHost: string;
  readonly network?: string | undefined;
  readonly storageToken?: string | undefined;
}

const LABEL = 'lakebed.endpoint';
const PG_PORT = '55433/tcp';
const CTL_PORT = '3080/tcp';
const CPU_PERIOD_US = 100_000;
const RUNNING_MS = 120_000;
const POLL_MS = 100;
const MAJORS = [14, 15, 16, 17];
const ENGINE = 'http://docker';
const API_VERSION = '1.41';
/** A gigabyte and more. */
const PULL_MS = 30 * 60_000;

interface Container {
  readonly Id: string;
  readonly State: string;
  readonly Labels: Readonly<Record<string, string>>;
  readonly Ports: readonly { readonly PrivatePort: number; readonly PublicPort?: number }[];
}

interface Reply {
  readonly status: number;
  readonly text: string;
}

export class DockerDriver implements ComputeDriver {
  readonly kind = 'docker';
  private readonly deps: DockerDriverDeps;
  private readonly tokens = new Map<string, ComputeTokens>();
  private base: string | undefined;

  constructor(deps: DockerDriverDeps) {
    this.deps = deps;
  }

  problem(pgVersion: number): string | undefined {
    if (MAJORS.includes(pgVersion)) return undefined;
    return `there is no compute image of Postgres ${pgVersion}`;
  }

  private async ask(
    http: Http,
    method: string,
    url: string,
    body?: Uint8Array,
    headers = {},
    timeoutMs = RUNNING_MS,
  ): Promise<Reply> {
    try {
      const reply = await http.request({
        method,
        url,
        timeoutMs,
        headers,
        ...(body === undefined ? {} : { body }),
      });
      return { status: reply.status, text: await answerText(reply) };
    } catch (error) {
      if (!isFault(error) || http !== this.deps.engine) throw error;
      throw new Fault('driver-missing', `Docker does not answer: ${error.message}`, {
        hint: 'Is the engine running, and may this user open its socket (/var/run/docker.sock, DOCKER_HOST)? Or start without LAKEBED_COMPUTE_IMAGE and --driver docker.',
        cause: error,
      });
    }
  }

  /** A call of the engine; `fine` are the statuses that are no trouble. */
  private async engine(
    method: string,
    path: string,
    fine: readonly number[],
    json?: unknown,
  ): Promise<Reply> {
    const body = json === undefined ? undefined : utf8(JSON.stringify(json));
    const type = json === undefined ? {} : { 'content-type': 'application/json' };
    const reply = await this.ask(this.deps.engine, method, `${await this.versioned()}${path}`, body, type);
    if (fine.includes(reply.status)) return reply;
    throw this.refused(`${method} ${path}`, reply);
  }

  private refused(what: string, { status, text }: Reply): Fault {
    return new Fault('compute-failed', `Docker answers ${status} to ${what}: ${messageOf(text)}`);
  }

  /** Where its API is, in the version that this is written for or the oldest that it still speaks. */
  private async versioned(): Promise<string> {
    if (this.base !== undefined) return this.base;
    const reply = await this.ask(this.deps.engine, 'GET', `${ENGINE}/version`);
    if (reply.status !== 200) throw this.refused('GET /version', reply);
    const { MinAPIVersion: oldest } = JSON.parse(reply.text) as { MinAPIVersion?: string };
    this.base = `${ENGINE}/v${oldest !== undefined && minorOf(oldest) > minorOf(API_VERSION) ? oldest : API_VERSION}`;
    return this.base;
  }

  /** The image is there afterwards. What the engine tells of its progress ends with its trouble, if there is any. */
  private async pull(image: string): Promise<void> {
    this.deps.log.info('an image is pulled; the first time takes minutes', { image });
    const tag = image.lastIndexOf(':') > image.lastIndexOf('/') ? image.lastIndexOf(':') : image.length;
    const isDigest = image.includes('@');
    const query = new URLSearchParams(
      isDigest
        ? { fromImage: image }
        : { fromImage: image.slice(0, tag), tag: image.slice(tag + 1) || 'latest' },
    );
    const url = `${await this.versioned()}/images/create?${query}`;
    const { status, text } = await this.ask(this.deps.engine, 'POST', url, undefined, {}, PULL_MS);
    const trouble = /"error":\s*"((?:[^"\\]|\\.)*)"/.exec(text)?.[1];
    if (status === 200 && trouble === undefined) return;
    throw new Fault(
      'driver-missing',
      `Docker cannot pull ${image}: ${status === 200 ? trouble : messageOf(text)}`,
      { hint: `Try it by hand: docker pull ${image}. LAKEBED_COMPUTE_IMAGE names another.` },
    );
  }

  /** The id of a new container. */
  private async create(spec: ComputeSpec): Promise<string> {
    const wanted = this.containerOf(spec);
    const path = `/containers/create?name=lakebed-${spec.endpointId}`;
    let reply = await this.engine('POST', path, [201, 404], wanted);
    if (reply.status === 404) {
      await this.pull(wanted.Image);
      reply = await this.engine('POST', path, [201], wanted);
    }
    return (JSON.parse(reply.text) as { Id: string }).Id;
  }

  private async containers(endpointId?: string): Promise<Container[]> {
    const label = endpointId === undefined ? LABEL : `${LABEL}=${endpointId}`;
    const filters = encodeURIComponent(JSON.stringify({ label: [label] }));
    const { text } = await this.engine('GET', `/containers/json?all=true&filters=${filters}`, [200]);
    return JSON.parse(text) as Container[];
  }

  async start(spec: ComputeSpec, signal: AbortSignal): Promise<Started> {
    const { clock } = this.deps;
    const { endpointId } = spec;
    const begun = clock.monotonic();
    await this.stop(endpointId, 'immediate');
    signal.throwIfAborted();
    const tokens = await newComputeTokens();
    const id = await this.create(spec);
    try {
      signal.throwIfAborted();
      const config = { spec: this.specOf(spec), compute_ctl_config: ctlConfigOf(tokens) };
      const tar = tarFile('config.json', utf8(JSON.stringify(config)), clock.now());
      const path = `/containers/${id}/archive?path=/var/db/postgres`;
      const put = await this.ask(this.deps.engine, 'PUT', `${await this.versioned()}${path}`, tar, {
        'content-type': 'application/x-tar',
      });
      if (put.status !== 200) throw this.refused(`PUT ${path}`, put);
      await this.engine('POST', `/containers/${id}/start`, [204, 304]);
      this.tokens.set(endpointId, tokens);
      const made = clock.monotonic();
      await this.untilRunning(spec, signal);
      const address = await this.find(endpointId);
      if (!address) throw new Fault('compute-failed', `compute ${endpointId} ended as soon as it ran`);
      const timings = { container_ms: made - begun, compute_ctl_ms: clock.monotonic() - made };
      return { ...address, timings };
    } catch (error) {
      await this.stop(endpointId, 'immediate');
      throw error;
    }
  }

  private containerOf(spec: ComputeSpec): { readonly Image: string; readonly [field: string]: unknown } {
    const { image, network, host } = this.deps;
    const { endpointId, pgVersion, settings } = spec;
    // Published where they are asked for, and nowhere else: an engine's default is every interface.
    const published = [{ HostIp: isLoopback(host) ? '127.0.0.1' : '', HostPort: '' }];
    const memory = memoryBytes(settings.size);
    return {
      Image: image.replace('{major}', String(pgVersion)),
      Labels: { [LABEL]: endpointId },
      Entrypoint: ['/usr/local/bin/compute_ctl'],
      Cmd: [
        ...['--pgdata', '/var/db/postgres/compute'],
        ...['-C', 'postgresql://cloud_admin@localhost:55433/postgres'],
        ...['-b', '/usr/local/bin/postgres'],
        ...['--compute-id', endpointId],
        ...['--config', '/var/db/postgres/config.json'],
      ],
      ExposedPorts: { [PG_PORT]: {}, [CTL_PORT]: {} },
      HostConfig: {
        PortBindings: { [PG_PORT]: published, [CTL_PORT]: published },
        Memory: memory,
        // For parallel queries; the engine's 64 MiB are not enough.
        ShmSize: Math.round(memory / 2),
        // As a share of time: NanoCpus of more than there are would be refused.
        CpuPeriod: CPU_PERIOD_US,
        CpuQuota: Math.round(settings.size * CPU_PERIOD_US),
        ExtraHosts: ['host.docker.internal:host-gateway'],
        ...(network === undefined ? {} : { NetworkMode: network }),
      },
    };
  }

  private reachable(host: string): string {
    return isLoopback(host) ? this.deps.storageHost : host;
  }

  /** compute_ctl's ComputeSpec. */
  private specOf(spec: ComputeSpec): unknown {
    const { mode, settings, pageserver } = spec;
    const isPrimary = mode === 'primary';
    const safekeepers = spec.safekeepers.map(({ host, port, httpPort }) => ({
      host: this.reachable(host),
      port,
      httpPort,
    }));
    const own: Readonly<Record<string, string>> = {
      port: '55433',
      listen_addresses: '0.0.0.0',
      fsync: 'off',
      wal_level: 'logical',
      max_wal_senders: '10',
      max_replication_slots: '10',
      restart_after_crash: 'off',
      password_encryption: 'scram-sha-256',
      shared_preload_libraries: 'neon',
      max_replication_write_lag: '500MB',
      max_replication_flush_lag: '10GB',
      // What compute_ctl does not add by itself: where a replica's log comes from.
      ...(isPrimary
        ? { synchronous_standby_names: 'walproposer' }
        : standbySettings({ ...spec, safekeepers })),
      ...sizeSettings(settings.size),
      ...settings.pgSettings,
    };
    return {
      format_version: 1.0,
      suspend_timeout_seconds: -1,
      operation_uuid: spec.endpointId,
      tenant_id: spec.tenantId,
      timeline_id: spec.timelineId,
      project_id: spec.projectId,
      branch_id: spec.branchId,
      endpoint_id: spec.endpointId,
      pageserver_connstring: `host=${this.reachable(pageserver.host)} port=${pageserver.port}`,
      safekeeper_connstrings: isPrimary ? safekeepers.map(({ host, port }) => `${host}:${port}`) : [],
      mode: isPrimary ? 'Primary' : mode === 'replica' ? 'Replica' : { Static: mode.staticLsn },
      ...(this.deps.storageToken === undefined ? {} : { storage_auth_token: this.deps.storageToken }),
      cluster: {
        cluster_id: spec.projectId,
        name: spec.endpointId,
        roles: spec.roles.map(({ name, verifier }) => ({
          name,
          encrypted_password: verifier ?? null,
          options: null,
        })),
        databases: spec.databases.map(({ name, owner }) => ({ name, owner, options: null })),
        settings: Object.entries(own).map(([name, value]) => ({ name, value, vartype: 'string' })),
      },
      delta_operations: [],
    };
  }

  private async untilRunning(spec: ComputeSpec, signal: AbortSignal): Promise<void> {
    const { clock } = this.deps;
    const { endpointId } = spec;
    const failed = (why: string): Fault => new Fault('compute-failed', why, { hint: hintOf(spec) });
    const end = clock.monotonic() + RUNNING_MS;
    let last = 'it does not answer';
    while (clock.monotonic() < end) {
      signal.throwIfAborted();
      const [container] = await this.containers(endpointId);
      if (!container || container.State === 'exited' || container.State === 'dead') {
        throw failed(`container lakebed-${endpointId} ended; ${last}`);
      }
      const status = await this.ctl(endpointId, 'GET', '/status').catch(error => {
        if (isFault(error)) return undefined; // it is on its way
        throw error;
      });
      if (status?.status === 200) {
        const told = JSON.parse(status.text) as { status: string; error?: string | null };
        if (told.status === 'running') return;
        last = told.error ? `${told.status}: ${told.error}` : told.status;
        if (told.status === 'failed') throw failed(`compute ${endpointId}: ${last}`);
      }
      await clock.sleep(POLL_MS, signal);
    }
    throw failed(`compute ${endpointId} does not run after ${RUNNING_MS / 1000} s: ${last}`);
  }

  /** A call of the compute's compute_ctl. */
  private async ctl(endpointId: string, method: string, path: string, json?: unknown): Promise<Reply> {
    const port = await this.port(endpointId, CTL_PORT);
    if (port === undefined) throw new Fault('connection-failed', `compute ${endpointId} has no port yet`);
    const token = await this.tokens.get(endpointId)?.sign({ compute_id: endpointId });
    const headers = {
      ...(json === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    };
    const body = json === undefined ? undefined : utf8(JSON.stringify(json));
    return this.ask(this.deps.http, method, `http://${this.deps.host}:${port}${path}`, body, headers);
  }

  private async port(endpointId: string, which: string): Promise<number | undefined> {
    const [container] = await this.containers(endpointId);
    if (container?.State !== 'running') return undefined;
    const inside = parseInt(which, 10);
    return container.Ports.find(port => port.PrivatePort === inside && port.PublicPort !== undefined)
      ?.PublicPort;
  }

  async configure(spec: ComputeSpec, deltas: readonly Delta[]): Promise<boolean> {
    // One whose key pair was forgotten takes no word from us: it is started anew.
    const tokens = this.tokens.get(spec.endpointId);
    if (!tokens) return true;
    const operations = deltas.map(deltaOf);
    const body = {
      spec: { ...(this.specOf(spec) as object), delta_operations: operations },
      compute_ctl_config: ctlConfigOf(tokens),
    };
    const reply = await this.ctl(spec.endpointId, 'POST', '/configure', body);
    if (reply.status === 200) return false;
    throw new Fault(
      'compute-failed',
      `compute_ctl answers ${reply.status} to /configure: ${messageOf(reply.text)}`,
    );
  }

  async stop(endpointId: string, how: 'fast' | 'immediate'): Promise<void> {
    const containers = await this.containers(endpointId);
    if (containers.length === 0) return;
    if (how === 'fast' && this.tokens.has(endpointId)) {
      await this.ctl(endpointId, 'POST', '/terminate?mode=immediate').catch(error => {
        if (!isFault(error)) throw error; // it ends without its consent, then
      });
    }
    this.tokens.delete(endpointId);
    for (const { Id: id } of containers) {
      if (how === 'fast') await this.engine('POST', `/containers/${id}/stop?t=10`, [204, 304, 404]);
      await this.engine('DELETE', `/containers/${id}?force=true&v=true`, [204, 404, 409]);
    }
  }

  async find(endpointId: string): Promise<ComputeAddress | undefined> {
    const port = await this.port(endpointId, PG_PORT);
    return port === undefined ? undefined : { host: this.deps.host, port };
  }

  /** compute_ctl tells when it was last at work; of one that we may not ask, nothing is known. */
  async busy(endpointId: string): Promise<number> {
    if (!this.tokens.has(endpointId)) return 0;
    const reply = await this.ctl(endpointId, 'GET', '/status');
    if (reply.status !== 200) return 0;
    const { last_active: last } = JSON.parse(reply.text) as { last_active?: string | null };
    const RECENTLY_MS = 10_000;
    return last && this.deps.clock.now() - Date.parse(last) < RECENTLY_MS ? 1 : 0;
  }

  async list(): Promise<string[]> {
    return (await this.containers()).flatMap(({ Labels: labels }) => labels[LABEL] ?? []);
  }
}

const minorOf = (version: string): number => Number(version.split('.')[1] ?? 0);

const isLoopback = (host: string): boolean => host === '127.0.0.1' || host === 'localhost' || host === '::1';

/** The container is removed with its log: what can be known beforehand is said. */
const hintOf = ({ pageserver }: ComputeSpec): string =>
  isLoopback(pageserver.host)
    ? 'Storage listens on this machine’s loopback, which containers reach under Docker Desktop alone: elsewhere let it listen where they do, as docker/compose.yml has it.'
    : 'Can a container reach the pageserver and the safekeepers? What docker logs says while it starts tells more.';

/** compute_ctl's ComputeCtlConfig: whose word it takes. */
const ctlConfigOf = ({ jwk }: ComputeTokens): unknown => ({ jwks: { keys: [jwk] }, tls: null });

/** The engine unpacks it as root; the image's user reads it. */
const tarFile = (name: string, bytes: Uint8Array, mtimeMs: number): Uint8Array =>
  concatBytes([
    tarHeader(name, bytes.length, { mtimeMs, mode: 0o644 }),
    bytes,
    tarPadding(bytes.length),
    tarEnd(),
  ]);

function deltaOf(delta: Delta): unknown {
  switch (delta.do) {
    case 'drop-role':
      return { action: 'delete_role', name: delta.name };
    case 'drop-database':
      return { action: 'delete_db', name: delta.name };
    case 'rename-database':
      return { action: 'rename_db', name: delta.name, new_name: delta.newName };
  }
}

function messageOf(text: string): string {
  try {
    const told = JSON.parse(text) as { message?: string; error?: string };
    return told.message ?? told.error ?? text;
  } catch {
    return text.slice(0, 300);
  }
}
