// pgbench on a server of system-servers.ts: transactions per second as it reports them, latencies of single
// transactions from its log.

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Distribution, distribution } from './harness.ts';
import { program, type Server } from './system-servers.ts';

export interface PgbenchResult {
  readonly tps: number;
  readonly transactions: number;
  /** Of one transaction, in milliseconds. */
  readonly latency: Distribution;
}

export const initPgbench = (server: Server, scale: number): Promise<string> =>
  program(server, 'pgbench', ['-i', '-q', '-s', String(scale)]);

export async function pgbench(
  server: Server,
  options: { clients: number; seconds: number; flags?: readonly string[]; script?: string },
): Promise<PgbenchResult> {
  const prefix = join(server.dir, 'latency');
  const { clients, seconds, flags = [], script } = options;
  const scripts: string[] = [];
  if (script !== undefined) {
    const path = join(server.dir, 'script.sql');
    writeFileSync(path, script, { mode: 0o644 });
    scripts.push('-f', path);
  }
  const said = await program(server, 'pgbench', [
    '-n',
    '-l',
    `--log-prefix=${prefix}`,
    `-c${clients}`,
    `-j${Math.min(2, clients)}`,
    `-T${seconds}`,
    ...flags,
    ...scripts,
  ]);
  const milliseconds: number[] = [];
  for (const name of readdirSync(server.dir)) {
    if (!name.startsWith('latency.')) continue;
    const path = join(server.dir, name);
    for (const line of readFileSync(path, 'utf8').split('\n')) {
      const us = Number(line.split(' ')[2]);
      if (us > 0) milliseconds.push(us / 1000);
    }
    rmSync(path);
  }
  return {
    tps: Number(/tps = ([\d.]+)/.exec(said)?.[1]),
    transactions: Number(/number of transactions actually processed: (\d+)/.exec(said)?.[1]),
    latency: distribution(milliseconds),
  };
}
