// One daemon of each kind, of `bin`, on ports of the system's choosing: for suites about what all of them do. A proxy is
// started apart: most suites do without.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../safekeeper/neon-postgres.ts';
import { Daemon } from './daemon.ts';

export interface DaemonSetOptions {
  /** More lines of pageserver.toml, and more flags of the others. */
  readonly pageserver?: string;
  readonly safekeeper?: readonly string[];
  readonly broker?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface DaemonSet {
  readonly all: readonly Daemon[];
  readonly brokerHttp: string;
  readonly safekeeperHttp: string;
  readonly pageserverHttp: string;
  readonly ports: {
    readonly broker: number;
    readonly safekeeper: number;
    readonly safekeeperHttp: number;
    readonly pageserver: number;
    readonly pageserverHttp: number;
  };
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export async function startDaemons(dir: string, options: DaemonSetOptions = {}): Promise<DaemonSet> {
  const [broker, safekeeper, safekeeperHttp, pageserver, pageserverHttp] = [
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
  ];
  const { env = {} } = options;
  const brokerUrl = `http://127.0.0.1:${broker}`;
  const [skDir, psDir, store] = [join(dir, 'safekeeper'), join(dir, 'pageserver'), join(dir, 'store')];
  for (const path of [skDir, psDir, store]) mkdirSync(path, { recursive: true });
  writeFileSync(join(psDir, 'identity.toml'), 'id = 1\n');
  const settings = [
    `listen_pg_addr = '127.0.0.1:${pageserver}'`,
    `listen_http_addr = '127.0.0.1:${pageserverHttp}'`,
    `broker_endpoint = '${brokerUrl}'`,
    `remote_storage = { local_path = '${store}' }`,
    options.pageserver ?? '',
  ];
  writeFileSync(join(psDir, 'pageserver.toml'), `${settings.join('\n')}\n`);
  const all = [
    new Daemon({
      name: 'broker',
      program: 'storage_broker',
      dir,
      env,
      statusUrl: `${brokerUrl}/status`,
      args: ['-l', `127.0.0.1:${broker}`, ...(options.broker ?? [])],
    }),
    new Daemon({
      name: 'safekeeper',
      program: 'safekeeper',
      dir,
      env,
      statusUrl: `http://127.0.0.1:${safekeeperHttp}/v1/status`,
      args: [
        ...['-D', skDir, '--id', '1', '--listen-pg', `127.0.0.1:${safekeeper}`],
        ...['--listen-http', `127.0.0.1:${safekeeperHttp}`, '--broker-endpoint', brokerUrl],
        ...['--remote-storage', `{local_path='${store}'}`, ...(options.safekeeper ?? [])],
      ],
    }),
    new Daemon({
      name: 'pageserver',
      program: 'pageserver',
      dir,
      env,
      statusUrl: `http://127.0.0.1:${pageserverHttp}/v1/status`,
      args: ['-D', psDir],
    }),
  ];
  const stop = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
    await Promise.all(all.map(daemon => daemon.kill(signal)));
  };
  try {
    await Promise.all(all.map(daemon => daemon.start()));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    all,
    brokerHttp: brokerUrl,
    safekeeperHttp: `http://127.0.0.1:${safekeeperHttp}`,
    pageserverHttp: `http://127.0.0.1:${pageserverHttp}`,
    ports: { broker, safekeeper, safekeeperHttp, pageserver, pageserverHttp },
    stop,
  };
}

export interface ProxySet {
  readonly proxyHttp: string;
  stop(): Promise<void>;
}

/** A proxy whose manager is away. */
export async function startProxy(dir: string): Promise<ProxySet> {
  const [port, http] = [await freePort(), await freePort()];
  const proxyHttp = `http://127.0.0.1:${http}`;
  const proxy = new Daemon({
    name: 'proxy',
    program: 'proxy',
    dir,
    statusUrl: `${proxyHttp}/status`,
    args: [
      ...['-l', `127.0.0.1:${port}`, '--listen-http', `127.0.0.1:${http}`],
      ...['--manager', 'http://127.0.0.1:1'],
    ],
  });
  await proxy.start();
  return { proxyHttp, stop: async () => void (await proxy.kill('SIGKILL')) };
}
