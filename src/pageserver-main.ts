// The pageserver as a program: Neon's command line and files, our pageserver. `bin/pageserver` runs it.
//
// Order of the start: flags, work directory, pid file (so that two never share a directory), settings, keys, tenants,
// ports; the HTTP port last, because a launcher takes its first answer for readiness. SIGINT and SIGTERM write out what
// is in memory, as far as there is time; SIGQUIT ends at once: the safekeepers have all of it.

import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Fault } from './base/fault.ts';
import { describeFlags, flagFlag, formatAddress, parseFlags, textFlag } from './base/flags.ts';
import type { HttpApi } from './base/http.ts';
import { Metrics } from './base/metrics.ts';
import type { Listener, Log } from './base/ports.ts';
import { hostClock } from './host/clock.ts';
import { countBuffersWithTheHeap } from './host/collector.ts';
import { onSignals, packageVersion, runDaemon, versionLine } from './host/daemon.ts';
import { hostDisk } from './host/disk.ts';
import { unsyncedDisk } from './host/disk-unsynced.ts';
import { grpcChannel } from './host/grpc.ts';
import { hostHttp, listenHttp } from './host/http.ts';
import { hostInitdb } from './host/initdb.ts';
import { hostLog, levelOf } from './host/log.ts';
import { hostNet } from './host/net.ts';
import { lockPidFile } from './host/pid-file.ts';
import { WorkerPool } from './host/pool.ts';
import { processMetrics } from './host/process-metrics.ts';
import { hostProfile } from './host/profile.ts';
import { hostRandom } from './host/random.ts';
import { ReloadingCertificate } from './host/tls.ts';
import { loadTokens, readPems } from './host/token-keys.ts';
import { openTraces } from './host/traces-endpoint.ts';
import {
  IDENTITY_TOML,
  METADATA_JSON,
  PAGESERVER_TOML,
  type PageserverConfig,
  type ReadConfig,
  readConfig,
} from './pageserver/config.ts';
import { type Pageserver, type PageserverTokens, startPageserver } from './pageserver/server.ts';
import { TokenVerifier } from './protocol/jwt.ts';
import { defaultKeyFromEnvironment, localKeysFromEnvironment, openStorage } from './wiring.ts';

const FLAGS = {
  workdir: textFlag('The work directory; .neon unless told.', '-D', '--workdir'),
  features: flagFlag('The features of this build, as JSON.', '--enabled-features'),
  help: flagFlag('This text.', '-h', '--help'),
  version: flagFlag('The version.', '-V', '--version'),
};

const PID_FILE = 'pageserver.pid';
/** A Postgres connection that is silent for so long is cut. */
const IDLE_MS = 10 * 60 * 1000;
/** More on one Postgres port are refused. */
const CONNECTIONS_MAX = 10_000;

async function main(): Promise<Log | undefined> {
  const { values, unknown } = parseFlags(FLAGS, process.argv.slice(2));
  if (values.help) print(`pageserver\n\n${describeFlags(FLAGS)}`);
  if (values.version) print(versionLine());
  if (values.features) print('{"features":["testing"]}');
  enterWorkdir(resolve(values.workdir ?? '.neon'));
  const read = readFiles();
  const log = hostLog({ format: read.config.logFormat, level: levelOf(process.env['RUST_LOG']) });
  for (const setting of [...unknown, ...read.unknown])
    log.info('setting not known, passed over', { setting });
  lockPidFile(PID_FILE);
  const pageserver = await serve(read.config, log);
  onSignals(log, () => pageserver.close());
  return log;
}

function print(text: string): never {
  process.stdout.write(`${text}\n`);
  process.exit(0);
}

function enterWorkdir(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
    process.chdir(path);
  } catch (error) {
    throw new Fault(
      'config-invalid',
      `the work directory ${path} cannot be used: ${(error as Error).message}`,
      {
        hint: 'Give a directory of this user with -D.',
      },
    );
  }
}

function readFiles(): ReadConfig {
  const required = (name: string): string => {
    if (existsSync(name)) return readFileSync(name, 'utf8');
    throw new Fault('config-invalid', `there is no ${name} in ${process.cwd()}`, {
      hint: 'The work directory is given with -D; it holds pageserver.toml and identity.toml (id = N).',
    });
  };
  return readConfig({
    identity: required(IDENTITY_TOML),
    pageserver: required(PAGESERVER_TOML),
    metadata: existsSync(METADATA_JSON) ? readFileSync(METADATA_JSON, 'utf8') : undefined,
  });
}

async function serve(config: PageserverConfig, log: Log): Promise<Pageserver> {
  countBuffersWithTheHeap();
  const metrics = new Metrics();
  processMetrics(metrics);
  const disk = config.noSync ? unsyncedDisk(hostDisk('.')) : hostDisk('.');
  const storage = await openStorage({
    dataDir: '.',
    node: `pageserver-${config.id}`,
    remote: config.remoteStorage,
    defaultKey: config.encryption.defaultKey ?? defaultKeyFromEnvironment(),
    localKeys: config.encryption.localKeys ?? localKeysFromEnvironment(),
    auditFile: config.encryption.auditFile,
    clock: hostClock,
    random: hostRandom,
    log,
    metrics,
    disk,
  });
  const tls = needsTls(config) ? certificate(config, log) : undefined;
  const ca = config.tlsCaFile === undefined ? {} : { ca: readFileSync(config.tlsCaFile, 'utf8') };
  const node = String(config.id);
  const traces = await openTraces({ name: 'pageserver', node, version: packageVersion() });
  const pool = new WorkerPool({ entry: new URL('./worker.ts', import.meta.url) });
  const pageserver = await startPageserver(config, packageVersion(), await loadTokenKeys(config, log), {
    clock: hostClock,
    random: hostRandom,
    log,
    disk,
    blobs: storage.blobs!,
    vault: storage.vault,
    claimKeys: (tenant, cmk) => storage.keys.claim(tenant, cmk),
    releaseKeys: tenant => storage.keys.detach(tenant),
    pool,
    initdb: hostInitdb({ distribDir: config.pgDistribDir }),
    net: hostNet({
      idleMs: IDLE_MS,
      connectionsMax: CONNECTIONS_MAX,
      ...(config.tlsPageService && tls ? { serverTls: tls } : {}),
      clientTls: ca,
    }),
    http: hostHttp(ca),
    broker: grpcChannel(config.brokerEndpoint, { keepaliveMs: config.brokerKeepaliveMs, ...ca }),
    serveHttp: api => serveHttp(api, config, tls),
    metrics,
    traces,
    profile: hostProfile,
  });
  log.info('pageserver is ready', {
    id: config.id,
    pg: formatAddress(pageserver.pgPort),
    http: formatAddress(config.listenHttp),
  });
  return {
    ...pageserver,
    async close() {
      await pageserver.close();
      await pool.close();
      await traces?.close();
      storage.keys.close();
    },
  };
}

const needsTls = (config: PageserverConfig): boolean =>
  config.tlsPageService || config.listenHttps !== undefined;

const certificate = (config: PageserverConfig, log: Log): ReloadingCertificate =>
  new ReloadingCertificate(
    { keyFile: config.tlsKeyFile, certFile: config.tlsCertFile },
    config.tlsReloadMs,
    log,
  );

async function loadTokenKeys(config: PageserverConfig, log: Log): Promise<PageserverTokens> {
  const { pgAuth, httpAuth, authKeyPath } = config;
  const asked = pgAuth === 'NeonJWT' || httpAuth === 'NeonJWT';
  const tokens = asked ? await loadTokens(authKeyPath, TokenVerifier, log) : undefined;
  return {
    pg: pgAuth === 'NeonJWT' ? tokens : undefined,
    http: httpAuth === 'NeonJWT' ? tokens : undefined,
    own: process.env['NEON_AUTH_TOKEN'] || undefined,
    ...(tokens ? { reload: () => tokens.replace(readPems(authKeyPath)) } : {}),
  };
}

async function serveHttp(
  api: HttpApi,
  { listenHttp: plain, listenHttps: secure }: PageserverConfig,
  tls: ReloadingCertificate | undefined,
): Promise<Listener[]> {
  const listeners: Listener[] = [];
  if (secure && tls) listeners.push(await listenHttp(api, { ...secure, tls }));
  listeners.push(await listenHttp(api, plain));
  return listeners;
}

await runDaemon('pageserver', main);
