// The proxy as a program: one address for every compute. `bin/proxy` runs it.

import { readFileSync } from 'node:fs';
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
import type { Log } from './base/ports.ts';
import { managerDoor } from './control/proxy/compute-door.ts';
import { ComputeProxy } from './control/proxy/proxy.ts';
import { hostClock } from './host/clock.ts';
import { onSignals, packageVersion, runDaemon, versionLine } from './host/daemon.ts';
import { hostHttp, listenHttp } from './host/http.ts';
import { hostLog, levelOf } from './host/log.ts';
import { hostNet } from './host/net.ts';
import { processMetrics } from './host/process-metrics.ts';
import { hostRandom } from './host/random.ts';
import { ReloadingCertificate } from './host/tls.ts';

const FLAGS = {
  listen: addressFlag('Where clients connect, a numeric address.', '-l', '--listen-addr'),
  listenHttp: addressFlag('Where status and metrics are served.', '--listen-http'),
  manager: textFlag('The manager, such as http://127.0.0.1:55411.', '--manager'),
  managerToken: textFlag('A file with the token for the manager.', '--manager-token-path'),
  wakeTimeout: durationFlag('How long a compute may take to wake.', '--wake-timeout'),
  domain: textFlag('Server names are COMPUTE.DOMAIN; without it, any of two labels.', '--domain'),
  defaultTarget: textFlag('The branch or endpoint of clients that name none.', '--default-target'),
  connections: wholeFlag('Clients at once.', '--max-connections'),
  keyFile: textFlag('PEM file of the TLS key.', '--ssl-key-file'),
  certFile: textFlag('PEM file of the TLS certificate.', '--ssl-cert-file'),
  certReload: durationFlag('How often the TLS files are looked at again.', '--ssl-cert-reload-period'),
  tlsOnly: flagFlag('Refuse connections without TLS.', '--require-ssl'),
  logFormat: wordFlag('How log lines look.', ['plain', 'json'], '--log-format'),
  help: flagFlag('This text.', '-h', '--help'),
  version: flagFlag('The version.', '-V', '--version'),
};

const WAKE_MS = 60_000;
const CONNECTIONS_MAX = 10_000;
const CERT_RELOAD_MS = 60_000;

async function main(): Promise<Log | undefined> {
  const { values, unknown } = parseFlags(FLAGS, process.argv.slice(2));
  if (values.help || values.version) {
    process.stdout.write(values.version ? `${versionLine()}\n` : `proxy\n\n${describeFlags(FLAGS)}\n`);
    process.exit(0);
  }
  const { listen, manager, keyFile, certFile } = values;
  if (!listen || !manager) {
    throw new Fault('config-invalid', `${listen ? '--manager' : '--listen-addr'} is missing`, {
      hint: 'proxy --listen-addr=127.0.0.1:5432 --manager=http://127.0.0.1:55411',
    });
  }
  if ((keyFile === undefined) !== (certFile === undefined) || (values.tlsOnly && keyFile === undefined)) {
    throw new Fault('config-invalid', 'TLS needs a key and a certificate', {
      hint: 'Give both --ssl-key-file and --ssl-cert-file.',
    });
  }
  const log = hostLog({ format: values.logFormat ?? 'plain', level: levelOf(process.env['RUST_LOG']) });
  for (const flag of unknown) log.info('flag not known, passed over', { flag });
  const tls =
    keyFile === undefined || certFile === undefined
      ? undefined
      : new ReloadingCertificate({ keyFile, certFile }, values.certReload ?? CERT_RELOAD_MS, log);
  const net = hostNet({
    connectionsMax: values.connections ?? CONNECTIONS_MAX,
    ...(tls === undefined ? {} : { serverTls: tls }),
  });
  const door = managerDoor(hostHttp(), {
    url: manager.replace(/\/$/, ''),
    wakeTimeoutMs: values.wakeTimeout ?? WAKE_MS,
    token: values.managerToken === undefined ? undefined : readFileSync(values.managerToken, 'utf8').trim(),
  });
  const proxy = new ComputeProxy(
    { net, clock: hostClock, random: hostRandom, log, door },
    {
      listen,
      routes: { domain: values.domain, defaultTarget: values.defaultTarget },
      tlsOnly: values.tlsOnly ?? false,
    },
  );
  processMetrics(proxy.metrics);
  const listener = await proxy.start();
  if (values.listenHttp) await listenHttp(proxy.api(packageVersion()), values.listenHttp);
  onSignals(log, () => proxy.stop());
  log.info('proxy is ready', { listen: formatAddress(listener), manager });
  return log;
}

await runDaemon('proxy', main);
