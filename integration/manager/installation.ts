// A whole Lakebed with its manager, each a process of `bin`, in a temporary place; and a client of the manager's API.
//
//   const lakebed = await Installation.start({ driver: 'process' })
//   const { project } = await lakebed.api('POST', 'projects?wait=true', { project: { name: 'shop' } })
//   const client = await lakebed.connect('main')
//   await lakebed.stop()
//
// When a test fails the logs are told, and the place is kept.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { Daemon } from '../pg/daemon.ts';
import { freePort } from '../safekeeper/neon-postgres.ts';

export interface InstallationOptions {
  readonly driver: 'process' | 'stock' | 'auto';
  readonly pageservers?: number;
  /** More of the manager's command line. */
  readonly managerArgs?: readonly string[];
}

// biome-ignore lint/suspicious/noExplicitAny: answers of an API, looked at field by field
export type Json = any;

export interface Answer {
  readonly status: number;
  readonly body: Json;
}

interface Ports {
  readonly pg: number;
  readonly http: number;
}

const ports = async (): Promise<Ports> => ({ pg: await freePort(), http: await freePort() });
const neonDir = (): string | undefined => process.env['NEON_PG_DIR'] || undefined;

export class Installation {
  readonly dir: string;
  readonly managerUrl: string;
  readonly manager: Daemon;
  readonly pageservers: readonly Daemon[];
  readonly pageserverPorts: readonly Ports[];
  private readonly daemons: readonly Daemon[];
  private readonly clients: pg.Client[] = [];
  private readonly passwords = new Map<string, string>();

  private constructor(
    dir: string,
    managerUrl: string,
    parts: { manager: Daemon; pageservers: readonly Daemon[]; others: readonly Daemon[] },
    pageserverPorts: readonly Ports[],
  ) {
    this.dir = dir;
    this.managerUrl = managerUrl;
    this.manager = parts.manager;
    this.pageservers = parts.pageservers;
    this.pageserverPorts = pageserverPorts;
    this.daemons = [...parts.others, ...parts.pageservers, parts.manager];
  }

  static async start(options: InstallationOptions): Promise<Installation> {
    const dir = mkdtempSync(join(tmpdir(), 'lakebed-manager-'));
    const store = join(dir, 'store');
    mkdirSync(store);
    const home = (name: string): string => {
      mkdirSync(join(dir, name));
      return join(dir, name);
    };
    const brokerPort = await freePort();
    const managerPort = await freePort();
    const broker = `http://127.0.0.1:${brokerPort}`;
    const remote = `{local_path = '${store}'}`;
    const others = [
      new Daemon({
        name: 'broker',
        program: 'storage_broker',
        args: [`--listen-addr=127.0.0.1:${brokerPort}`],
        dir: home('broker'),
        statusUrl: `${broker}/status`,
      }),
    ];
    const safekeepers: Ports[] = [];
    for (let id = 1; id <= 3; id++) {
      const port = await ports();
      safekeepers.push(port);
      others.push(safekeeper(id, home(`safekeeper-${id}`), port, broker, remote));
    }
    const pageserverPorts: Ports[] = [];
    const pageservers: Daemon[] = [];
    for (let id = 1; id <= (options.pageservers ?? 1); id++) {
      const port = await ports();
      pageserverPorts.push(port);
      pageservers.push(pageserver(id, home(`pageserver-${id}`), port, { broker, remote, managerPort }));
    }
    const managerUrl = `http://127.0.0.1:${managerPort}`;
    const manager = new Daemon({
      name: 'manager',
      program: 'manager',
      args: [
        ...['-D', join(dir, 'manager'), '--listen-http', `127.0.0.1:${managerPort}`],
        ...['--driver', options.driver, '--remote-storage', remote],
        ...['--safekeepers', safekeepers.map(p => `127.0.0.1:${p.pg}/${p.http}`).join(',')],
        ...(options.managerArgs ?? []),
      ],
      dir: home('manager'),
      statusUrl: `${managerUrl}/status`,
      env: { ...(neonDir() ? { NEON_PG_DIR: neonDir()! } : {}), HOME: dir },
    });
    const made = new Installation(dir, managerUrl, { manager, pageservers, others }, pageserverPorts);
    await Promise.all([...others, manager].map(daemon => daemon.start()));
    // They ask the manager what is theirs before they answer.
    await Promise.all(pageservers.map(daemon => daemon.start()));
    await made.until(async () => {
      const { nodes } = await made.api('GET', 'nodes');
      return nodes.length === pageservers.length && nodes.every((node: Json) => node.alive);
    }, 'all pageservers are known');
    return made;
  }

  async call(method: string, path: string, body?: unknown): Promise<Answer> {
    const response = await fetch(`${this.managerUrl}/${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
  }

  /** An answer of 2xx, or an error with what was said. */
  async api(method: string, path: string, body?: unknown): Promise<Json> {
    const { status, body: answer } = await this.call(method, `api/v2/${path}`, body);
    for (const role of answer?.roles ?? (answer?.role ? [answer.role] : [])) {
      if (role.password) this.passwords.set(role.name, role.password);
    }
    if (status < 200 || status > 299)
      throw new Error(`${method} ${path}: ${status} ${JSON.stringify(answer)}`);
    return answer;
  }

  wake(target: string): Promise<Answer> {
    return this.call('POST', 'internal/wake', { target });
  }

  /** A session with the compute of a branch or an endpoint, awake or not. */
  async connect(
    target: string,
    how: { user?: string; password?: string; database?: string } = {},
  ): Promise<pg.Client> {
    const { status, body } = await this.wake(target);
    if (status !== 200) throw new Error(`wake ${target}: ${status} ${JSON.stringify(body)}`);
    const user = how.user ?? 'neondb_owner';
    const client = new pg.Client({
      host: body.host,
      port: body.port,
      user,
      password: how.password ?? this.passwords.get(user) ?? '',
      database: how.database ?? 'neondb',
      connectionTimeoutMillis: 10_000,
      statement_timeout: 20_000,
      query_timeout: 25_000,
    });
    client.on('error', () => undefined); // its compute may be stopped under it
    await client.connect();
    this.clients.push(client);
    return client;
  }

  async query(target: string, sql: string): Promise<Json[]> {
    const client = await this.connect(target);
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  }

  /** Of the pageserver, past the manager. */
  async timelines(tenant: string, index = 0): Promise<string[]> {
    const { http } = this.pageserverPorts[index]!;
    const response = await fetch(`http://127.0.0.1:${http}/v1/tenant/${tenant}/timeline`);
    if (response.status === 404) return [];
    const all = (await response.json()) as { timeline_id: string }[];
    return all.map(one => one.timeline_id).sort();
  }

  /** Switches a local customer key off or on, as its owner would. */
  setKey(name: string, state: 'enabled' | 'disabled'): void {
    const path = join(this.dir, 'lakebed-keys', `${name}.json`);
    const file = JSON.parse(readFileSync(path, 'utf8')) as object;
    writeFileSync(path, JSON.stringify({ ...file, state }));
  }

  async until(holds: () => Promise<boolean>, what: string, timeoutMs = 40_000): Promise<void> {
    const end = performance.now() + timeoutMs;
    let last: unknown;
    while (performance.now() < end) {
      try {
        if (await holds()) return;
      } catch (error) {
        last = error; // a manager that is just being started
      }
      await new Promise(done => setTimeout(done, 50));
    }
    throw new Error(`not within ${timeoutMs} ms: ${what} ${last ?? ''}\n${this.manager.log.slice(-4000)}`);
  }

  async stop(keep = false): Promise<void> {
    for (const client of this.clients) await client.end().catch(() => undefined);
    for (const daemon of this.daemons.toReversed()) await daemon.stop();
    if (!keep) rmSync(this.dir, { recursive: true, force: true });
  }

  get logs(): string {
    return [this.manager, ...this.pageservers]
      .map(d => `--- ${d.options.name}\n${d.log.slice(-4000)}`)
      .join('\n');
  }
}

const safekeeper = (
  id: number,
  dir: string,
  { pg: port, http }: Ports,
  broker: string,
  remote: string,
): Daemon =>
  new Daemon({
    name: `safekeeper-${id}`,
    program: 'safekeeper',
    args: [
      ...['-D', dir, `--id=${id}`, `--listen-pg=127.0.0.1:${port}`, `--listen-http=127.0.0.1:${http}`],
      ...[`--broker-endpoint=${broker}`, `--remote-storage=${remote}`],
    ],
    dir,
    statusUrl: `http://127.0.0.1:${http}/v1/status`,
  });

function pageserver(
  id: number,
  dir: string,
  { pg: port, http }: Ports,
  at: { broker: string; remote: string; managerPort: number },
): Daemon {
  writeFileSync(join(dir, 'identity.toml'), `id = ${id}\n`);
  writeFileSync(
    join(dir, 'metadata.json'),
    JSON.stringify({ host: '127.0.0.1', port, http_host: '127.0.0.1', http_port: http }),
  );
  writeFileSync(
    join(dir, 'pageserver.toml'),
    [
      `listen_pg_addr = '127.0.0.1:${port}'`,
      `listen_http_addr = '127.0.0.1:${http}'`,
      `broker_endpoint = '${at.broker}'`,
      `control_plane_api = 'http://127.0.0.1:${at.managerPort}/upcall/v1'`,
      ...(neonDir() ? [`pg_distrib_dir = '${neonDir()}'`] : []),
      `remote_storage = ${at.remote}`,
      '',
    ].join('\n'),
  );
  return new Daemon({
    name: `pageserver-${id}`,
    program: 'pageserver',
    args: ['-D', dir],
    dir,
    statusUrl: `http://127.0.0.1:${http}/v1/status`,
  });
}
