// The manager as a program: `bin/lakebed manager`. What it keeps is in its catalog; what it starts outlives it, unless
// it is ended in order (SIGINT, SIGTERM): then its computes are stopped with it, and started again with it, too.
//
// Order of the start: flags, data directory, pid file, catalog, keys, drivers, HTTP; what a crash left open goes on at
// once, and the HTTP port answers last, because its first answer is taken for readiness.

import { createHash } from 'node:crypto';
import { mkdirSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Fault } from './base/fault.ts';
import {
  addressFlag,
  describeFlags,
  durationFlag,
  flagFlag,
  formatAddress,
  parseFlags,
  textFlag,
  wholeFlag,
  wordFlag,
} from './base/flags.ts';
import { Metrics } from './base/metrics.ts';
import type { Catalog, Log } from './base/ports.ts';
import { readRemoteStorage } from './base/remote-storage.ts';
import { parseTomlValue } from './base/toml.ts';
import { DockerDriver } from './control/manager/drivers/docker.ts';
import type { ComputeDriver, SafekeeperAt } from './control/manager/drivers/driver.ts';
import { ProcessDriver } from './control/manager/drivers/process.ts';
import { StockDriver } from './control/manager/drivers/stock.ts';
import { managerApi } from './control/manager/http-routes.ts';
import { WatchedKeys } from './control/manager/keys-watch.ts';
import { type KnownNode, Manager } from './control/manager/manager.ts';
import { MIGRATIONS } from './control/manager/migrations.ts';
import { HttpStorage } from './control/manager/storage-http.ts';
import { hostClock } from './host/clock.ts';
import { dockerEngine } from './host/computes-docker.ts';
import { processComputes } from './host/computes-process.ts';
import { onSignals, packageVersion, runDaemon, versionLine } from './host/daemon.ts';
import { hostHttp, listenHttp } from './host/http.ts';
import { stockBuild } from './host/initdb.ts';
import { hostLog, levelOf } from './host/log.ts';
import { hostNet } from './host/net.ts';
import { lockPidFile } from './host/pid-file.ts';
import { processMetrics } from './host/process-metrics.ts';
import { hostRandom } from './host/random.ts';
import { loadTokens } from './host/token-keys.ts';
import { TokenVerifier } from './protocol/jwt.ts';
import { keyTimes } from './seal/key-state.ts';
import { defaultKeyFromEnvironment, localKeysFromEnvironment, openStorage } from './wiring.ts';

const FLAGS = {
  dataDir: textFlag('Its data: catalog/, logs of computes.', '-D', '--data-dir'),
  listen: addressFlag('Where its HTTP API is; 127.0.0.1:55420 unless told.', '--listen-http'),
  catalog: textFlag(
    'postgresql://... of the catalog; embedded in the data directory unless told.',
    '--catalog',
  ),
  pageservers: textFlag(
    'Pageservers, ID=HOST:PORT/HTTPPORT with commas between; others register themselves.',
    '--pageservers',
  ),
  safekeepers: textFlag('Safekeepers, HOST:PORT/HTTPPORT with commas between.', '--safekeepers'),
  remote: textFlag('The object store, as a TOML table: key documents are in it.', '--remote-storage'),
  defaultKey: textFlag('The customer key of projects that name none.', '--default-key'),
  localKeys: textFlag('The directory of keys of kind local.', '--local-keys'),
  driver: wordFlag('How computes run; auto unless told.', ['auto', 'process', 'docker', 'stock'], '--driver'),
  distribDir: textFlag("Neon's builds of Postgres, vNN/bin; NEON_PG_DIR unless told.", '--pg-distrib-dir'),
  computeHost: textFlag('Where computes listen; 127.0.0.1 unless told.', '--compute-host'),
  proxy: addressFlag('The proxy, for connection strings; 127.0.0.1:55400 unless told.', '--proxy'),
  suspendTimeout: wholeFlag(
    'Seconds after which an idle compute is suspended; 300 unless told.',
    '--suspend-timeout',
  ),
  nodeDead: durationFlag(
    'Silence after which a pageserver is taken for dead; 30s unless told.',
    '--node-dead',
  ),
  keyPoll: durationFlag(
    'How often customer keys are asked for; else LAKEBED_KEY_POLL, else 60s.',
    '--key-poll',
  ),
  authKeys: textFlag('Ask for tokens; their public keys, a PEM file or a directory.', '--auth-public-key'),
  storageToken: textFlag(
    'The token for pageservers and safekeepers; NEON_AUTH_TOKEN unless told.',
    '--storage-token',
  ),
  logFormat: wordFlag('How log lines look.', ['plain', 'json'], '--log-format'),
  keepComputes: flagFlag('Computes go on when the manager ends.', '--keep-computes'),
  help: flagFlag('This text.', '-h', '--help'),
  version: flagFlag('The version.', '-V', '--version'),
};

const PID_FILE = 'manager.pid';
const PROXY_PORT = 55400;
const LISTEN = { host: '127.0.0.1', port: 55420 };
const SUSPEND_S = 300;
const NODE_DEAD_MS = 30_000;
const STOP_MS = 30_000;

type Flags = ReturnType<typeof parseFlags<typeof FLAGS>>['values'];

async function start(argv: readonly string[]): Promise<Log | undefined> {
  const { values, unknown } = parseFlags(FLAGS, argv);
  if (values.help) print(`lakebed manager\n\n${describeFlags(FLAGS)}`);
  if (values.version) print(versionLine());
  const dataDir = enter(resolve(values.dataDir ?? '.lakebed/manager'));
  const log = hostLog({ format: values.logFormat ?? 'plain', level: levelOf(process.env['RUST_LOG']) });
  for (const flag of unknown) log.info('flag not known, passed over', { flag });
  lockPidFile(join(dataDir, PID_FILE));
  const { manager, keys } = await openManager(values, dataDir, log);
  const tokens =
    values.authKeys === undefined ? undefined : await loadTokens(values.authKeys, TokenVerifier, log);
  for (const node of pageserversOf(values.pageservers)) await manager.know(node);
  await manager.start();
  const metrics = new Metrics();
  processMetrics(metrics);
  const api = managerApi(manager, { version: packageVersion(), tokens, metrics });
  const listener = await listenHttp(api, values.listen ?? LISTEN);
  log.info('manager is ready', { http: formatAddress(listener), driver: manager.driverKind() });
  const stop = async (): Promise<void> => {
    await listener.close();
    await manager.stop({ computes: !values.keepComputes });
    keys.close();
    leaveHome(homeOf(dataDir));
  };
  onSignals(log, stop, STOP_MS);
  return log;
}

function print(text: string): never {
  process.stdout.write(`${text}\n`);
  process.exit(0);
}

function enter(path: string): string {
  try {
    mkdirSync(join(path, 'computes'), { recursive: true });
    return path;
  } catch (error) {
    throw new Fault(
      'config-invalid',
      `the data directory ${path} cannot be used: ${(error as Error).message}`,
      {
        hint: 'Give a directory of this user with -D.',
      },
    );
  }
}

async function openCatalog(url: string | undefined, dataDir: string): Promise<Catalog> {
  if (url !== undefined) {
    const { pgCatalog } = await import('./host/catalog-pg.ts');
    return pgCatalog(url, MIGRATIONS);
  }
  const { embeddedCatalog } = await import('./host/catalog-embedded.ts');
  return embeddedCatalog(join(dataDir, 'catalog'), MIGRATIONS);
}

async function openManager(
  values: Flags,
  dataDir: string,
  log: Log,
): Promise<{ manager: Manager; keys: WatchedKeys }> {
  const remote =
    values.remote === undefined
      ? undefined
      : readRemoteStorage(parseTomlValue(values.remote, '--remote-storage'), '--remote-storage', name =>
          log.info('setting not known, passed over', { setting: name }),
        );
  const defaultKey = values.defaultKey ?? defaultKeyFromEnvironment();
  const store = await openStorage({
    dataDir,
    node: 'manager',
    remote,
    defaultKey,
    localKeys: values.localKeys ?? localKeysFromEnvironment(),
    clock: hostClock,
    random: hostRandom,
    log,
  });
  let told = (): void => undefined;
  // The same for every service, unless this one alone is told.
  const times = keyTimes(name => process.env[name]);
  const keys = new WatchedKeys({
    admin: store.keys.admin,
    random: hostRandom,
    log,
    times: { ...times, pollMs: values.keyPoll ?? times.pollMs },
    defaultCmk: defaultKey ?? 'local:default',
    told: () => told(),
  });
  const manager = await Manager.open({
    clock: hostClock,
    random: hostRandom,
    log,
    catalog: await openCatalog(values.catalog, dataDir),
    storage: new HttpStorage({
      http: hostHttp(),
      clock: hostClock,
      safekeepers: safekeepersOf(values.safekeepers),
      token: tokenOf(values),
    }),
    keys,
    drivers: driversOf(values, dataDir, log),
    settings: {
      suspendTimeoutSeconds: values.suspendTimeout ?? SUSPEND_S,
      nodeDeadMs: values.nodeDead ?? NODE_DEAD_MS,
      proxyHost: values.proxy?.host ?? '127.0.0.1',
      proxyPort: values.proxy?.port ?? PROXY_PORT,
    },
  });
  told = () => manager.nudge();
  return { manager, keys };
}

/** Of this installation alone: two on one machine do not see each other's computes. */
function homeOf(dataDir: string): string {
  const mark = createHash('sha256').update(dataDir).digest('hex').slice(0, 10);
  return join(tmpdir(), `lakebed-${mark}`);
}

/** What computes had there is gone with them; unless some were kept, so is the directory. */
function leaveHome(home: string): void {
  try {
    rmdirSync(home);
  } catch {
    // Something is in it, or it was never made.
  }
}

function driversOf(values: Flags, dataDir: string, log: Log): ComputeDriver[] {
  const wanted = values.driver ?? 'auto';
  const home = homeOf(dataDir);
  const shared = {
    clock: hostClock,
    net: hostNet(),
    random: hostRandom,
    log,
    host: values.computeHost ?? '127.0.0.1',
    logs: join(dataDir, 'computes'),
  };
  const drivers: ComputeDriver[] = [];
  const neon = processComputes(values.distribDir ?? process.env['NEON_PG_DIR'], { home });
  if (wanted === 'process' || (wanted === 'auto' && neon.majors().length > 0)) {
    drivers.push(new ProcessDriver({ ...shared, computes: neon }));
  }
  if (
    wanted === 'docker' ||
    (wanted === 'auto' && drivers.length === 0 && process.env['LAKEBED_COMPUTE_IMAGE'])
  ) {
    const engine = dockerEngine(process.env['DOCKER_HOST']);
    if (!engine.there) {
      throw new Fault(
        'driver-missing',
        'Docker is not there: its socket /var/run/docker.sock does not exist',
        {
          hint: 'Start the engine, or name it with DOCKER_HOST. Without LAKEBED_COMPUTE_IMAGE and --driver docker none is needed.',
        },
      );
    }
    drivers.push(
      new DockerDriver({
        ...{ clock: hostClock, log, engine: engine.http, http: hostHttp() },
        image: process.env['LAKEBED_COMPUTE_IMAGE'] ?? 'ghcr.io/neondatabase/compute-node-v{major}:latest',
        host: shared.host,
        storageHost: 'host.docker.internal',
        storageToken: tokenOf(values),
      }),
    );
  }
  // Stock builds speak no Neon protocol: what they can do is said by the driver.
  if (wanted === 'stock' || (wanted === 'auto' && drivers.length === 0)) {
    const computes = processComputes(undefined, { home, build: stockBuild });
    drivers.push(new StockDriver({ ...shared, computes, http: hostHttp(), storageToken: tokenOf(values) }));
  }
  return drivers;
}

const tokenOf = (values: Flags): string | undefined => values.storageToken ?? process.env['NEON_AUTH_TOKEN'];

const PAGESERVER = /^(\d+)=([^:/]+):(\d+)\/(\d+)$/;
const SAFEKEEPER = /^([^:/]+):(\d+)\/(\d+)$/;

function matched(flag: string, text: string, shape: RegExp, example: string): RegExpExecArray {
  const match = shape.exec(text.trim());
  if (match) return match;
  throw new Fault('config-invalid', `${flag}: "${text}" cannot be read`, { hint: `Write it as ${example}.` });
}

const listOf = (text: string | undefined): string[] =>
  (text ?? '').split(',').filter(part => part.trim() !== '');

const pageserversOf = (text: string | undefined): KnownNode[] =>
  listOf(text).map(part => {
    const [, id, host, pg, http] = matched('--pageservers', part, PAGESERVER, '1=127.0.0.1:6400/9898');
    return { id: id!, pgHost: host!, pgPort: Number(pg), httpHost: host!, httpPort: Number(http) };
  });

const safekeepersOf = (text: string | undefined): SafekeeperAt[] =>
  listOf(text).map(part => {
    const [, host, pg, http] = matched('--safekeepers', part, SAFEKEEPER, '127.0.0.1:5454/7676');
    return { host: host!, port: Number(pg), httpPort: Number(http) };
  });

export const runManager = (argv: readonly string[]): Promise<void> =>
  runDaemon('lakebed manager', () => start(argv));

if (import.meta.main) await runManager(process.argv.slice(2));
