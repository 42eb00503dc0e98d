// A safekeeper's timelines and Postgres port inside the test's process, on a real disk and real sockets: for
// suites that look inside. Whole processes are started by `processes.ts`.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Metrics } from '../../src/base/metrics.ts';
import type { Listener, Log } from '../../src/base/ports.ts';
import { hostClock } from '../../src/host/clock.ts';
import { hostDisk } from '../../src/host/disk.ts';
import { hostLog } from '../../src/host/log.ts';
import { hostNet } from '../../src/host/net.ts';
import { hostRandom } from '../../src/host/random.ts';
import type { TokenVerifier } from '../../src/protocol/jwt.ts';
import { SafekeeperMetrics } from '../../src/safekeeper/metrics.ts';
import { listenPg } from '../../src/safekeeper/pg-port.ts';
import { StreamRegistry } from '../../src/safekeeper/stream-registry.ts';
import { Timelines } from '../../src/safekeeper/timelines.ts';
import { openVault } from '../../src/seal/disk-vault.ts';
import { SimFileKeys } from '../sim/file-keys.ts';

export interface InProcess {
  readonly id: number;
  readonly port: number;
  readonly dir: string;
  readonly timelines: Timelines;
  readonly metrics: SafekeeperMetrics;
  /** Lines of trouble in its log. */
  readonly trouble: string[];
  stop(): Promise<void>;
}

export async function startInProcess(
  id: number,
  options: {
    tokens?: TokenVerifier;
    tenantOnly?: boolean;
    keys?: Map<string, SimFileKeys>;
    dir?: string;
  } = {},
): Promise<InProcess> {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), `lakebed-sk${id}-`));
  const disk = hostDisk(dir);
  const keys = options.keys ?? new Map<string, SimFileKeys>();
  const trouble: string[] = [];
  const log: Log = hostLog({
    format: 'plain',
    level: process.env['LAKEBED_TEST_LOG'] ?? 'warn',
    write: line => {
      trouble.push(line);
      if (process.env['LAKEBED_TEST_LOG']) process.stderr.write(line);
    },
  });
  const keysOf = (tenant: string): SimFileKeys => {
    let found = keys.get(tenant);
    if (!found) keys.set(tenant, (found = new SimFileKeys(tenant, hostRandom)));
    return found;
  };
  const timelines = await Timelines.load({
    nodeId: id,
    clock: hostClock,
    random: hostRandom,
    log,
    disk,
    vault: (directory, scope) =>
      openVault({ disk, directory, scope, random: hostRandom, keys: keysOf(scope.tenant) }),
  });
  const metrics = new SafekeeperMetrics(new Metrics());
  metrics.observe(() => timelines.all());
  let connections = 0;
  const listener: Listener = await listenPg(
    { net: hostNet(), host: '127.0.0.1', port: 0, tls: false, nextConnectionId: () => ++connections },
    {
      clock: hostClock,
      log,
      timelines,
      metrics,
      streams: new StreamRegistry(),
      tokens: options.tokens,
      tenantOnly: options.tenantOnly ?? false,
      availabilityZone: undefined,
    },
  );
  return {
    id,
    port: listener.port,
    dir,
    timelines,
    metrics,
    trouble,
    async stop() {
      await listener.close();
      await timelines.close();
      if (!options.dir) rmSync(dir, { recursive: true, force: true });
    },
  };
}
