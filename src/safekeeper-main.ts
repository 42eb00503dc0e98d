// The safekeeper as a program: Neon's command line, our safekeeper. `bin/safekeeper` runs it.
//
// Order of the start: flags, data directory, pid file (so that two never share a directory), id, keys, timelines,
// ports; the HTTP port last, because a launcher takes its first answer for readiness. SIGINT, SIGTERM and SIGQUIT end
// it at once: what was acknowledged is on the disk, and nothing else is owed.

import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { Fault } from './base/fault.ts';
import { describeFlags, formatAddress } from './base/flags.ts';
import type { HttpApi } from './base/http.ts';
import { Metrics } from './base/metrics.ts';
import type { Listener, Log } from './base/ports.ts';
import { hostClock } from './host/clock.ts';
import { onSignals, packageVersion, runDaemon, versionLine } from './host/daemon.ts';
import { hostDisk } from './host/disk.ts';
import { unsyncedDisk } from './host/disk-unsynced.ts';
import { grpcChannel } from './host/grpc.ts';
import { hostHttp, listenHttp } from './host/http.ts';
import { hostLog, levelOf } from './host/log.ts';
import { hostNet } from './host/net.ts';
import { lockPidFile } from './host/pid-file.ts';
import { processMetrics } from './host/process-metrics.ts';
import { hostRandom } from './host/random.ts';
import { ReloadingCertificate } from './host/tls.ts';
import { loadTokens } from './host/token-keys.ts';
import { openTraces } from './host/traces-endpoint.ts';
import { TokenVerifier } from './protocol/jwt.ts';
import { controlToJson } from './safekeeper/control-json.ts';
import { CONTROL_FILE_NAME, CONTROL_MAGIC, decodeControlState } from './safekeeper/control-state.ts';
import { type SafekeeperTokens, startSafekeeper } from './safekeeper/server.ts';
import {
  parseSafekeeperFlags,
  SAFEKEEPER_FLAGS,
  type SafekeeperFlags,
  type SafekeeperSettings,
  safekeeperSettings,
} from './safekeeper/settings.ts';
import {
  defaultKeyFromEnvironment,
  localKeysFromEnvironment,
  openStorage,
  type StorageOptions,
} from './wiring.ts';

const ID_FILE = 'safekeeper.id';
const PID_FILE = 'safekeeper.pid';
/** A Postgres connection that is silent for so long is cut. */
const IDLE_MS = 10 * 60 * 1000;
/** More on one Postgres port are refused. */
const CONNECTIONS_MAX = 10_000;

async function main(): Promise<Log | undefined> {
  const { values, unknown } = parseSafekeeperFlags(process.argv.slice(2));
  if (values.version || values.help) return print(values);
  const log = hostLog({ format: values.logFormat ?? 'plain', level: levelOf(process.env['RUST_LOG']) });
  const note = (what: string): void => log.info('setting not known, passed over', { setting: what });
  for (const flag of unknown) note(flag);
  const settings = safekeeperSettings(values, note);
  if (values.dumpControlFile) {
    await dumpControlFile(resolve(values.dumpControlFile), settings, values, log);
    process.exit(0);
  }
  enterDataDir(settings.dataDir);
  lockPidFile(PID_FILE);
  const id = nodeId(settings.id);
  if (values.init) process.exit(0);
  await serve(id, settings, values, log);
  return log;
}

function print(values: SafekeeperFlags): never {
  process.stdout.write(
    values.version ? `${versionLine()}\n` : `safekeeper\n\n${describeFlags(SAFEKEEPER_FLAGS)}\n`,
  );
  process.exit(0);
}

async function serve(
  id: number,
  settings: SafekeeperSettings,
  values: SafekeeperFlags,
  log: Log,
): Promise<void> {
  const metrics = new Metrics();
  processMetrics(metrics);
  const disk = settings.sync ? hostDisk('.') : unsyncedDisk(hostDisk('.'));
  const storage = await openStorage({ ...storageOptions(id, settings, values, log), metrics, disk });
  const tls = needsTls(settings) ? certificate(values, log) : undefined;
  const ca = values.caFile === undefined ? undefined : readFileSync(values.caFile, 'utf8');
  const net = hostNet({
    idleMs: IDLE_MS,
    connectionsMax: CONNECTIONS_MAX,
    ...(settings.tlsPg && tls ? { serverTls: tls } : {}),
    clientTls: ca === undefined ? {} : { ca },
  });
  const tokens = await loadTokenKeys(values, log);
  const { vault, blobs } = storage;
  const traces = await openTraces({ name: 'safekeeper', node: String(id), version: packageVersion() });
  const keeper = await startSafekeeper(id, packageVersion(), settings, tokens, {
    clock: hostClock,
    random: hostRandom,
    log,
    disk,
    blobs,
    vault,
    net,
    http: hostHttp(ca === undefined ? {} : { ca }),
    metrics,
    traces,
    broker: endpoint =>
      grpcChannel(endpoint, { keepaliveMs: settings.brokerKeepaliveMs, ...(ca === undefined ? {} : { ca }) }),
    serveHttp: api => serveHttp(api, settings, tls),
  });
  onSignals(log);
  log.info('safekeeper is ready', {
    id,
    pg: formatAddress(keeper.pgPort),
    http: formatAddress(settings.listenHttp),
    timelines: keeper.timelines.all().length,
  });
}

const storageOptions = (
  id: number,
  { remote }: SafekeeperSettings,
  values: SafekeeperFlags,
  log: Log,
): StorageOptions => ({
  dataDir: '.',
  node: `safekeeper-${id}`,
  remote,
  defaultKey: values.defaultKey ?? defaultKeyFromEnvironment(),
  localKeys: values.localKeys ?? localKeysFromEnvironment(),
  clock: hostClock,
  random: hostRandom,
  log,
});

function enterDataDir(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
    process.chdir(path);
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

/** The id in the data directory is for life; one given must be the same. */
function nodeId(given: number | undefined): number {
  const known = existsSync(ID_FILE) ? readFileSync(ID_FILE, 'utf8').trim() : undefined;
  if (known === undefined) {
    if (given === undefined) {
      throw new Fault('config-invalid', 'this safekeeper has no id yet', {
        hint: 'Give one with --id, for its first start.',
      });
    }
    writeFileSync(`${ID_FILE}.partial`, String(given), { flush: true });
    renameSync(`${ID_FILE}.partial`, ID_FILE);
    return given;
  }
  const id = Number(known);
  if (!/^\d+$/.test(known) || !Number.isSafeInteger(id)) {
    throw new Fault('config-invalid', `${ID_FILE} does not hold a number: ${known}`);
  }
  if (given !== undefined && given !== id) {
    throw new Fault('config-invalid', `--id ${given} is not the id of this data directory, which is ${id}`, {
      hint: `An id is for life. Leave --id away, or start in another directory. (${resolve(ID_FILE)})`,
    });
  }
  return id;
}

const needsTls = (settings: SafekeeperSettings): boolean =>
  settings.tlsPg || settings.listenHttps !== undefined;

const certificate = (values: SafekeeperFlags, log: Log): ReloadingCertificate =>
  new ReloadingCertificate(
    { keyFile: values.keyFile ?? 'server.key', certFile: values.certFile ?? 'server.crt' },
    values.certReload ?? 60_000,
    log,
  );

async function loadTokenKeys(values: SafekeeperFlags, log: Log): Promise<SafekeeperTokens> {
  const load = (path: string | undefined): Promise<TokenVerifier | undefined> =>
    path === undefined ? Promise.resolve(undefined) : loadTokens(path, TokenVerifier, log);
  const [pg, pgTenantOnly, http] = await Promise.all([
    load(values.pgAuthKeys),
    load(values.pgTenantOnlyAuthKeys),
    load(values.httpAuthKeys),
  ]);
  const own = values.authToken === undefined ? undefined : readFileSync(values.authToken, 'utf8').trim();
  return { pg, pgTenantOnly, http, own };
}

async function serveHttp(
  api: HttpApi,
  { listenHttp: plain, listenHttps: secure }: SafekeeperSettings,
  tls: ReloadingCertificate | undefined,
): Promise<Listener[]> {
  const listeners: Listener[] = [];
  if (secure && tls) listeners.push(await listenHttp(api, { ...secure, tls }));
  listeners.push(await listenHttp(api, plain));
  return listeners;
}

/** A control file as JSON: a bare one, or one in its place in a data directory, sealed. */
async function dumpControlFile(
  path: string,
  settings: SafekeeperSettings,
  values: SafekeeperFlags,
  log: Log,
): Promise<void> {
  const bare = readFileSync(path);
  const isBare = bare.length >= 4 && bare.readUInt32LE(0) === CONTROL_MAGIC;
  const bytes = isBare ? new Uint8Array(bare) : await unsealed(path, settings, values, log);
  process.stdout.write(`${JSON.stringify(controlToJson(decodeControlState(bytes).state), jsonNumber, 2)}\n`);
}

const jsonNumber = (_: string, value: unknown): unknown =>
  typeof value === 'bigint' ? value.toString() : value;

async function unsealed(
  path: string,
  settings: SafekeeperSettings,
  values: SafekeeperFlags,
  log: Log,
): Promise<Uint8Array> {
  const directory = dirname(path);
  const [tenant, timeline] = [basename(dirname(directory)), basename(directory)];
  const dataDir = resolve(directory, '../..');
  if (
    !/^[0-9a-f]{32}$/.test(tenant) ||
    !/^[0-9a-f]{32}$/.test(timeline) ||
    basename(path) !== CONTROL_FILE_NAME
  ) {
    throw new Fault('config-invalid', `${path} is sealed, and not in its place in a data directory`, {
      hint: `Name it as DATADIR/<tenant>/<timeline>/${CONTROL_FILE_NAME}.`,
    });
  }
  const options = storageOptions(0, settings, values, log);
  const { vault, keys } = await openStorage({ ...options, dataDir, disk: hostDisk(dataDir) });
  try {
    return await vault(`${tenant}/${timeline}`, { tenant, timeline }).readFile(CONTROL_FILE_NAME);
  } finally {
    keys.close();
  }
}

await runDaemon('safekeeper', main);
