// The daemons of one Lakebed for a test: a broker, safekeepers, a pageserver, with their directories, settings, keys
// and certificates in one place, and, where a test wants to cut them, a wire (wire.ts) on each way between two:
//
//   safekeeper-N > broker, pageserver > broker     each has its own way to the broker
//   readers > safekeeper-N                         what safekeepers advertise: for the pageserver and their peers
//   compute > safekeeper-N, compute > pageserver   the computes' ways
//
// With `clockSteps` each daemon reads the wall clock through clock-step.ts.

import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { signToken } from '../../src/protocol/jwt.ts';
import { selfSigned } from '../certificate.ts';
import { freePort } from '../safekeeper/neon-postgres.ts';
import { Daemon } from './daemon.ts';
import { Wire } from './wire.ts';

export interface StorageOptions {
  readonly safekeepers?: number;
  /** Lines of pageserver.toml. */
  readonly pageserverToml?: readonly string[];
  /** Safekeepers put their segments into the object store, as in production. */
  readonly walBackup?: boolean;
  /** Everybody must show a token; `Storage.token` signs them. */
  readonly tokens?: boolean;
  /** The pageserver's Postgres port takes TLS only. */
  readonly tls?: boolean;
  /** Ways between processes lead over wires that can be cut. */
  readonly wires?: boolean;
  /** Daemons' wall clocks can be stepped (`stepClock`). */
  readonly clockSteps?: boolean;
  /** A directory to which each daemon writes where its processor time went (profile.ts). */
  readonly profiles?: string;
}

export interface Safekeeper extends Daemon {
  readonly port: number;
  readonly httpPort: number;
}

export interface Daemons {
  readonly broker: Daemon;
  readonly safekeepers: readonly Safekeeper[];
  readonly pageserver: Daemon;
  readonly pageserverPort: number;
  readonly pageserverHttpPort: number;
  readonly wires: ReadonlyMap<string, Wire>;
  readonly options: StorageOptions;
}

const PRIVATE_KEY = 'private.pem';
const PUBLIC_KEY = 'public.pem';
const SAFEKEEPER_TOKEN = 'safekeeper.token';

export const privateKey = (dir: string): string => readFileSync(join(dir, PRIVATE_KEY), 'utf8');
/** The object store, a directory. */
export const storeOf = (dir: string): string => join(dir, 'store');

/** What `makeDaemons` builds with: one place, one table of wires. */
class Builder {
  readonly dir: string;
  readonly options: StorageOptions;
  readonly wires = new Map<string, Wire>();

  constructor(dir: string, options: StorageOptions) {
    this.dir = dir;
    this.options = options;
  }

  /** The port through which `name` is reached. */
  async way(name: string, target: number): Promise<number> {
    if (!this.options.wires) return target;
    const wire = await Wire.to(name, target);
    this.wires.set(name, wire);
    return wire.port;
  }

  home(name: string): string {
    const home = join(this.dir, name);
    mkdirSync(home);
    return home;
  }

  env(name: string): Record<string, string> {
    const { clockSteps, profiles } = this.options;
    const loaded = [...(clockSteps ? ['clock-step.ts'] : []), ...(profiles ? ['profile.ts'] : [])];
    const imports = loaded.map(script => `--import=${join(import.meta.dirname, script)}`);
    return {
      ...(clockSteps ? { LAKEBED_TEST_CLOCK: clockFile(this.dir, name) } : {}),
      ...(profiles ? { LAKEBED_TEST_PROFILE: join(profiles, `${name}.cpuprofile`) } : {}),
      ...(imports.length > 0 ? { NODE_OPTIONS: imports.join(' ') } : {}),
    };
  }
}

const clockFile = (dir: string, name: string): string => join(dir, `${name}.clock`);

/** From now on the daemon's wall clock is this far from the machine's. */
export const stepClock = (dir: string, name: string, ms: number): void =>
  writeFileSync(clockFile(dir, name), String(ms));

export async function makeDaemons(dir: string, options: StorageOptions): Promise<Daemons> {
  const builder = new Builder(dir, options);
  mkdirSync(storeOf(dir));
  if (options.tokens) await makeTokens(dir);
  if (options.tls) selfSigned({ key: join(dir, 'server.key'), cert: join(dir, 'server.crt') });
  const brokerPort = await freePort();
  const safekeepers: Safekeeper[] = [];
  for (let id = 1; id <= (options.safekeepers ?? 3); id++)
    safekeepers.push(await makeSafekeeper(builder, id, brokerPort));
  const [pageserverPort, pageserverHttpPort] = [await freePort(), await freePort()];
  const pageserver = await makePageserver(builder, {
    broker: await builder.way('pageserver > broker', brokerPort),
    pg: pageserverPort,
    http: pageserverHttpPort,
  });
  for (const { options: o, port } of safekeepers) await builder.way(`compute > ${o.name}`, port);
  await builder.way('compute > pageserver', pageserverPort);
  const broker = makeBroker(builder, brokerPort);
  const { wires } = builder;
  return { broker, safekeepers, pageserver, pageserverPort, pageserverHttpPort, wires, options };
}

function makeBroker(builder: Builder, port: number): Daemon {
  return new Daemon({
    name: 'broker',
    program: 'storage_broker',
    args: [`--listen-addr=127.0.0.1:${port}`],
    dir: builder.home('broker'),
    statusUrl: `http://127.0.0.1:${port}/status`,
    env: builder.env('broker'),
  });
}

async function makeSafekeeper(builder: Builder, id: number, brokerPort: number): Promise<Safekeeper> {
  const { dir, options } = builder;
  const name = `safekeeper-${id}`;
  const [port, httpPort] = [await freePort(), await freePort()];
  const home = builder.home(name);
  const broker = await builder.way(`${name} > broker`, brokerPort);
  const advertised = await builder.way(`readers > ${name}`, port);
  const daemon = new Daemon({
    name,
    program: 'safekeeper',
    args: [
      '-D',
      home,
      `--id=${id}`,
      `--listen-pg=127.0.0.1:${port}`,
      `--advertise-pg=127.0.0.1:${advertised}`,
      `--listen-http=127.0.0.1:${httpPort}`,
      `--broker-endpoint=http://127.0.0.1:${broker}`,
      ...(options.walBackup ? [`--remote-storage={local_path='${join(storeOf(dir), 'wal')}'}`] : []),
      ...(options.tokens
        ? [
            `--pg-auth-public-key-path=${join(dir, PUBLIC_KEY)}`,
            `--auth-token-path=${join(dir, SAFEKEEPER_TOKEN)}`,
          ]
        : []),
    ],
    dir: home,
    statusUrl: `http://127.0.0.1:${httpPort}/v1/status`,
    env: builder.env(name),
  });
  return Object.assign(daemon, { port, httpPort });
}

interface Ports {
  readonly broker: number;
  readonly pg: number;
  readonly http: number;
}

async function makePageserver(builder: Builder, ports: Ports): Promise<Daemon> {
  const { dir, options } = builder;
  const home = builder.home('pageserver');
  writeFileSync(join(home, 'identity.toml'), 'id = 1\n');
  writeFileSync(join(home, 'pageserver.toml'), pageserverToml(dir, ports, options));
  return new Daemon({
    name: 'pageserver',
    program: 'pageserver',
    args: ['-D', home],
    dir: home,
    statusUrl: `http://127.0.0.1:${ports.http}/v1/status`,
    env: {
      ...builder.env('pageserver'),
      ...(options.tokens ? { NEON_AUTH_TOKEN: readFileSync(join(dir, SAFEKEEPER_TOKEN), 'utf8') } : {}),
    },
  });
}

function pageserverToml(dir: string, ports: Ports, options: StorageOptions): string {
  const tokens = [
    "pg_auth_type = 'NeonJWT'",
    "http_auth_type = 'NeonJWT'",
    `auth_validation_public_key_path = '${join(dir, PUBLIC_KEY)}'`,
  ];
  const tls = [
    'enable_tls_page_service_api = true',
    `ssl_key_file = '${join(dir, 'server.key')}'`,
    `ssl_cert_file = '${join(dir, 'server.crt')}'`,
  ];
  return [
    `listen_pg_addr = '127.0.0.1:${ports.pg}'`,
    `listen_http_addr = '127.0.0.1:${ports.http}'`,
    `broker_endpoint = 'http://127.0.0.1:${ports.broker}'`,
    `pg_distrib_dir = '${process.env['NEON_PG_DIR'] ?? ''}'`,
    `remote_storage = { local_path = '${storeOf(dir)}' }`,
    // However full the machine's disk is.
    'disk_usage_based_eviction = { enabled = false }',
    ...(options.tokens ? tokens : []),
    ...(options.tls ? tls : []),
    ...(options.pageserverToml ?? []),
    '',
  ].join('\n');
}

/** One key pair for everybody, and what the daemons show each other. */
async function makeTokens(dir: string): Promise<void> {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  writeFileSync(join(dir, PRIVATE_KEY), pem);
  writeFileSync(join(dir, PUBLIC_KEY), publicKey.export({ type: 'spki', format: 'pem' }));
  writeFileSync(join(dir, SAFEKEEPER_TOKEN), await signToken({ scope: 'safekeeperdata' }, pem));
}
