// The storage broker as a program: Neon's command line, our broker. `bin/storage_broker` runs it.

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
import { Broker } from './control/broker.ts';
import { onSignals, packageVersion, runDaemon, versionLine } from './host/daemon.ts';
import { listenGrpc } from './host/grpc.ts';
import { hostLog, levelOf } from './host/log.ts';
import { processMetrics } from './host/process-metrics.ts';
import { ReloadingCertificate } from './host/tls.ts';
import { loadTokens } from './host/token-keys.ts';
import { TokenVerifier } from './protocol/jwt.ts';

const FLAGS = {
  listen: addressFlag('Where to listen, a numeric address.', '-l', '--listen-addr'),
  listenTls: addressFlag('Where to listen for TLS connections, a numeric address.', '--listen-https-addr'),
  timelineChanSize: wholeFlag(
    'Messages that may wait for a subscriber of one timeline.',
    '--timeline-chan-size',
  ),
  allKeysChanSize: wholeFlag(
    'Messages that may wait for a subscriber of all timelines.',
    '--all-keys-chan-size',
  ),
  keepalive: durationFlag('How often connections are pinged.', '--http2-keepalive-interval'),
  logFormat: wordFlag('How log lines look.', ['plain', 'json'], '--log-format'),
  keyFile: textFlag('PEM file of the TLS key.', '--ssl-key-file'),
  certFile: textFlag('PEM file of the TLS certificate.', '--ssl-cert-file'),
  certReload: durationFlag('How often the TLS files are looked at again.', '--ssl-cert-reload-period'),
  authKeys: textFlag(
    'Ask for tokens; their public keys, a PEM file or a directory.',
    '--auth-public-key-path',
  ),
  help: flagFlag('This text.', '-h', '--help'),
  version: flagFlag('The version.', '-V', '--version'),
};

async function main(): Promise<Log | undefined> {
  const { values, unknown } = parseFlags(FLAGS, process.argv.slice(2));
  if (values.help || values.version) {
    process.stdout.write(
      values.version ? `${versionLine()}\n` : `storage_broker\n\n${describeFlags(FLAGS)}\n`,
    );
    process.exit(0);
  }
  if (!values.listen && !values.listenTls) {
    throw new Fault('config-invalid', 'there is no address to listen on', {
      hint: 'Give --listen-addr, --listen-https-addr, or both; 127.0.0.1:50051 is usual.',
    });
  }
  const log = hostLog({ format: values.logFormat ?? 'plain', level: levelOf(process.env['RUST_LOG']) });
  for (const flag of unknown) log.info('flag not known, passed over', { flag });
  const keyFile = values.authKeys;
  const tokens = keyFile === undefined ? undefined : await loadTokens(keyFile, TokenVerifier, log);
  const broker = new Broker(
    {
      ...(values.timelineChanSize ? { timelineChanSize: values.timelineChanSize } : {}),
      ...(values.allKeysChanSize ? { allKeysChanSize: values.allKeysChanSize } : {}),
    },
    tokens,
  );
  processMetrics(broker.metrics);
  const api = broker.api(packageVersion());
  const keepaliveMs = values.keepalive ?? 5000;
  const listeners = [];
  if (values.listen)
    listeners.push(await listenGrpc(broker.methods(), api, { ...values.listen, keepaliveMs }));
  if (values.listenTls) {
    const files = { keyFile: values.keyFile ?? 'server.key', certFile: values.certFile ?? 'server.crt' };
    const tls = new ReloadingCertificate(files, values.certReload ?? 60_000, log);
    listeners.push(await listenGrpc(broker.methods(), api, { ...values.listenTls, keepaliveMs, tls }));
  }
  onSignals(log);
  log.info('broker is ready', { listen: listeners.map(formatAddress).join(', ') });
  return log;
}

await runDaemon('storage_broker', main);
